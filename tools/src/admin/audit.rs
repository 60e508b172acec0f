//! `postern-admin audit`: audit logs, read without their server.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use client::cli::output::{Format, Output, Printed};
use serde_json::{Map, Value, json};
use ticket_format::cbor::Decode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ChainDigest;
use ticket_format::limits;
use ticket_format::report::{Report, exit};

use super::Context;
use super::view::{self, object, text};

/// Audit logs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verify every record of a log, or of a copy of one
    Verify {
        /// The log
        path: PathBuf,
    },
    /// Verify a log and print its entries, one JSON object on each line
    List {
        /// The log
        path: PathBuf,
        /// Only entries of this kind (login, renew, issue, present, redeem, denial, statement, alarm, ...)
        #[arg(long, value_name = "KIND", value_parser = kind)]
        kind: Option<Kind>,
        /// Only entries of this subject: a node or an admin's key
        #[arg(long, value_name = "SUBJECT")]
        subject: Option<String>,
        /// From this entry on
        #[arg(long, value_name = "INDEX", default_value_t = 0)]
        from: u64,
    },
}

fn kind(text: &str) -> Result<Kind, String> {
    let all: Vec<Kind> = (1..=99).filter_map(Kind::from_number).collect();
    let names = || {
        all.iter()
            .map(|kind| kind.name())
            .collect::<Vec<_>>()
            .join(", ")
    };
    all.iter()
        .copied()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| format!("expected one of {}", names()))
}

/// Runs one of them.
///
/// # Errors
/// The log cannot be read, or does not verify.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::Verify { path } => {
            let summary = verify(&path)?;
            context.output.object(object! {
                "path": text(path.display()),
                "entries": summary.entries,
                "sealed": summary.sealed,
                "head": text(ChainDigest(summary.head)),
                "torn_bytes": summary.torn.map_or(0, |torn| torn.bytes),
            })
        }
        Command::List {
            path,
            kind,
            subject,
            from,
        } => list(context, &path, from, |entry| {
            kind.is_none_or(|kind| entry.kind == kind)
                && subject
                    .as_ref()
                    .is_none_or(|subject| entry.subject.as_ref() == Some(subject))
        }),
    }
}

fn verify(path: &Path) -> Result<audit_log::Summary, Report> {
    use audit_log::OpenError;
    audit_log::verify(path).map_err(|error| {
        let code = match error {
            OpenError::Damaged { .. } => exit::INTEGRITY,
            OpenError::Io { ref source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                exit::NOT_FOUND
            }
            _ => exit::LOCAL,
        };
        Report::new(
            code,
            format!("the audit log {} does not verify", path.display()),
        )
        .why(error)
    })
}

/// Prints what is wanted of the verified records. Records behind the verified head, should the
/// server have written some meanwhile, are left for the next time.
fn list(context: &Context, path: &Path, from: u64, wanted: impl Fn(&Entry) -> bool) -> Printed {
    let summary = verify(path)?;
    // An entry on each line, whatever the format: a log does not fit one object.
    let output = Output {
        format: Format::Jsonl,
        ..context.output
    };
    let damaged = |why: String| {
        Report::new(
            exit::INTEGRITY,
            format!("the audit log {} changed while it was read", path.display()),
        )
        .why(why)
    };
    let file = File::open(path)
        .map_err(|error| Report::new(exit::LOCAL, "cannot open the audit log").why(error))?;
    let mut file = BufReader::with_capacity(256 * 1024, file);
    let mut last = None;
    let mut seen = 0;
    while seen < summary.entries {
        let item: ciborium::Value =
            ciborium::from_reader(&mut file).map_err(|error| damaged(error.to_string()))?;
        let Some(record) = Record::of(item) else {
            continue;
        };
        if record.index != seen {
            return Err(damaged(format!("entry {seen} is not in its place")));
        }
        seen += 1;
        last = Some(record.chain);
        let entry = Entry::from_cbor(&record.entry, limits::ENTRY);
        if record.index >= from && entry.as_ref().map_or(true, &wanted) {
            output.object(row(&record, entry.as_ref().ok()))?;
        }
    }
    if last.is_some_and(|chain| chain != summary.head) {
        return Err(damaged(
            "its head is another one than was verified".to_owned(),
        ));
    }
    Ok(())
}

/// A record of the file (`audit-log`'s format): `[index, chain, act id / null, entry]`.
struct Record {
    index: u64,
    chain: [u8; 32],
    entry: Vec<u8>,
}

impl Record {
    /// None for the header and for seals, which have other members.
    fn of(item: ciborium::Value) -> Option<Self> {
        let members = <[ciborium::Value; 4]>::try_from(item.into_array().ok()?).ok()?;
        let [index, chain, _, entry] = members;
        Some(Self {
            index: index.as_integer()?.try_into().ok()?,
            chain: chain.into_bytes().ok()?.try_into().ok()?,
            entry: entry.into_bytes().ok()?,
        })
    }
}

fn row(record: &Record, entry: Option<&Entry>) -> Map<String, Value> {
    let mut row = object! { "index": record.index };
    match entry {
        Some(entry) => row.extend(view::entry(entry)),
        // Still a record of the log: shown as it is.
        None => {
            row.extend(object! { "unread": json!(client::cli::output::base64url(&record.entry)) })
        }
    }
    row.insert("chain".to_owned(), text(ChainDigest(record.chain)));
    row
}
