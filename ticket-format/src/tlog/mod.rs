//! The transparency log's bytes (`spec/protocol.md`, section 10): hashes of Merkle trees, signed
//! checkpoints, proofs, witnesses. Formats are those of C2SP: signed-note, tlog-checkpoint,
//! tlog-cosignature, tlog-proof, tlog-policy.

mod checkpoint;
mod continuation;
pub mod merkle;
mod names;
pub mod note;
mod policy;
pub mod proof;
mod verifier;

pub use checkpoint::{
    BadSeed, Checkpoint, CheckpointError, LogKey, LogSecret, SignedCheckpoint, WitnessSecret,
};
pub use continuation::{ContinuationError, Continued, verify_continuation, verify_continuations};
pub use merkle::{Hash, ProofError};
pub use names::{NotAName, Origin, ShardName};
pub use note::{NotANote, NotAVkey, SignatureLine, Vkey, VkeyKind};
pub use policy::{PolicyError, PolicyFault, Unwitnessed, WitnessPolicy};
pub use proof::{NotAProof, Proof};
pub use verifier::{Logged, ReceiptError, Verifier};

#[cfg(test)]
mod tests;
