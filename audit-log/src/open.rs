//! Opening a log: which shards there are, what their journals hold, what a crash left unfinished.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use ticket_format::tlog::{LogKey, LogSecret, ShardName, SignedCheckpoint};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::acts::{Act, Acts};
use crate::begin::{Begin, BeginError};
use crate::disk::Disk;
use crate::journal::{self, Loaded, TornTail};
use crate::log::AuditLog;
use crate::options::Options;
use crate::proof::Prover;
use crate::publish::Publishing;
use crate::shard::{self, Journal, Kept, Live, Shard, Shared};
use crate::writer::{Open, Writer};
use crate::{OpenError, tiles};

/// Entries that may wait for the writer; more callers wait for a place.
const QUEUE: usize = 4096;
/// Bytes of entries that may wait for the writer.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// What is in a shard's directory.
struct Found {
    journal: bool,
    checkpoint: bool,
    tiles: bool,
}

/// A shard whose journal is there, read.
struct Read {
    loaded: Loaded,
    journal: Arc<Journal>,
    checkpoint: SignedCheckpoint,
}

/// Opens the log on `disk` and starts its threads.
pub(crate) fn start(
    disk: Arc<dyn Disk>,
    secret: LogSecret,
    options: &Options,
) -> Result<(AuditLog, Option<TornTail>), OpenError> {
    let opener = Opener {
        disk: &*disk,
        key: secret.key().clone(),
        acts: Acts::new(options.remembered_acts),
    };
    let (mut shards, mut open, torn, acts) = opener.open(&secret, options)?;
    if open.closed {
        // A crash came between the two shards. (TLOG-4)
        let Some(entries) = &options.shard_entries else {
            return Err(OpenError::NoShardEntries {
                path: disk.place(""),
            });
        };
        let last = open.shard.live().checkpoint.checkpoint().clone();
        let before = open.shard.before + last.size;
        let begin = Begin {
            disk: &*disk,
            secret: &secret,
            time: (options.clock)(),
            number: open.shard.number() + 1,
            before,
            previous: open.shard.number(),
        };
        let entry = entries.opened(&last, before);
        open = begun(&*disk, begin.number, begin.with(None, &entry))?;
        shards.push(Arc::clone(&open.shard));
    }
    let newest = open.shard.live().checkpoint.clone();
    let shared = Arc::new(Shared {
        disk,
        key: secret.key().clone(),
        shards: RwLock::new(shards),
        closed: AtomicBool::new(false),
        newest: watch::Sender::new(newest),
        cosigned: watch::Sender::new(None),
    });
    let (queue, receiver) = mpsc::channel(QUEUE);
    let writer = Writer {
        shared: Arc::clone(&shared),
        queue: receiver,
        acts,
        secret,
        clock: Arc::clone(&options.clock),
        shard_bytes: options.shard_bytes,
        shard_entries: options.shard_entries.clone(),
        open,
        broken: None,
    };
    let failed = |source| OpenError::io(&shared.disk.place(""), source);
    let publishing = Publishing::start(Arc::clone(&shared), options).map_err(failed)?;
    let thread = std::thread::Builder::new()
        .name("audit-log-writer".to_owned())
        .spawn(move || writer.run())
        .map_err(failed)?;
    let log = AuditLog {
        shared,
        queue,
        room: Arc::new(Semaphore::new(QUEUE_BYTES)),
        writer: Arc::new(Mutex::new(Some(thread))),
        publishing: Arc::new(publishing),
        hub: Arc::default(),
    };
    Ok((log, torn))
}

fn begun(
    disk: &dyn Disk,
    number: u64,
    result: Result<crate::begin::Begun, BeginError>,
) -> Result<Open, OpenError> {
    let begun = result.map_err(|error| {
        let (BeginError::Refused(reason) | BeginError::Unknown(reason)) = error;
        let source = std::io::Error::other(reason);
        OpenError::io(&disk.place(&number.to_string()), source)
    })?;
    Ok(begun.open)
}

struct Opener<'a> {
    disk: &'a dyn Disk,
    key: LogKey,
    acts: Acts,
}

type Opened = (Vec<Arc<Shard>>, Open, Option<TornTail>, Acts);

impl Opener<'_> {
    fn open(mut self, secret: &LogSecret, options: &Options) -> Result<Opened, OpenError> {
        let found = self.find()?;
        self.sync_names(&found)?;
        let Some(last) = found.keys().next_back().copied() else {
            let begin = Begin {
                disk: self.disk,
                secret,
                time: (options.clock)(),
                number: 1,
                before: 0,
                previous: 0,
            };
            let open = begun(self.disk, 1, begin.empty())?;
            return Ok((vec![Arc::clone(&open.shard)], open, None, self.acts));
        };
        if found.get(&last).is_none_or(|found| !found.journal) {
            return Err(self.damaged(last, "its journal is missing"));
        }
        let mut kept: Vec<(u64, Read)> = Vec::new();
        for (number, _) in found.iter().filter(|(_, found)| found.journal) {
            kept.push((*number, self.read(*number)?));
        }
        self.check_chain(&found, &kept, last)?;
        // A crash may have left journals that the publisher is about to remove.
        if let [.., (_, before_last), _] = &kept[..] {
            self.acts.forget_before(before_last.loaded.header.before);
        }
        let Some((_, newest)) = kept.pop() else {
            return Err(self.damaged(last, "its journal is missing"));
        };
        let torn = newest.loaded.torn.clone();
        self.finish_tail(last, &newest)?;
        let before = newest.loaded.header.before;
        let mut shards = self.older(&found, &kept, before, last)?;
        let closed = newest.loaded.closed;
        let at = newest.loaded.at;
        let shard = Shard {
            name: self.name(last),
            before,
            live: Mutex::new(Live {
                size: at.entries,
                checkpoint: newest.checkpoint,
                cosigned: None,
                closed,
                pruned: false,
                kept: Some(Kept {
                    journal: Arc::clone(&newest.journal),
                    at,
                }),
            }),
        };
        let open = Open {
            shard: Arc::new(shard),
            journal: newest.journal,
            edge: newest.loaded.edge,
            at,
            closed,
        };
        shards.push(Arc::clone(&open.shard));
        Ok((shards, open, torn, self.acts))
    }

    /// The shards that were begun.
    fn find(&self) -> Result<BTreeMap<u64, Found>, OpenError> {
        let failed = |source| OpenError::io(&self.disk.place(""), source);
        let mut found = BTreeMap::new();
        for name in self.disk.list("").map_err(failed)? {
            // A name in another form, `01` or `+1`, is none of a shard.
            let number = name.parse::<u64>().ok();
            let Some(number) = number.filter(|number| *number > 0 && number.to_string() == name)
            else {
                continue;
            };
            let names = self.disk.list(&name).map_err(failed)?;
            let has = |wanted: &str| names.iter().any(|name| name == wanted);
            let shard = Found {
                journal: has("journal"),
                checkpoint: has("checkpoint"),
                tiles: has("tile"),
            };
            // Without any of them it is what a crash left of a shard that was about to begin.
            if shard.journal || shard.checkpoint || shard.tiles {
                found.insert(number, shard);
            }
        }
        Ok(found)
    }

    /// A process that was killed may have left names that a power failure would still take away, of
    /// journals into which entries are about to go; or bring back. (TLOG-3)
    fn sync_names(&self, found: &BTreeMap<u64, Found>) -> Result<(), OpenError> {
        let directories = found.keys().map(u64::to_string);
        for directory in directories.chain([String::new()]) {
            self.disk
                .sync_directory(&directory)
                .map_err(|source| OpenError::io(&self.disk.place(&directory), source))?;
        }
        Ok(())
    }

    fn read(&mut self, number: u64) -> Result<Read, OpenError> {
        let path = shard::path(number, "journal");
        let place = self.disk.place(&path);
        let file = self.disk.open(&path)?;
        let file = file.ok_or_else(|| self.damaged(number, "its journal is missing"))?;
        let published = self.published(number)?;
        let wanted = published.as_ref().map(|published| published.checkpoint());
        let mut published_root = None;
        let journal = {
            // The header is read again by the scan.
            let length = file
                .length()
                .map_err(|source| OpenError::io(&place, source))?;
            let id = crate::journal::scan::Scanner::start(Arc::clone(&file), length)
                .map_or_else(|_| Default::default(), |(_, header)| header.id);
            Arc::new(Journal::new(Arc::clone(&file), id))
        };
        let mut acts = Vec::new();
        let loaded = journal::load(&file, &place, &self.name(number), |batch| {
            journal.tree.extend(batch.grown);
            journal.mark(batch.records.iter().map(|(place, _)| *place));
            for (_, found) in batch.records {
                if let Some(act_id) = found.act_id {
                    acts.push((act_id, found.index, found.leaf));
                }
            }
        })?;
        for (act_id, index, leaf) in acts {
            let index = loaded.header.before + index;
            self.acts.add(act_id, Act { index, leaf });
            self.acts.trim();
        }
        if let Some(wanted) = wanted {
            let size = wanted.size;
            if size <= loaded.at.entries {
                published_root = Prover::new(&journal.tree, size).root().ok();
            }
            // What was published was durable before. (TLOG-11)
            if published_root != Some(wanted.root) {
                let reason = if size > loaded.at.entries {
                    format!("the journal ends before entry {size} of the published checkpoint")
                } else {
                    "it is not what the published checkpoint covers".to_owned()
                };
                return Err(OpenError::Damaged {
                    path: place,
                    index: loaded.header.before + size.min(loaded.at.entries),
                    offset: loaded.at.offset,
                    reason,
                });
            }
        }
        let checkpoint = self
            .key
            .verify(&loaded.note)
            .map_err(|error| OpenError::OtherKey {
                path: place,
                reason: error.to_string(),
            })?;
        Ok(Read {
            loaded,
            journal,
            checkpoint,
        })
    }

    /// The published checkpoint of a shard, verified.
    fn published(&self, number: u64) -> Result<Option<SignedCheckpoint>, OpenError> {
        let path = shard::path(number, "checkpoint");
        let place = self.disk.place(&path);
        let bytes = self
            .disk
            .read(&path)
            .map_err(|source| OpenError::io(&place, source))?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let other = |reason: String| OpenError::OtherKey {
            path: place.clone(),
            reason,
        };
        let note = String::from_utf8(bytes).map_err(|error| other(error.to_string()))?;
        let checkpoint = self
            .key
            .verify(&note)
            .map_err(|error| other(error.to_string()))?;
        if checkpoint.checkpoint().shard.number != number {
            return Err(other("it is of another shard".to_owned()));
        }
        Ok(Some(checkpoint))
    }

    /// The journals must follow each other, and be the last ones. (TLOG-4)
    fn check_chain(
        &self,
        found: &BTreeMap<u64, Found>,
        kept: &[(u64, Read)],
        last: u64,
    ) -> Result<(), OpenError> {
        for pair in kept.windows(2) {
            let [(number, earlier), (next, later)] = pair else {
                continue;
            };
            let (from, to) = (&earlier.loaded, &later.loaded.header);
            let end = from.header.before + from.at.entries;
            if to.previous != *number || to.before != end {
                let reason = format!(
                    "it says that it follows shard {} after {} entries, and shard {number} ends after {end}",
                    to.previous, to.before
                );
                return Err(self.damaged(*next, &reason));
            }
            if from.torn.is_some() {
                return Err(self.damaged(*number, "its journal goes on behind its last seal"));
            }
        }
        let Some((first, read)) = kept.first() else {
            return Err(self.damaged(last, "its journal is missing"));
        };
        // The journal before the open shard's is kept, and the numbers before the first journal must
        // be there as checkpoints.
        let previous = read.loaded.header.previous;
        let before_first = found.range(..first).next_back().map(|(number, _)| *number);
        if before_first.unwrap_or(0) != previous {
            return Err(self.damaged(previous.max(1), "it is missing"));
        }
        if kept.len() < 2 && previous != 0 {
            return Err(self.damaged(previous, "its journal is missing"));
        }
        Ok(())
    }

    /// Cuts a torn tail, and makes durable what a killed process wrote.
    fn finish_tail(&self, number: u64, newest: &Read) -> Result<(), OpenError> {
        let loaded = &newest.loaded;
        let file = &newest.journal.file;
        let result = (|| {
            if let Some(torn) = &loaded.torn {
                file.set_len(torn.offset)?;
                tracing::warn!(
                    shard = number,
                    bytes = torn.bytes,
                    entries = torn.entries,
                    "a torn tail of the audit log was cut away"
                );
            }
            // After a failed write-back the kernel may take pages for clean that never reached the
            // disk; writing them again makes the sync write them. Only the last batch can be so.
            let length = usize::try_from(loaded.at.offset - loaded.last_batch).unwrap_or(0);
            let mut batch = vec![0; length];
            let mut read = 0;
            while read < length {
                match file.read_at(&mut batch[read..], loaded.last_batch + read as u64)? {
                    0 => return Err(tiles::missing("the end of the journal")),
                    more => read += more,
                }
            }
            file.write_all_at(&batch, loaded.last_batch)?;
            file.sync_data()
        })();
        result.map_err(|source| {
            OpenError::io(&self.disk.place(&shard::path(number, "journal")), source)
        })
    }

    /// The shards before the open one.
    fn older(
        &self,
        found: &BTreeMap<u64, Found>,
        kept: &[(u64, Read)],
        mut before: u64,
        last: u64,
    ) -> Result<Vec<Arc<Shard>>, OpenError> {
        let mut shards = Vec::new();
        for (number, has) in found.range(..last).rev() {
            let read = kept.iter().find(|(kept, _)| kept == number);
            let (checkpoint, kept) = match read {
                Some((_, read)) => {
                    let kept = Kept {
                        journal: Arc::clone(&read.journal),
                        at: read.loaded.at,
                    };
                    (read.checkpoint.clone(), Some(kept))
                }
                None => {
                    let published = self.published(*number)?;
                    let checkpoint =
                        published.ok_or_else(|| self.damaged(*number, "its checkpoint is missing"));
                    (checkpoint?, None)
                }
            };
            let size = checkpoint.checkpoint().size;
            before = before.checked_sub(size).ok_or_else(|| {
                self.damaged(*number, "it has more entries than stand before the next")
            })?;
            shards.push(Arc::new(Shard {
                name: self.name(*number),
                before,
                live: Mutex::new(Live {
                    size,
                    checkpoint,
                    cosigned: None,
                    closed: true,
                    pruned: kept.is_none() && !has.tiles,
                    kept,
                }),
            }));
        }
        if before != 0 {
            return Err(self.damaged(1, "shards before those that are there are missing"));
        }
        shards.reverse();
        Ok(shards)
    }

    fn name(&self, number: u64) -> ShardName {
        ShardName {
            origin: self.key.origin.clone(),
            number,
        }
    }

    fn damaged(&self, shard: u64, reason: &str) -> OpenError {
        OpenError::Shard {
            path: self.disk.place(&shard.to_string()),
            shard,
            reason: reason.to_owned(),
        }
    }
}
