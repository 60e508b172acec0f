//! The inventory's file: a redb database, with what was counted and how far, in one commit.
//!
//! A wrap takes a row of 52 bytes (version 16, digest 32, time 4); one that was made to replace another
//! takes 96 bytes more until it is said to stand in its place. What redb adds, `tools/bench vault` measures.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use sha2::{Digest as _, Sha256};
use ticket_format::entry::Entry;
use ticket_format::ids::{ItemDigest, KekId};
use ticket_format::time::Timestamp;

use super::Row;
use super::count::{self, Step};

type Key = [u8; 48];

/// (version, digest) to when it was last made or opened, in seconds.
const WRAPS: TableDefinition<'_, Key, u32> = TableDefinition::new("wraps");
/// Version to (wraps, wraps made, last used).
const TOTALS: TableDefinition<'_, [u8; 16], (u64, u64, u64)> = TableDefinition::new("totals");
/// Digest of a wrap to (maker, version, digest) of the one that it may replace.
const REPLACES: TableDefinition<'_, [u8; 32], [u8; 64]> = TableDefinition::new("replaces");
/// By name: format, the index of the next entry, and from when on wraps are counted.
const PLACE: TableDefinition<'_, &str, u64> = TableDefinition::new("place");
/// SHA-256 of the last entry that was counted.
const LAST: TableDefinition<'_, &str, [u8; 32]> = TableDefinition::new("last");

const FORMAT: &str = "format";
const FORMAT_VERSION: u64 = 1;
const NEXT: &str = "next";
const SINCE: &str = "since";
const ENTRY: &str = "entry";
/// redb's page cache.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Why the file cannot be used. It is only ever a copy of what the log says.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// redb.
    #[error("{0}")]
    Database(Box<redb::Error>),
    /// It is damaged.
    #[error("it is damaged")]
    Damaged,
    /// It is of another version.
    #[error("it has format {0}, which this program does not know")]
    Format(u64),
}

impl FileError {
    /// Whether it says what the file holds. Else it may be whole: on a full disk, or in use.
    pub(super) fn is_of_the_content(&self) -> bool {
        let by_system = |error: &io::Error| {
            use io::ErrorKind::{InvalidData, UnexpectedEof};
            !matches!(error.kind(), InvalidData | UnexpectedEof)
        };
        match self {
            Self::Io(_) => false,
            Self::Database(error) => match &**error {
                redb::Error::Io(error) => !by_system(error),
                redb::Error::DatabaseAlreadyOpen
                | redb::Error::LockProtocolMismatch
                | redb::Error::Backend(_)
                | redb::Error::Unsupported
                | redb::Error::PreviousIo
                | redb::Error::LockPoisoned(_) => false,
                _ => true,
            },
            // One of a later program is not ours to throw away.
            Self::Format(_) => false,
            Self::Damaged => true,
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for FileError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    CommitError
);

/// What is known of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) wraps: u64,
    pub(super) made: u64,
    pub(super) last_used: Option<Timestamp>,
}

/// The file, open.
pub(super) struct Rows {
    /// None while it is opened anew.
    database: Option<Database>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    totals: HashMap<KekId, Totals>,
    position: u64,
    since: Option<Timestamp>,
    last: Option<[u8; 32]>,
}

impl Rows {
    /// A file that knows nothing and takes nothing.
    pub(super) fn nothing() -> Self {
        Self {
            database: None,
            state: RwLock::default(),
        }
    }

    /// Opens the file, and verifies the checksum of every page. None: there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, FileError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // redb does not promise not to panic on what is damaged.
        let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Self, FileError> {
            let database = redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create_with_backend(FileBackend::new(file)?)?;
            let state = State::read(&database)?;
            Ok(Self {
                database: Some(database),
                state: RwLock::new(state),
            })
        }));
        opened.unwrap_or(Err(FileError::Damaged)).map(Some)
    }

    /// Makes an empty file, in the place of what there may be.
    pub(super) fn create(path: &Path) -> Result<Self, FileError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(FileBackend::new(file)?)?;
        let txn = database.begin_write()?;
        {
            txn.open_table(WRAPS)?;
            txn.open_table(TOTALS)?;
            txn.open_table(REPLACES)?;
            txn.open_table(LAST)?;
            let mut place = txn.open_table(PLACE)?;
            place.insert(FORMAT, FORMAT_VERSION)?;
            place.insert(NEXT, 0)?;
        }
        txn.commit()?;
        Ok(Self {
            database: Some(database),
            state: RwLock::default(),
        })
    }

    /// Begins anew at the log's beginning, and forgets none of the wraps that are known: they were made or
    /// opened, whatever the log holds of it now.
    pub(super) fn restart(&self) -> Result<(), FileError> {
        let txn = self.database()?.begin_write()?;
        {
            txn.open_table(REPLACES)?.retain(|_, _| false)?;
            txn.open_table(PLACE)?.insert(NEXT, 0)?;
            txn.open_table(LAST)?.remove(ENTRY)?;
        }
        txn.commit()?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        (state.position, state.last) = (0, None);
        Ok(())
    }

    /// The index of the next entry to be counted.
    pub(super) fn position(&self) -> u64 {
        self.state().position
    }

    /// From when on wraps are counted.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.state().since
    }

    /// Whether this entry was the last that was counted.
    pub(super) fn was_last(&self, entry: &[u8]) -> bool {
        self.state().last == Some(Sha256::digest(entry).into())
    }

    pub(super) fn totals(&self, kek: KekId) -> Totals {
        self.state().totals.get(&kek).copied().unwrap_or_default()
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> Result<&Database, FileError> {
        self.database.as_ref().ok_or(FileError::Damaged)
    }

    /// Counts entries, of which `last` is the last one's bytes, up to the place `next`. Where the count begins
    /// with them, or goes on behind a gap, it begins at the time given.
    pub(super) fn count(
        &self,
        entries: &[Entry],
        begins: Option<Timestamp>,
        next: u64,
        last: &[u8],
    ) -> Result<(), FileError> {
        let txn = self.database()?.begin_write()?;
        let before = self.state();
        let mut counting = Counting {
            before: &before,
            changed: HashMap::new(),
            seen: HashMap::new(),
        };
        {
            let mut wraps = txn.open_table(WRAPS)?;
            let mut replaces = txn.open_table(REPLACES)?;
            let mut failed = None;
            for entry in entries {
                count::steps(entry, |step| {
                    if failed.is_none() {
                        failed = counting.step(step, &mut wraps, &mut replaces).err();
                    }
                });
            }
            if let Some(error) = failed {
                return Err(error);
            }
            counting.write(&mut wraps)?;
            let mut totals = txn.open_table(TOTALS)?;
            for (kek, of) in &counting.changed {
                let used = of.last_used.map_or(0, Timestamp::seconds);
                totals.insert(kek.0, (of.wraps, of.made, used))?;
            }
        }
        let digest: [u8; 32] = Sha256::digest(last).into();
        {
            let mut place = txn.open_table(PLACE)?;
            place.insert(NEXT, next)?;
            if let Some(begins) = begins {
                place.insert(SINCE, begins.seconds())?;
            }
            txn.open_table(LAST)?.insert(ENTRY, digest)?;
        }
        txn.commit()?;
        let changed = counting.changed;
        drop(before);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.totals.extend(changed);
        (state.position, state.last) = (next, Some(digest));
        state.since = begins.or(state.since);
        Ok(())
    }

    /// How many wraps stand under a version, and the SHA-256 of their digests, ascending.
    pub(super) fn dependants(&self, kek: KekId) -> Result<(u64, [u8; 32]), FileError> {
        let txn = self.database()?.begin_read()?;
        let wraps = txn.open_table(WRAPS)?;
        let (mut count, mut all) = (0, Sha256::new());
        for row in wraps.range(of(kek, None))? {
            all.update(&row?.0.value()[16..]);
            count += 1;
        }
        Ok((count, all.finalize().into()))
    }

    pub(super) fn page(
        &self,
        kek: KekId,
        after: Option<ItemDigest>,
        most: usize,
    ) -> Result<(Vec<Row>, bool), FileError> {
        let txn = self.database()?.begin_read()?;
        let wraps = txn.open_table(WRAPS)?;
        let mut rows = Vec::new();
        for row in wraps.range(of(kek, after))? {
            if rows.len() == most {
                return Ok((rows, true));
            }
            let (key, seen) = row?;
            let mut digest = [0; 32];
            digest.copy_from_slice(&key.value()[16..]);
            rows.push(Row {
                digest: ItemDigest(digest),
                seen: Timestamp::from_seconds(seen.value().into()),
            });
        }
        Ok((rows, false))
    }
}

/// The rows of one moment.
pub(super) struct RowsCopy(ReadTransaction);

impl Rows {
    /// The rows as they are now, whatever is counted meanwhile.
    pub(super) fn copied(&self) -> Result<RowsCopy, FileError> {
        Ok(RowsCopy(self.database()?.begin_read()?))
    }
}

impl RowsCopy {
    /// Writes them to a file of their own.
    pub(super) fn write(&self, path: &Path) -> Result<(), FileError> {
        // rule: BAK-1
        let rows = Rows::create(path)?;
        let txn = rows.database()?.begin_write()?;
        self.table(&txn, WRAPS)?;
        self.table(&txn, TOTALS)?;
        self.table(&txn, REPLACES)?;
        self.table(&txn, PLACE)?;
        self.table(&txn, LAST)?;
        txn.commit()?;
        Ok(())
    }

    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        txn: &WriteTransaction,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), FileError> {
        let mut to = txn.open_table(table)?;
        for row in self.0.open_table(table)?.iter()? {
            let (key, value) = row?;
            to.insert(key.value(), value.value())?;
        }
        Ok(())
    }
}

impl State {
    fn read(database: &Database) -> Result<Self, FileError> {
        let txn = database.begin_read()?;
        let place = txn.open_table(PLACE)?;
        let named = |name| -> Result<u64, FileError> {
            let value = place.get(name)?;
            Ok(value.ok_or(FileError::Damaged)?.value())
        };
        match named(FORMAT)? {
            FORMAT_VERSION => {}
            other => return Err(FileError::Format(other)),
        }
        let mut state = Self {
            position: named(NEXT)?,
            since: place
                .get(SINCE)?
                .map(|since| Timestamp::from_seconds(since.value())),
            last: txn.open_table(LAST)?.get(ENTRY)?.map(|last| last.value()),
            ..Self::default()
        };
        for row in txn.open_table(TOTALS)?.iter()? {
            let (kek, totals) = row?;
            let (wraps, made, used) = totals.value();
            let totals = Totals {
                wraps,
                made,
                last_used: (used > 0).then(|| Timestamp::from_seconds(used)),
            };
            state.totals.insert(KekId(kek.value()), totals);
        }
        Ok(state)
    }
}

/// What one commit changes.
struct Counting<'a> {
    before: &'a State,
    changed: HashMap<KekId, Totals>,
    /// Rows that are not written yet: the same wrap is often opened many times within a second, and rows that
    /// are written in order share pages.
    seen: HashMap<Key, u32>,
}

/// Most rows that wait to be written: 7 MB.
const WAITING: usize = 1 << 16;

impl Counting<'_> {
    fn of(&mut self, kek: KekId) -> &mut Totals {
        let before = || self.before.totals.get(&kek).copied().unwrap_or_default();
        self.changed.entry(kek).or_insert_with(before)
    }

    fn step(
        &mut self,
        step: Step,
        wraps: &mut redb::Table<'_, Key, u32>,
        replaces: &mut redb::Table<'_, [u8; 32], [u8; 64]>,
    ) -> Result<(), FileError> {
        match step {
            Step::Opened { kek, digest, seen } => self.add(kek, digest, seen, wraps)?,
            Step::Made { kek, digest, seen } => {
                self.add(kek, digest, seen, wraps)?;
                self.of(kek).made += 1;
            }
            Step::Replaces { new, by, kek, old } => {
                let mut row = [0; 64];
                row[..16].copy_from_slice(&by);
                row[16..32].copy_from_slice(&kek.0);
                row[32..].copy_from_slice(&old.0);
                replaces.insert(new.0, row)?;
            }
            Step::InPlace { digest, by } => {
                self.write(wraps)?;
                let row = replaces.get(digest.0)?.map(|row| row.value());
                // Nobody says of another's wraps where they stand.
                let Some(row) = row.filter(|row| first(row) == by) else {
                    return Ok(());
                };
                replaces.remove(digest.0)?;
                let kek = KekId(first(&row[16..]));
                let mut key = [0; 48];
                key.copy_from_slice(&row[16..]);
                if wraps.remove(key)?.is_some() {
                    self.of(kek).wraps -= 1;
                }
            }
            Step::Destroyed { kek } => {
                self.write(wraps)?;
                wraps.retain_in(of(kek, None), |_, _| false)?;
                replaces.retain(|_, row| KekId(first(&row[16..])) != kek)?;
                self.of(kek).wraps = 0;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        kek: KekId,
        digest: ItemDigest,
        seen: Timestamp,
        wraps: &mut redb::Table<'_, Key, u32>,
    ) -> Result<(), FileError> {
        let seconds = u32::try_from(seen.seconds()).unwrap_or(u32::MAX);
        self.seen.insert(key(kek, digest), seconds);
        let totals = self.of(kek);
        totals.last_used = totals.last_used.max(Some(seen));
        if self.seen.len() >= WAITING {
            self.write(wraps)?;
        }
        Ok(())
    }

    /// Writes the rows that wait, and counts those that are new.
    fn write(&mut self, wraps: &mut redb::Table<'_, Key, u32>) -> Result<(), FileError> {
        let mut rows: Vec<_> = self.seen.drain().collect();
        rows.sort_unstable();
        for (key, seconds) in rows {
            if wraps.insert(key, seconds)?.is_none() {
                self.of(KekId(first(&key))).wraps += 1;
            }
        }
        Ok(())
    }
}

fn first(bytes: &[u8]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[..16]);
    id
}

fn key(kek: KekId, digest: ItemDigest) -> Key {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&kek.0);
    key[16..].copy_from_slice(&digest.0);
    key
}

/// All rows of a version, or those after a digest.
fn of(kek: KekId, after: Option<ItemDigest>) -> (std::ops::Bound<Key>, std::ops::Bound<Key>) {
    use std::ops::Bound::{Excluded, Included};
    let last = Included(key(kek, ItemDigest([0xff; 32])));
    match after {
        None => (Included(key(kek, ItemDigest([0; 32]))), last),
        Some(digest) => (Excluded(key(kek, digest)), last),
    }
}
