//! A dataset's KEK versions, at its key server (`spec/vault.md`, sections 1 and 2).

use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::{Format, Printed};
use serde_json::{Map, Value, json};
use ticket_format::Context as Pairs;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{
    KekDestroy, KekKeep, KekList, KekRotate, KekRow, KekSet, KekState, WrapRow,
};

use super::{name_fits, options, wraps};
use crate::admin::remote::{Change, Remote};
use crate::admin::view::{self, object, text};
use crate::admin::{Context, ask, block_on};

/// Which dataset's.
#[derive(Debug, Args)]
pub struct Of {
    /// The dataset's name
    name: String,
    /// The dataset's key server (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
}

/// Which KEK version.
#[derive(Debug, Args)]
pub struct Version {
    #[command(flatten)]
    of: Of,
    /// The version's number, as `dataset keks` shows it
    #[arg(long, value_name = "N")]
    version: u64,
}

impl Version {
    /// The dataset's name.
    pub(super) fn name(&self) -> &str {
        &self.of.name
    }

    /// The version's number.
    pub(super) fn number(&self) -> u64 {
        self.version
    }

    /// The key server that was named.
    pub(super) fn key_server(&self) -> Option<&Path> {
        self.of.key_server.as_deref()
    }
}

/// Have a KEK version destroyed.
#[derive(Debug, Args)]
pub struct Destroy {
    #[command(flatten)]
    which: Version,
    /// How long it waits, in days: 7 to 90
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(7..=90))]
    days: u64,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would be lost, and do nothing
    #[arg(long)]
    dry_run: bool,
}

const COLUMNS: [&str; 10] = [
    "version",
    "state",
    "origin",
    "created",
    "last used",
    "wraps left",
    "destroyed",
    "kek",
    "dependants",
    "public key",
];

/// A dataset's KEK versions as its key server has them, the newest first; at least one.
pub(crate) async fn versions(server: &mut Remote<'_>, name: &str) -> Result<Vec<KekRow>, Report> {
    let rows = server
        .ask(&KekList {
            name: name.to_owned(),
        })
        .await?
        .rows;
    let newest_first = rows.windows(2).all(|two| two[0].version > two[1].version);
    let wrapping = rows.iter().enumerate();
    let one_wraps = wrapping
        .filter(|(_, row)| row.state == KekState::Enabled)
        .all(|(place, _)| place == 0);
    // rule: KEK-1
    if rows.is_empty() || !newest_first || !one_wraps {
        return Err(Report::new(
            exit::INTEGRITY,
            "the key server lists KEK versions that cannot be",
        )
        .why("they are not in order, or another than the newest wraps")
        .next("use nothing of this server; find out who changed what"));
    }
    Ok(rows)
}

/// One version by its number.
pub(crate) fn numbered(rows: &[KekRow], version: u64) -> Result<&KekRow, Report> {
    rows.iter()
        .find(|row| row.version == version)
        .ok_or_else(|| {
            Report::new(
                exit::NOT_FOUND,
                format!("the dataset has no KEK version {version}"),
            )
            .next("see `postern-admin dataset keks`")
        })
}

/// Rotates: the next version wraps from now on.
///
/// # Errors
/// The key server cannot be reached or refused, or says that it did something else.
pub(super) fn rotate(context: &Context, of: &Of) -> Printed {
    // rule: KEK-2
    name_fits(&of.name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(of.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, &of.name).await?;
        let Some(newest) = rows.first() else {
            return Ok(());
        };
        let body = KekRotate {
            name: of.name.clone(),
            replaces: newest.kek,
        };
        match server.change(&body).await? {
            Change::Proposed(proposed) => return proposed.print(context),
            Change::Done(made, _) => {
                if made.server_key != keys.signing_key || made.log_key != keys.log_key {
                    return Err(super::record::other_key(&keys));
                }
            }
            Change::Before(_) => context.talk("The first answer was lost; the KEK was rotated"),
        }
        let after = versions(&mut server, &of.name).await?;
        server.close().await;
        let made = after.first().filter(|row| {
            row.version > newest.version && after.iter().any(|old| old.kek == newest.kek)
        });
        let made = made.ok_or_else(|| {
            Report::new(
                exit::INTEGRITY,
                "the key server says that it rotated, and shows no new version",
            )
            .next("look with `postern-admin dataset keks`, and find out why")
        })?;
        options::then_record(context, &of.name);
        let mut about = row_json(made);
        about.insert("dataset".to_owned(), json!(of.name));
        about.insert("replaces".to_owned(), text(newest.kek));
        context.output.object(about)
    })
}

/// Lists them.
///
/// # Errors
/// The key server cannot be reached or refused.
pub(super) fn list(context: &Context, of: &Of) -> Printed {
    name_fits(&of.name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(of.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, &of.name).await?;
        server.close().await;
        if context.output.format != Format::Text {
            let names = [
                "version",
                "state",
                "origin",
                "created",
                "last_used",
                "wraps",
                "destroyed",
                "kek",
                "dependants",
                "public_key_hash",
            ];
            return context
                .output
                .rows("keks", &names, rows.iter().map(cells).collect());
        }
        // The last two columns are for programs.
        let cells = rows.iter().map(|row| {
            let mut cells = cells(row);
            cells.truncate(8);
            cells
        });
        context
            .output
            .rows("keks", &COLUMNS[..8], cells.collect())?;
        for row in rows.iter().skip(1) {
            if let Some(line) = safe(row) {
                context.talk(line);
            }
        }
        Ok(())
    })
}

/// Whether a version that is not the newest may go, in words.
fn safe(row: &KekRow) -> Option<String> {
    // rule: INV-2
    let left = matches!(row.state, KekState::DecryptOnly | KekState::Disabled);
    (left && row.wraps == 0).then(|| {
        format!(
            "v{}: 0 wraps left, safe to destroy; wraps by producers that nobody has brought yet are not known here",
            row.version
        )
    })
}

fn cells(row: &KekRow) -> Vec<Value> {
    row_json(row).into_iter().map(|(_, value)| value).collect()
}

/// A version as an object.
pub(crate) fn row_json(row: &KekRow) -> Map<String, Value> {
    object! {
        "version": row.version,
        "state": row.state.name(),
        "origin": row.origin.name(),
        "created": text(row.created),
        "last_used": view::maybe(row.last_used),
        "wraps": row.wraps,
        "destroyed": view::maybe(row.destroyed),
        "kek": text(row.kek),
        "dependants": text(ticket_format::ids::ProofHash(row.dependants)),
        "public_key_hash": view::maybe(row.public_key.as_ref().map(|key| key.hash())),
    }
}

/// Takes a version out of use, or back into it.
///
/// # Errors
/// There is no such version, or the key server cannot be reached or refused.
pub(super) fn set(context: &Context, which: &Version, usable: bool) -> Printed {
    // rule: KEK-1
    change(context, which, |row| KekSet {
        name: which.of.name.clone(),
        kek: row.kek,
        usable,
    })
}

/// Takes a destruction back.
///
/// # Errors
/// As [`set`].
pub(super) fn keep(context: &Context, which: &Version) -> Printed {
    // rule: KEK-4
    change(context, which, |row| KekKeep {
        name: which.of.name.clone(),
        kek: row.kek,
    })
}

fn change<B>(context: &Context, which: &Version, body: impl FnOnce(&KekRow) -> B) -> Printed
where
    B: ticket_format::statement::ActBody<Result = KekRow>,
{
    name_fits(&which.of.name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(which.of.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, &which.of.name).await?;
        let row = numbered(&rows, which.version)?;
        let after = match server.change(&body(row)).await? {
            Change::Proposed(proposed) => return proposed.print(context),
            Change::Done(after, _) => after,
            Change::Before(_) => {
                context.talk("The first answer was lost; it is done");
                let rows = versions(&mut server, &which.of.name).await?;
                numbered(&rows, which.version)?.clone()
            }
        };
        server.close().await;
        same(row, &after)?;
        context.output.object(row_json(&after))
    })
}

/// What the server answers must be of the version that was named.
fn same(row: &KekRow, after: &KekRow) -> Result<(), Report> {
    if (row.kek, row.version) == (after.kek, after.version) {
        return Ok(());
    }
    Err(Report::new(
        exit::INTEGRITY,
        "the key server answers for another KEK version than was asked",
    )
    .next("look with `postern-admin dataset keks`, and find out why"))
}

/// What would be lost with a version, in words: how many wraps, and the first few by their names.
pub(crate) fn losses(row: &KekRow, first: &[WrapRow]) -> Vec<String> {
    if row.wraps == 0 {
        return vec![format!(
            "no wrap under version {} is known here; wraps by producers that nobody has brought yet are not",
            row.version
        )];
    }
    let mut lines = vec![format!(
        "{} KNOWN WRAP(S) UNDER VERSION {} WOULD NEVER OPEN AGAIN; last used {}",
        row.wraps,
        row.version,
        row.last_used
            .map_or_else(|| "never".to_owned(), |time| time.to_string())
    )];
    for wrap in first.iter().take(SHOWN) {
        let name = wrap
            .context
            .as_ref()
            .and_then(|pairs| pairs.get(Pairs::NAME));
        lines.push(format!(
            "lost: {} (wrap {}, last made or opened {})",
            name.unwrap_or("a wrap whose context is not recorded any more"),
            wrap.digest,
            wrap.seen
        ));
    }
    let more = row.wraps.saturating_sub(first.len().min(SHOWN) as u64);
    if more > 0 {
        lines.push(format!(
            "and {more} more: see `postern-admin dataset wraps --version {}`",
            row.version
        ));
    }
    lines
}

/// So many wraps are named where something is about to be lost.
const SHOWN: usize = 10;

/// Has a version destroyed after a wait, by security's quorum.
///
/// # Errors
/// There is no such version, it cannot be destroyed, nobody confirmed, or the key server cannot be
/// reached or refused.
pub(super) fn destroy(context: &Context, args: &Destroy) -> Printed {
    // rule: KEK-4, ADM-5
    let which = &args.which;
    name_fits(&which.of.name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(which.of.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, &which.of.name).await?;
        let row = numbered(&rows, which.version)?;
        if rows.first().is_some_and(|newest| newest.kek == row.kek) {
            return Err(
                Report::new(exit::USAGE, "the newest KEK version cannot be destroyed").next(
                    format!(
                        "rotate first: postern-admin dataset rotate {}",
                        which.of.name
                    ),
                ),
            );
        }
        if matches!(
            row.state,
            KekState::PendingDestruction | KekState::Destroyed
        ) {
            return Err(Report::new(
                exit::CONFLICT,
                format!("version {} is {} already", row.version, row.state),
            ));
        }
        let first = wraps::first(&mut server, &which.of.name, row).await?;
        let body = KekDestroy {
            name: which.of.name.clone(),
            kek: row.kek,
            days: args.days,
            wraps: row.wraps,
            dependants: row.dependants,
        };
        for line in losses(row, &first) {
            context.talk(Printable(&line));
        }
        context.talk(format_args!(
            "It opens nothing from then on, and is destroyed {} days later; until then: postern-admin dataset keep {} --version {}",
            args.days, which.of.name, row.version
        ));
        if args.dry_run {
            server.close().await;
            let mut about = row_json(row);
            about.insert("days".to_owned(), json!(args.days));
            about.insert("dry_run".to_owned(), json!(true));
            return context.output.object(about);
        }
        ask::confirm_async(args.yes, which.of.name.clone()).await?;
        let after = match server.change(&body).await? {
            Change::Proposed(proposed) => {
                server.close().await;
                return proposed.print(context);
            }
            Change::Done(after, _) => after,
            Change::Before(_) => {
                context.talk("The first answer was lost; it is done");
                let rows = versions(&mut server, &which.of.name).await?;
                numbered(&rows, which.version)?.clone()
            }
        };
        server.close().await;
        same(row, &after)?;
        context.output.object(row_json(&after))
    })
}
