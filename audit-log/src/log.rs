//! The open log.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::acts::{Act, Acts};
use crate::file::{self, LogFile};
use crate::format::LogId;
use crate::reader::{Reader, Record};
use crate::scan::{Position, TornTail};
use crate::verify;
use crate::writer::{Command, Job, Writer};
use crate::{ActId, AppendError, Chain, MAX_ENTRY_BYTES, OpenError, ReadError};

/// Entries that may wait for the writer; more callers wait for a place.
const QUEUE: usize = 4096;
/// Bytes of entries that may wait for the writer.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Distance, in records, of the positions kept in memory to find a record by its index.
const STRIDE: u64 = 256;

/// A page of [`AuditLog::read_from`] takes no further record once it holds this many bytes.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// How [`AuditLog::open`] sets up the log.
#[derive(Clone, Debug)]
pub struct Options {
    /// Acts remembered for [`AuditLog::append_once`], the newest; about 150 bytes of memory each. Must
    /// exceed the number of records that can come between an append and its repetition.
    pub remembered_acts: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            remembered_acts: 65_536,
        }
    }
}

/// The place of a durable entry in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its index, from 0.
    pub index: u64,
    /// The chain at its record.
    pub chain: Chain,
    /// Whether it was already there ([`AuditLog::append_once`] only).
    pub repeated: bool,
}

/// An audit log open for appending. Clones share it.
///
/// Dropping the last clone without [`AuditLog::close`] lets the writer finish in the background; the
/// file stays locked until it has.
#[derive(Clone)]
pub struct AuditLog {
    file: Arc<File>,
    id: LogId,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What readers and the writer share. Locked for moments, never over I/O.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    /// After the last durable record.
    pub(crate) at: Position,
    /// The position before every record whose index is a multiple of the stride.
    pub(crate) marks: Vec<Position>,
    /// Set before the queue refuses, so that those refused know why.
    pub(crate) closed: bool,
}

impl Shared {
    pub(crate) fn begins_stride(index: u64) -> bool {
        index.is_multiple_of(STRIDE)
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AuditLog {
    /// Opens the log at `path`, or makes an empty one (mode 0600) if there is no file, and verifies
    /// every record, so it blocks for a time in proportion to the file. Must be called where
    /// blocking is allowed.
    ///
    /// A tail torn by a crash is cut away and returned, so that the caller can report it: no entry in it
    /// was ever acknowledged.
    ///
    /// # Errors
    /// [`OpenError`]; each says what is wrong with which file.
    pub fn open(
        path: impl AsRef<Path>,
        options: &Options,
    ) -> Result<(Self, Option<TornTail>), OpenError> {
        let path = path.as_ref();
        let file = Arc::new(file::open(path)?);
        let writer_file = Box::new(Arc::clone(&file));
        Self::start(path, options, file, writer_file)
    }

    /// Scans `file` and starts the writer on `writer_file`, the same file.
    pub(crate) fn start(
        path: &Path,
        options: &Options,
        file: Arc<File>,
        writer_file: Box<dyn LogFile>,
    ) -> Result<(Self, Option<TornTail>), OpenError> {
        let mut acts = Acts::new(options.remembered_acts);
        let mut marks = Vec::new();
        let scanned = verify::scan(&file, path, |before, record| {
            if Shared::begins_stride(record.index) {
                marks.push(before.clone());
            }
            if let Some(act_id) = record.act_id {
                let entry_hash = Sha256::digest(&record.entry).into();
                acts.add(
                    act_id,
                    Act {
                        index: record.index,
                        chain: record.chain,
                        entry_hash,
                    },
                );
                acts.trim();
            }
        })?;
        if let Some(torn) = &scanned.torn {
            let cut = file.set_len(torn.offset).and_then(|()| file.sync_all());
            cut.map_err(|source| OpenError::io(path, source))?;
            tracing::warn!(log = %path.display(), bytes = torn.bytes, entries = torn.entries, "a torn tail of the audit log was cut away");
        } else {
            // Records that a killed process wrote but did not make durable are shown to readers now.
            file.sync_data()
                .map_err(|source| OpenError::io(path, source))?;
        }
        let (queue, receiver) = mpsc::channel(QUEUE);
        let state = State {
            at: scanned.at.clone(),
            marks,
            closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
        });
        let mut writer = Writer {
            file: writer_file,
            shared: Arc::clone(&shared),
            queue: receiver,
            acts,
            id: scanned.id,
            at: scanned.at,
            broken: None,
        };
        if writer.at.entries > scanned.sealed {
            // They are durable now and may be read; damage to them must not pass for a torn tail.
            writer.seal();
        }
        let thread = std::thread::Builder::new()
            .name("audit-log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::io(path, source))?;
        let log = Self {
            file,
            id: scanned.id,
            shared,
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            writer: Arc::new(Mutex::new(Some(thread))),
        };
        Ok((log, scanned.torn))
    }

    /// Appends `entry` and answers when it is durable. Dropping the future gives up the answer, not the
    /// entry.
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
        let (reply, answer) = oneshot::channel();
        let job = Job {
            act_id,
            entry,
            reply,
            _room: room,
        };
        self.queue
            .send(Command::Append(job))
            .await
            .map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())?
    }

    /// The durable records from index `from` on, as of now. Does blocking I/O when iterated. Works on
    /// after [`AuditLog::close`].
    pub fn read(&self, from: u64) -> Reader {
        let (at, end) = self.shared.look(|state| {
            let stride = usize::try_from(from / STRIDE).unwrap_or(usize::MAX);
            let at = state.marks.get(stride).unwrap_or(&state.at).clone();
            (at, state.at.offset)
        });
        Reader::new(Arc::clone(&self.file), self.id, at, from, end)
    }

    /// The durable records from index `from` on, at most `most` of them and about 16 MiB; fewer when
    /// there are no more. Blocking I/O; reads from a position close before `from`, not from the front.
    ///
    /// # Errors
    /// [`ReadError`]: the file cannot be read, or was damaged.
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

    /// Number of durable records and the chain at the last one (the chain's start when empty).
    pub fn head(&self) -> (u64, Chain) {
        self.shared.look(|state| (state.at.entries, state.at.chain))
    }

    /// Finishes the appends already asked for, seals the log and ends the writer. Later appends get
    /// [`AppendError::Closed`]; reading goes on. Closing again has no effect.
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
        // Readers may keep the file open; they need no lock.
        let _ = rustix::fs::flock(&*self.file, rustix::fs::FlockOperation::Unlock);
    }

    /// Why the writer no longer answers.
    fn gone(&self) -> AppendError {
        if self.shared.look(|state| state.closed) {
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
        let (entries, _) = self.head();
        f.debug_struct("AuditLog")
            .field("entries", &entries)
            .finish_non_exhaustive()
    }
}
