//! The inventory: which wraps stand under each KEK version (INV-1).
//!
//! It is derived from the log and from nothing else: a task reads each entry once, in order, and keeps what
//! it comes to in a file of its own, with the place in the log that it has read up to, in one commit. A
//! file that is lost, damaged, or of another log is made anew from what is kept of the log. No answer
//! waits for it; who needs an exact count says so ([`Inventory::settled`]).

mod count;
mod file;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use audit_log::{AuditLog, ReadError};
use ticket_format::cbor::Decode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ItemDigest, KekId};
use ticket_format::limits;
use ticket_format::time::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use file::FileError;
use file::{Rows, RowsCopy, Totals};

/// Entries that one commit counts.
const PAGE: usize = 4_096;
/// Least time between two commits that nobody waits for: each costs the disk a sync.
const PAUSE: Duration = Duration::from_secs(1);
/// How long who needs an exact count waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the inventory does not say what it should.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// Its file.
    #[error("the inventory's file cannot be used: {0}")]
    File(#[from] FileError),
    /// The log.
    #[error("the inventory cannot be counted from the log: {0}")]
    Log(#[from] ReadError),
    /// An entry of the log.
    #[error("audit entry {0} is of a shape that this program does not know")]
    Entry(u64),
    /// It has not read as far as the log goes.
    #[error("the inventory is behind the log: ask again")]
    Behind,
    /// A task of its own failed.
    #[error("the inventory failed")]
    Failed,
}

/// What is known of the wraps under one KEK version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Distinct wraps that were made or opened and are not replaced.
    pub wraps: u64,
    /// Wraps that were ever made under it.
    pub made: u64,
    /// When one was last made or opened.
    pub last_used: Option<Timestamp>,
}

/// One wrap of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// SHA-256 of wrap and context.
    pub digest: ItemDigest,
    /// When it was last made or opened.
    pub seen: Timestamp,
}

/// The inventory, followed.
pub struct Inventory {
    shared: Arc<Shared>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// An inventory of one moment.
pub struct InventoryCopy(RowsCopy);

impl InventoryCopy {
    /// Writes it to a file of its own, where none is, or over what is there. Blocks.
    ///
    /// # Errors
    /// The system refused.
    pub fn write(&self, path: &std::path::Path) -> Result<(), InventoryError> {
        Ok(self.0.write(path)?)
    }
}

impl std::fmt::Debug for InventoryCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InventoryCopy(..)")
    }
}

/// Whether an inventory's file is whole. Blocks.
///
/// # Errors
/// It is not, or is not there.
pub fn check(path: &std::path::Path) -> Result<(), InventoryError> {
    match Rows::open(path)? {
        Some(_) => Ok(()),
        None => Err(FileError::Damaged.into()),
    }
}

struct Shared {
    log: AuditLog,
    rows: RwLock<Arc<Rows>>,
    path: PathBuf,
    /// The index of the next entry to be read.
    position: watch::Sender<u64>,
    /// Somebody waits.
    wanted: Notify,
    stop: watch::Sender<bool>,
}

impl Inventory {
    /// Opens the file, or begins it anew, and follows the log from there. Must be called in a runtime.
    ///
    /// # Errors
    /// [`InventoryError`]: the file cannot be made.
    pub async fn open(path: PathBuf, log: AuditLog) -> Result<Self, InventoryError> {
        let opened = {
            let (path, log) = (path.clone(), log.clone());
            blocking(move || open(&path, &log)).await?
        };
        let shared = Arc::new(Shared {
            position: watch::Sender::new(opened.position()),
            rows: RwLock::new(Arc::new(opened)),
            log,
            path,
            wanted: Notify::new(),
            stop: watch::Sender::new(false),
        });
        let task = tokio::spawn(follow(Arc::clone(&shared)));
        Ok(Self {
            shared,
            task: tokio::sync::Mutex::new(Some(task)),
        })
    }

    /// What has been counted so far under a version.
    #[must_use]
    pub fn counts(&self, kek: KekId) -> Counts {
        let Totals {
            wraps,
            made,
            last_used,
        } = self.shared.rows().totals(kek);
        Counts {
            wraps,
            made,
            last_used,
        }
    }

    /// From when on wraps are counted: what stood in the log before is not known any more, or never stood in
    /// it. None: nothing has been counted.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.shared.rows().since()
    }

    /// Waits until everything is counted that stood in the log when this was called.
    ///
    /// # Errors
    /// [`InventoryError::Behind`], after ten seconds.
    pub async fn settled(&self) -> Result<(), InventoryError> {
        // rule: INV-1
        let goal = self.shared.log.head().entries;
        let mut position = self.shared.position.subscribe();
        self.shared.wanted.notify_one();
        let there = position.wait_for(|position| *position >= goal);
        match tokio::time::timeout(PATIENCE, there).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(InventoryError::Behind),
        }
    }

    /// How many wraps stand under a version, and the SHA-256 of their digests in ascending order, of one
    /// instant.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn dependants(&self, kek: KekId) -> Result<(u64, [u8; 32]), InventoryError> {
        let rows = self.shared.rows();
        blocking(move || Ok(rows.dependants(kek)?)).await
    }

    /// The wraps under a version after this digest, ascending, at most so many; and whether there are more.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn page(
        &self,
        kek: KekId,
        after: Option<ItemDigest>,
        most: usize,
    ) -> Result<(Vec<Row>, bool), InventoryError> {
        let rows = self.shared.rows();
        blocking(move || Ok(rows.page(kek, after, most)?)).await
    }

    /// What is counted now, to be written elsewhere while it goes on; none where its file is larger than
    /// `most`, in bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn copied(&self, most: u64) -> Result<Option<InventoryCopy>, InventoryError> {
        // rule: BAK-1
        let size = std::fs::metadata(&self.shared.path).map_err(FileError::from)?;
        if size.len() > most {
            return Ok(None);
        }
        Ok(Some(InventoryCopy(self.shared.rows().copied()?)))
    }

    /// Ends the task and closes the file: from then on nothing is known.
    pub async fn close(&self) {
        self.shared.stop.send_replace(true);
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
        let mut rows = self
            .shared
            .rows
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *rows = Arc::new(Rows::nothing());
    }
}

impl std::fmt::Debug for Inventory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inventory")
            .field("position", &*self.shared.position.borrow())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.rows.read().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, InventoryError> + Send + 'static,
) -> Result<T, InventoryError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(InventoryError::Failed))
}

/// The file, to be read on or over; an empty one where there is none, or it is damaged.
fn open(path: &std::path::Path, log: &AuditLog) -> Result<Rows, InventoryError> {
    match Rows::open(path) {
        Ok(Some(rows)) if is_of(&rows, log)? => return Ok(rows),
        Ok(None) => {}
        Ok(Some(rows)) => {
            // Its log was cut, or is another one: what it knows of wraps is true all the same.
            tracing::warn!(
                "the inventory has read more than this log holds, or another one: it is counted over"
            );
            rows.restart()?;
            return Ok(rows);
        }
        // rule: INV-1 — where the log was pruned, what a whole file knows is known nowhere else.
        Err(error) if !error.is_of_the_content() => return Err(error.into()),
        Err(error) => tracing::warn!(%error, "the inventory is counted anew"),
    }
    Ok(Rows::create(path)?)
}

/// Whether the last entry that was counted stands in this log, at its place.
fn is_of(rows: &Rows, log: &AuditLog) -> Result<bool, InventoryError> {
    let position = rows.position();
    let Some(last) = position.checked_sub(1) else {
        return Ok(true);
    };
    if position > log.head().entries {
        return Ok(false);
    }
    if last < log.first_kept() {
        // Nothing of the log says otherwise any more.
        return Ok(true);
    }
    let record = log.read_from(last, 1)?;
    Ok(record
        .first()
        .is_some_and(|record| rows.was_last(&record.entry)))
}

async fn follow(shared: Arc<Shared>) {
    let mut checkpoints = shared.log.checkpoints();
    let mut stop = shared.stop.subscribe();
    loop {
        if let Err(error) = catch_up(&shared).await {
            tracing::error!(%error, "the inventory is behind: it is tried again in a second");
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = shared.wanted.notified() => continue,
            changed = checkpoints.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = shared.wanted.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Counts what is in the log, page by page.
async fn catch_up(shared: &Arc<Shared>) -> Result<(), InventoryError> {
    loop {
        let position = *shared.position.borrow();
        if *shared.stop.borrow() || position >= shared.log.head().entries {
            return Ok(());
        }
        let this = Arc::clone(shared);
        let next = blocking(move || count_page(&this, position)).await?;
        shared.position.send_replace(next);
    }
}

fn count_page(shared: &Shared, position: u64) -> Result<u64, InventoryError> {
    // What the retention removed was counted before, or is lost with the file that had counted it.
    let from = position.max(shared.log.first_kept());
    let records = shared.log.read_from(from, PAGE)?;
    let mut entries = Vec::with_capacity(records.len());
    for record in &records {
        let entry = Entry::from_cbor(&record.entry, limits::ENTRY);
        entries.push(entry.map_err(|_| InventoryError::Entry(record.index))?);
    }
    let next = from + records.len() as u64;
    let Some(last) = records.last() else {
        return Ok(next);
    };
    // rule: INV-2 — a count that begins now, or goes on behind a gap, knows nothing of before.
    let first = entries.first().map(|entry| entry.time);
    let begins = first.filter(|_| position == 0 || from > position);
    // rule: INV-2, BAK-4 — where the log went on by a recovery or a restore, nobody counted what it lost.
    let lost = entries.iter().rev().find(|entry| is_recovery(entry));
    let begins = lost.map(|entry| entry.time).or(begins);
    match shared.rows().count(&entries, begins, next, &last.entry) {
        Ok(()) => Ok(next),
        Err(error) => {
            // Whatever became of the commit, the file says how far it has read.
            tracing::error!(%error, "the inventory could not be written: its file is opened anew");
            let mut rows = shared.rows.write().unwrap_or_else(PoisonError::into_inner);
            *rows = Arc::new(Rows::nothing());
            *rows = Arc::new(open(&shared.path, &shared.log)?);
            Ok(rows.position())
        }
    }
}

/// Whether a shard begins with it because security says so: the log had gone on elsewhere.
fn is_recovery(entry: &Entry) -> bool {
    entry.kind == Kind::ShardOpened && entry.proof.is_some()
}

#[cfg(test)]
mod tests;
