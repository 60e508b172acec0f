//! The writer thread: takes what waits, writes it with the checkpoint that covers it in one piece, makes
//! it durable with one `fdatasync`, answers all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ticket_format::tlog::{Checkpoint, Hash, LogSecret, SignedCheckpoint};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::acts::{Act, Acts};
use crate::appended::{Appended, Sealed};
use crate::journal::scan::Position;
use crate::journal::{BATCH, BATCH_BYTES, format};
use crate::options::{Clock, ShardEntries};
use crate::shard::{Journal, Kept, Shard, Shared};
use crate::tree::{Edge, Grown};
use crate::{ActId, AppendError};

pub(crate) enum Command {
    Append(Job),
    Recover(Recovery),
    Close(oneshot::Sender<()>),
}

/// An entry whose caller waits.
pub(crate) struct Job {
    pub(crate) act_id: Option<ActId>,
    pub(crate) entry: Vec<u8>,
    pub(crate) leaf: Hash,
    pub(crate) reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// Its share of the memory that waiting entries may take.
    pub(crate) room: OwnedSemaphorePermit,
}

/// Makes the first entry of a shard, from the final tree of the one before and the number of entries of
/// the log before the new one.
pub(crate) type Opener = Box<dyn FnOnce(&Checkpoint, u64) -> Vec<u8> + Send>;

/// A new shard that is asked for.
pub(crate) struct Recovery {
    pub(crate) act_id: ActId,
    pub(crate) at_least: u64,
    pub(crate) entry: Opener,
    pub(crate) reply: oneshot::Sender<Result<Appended, AppendError>>,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: mpsc::Receiver<Command>,
    pub(crate) acts: Acts,
    pub(crate) secret: LogSecret,
    pub(crate) clock: Clock,
    pub(crate) shard_bytes: u64,
    pub(crate) shard_entries: Option<Arc<dyn ShardEntries>>,
    pub(crate) open: Open,
    /// Set when the state of the disk is no longer known.
    pub(crate) broken: Option<String>,
}

/// The shard that is written.
pub(crate) struct Open {
    pub(crate) shard: Arc<Shard>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) edge: Edge,
    /// After the last durable seal.
    pub(crate) at: Position,
    /// Its last seal is the closing one.
    pub(crate) closed: bool,
}

/// A batch before it is written.
struct Batch {
    records: Records,
    answers: Vec<Answer>,
    /// Acts added to the known ones.
    acts: usize,
}

/// Records before they are sealed.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) bytes: Vec<u8>,
    pub(crate) leaves: Vec<Hash>,
    /// Before each record.
    pub(crate) places: Vec<Position>,
    /// As a seal's check takes them.
    pub(crate) acts: Vec<u8>,
}

impl Records {
    /// Adds the record after those, with `at` before the first.
    pub(crate) fn add(&mut self, at: Position, act_id: Option<&ActId>, entry: &[u8], leaf: Hash) {
        let place = Position {
            offset: at.offset + self.bytes.len() as u64,
            entries: at.entries + self.leaves.len() as u64,
        };
        format::put_record(&mut self.bytes, place.entries, act_id, entry);
        format::put_act(&mut self.acts, act_id);
        self.places.push(place);
        self.leaves.push(leaf);
    }
}

/// What a job gets if its batch becomes durable.
enum Answer {
    /// The record of this index in the shard.
    New {
        index: u64,
        repeated: bool,
    },
    /// An act that was recorded before this batch.
    Known {
        index: u64,
    },
    Taken {
        index: u64,
    },
}

/// How a batch waits for more while many append at once: each checkpoint costs its signatures here and at
/// every caller, whatever it covers, and a full batch makes the same callers wait less.
#[derive(Default)]
struct Waiting {
    slices: u32,
}

impl Waiting {
    /// So many callers wait at least, before one more is waited for: fewer are served at once.
    const MANY: usize = 4;
    /// Nobody came for so long: those who are there are all.
    const SLICE: Duration = Duration::from_micros(300);
    /// Nobody waits longer than so many slices.
    const SLICES: u32 = 8;

    fn next(&mut self, jobs: usize, queue: &mut mpsc::Receiver<Command>) -> Option<Command> {
        if jobs < Self::MANY || self.slices == Self::SLICES {
            return None;
        }
        self.slices += 1;
        std::thread::sleep(Self::SLICE);
        queue.try_recv().ok()
    }
}

impl Writer {
    pub(crate) fn run(mut self) {
        let mut closing: Vec<oneshot::Sender<()>> = Vec::new();
        while let Some(mut command) = self.queue.blocking_recv() {
            let (mut jobs, mut recoveries) = (Vec::new(), Vec::new());
            let mut bytes = 0;
            let mut waiting = Waiting::default();
            loop {
                match command {
                    Command::Append(job) => {
                        bytes += job.entry.len();
                        jobs.push(job);
                    }
                    Command::Recover(recovery) => recoveries.push(recovery),
                    Command::Close(reply) => {
                        // What is already in the queue is still served; then it reports its end.
                        self.shared.closed.store(true, Ordering::Release);
                        self.queue.close();
                        closing.push(reply);
                    }
                }
                let full = jobs.len() >= BATCH || bytes >= BATCH_BYTES;
                if full || !recoveries.is_empty() {
                    break;
                }
                let next = match self.queue.try_recv() {
                    Ok(next) => Some(next),
                    Err(_) if closing.is_empty() => waiting.next(jobs.len(), &mut self.queue),
                    Err(_) => None,
                };
                match next {
                    Some(next) => command = next,
                    None => break,
                }
            }
            if !jobs.is_empty() {
                self.serve(jobs);
            }
            for recovery in recoveries {
                self.recover(recovery);
            }
            self.close_when_full();
        }
        drop(self.open);
        for reply in closing {
            let _ = reply.send(());
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let answers = match self.usable() {
            Ok(()) => self.write(&jobs),
            Err(error) => Err(error),
        };
        match answers {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    // A caller that left does not need the answer.
                    let _ = job.reply.send(answer);
                    drop(job.room);
                }
            }
            Err(error) => {
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Whether there is a shard that takes entries; begins it if need be.
    fn usable(&mut self) -> Result<(), AppendError> {
        if let Some(reason) = &self.broken {
            return Err(AppendError::MustReopen {
                reason: reason.clone(),
            });
        }
        if self.open.closed {
            self.begin_next()?;
        }
        Ok(())
    }

    fn write(&mut self, jobs: &[Job]) -> Result<Vec<Result<Appended, AppendError>>, AppendError> {
        let batch = self.prepare(jobs);
        let before = self.open.shard.before;
        let Batch {
            records,
            answers,
            acts,
        } = batch;
        let sealed = if records.leaves.is_empty() {
            None
        } else {
            let sealed = self.append(records, false);
            Some(sealed.inspect_err(|_| self.acts.take_back(acts))?)
        };
        self.acts.trim();
        let finish = |answer| match (answer, &sealed) {
            (Answer::New { index, repeated }, Some(sealed)) => Ok(Appended::in_batch(
                before + index,
                repeated,
                Arc::clone(sealed),
            )),
            (Answer::Taken { index }, _) => Err(AppendError::ActIdTaken { index }),
            (Answer::Known { index }, _) => Ok(self.known(index)),
            (Answer::New { index, repeated }, None) => Err(AppendError::NotWritten {
                reason: format!("record {index} ({repeated}) has no batch"),
            }),
        };
        Ok(answers.into_iter().map(finish).collect())
    }

    /// The answer for an act that was recorded before.
    pub(crate) fn known(&self, index: u64) -> Appended {
        let shard = self.shared.shard_of(index);
        Appended::known(index, shard.as_ref().unwrap_or(&self.open.shard))
    }

    fn prepare(&mut self, jobs: &[Job]) -> Batch {
        let mut batch = Batch {
            records: Records {
                bytes: Vec::with_capacity(
                    jobs.iter().map(|job| job.entry.len() + 32).sum::<usize>() + 4096,
                ),
                leaves: Vec::with_capacity(jobs.len()),
                places: Vec::with_capacity(jobs.len()),
                acts: Vec::with_capacity(17 * jobs.len()),
            },
            answers: Vec::with_capacity(jobs.len()),
            acts: 0,
        };
        let before = self.open.shard.before;
        for job in jobs {
            if let Some(known) = job.act_id.and_then(|act_id| self.acts.get(&act_id)) {
                // rule: TLOG-3
                batch.answers.push(if known.leaf != job.leaf {
                    Answer::Taken { index: known.index }
                } else if known.index >= before + self.open.at.entries {
                    Answer::New {
                        index: known.index - before,
                        repeated: true,
                    }
                } else {
                    Answer::Known { index: known.index }
                });
                continue;
            }
            let index = self.open.at.entries + batch.records.leaves.len() as u64;
            batch
                .records
                .add(self.open.at, job.act_id.as_ref(), &job.entry, job.leaf);
            if let Some(act_id) = job.act_id {
                self.acts.add(
                    act_id,
                    Act {
                        index: before + index,
                        leaf: job.leaf,
                    },
                );
                batch.acts += 1;
            }
            batch.answers.push(Answer::New {
                index,
                repeated: false,
            });
        }
        batch
    }

    /// Seals records, makes them durable and shows them to readers. (TLOG-3)
    pub(crate) fn append(
        &mut self,
        records: Records,
        closing: bool,
    ) -> Result<Arc<Sealed>, AppendError> {
        let Records {
            mut bytes,
            leaves,
            places,
            acts,
        } = records;
        let (edge, grown) = self.open.edge.grow(leaves);
        let checkpoint = self.sign(&grown);
        let sealing = format::Sealing {
            size: grown.to,
            root: &grown.root,
            note: checkpoint.note(),
            closing,
            acts: &acts,
        };
        format::put_seal(&mut bytes, &sealing, &self.open.journal.id);
        self.make_durable(&bytes)?;
        self.open.at = Position {
            offset: self.open.at.offset + bytes.len() as u64,
            entries: grown.to,
        };
        self.open.edge = edge;
        self.open.closed = closing;
        self.open.journal.tree.extend(&grown);
        self.open.journal.mark(places.into_iter());
        {
            let mut live = self.open.shard.live();
            live.size = grown.to;
            live.checkpoint = checkpoint.clone();
            live.closed = closing;
            if let Some(kept) = &mut live.kept {
                kept.at = self.open.at;
            }
        }
        self.shared.newest.send_replace(checkpoint.clone());
        Ok(Arc::new(Sealed {
            grown,
            checkpoint,
            before: self.open.shard.before,
        }))
    }

    fn sign(&self, grown: &Grown) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            shard: self.open.shard.name.clone(),
            size: grown.to,
            root: grown.root,
        };
        self.secret.sign(&checkpoint, (self.clock)())
    }

    fn make_durable(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let file = Arc::clone(&self.open.journal.file);
        if let Err(error) = file.write_all_at(bytes, self.open.at.offset) {
            let reason = error.to_string();
            tracing::error!(%reason, "the audit log could not be written");
            // Also made durable: a refused entry must not come back after a power failure.
            return match self.cut().and_then(|()| file.sync_data()) {
                Ok(()) => Err(AppendError::NotWritten { reason }),
                Err(error) => Err(self.give_up(format!("{reason}; then: {error}"))),
            };
        }
        file.sync_data().map_err(|error| {
            // The kernel reports a failed write-back once and may drop the data; a second fdatasync
            // could succeed without it.
            let error = self.give_up(format!("fdatasync: {error}"));
            let _ = self.cut();
            error
        })
    }

    /// Back to the last durable length.
    fn cut(&self) -> std::io::Result<()> {
        self.open.journal.file.set_len(self.open.at.offset)
    }

    pub(crate) fn give_up(&mut self, reason: String) -> AppendError {
        tracing::error!(%reason, "the audit log must be reopened");
        self.broken = Some(reason.clone());
        AppendError::MustReopen { reason }
    }
}

/// A shard as the writer begins it.
pub(crate) fn fresh(
    shard: ticket_format::tlog::ShardName,
    before: u64,
    journal: Journal,
    edge: Edge,
    at: Position,
    checkpoint: SignedCheckpoint,
) -> Open {
    let journal = Arc::new(journal);
    let shard = Shard {
        name: shard,
        before,
        live: std::sync::Mutex::new(crate::shard::Live {
            size: at.entries,
            checkpoint,
            cosigned: None,
            closed: false,
            pruned: false,
            kept: Some(Kept {
                journal: Arc::clone(&journal),
                at,
            }),
        }),
    };
    Open {
        shard: Arc::new(shard),
        journal,
        edge,
        at,
        closed: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_for_more_only_where_many_came_and_never_for_long() {
        let (send, mut queue) = mpsc::channel(32);
        for _ in 0..20 {
            let (reply, _) = oneshot::channel();
            assert!(send.try_send(Command::Close(reply)).is_ok());
        }
        let mut waiting = Waiting::default();
        assert!(waiting.next(Waiting::MANY - 1, &mut queue).is_none());
        assert_eq!(queue.len(), 20, "few are served at once");
        for _ in 0..Waiting::SLICES {
            assert!(waiting.next(Waiting::MANY, &mut queue).is_some());
        }
        assert!(waiting.next(Waiting::MANY, &mut queue).is_none());
        assert_eq!(queue.len(), 12, "who keeps coming is served next");
        while queue.try_recv().is_ok() {}
        assert!(Waiting::default().next(64, &mut queue).is_none());
    }
}
