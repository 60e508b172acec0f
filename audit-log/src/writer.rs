//! The writer thread: takes what waits, writes it in one piece, makes it durable with one
//! `fdatasync`, answers all, seals.

use std::sync::{Arc, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::acts::{Act, Acts};
use crate::file::LogFile;
use crate::format::LogId;
use crate::log::{Appended, Shared};
use crate::scan::Position;
use crate::{ActId, AppendError, format};

/// Most entries of one batch.
const BATCH: usize = 4096;
/// A batch takes no further entry once it holds this many bytes. With its last entry and its seal it
/// stays below [`crate::scan::MAX_TAIL_BYTES`].
const BATCH_BYTES: usize = 4 * 1024 * 1024;

pub(crate) enum Command {
    Append(Job),
    Close(oneshot::Sender<()>),
}

/// An entry whose caller waits.
pub(crate) struct Job {
    pub(crate) act_id: Option<ActId>,
    pub(crate) entry: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// Its share of the memory that waiting entries may take.
    pub(crate) _room: OwnedSemaphorePermit,
}

pub(crate) struct Writer {
    pub(crate) file: Box<dyn LogFile>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: mpsc::Receiver<Command>,
    pub(crate) acts: Acts,
    pub(crate) id: LogId,
    /// After the last durable record and its seal.
    pub(crate) at: Position,
    /// Set when the state of the file is no longer known.
    pub(crate) broken: Option<String>,
}

/// A batch before it is written.
struct Batch {
    bytes: Vec<u8>,
    answers: Vec<Result<Appended, AppendError>>,
    /// Positions before every record that begins a stride.
    marks: Vec<Position>,
    /// Acts added to the known ones.
    acts: usize,
    /// After the batch.
    at: Position,
}

impl Writer {
    pub(crate) fn run(mut self) {
        let mut closing: Vec<oneshot::Sender<()>> = Vec::new();
        while let Some(mut command) = self.queue.blocking_recv() {
            let mut jobs = Vec::new();
            let mut bytes = 0;
            loop {
                match command {
                    Command::Append(job) => {
                        bytes += job.entry.len();
                        jobs.push(job);
                    }
                    Command::Close(reply) => {
                        // What is already in the queue is still served; then it reports its end.
                        self.shared.update(|state| state.closed = true);
                        self.queue.close();
                        closing.push(reply);
                    }
                }
                if jobs.len() >= BATCH || bytes >= BATCH_BYTES {
                    break;
                }
                match self.queue.try_recv() {
                    Ok(next) => command = next,
                    Err(_) => break,
                }
            }
            if !jobs.is_empty() {
                self.serve(jobs);
            }
        }
        if self.broken.is_none() {
            // Makes the last seal durable; without it a power failure leaves the last batch unsealed.
            if let Err(error) = self.file.sync_data() {
                tracing::warn!(%error, "the audit log's last seal may not be durable");
            }
        }
        drop(self.file);
        for reply in closing {
            let _ = reply.send(());
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let answers = match &self.broken {
            Some(reason) => Err(AppendError::MustReopen {
                reason: reason.clone(),
            }),
            None => self.write(&jobs),
        };
        match answers {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    // A caller that left does not need the answer.
                    let _ = job.reply.send(answer);
                }
            }
            Err(error) => {
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn write(&mut self, jobs: &[Job]) -> Result<Vec<Result<Appended, AppendError>>, AppendError> {
        let batch = self.prepare(jobs);
        if batch.bytes.is_empty() {
            return Ok(batch.answers);
        }
        if let Err(error) = self.make_durable(&batch) {
            self.acts.take_back(batch.acts);
            return Err(error);
        }
        self.acts.trim();
        self.at = batch.at;
        self.shared.update(|state| {
            state.marks.extend(batch.marks);
            state.at = self.at.clone();
        });
        self.seal();
        Ok(batch.answers)
    }

    fn prepare(&mut self, jobs: &[Job]) -> Batch {
        let mut batch = Batch {
            bytes: Vec::new(),
            answers: Vec::with_capacity(jobs.len()),
            marks: Vec::new(),
            acts: 0,
            at: self.at.clone(),
        };
        for job in jobs {
            let entry_hash: [u8; 32] = Sha256::digest(&job.entry).into();
            if let Some(known) = job.act_id.and_then(|act_id| self.acts.get(&act_id)) {
                batch.answers.push(if known.entry_hash == entry_hash {
                    Ok(Appended {
                        index: known.index,
                        chain: known.chain,
                        repeated: true,
                    })
                } else {
                    Err(AppendError::ActIdTaken { index: known.index })
                });
                continue;
            }
            let index = batch.at.entries;
            let chain = format::chain(&batch.at.chain, index, job.act_id.as_ref(), &entry_hash);
            if Shared::begins_stride(index) {
                batch.marks.push(batch.at.clone());
            }
            format::put_record(
                &mut batch.bytes,
                index,
                &chain,
                job.act_id.as_ref(),
                &job.entry,
            );
            if let Some(act_id) = job.act_id {
                self.acts.add(
                    act_id,
                    Act {
                        index,
                        chain,
                        entry_hash,
                    },
                );
                batch.acts += 1;
            }
            batch.at = Position {
                offset: self.at.offset + batch.bytes.len() as u64,
                entries: index + 1,
                chain,
            };
            batch.answers.push(Ok(Appended {
                index,
                chain,
                repeated: false,
            }));
        }
        batch
    }

    fn make_durable(&mut self, batch: &Batch) -> Result<(), AppendError> {
        if let Err(error) = self.file.write_all_at(&batch.bytes, self.at.offset) {
            let reason = error.to_string();
            tracing::error!(%reason, "the audit log could not be written");
            // Also made durable: a refused entry must not come back after a power failure.
            return match self.cut().and_then(|()| self.file.sync_data()) {
                Ok(()) => Err(AppendError::NotWritten { reason }),
                Err(error) => Err(self.give_up(format!("{reason}; then: {error}"))),
            };
        }
        self.file.sync_data().map_err(|error| {
            // The kernel reports a failed write-back once and may drop the data; a second fdatasync
            // could succeed without it.
            let error = self.give_up(format!("fdatasync: {error}"));
            let _ = self.cut();
            error
        })
    }

    /// Marks everything so far as durable. Not needed for durability, so a failure is no error.
    pub(crate) fn seal(&mut self) {
        let mut seal = Vec::new();
        format::put_seal(&mut seal, self.at.entries, &self.at.chain, &self.id);
        match self.file.write_all_at(&seal, self.at.offset) {
            Ok(()) => {
                self.at.offset += seal.len() as u64;
            }
            Err(error) => {
                tracing::warn!(%error, "the audit log could not be sealed");
                if let Err(error) = self.cut() {
                    self.give_up(error.to_string());
                }
            }
        }
    }

    /// Back to the last durable length.
    fn cut(&self) -> std::io::Result<()> {
        self.file.set_len(self.at.offset)
    }

    fn give_up(&mut self, reason: String) -> AppendError {
        tracing::error!(%reason, "the audit log must be reopened");
        self.broken = Some(reason.clone());
        AppendError::MustReopen { reason }
    }
}

impl Shared {
    pub(crate) fn update(&self, change: impl FnOnce(&mut crate::log::State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
