//! Watches: the changes of a store, in order.

use std::fmt;

use crate::contract::BoxFuture;
use crate::error::Error;
use crate::types::Revision;

/// What happened to one key in a commit.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// The key got this value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// The key, which existed, was removed.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value } => f
                .debug_struct("Put")
                .field("key", key)
                .field("value_bytes", &value.len())
                .finish(),
            Self::Delete { key } => f.debug_struct("Delete").field("key", key).finish(),
        }
    }
}

/// What a [`Watch`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// One commit, with those of its changes that are watched, in the order of its writes. Commits
    /// that touch nothing watched are not reported.
    Committed {
        /// The commit.
        revision: Revision,
        /// Never empty.
        changes: Vec<Change>,
    },
    /// Resync: changes that were asked for are no longer kept. Read the range again and watch after
    /// the revision of that page. The watch has ended.
    Compacted {
        /// The oldest revision after which a watch can still start.
        oldest: Revision,
    },
}

/// The engine's side of a [`Watch`].
pub trait WatchSource: Send {
    /// As [`Watch::next`]; must be cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<WatchEvent>, Error>>;
}

/// An ordered stream of changes. A slow watcher costs no memory; it may be told to resync.
pub struct Watch {
    source: Box<dyn WatchSource>,
}

impl Watch {
    /// Wraps an engine's source.
    pub fn new(source: impl WatchSource + 'static) -> Self {
        Self {
            source: Box::new(source),
        }
    }

    /// The next event; waits for one. `None` when the store was closed or after
    /// [`WatchEvent::Compacted`]. Cancel-safe: a dropped call loses no event.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::Unavailable`] the call may be repeated and goes on without a gap.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, Error> {
        self.source.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
