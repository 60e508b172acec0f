//! `doctor`: everything that this machine needs, one line each.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::ticket::{self, DatasetClaims, NodeClaims};
use ticket_format::time::Timestamp;
use ticket_format::tlog::LogKey;

use super::app::{App, Ended, now};
use super::exec;
use super::login::{evidence, live};
use super::settings::{Origin, Setting};
use crate::Error;
use crate::agent::asked;
use crate::agent::wire::{Answer, Request};
use crate::issue::Opened;
use crate::link::Server;
use crate::login::Evidence;
use crate::logs::LoggedLink;
use crate::state::NodeState;
use crate::wallet::Wallet;

const WAIT: Duration = Duration::from_secs(5);

/// What was found of one thing.
struct Check {
    what: String,
    found: Result<String, Report>,
}

impl Check {
    fn of(what: impl Into<String>, found: Result<String, Report>) -> Self {
        let what = what.into();
        Self { what, found }
    }
}

/// `postern doctor`.
pub async fn doctor(app: &App) -> Ended {
    let mut checks = Vec::new();
    let evidence = evidence(app, app.patience(WAIT)?, false).await;
    let evidence = note(&mut checks, "metadata", evidence, |evidence| {
        format!("user-data and identity proof of {} hold", evidence.node)
    });
    let state = note(&mut checks, "state", app.state(), |state| {
        format!("node key of {}", state.node)
    });
    if let (Some(evidence), Some(state)) = (&evidence, &state) {
        checks.push(Check::of("instance", same_instance(evidence, state)));
    }
    let wallet = state.as_ref().map(|state| wallet(app, state));
    let wallet = wallet.and_then(|wallet| {
        note(&mut checks, "wallet", wallet, |wallet| {
            format!("private, {} dataset tickets", wallet.datasets.len())
        })
    });
    if let (Some(state), Some(wallet)) = (&state, &wallet) {
        checks.push(Check::of("node ticket", node_ticket(state, wallet)));
        checks.push(Check::of("clock", clock(app, state, wallet)));
    }
    for (what, server, key) in servers(evidence.as_ref(), state.as_ref(), wallet.as_ref()) {
        let found = reach(app, &server, &key).await;
        checks.push(Check::of(what, found));
    }
    if let Some(found) = agent(app).await {
        checks.push(Check::of("agent", found));
    }
    print(app, checks)
}

/// The node's agent, where one was named or has left a socket.
async fn agent(app: &App) -> Option<Result<String, Report>> {
    let path = match exec::socket(app) {
        Ok(path) => path,
        Err(report) => return Some(Err(report)),
    };
    let named = app.settings.effective(Setting::Agent);
    let named = named.is_some_and(|named| named.origin != Origin::Default);
    if !named && path.symlink_metadata().is_err() {
        return None;
    }
    let asked = async {
        let mut stream = asked::connect(&path).await?;
        asked::ask(&mut stream, &Request::Status, WAIT).await
    };
    Some(asked.await.map(|answer| {
        let serves = match answer {
            Answer::Status(_) => "answers this user",
            _ => "serves this user nothing",
        };
        format!("listens at {}, and {serves}", path.display())
    }))
}

/// Keeps what was found and a line about it.
fn note<T>(
    checks: &mut Vec<Check>,
    what: &str,
    found: Result<T, Report>,
    say: impl FnOnce(&T) -> String,
) -> Option<T> {
    let (line, kept) = match found {
        Ok(found) => (Ok(say(&found)), Some(found)),
        Err(report) => (Err(report), None),
    };
    checks.push(Check::of(what, line));
    kept
}

fn same_instance(evidence: &Evidence, state: &NodeState) -> Result<String, Report> {
    if evidence.node == state.node {
        Ok("the state is this instance's".to_owned())
    } else {
        Err(Report::new(
            exit::LOCAL,
            format!("the state is of {}, this is {}", state.node, evidence.node),
        )
        .next("run `postern login`: it starts anew"))
    }
}

fn wallet(app: &App, state: &NodeState) -> Result<Wallet, Report> {
    let file = app.wallet_file()?;
    if file.path().symlink_metadata().is_err() {
        return Err(Report::new(
            exit::NO_TICKET,
            format!("there is no wallet at {}", file.path().display()),
        )
        .next("run `postern login`"));
    }
    Ok(file.load(&state.wallet_key)?)
}

fn node_ticket(state: &NodeState, wallet: &Wallet) -> Result<String, Report> {
    let none = || Error::NoTicket("none is live").report();
    let (_, claims) = live(state, wallet).ok_or_else(none)?;
    Ok(format!("live until {}", claims.common.expires))
}

/// The clock against the broker's, by the latest ticket: the wallet was written when it came.
fn clock(app: &App, state: &NodeState, wallet: &Wallet) -> Result<String, Report> {
    let latest = latest_issue(state, wallet).ok_or_else(|| {
        Report::new(
            exit::NO_TICKET,
            "no ticket says what the broker's clock reads",
        )
        .next("run `postern login`")
    })?;
    let file = app.wallet_file()?;
    let written = file
        .path()
        .metadata()
        .map(|meta| meta.mtime())
        .unwrap_or_default();
    let written = Timestamp::from_seconds(u64::try_from(written).unwrap_or_default());
    let skew = written.since(latest).max(latest.since(written));
    let ahead = latest.since(now());
    if skew > limits::SKEW || ahead > limits::SKEW {
        let what = format!(
            "this clock was {} s from the broker's at the last ticket",
            skew.max(ahead)
        );
        Err(Report::new(exit::CONFIG, what).next("set the clock: 60 s are allowed"))
    } else {
        Ok(format!("{skew} s from the broker's at the last ticket"))
    }
}

fn latest_issue(state: &NodeState, wallet: &Wallet) -> Option<Timestamp> {
    let key = &state.pins.ticket_keys;
    let node = wallet.node.iter().filter_map(|session| {
        let verified = ticket::verify_for_anyone::<NodeClaims>(&session.ticket, key).ok()?;
        Some(verified.claims().common.issued)
    });
    let datasets = wallet.datasets.iter().filter_map(|session| {
        let verified = ticket::verify_for_anyone::<DatasetClaims>(&session.ticket, key).ok()?;
        Some(verified.claims().common.issued)
    });
    node.chain(datasets).max()
}

/// Every server that is known, with its log's keys: the broker, and the key servers of live dataset
/// tickets.
fn servers(
    evidence: Option<&Evidence>,
    state: Option<&NodeState>,
    wallet: Option<&Wallet>,
) -> Vec<(String, Server, LogKey)> {
    let pinned = state.map(|state| (state.pins.broker.clone(), state.pins.log_key.clone()));
    let of_bootstrap =
        |evidence: &Evidence| (evidence.broker(), evidence.bootstrap.log_key.clone());
    let broker = pinned.or_else(|| evidence.map(of_bootstrap));
    let mut servers: Vec<_> = broker
        .into_iter()
        .map(|(server, key)| ("broker".to_owned(), server, key))
        .collect();
    if let (Some(state), Some(wallet)) = (state, wallet) {
        for session in &wallet.datasets {
            if let Ok(opened) = Opened::check(session, &state.pins, now()) {
                servers.push((
                    format!("key server of {}", session.dataset),
                    opened.server(),
                    opened.log_key().clone(),
                ));
            }
        }
    }
    servers
}

async fn reach(app: &App, server: &Server, key: &LogKey) -> Result<String, Report> {
    let patience = app.patience(WAIT)?;
    let timeout = patience.left().min(WAIT);
    let link = LoggedLink::connect(server, key, app.logs()?, timeout).await?;
    let proven = link.proven().await;
    let newest = link.log().newest();
    let closed = link.close().await;
    proven.and(closed)?;
    let log = match newest {
        Some(newest) => format!(
            "its log goes on from what was seen, to {} entries in shard {}",
            newest.size, newest.shard.number
        ),
        None => "nothing of its log was seen yet".to_owned(),
    };
    Ok(format!(
        "reached at {}, with the pinned key; {log}",
        server.addresses.join(" or ")
    ))
}

const COLUMNS: [&str; 4] = ["check", "result", "detail", "next"];

fn print(app: &App, checks: Vec<Check>) -> Ended {
    let mut failed = false;
    let rows = checks
        .into_iter()
        .map(|check| match check.found {
            Ok(detail) => vec![json!(check.what), json!("ok"), json!(detail), Value::Null],
            Err(report) => {
                failed = true;
                let why = report.why.map(|why| format!(": {why}")).unwrap_or_default();
                vec![
                    json!(check.what),
                    json!("FAIL"),
                    json!(format!("{}{why}", report.what)),
                    json!(report.next),
                ]
            }
        })
        .collect();
    app.out.rows("checks", &COLUMNS, rows)?;
    Ok(if failed { exit::LOCAL } else { exit::DONE })
}
