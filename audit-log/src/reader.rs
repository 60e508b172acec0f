//! Reading records back, across shards.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use ticket_format::tlog::{Hash, merkle};

use crate::journal::scan::{Item, ScanError, Scanner};
use crate::proof::{TILE, Tiles};
use crate::shard::{Kept, Shard, Shared};
use crate::tiles::{self, Published};
use crate::{ActId, ReadError};

/// One record of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log, from 0.
    pub index: u64,
    /// The act it records, if it was appended with [`AuditLog::append_once`](crate::AuditLog::append_once)
    /// and its shard's journal is still kept.
    pub act_id: Option<ActId>,
    /// The entry as appended.
    pub entry: Vec<u8>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("index", &self.index)
            .field("act_id", &self.act_id)
            .field("entry_bytes", &self.entry.len())
            .finish_non_exhaustive()
    }
}

/// Iterator over the records that were durable when it was made, in order, each verified against the
/// tree's leaf hashes. Holds few records in memory. It does blocking I/O: use it from `spawn_blocking`.
/// Ends after the first error.
pub struct Reader {
    shared: Arc<Shared>,
    next: u64,
    end: u64,
    source: Option<Source>,
}

/// Where the records of one shard come from.
struct Source {
    shard: Arc<Shard>,
    /// First index of the log that is not read from it.
    end: u64,
    /// Entries of the shard.
    size: u64,
    from: From,
}

enum From {
    Journal(Kept, Box<Scanner>),
    /// Entries of a bundle that are still to be given, with their leaf hashes in the tree.
    Bundles(VecDeque<(Hash, Vec<u8>)>),
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: u64, end: u64) -> Self {
        Self {
            shared,
            next: from,
            end,
            source: None,
        }
    }

    fn read(&mut self) -> Result<Record, ReadError> {
        let source = match self.source.take() {
            Some(source) if self.next < source.end => source,
            _ => self.open()?,
        };
        let source = self.source.insert(source);
        let number = source.shard.number();
        let local = self.next - source.shard.before;
        match &mut source.from {
            From::Journal(kept, scanner) => loop {
                let damaged = |reason: &str| ReadError::Damaged {
                    index: self.next,
                    reason: reason.to_owned(),
                };
                match scanner.next() {
                    Ok(Some(Item::Record(found))) if found.index == local => {
                        let at = (local % TILE) as usize;
                        let tile = kept.journal.tree.tile(0, local / TILE, at + 1);
                        if tile.ok().and_then(|tile| tile.get(at).copied()) != Some(found.leaf) {
                            return Err(damaged("it is not what was appended"));
                        }
                        return Ok(Record {
                            index: self.next,
                            act_id: found.act_id,
                            entry: found.entry,
                        });
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Err(damaged("the journal ends before it")),
                    Err(ScanError::Io(error)) => return Err(error.into()),
                    Err(ScanError::Broken(reason)) => return Err(damaged(reason)),
                    // Only said of a header, which a scan from the middle does not read.
                    Err(_) => return Err(damaged("it is malformed")),
                }
            },
            From::Bundles(entries) => {
                let published = Published {
                    disk: &*self.shared.disk,
                    shard: number,
                    before: source.shard.before,
                    size: source.size,
                };
                if entries.is_empty() {
                    let bundle = local / TILE;
                    let width = tiles::width(source.size, 0, bundle);
                    let pruned = |error| unless_pruned(&source.shard, error, self.next);
                    let bytes = published.bundle(bundle, width).map_err(pruned)?;
                    let tile = published.tile(0, bundle, width as usize).map_err(pruned)?;
                    let found = tiles::entries(&bytes).0.into_iter().map(<[u8]>::to_vec);
                    let skip = (local % TILE) as usize;
                    entries.extend(tile.iter().copied().zip(found).skip(skip));
                }
                let damaged = |reason: &str| ReadError::Damaged {
                    index: self.next,
                    reason: reason.to_owned(),
                };
                let (leaf, entry) = entries
                    .pop_front()
                    .ok_or_else(|| damaged("its bundle ends before it"))?;
                if leaf != merkle::leaf_hash(&entry) {
                    return Err(damaged("it is not what was appended"));
                }
                Ok(Record {
                    index: self.next,
                    act_id: None,
                    entry,
                })
            }
        }
    }

    /// Goes to the shard of the next record.
    fn open(&self) -> Result<Source, ReadError> {
        let shard = self.shared.shard_of(self.next);
        let missing = || ReadError::NotThere {
            index: self.next,
            entries: self.end,
        };
        let shard = shard.ok_or_else(missing)?;
        let live = shard.live();
        let size = live.size;
        let end = (shard.before + size).min(self.end);
        if self.next >= end {
            return Err(missing());
        }
        let from = match &live.kept {
            Some(kept) => {
                let local = self.next - shard.before;
                let at = kept.journal.bundle(local).ok_or_else(missing)?;
                let file = Arc::clone(&kept.journal.file);
                let scanner = Scanner::resume(file, kept.journal.id, at, kept.at.offset);
                From::Journal(kept.clone(), Box::new(scanner))
            }
            None if live.pruned => {
                return Err(ReadError::Pruned {
                    index: self.next,
                    shard: shard.number(),
                });
            }
            None => From::Bundles(VecDeque::new()),
        };
        drop(live);
        Ok(Source {
            shard,
            end,
            size,
            from,
        })
    }
}

/// What is missing may have been removed meanwhile.
pub(crate) fn unless_pruned(shard: &Shard, error: ReadError, index: u64) -> ReadError {
    if shard.live().pruned {
        ReadError::Pruned {
            index,
            shard: shard.number(),
        }
    } else {
        error
    }
}

impl Iterator for Reader {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let record = self.read();
        match &record {
            Ok(_) => self.next += 1,
            Err(_) => self.next = self.end,
        }
        Some(record)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("next", &self.next)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
