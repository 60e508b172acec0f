//! The tables in the redb file, and opening them.

use std::path::Path;

use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, WriteTransaction,
};

use super::OpenError;
use super::file::Disk;
use crate::types::Revision;

/// Key to (revision of its entry, value).
pub(super) const ENTRIES: TableDefinition<'_, &[u8], (u64, &[u8])> =
    TableDefinition::new("entries");
/// Key and value of a change; no value for a delete.
pub(super) type StoredChange = (&'static [u8], Option<&'static [u8]>);
/// (Revision, position in its commit) to change: the watch history.
pub(super) const CHANGES: TableDefinition<'_, (u64, u32), StoredChange> =
    TableDefinition::new("changes");
/// Counters by name, see the constants below.
pub(super) const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("postern-store");

/// Version of this layout; written when the file is made.
pub(super) const FORMAT: &str = "format";
/// Revision of the last commit.
pub(super) const REVISION: &str = "revision";
/// Highest revision of which changes were dropped; a watch may start after it.
pub(super) const COMPACTED: &str = "compacted";
/// Bytes of keys and values in the watch history.
pub(super) const HISTORY_BYTES: &str = "history-bytes";

/// The only layout so far.
pub(super) const FORMAT_VERSION: u64 = 1;

/// redb's page cache; the store is small, so more would not help.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Opens the database on `disk` and verifies the checksum of every page. Makes an empty one if the
/// file is empty.
pub(super) fn open_database(disk: &Disk) -> Result<Database, redb::DatabaseError> {
    redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(disk.clone())
}

/// Writes the tables and the format record into an empty database.
pub(super) fn initialize(database: &Database) -> Result<(), redb::Error> {
    let txn = begin_durable(database)?;
    {
        txn.open_table(ENTRIES)?;
        txn.open_table(CHANGES)?;
        let mut counters = txn.open_table(COUNTERS)?;
        counters.insert(FORMAT, FORMAT_VERSION)?;
        for name in [REVISION, COMPACTED, HISTORY_BYTES] {
            counters.insert(name, 0)?;
        }
    }
    txn.commit()?;
    Ok(())
}

/// Begins a write transaction whose commit is durable when it returns. Two-phase: with one phase a
/// crash inside the fsync, of pages whose content an attacker chose, could leave half a commit that
/// passes redb's (not cryptographic) checksum.
pub(super) fn begin_durable(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(redb::Durability::Immediate)?;
    txn.set_two_phase_commit(true);
    Ok(txn)
}

/// Checks that the database is a store of this version; gives its revision.
pub(super) fn check_format(database: &Database, path: &Path) -> Result<Revision, OpenError> {
    let read = || -> Result<(bool, Option<u64>, Option<u64>), redb::Error> {
        let txn = database.begin_read()?;
        if !txn
            .list_tables()?
            .any(|table| table.name() == COUNTERS.name())
        {
            return Ok((false, None, None));
        }
        let counters = txn.open_table(COUNTERS)?;
        let format = counters.get(FORMAT)?.map(|value| value.value());
        if format == Some(FORMAT_VERSION) {
            txn.open_table(ENTRIES)?;
            txn.open_table(CHANGES)?;
        }
        let revision = counters.get(REVISION)?.map(|value| value.value());
        Ok((true, format, revision))
    };
    match read().map_err(|error| OpenError::damaged(path, &error))? {
        (false, ..) | (true, None, _) => Err(OpenError::NotAStore {
            path: path.to_owned(),
        }),
        (true, Some(FORMAT_VERSION), Some(revision)) => Ok(Revision(revision)),
        (true, Some(FORMAT_VERSION), None) => Err(OpenError::Damaged {
            path: path.to_owned(),
            reason: "the record of the last revision is missing".to_owned(),
        }),
        (true, Some(found), _) => Err(OpenError::Version {
            path: path.to_owned(),
            found,
        }),
    }
}

/// Reads a counter; an absent one is 0.
pub(super) fn counter(
    counters: &impl ReadableTable<&'static str, u64>,
    name: &'static str,
) -> Result<u64, redb::StorageError> {
    Ok(counters.get(name)?.map_or(0, |value| value.value()))
}
