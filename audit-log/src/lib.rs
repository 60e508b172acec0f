//! Append-only audit records with group commit.
//!
//! The door is narrow, because a Merkle log will stand behind it later: append, read, verify. An entry
//! is opaque here (one deterministic CBOR item, rule AUD-3); [`AuditLog::append`] answers only when it
//! is durable (AUD-1). Entries that wait together are made durable by one `fdatasync`.
//!
//! # File
//! A CBOR sequence (RFC 8742): a header, then records and seals.
//!
//! - Header: `["postern audit log", 1, log id (16 random bytes), check]`; `check` is the first 8 bytes of
//!   the SHA-256 of what stands before it.
//! - Record: `[index, chain, act id / null, entry]`. Indexes count from 0 without a gap. `chain` is the
//!   SHA-256 of `postern/1 audit chain`, the previous chain, the index (8 bytes, big-endian), 0 or 1 and
//!   the act id, and the SHA-256 of the entry; so it fixes everything up to here. The first record's
//!   previous chain is the SHA-256 of the header.
//! - Seal: `[number of records, last chain, log id]`, written after each `fdatasync`: every record before
//!   it was durable and may have been acknowledged.
//!
//! A crash can leave a torn tail, and only behind the last seal. [`AuditLog::open`] cuts such a tail
//! and says so; anything broken before a seal is damage and is refused. The one gap: a power failure
//! can lose the last seal (it becomes durable with the next batch or at close), and damage to that one
//! batch then looks torn. Cutting whole records off the end leaves a shorter valid log; only a copy of
//! the head kept elsewhere shows that.

mod acts;
mod error;
mod file;
mod format;
mod log;
mod reader;
mod scan;
mod side;
mod side_frame;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{AppendError, OpenError, ReadError};
pub use log::{Appended, AuditLog, Options};
pub use reader::{Reader, Record};
pub use scan::TornTail;
pub use side::{MAX_SIDE_RECORD, SideFile, SideHash, SideLoss, SideOptions, Written};
pub use verify::{Summary, verify};

/// Longest entry, in bytes (rule AUD-3). Entries are never empty.
pub const MAX_ENTRY_BYTES: usize = 60 * 1024;

/// Number that names an act, drawn by its caller; makes [`AuditLog::append_once`] idempotent.
pub type ActId = [u8; 16];

/// Value of the hash chain at a record.
pub type Chain = [u8; 32];
