//! An index over a log's entries, in SQLite: rebuilt from the log, and believed no longer than the log
//! bears it out. It is a cache: whoever can write the file can make it lie, so it is private.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{
    Connection, OptionalExtension as _, Transaction, TransactionBehavior, params, params_from_iter,
};
use sha2::{Digest as _, Sha256};
use ticket_format::report::{Report, exit};
use ticket_format::tlog::LogKey;

use super::cursor::{Cursor, Each, Record};
use super::filter::{Ended, Filter};
use super::published::Published;

/// Of the tables: another one is built anew.
const VERSION: &str = "1";

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE entry (
        number INTEGER PRIMARY KEY, shard INTEGER NOT NULL, place INTEGER NOT NULL,
        time INTEGER, kind INTEGER, outcome INTEGER, subject TEXT, dataset BLOB, bytes BLOB NOT NULL
    );
    CREATE INDEX entry_time ON entry (time);
    CREATE INDEX entry_subject ON entry (subject, number);
    CREATE INDEX entry_dataset ON entry (dataset, number);
    CREATE TABLE signer (name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (name, number)) WITHOUT ROWID;
";

/// The index of one log.
#[derive(Debug)]
pub struct Index {
    database: Connection,
}

/// What came of bringing it up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updated {
    /// Entries that were added.
    pub added: u64,
    /// Whether it was built from nothing.
    pub rebuilt: bool,
}

fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> Report {
    let what = format!("the index {} cannot be used", path.display());
    move |error| {
        Report::new(exit::LOCAL, what.clone())
            .why(error)
            .next("give another --index-file, or remove it: it is built anew from the log")
    }
}

/// Where the index of a log is, unless another file is given: in the user's cache directory.
///
/// # Errors
/// There is no such directory, and none can be made.
pub fn usual_file(key: &LogKey) -> Result<PathBuf, Report> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let unusable = |why: String| {
        Report::new(exit::LOCAL, "there is no place for the index of the log")
            .why(why)
            .next("give --index-file FILE")
    };
    let base = base.ok_or_else(|| unusable("neither XDG_CACHE_HOME nor HOME is set".to_owned()))?;
    fs::create_dir_all(&base).map_err(|error| unusable(error.to_string()))?;
    let directory = base.join("postern-audit");
    store::files::private_dir(&directory).map_err(|error| unusable(error.to_string()))?;
    let mut name = Sha256::new();
    name.update(key.origin.as_str());
    name.update(key.ed25519());
    name.update(key.ml_dsa());
    let name = name.finalize();
    let name: String = name
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(directory.join(format!("{name}.sqlite")))
}

impl Index {
    /// Opens it, and makes it if there is none.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub fn open(path: &Path) -> Result<Self, Report> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(Report::new(
                exit::LOCAL,
                format!("the index {} cannot be made", path.display()),
            )
            .why(error)
            .next("give another --index-file"));
        }
        let database = Connection::open(path).map_err(failed(path))?;
        // Two commands at a time share it; a cache may be lost with the power.
        let set = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 60000; PRAGMA trusted_schema = OFF;";
        database.execute_batch(set).map_err(failed(path))?;
        Ok(Self { database })
    }

    /// Brings it up to the log's newest checkpoint. One that is of another log, or of an older form, is
    /// built anew.
    ///
    /// # Errors
    /// The log cannot be read or does not verify, also against the checkpoint under which the index was
    /// built: then the log is not what it was.
    pub fn update(&mut self, log: &Published, path: &Path) -> Result<Updated, Report> {
        let failed = failed(path);
        let transaction = self
            .database
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        let known = known(&transaction, log);
        let rebuilt = known.is_none();
        let mut cursor = match known {
            Some(cursor) => cursor,
            None => {
                rebuild(&transaction).map_err(&failed)?;
                Cursor::start(log).map_err(|fault| fault.report(&log.place()))?
            }
        };
        let from = cursor.index();
        let mut each = Each(|record| insert(&transaction, &record).map_err(&failed));
        cursor
            .advance(log, &mut each)
            .map_err(|stopped| stopped.report(&log.place()))?;
        put(&transaction, "version", VERSION)
            .and_then(|()| put(&transaction, "before", &cursor.before.to_string()))
            .and_then(|()| match &cursor.seen {
                Some(seen) => put(&transaction, "checkpoint", seen.note()),
                None => Ok(()),
            })
            .and_then(|()| transaction.commit())
            .map_err(&failed)?;
        Ok(Updated {
            added: cursor.index() - from,
            rebuilt,
        })
    }

    /// The wanted entries, the newest first unless `oldest_first`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn query(&self, wanted: &Query<'_>, path: &Path) -> Result<Vec<Record>, Report> {
        self.rows(wanted).map_err(failed(path))
    }

    fn rows(&self, wanted: &Query<'_>) -> rusqlite::Result<Vec<Record>> {
        let (text, values) = wanted.sql();
        let mut statement = self.database.prepare(&text)?;
        let rows = statement.query_map(params_from_iter(values), |row| {
            let bytes: Vec<u8> = row.get(3)?;
            Ok(Record {
                index: number(row.get(0)?),
                shard: number(row.get(1)?),
                place: number(row.get(2)?),
                entry: super::read_entry(&bytes),
                bytes,
            })
        })?;
        rows.collect()
    }
}

/// What is asked of the index.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// Which entries.
    pub filter: &'a Filter,
    /// From this index on.
    pub from: Option<u64>,
    /// Up to this index, and not it.
    pub to: Option<u64>,
    /// Most entries.
    pub limit: u64,
    /// Whether the oldest come first.
    pub oldest_first: bool,
}

impl Query<'_> {
    fn sql(&self) -> (String, Vec<Value>) {
        let mut conditions = vec!["1".to_owned()];
        let mut values = Vec::new();
        let mut bind = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        let filter = self.filter;
        if let Some(who) = &filter.who {
            let name = bind(Value::Text(who.clone()));
            conditions.push(format!(
                "(subject = {name} OR number IN (SELECT number FROM signer WHERE name = {name}))"
            ));
        }
        if let Some(dataset) = filter.dataset {
            let id = bind(Value::Blob(dataset.0.to_vec()));
            conditions.push(format!("dataset = {id}"));
        }
        for (operator, time) in [(">=", filter.since), ("<", filter.until)] {
            if let Some(time) = time {
                let time = bind(Value::Integer(signed(time.seconds())));
                conditions.push(format!("time {operator} {time}"));
            }
        }
        match filter.outcome {
            None => {}
            Some(Ended::Done) => conditions.push("outcome = 0".to_owned()),
            Some(Ended::Refused) => conditions.push("outcome > 0".to_owned()),
            Some(Ended::By(refusal)) => {
                conditions.push(format!("outcome = {}", refusal.number()));
            }
        }
        if !filter.kinds.is_empty() {
            let kinds = filter.kinds.iter().map(|kind| kind.number().to_string());
            let kinds: Vec<String> = kinds.collect();
            conditions.push(format!("kind IN ({})", kinds.join(", ")));
        }
        for (operator, index) in [(">=", self.from), ("<", self.to)] {
            if let Some(index) = index {
                let index = bind(Value::Integer(signed(index)));
                conditions.push(format!("number {operator} {index}"));
            }
        }
        // An entry that cannot be read is wanted by who filters nothing.
        if !filter.is_empty() {
            conditions.push("kind IS NOT NULL".to_owned());
        }
        let order = if self.oldest_first { "ASC" } else { "DESC" };
        let limit = bind(Value::Integer(signed(self.limit)));
        let text = format!(
            "SELECT number, shard, place, bytes FROM entry WHERE {} ORDER BY number {order} LIMIT {limit}",
            conditions.join(" AND ")
        );
        (text, values)
    }
}

/// SQLite's integers are signed. No real time or index comes near the difference.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// Where the index stands, if it is one of this log: its checkpoint is signed by the log's keys.
fn known(database: &Transaction<'_>, log: &Published) -> Option<Cursor> {
    let get = |name: &str| -> Option<String> {
        let text = "SELECT value FROM meta WHERE name = ?1";
        database
            .query_row(text, [name], |row| row.get(0))
            .optional()
            .ok()?
    };
    if get("version")? != VERSION {
        return None;
    }
    let seen = log.key().verify(&get("checkpoint")?).ok()?;
    let (shard, size) = (seen.checkpoint().shard.number, seen.checkpoint().size);
    let before: u64 = get("before")?.parse().ok()?;
    // What it should hold of this shard, it holds.
    let text = "SELECT count(*), max(number) FROM entry WHERE shard = ?1";
    let rows: (i64, Option<i64>) = database
        .query_row(text, [signed(shard)], |row| Ok((row.get(0)?, row.get(1)?)))
        .ok()?;
    let last = (before + size).checked_sub(1).map(signed);
    let whole = rows.0 == signed(size) && (size == 0 || rows.1 == last);
    whole.then_some(Cursor {
        shard,
        before,
        place: size,
        seen: Some(seen),
    })
}

fn rebuild(database: &Transaction<'_>) -> rusqlite::Result<()> {
    database.execute_batch(
        "DROP TABLE IF EXISTS meta; DROP TABLE IF EXISTS entry; DROP TABLE IF EXISTS signer;",
    )?;
    database.execute_batch(TABLES)
}

fn put(database: &Transaction<'_>, name: &str, value: &str) -> rusqlite::Result<()> {
    let text = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    database.execute(text, params![name, value]).map(|_| ())
}

fn insert(database: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    let text = "INSERT INTO entry (number, shard, place, time, kind, outcome, subject, dataset, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let mut statement = database.prepare_cached(text)?;
    let entry = record.entry.as_ref();
    let outcome = |outcome: ticket_format::entry::Outcome| {
        outcome.map_or_else(|refusal| i64::from(refusal.number()), |()| 0)
    };
    let number = signed(record.index);
    statement.execute(params![
        number,
        signed(record.shard),
        signed(record.place),
        entry.map(|entry| signed(entry.time.seconds())),
        entry.map(|entry| signed(entry.kind.number())),
        entry.map(|entry| outcome(entry.outcome)),
        entry.and_then(|entry| entry.subject.as_deref()),
        entry
            .and_then(|entry| entry.dataset)
            .map(|id| id.0.to_vec()),
        record.bytes,
    ])?;
    let text = "INSERT OR IGNORE INTO signer (name, number) VALUES (?1, ?2)";
    let mut statement = database.prepare_cached(text)?;
    let signers = entry.and_then(|entry| entry.signers.as_ref());
    for signer in signers.into_iter().flatten() {
        statement.execute(params![signer, number])?;
    }
    Ok(())
}
