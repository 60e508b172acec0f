//! `postern-admin log`: a server's own log, its witnesses, and where it goes on after it was rolled back
//! (TLOG-7, TLOG-10).

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use client::cli::output::{Format, Printed};
use serde_json::{Map, Value, json};
use ticket_format::ids::ProofHash;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{LogRecover, LogShow, LogState, LogView};
use ticket_format::tlog::{Checkpoint, SignedCheckpoint};

use super::config::{Config, Place};
use super::remote::{Change, Remote};
use super::view::{self, maybe, object, text};
use super::{Context, ask, block_on};

/// A server's own log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show its newest checkpoint, its witnesses, and what is wrong
    Show(At),
    /// Say on record that a log which was rolled back, or has forked, goes on as it stands now
    Recover(Recover),
    /// Forget what was seen of a server's log, so that it is believed again as it stands
    Forget(Forget),
}

/// Which server's.
#[derive(Debug, Args)]
pub struct At {
    /// The log of this key server (its server-keys.toml) [default: the broker's]
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
}

/// Let a log go on.
#[derive(Debug, Args)]
pub struct Recover {
    /// Whose
    #[command(flatten)]
    at: At,
    /// At a key server, that refuses tickets because the broker's log forked: let it believe the broker's log
    /// as that stands now
    #[arg(long, requires = "key_server")]
    broker_log: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Forget what was seen.
#[derive(Debug, Args)]
pub struct Forget {
    /// Whose
    #[command(flatten)]
    at: At,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::Show(at) => show(context, &at),
        Command::Recover(args) => recover(context, &args),
        Command::Forget(args) => forget(context, &args),
    }
}

fn place(config: &Config, key_server: Option<&Path>) -> Result<Place, Report> {
    Ok(match key_server {
        Some(file) => config.key_server(Some(file))?.server(),
        None => config.broker()?.server(),
    })
}

/// What a server says of its log, and its checkpoint, verified by the keys that are known here.
async fn fetched(
    remote: &mut Remote<'_>,
    place: &Place,
) -> Result<(LogView, SignedCheckpoint), Report> {
    let view = remote.ask(&LogShow {}).await?;
    let word = place.server.word;
    let broken = |why: String| {
        Report::new(
            exit::INTEGRITY,
            format!("the {word} shows a log that is not the one that is known here"),
        )
        .why(why)
        .next("find out why before anything else is asked of that server")
    };
    if view.key != place.log_key {
        return Err(broken(format!(
            "its keys are of {}, and are not those in the configuration",
            view.key.origin
        )));
    }
    let signed = place
        .log_key
        .verify(&view.checkpoint)
        .map_err(|error| broken(error.to_string()))?;
    Ok((view, signed))
}

/// How what is shown compares with what was seen before, in words; none where nothing was seen.
fn compared(seen: Option<&Checkpoint>, shown: &SignedCheckpoint) -> Option<String> {
    let (old, new) = (seen?, shown.checkpoint());
    Some(if new.shard.number < old.shard.number {
        format!(
            "LOST: shard {} with {} entries was seen before, and the server is at shard {}",
            old.shard.number, old.size, new.shard.number
        )
    } else if new.shard.number > old.shard.number {
        format!(
            "it has gone on to shard {} since shard {} was seen",
            new.shard.number, old.shard.number
        )
    } else if new.size < old.size {
        format!(
            "LOST: {} entries of this shard were seen before, and {} are there",
            old.size, new.size
        )
    } else if new.size == old.size && new.root != old.root {
        format!(
            "FORKED: {} entries of this shard were seen with another root",
            old.size
        )
    } else {
        format!("{} entries of this shard were seen before", old.size)
    })
}

fn json_of(
    view: &LogView,
    signed: &SignedCheckpoint,
    compared: Option<&String>,
) -> Map<String, Value> {
    let checkpoint = signed.checkpoint();
    let witnesses: Vec<Value> = view
        .witnesses
        .iter()
        .map(|row| {
            json!({
                "name": row.name,
                "state": row.state.name(),
                "size": row.size,
                "ago_ms": row.ago_ms,
            })
        })
        .collect();
    object! {
        "log": text(&view.key.origin),
        "log_keys": view::log_key(&view.key),
        "state": view.state.name(),
        "wrong": Some(&view.wrong).filter(|wrong| !wrong.is_empty()),
        "shard": checkpoint.shard.number,
        "size": checkpoint.size,
        "root": text(ProofHash(checkpoint.root)),
        "signed": text(signed.time()),
        "compared": maybe(compared),
        "witnesses": witnesses,
    }
}

fn show(context: &Context, at: &At) -> Printed {
    let (config, admin) = context.admin()?;
    let place = place(&config, at.key_server.as_deref())?;
    block_on(async {
        let mut remote = admin.at(place.clone());
        let (view, signed) = fetched(&mut remote, &place).await?;
        remote.close().await;
        let seen = admin.remembered(&place.log_key.origin)?;
        let compared = compared(seen.as_ref(), &signed);
        let mut shown = json_of(&view, &signed, compared.as_ref());
        if context.output.format == Format::Text {
            shown.remove("log_keys");
        }
        context.output.object(shown)
    })
}

/// What stays, what is lost, and what that means.
fn words(view: &LogView, goes_on: &Checkpoint, seen: Option<&Checkpoint>) -> Vec<String> {
    let mut lines = vec![format!(
        "the log goes on behind {} entries of {} with root {}",
        goes_on.size,
        goes_on.shard,
        ProofHash(goes_on.root)
    )];
    if !view.wrong.is_empty() {
        lines.push(format!("what is wrong: {}", view.wrong));
    }
    for witness in &view.witnesses {
        if let Some(size) = witness.size.filter(|size| *size > goes_on.size) {
            lines.push(format!(
                "LOST: {} entries that witness {} has cosigned",
                size - goes_on.size,
                witness.name
            ));
        }
    }
    let before =
        seen.filter(|seen| (seen.shard.number, seen.size) > (goes_on.shard.number, goes_on.size));
    if let Some(seen) = before {
        lines.push(format!(
            "LOST: what {} had up to {} entries, which this admin has seen",
            seen.shard, seen.size
        ));
    }
    lines.push("acts that only the lost entries tell of are on record nowhere: logins, tickets, denials and keys released meanwhile".to_owned());
    lines
}

fn recover(context: &Context, args: &Recover) -> Printed {
    let (config, admin) = context.admin()?;
    let patient = place(&config, args.at.key_server.as_deref())?;
    block_on(async {
        let mut remote = admin.at(patient.clone());
        let (view, signed) = fetched(&mut remote, &patient).await?;
        let (shown, whose) = match (view.state, args.broker_log) {
            (LogState::RolledBack, false) => ((view, signed), patient.clone()),
            (LogState::BrokerForked, true) => {
                // The broker's log, as the broker has it now.
                let broker = config.broker()?.server();
                let mut at_broker = admin.at(broker.clone());
                let shown = fetched(&mut at_broker, &broker).await?;
                at_broker.close().await;
                (shown, broker)
            }
            (state, _) => {
                return Err(Report::new(exit::CONFLICT, "there is nothing to recover so")
                    .why(format!("the {} says that its state is {state}", patient.server.word))
                    .next("see `postern-admin log show`; at a key server that refuses the broker's log, give --broker-log"));
            }
        };
        let (view, signed) = shown;
        let checkpoint = signed.checkpoint();
        let seen = admin.remembered(&whose.log_key.origin)?;
        for line in words(&view, checkpoint, seen.as_ref()) {
            context.talk(Printable(&line));
        }
        let body = LogRecover {
            shard: checkpoint.shard.to_string(),
            size: checkpoint.size,
            root: checkpoint.root,
        };
        if args.dry_run {
            remote.close().await;
            return context.output.object(object! {
                "shard": body.shard,
                "size": body.size,
                "root": text(ProofHash(body.root)),
                "dry_run": true,
            });
        }
        ask::confirm_async(args.yes, whose.log_key.origin.to_string()).await?;
        let change = remote.change(&body).await?;
        remote.close().await;
        if let Change::Proposed(proposed) = change {
            if proposed.file.is_none() && whose.server.word == "broker" {
                context.talk("A broker that was rolled back may refuse its inbox: --propose FILE leaves a file instead");
            }
            proposed.print(context)?;
            context.talk("When it is carried out, each admin lets go of what was seen: postern-admin log forget");
            return Ok(());
        }
        // This admin has just said that it is accounted for.
        if let Some(logs) = admin.logs() {
            let forgotten = logs.forget(&whose.log_key.origin);
            forgotten.map_err(|error| error.report())?;
        }
        context.output.object(object! {
            "recovered": text(&whose.log_key.origin),
            "shard": body.shard,
            "size": body.size,
            "root": text(ProofHash(body.root)),
        })
    })
}

fn forget(context: &Context, args: &Forget) -> Printed {
    let config = context.config()?;
    let place = place(&config, args.at.key_server.as_deref())?;
    let key = &place.log_key;
    let logs = config.logs_seen();
    let all = logs.list().map_err(|error| error.report())?;
    if let Some(known) = all.iter().find(|known| known.origin == key.origin) {
        if let Some(Checkpoint { shard, size, .. }) = &known.newest {
            context.talk(format_args!(
                "{size} entries of {shard} were seen; what the server shows next is believed"
            ));
        }
        if let Some(why) = &known.failed {
            context.talk(format_args!(
                "the server is not used because {}",
                Printable(why)
            ));
        }
    }
    ask::confirm(args.yes, &key.origin.to_string())?;
    let forgotten = logs.forget(&key.origin);
    let known = forgotten.map_err(|error| error.report())?;
    context
        .output
        .object(object! { "log": text(&key.origin), "forgotten": known })
}
