//! `postern-admin admin-set`: the ceremony of the first set, later changes, and who has which.

mod change;
mod draft;
pub(crate) mod push;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use client::cli::output::{Format, Printed};
use serde_json::{Map, Value, json};
use store::files;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::ids::AdminSetDigest;
use ticket_format::limits;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{Act, AdminSetBody, ReceivedStatement};

use super::view::{object, text};
use super::words::{overview, warnings};
use super::{Context, block_on};

/// The admin set.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a realm's first set, for all its admins to sign
    Draft(Box<draft::Draft>),
    /// Show a set: the one in force as it is known here, or that of a file
    Show(Show),
    /// Propose the next set
    Change(Box<change::Change>),
    /// Bring every configured server up to the newest set
    Push(Push),
}

/// Show a set.
#[derive(Debug, Args)]
pub struct Show {
    /// An admin set's statement, or its body
    #[arg(conflicts_with = "server")]
    file: Option<PathBuf>,
    /// Ask the broker for newer ones first
    #[arg(long)]
    server: bool,
}

/// Bring servers up to date.
#[derive(Debug, Args)]
pub struct Push {
    /// Statements of sets, ascending by version [default: those that the broker has]
    files: Vec<PathBuf>,
}

/// A number for an act: `ACT=K`, or `ACT=none`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    act: Act,
    number: Option<u64>,
}

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let changing = || Act::ALL.iter().filter(|act| act.role().is_some());
        let (name, number) = text
            .split_once('=')
            .ok_or("expected ACT=K, or ACT=none: nobody may")?;
        let act = changing().find(|act| act.name() == name).ok_or_else(|| {
            let names: Vec<&str> = changing().map(|act| act.name()).collect();
            format!(
                "{name:?} is no act that a set has a number for: {}",
                names.join(", ")
            )
        })?;
        let number = match number {
            "none" => None,
            number => match number.parse() {
                Ok(number @ 1..=16) => Some(number),
                _ => return Err(format!("{number:?} is no number from 1 to 16")),
            },
        };
        Ok(Self { act: *act, number })
    }
}

impl Rule {
    /// Puts the rules into a set.
    fn apply(rules: &[Self], set: &mut AdminSetBody) {
        for rule in rules {
            match rule.number {
                Some(number) => set.quorums.insert(rule.act, number),
                None => set.quorums.remove(&rule.act),
            };
        }
    }
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::Draft(args) => draft::run(context, *args),
        Command::Show(args) => show(context, &args),
        Command::Change(args) => change::run(context, *args),
        Command::Push(args) => push::run(context, &args.files),
    }
}

/// The set of a file: of a statement, or the body alone.
///
/// # Errors
/// It is neither.
pub fn read(bytes: &[u8]) -> Result<AdminSetBody, String> {
    match ReceivedStatement::parse(bytes) {
        Ok(received) => received.body().map_err(|error| error.to_string()),
        Err(statement) => AdminSetBody::from_cbor(bytes, limits::ADMIN_SET)
            .map_err(|error| format!("{statement}; nor an admin set's body: {error}")),
    }
}

/// As JSON has it.
#[must_use]
pub fn json_of(set: &AdminSetBody) -> Map<String, Value> {
    let admins: Vec<Value> = set
        .admins
        .iter()
        .map(|admin| {
            let roles: Vec<&str> = admin.roles.iter().map(|role| role.name()).collect();
            json!({
                "name": admin.name,
                "kind": admin.kind.name(),
                "key": admin.key.to_string(),
                "roles": roles,
                "application": admin.application,
            })
        })
        .collect();
    let quorums: Map<String, Value> = set
        .quorums
        .iter()
        .map(|(act, number)| (act.name().to_owned(), json!(number)))
        .collect();
    object! {
        "version": set.version,
        "digest": text(AdminSetDigest::of(&set.to_cbor())),
        "follows": text(set.follows),
        "admins": admins,
        "quorums": quorums,
        "warnings": warnings(set),
    }
}

/// Shows a set.
pub(crate) fn print(context: &Context, set: &AdminSetBody) -> Printed {
    if context.output.format != Format::Text {
        return context.output.object(json_of(set));
    }
    let digest = AdminSetDigest::of(&set.to_cbor());
    context
        .output
        .line(format_args!("version {}, digest {digest}", set.version))?;
    overview(set)
        .iter()
        .chain(&warnings(set))
        .try_for_each(|line| context.output.line(Printable(line)))
}

fn show(context: &Context, args: &Show) -> Printed {
    if let Some(file) = &args.file {
        let unusable = |why: String| {
            Report::new(
                exit::LOCAL,
                format!("{} shows no admin set", file.display()),
            )
            .why(why)
        };
        let bytes = files::read_bounded(file, limits::STATEMENT as u64)
            .map_err(|error| unusable(error.to_string()))?;
        return print(context, &read(&bytes).map_err(unusable)?);
    }
    if args.server {
        let (_, admin) = context.admin()?;
        return block_on(async { print(context, admin.set().await?.body()) });
    }
    let config = context.config()?;
    let known = super::trust::Trust::new(config.admin_set, config.realm).load()?;
    print(context, known.set.body())
}
