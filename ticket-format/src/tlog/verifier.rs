//! Receipts, verified (TLOG-5).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::checkpoint::{Checkpoint, CheckpointError, LogKey, SignedCheckpoint};
use super::merkle::{self, ProofError};
use super::note::NotANote;
use super::policy::{Unwitnessed, WitnessPolicy};
use super::proof::{self, NotAProof};
use crate::cbor::{Decode as _, DecodeError};
use crate::entry::Entry;
use crate::limits;
use crate::messages::Receipt;

/// An entry that stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The entry.
    pub entry: Entry,
    /// Its index in its shard.
    pub index: u64,
    /// The checkpoint that covers it.
    pub checkpoint: SignedCheckpoint,
}

/// Why a receipt proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The entry's shape.
    #[error("its entry is malformed: {0}")]
    Entry(#[from] DecodeError),
    /// The proof's form.
    #[error(transparent)]
    Proof(#[from] NotAProof),
    /// The checkpoint's form.
    #[error(transparent)]
    Note(#[from] NotANote),
    /// The inclusion.
    #[error("its entry is not in the log: {0}")]
    Inclusion(#[from] ProofError),
    /// The log's signatures.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The witnesses.
    #[error(transparent)]
    Unwitnessed(#[from] Unwitnessed),
}

/// Notes that are remembered: callers that wait together have answers of a few commits in their hands.
const KNOWN: usize = 8;

/// Verifies receipts of one log. It remembers the last notes that it verified: receipts of one commit
/// share one, and cost one signature check together.
#[derive(Debug)]
pub struct Verifier {
    key: LogKey,
    witnesses: Option<WitnessPolicy>,
    /// The newest first.
    known: Mutex<VecDeque<SignedCheckpoint>>,
    /// Held while signatures are checked: receipts of one commit come at once.
    checking: Mutex<()>,
}

impl Verifier {
    /// For a log, and for who demands witnesses the policy that must be satisfied.
    #[must_use]
    pub fn new(key: LogKey, witnesses: Option<WitnessPolicy>) -> Self {
        Self {
            key,
            witnesses,
            known: Mutex::new(VecDeque::with_capacity(KNOWN)),
            checking: Mutex::default(),
        }
    }

    /// The log's keys.
    #[must_use]
    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// Verifies inclusion, both signatures and, where they are demanded, the witnesses' cosignatures.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(&self, receipt: &Receipt) -> Result<Logged, ReceiptError> {
        // rule: TLOG-5
        let (index, path, note) = proof::parts(&receipt.proof)?;
        let leaf = merkle::leaf_hash(&receipt.entry);
        let included = |named: &Checkpoint| {
            merkle::verify_inclusion(&leaf, index, named.size, &path, &named.root)
        };
        let checkpoint = match self.remembered(note) {
            Some(known) => {
                included(known.checkpoint())?;
                known
            }
            // What costs less first: who sends nonsense does not get two signatures checked.
            None => {
                included(&Checkpoint::of_note_unverified(note)?)?;
                self.verified(note)?
            }
        };
        let entry = Entry::from_cbor(&receipt.entry, limits::ENTRY)?;
        Ok(Logged {
            entry,
            index,
            checkpoint,
        })
    }

    /// Verifies a checkpoint by itself.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn checkpoint(&self, note: &str) -> Result<SignedCheckpoint, ReceiptError> {
        match self.remembered(note) {
            Some(known) => Ok(known),
            None => self.verified(note),
        }
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<SignedCheckpoint>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checkpoint of a note that was verified, byte for byte.
    fn remembered(&self, note: &str) -> Option<SignedCheckpoint> {
        let known = self.known();
        known.iter().find(|known| known.note() == note).cloned()
    }

    fn verified(&self, note: &str) -> Result<SignedCheckpoint, ReceiptError> {
        let _checking = self.checking.lock();
        // Whoever was before may have checked the same one.
        if let Some(known) = self.remembered(note) {
            return Ok(known);
        }
        let checkpoint = self.key.verify(note)?;
        if let Some(policy) = &self.witnesses {
            // rule: TLOG-8
            policy.check(&checkpoint)?;
        }
        let mut known = self.known();
        known.truncate(KNOWN - 1);
        known.push_front(checkpoint.clone());
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::messages::samples::{at, checkpoint, log_secret};

    #[test]
    fn whoever_waits_together_for_one_note_checks_its_signatures_once() {
        // rule: TLOG-5
        const CALLERS: usize = 8;
        let secret = log_secret();
        let verifier = Verifier::new(secret.key().clone(), None);
        let together = Barrier::new(CALLERS);
        let notes: Vec<_> = (1..=4)
            .map(|size| secret.sign(&checkpoint(size), at(9)))
            .collect();
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    for note in &notes {
                        together.wait();
                        let verified = verifier.checkpoint(note.note());
                        assert_eq!(verified.as_ref(), Ok(note));
                    }
                });
            }
        });
        // One that was checked twice would stand there twice.
        let known: Vec<_> = verifier.known().drain(..).collect();
        assert!(known.iter().eq(notes.iter().rev()), "{known:?}");
    }
}
