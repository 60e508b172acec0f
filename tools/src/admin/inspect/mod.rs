//! `postern-admin inspect`: what a file holds, without any server. Results are JSON in every format.

mod admin_set;
mod bootstrap;
mod iid;
mod log;
mod statement;
mod ticket;
mod wrapped;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use clap::Subcommand;
use client::cli::output::{Format, Output, Printed};
use serde_json::{Map, Value};
use ticket_format::cbor::DecodeError;
use ticket_format::report::{Report, exit};

use super::Context;

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A ticket's claims
    Ticket(ticket::Ticket),
    /// An identity document's proof: verified as the broker does it
    Iid(iid::Iid),
    /// A wrapped DEK
    Wrapped(wrapped::Wrapped),
    /// The bootstrap in user-data, but for its secret
    Bootstrap(bootstrap::Bootstrap),
    /// An admin's statement, such as a dataset's record
    Statement(statement::Statement),
    /// An admin set: its statement, or its body
    AdminSet(admin_set::File),
    /// A receipt of the audit log
    Receipt(log::Signed),
    /// A checkpoint of an audit log, with its signatures
    Checkpoint(log::Signed),
    /// An entry of the audit log
    Entry(log::File),
}

/// Looks at it.
///
/// # Errors
/// The file cannot be read, or does not hold what it should.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::Ticket(args) => ticket::run(context, &args),
        Command::Iid(args) => iid::run(context, &args),
        Command::Wrapped(args) => wrapped::run(context, &args),
        Command::Bootstrap(args) => bootstrap::run(context, &args),
        Command::Statement(args) => statement::run(context, &args),
        Command::AdminSet(args) => admin_set::run(context, &args),
        Command::Receipt(args) => log::receipt(context, &args),
        Command::Checkpoint(args) => log::checkpoint(context, &args),
        Command::Entry(args) => log::entry(context, &args),
    }
}

/// Prints an object as JSON: over many lines, or on one with `--format jsonl`.
fn print(context: &Context, object: Map<String, Value>) -> Printed {
    let format = if context.output.format == Format::Text {
        Format::Json
    } else {
        context.output.format
    };
    Output {
        format,
        ..context.output
    }
    .object(object)
}

/// Reads a file, or stdin for `-`: at most `limit` bytes and one more, so that the reader of the
/// bytes says itself that they are too many.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Report> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map(|_| bytes).map_err(|error| {
        let code = if error.kind() == io::ErrorKind::NotFound {
            exit::NOT_FOUND
        } else {
            exit::LOCAL
        };
        Report::new(code, format!("cannot read {}", path.display())).why(error)
    })
}

/// The bytes are not of the shape.
fn malformed(path: &Path, what: &str) -> impl Fn(DecodeError) -> Report {
    let what = format!("{} is not {what}", path.display());
    move |error| Report::new(exit::INTEGRITY, what.clone()).why(error)
}
