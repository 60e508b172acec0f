//! The writer thread: takes what waits, judges it in one redb transaction, makes it durable with one
//! commit, answers all.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use redb::{ReadableTable, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::file::Disk;
use super::schema::{
    self, CHANGES, COMPACTED, COUNTERS, ENTRIES, HISTORY_BYTES, REVISION, StoredChange,
};
use super::{Command, History, Pending, Shared, Slot, open};
use crate::error::Error;
use crate::types::{MAX_TRANSACTION_BYTES, Outcome, Revision, Transaction, Write};

/// Most transactions of one group commit; with [`MAX_TRANSACTION_BYTES`] it bounds its memory.
const GROUP: usize = 256;
/// A group takes no further transaction once it holds this many bytes.
const GROUP_BYTES: usize = 4 * MAX_TRANSACTION_BYTES;

pub(super) struct Writer {
    path: PathBuf,
    history: History,
    disk: Disk,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Command>,
}

/// A group that was judged and, if it changes anything, committed.
struct Judged {
    outcomes: Vec<Outcome>,
    revision: Revision,
}

/// A group that failed.
struct Failed {
    error: redb::Error,
    /// What the group would have been; known when the failure came in the final commit.
    judged: Option<Judged>,
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            judged: None,
        }
    }
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        history: History,
        disk: Disk,
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            history,
            disk,
            shared,
            queue,
        }
    }

    pub(super) fn run(mut self) {
        let mut closing: Vec<oneshot::Sender<()>> = Vec::new();
        while let Some(mut command) = self.queue.blocking_recv() {
            let mut group = Vec::new();
            let mut bytes = 0;
            loop {
                match command {
                    Command::Commit(pending) => {
                        bytes += size(&pending.transaction);
                        group.push(pending);
                    }
                    Command::Recover => {
                        let _ = self.ensure_open();
                    }
                    Command::Close(reply) => {
                        // What is already in the queue is still served; then it reports its end.
                        self.shared.closing.store(true, Ordering::Release);
                        self.queue.close();
                        closing.push(reply);
                    }
                }
                if group.len() >= GROUP || bytes >= GROUP_BYTES {
                    break;
                }
                match self.queue.try_recv() {
                    Ok(next) => command = next,
                    Err(_) => break,
                }
            }
            if !group.is_empty() {
                self.serve(group);
            }
        }
        self.shut();
        for reply in closing {
            let _ = reply.send(());
        }
    }

    fn serve(&self, group: Vec<Pending>) {
        let result = self.commit(group.iter().map(|pending| &pending.transaction));
        match result {
            Ok(outcomes) => {
                for (pending, outcome) in group.into_iter().zip(outcomes) {
                    // A caller that left does not need the answer.
                    let _ = pending.reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                for pending in group {
                    let _ = pending.reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn commit<'a>(
        &self,
        group: impl Iterator<Item = &'a Transaction>,
    ) -> Result<Vec<Outcome>, Error> {
        self.ensure_open()?;
        let txn = match &*self
            .shared
            .slot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Slot::Open(database) => schema::begin_durable(database),
            Slot::Out(error) => return Err(error.clone()),
        };
        let result = txn
            .map_err(Failed::from)
            .and_then(|txn| self.judge(txn, group));
        match result {
            Ok(judged) => {
                self.publish(judged.revision);
                Ok(judged.outcomes)
            }
            Err(failed) => self.settle(failed),
        }
    }

    /// Judges the group one after another, each on the state the one before left.
    fn judge<'a>(
        &self,
        txn: WriteTransaction,
        group: impl Iterator<Item = &'a Transaction>,
    ) -> Result<Judged, Failed> {
        let mut outcomes = Vec::new();
        let (before, revision);
        {
            let mut entries = txn.open_table(ENTRIES)?;
            let mut changes = txn.open_table(CHANGES)?;
            let mut counters = txn.open_table(COUNTERS)?;
            before = Revision(schema::counter(&counters, REVISION)?);
            let mut history_bytes = schema::counter(&counters, HISTORY_BYTES)?;
            let mut now = before;
            for transaction in group {
                if let Some(key) = conflict(&entries, transaction)? {
                    outcomes.push(Outcome::Conflict { key });
                    continue;
                }
                let next = now.next();
                let mut position = 0;
                for write in &transaction.write {
                    if apply(&mut entries, write, next)? {
                        let value = match write {
                            Write::Put { value, .. } => Some(value.as_slice()),
                            Write::Delete { .. } => None,
                        };
                        changes.insert((next.0, position), (write.key(), value))?;
                        history_bytes += history_size(write.key(), value);
                        position += 1;
                    }
                }
                if position > 0 {
                    now = next;
                }
                outcomes.push(Outcome::Committed(now));
            }
            revision = now;
            if revision != before {
                let compacted =
                    self.compact(&mut changes, &counters, revision, &mut history_bytes)?;
                counters.insert(REVISION, revision.0)?;
                counters.insert(COMPACTED, compacted)?;
                counters.insert(HISTORY_BYTES, history_bytes)?;
            }
        }
        let judged = Judged { outcomes, revision };
        if revision == before {
            txn.abort()?;
            return Ok(judged);
        }
        match txn.commit() {
            Ok(()) => Ok(judged),
            Err(error) => Err(Failed {
                error: error.into(),
                judged: Some(judged),
            }),
        }
    }

    /// Drops the oldest history beyond the bounds; gives the highest revision dropped so far.
    fn compact(
        &self,
        changes: &mut Table<'_, (u64, u32), StoredChange>,
        counters: &impl ReadableTable<&'static str, u64>,
        revision: Revision,
        history_bytes: &mut u64,
    ) -> Result<u64, redb::StorageError> {
        let mut compacted = schema::counter(counters, COMPACTED)?;
        loop {
            let (oldest, bytes) = match changes.first()? {
                None => return Ok(compacted),
                Some((at, change)) => {
                    let (key, value) = change.value();
                    (at.value(), history_size(key, value))
                }
            };
            let too_old = revision.0 - oldest.0 >= self.history.revisions.max(1);
            let too_large = *history_bytes > self.history.bytes && oldest.0 < revision.0;
            // A commit of which one change is dropped is dropped whole.
            if !too_old && !too_large && oldest.0 > compacted {
                return Ok(compacted);
            }
            changes.remove(oldest)?;
            *history_bytes = history_bytes.saturating_sub(bytes);
            compacted = oldest.0;
        }
    }

    /// After a failure: reopens the database and finds out what became of the group.
    fn settle(&self, failed: Failed) -> Result<Vec<Outcome>, Error> {
        let reason = failed.error.to_string();
        tracing::error!(store = %self.path.display(), %reason, "a commit failed");
        let before = self.shared.progress.borrow().revision;
        self.replace(Slot::Out(Error::Unavailable {
            reason: reason.clone(),
        }));
        match self.ensure_open() {
            // The failure hit after the decisive write; the reopening made it durable.
            Ok(Some(found)) if found != before => match failed.judged {
                Some(judged) if judged.revision == found => Ok(judged.outcomes),
                _ => Err(Error::OutcomeUnknown { reason }),
            },
            Ok(_) => Err(Error::NotCommitted { reason }),
            // Without a final commit begun there is nothing that could have been kept.
            Err(Error::Unavailable { .. }) if failed.judged.is_none() => {
                Err(Error::NotCommitted { reason })
            }
            Err(_) => Err(Error::OutcomeUnknown { reason }),
        }
    }

    /// Opens the database again if it is out of order. Gives its revision if it did so.
    fn ensure_open(&self) -> Result<Option<Revision>, Error> {
        let healthy = match &*self
            .shared
            .slot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Slot::Out(Error::Unavailable { .. }) => false,
            Slot::Out(error) => return Err(error.clone()),
            // After a failed read redb refuses everything until it is reopened.
            Slot::Open(_) => !self.shared.read_failed.swap(false, Ordering::AcqRel),
        };
        if healthy && !self.disk.sync_failed() {
            return Ok(None);
        }
        // Closes the old database, so that reads still running on it end.
        self.replace(Slot::Out(Error::Unavailable {
            reason: "the store is being reopened".to_owned(),
        }));
        if self.disk.sync_failed() {
            let error = Error::MustReopen {
                reason: "the disk failed to make data durable".to_owned(),
            };
            self.replace(Slot::Out(error.clone()));
            return Err(error);
        }
        match open::reopen(&self.path, &self.disk) {
            Ok((database, revision)) => {
                tracing::warn!(store = %self.path.display(), %revision, "the store was reopened after a failure");
                self.shared.read_failed.store(false, Ordering::Release);
                self.replace(Slot::Open(database));
                self.publish(revision);
                Ok(Some(revision))
            }
            Err(error) => {
                let error = if self.disk.sync_failed() {
                    Error::MustReopen {
                        reason: error.to_string(),
                    }
                } else {
                    Error::Unavailable {
                        reason: error.to_string(),
                    }
                };
                self.replace(Slot::Out(error.clone()));
                Err(error)
            }
        }
    }

    fn publish(&self, revision: Revision) {
        self.shared.progress.send_if_modified(|progress| {
            let changed = progress.revision != revision;
            progress.revision = revision;
            changed
        });
    }

    fn replace(&self, slot: Slot) {
        let mut place = self
            .shared
            .slot
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, slot);
        drop(place);
        if let Slot::Open(database) = old
            && let Err(error) = database.close()
        {
            tracing::warn!(store = %self.path.display(), %error, "the store's file did not close cleanly");
        }
    }

    fn shut(self) {
        self.replace(Slot::Out(Error::Closed));
        self.shared
            .progress
            .send_modify(|progress| progress.closed = true);
    }
}

/// The key of the first compare that does not hold.
fn conflict(
    entries: &Table<'_, &'static [u8], (u64, &'static [u8])>,
    transaction: &Transaction,
) -> Result<Option<Vec<u8>>, redb::StorageError> {
    for compare in &transaction.compare {
        let found = entries
            .get(compare.key())?
            .map(|entry| Revision(entry.value().0));
        if !compare.holds(found) {
            return Ok(Some(compare.key().to_vec()));
        }
    }
    Ok(None)
}

/// Applies one write; says whether it changed anything.
fn apply(
    entries: &mut Table<'_, &'static [u8], (u64, &'static [u8])>,
    write: &Write,
    revision: Revision,
) -> Result<bool, redb::StorageError> {
    match write {
        Write::Put { key, value } => {
            entries.insert(key.as_slice(), (revision.0, value.as_slice()))?;
            Ok(true)
        }
        Write::Delete { key } => Ok(entries.remove(key.as_slice())?.is_some()),
    }
}

fn history_size(key: &[u8], value: Option<&[u8]>) -> u64 {
    (key.len() + value.map_or(0, <[u8]>::len)) as u64
}

fn size(transaction: &Transaction) -> usize {
    let of = |write: &Write| match write {
        Write::Put { key, value } => key.len() + value.len(),
        Write::Delete { key } => key.len(),
    };
    transaction.write.iter().map(of).sum()
}
