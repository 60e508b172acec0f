//! Receipts, verified (TLOG-5).

use std::sync::{Mutex, PoisonError};

use super::checkpoint::{Checkpoint, CheckpointError, LogKey, SignedCheckpoint};
use super::merkle::{self, ProofError};
use super::note::NotANote;
use super::policy::{Unwitnessed, WitnessPolicy};
use super::proof::{NotAProof, Proof};
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

/// Verifies receipts of one log. It remembers the newest note that it verified: receipts of one commit
/// share it, and cost one signature check together.
#[derive(Debug)]
pub struct Verifier {
    key: LogKey,
    witnesses: Option<WitnessPolicy>,
    known: Mutex<Option<SignedCheckpoint>>,
}

impl Verifier {
    /// For a log, and for who demands witnesses the policy that must be satisfied.
    #[must_use]
    pub fn new(key: LogKey, witnesses: Option<WitnessPolicy>) -> Self {
        Self {
            key,
            witnesses,
            known: Mutex::new(None),
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
        let proof: Proof = receipt.proof.parse()?;
        let named = Checkpoint::of_note_unverified(&proof.checkpoint)?;
        let leaf = merkle::leaf_hash(&receipt.entry);
        merkle::verify_inclusion(&leaf, proof.index, named.size, &proof.path, &named.root)?;
        let checkpoint = self.checkpoint(&proof.checkpoint)?;
        let entry = Entry::from_cbor(&receipt.entry, limits::ENTRY)?;
        Ok(Logged {
            entry,
            index: proof.index,
            checkpoint,
        })
    }

    /// Verifies a checkpoint by itself.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn checkpoint(&self, note: &str) -> Result<SignedCheckpoint, ReceiptError> {
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(known) = known.filter(|known| known.note() == note) {
            return Ok(known);
        }
        let checkpoint = self.key.verify(note)?;
        if let Some(policy) = &self.witnesses {
            // rule: TLOG-8
            policy.check(&checkpoint)?;
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(checkpoint.clone());
        Ok(checkpoint)
    }
}
