//! Audit log: a Merkle tree of entries with group commit, published as static files.
//!
//! An entry is opaque here (one deterministic CBOR item, rule AUD-3); [`AuditLog::append`] answers only
//! when it is durable (AUD-1) and covered by a signed checkpoint (TLOG-3). Entries that wait together
//! are made durable by one `fdatasync`, with one checkpoint.
//!
//! # Directory
//! One directory per shard, `<n>/`, numbers rising from 1, each a tree of its own (C2SP tlog-tiles):
//!
//! - `journal`: the durable truth while the shard is open and until the shard after it is closed;
//! - `tile/<level>/<index>[.p/<width>]` and `tile/entries/<index>[.p/<width>]`: tiles and entry bundles;
//! - `checkpoint`: the newest published one, a signed note; the last one of a closed shard.
//!
//! Tiles and checkpoint are made from the journal within a second by another thread (TLOG-11). Indexes
//! are those of the log: entries before the shard and index in the shard. The proofs name the latter.

mod acts;
mod appended;
mod begin;
mod copy;
mod disk;
mod error;
mod file;
pub mod guard;
mod journal;
mod log;
mod open;
mod options;
mod proof;
mod publish;
mod reader;
mod receipts;
mod retention;
mod rotate;
mod shard;
mod side;
mod side_frame;
mod tiles;
mod tree;
mod verify;
pub mod witness;
mod writer;

#[cfg(test)]
mod tests;

pub use appended::Appended;
pub use copy::{CopiedFile, LogCopy};
pub use error::{AppendError, ConsistencyError, OpenError, ReadError};
pub use journal::TornTail;
pub use log::{AuditLog, Head};
pub use options::{Clock, Options, ShardEntries};
pub use publish::PublishError;
pub use reader::{Reader, Record};
pub use receipts::{Consistency, MAX_LINKS};
pub use side::{MAX_SIDE_RECORD, SideFile, SideHash, SideLoss, SideOptions, Written};
pub use verify::{Entries, Finding, Folder, Opened, ShardSummary, Source, Summary, What, verify};

/// Longest entry, in bytes (rule AUD-3). Entries are never empty.
pub const MAX_ENTRY_BYTES: usize = 60 * 1024;

/// Number that names an act, drawn by its caller; makes [`AuditLog::append_once`] idempotent.
pub type ActId = [u8; 16];
