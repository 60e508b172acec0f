//! `postern-admin audit`: audit logs, read from their published files with public keys alone (TLOG-1 to
//! TLOG-11), without their servers.

pub mod cursor;
pub mod export;
pub mod filter;
pub mod index;
pub mod links;
pub mod monitor;
pub mod proof;
pub mod published;
pub mod source;
pub mod state;
pub mod tree;
pub mod verify;
pub mod which;

use std::path::PathBuf;
use std::thread;

use clap::{Args, Subcommand};
use client::cli::output::{Format, Output, Printed, base64url};
use serde_json::{Map, Value, json};
use ticket_format::cbor::Decode as _;
use ticket_format::entry::Entry;
use ticket_format::ids::ProofHash;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::WitnessPolicy;

use super::Context;
use super::span::Span;
use super::view::{self, maybe, object, text};

use cursor::{Cursor, Each, Record, Stopped};
use export::Form;
use filter::Filter;
use index::{Index, Query};
use published::{Fault, Published, broken};
use verify::{Demands, Verified};
use which::{Which, Witnessed};

/// Audit logs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verify logs as a whole: every entry, tile, signature and link between shards; exit 0 or 9
    Verify(Verify),
    /// Print the last entries, and those to come
    Tail(Tail),
    /// Find entries, by an index that is built from the log
    Query(Find),
    /// Write an entry and the proof that it stands in the log
    Prove(proof::Prove),
    /// Check entries and their proofs
    CheckProof(proof::Check),
    /// Follow logs, hold them to each other, and raise alarms
    Monitor(monitor::Monitor),
    /// Print entries as other systems read them
    Export(Export),
}

/// Verify logs.
#[derive(Debug, Args)]
pub struct Verify {
    /// Which logs; --log may be repeated
    #[command(flatten)]
    which: Which,
    /// Whether witnesses must have cosigned
    #[command(flatten)]
    witnessed: Witnessed,
    /// Hold one log to what this file says was seen of it, and write there what is seen now
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Take it ill when entries of old shards are gone, as retention does it
    #[arg(long)]
    whole: bool,
}

/// Print the last entries.
#[derive(Debug, Args)]
pub struct Tail {
    /// Which log
    #[command(flatten)]
    which: Which,
    /// How many of the last
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: u64,
    /// Go on with entries as they come
    #[arg(short, long)]
    follow: bool,
    /// How long between two looks
    #[arg(long, value_name = "TIME", default_value = "1s")]
    interval: Span,
    /// Which entries of those
    #[command(flatten)]
    filter: Filter,
}

/// Find entries.
#[derive(Debug, Args)]
pub struct Find {
    /// Which log
    #[command(flatten)]
    which: Which,
    /// Which entries
    #[command(flatten)]
    filter: Filter,
    /// The entry of this index, or those from one to before another: N or N..M
    #[arg(long, value_name = "N|N..M", value_parser = range)]
    index: Option<(u64, u64)>,
    /// Most entries; the newest are printed
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
    /// As one JSON object with whole entries (as --format json)
    #[arg(long)]
    json: bool,
    /// The index [default: one for each log in the user's cache directory]
    #[arg(long, value_name = "FILE")]
    index_file: Option<PathBuf>,
}

/// Print entries as other systems read them.
#[derive(Debug, Args)]
pub struct Export {
    /// Which log
    #[command(flatten)]
    which: Which,
    /// In which form
    #[arg(long = "as", value_name = "FORM", value_enum)]
    form: Form,
    /// From this index of the log on
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// Go on with entries as they come
    #[arg(short, long)]
    follow: bool,
    /// How long between two looks
    #[arg(long, value_name = "TIME", default_value = "1s")]
    interval: Span,
    /// Which entries
    #[command(flatten)]
    filter: Filter,
}

/// An index, or a range of them.
fn range(text: &str) -> Result<(u64, u64), String> {
    let expected = || "expected an index, or a range: 17, 100..200".to_owned();
    let number = |text: &str| text.parse::<u64>().map_err(|_| expected());
    match text.split_once("..") {
        Some((from, to)) => Ok((number(from)?, number(to)?)),
        None => {
            let one = number(text)?;
            Ok((one, one.checked_add(1).ok_or_else(expected)?))
        }
    }
}

/// Runs one of them.
///
/// # Errors
/// The log cannot be read, or does not verify.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::Verify(args) => verify(context, &args),
        Command::Tail(args) => tail(context, &args),
        Command::Query(args) => query(context, &args),
        Command::Prove(args) => proof::prove(context, &args),
        Command::CheckProof(args) => proof::check(context, &args),
        Command::Monitor(args) => monitor::run(context, &args),
        Command::Export(args) => export(context, &args),
    }
}

/// An entry; none where the bytes are none.
#[must_use]
pub fn read_entry(bytes: &[u8]) -> Option<Entry> {
    Entry::from_cbor(bytes, limits::ENTRY).ok()
}

/// Output with an object on each line, whatever the format: a log does not fit one object.
fn lines(context: &Context) -> Output {
    Output {
        format: Format::Jsonl,
        ..context.output
    }
}

/// An entry with its place.
fn row(record: &Record) -> Map<String, Value> {
    let mut row =
        object! { "index": record.index, "shard": record.shard, "shard_index": record.place };
    match &record.entry {
        Some(entry) => row.extend(view::entry(entry)),
        // Still an entry of the log: shown as it is.
        None => row.extend(object! { "unread": base64url(&record.bytes) }),
    }
    row
}

fn verify(context: &Context, args: &Verify) -> Printed {
    let policy = args.witnessed.policy()?;
    let logs = args.which.all(context)?;
    if args.state.is_some() && logs.len() != 1 {
        return Err(Report::new(exit::USAGE, "--state is of one log")
            .next("give one --log, and another file for each"));
    }
    let mut first = None;
    for log in &logs {
        if let Err(report) = verify_one(context, args, log, policy.as_ref()) {
            if report.exit != exit::INTEGRITY {
                return Err(report);
            }
            first.get_or_insert(report);
        }
    }
    first.map_or(Ok(()), Err)
}

fn verify_one(
    context: &Context,
    args: &Verify,
    log: &Published,
    policy: Option<&WitnessPolicy>,
) -> Printed {
    let seen = match &args.state {
        Some(path) => state::load(path, log.key())?,
        None => None,
    };
    let demands = Demands {
        policy,
        seen: seen.as_ref().map(|seen| seen.checkpoint()),
        whole: args.whole,
    };
    let verified = verify::verify(log, demands).map_err(|fault| fault.report(&log.place()))?;
    show(context, log, &verified, seen.is_some())?;
    if let Some(wrong) = verified.wrong.first() {
        let index = wrong
            .index
            .map_or_else(String::new, |index| format!(", entry {index}"));
        let first = format!(
            "shard {}{index}: {}: {}",
            wrong.shard, wrong.finding, wrong.why
        );
        return Err(broken(&log.place(), first, verified.wrong.len()));
    }
    match (&args.state, verified.newest()) {
        (Some(path), Some(newest)) => state::keep(path, newest),
        _ => Ok(()),
    }
}

fn show(context: &Context, log: &Published, verified: &Verified, seen: bool) -> Printed {
    let last = verified.shards.len().saturating_sub(1);
    let shards = verified.shards.iter().enumerate().map(|(place, shard)| {
        let summary = &shard.summary;
        let checkpoint = summary.checkpoint.as_ref();
        let state = match (summary.pruned, place == last) {
            // Only the checkpoint is left: as retention does it, or whoever deletes.
            (true, _) => "removed",
            (false, true) => "open",
            (false, false) => "closed",
        };
        object! {
            "shard": summary.number,
            "state": state,
            "first_index": summary.before,
            "size": checkpoint.map(|signed| signed.checkpoint().size),
            "verified": summary.entries,
            "root": maybe(checkpoint.map(|signed| ProofHash(signed.checkpoint().root))),
            "signed": maybe(checkpoint.map(|signed| signed.time())),
            "first": maybe(shard.times.map(|(first, _)| first)),
            "last": maybe(shard.times.map(|(_, last)| last)),
            "witnesses": shard.witnesses,
        }
    });
    let wrong = verified.wrong.iter().map(|wrong| {
        object! {
            "finding": wrong.finding,
            "shard": wrong.shard,
            "index": wrong.index,
            "why": wrong.why,
        }
    });
    if context.output.format != Format::Text {
        let (shards, findings): (Vec<_>, Vec<_>) = (shards.collect(), wrong.collect());
        return context.output.object(object! {
            "log": text(&log.key().origin),
            "at": log.place(),
            "ok": findings.is_empty(),
            "entries": verified.entries(),
            "compared_with_state": seen,
            "shards": shards,
            "findings": findings,
        });
    }
    context.talk(format_args!(
        "Log {} at {}: {} entries verified",
        log.key().origin,
        log.place(),
        verified.entries()
    ));
    let columns = [
        "shard",
        "state",
        "first_index",
        "size",
        "verified",
        "root",
        "signed",
        "first",
        "last",
        "witnesses",
    ];
    let cells = |row: Map<String, Value>| row.into_iter().map(|(_, value)| value).collect();
    context
        .output
        .rows("shards", &columns, shards.map(cells).collect())?;
    let found: Vec<Vec<Value>> = wrong.map(cells).collect();
    if found.is_empty() {
        return Ok(());
    }
    context
        .output
        .rows("findings", &["finding", "shard", "index", "why"], found)
}

/// Shows what is new, and goes on when that is wanted. A log that cannot be reached for a while is
/// reached for again.
fn follow(
    context: &Context,
    log: &Published,
    mut cursor: Cursor,
    on: Option<Span>,
    each: impl FnMut(Record) -> Printed,
) -> Printed {
    let mut each = Each(each);
    loop {
        match cursor.advance(log, &mut each) {
            Ok(()) => {}
            Err(Stopped::Log(fault @ Fault::Source(_))) if on.is_some() => {
                let report = fault.report(&log.place());
                if report.exit != exit::RETRY {
                    return Err(report);
                }
                context.talk(format_args!("{report}"));
            }
            Err(stopped) => return Err(stopped.report(&log.place())),
        }
        match on {
            None => return Ok(()),
            Some(interval) => thread::sleep(interval.into()),
        }
    }
}

fn tail(context: &Context, args: &Tail) -> Printed {
    let log = args.which.one(context)?;
    let fault = |fault: Fault| fault.report(&log.place());
    let end = Cursor::end(&log).map_err(fault)?;
    let cursor = Cursor::at(&log, end.saturating_sub(args.lines)).map_err(fault)?;
    let on = args.follow.then_some(args.interval);
    let output = lines(context);
    follow(context, &log, cursor, on, |record| match &record.entry {
        Some(entry) if !args.filter.wants(entry) => Ok(()),
        _ => output.object(row(&record)),
    })
}

fn export(context: &Context, args: &Export) -> Printed {
    let log = args.which.one(context)?;
    let cursor = Cursor::at(&log, args.from).map_err(|fault| fault.report(&log.place()))?;
    let on = args.follow.then_some(args.interval);
    let origin = log.key().origin.clone();
    follow(context, &log, cursor, on, |record| match &record.entry {
        Some(entry) if !args.filter.wants(entry) => Ok(()),
        None if !args.filter.is_empty() => Ok(()),
        _ => client::cli::output::print(&format!("{}\n", args.form.line(&origin, &record))),
    })
}

fn query(context: &Context, args: &Find) -> Printed {
    let log = args.which.one(context)?;
    let path = match &args.index_file {
        Some(path) => path.clone(),
        None => index::usual_file(log.key())?,
    };
    let mut index = Index::open(&path)?;
    let updated = index.update(&log, &path)?;
    if updated.added > 0 {
        context.talk(format_args!(
            "The index took {} new entries{}",
            updated.added,
            if updated.rebuilt {
                "; it was built anew"
            } else {
                ""
            }
        ));
    }
    let wanted = Query {
        filter: &args.filter,
        from: args.index.map(|(from, _)| from),
        to: args.index.map(|(_, to)| to),
        limit: args.limit,
        oldest_first: false,
    };
    let mut records = index.query(&wanted, &path)?;
    records.reverse();
    let output = Output {
        format: if args.json {
            Format::Json
        } else {
            context.output.format
        },
        ..context.output
    };
    let rows: Vec<Map<String, Value>> = records.iter().map(row).collect();
    match output.format {
        Format::Json => output.object(object! { "log": text(&log.key().origin), "entries": rows }),
        Format::Jsonl => rows.into_iter().try_for_each(|row| output.object(row)),
        Format::Text => {
            let columns = [
                "index", "time", "kind", "result", "subject", "dataset", "ticket", "source",
            ];
            let cells = |row: &Map<String, Value>| {
                let cell = |name: &&str| row.get(*name).cloned().unwrap_or(json!(null));
                columns.iter().map(cell).collect()
            };
            output.rows("entries", &columns, rows.iter().map(cells).collect())
        }
    }
}
