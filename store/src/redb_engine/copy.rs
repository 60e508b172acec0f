//! Snapshots, and stores made of them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::ReadTransaction;

use super::file::{self, Disk};
use super::schema::{self, COMPACTED, COUNTERS, ENTRIES, REVISION};
use super::{OpenError, RedbStore, Shared, reader};
use crate::error::Error;
use crate::snapshot::{Snapshot, SnapshotSource};
use crate::types::{Entry, KeyRange, MAX_VALUE_BYTES, Page, Revision, check_key};

/// Entries that one commit of a new store writes.
const BATCH: usize = 4_096;

struct Source {
    txn: ReadTransaction,
    shared: Arc<Shared>,
}

impl SnapshotSource for Source {
    fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, Error> {
        reader::range(&self.txn, range, limit).map_err(|error| self.shared.read_failed_with(&error))
    }
}

pub(super) async fn snapshot(shared: &Arc<Shared>) -> Result<Snapshot, Error> {
    let shared = Arc::clone(shared);
    let begun = tokio::task::spawn_blocking(move || {
        let txn = shared.begin_read()?;
        Snapshot::new(Box::new(Source { txn, shared }))
    });
    begun.await.unwrap_or_else(|error| {
        Err(Error::Unavailable {
            reason: format!("a read did not finish: {error}"),
        })
    })
}

/// Why a store was not made of a copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError<E> {
    /// The file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was to be copied is no state of a store.
    #[error("the copy of the store does not hold together: {0}")]
    Content(&'static str),
    /// It could not be read.
    #[error(transparent)]
    Source(E),
}

impl RedbStore {
    /// Makes a store at `path`, where none is, that is at `revision` and holds these entries, which come in
    /// key order; it keeps no history for watches. Its name is there when all of it is durable. Blocks.
    ///
    /// # Errors
    /// [`CopyError`]; then nothing is there.
    pub fn create_copy<E>(
        path: &Path,
        revision: Revision,
        next: impl FnMut() -> Result<Option<(Vec<u8>, Entry)>, E>,
    ) -> Result<(), CopyError<E>> {
        let (file, draft) = file::create_draft(path)?;
        let disk = Disk::new(file);
        let written = fill(&disk, &draft, revision, next)
            .and_then(|()| Ok(file::publish_draft(&draft, path)?));
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        written
    }
}

fn fill<E>(
    disk: &Disk,
    draft: &Path,
    revision: Revision,
    mut next: impl FnMut() -> Result<Option<(Vec<u8>, Entry)>, E>,
) -> Result<(), CopyError<E>> {
    let failed = |error: redb::Error| {
        CopyError::Open(OpenError::io(draft, io::Error::other(error.to_string())))
    };
    let database = schema::open_database(disk).map_err(|error| failed(error.into()))?;
    schema::initialize(&database).map_err(failed)?;
    let mut last = Vec::new();
    loop {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some((key, entry)) = next().map_err(CopyError::Source)? else {
                break;
            };
            let wrong = if check_key(&key).is_err() || entry.value.len() > MAX_VALUE_BYTES {
                Some("an entry is out of bounds")
            } else if key <= last {
                Some("its entries are not in order")
            } else if entry.revision > revision {
                Some("an entry is younger than the store")
            } else {
                None
            };
            if let Some(wrong) = wrong {
                return Err(CopyError::Content(wrong));
            }
            last.clone_from(&key);
            batch.push((key, entry));
        }
        let done = batch.len() < BATCH;
        let write = || -> Result<(), redb::Error> {
            let txn = schema::begin_durable(&database)?;
            {
                let mut entries = txn.open_table(ENTRIES)?;
                for (key, entry) in &batch {
                    let value = (entry.revision.0, entry.value.as_slice());
                    entries.insert(key.as_slice(), value)?;
                }
                let mut counters = txn.open_table(COUNTERS)?;
                for name in [REVISION, COMPACTED] {
                    counters.insert(name, revision.0)?;
                }
            }
            txn.commit()?;
            Ok(())
        };
        write().map_err(failed)?;
        if done {
            return Ok(());
        }
    }
}
