//! A dataset's KEK versions, at its key server (`spec/vault.md`, sections 1 and 2).

mod said;

use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::{Format, Printed};
use serde_json::json;
use ticket_format::ids::KekId;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::keks::WAIT_DAYS;
use ticket_format::statement::{KekDestroy, KekKeep, KekList, KekRotate, KekRow, KekSet, KekState};

use said::{COLUMNS, FOR_PEOPLE, NOT_KNOWN, safe};
pub(crate) use said::{
    destroyable, jsons, keepable, losses, row_json, sentences, set_to, settable, stops,
};

use super::{name_fits, options, wraps};
use crate::admin::proposal::Proposed;
use crate::admin::remote::{Change, Remote};
use crate::admin::view::text;
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

/// Make the next KEK version.
#[derive(Debug, Args)]
pub struct Rotate {
    #[command(flatten)]
    of: Of,
    /// Only if this version is the newest: so a script that is run again rotates once
    #[arg(long, value_name = "VERSION")]
    after: Option<u64>,
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

/// Take a KEK version out of use.
#[derive(Debug, Args)]
pub struct Disable {
    #[command(flatten)]
    which: Version,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would not open any more, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Have a KEK version destroyed.
#[derive(Debug, Args)]
pub struct Destroy {
    #[command(flatten)]
    which: Version,
    /// How long it waits, in days: 7 to 90
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(WAIT_DAYS))]
    days: u64,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would be lost, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A dataset's KEK versions as its key server has them, the newest first; at least one.
pub(crate) async fn versions(server: &mut Remote<'_>, name: &str) -> Result<Vec<KekRow>, Report> {
    let rows = server
        .ask(&KekList {
            name: name.to_owned(),
        })
        .await?
        .rows;
    if plausible(&rows) {
        return Ok(rows);
    }
    Err(Report::new(
        exit::INTEGRITY,
        "the key server lists KEK versions that cannot be",
    )
    .why("there are none, they are not in order, or another than the newest wraps")
    .next("use nothing of this server; find out who changed what"))
}

/// Whether these can be a dataset's versions, the newest first.
fn plausible(rows: &[KekRow]) -> bool {
    // rule: KEK-1
    let ordered = rows.windows(2).all(|two| two[0].version > two[1].version);
    let mut older = rows.iter().skip(1);
    ordered && !rows.is_empty() && older.all(|row| row.state != KekState::Enabled)
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
/// Another version than `--after` is the newest, the key server cannot be reached or refused, or says
/// that it did something else.
pub(super) fn rotate(context: &Context, args: &Rotate) -> Printed {
    // rule: KEK-2
    let of = &args.of;
    name_fits(&of.name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(of.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, &of.name).await?;
        let newest = &rows[0];
        if args.after.is_some_and(|after| after != newest.version) {
            return Err(Report::new(
                exit::CONFLICT,
                format!(
                    "version {} is the newest: nothing was rotated",
                    newest.version
                ),
            )
            .next(
                "look with `postern-admin dataset keks`; somebody, or the rotation rule, was first",
            ));
        }
        let body = KekRotate {
            name: of.name.clone(),
            replaces: newest.kek,
        };
        let made = match server.change(&body).await? {
            Change::Proposed(proposed) => {
                server.close().await;
                proposed.print(context)?;
                options::then_record(context, &of.name);
                return Ok(());
            }
            Change::Done(made, _) => {
                if made.server_key != keys.signing_key || made.log_key != keys.log_key {
                    return Err(super::record::other_key(&keys));
                }
                Some(made.kek)
            }
            Change::Before(_) => {
                context.talk("The first answer was lost; the KEK was rotated");
                None
            }
        };
        let after = versions(&mut server, &of.name).await?;
        server.close().await;
        let made = follows(newest, made, &after)?;
        options::then_record(context, &of.name);
        let mut about = row_json(made, true);
        about.insert("dataset".to_owned(), json!(of.name));
        about.insert("replaces".to_owned(), text(newest.kek));
        context.output.object(about)
    })
}

/// The version that a rotation made: the one after the newest before it. The list must have both; a
/// rotation rule may have made others since.
fn follows<'a>(
    before: &KekRow,
    made: Option<KekId>,
    after: &'a [KekRow],
) -> Result<&'a KekRow, Report> {
    // rule: KEK-2
    let stays = after.iter().any(|row| row.kek == before.kek);
    let next = after.iter().find(|row| row.version == before.version + 1);
    next.filter(|next| stays && made.is_none_or(|made| made == next.kek))
        .ok_or_else(|| {
            Report::new(
                exit::INTEGRITY,
                "the key server says that it rotated, and shows no version that follows",
            )
            .next("look with `postern-admin dataset keks`, and find out why")
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
        let shown = match context.output.format {
            Format::Text => FOR_PEOPLE,
            Format::Json | Format::Jsonl => COLUMNS.len(),
        };
        let cells = jsons(&rows).map(|row| row.into_iter().map(|(_, value)| value));
        let cells = cells.map(|row| row.take(shown).collect());
        context
            .output
            .rows("keks", &COLUMNS[..shown], cells.collect())?;
        for line in sentences(&rows) {
            context.talk(line);
        }
        if rows.iter().skip(1).any(safe) {
            context.talk(NOT_KNOWN);
        }
        Ok(())
    })
}

/// Takes a version out of use.
///
/// # Errors
/// There is no such version, it is to be destroyed or was, nobody confirmed, or the key server cannot be
/// reached or refused.
pub(super) fn disable(context: &Context, args: &Disable) -> Printed {
    set(
        context,
        &args.which,
        false,
        Ask::Before {
            yes: args.yes,
            dry_run: args.dry_run,
        },
    )
}

/// Takes a version back into use.
///
/// # Errors
/// There is no such version, it is to be destroyed or was, or the key server cannot be reached or
/// refused.
pub(super) fn enable(context: &Context, which: &Version) -> Printed {
    set(context, which, true, Ask::Nobody)
}

fn set(context: &Context, which: &Version, usable: bool, asks: Ask) -> Printed {
    // rule: KEK-1
    change(
        context,
        which,
        asks,
        |row, newest| settable(row).map(|()| set_to(newest, usable)),
        |row| KekSet {
            name: which.of.name.clone(),
            kek: row.kek,
            usable,
        },
    )
}

/// Whether somebody is asked before a version is changed.
enum Ask {
    /// Nothing stops working.
    Nobody,
    /// Nodes may lose what they read.
    Before { yes: bool, dry_run: bool },
}

/// Takes a destruction back.
///
/// # Errors
/// As [`set`], and that the version is not to be destroyed.
pub(super) fn keep(context: &Context, which: &Version) -> Printed {
    // rule: KEK-4
    change(
        context,
        which,
        Ask::Nobody,
        |row, _| keepable(row).map(|()| KekState::Disabled),
        |row| KekKeep {
            name: which.of.name.clone(),
            kek: row.kek,
        },
    )
}

fn change<B>(
    context: &Context,
    which: &Version,
    asks: Ask,
    to: impl FnOnce(&KekRow, bool) -> Result<KekState, Report>,
    body: impl FnOnce(&KekRow) -> B,
) -> Printed
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
        let newest = row.kek == rows[0].kek;
        let to = to(row, newest)?;
        if row.state == to {
            server.close().await;
            context.talk(format_args!("It is {to} already: nothing was done"));
            return context.output.object(row_json(row, newest));
        }
        if let Ask::Before { yes, dry_run } = asks {
            for line in stops(row, newest) {
                context.talk(line);
            }
            if dry_run {
                server.close().await;
                let mut about = row_json(row, newest);
                about.insert("dry_run".to_owned(), json!(true));
                return context.output.object(about);
            }
            ask::confirm_async(yes, which.of.name.clone()).await?;
        }
        let done = carried_out(context, &mut server, which, body(row)).await?;
        server.close().await;
        match done {
            Carried::Proposed(proposed) => proposed.print(context),
            Carried::Out(after) => {
                became(row, &after, to)?;
                context.output.object(row_json(&after, newest))
            }
        }
    })
}

/// What became of a change of one version.
enum Carried {
    Proposed(Proposed),
    /// The version as it is now.
    Out(Box<KekRow>),
}

async fn carried_out<B>(
    context: &Context,
    server: &mut Remote<'_>,
    which: &Version,
    body: B,
) -> Result<Carried, Report>
where
    B: ticket_format::statement::ActBody<Result = KekRow>,
{
    Ok(match server.change(&body).await? {
        Change::Proposed(proposed) => Carried::Proposed(proposed),
        Change::Done(after, _) => Carried::Out(Box::new(after)),
        Change::Before(_) => {
            context.talk("The first answer was lost; it is done");
            let rows = versions(server, &which.of.name).await?;
            Carried::Out(Box::new(numbered(&rows, which.version)?.clone()))
        }
    })
}

/// What the server answers must be of the version that was named, and in the state that was asked for.
fn became(row: &KekRow, after: &KekRow, to: KekState) -> Result<(), Report> {
    if (row.kek, row.version, to) == (after.kek, after.version, after.state) {
        return Ok(());
    }
    Err(Report::new(
        exit::INTEGRITY,
        "the key server did something else with a KEK version than was asked",
    )
    .why(format!(
        "asked was version {} {to}, it says version {} {}",
        row.version, after.version, after.state
    ))
    .next("look with `postern-admin dataset keks`, and find out why"))
}

/// Has a version destroyed after a wait, by security's quorum.
///
/// # Errors
/// There is no such version, it cannot be destroyed, nobody confirmed, or the key server cannot be
/// reached or refused.
pub(super) fn destroy(context: &Context, args: &Destroy) -> Printed {
    // rule: KEK-4, ADM-5
    let which = &args.which;
    let name = &which.of.name;
    name_fits(name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(which.of.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, name).await?;
        let row = numbered(&rows, which.version)?;
        destroyable(row, row.kek == rows[0].kek)?;
        let first = wraps::first(&mut server, name, row).await?;
        for line in losses(row, &first) {
            context.talk(Printable(&line));
        }
        context.talk(Printable(&format!(
            "Once carried out it opens nothing, and is destroyed {} days later; until then: postern-admin dataset keep {name} --version {}",
            args.days, row.version
        )));
        if args.dry_run {
            server.close().await;
            let mut about = row_json(row, false);
            about.insert("days".to_owned(), json!(args.days));
            about.insert("dry_run".to_owned(), json!(true));
            return context.output.object(about);
        }
        ask::confirm_async(args.yes, name.clone()).await?;
        let body = KekDestroy {
            name: name.clone(),
            kek: row.kek,
            days: args.days,
            wraps: row.wraps,
            dependants: row.dependants,
        };
        let done = carried_out(context, &mut server, which, body).await?;
        server.close().await;
        match done {
            Carried::Proposed(proposed) => proposed.print(context),
            Carried::Out(after) => {
                became(row, &after, KekState::PendingDestruction)?;
                context.output.object(row_json(&after, false))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use ticket_format::statement::KekOrigin;
    use ticket_format::time::Timestamp;

    use super::*;

    fn row(version: u8, state: KekState) -> KekRow {
        KekRow {
            kek: KekId([version; 16]),
            version: version.into(),
            state,
            origin: KekOrigin::Generated,
            provenance: None,
            expiry: None,
            created: Timestamp::from_seconds(1),
            public_key: None,
            wraps: 0,
            dependants: [0; 32],
            last_used: None,
            destroyed: None,
            since: None,
        }
    }

    #[test]
    fn versions_that_cannot_be_are_not_believed() {
        // rule: KEK-1
        use KekState::{DecryptOnly, Disabled, Enabled};
        assert!(plausible(&[row(2, Enabled), row(1, DecryptOnly)]));
        assert!(plausible(&[row(2, Disabled), row(1, DecryptOnly)]));
        assert!(!plausible(&[]));
        assert!(!plausible(&[row(1, DecryptOnly), row(2, Enabled)]));
        assert!(!plausible(&[row(2, DecryptOnly), row(2, Disabled)]));
        assert!(!plausible(&[row(2, Disabled), row(1, Enabled)]));
    }

    #[test]
    fn a_rotation_that_is_not_listed_is_not_believed() {
        // rule: KEK-2
        use KekState::{DecryptOnly, Enabled};
        let before = row(1, Enabled);
        let after = [row(3, Enabled), row(2, DecryptOnly), row(1, DecryptOnly)];
        let made = |made, rows| follows(&before, made, rows).map(|row| row.version);
        assert_eq!(made(Some(KekId([2; 16])), &after[1..]).ok(), Some(2));
        assert_eq!(made(None, &after[1..]).ok(), Some(2));
        // The rotation rule made another one since.
        assert_eq!(made(Some(KekId([2; 16])), &after).ok(), Some(2));
        for refused in [
            made(Some(KekId([9; 16])), &after),
            made(None, &after[..2]),
            made(None, &after[2..]),
        ] {
            assert_eq!(refused.unwrap_err().exit, exit::INTEGRITY);
        }
    }

    #[test]
    fn what_was_done_with_another_version_or_another_way_is_not_believed() {
        // rule: KEK-1
        use KekState::{DecryptOnly, Disabled};
        let before = row(1, DecryptOnly);
        assert!(became(&before, &row(1, Disabled), Disabled).is_ok());
        for after in [row(1, DecryptOnly), row(2, Disabled)] {
            let refused = became(&before, &after, Disabled).unwrap_err();
            assert_eq!(refused.exit, exit::INTEGRITY);
        }
    }
}
