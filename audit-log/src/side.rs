//! The side file: what stands behind the hashes of entries (rule AUD-5).
//!
//! A CBOR sequence beside the log, mode 0600: a header `["postern side file", 1]`, then frames
//! `[check, record]`, where `check` is the first 8 bytes of the SHA-256 of the record, and the record is
//! `[hash, DEK id / null, pairs]`, opaque here but for the hash that it begins with.
//!
//! Each hash stands there once. A record is written before [`Written`] says so, and synced within a
//! second, by another thread than the one that writes. Nothing here holds up an answer: what cannot be
//! written is counted ([`SideFile::lost`]) and said in the log.
//!
//! # Cost
//! The newest [`SideOptions::indexed`] hashes, or the newest half of them, are found by an index in
//! memory of 28 to 57 bytes each; older ones by reading the older part of the file from front to back,
//! once for each [`SideFile::get_all`]. An old hash that comes again is written again.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::side_frame::{self as frame, HEAD, HEADER};
use crate::{OpenError, file};

/// The hash that a record is found by.
pub type SideHash = [u8; 32];

/// Longest record, in bytes: 16 pairs at their longest, with their heads, hash and DEK id.
pub const MAX_SIDE_RECORD: usize = 18 * 1024;

/// Batches that may wait for the writer.
const QUEUE: usize = 1_024;
/// Bytes of records that may wait for the writer.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Between a write and the sync that follows it.
const SYNC_AFTER: Duration = Duration::from_millis(500);

/// How [`SideFile::open`] sets it up.
#[derive(Clone, Debug)]
pub struct SideOptions {
    /// Hashes found by the index in memory.
    pub indexed: usize,
}

impl Default for SideOptions {
    /// Four million: 240 MB at most, once so many different DEKs were asked for.
    fn default() -> Self {
        Self { indexed: 1 << 22 }
    }
}

/// What was amiss in the file when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideLoss {
    /// Bytes of a torn tail, cut away: the newest records before a crash.
    pub torn: u64,
    /// Damaged bytes between records, left as they are.
    pub damaged: u64,
}

/// The side file, open. Clones share it.
#[derive(Clone)]
pub struct SideFile {
    shared: Arc<Shared>,
    queue: Arc<Mutex<Option<SyncSender<Batch>>>>,
}

struct Shared {
    file: File,
    index: Mutex<Index>,
    waiting: AtomicUsize,
    lost: AtomicU64,
    failing: AtomicBool,
}

/// Records that are to be written together, and who waits for it.
struct Batch {
    records: Vec<(SideHash, Vec<u8>)>,
    bytes: usize,
    written: oneshot::Sender<bool>,
}

/// Says when the records are written. Dropping it gives up the news, not the records.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<bool>);

impl Written {
    /// Waits until the records are in the file, for `most` at the longest; false where they are not
    /// known to be.
    pub async fn wait(self, most: Duration) -> bool {
        matches!(tokio::time::timeout(most, self.0).await, Ok(Ok(true)))
    }
}

/// Where records stand, by the first half of their hash: two generations, so that the oldest are
/// forgotten in one step.
struct Index {
    young: HashMap<[u8; 16], u64>,
    old: HashMap<[u8; 16], u64>,
    /// From here on the file is indexed.
    from: u64,
    /// Where the young generation begins.
    young_from: u64,
    /// Where the next frame goes.
    end: u64,
    /// Most hashes of one generation.
    most: usize,
}

impl Index {
    fn find(&self, hash: &SideHash) -> Option<u64> {
        let key = half(hash);
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn add(&mut self, hash: &SideHash, at: u64) {
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
            self.from = self.young_from;
            self.young_from = at;
        }
        self.young.insert(half(hash), at);
    }
}

fn half(hash: &SideHash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

impl SideFile {
    /// Opens the side file at `path`, or makes an empty one, and reads it through: it blocks.
    ///
    /// # Errors
    /// [`OpenError`]: as of an audit log. Damage is no error; it is returned, so that it can be told.
    pub fn open(
        path: impl AsRef<Path>,
        options: &SideOptions,
    ) -> Result<(Self, Option<SideLoss>), OpenError> {
        let path = path.as_ref();
        let failed = |source| OpenError::io(path, source);
        let file = file::open_private(path)?;
        let length = file.metadata().map_err(failed)?.len();
        let begun = HEADER
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        let mut header = vec![0; begun];
        file.read_exact_at(&mut header, 0).map_err(failed)?;
        if header != HEADER[..begun] {
            return Err(OpenError::NotALog {
                path: path.to_owned(),
            });
        }
        let start = HEADER.len() as u64;
        if length < start {
            file.write_all_at(HEADER, 0)
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
            file::sync_directory(path)?;
        }
        let mut index = Index {
            young: HashMap::new(),
            old: HashMap::new(),
            from: start,
            young_from: start,
            end: start,
            most: (options.indexed / 2).max(1),
        };
        let found = frame::scan(&file, start, length.max(start), |at, record| {
            if let Some(hash) = frame::hash_of(record) {
                index.add(&hash, at);
            }
            true
        })
        .map_err(failed)?;
        index.end = found.end;
        if found.torn > 0 {
            file.set_len(found.end)
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
        }
        let loss = SideLoss {
            torn: found.torn,
            damaged: found.damaged,
        };
        let loss = Some(loss).filter(|loss| loss.torn + loss.damaged > 0);
        if let Some(SideLoss { torn, damaged }) = loss {
            tracing::warn!(side = %path.display(), torn, damaged, "bytes of the side file are no records: contexts of some acts are not known any more");
        }
        let shared = Arc::new(Shared {
            file,
            index: Mutex::new(index),
            waiting: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        });
        let (queue, batches) = mpsc::sync_channel(QUEUE);
        // One place: that something is to be synced need not be said twice.
        let (dirty, changes) = mpsc::sync_channel(1);
        let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let writer = Arc::clone(&shared);
        spawn("side-file-writer")
            .spawn(move || writer.write_batches(&batches, &dirty))
            .map_err(failed)?;
        let syncer = Arc::clone(&shared);
        spawn("side-file-sync")
            .spawn(move || syncer.sync_changes(&changes))
            .map_err(failed)?;
        let side = Self {
            shared,
            queue: Arc::new(Mutex::new(Some(queue))),
        };
        Ok((side, loss))
    }

    /// Whether a record of this hash is there, as far as the index knows: one that is need not be made
    /// again. Many are asked for under one lock.
    pub fn missing<'a>(&self, hashes: impl IntoIterator<Item = &'a SideHash>) -> Vec<SideHash> {
        let index = self.shared.index();
        let missing = |hash: &&SideHash| index.find(hash).is_none();
        hashes.into_iter().filter(missing).copied().collect()
    }

    /// Hands records to the writer; those whose hash is there already are left out. Never waits: what
    /// finds no room is lost, and counted.
    ///
    /// A record is `[hash, DEK id / null, pairs]` and must begin with the hash given here.
    pub fn put_all(&self, records: Vec<(SideHash, Vec<u8>)>) -> Written {
        let (written, news) = oneshot::channel();
        let news = Written(news);
        if records.is_empty() {
            let _ = written.send(true);
            return news;
        }
        let bytes: usize = records.iter().map(|(_, record)| record.len()).sum();
        let count = records.len() as u64;
        let shared = &self.shared;
        if shared.waiting.fetch_add(bytes, Ordering::AcqRel) + bytes > QUEUE_BYTES {
            shared.waiting.fetch_sub(bytes, Ordering::AcqRel);
            shared.lose(count, "too many records wait");
            return news;
        }
        let batch = Batch {
            records,
            bytes,
            written,
        };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = queue
            .as_ref()
            .is_some_and(|queue| queue.try_send(batch).is_ok());
        drop(queue);
        if !sent {
            shared.waiting.fetch_sub(bytes, Ordering::AcqRel);
            shared.lose(count, "the writer ended, or too many batches wait");
        }
        news
    }

    /// As [`SideFile::put_all`], of one record.
    pub fn put(&self, hash: SideHash, record: Vec<u8>) -> Written {
        self.put_all(vec![(hash, record)])
    }

    /// The record of a hash. Blocking I/O.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, hash: &SideHash) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get_all(std::slice::from_ref(hash))?.remove(hash))
    }

    /// The records of these hashes, of those that are there. Blocking I/O; of hashes that the index
    /// does not know any more, one pass over the older part of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get_all(&self, hashes: &[SideHash]) -> io::Result<HashMap<SideHash, Vec<u8>>> {
        let (places, old_end) = {
            let index = self.shared.index();
            let places: Vec<_> = hashes
                .iter()
                .map(|hash| (*hash, index.find(hash)))
                .collect();
            (places, index.from)
        };
        let (mut found, mut unknown) = (HashMap::new(), Vec::new());
        for (hash, place) in places {
            match place.map(|at| self.shared.read(at)).transpose()?.flatten() {
                Some(record) if frame::hash_of(&record) == Some(hash) => {
                    found.insert(hash, record);
                }
                _ => unknown.push(hash),
            }
        }
        let start = HEADER.len() as u64;
        if !unknown.is_empty() && old_end > start {
            unknown.sort_unstable();
            frame::scan(&self.shared.file, start, old_end, |_, record| {
                if let Some(hash) = frame::hash_of(record)
                    && unknown.binary_search(&hash).is_ok()
                {
                    found.insert(hash, record.to_vec());
                }
                true
            })?;
        }
        Ok(found)
    }

    /// Where the next record goes.
    pub(crate) fn end(&self) -> u64 {
        self.shared.index().end
    }

    pub(crate) fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        self.shared.file.read_exact_at(out, at)
    }

    /// How many records could not be written, or may not have reached the disk.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Makes durable what is written. Blocking I/O.
    ///
    /// # Errors
    /// The system refused.
    pub fn flush(&self) -> io::Result<()> {
        self.shared.file.sync_data()
    }

    /// Writes and syncs what waits, and unlocks the file. Later records are lost; reading goes on.
    pub async fn close(&self) {
        let (written, news) = oneshot::channel();
        let queue = self
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(queue) = queue {
            let last = Batch {
                records: Vec::new(),
                bytes: 0,
                written,
            };
            let shared = Arc::clone(&self.shared);
            // It may wait for a place in the queue.
            let sent = tokio::task::spawn_blocking(move || queue.send(last).is_ok());
            if sent.await.unwrap_or(false) {
                let _ = news.await;
            }
            let synced = tokio::task::spawn_blocking(move || shared.file.sync_data()).await;
            if !matches!(synced, Ok(Ok(()))) {
                self.shared.lose(1, "the last records could not be synced");
            }
        }
        let _ = rustix::fs::flock(&self.shared.file, rustix::fs::FlockOperation::Unlock);
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, at: u64) -> io::Result<Option<Vec<u8>>> {
        // Every frame is longer than the longest head.
        let mut bytes = vec![0; HEAD];
        self.file.read_exact_at(&mut bytes, at)?;
        let Some(extent) = frame::extent(&bytes) else {
            return Ok(None);
        };
        bytes.resize(extent.end, 0);
        self.file
            .read_exact_at(&mut bytes[HEAD..], at + HEAD as u64)?;
        Ok(frame::parse(&bytes).map(|(record, _)| record.to_vec()))
    }

    fn write_batches(&self, batches: &Receiver<Batch>, dirty: &SyncSender<()>) {
        while let Ok(batch) = batches.recv() {
            let good = self.write(&batch.records);
            self.waiting.fetch_sub(batch.bytes, Ordering::AcqRel);
            // Whoever does not wait any more does not need the news.
            let _ = batch.written.send(good);
            let _ = dirty.try_send(());
        }
    }

    /// Writes those that are not there yet, in one piece.
    fn write(&self, records: &[(SideHash, Vec<u8>)]) -> bool {
        let (mut bytes, mut places) = (Vec::new(), Vec::<(&SideHash, u64)>::new());
        let mut put = HashSet::new();
        let (end, mut refused) = {
            let index = self.index();
            let mut refused = 0;
            for (hash, record) in records {
                let again = index.find(hash).is_some() || put.contains(hash);
                let whole =
                    frame::hash_of(record) == Some(*hash) && record.len() <= MAX_SIDE_RECORD;
                refused += u64::from(!whole);
                if !again && whole {
                    put.insert(hash);
                    // In the file's order: the generations of the index are parts of the file.
                    places.push((hash, index.end + bytes.len() as u64));
                    frame::put(&mut bytes, record);
                }
            }
            (index.end, refused)
        };
        if !bytes.is_empty() {
            match self.file.write_all_at(&bytes, end) {
                Ok(()) => {
                    self.failing.store(false, Ordering::Relaxed);
                    let mut index = self.index();
                    index.end = end + bytes.len() as u64;
                    for (hash, at) in &places {
                        index.add(hash, *at);
                    }
                }
                Err(error) => {
                    // What was half written is written over by the next, or cut at the next start.
                    refused += places.len() as u64;
                    self.lose(0, &error.to_string());
                }
            }
        }
        if refused > 0 {
            self.lose(refused, "records could not be written");
        }
        refused == 0
    }

    /// Syncs within a second of each write, away from whoever writes.
    fn sync_changes(&self, changes: &Receiver<()>) {
        while changes.recv().is_ok() {
            std::thread::sleep(SYNC_AFTER);
            // What is written from here on is said anew, so nothing is missed.
            let _ = changes.try_recv();
            if let Err(error) = self.file.sync_data() {
                self.lose(1, &error.to_string());
            }
        }
    }

    /// Counts what is lost, and says so once until a write succeeds again.
    fn lose(&self, records: u64, why: &str) {
        self.lost.fetch_add(records, Ordering::Relaxed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                records,
                why,
                "contexts could not be written to the side file: reports will not know them"
            );
        }
    }
}

impl fmt::Debug for SideFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideFile")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
