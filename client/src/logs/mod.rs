//! The servers' logs: receipts are believed by their keys, and what was seen of them is remembered, so
//! that a server that rolls back or shows two histories is found out (`spec/protocol.md`, section 10).
//!
//! Of each log the checkpoints are kept that all others lead to. A receipt brings one; a server proves on
//! every new connection, and about once a second while receipts come in, that those that are kept are of
//! one log, and they become one. They stand in files that all processes of a node share.

mod failure;
mod link;
mod log;
mod store;
mod tips;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ticket_format::tlog::{Checkpoint, LogKey, Origin};

pub use failure::LogFailure;
pub use link::LoggedLink;
pub use log::Log;

use crate::error::Error;
use store::Store;

/// How often, at most, checkpoints are written while receipts come in, and are proven of one log.
const PACE: Duration = Duration::from_secs(1);

/// The logs that this process meets, and where their checkpoints are remembered. Clones share them.
#[derive(Clone, Debug)]
pub struct Logs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    pace: Duration,
    open: Mutex<HashMap<Origin, Arc<Log>>>,
}

/// What is remembered of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The log.
    pub origin: Origin,
    /// The largest checkpoint.
    pub newest: Option<Checkpoint>,
    /// How many smaller ones its server has still to prove of the same log; with the next connection.
    pub untied: usize,
    /// Why its server is used no more, where that is so.
    pub failed: Option<String>,
    /// Where it stands.
    pub path: PathBuf,
}

impl Logs {
    /// Remembers in this directory, which is made when there is something to remember.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self::paced(dir, PACE)
    }

    fn paced(dir: impl Into<PathBuf>, pace: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                store: Store::new(dir.into()),
                pace,
                open: Mutex::default(),
            }),
        }
    }

    /// Remembers beside a node's state, where all its jobs do. A wallet opens with that state alone, so
    /// whoever has a ticket has this place too.
    #[must_use]
    pub fn of_state(dir: &Path) -> Self {
        Self::at(dir.join("checkpoints"))
    }

    /// A log, by its pinned keys. `server` is its server's word in messages.
    #[must_use]
    pub fn log(&self, server: &'static str, key: &LogKey) -> Arc<Log> {
        let mut open = self
            .inner
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = open.get(&key.origin).filter(|log| log.key() == key);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let log = Arc::new(Log::new(
            server,
            key.clone(),
            self.inner.store.clone(),
            self.inner.pace,
        ));
        open.insert(key.origin.clone(), Arc::clone(&log));
        log
    }

    /// What is remembered, by origin.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn list(&self) -> Result<Vec<Remembered>, Error> {
        let found = self.inner.store.list()?.into_iter();
        let row = |(path, kept): (PathBuf, store::Kept)| Remembered {
            newest: kept.tips.newest().map(|known| known.checkpoint.clone()),
            untied: kept.tips.len().saturating_sub(1),
            failed: kept.failed.map(|failed| failed.why),
            origin: kept.origin,
            path,
        };
        Ok(found.map(row).collect())
    }

    /// Forgets a log: whatever its server shows next is taken for the log. True if it was remembered.
    ///
    /// # Errors
    /// The file system refused.
    pub fn forget(&self, origin: &Origin) -> Result<bool, Error> {
        let mut open = self
            .inner
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let there = self.inner.store.forget(origin)?;
        open.remove(origin);
        Ok(there)
    }
}

#[cfg(test)]
mod tests;
