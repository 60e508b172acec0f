//! What can go wrong with an open store.

use crate::types::{
    MAX_COMPARES, MAX_KEY_BYTES, MAX_PAGE_ENTRIES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES,
    MAX_WRITES, Revision,
};

/// A request that breaks a bound; a mistake of the caller, never worth a retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No write in a transaction. Reading needs no transaction.
    #[error("a transaction needs at least one write")]
    NoWrite,
    /// Too many writes.
    #[error("a transaction holds at most {MAX_WRITES} writes, this one has {found}")]
    TooManyWrites {
        /// Their number.
        found: usize,
    },
    /// Too many compares.
    #[error("a transaction holds at most {MAX_COMPARES} compares, this one has {found}")]
    TooManyCompares {
        /// Their number.
        found: usize,
    },
    /// Too many bytes in all.
    #[error("a transaction holds at most {MAX_TRANSACTION_BYTES} bytes, this one has {found}")]
    TransactionTooLong {
        /// Bytes of all keys and values.
        found: usize,
    },
    /// A key of no bytes.
    #[error("a key must not be empty")]
    EmptyKey,
    /// A key, or the bound of a range, beyond [`MAX_KEY_BYTES`].
    #[error("a key holds at most {MAX_KEY_BYTES} bytes, this one has {found}")]
    KeyTooLong {
        /// Its bytes.
        found: usize,
    },
    /// A value beyond [`MAX_VALUE_BYTES`].
    #[error("a value holds at most {MAX_VALUE_BYTES} bytes, this one has {found}")]
    ValueTooLong {
        /// Its bytes.
        found: usize,
    },
    /// The same key in two writes of one transaction.
    #[error("a transaction writes a key at most once, key {} comes twice", key.escape_ascii())]
    KeyWrittenTwice {
        /// The key.
        key: Vec<u8>,
    },
    /// A limit of 0 or beyond [`MAX_PAGE_ENTRIES`].
    #[error("a range read takes a limit of 1 to {MAX_PAGE_ENTRIES} entries, not {found}")]
    Limit {
        /// The limit.
        found: usize,
    },
    /// A watch after a revision that the store has not reached: it went back, for example because an
    /// old copy was put in its place.
    #[error(
        "asked to watch after revision {asked}, but the store is at {current}: it is older than what was already seen"
    )]
    FromTheFuture {
        /// The revision given.
        asked: Revision,
        /// The store's revision.
        current: Revision,
    },
}

/// Why a request to an open store was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request breaks a bound; nothing was tried.
    #[error("the store refused the request: {0}")]
    Invalid(#[from] Invalid),
    /// [`Store::close`](crate::Store::close) was called.
    #[error("the store is closed")]
    Closed,
    /// The commit failed and certainly nothing of it was kept. Safe to retry.
    #[error("nothing was committed, the store could not write: {reason}")]
    NotCommitted {
        /// What the disk said.
        reason: String,
    },
    /// The commit was cut off: it is kept whole or not at all, but which of the two is not known. Read
    /// before trying again.
    #[error("it is not known whether the commit was kept, read before retrying: {reason}")]
    OutcomeUnknown {
        /// What the disk said.
        reason: String,
    },
    /// The store is out of order for the moment (disk full, read error) and tries to recover at each
    /// request. Nothing was tried. Safe to retry.
    #[error("the store is not available now, retry later: {reason}")]
    Unavailable {
        /// What the disk said.
        reason: String,
    },
    /// The disk failed to make data durable, or the writer died; this process can no longer know what
    /// is on the disk. Only a new start, which checks the file, can go on.
    #[error("the store must be reopened, restart this program: {reason}")]
    MustReopen {
        /// What happened.
        reason: String,
    },
}
