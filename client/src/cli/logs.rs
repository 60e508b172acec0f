//! `logs`: what was seen of the servers' logs.

use std::io::IsTerminal as _;
use std::time::SystemTime;

use serde_json::{Value, json};
use ticket_format::report::{Report, exit};
use ticket_format::time::Timestamp;
use ticket_format::tlog::Origin;

use super::app::{App, Ended, talk};
use super::args;
use super::output::base64url;
use crate::logs::Remembered;

const COLUMNS: [&str; 8] = [
    "origin", "state", "shard", "entries", "root", "untied", "written", "file",
];

/// `postern logs …`.
pub fn logs(app: &App, command: Option<&args::Logs>) -> Ended {
    match command {
        None => list(app),
        Some(args::Logs::Forget {
            origin,
            yes,
            dry_run,
        }) => forget(app, origin, *yes, *dry_run),
    }
}

fn list(app: &App) -> Ended {
    let rows = app.logs()?.list()?.into_iter().map(row).collect();
    app.out.rows("logs", &COLUMNS, rows)?;
    Ok(exit::DONE)
}

/// How a log stands, in a word or with the reason.
fn state(log: &Remembered) -> String {
    match &log.failed {
        Some(why) => format!("not used: {why}"),
        None => "good".to_owned(),
    }
}

fn row(log: Remembered) -> Vec<Value> {
    let newest = log.newest.as_ref();
    let written = log.path.metadata().and_then(|meta| meta.modified()).ok();
    let written = written.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let written = written.map(|since| Timestamp::from_seconds(since.as_secs()).to_string());
    vec![
        json!(log.origin.as_str()),
        json!(state(&log)),
        json!(newest.map(|checkpoint| checkpoint.shard.number)),
        json!(newest.map(|checkpoint| checkpoint.size)),
        json!(newest.map(|checkpoint| base64url(&checkpoint.root))),
        json!(log.untied),
        json!(written),
        json!(log.path.display().to_string()),
    ]
}

fn forget(app: &App, origin: &Origin, yes: bool, dry_run: bool) -> Ended {
    let logs = app.logs()?;
    // A file that cannot be read can be forgotten too.
    let found = logs.list().unwrap_or_default();
    let found = found.into_iter().find(|log| log.origin == *origin);
    let size = found
        .and_then(|log| log.newest)
        .map_or(0, |newest| newest.size);
    if dry_run {
        let text = format!("would forget {origin}, seen with {size} entries in its newest shard");
        app.done(
            text,
            json!({ "origin": origin.as_str(), "entries": size, "dry_run": true }),
        )?;
        return Ok(exit::DONE);
    }
    if !yes {
        confirm(origin, size)?;
    }
    if !logs.forget(origin)? {
        return Err(Report::new(
            exit::NOT_FOUND,
            format!("nothing is remembered of {origin}"),
        )
        .next("see `postern logs`"));
    }
    app.done(
        format!("forgot {origin}"),
        json!({ "origin": origin.as_str(), "entries": size }),
    )?;
    Ok(exit::DONE)
}

/// Asks for the origin: without the checkpoint a history that was rewritten passes for the log.
fn confirm(origin: &Origin, size: u64) -> Result<(), Report> {
    let what = "the log is not forgotten";
    if !std::io::stdin().is_terminal() {
        return Err(Report::new(exit::USAGE, what)
            .why("its server could then show a rewritten history, and nobody here would notice")
            .next("say --yes, once security has explained it"));
    }
    talk(format!(
        "This forgets 1 log, seen with {size} entries. Its server could then show a rewritten history unnoticed. Type {origin} to go on:"
    ));
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if read.is_ok() && line.trim() == origin.as_str() {
        Ok(())
    } else {
        Err(Report::new(exit::LOCAL, what).why("the origin was not typed"))
    }
}
