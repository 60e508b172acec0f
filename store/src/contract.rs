//! The door of the store: what callers use and every engine implements.

use std::future::Future;
use std::pin::Pin;

use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::types::{Entry, KeyRange, Outcome, Page, Revision, Transaction};
use crate::watch::Watch;

/// A boxed future, so that [`Store`] can be used as `Arc<dyn Store>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An ordered key-value store. Cheap to share: `Arc<dyn Store>`.
///
/// Dropping a read's future has no effect. Dropping the future of [`Store::commit`] gives up the
/// answer, not the commit, which may still happen. Futures must be polled inside a tokio runtime.
pub trait Store: Send + Sync {
    /// The entry of `key` in the last durable state.
    ///
    /// # Errors
    /// [`Error`]; a key out of bounds is [`Error::Invalid`].
    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Entry>, Error>>;

    /// The first `limit` entries (1 to [`MAX_PAGE_ENTRIES`](crate::MAX_PAGE_ENTRIES)) of `range`, in
    /// key order, from one snapshot. Pages of different calls come from different snapshots.
    ///
    /// # Errors
    /// [`Error`].
    fn range(&self, range: KeyRange, limit: usize) -> BoxFuture<'_, Result<Page, Error>>;

    /// The last durable state, to be read as a whole while commits go on.
    ///
    /// # Errors
    /// [`Error`].
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, Error>>;

    /// Tries `transaction` and answers when the outcome is durable: also a conflict is only reported
    /// against durable state.
    ///
    /// # Errors
    /// [`Error`]; with [`Error::OutcomeUnknown`] and [`Error::MustReopen`] the commit may have been kept.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, Error>>;

    /// The changes of keys that begin with `prefix` (empty: all), of every commit after `after`: first
    /// those already made, then those to come. Give the revision of a [`Page`] to go on from it.
    ///
    /// # Errors
    /// [`Error`]; a revision not reached yet is refused as
    /// [`Invalid::FromTheFuture`](crate::Invalid::FromTheFuture). A history no longer kept is not an
    /// error but the event [`WatchEvent::Compacted`](crate::WatchEvent::Compacted).
    fn watch(&self, prefix: &[u8], after: Revision) -> BoxFuture<'_, Result<Watch, Error>>;

    /// The revision of the last durable commit.
    ///
    /// # Errors
    /// [`Error`].
    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>>;

    /// Finishes the commits already asked for, ends the watches and releases the engine (for a file:
    /// its lock). Later requests get [`Error::Closed`]. Closing again has no effect.
    fn close(&self) -> BoxFuture<'_, ()>;
}
