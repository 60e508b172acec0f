//! What the monitor remembers, in SQLite: where each log was left, tickets until they have expired, what
//! they opened, denial epochs, policies, and uses that wait for the issue that they rest on.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::time::Timestamp;

use super::laws::{self, BROKER_LAG, Breach, Epochs, SERVER_LAG, Said, Ticket};
use crate::admin::audit::cursor::Cursor;
use crate::admin::audit::links::Order;
use crate::admin::audit::published::Published;
use crate::admin::audit::read_entry;

const VERSION: i64 = 1;
/// For how long tickets and epochs are remembered after they mean nothing any more, in seconds.
const AFTER: u64 = 24 * 3_600;

const TABLES: &str = "
    CREATE TABLE log (
        origin TEXT PRIMARY KEY, shard INTEGER NOT NULL, before INTEGER NOT NULL, place INTEGER NOT NULL,
        checkpoint TEXT, latest INTEGER NOT NULL, closed INTEGER NOT NULL, whole INTEGER NOT NULL DEFAULT 1
    ) WITHOUT ROWID;
    CREATE TABLE ticket (id BLOB PRIMARY KEY, expires INTEGER NOT NULL, issue BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX ticket_expires ON ticket (expires);
    CREATE TABLE spent (ticket BLOB NOT NULL, item BLOB NOT NULL, PRIMARY KEY (ticket, item)) WITHOUT ROWID;
    CREATE TABLE epoch (number INTEGER PRIMARY KEY, time INTEGER NOT NULL);
    CREATE TABLE policy (digest BLOB NOT NULL, since INTEGER NOT NULL);
    CREATE TABLE waiting (log TEXT NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (log, number));
    CREATE TABLE told (finding TEXT PRIMARY KEY) WITHOUT ROWID;
    PRAGMA user_version = 1;
";

/// A log, as far as it was followed.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) cursor: Cursor,
    pub(super) order: Order,
}

impl Followed {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            order: Order::default(),
        }
    }
}

/// All that is remembered.
pub(super) struct Book(Connection);

/// One log's round: what it changes is kept together, or not at all.
pub(super) struct Round<'b>(Transaction<'b>);

fn failed(error: rusqlite::Error) -> Report {
    Report::new(exit::LOCAL, "what the monitor remembers cannot be used")
        .why(error)
        .next("give another --state, or move the file away: the logs are followed from their beginning")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Book {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Report> {
        let database = match path {
            None => Connection::open_in_memory(),
            Some(path) => {
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
                        format!("{} cannot be made", path.display()),
                    )
                    .why(error)
                    .next("give another --state"));
                }
                Connection::open(path)
            }
        };
        let database = database.map_err(failed)?;
        let set = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000; PRAGMA trusted_schema = OFF;";
        database.execute_batch(set).map_err(failed)?;
        let version: i64 = database
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed)?;
        match version {
            0 => database.execute_batch(TABLES).map_err(failed)?,
            VERSION => {}
            _ => {
                return Err(
                    Report::new(exit::LOCAL, "the monitor's state is of another version")
                        .next("give another --state"),
                );
            }
        }
        Ok(Self(database))
    }

    pub(super) fn round(&mut self) -> Result<Round<'_>, Report> {
        let begun = self
            .0
            .transaction_with_behavior(TransactionBehavior::Immediate);
        begun.map(Round).map_err(failed)
    }

    /// Judges the uses that wait, as far as what they rest on is there; all of them at last. How many wait
    /// on.
    pub(super) fn judge(
        &mut self,
        has_broker: bool,
        at_last: bool,
        mut raise: impl FnMut(Breach) -> Result<(), Report>,
    ) -> Result<usize, Report> {
        let round = self.round()?;
        let waiting = round.waiting().map_err(failed)?;
        let mut late = 0;
        for (log, number, bytes) in waiting {
            let Some(entry) = read_entry(&bytes) else {
                continue;
            };
            let said = Said {
                log: &log,
                index: number,
                entry: &entry,
            };
            if has_broker {
                let breaches = round.judged(&said).map_err(failed)?;
                // What the broker's log may show in a moment is waited for.
                if !at_last && breaches.iter().any(Breach::may_come_right) {
                    late += 1;
                    continue;
                }
                for breach in breaches {
                    raise(breach)?;
                }
            }
            let text = "DELETE FROM waiting WHERE log = ?1 AND number = ?2";
            round
                .0
                .execute(text, params![log, signed(number)])
                .map_err(failed)?;
        }
        round.forget().map_err(failed)?;
        round.commit()?;
        Ok(late)
    }
}

impl Round<'_> {
    pub(super) fn commit(self) -> Result<(), Report> {
        self.0.commit().map_err(failed)
    }

    /// Where a log was left.
    pub(super) fn followed(&self, log: &Published) -> Result<Option<Followed>, Report> {
        let text =
            "SELECT shard, before, place, checkpoint, latest, closed FROM log WHERE origin = ?1";
        let found = self
            .0
            .query_row(text, [log.key().origin.as_str()], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, Option<String>>(3)?,
                    row.get::<_, i64>(4)?,
                    row.get::<_, bool>(5)?,
                ))
            })
            .optional()
            .map_err(failed)?;
        let Some((shard, before, place, note, latest, closed)) = found else {
            return Ok(None);
        };
        let seen = match note {
            None => None,
            Some(note) => Some(log.key().verify(&note).map_err(|error| {
                Report::new(
                    exit::LOCAL,
                    "what the monitor remembers is of another log of that name",
                )
                .why(error)
                .next("give another --state; if the log's keys were changed, find out why")
            })?),
        };
        Ok(Some(Followed {
            cursor: Cursor {
                shard: unsigned(shard),
                before: unsigned(before),
                place: unsigned(place),
                seen,
            },
            order: Order::resumed(Timestamp::from_seconds(unsigned(latest)), closed),
        }))
    }

    /// A log is followed for the first time.
    pub(super) fn begins(&self, origin: &str, whole: bool) -> Result<(), Report> {
        let text = "INSERT OR REPLACE INTO log (origin, shard, before, place, latest, closed, whole) VALUES (?1, 0, 0, 0, 0, 0, ?2)";
        let done = self.0.execute(text, params![origin, whole]);
        done.map(|_| ()).map_err(failed)
    }

    /// Remembers where a log was left.
    pub(super) fn keep(&self, origin: &str, followed: &Followed) -> Result<(), Report> {
        let Followed { cursor, order } = followed;
        let text = "UPDATE log SET shard = ?2, before = ?3, place = ?4, checkpoint = ?5, latest = ?6, closed = ?7 WHERE origin = ?1";
        let done = self.0.execute(
            text,
            params![
                origin,
                signed(cursor.shard),
                signed(cursor.before),
                signed(cursor.place),
                cursor.seen.as_ref().map(|seen| seen.note()),
                signed(order.latest().seconds()),
                order.closed(),
            ],
        );
        done.map(|_| ()).map_err(failed)
    }

    /// Whether this is told for the first time.
    pub(super) fn first(&self, finding: &str) -> Result<bool, Report> {
        let text = "INSERT OR IGNORE INTO told (finding) VALUES (?1)";
        let done = self.0.execute(text, [finding]);
        done.map(|rows| rows == 1).map_err(failed)
    }

    /// Takes an entry of a broker's log: what others rest on is remembered, an issue is judged.
    pub(super) fn of_broker(&self, said: &Said<'_>) -> Result<Vec<Breach>, Report> {
        self.broker(said).map_err(failed)
    }

    fn broker(&self, said: &Said<'_>) -> rusqlite::Result<Vec<Breach>> {
        let entry = said.entry;
        let time = signed(entry.time.seconds());
        match (entry.kind, entry.outcome) {
            (Kind::Denial, Ok(())) => {
                if let Some(epoch) = entry.epoch {
                    let text = "INSERT OR IGNORE INTO epoch (number, time) VALUES (?1, ?2)";
                    self.0.execute(text, params![signed(epoch), time])?;
                }
                Ok(Vec::new())
            }
            (Kind::Statement, Ok(())) => {
                if let Some(policy) = entry.policy {
                    let text = "INSERT INTO policy (digest, since) VALUES (?1, ?2)";
                    self.0.execute(text, params![policy.0.as_slice(), time])?;
                }
                Ok(Vec::new())
            }
            (Kind::Issue, Ok(())) => {
                let whole = self.whole(said.log)?;
                let known = self.epochs(entry.time, BROKER_LAG)?;
                let policy = self.policy(entry, whole)?;
                let breaches = laws::issue(said, known, policy);
                if let (Some(id), Some(ticket)) = (entry.ticket, Ticket::of(entry)) {
                    let text =
                        "INSERT OR IGNORE INTO ticket (id, expires, issue) VALUES (?1, ?2, ?3)";
                    let expires = signed(ticket.expires.seconds());
                    self.0
                        .execute(text, params![id.0.as_slice(), expires, entry.to_cbor()])?;
                }
                // What it was decided under may be recorded a moment after it (AUD-2).
                if breaches.iter().any(Breach::may_come_right) {
                    self.wait(said, &entry.to_cbor())?;
                    return Ok(Vec::new());
                }
                Ok(breaches)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Takes an entry of a key server's log: what it owes to the broker's log is judged when that was read.
    pub(super) fn of_key_server(&self, said: &Said<'_>, bytes: &[u8]) -> Result<(), Report> {
        let owes = matches!(
            said.entry.kind,
            Kind::Present | Kind::Redeem | Kind::Generate | Kind::Rewrap
        );
        if !owes || said.entry.outcome.is_err() {
            return Ok(());
        }
        self.wait(said, bytes).map_err(failed)
    }

    fn wait(&self, said: &Said<'_>, bytes: &[u8]) -> rusqlite::Result<()> {
        let text = "INSERT OR IGNORE INTO waiting (log, number, entry) VALUES (?1, ?2, ?3)";
        let row = params![said.log, signed(said.index), bytes];
        self.0.execute(text, row).map(|_| ())
    }

    fn waiting(&self) -> rusqlite::Result<Vec<(String, u64, Vec<u8>)>> {
        let text = "SELECT log, number, entry FROM waiting ORDER BY log, number LIMIT 100000";
        let mut statement = self.0.prepare_cached(text)?;
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, unsigned(row.get(1)?), row.get(2)?))
        })?;
        rows.collect()
    }

    fn judged(&self, said: &Said<'_>) -> rusqlite::Result<Vec<Breach>> {
        let entry = said.entry;
        let whole = self.all_whole()?;
        let breaches = if entry.kind == Kind::Issue {
            let known = self.epochs(entry.time, BROKER_LAG)?;
            laws::issue(said, known, self.policy(entry, whole)?)
        } else {
            let ticket = self.ticket(entry)?;
            let spent = self.spent(entry)?;
            let known = self.epochs(entry.time, SERVER_LAG)?;
            laws::use_of(said, ticket.as_ref(), known, spent)
        };
        if whole {
            return Ok(breaches);
        }
        // An issue before the part of the broker's log that is still there cannot be found.
        let known = breaches
            .into_iter()
            .filter(|breach| !breach.may_come_right());
        Ok(known.collect())
    }

    fn ticket(&self, entry: &Entry) -> rusqlite::Result<Option<Ticket>> {
        let Some(id) = entry.ticket else {
            return Ok(None);
        };
        let text = "SELECT issue FROM ticket WHERE id = ?1";
        let found: Option<Vec<u8>> = self
            .0
            .query_row(text, [id.0.as_slice()], |row| row.get(0))
            .optional()?;
        let issue = found.and_then(|bytes| Entry::from_cbor(&bytes, limits::ENTRY).ok());
        Ok(issue.as_ref().and_then(Ticket::of))
    }

    /// How many distinct items a ticket has opened, with this entry (RED-4).
    fn spent(&self, entry: &Entry) -> rusqlite::Result<u64> {
        let Some(id) = entry.ticket else {
            return Ok(0);
        };
        let text = "INSERT OR IGNORE INTO spent (ticket, item) VALUES (?1, ?2)";
        let mut statement = self.0.prepare_cached(text)?;
        for (item, outcome) in entry.items.iter().flatten() {
            if outcome.is_ok() {
                statement.execute(params![id.0.as_slice(), item.0.as_slice()])?;
            }
        }
        let text = "SELECT count(*) FROM spent WHERE ticket = ?1";
        self.0
            .query_row(text, [id.0.as_slice()], |row| row.get(0))
            .map(unsigned)
    }

    fn epochs(&self, time: Timestamp, lag: u64) -> rusqlite::Result<Epochs> {
        let newest: Option<i64> = self
            .0
            .query_row("SELECT max(number) FROM epoch", [], |row| row.get(0))?;
        let text = "SELECT max(number) FROM epoch WHERE time < ?1";
        let time = signed(time.minus(lag).seconds());
        let owed: Option<i64> = self.0.query_row(text, [time], |row| row.get(0))?;
        Ok(Epochs {
            newest: unsigned(newest.unwrap_or(0)),
            owed: unsigned(owed.unwrap_or(0)),
        })
    }

    /// Whether an issue's policy is the one in force, or was until a moment before; none where it is
    /// not known which is.
    fn policy(&self, entry: &Entry, whole: bool) -> rusqlite::Result<Option<bool>> {
        let text = "SELECT digest, since FROM policy ORDER BY rowid DESC";
        let mut statement = self.0.prepare_cached(text)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (digest, since): (Vec<u8>, i64) = (row.get(0)?, row.get(1)?);
            if entry
                .policy
                .is_some_and(|policy| policy.0.as_slice() == digest)
            {
                return Ok(Some(true));
            }
            // The one before was in force until this one was set.
            if signed(entry.time.seconds()) > since.saturating_add(signed(limits::SKEW)) {
                return Ok(Some(false));
            }
        }
        // Before the first one nothing was permitted.
        Ok(whole.then_some(false))
    }

    fn whole(&self, origin: &str) -> rusqlite::Result<bool> {
        let text = "SELECT whole FROM log WHERE origin = ?1";
        let found = self
            .0
            .query_row(text, [origin], |row| row.get(0))
            .optional()?;
        Ok(found.unwrap_or(true))
    }

    fn all_whole(&self) -> rusqlite::Result<bool> {
        let text = "SELECT count(*) FROM log WHERE NOT whole AND origin LIKE '%/broker/%'";
        self.0
            .query_row(text, [], |row| row.get::<_, i64>(0))
            .map(|partial| partial == 0)
    }

    /// Forgets tickets that expired long before all logs.
    fn forget(&self) -> rusqlite::Result<()> {
        let text = "SELECT min(latest) FROM log";
        let latest: Option<i64> = self.0.query_row(text, [], |row| row.get(0))?;
        let until = latest.unwrap_or(0).saturating_sub(signed(AFTER));
        self.0.execute(
            "DELETE FROM spent WHERE ticket IN (SELECT id FROM ticket WHERE expires < ?1)",
            [until],
        )?;
        self.0
            .execute("DELETE FROM ticket WHERE expires < ?1", [until])?;
        Ok(())
    }
}
