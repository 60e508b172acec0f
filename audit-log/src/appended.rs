//! The answer to an append.

use std::fmt;
use std::sync::Arc;

use ticket_format::tlog::{SignedCheckpoint, proof};

use crate::proof::Prover;
use crate::shard::{Journal, Shard};
use crate::tree::Grown;

/// A durable batch, from which the proofs of its entries are made.
pub(crate) struct Sealed {
    pub(crate) grown: Grown,
    pub(crate) checkpoint: SignedCheckpoint,
    /// Entries of the log before the shard.
    pub(crate) before: u64,
}

/// The place of a durable entry in the log.
#[derive(Clone)]
pub struct Appended {
    /// Its index in the log, from 0.
    pub index: u64,
    /// Whether it was already there ([`AuditLog::append_once`](crate::AuditLog::append_once) only).
    pub repeated: bool,
    from: From,
}

#[derive(Clone)]
enum From {
    Batch(Arc<Sealed>),
    /// Taken when the answer is made: the journal may go before its proof is asked for. (TLOG-4)
    Shard {
        before: u64,
        journal: Option<Arc<Journal>>,
        checkpoint: SignedCheckpoint,
    },
}

impl Appended {
    pub(crate) fn in_batch(index: u64, repeated: bool, batch: Arc<Sealed>) -> Self {
        Self {
            index,
            repeated,
            from: From::Batch(batch),
        }
    }

    pub(crate) fn known(index: u64, shard: &Shard) -> Self {
        let live = shard.live();
        let journal = live.kept.as_ref().map(|kept| Arc::clone(&kept.journal));
        Self {
            index,
            repeated: true,
            from: From::Shard {
                before: shard.before,
                journal,
                checkpoint: live.checkpoint.clone(),
            },
        }
    }

    /// The signed checkpoint that covers the entry.
    #[must_use]
    pub fn checkpoint(&self) -> SignedCheckpoint {
        match &self.from {
            From::Batch(batch) => batch.checkpoint.clone(),
            From::Shard { checkpoint, .. } => checkpoint.clone(),
        }
    }

    /// The entry's proof (C2SP tlog-proof) under [`Appended::checkpoint`]. Its text is made here and now:
    /// a few microseconds, no I/O. (TLOG-3)
    #[must_use]
    pub fn proof(&self) -> String {
        match &self.from {
            From::Batch(batch) => {
                let index = self.index - batch.before;
                let path = batch.grown.inclusion(index).unwrap_or_default();
                proof::text(index, &path, batch.checkpoint.note())
            }
            From::Shard {
                before,
                journal,
                checkpoint,
            } => {
                let index = self.index - before;
                // Acts are known only as long as their journal is kept.
                let path = journal.as_ref().and_then(|journal| {
                    let size = checkpoint.checkpoint().size;
                    Prover::new(&journal.tree, size).inclusion(index).ok()
                });
                proof::text(index, &path.unwrap_or_default(), checkpoint.note())
            }
        }
    }
}

/// Of the same entry.
impl PartialEq for Appended {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.repeated) == (other.index, other.repeated)
    }
}

impl Eq for Appended {}

impl fmt::Debug for Appended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appended")
            .field("index", &self.index)
            .field("repeated", &self.repeated)
            .finish_non_exhaustive()
    }
}
