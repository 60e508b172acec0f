//! The open log.

use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ticket_format::tlog::{Checkpoint, LogKey, LogSecret, SignedCheckpoint, merkle};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::appended::Appended;
use crate::disk::Directory;
use crate::journal::TornTail;
use crate::open;
use crate::options::Options;
use crate::publish::Publishing;
use crate::reader::{Reader, Record};
use crate::shard::Shared;
use crate::writer::{Command, Job, Recovery};
use crate::{ActId, AppendError, MAX_ENTRY_BYTES, OpenError, PublishError, ReadError};

/// A page of [`AuditLog::read_from`] takes no further record once it holds this many bytes.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// How far the log is.
#[derive(Clone, Debug)]
pub struct Head {
    /// Durable entries.
    pub entries: u64,
    /// The newest durable checkpoint: of the last shard. Of size 0 while the log is empty.
    pub checkpoint: SignedCheckpoint,
}

/// An audit log open for appending. Clones share it.
///
/// Dropping the last clone without [`AuditLog::close`] lets the writer finish in the background; the
/// directory stays locked until it has.
#[derive(Clone)]
pub struct AuditLog {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: mpsc::Sender<Command>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) writer: Arc<Mutex<Option<JoinHandle<()>>>>,
    pub(crate) publishing: Arc<Publishing>,
    /// Cosignatures, and who waits for them.
    pub(crate) hub: Arc<crate::witness::Hub>,
}

impl AuditLog {
    /// Opens the log in the directory `path`, or begins one (mode 0700) if there is none, and verifies
    /// the journals of its last two shards, so it blocks for a time in proportion to them. Must be
    /// called where blocking is allowed.
    ///
    /// A tail torn by a crash is cut away and returned, so that the caller can report it: no entry in it
    /// was ever acknowledged.
    ///
    /// # Errors
    /// [`OpenError`]; each says what is wrong with which file.
    pub fn open(
        path: impl AsRef<Path>,
        secret: LogSecret,
        options: &Options,
    ) -> Result<(Self, Option<TornTail>), OpenError> {
        let directory = Directory::open(path.as_ref())?;
        open::start(Arc::new(directory), secret, options)
    }

    /// Appends `entry` and answers when it is durable and covered by a signed checkpoint. Dropping the
    /// future gives up the answer, not the entry. (TLOG-3)
    ///
    /// # Errors
    /// [`AppendError`]; after [`AppendError::MustReopen`] the entry may or may not have been kept.
    pub async fn append(&self, entry: Vec<u8>) -> Result<Appended, AppendError> {
        self.enqueue(None, entry).await
    }

    /// As [`AuditLog::append`], but at most once for each act id: if the act is already recorded (also
    /// by an earlier process), answers with its place. For draining an outbox (rule AUD-2).
    ///
    /// # Errors
    /// [`AppendError`]; [`AppendError::ActIdTaken`] if the id names another entry.
    pub async fn append_once(
        &self,
        act_id: ActId,
        entry: Vec<u8>,
    ) -> Result<Appended, AppendError> {
        self.enqueue(Some(act_id), entry).await
    }

    async fn enqueue(
        &self,
        act_id: Option<ActId>,
        entry: Vec<u8>,
    ) -> Result<Appended, AppendError> {
        let bytes = match entry.len() {
            0 => return Err(AppendError::Empty),
            bytes @ 1..=MAX_ENTRY_BYTES => bytes as u32,
            found => return Err(AppendError::TooLong { found }),
        };
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        // The semaphore is never closed.
        let room = room.map_err(|_| AppendError::Closed)?;
        let leaf = merkle::leaf_hash(&entry);
        let (reply, answer) = oneshot::channel();
        let job = Job {
            act_id,
            entry,
            leaf,
            reply,
            room,
        };
        self.send(Command::Append(job)).await?;
        answer.await.map_err(|_| self.gone())?
    }

    /// Begins a new shard after the present one, however large that is, with the entry that `entry`
    /// makes from the present one's tree and the number of entries before the new shard. The present
    /// shard gets no closing entry: where it was rolled back, others may have seen it go on otherwise.
    ///
    /// `at_least` is the least number of the new shard: beyond those that a witness knows. At most once
    /// for each act id. (TLOG-10)
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn recover(
        &self,
        act_id: ActId,
        at_least: u64,
        entry: impl FnOnce(&Checkpoint, u64) -> Vec<u8> + Send + 'static,
    ) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let recovery = Recovery {
            act_id,
            at_least,
            entry: Box::new(entry),
            reply,
        };
        self.send(Command::Recover(recovery)).await?;
        answer.await.map_err(|_| self.gone())?
    }

    async fn send(&self, command: Command) -> Result<(), AppendError> {
        self.queue.send(command).await.map_err(|_| self.gone())
    }

    /// The durable records from index `from` on, as of now, across shards. Does blocking I/O when
    /// iterated. Works on after [`AuditLog::close`].
    pub fn read(&self, from: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), from, self.head().entries)
    }

    /// The durable records from index `from` on, at most `most` of them and about 16 MiB; fewer when
    /// there are no more. Blocking I/O; reads from a position close before `from`, not from the front.
    ///
    /// # Errors
    /// [`ReadError`]: the files cannot be read, were damaged, or were removed by the retention.
    pub fn read_from(&self, from: u64, most: usize) -> Result<Vec<Record>, ReadError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        for record in self.read(from).take(most) {
            let record = record?;
            bytes += record.entry.len();
            page.push(record);
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(page)
    }

    /// Number of durable entries, and the newest durable checkpoint, which covers them.
    pub fn head(&self) -> Head {
        let checkpoint = self.shared.newest.borrow().clone();
        let Some(shard) = self.shared.last() else {
            // There always is a shard.
            return Head {
                entries: checkpoint.checkpoint().size,
                checkpoint,
            };
        };
        let live = shard.live();
        Head {
            entries: shard.before + live.size,
            checkpoint: live.checkpoint.clone(),
        }
    }

    /// The log's public keys.
    pub fn key(&self) -> &LogKey {
        &self.shared.key
    }

    /// The newest durable checkpoint, as it changes.
    pub fn checkpoints(&self) -> watch::Receiver<SignedCheckpoint> {
        self.shared.newest.subscribe()
    }

    /// The newest checkpoint with cosignatures, as it changes.
    pub fn cosigned(&self) -> watch::Receiver<Option<SignedCheckpoint>> {
        self.shared.cosigned.subscribe()
    }

    /// Takes a checkpoint of this log with the cosignatures collected for it: it is published, and shown
    /// by [`AuditLog::cosigned`]. An older one of the same shard than the last is left out. The caller verified the lines.
    pub fn set_cosigned(&self, checkpoint: SignedCheckpoint) {
        if let Err(error) = self.key().verify(checkpoint.note()) {
            // What does not verify now would be damage at the next start.
            tracing::error!(%error, "a cosigned checkpoint is malformed and is left out");
            return;
        }
        let place = |of: &SignedCheckpoint| {
            // Of two notes of one tree the one with fewer lines is the older one.
            let (lines, of) = (of.note().len(), of.checkpoint());
            (of.shard.number, of.size, lines)
        };
        if let Some(shard) = self.shared.shard(checkpoint.checkpoint().shard.number) {
            // The last checkpoint of a shard may be cosigned after the next shard's first.
            let known = &mut shard.live().cosigned;
            if known
                .as_ref()
                .is_none_or(|known| place(&checkpoint) >= place(known))
            {
                *known = Some(checkpoint.clone());
            }
        }
        self.shared.cosigned.send_if_modified(|newest| {
            let newer = newest
                .as_ref()
                .is_none_or(|newest| place(&checkpoint) >= place(newest));
            if newer {
                *newest = Some(checkpoint);
            }
            newer
        });
    }

    /// The shard of an index, and the index in that shard.
    pub fn place(&self, index: u64) -> Option<(u64, u64)> {
        let shard = self.shared.shard_of(index)?;
        let local = index - shard.before;
        (local < shard.live().size).then(|| (shard.number(), local))
    }

    /// The newest checkpoint of a shard: its last one if it is closed.
    pub fn checkpoint_of(&self, shard: u64) -> Option<SignedCheckpoint> {
        let shard = self.shared.shard(shard)?;
        Some(shard.live().checkpoint.clone())
    }

    /// Publishes what is durable now, and answers when its checkpoint is in place. (TLOG-11)
    ///
    /// # Errors
    /// [`PublishError`]: the disk refused; it is tried again by itself.
    pub async fn publish_now(&self) -> Result<(), PublishError> {
        self.publishing.now().await
    }

    /// Finishes the appends already asked for, publishes them and ends writer and publisher. Later
    /// appends get [`AppendError::Closed`]; reading goes on. Closing again has no effect.
    pub async fn close(&self) {
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
        self.publishing.close().await;
        // Readers may keep files open; they need no lock.
        self.shared.disk.unlock();
    }

    /// Why the writer no longer answers.
    fn gone(&self) -> AppendError {
        if self.shared.closed.load(Ordering::Acquire) {
            AppendError::Closed
        } else {
            AppendError::MustReopen {
                reason: "the writer thread ended".to_owned(),
            }
        }
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog")
            .field("entries", &self.head().entries)
            .finish_non_exhaustive()
    }
}
