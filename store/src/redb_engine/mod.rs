//! The embedded engine: one redb file, one writer thread with group commit.

mod copy;
mod file;
mod open;
mod reader;
mod schema;
mod watcher;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::{mpsc, oneshot, watch};

use crate::contract::{BoxFuture, Store};
use crate::error::{Error, Invalid};
use crate::snapshot::Snapshot;
use crate::types::{self, Entry, KeyRange, Outcome, Page, Revision, Transaction};
use crate::watch::Watch;

pub use copy::CopyError;
pub use open::OpenError;

/// Requests that may wait for the writer; more callers wait for a place.
const QUEUE: usize = 1024;

/// How [`RedbStore::open`] sets up the store.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What to keep for watches.
    pub history: History,
}

/// Bounds of the history kept for watches; whichever is reached first drops the oldest commits.
#[derive(Clone, Debug)]
pub struct History {
    /// Commits kept, at least 1.
    pub revisions: u64,
    /// Bytes of keys and values kept; the newest commit is kept even if it alone is larger.
    pub bytes: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            revisions: 10_000,
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// The store in one file. Clones share it.
///
/// Dropping the last clone without [`Store::close`] lets the writer finish in the background; the file
/// stays locked until it has.
#[derive(Clone)]
pub struct RedbStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What readers, watches and the writer share.
struct Shared {
    slot: RwLock<Slot>,
    progress: watch::Sender<Progress>,
    /// Tells the writer that the database needs to be reopened.
    read_failed: AtomicBool,
    /// Set before the queue refuses, so that those refused know why.
    closing: AtomicBool,
}

/// The database while there is one.
enum Slot {
    Open(Database),
    /// Between a failure and the recovery from it, or after the end.
    Out(Error),
}

/// What the watches wait for.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Progress {
    revision: Revision,
    closed: bool,
}

enum Command {
    Commit(Pending),
    /// Someone met a failing database.
    Recover,
    Close(oneshot::Sender<()>),
}

/// A transaction whose caller waits.
struct Pending {
    transaction: Transaction,
    reply: oneshot::Sender<Result<Outcome, Error>>,
}

impl RedbStore {
    /// Opens the store at `path`, or makes an empty one (mode 0600) if there is no file. Verifies the
    /// whole file, so it blocks for a time in proportion to its size.
    ///
    /// # Errors
    /// [`OpenError`]; each says what is wrong with which file.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let (disk, database, revision) = open::open(path)?;
        Self::start(path, options, disk, database, revision)
    }

    fn start(
        path: &Path,
        options: Options,
        disk: file::Disk,
        database: Database,
        revision: Revision,
    ) -> Result<Self, OpenError> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            slot: RwLock::new(Slot::Open(database)),
            progress: watch::Sender::new(Progress {
                revision,
                closed: false,
            }),
            read_failed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let writer =
            writer::Writer::new(path, options.history, disk, Arc::clone(&shared), receiver);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::io(path, source))?;
        Ok(Self {
            shared,
            queue,
            writer: Arc::new(Mutex::new(Some(thread))),
        })
    }

    async fn send_commit(&self, transaction: Transaction) -> Result<Outcome, Error> {
        transaction.check()?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Commit(Pending { transaction, reply });
        self.queue
            .send(command)
            .await
            .map_err(|_| self.shared.gone())?;
        answer.await.map_err(|_| self.shared.gone())?
    }

    /// Runs `work` on a snapshot, off the async threads. Asks the writer to recover if it fails.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.recovering(self.shared.read(work).await)
    }

    /// Has the database opened anew after a read that failed.
    fn recovering<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if matches!(result, Err(Error::Unavailable { .. })) {
            // A full queue holds commits, and those recover as well.
            let _ = self.queue.try_send(Command::Recover);
        }
        result
    }
}

impl Store for RedbStore {
    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
        let key = types::check_key(key).map(|()| key.to_vec());
        Box::pin(async move {
            let key = key?;
            // Here and now: one key is a few pages, which are in this process's memory or the kernel's, and to
            // hand that to another thread and back costs ten times as much.
            self.recovering(self.shared.read_here(|txn| reader::get(txn, &key)))
        })
    }

    fn range(&self, range: KeyRange, limit: usize) -> BoxFuture<'_, Result<Page, Error>> {
        Box::pin(async move {
            types::check_range(&range, limit)?;
            self.read(move |txn| reader::range(txn, &range, limit))
                .await
        })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, Error>> {
        Box::pin(async move {
            let result = copy::snapshot(&self.shared).await;
            if matches!(result, Err(Error::Unavailable { .. })) {
                let _ = self.queue.try_send(Command::Recover);
            }
            result
        })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, Error>> {
        Box::pin(self.send_commit(transaction))
    }

    fn watch(&self, prefix: &[u8], after: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
        let range = KeyRange::prefix(prefix);
        Box::pin(async move {
            types::check_range(&range, 1)?;
            let current = self.read(reader::revision).await?;
            if after > current {
                return Err(Invalid::FromTheFuture {
                    asked: after,
                    current,
                }
                .into());
            }
            Ok(Watch::new(watcher::Watcher::new(
                self.shared.clone(),
                self.queue.downgrade(),
                range,
                after,
            )))
        })
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        Box::pin(self.read(reader::revision))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (reply, closed) = oneshot::channel();
            if self.queue.send(Command::Close(reply)).await.is_ok() {
                // An error means that the writer ended otherwise.
                let _ = closed.await;
            }
            let thread = self
                .writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(thread) = thread {
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        })
    }
}

impl Shared {
    fn begin_read(&self) -> Result<ReadTransaction, Error> {
        match &*self.slot.read().unwrap_or_else(PoisonError::into_inner) {
            Slot::Open(database) => database
                .begin_read()
                .map_err(|error| self.failed(&error.into())),
            Slot::Out(error) => Err(error.clone()),
        }
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || shared.read_here(work));
        match task.await {
            Ok(result) => result,
            Err(error) => Err(Error::Unavailable {
                reason: format!("a read did not finish: {error}"),
            }),
        }
    }

    fn read_here<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let txn = self.begin_read()?;
        work(&txn).map_err(|error| self.read_failed_with(&error))
    }

    /// What became of a read that failed.
    fn read_failed_with(&self, error: &redb::Error) -> Error {
        // A close in the middle of the read makes it fail; say which it was.
        match &*self.slot.read().unwrap_or_else(PoisonError::into_inner) {
            Slot::Open(_) => self.failed(error),
            Slot::Out(error) => error.clone(),
        }
    }

    /// Notes that the open database failed.
    fn failed(&self, error: &redb::Error) -> Error {
        // "Closed" is the old database's, which the writer has replaced already.
        if !matches!(error, redb::Error::DatabaseClosed) {
            self.read_failed.store(true, Ordering::Release);
        }
        Error::Unavailable {
            reason: error.to_string(),
        }
    }

    /// Why the writer no longer answers.
    fn gone(&self) -> Error {
        if self.closing.load(Ordering::Acquire) {
            return Error::Closed;
        }
        match &*self.slot.read().unwrap_or_else(PoisonError::into_inner) {
            Slot::Out(error @ Error::MustReopen { .. }) => error.clone(),
            _ => Error::MustReopen {
                reason: "the writer thread ended".to_owned(),
            },
        }
    }
}
