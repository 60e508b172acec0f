//! The publisher thread: makes tiles, entry bundles and checkpoint files from the journals, away from
//! every answer. (TLOG-11)
//!
//! Everything that a checkpoint needs is durable before the checkpoint takes the place of the older one,
//! so whoever copies the files at any instant, or finds them after a crash, has a whole tree. What is
//! published is remembered nowhere but in the checkpoint file itself.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ticket_format::tlog::SignedCheckpoint;
use tokio::sync::oneshot;

use crate::disk::{self, Disk};
use crate::journal::scan::{Item, Scanner};
use crate::options::{Clock, Options};
use crate::proof::{TILE, TILE_LEVELS, Tiles};
use crate::shard::{Journal, Shard, Shared};
use crate::{retention, tiles};

/// Commands that may wait.
const QUEUE: usize = 64;
/// While witnesses cosign, their checkpoints are published and no others; after so long without one, the
/// newest is.
const WITNESSES_SILENT: Duration = Duration::from_secs(3);
/// Between looks at what the retention removes.
const RETENTION_EVERY: Duration = Duration::from_secs(60);
/// Partial entry bundles of one place that are kept beside the newest until the bundle is full: whoever
/// reads by a checkpoint that is older must get a newer one.
const KEPT_BUNDLES: usize = 8;

/// Why something was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The disk refused; it is tried again.
    #[error("the audit log could not be published, which is tried again: {0}")]
    Refused(String),
    /// The publisher ended.
    #[error("the audit log is closed")]
    Closed,
}

enum Command {
    Now(oneshot::Sender<Result<(), PublishError>>),
    Close(oneshot::Sender<()>),
}

/// The publisher, from outside.
pub(crate) struct Publishing {
    queue: SyncSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Publishing {
    pub(crate) fn start(shared: Arc<Shared>, options: &Options) -> io::Result<Self> {
        let (queue, commands) = mpsc::sync_channel(QUEUE);
        let publisher = Publisher {
            shared,
            published: HashMap::new(),
            retention: options.into(),
            clock: Arc::clone(&options.clock),
            looked: None,
            failing: false,
            cosigned: None,
            durable: HashSet::new(),
        };
        let every = options
            .publish_every
            .map(|every| every.min(Duration::from_secs(1)));
        let thread = std::thread::Builder::new()
            .name("audit-log-publisher".to_owned())
            .spawn(move || publisher.run(&commands, every))?;
        Ok(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) async fn now(&self) -> Result<(), PublishError> {
        let (reply, done) = oneshot::channel();
        self.send(Command::Now(reply)).await?;
        done.await.map_err(|_| PublishError::Closed)?
    }

    pub(crate) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Command::Close(reply)).await.is_ok() {
            let _ = done.await;
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn send(&self, command: Command) -> Result<(), PublishError> {
        match self.queue.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(PublishError::Closed),
            Err(TrySendError::Full(command)) => {
                let queue = self.queue.clone();
                let sent = tokio::task::spawn_blocking(move || queue.send(command).is_ok());
                match sent.await {
                    Ok(true) => Ok(()),
                    _ => Err(PublishError::Closed),
                }
            }
        }
    }
}

/// What there is to publish of a shard.
struct Notes {
    newest: SignedCheckpoint,
    cosigned: Option<SignedCheckpoint>,
}

struct Publisher {
    shared: Arc<Shared>,
    /// By number of shard: the checkpoint in the file. Read from there when it is not here.
    published: HashMap<u64, SignedCheckpoint>,
    retention: retention::Keep,
    clock: Clock,
    looked: Option<Instant>,
    failing: bool,
    /// The newest cosigned checkpoint seen, and when it came.
    cosigned: Option<(SignedCheckpoint, Instant)>,
    /// Directories whose names are durable.
    durable: HashSet<String>,
}

impl Publisher {
    fn run(mut self, commands: &Receiver<Command>, every: Option<Duration>) {
        loop {
            let command = match every {
                Some(every) => commands.recv_timeout(every),
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match command {
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.publish(false);
                }
                Ok(Command::Now(reply)) => {
                    let _ = reply.send(self.publish(true));
                }
                // Nobody has the log any more; the last state is still published.
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.publish(true);
                    return;
                }
                Ok(Command::Close(reply)) => {
                    let _ = self.publish(true);
                    let _ = reply.send(());
                    return;
                }
            }
        }
    }

    /// `now`: also a checkpoint for which cosignatures may still come.
    fn publish(&mut self, now: bool) -> Result<(), PublishError> {
        let cosigned = self.shared.cosigned.borrow().clone();
        if let Some(new) = cosigned {
            let known = self.cosigned.as_ref();
            if known.is_none_or(|(known, _)| known.note() != new.note()) {
                self.cosigned = Some((new, Instant::now()));
            }
        }
        let result = self.publish_all(now);
        match &result {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "the audit log could not be published; it is tried again");
            }
            Err(_) => {}
        }
        result.map_err(|error| PublishError::Refused(error.to_string()))
    }

    fn publish_all(&mut self, now: bool) -> io::Result<()> {
        let shards = self.shared.shards();
        for shard in &shards {
            let (kept, notes, closed) = {
                let live = shard.live();
                let kept = live.kept.as_ref().map(|kept| Arc::clone(&kept.journal));
                let notes = Notes {
                    newest: live.checkpoint.clone(),
                    cosigned: live.cosigned.clone(),
                };
                (kept, notes, live.closed)
            };
            if let Some(journal) = kept {
                self.publish_shard(shard, &journal, notes, closed || now)?;
            }
        }
        let due = self
            .looked
            .is_none_or(|looked| looked.elapsed() > RETENTION_EVERY);
        if due || now || self.retention.changed(shards.len()) {
            self.looked = Some(Instant::now());
            self.retention
                .apply(&self.shared, &shards, (self.clock)())?;
        }
        Ok(())
    }

    fn publish_shard(
        &mut self,
        shard: &Shard,
        journal: &Journal,
        notes: Notes,
        now: bool,
    ) -> io::Result<()> {
        let number = shard.number();
        let published = match self.published.get(&number) {
            Some(published) => Some(published.clone()),
            None => self.read(number)?,
        };
        let from = published.as_ref().map(|note| note.checkpoint().size);
        let wanted = self.wanted(from, published.as_ref(), notes, now);
        let Some(wanted) = wanted else {
            return Ok(());
        };
        let to = wanted.checkpoint().size;
        let mut work = Work {
            disk: &*self.shared.disk,
            number,
            durable: &mut self.durable,
            touched: HashSet::new(),
            made: Vec::new(),
        };
        work.tiles(journal, from.unwrap_or(0), to)?;
        work.checkpoint(&wanted)?;
        work.tidy(from.unwrap_or(0), to)?;
        self.published.insert(number, wanted);
        Ok(())
    }

    /// The checkpoint to publish, if it is another one than the present.
    fn wanted(
        &self,
        from: Option<u64>,
        published: Option<&SignedCheckpoint>,
        notes: Notes,
        now: bool,
    ) -> Option<SignedCheckpoint> {
        let Notes { newest, cosigned } = notes;
        let Some(from) = from else {
            return Some(newest);
        };
        let size = newest.checkpoint().size;
        if let Some(cosigned) = cosigned {
            let theirs = cosigned.checkpoint().size;
            let same = published.is_some_and(|published| published.note() == cosigned.note());
            let fits = (from..=size).contains(&theirs);
            if fits && !same && (theirs == size || !now) {
                return Some(cosigned);
            }
        }
        let witnessed = self
            .cosigned
            .as_ref()
            .is_some_and(|(_, came)| came.elapsed() < WITNESSES_SILENT);
        (size > from && (now || !witnessed)).then_some(newest)
    }

    /// The checkpoint in a shard's file. It was verified when the log was opened.
    fn read(&self, number: u64) -> io::Result<Option<SignedCheckpoint>> {
        let path = crate::shard::path(number, "checkpoint");
        let Some(note) = self.shared.disk.read(&path)? else {
            return Ok(None);
        };
        let note = String::from_utf8(note).map_err(io::Error::other)?;
        let note = self.shared.key.verify(&note).map_err(io::Error::other)?;
        Ok(Some(note))
    }
}

/// One publication.
struct Work<'a> {
    disk: &'a dyn Disk,
    number: u64,
    /// As in [`Publisher`].
    durable: &'a mut HashSet<String>,
    /// Directories with new names.
    touched: HashSet<String>,
    /// Directories made, or found where a crash may have left them.
    made: Vec<String>,
}

impl Work<'_> {
    /// Everything that a tree of `to` leaves needs beyond one of `from`.
    fn tiles(&mut self, journal: &Journal, from: u64, to: u64) -> io::Result<()> {
        if to == 0 {
            return Ok(());
        }
        for level in 0..TILE_LEVELS as u8 {
            let stored = |size: u64| size >> (u32::from(level) * TILE_LEVELS as u32);
            if stored(to) == 0 {
                break;
            }
            if stored(from) == stored(to) {
                continue;
            }
            for index in stored(from) / TILE..=(stored(to) - 1) / TILE {
                let width = tiles::width(to, level, index);
                let tile = journal.tree.tile(level, index, width as usize);
                let tile = tile.map_err(|_| io::Error::other("a tile is not in memory"))?;
                let hashes = tile.get(..width as usize).unwrap_or_default();
                let path = tiles::tile_path(level, index, width);
                self.put(&path, &tiles::tile_bytes(hashes))?;
            }
        }
        if from < to {
            self.bundles(journal, from, to)?;
        }
        for directory in self.touched.drain() {
            self.disk.sync_directory(&directory)?;
        }
        self.durable.extend(self.made.drain(..));
        Ok(())
    }

    fn bundles(&mut self, journal: &Journal, from: u64, to: u64) -> io::Result<()> {
        let first = from / TILE;
        let at = journal
            .bundle(first * TILE)
            .ok_or_else(|| io::Error::other("a bundle has no mark"))?;
        let file = Arc::clone(&journal.file);
        let mut scanner = Scanner::resume(file, journal.id, at, u64::MAX);
        for index in first..=(to - 1) / TILE {
            let width = tiles::width(to, 0, index);
            let mut bundle = Vec::new();
            let mut entries = 0;
            while entries < width {
                match scanner.next() {
                    Ok(Some(Item::Record(found))) => {
                        let tile = journal.tree.tile(0, index, entries as usize + 1);
                        let leaf = tile
                            .ok()
                            .and_then(|tile| tile.get(entries as usize).copied());
                        if leaf != Some(found.leaf) {
                            let why = format!("entry {} is not what was appended", found.index);
                            return Err(io::Error::other(why));
                        }
                        tiles::put_entry(&mut bundle, &found.entry);
                        entries += 1;
                    }
                    Ok(Some(Item::Seal(_))) => {}
                    Ok(None) => return Err(io::Error::other("the journal is cut short")),
                    Err(error) => return Err(io::Error::other(format!("{error:?}"))),
                }
            }
            self.put(&tiles::bundle_path(index, width), &bundle)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, wanted: &SignedCheckpoint) -> io::Result<()> {
        let path = crate::shard::path(self.number, "checkpoint");
        disk::replace(self.disk, &path, wanted.note().as_bytes())?;
        self.disk.sync_directory(&self.number.to_string())
    }

    /// Removes partial files whose full ones are there now, and old partial bundles.
    fn tidy(&mut self, from: u64, to: u64) -> io::Result<()> {
        for level in 0..TILE_LEVELS as u8 {
            let stored = |size: u64| size >> (u32::from(level) * TILE_LEVELS as u32);
            for index in stored(from) / TILE..stored(to) / TILE {
                self.remove_partials(&tiles::tile_path(level, index, TILE))?;
            }
        }
        for index in from / TILE..to / TILE {
            self.remove_partials(&tiles::bundle_path(index, TILE))?;
        }
        if !to.is_multiple_of(TILE) {
            let bundle = tiles::bundle_path(to / TILE, TILE);
            let directory = crate::shard::path(self.number, &format!("{bundle}.p"));
            let mut widths: Vec<u64> = self
                .disk
                .list(&directory)?
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect();
            widths.sort_unstable();
            let old = widths.len().saturating_sub(KEPT_BUNDLES);
            for width in &widths[..old] {
                self.disk.remove(&format!("{directory}/{width}"))?;
            }
        }
        Ok(())
    }

    fn remove_partials(&mut self, full: &str) -> io::Result<()> {
        let path = crate::shard::path(self.number, &format!("{full}.p"));
        self.durable.remove(&path);
        self.disk.remove_tree(&path)
    }

    fn put(&mut self, of: &str, bytes: &[u8]) -> io::Result<()> {
        let path = crate::shard::path(self.number, of);
        let directory = disk::parent(&path);
        self.directory(directory)?;
        self.touched.insert(directory.to_owned());
        disk::replace(self.disk, &path, bytes)
    }

    /// Makes a directory below the shard's, and those above it.
    fn directory(&mut self, path: &str) -> io::Result<()> {
        if self.durable.contains(path) || self.made.iter().any(|made| made == path) {
            return Ok(());
        }
        let above = disk::parent(path);
        if !above.is_empty() {
            self.directory(above)?;
        }
        self.disk.make_directory(path)?;
        self.touched.insert(above.to_owned());
        self.made.push(path.to_owned());
        Ok(())
    }
}
