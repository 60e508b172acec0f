//! Ordered key-value store with compare-and-commit transactions, revisions and watch.
//!
//! The broker and the key server keep here what changes rarely: launches, nodes, denials, datasets,
//! KEKs, statements. The door is the [`Store`] trait; behind it stands one engine ([`RedbStore`]) in
//! one file. Every engine must pass the functions of module `suite` (feature `test-suite`).
//!
//! The semantic, the same for every engine:
//! - One global [`Revision`], 0 when empty, raised by one by each commit that changes something.
//! - [`Store::commit`] is all or nothing, serializable, and answers only when the result is durable.
//! - [`Store::range`] reads one snapshot and says at which revision.
//! - [`Store::watch`] gives every change after a revision, in order, whole commits at a time, or says
//!   that the history is no longer kept and the watcher must read again.

pub mod config;
mod contract;
mod error;
pub mod files;
pub mod harden;
pub mod hooks;
pub mod locked;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
mod redb_engine;
pub mod root;
pub mod sandbox;
pub mod sealed;
mod snapshot;
#[cfg(feature = "test-suite")]
pub mod suite;
mod types;
mod watch;

pub use contract::{BoxFuture, Store};
pub use error::{Error, Invalid};
pub use redb_engine::{CopyError, History, OpenError, Options, RedbStore};
pub use snapshot::{Snapshot, SnapshotSource};
pub use types::{
    Compare, Entry, KeyRange, MAX_COMPARES, MAX_KEY_BYTES, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES,
    MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, MAX_WRITES, Outcome, Page, Revision, Transaction,
    Write,
};
pub use watch::{Change, Watch, WatchEvent, WatchSource};
