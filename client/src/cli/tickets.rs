//! `status`, `tickets` and `logout`.

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::{Map, Value, json};
use ticket_format::report::{Report, exit};
use ticket_format::ticket::{self, Action, DatasetClaims, NodeClaims, TicketKeys};
use ticket_format::time::Timestamp;

use super::app::{App, Ended, Patience, now, talk};
use super::args::Logout;
use super::exec;
use super::login::describe;
use crate::Error;
use crate::agent::asked;
use crate::agent::wire::{Answer, Request};
use crate::imds::Imds;
use crate::state::NodeState;
use crate::wallet::WalletFile;

/// How long `status` waits for a metadata service that may not be there.
const GLANCE: Duration = Duration::from_millis(1500);

/// `postern status`.
pub async fn status(app: &App, quiet: bool) -> Ended {
    let status = look(app);
    if quiet {
        return match status.map(|status| status.problem) {
            Ok(None) => Ok(exit::DONE),
            Ok(Some(report)) | Err(report) if report.exit == exit::NO_TICKET => Ok(exit::NO_TICKET),
            Ok(Some(report)) | Err(report) => Err(report),
        };
    }
    let Status {
        state,
        mut object,
        problem,
    } = status?;
    let origin = &state.pins.log_key.origin;
    object.insert("log".to_owned(), json!(origin.as_str()));
    let seen = app.logs()?.list()?;
    if let Some(seen) = seen.into_iter().find(|log| log.origin == *origin) {
        let newest = seen.newest.map(|newest| newest.size);
        object.insert("log_entries_seen".to_owned(), json!(newest));
        if let Some(why) = seen.failed {
            talk(format!(
                "the broker's log {origin} is not used any more: {why}; see `postern help logs`"
            ));
        }
    }
    if let Some(found) = instance(app).await {
        let same = found == state.node.instance();
        object.insert("this_instance".to_owned(), json!(same));
        if !same {
            talk(format!(
                "the state is of {}, this is {found}: `postern login` will start anew",
                state.node.instance()
            ));
        }
    }
    if let Some(agent) = agent(app).await {
        object.insert("agent".to_owned(), agent);
    }
    app.out.object(object)?;
    problem.map_or(Ok(exit::DONE), Err)
}

/// What the agent holds, where one answers at once.
async fn agent(app: &App) -> Option<Value> {
    let asked = async {
        let mut stream = asked::connect(&exec::socket(app).ok()?).await.ok()?;
        let answer = asked::ask(&mut stream, &Request::Status, GLANCE).await;
        match answer.ok()? {
            Answer::Status(text) => serde_json::from_str(&text).ok(),
            Answer::Failed(report) => Some(json!({ "refused": report.what })),
            _ => None,
        }
    };
    tokio::time::timeout(GLANCE, asked).await.ok()?
}

/// What was found, and what is wrong with it.
struct Status {
    state: NodeState,
    object: Map<String, Value>,
    problem: Option<Report>,
}

fn look(app: &App) -> Result<Status, Report> {
    let (state, wallet) = app.open()?;
    let verified = wallet.node.as_ref().map(|session| {
        ticket::verify_for_anyone::<NodeClaims>(&session.ticket, &state.pins.ticket_keys)
    });
    let verified = verified.transpose().map_err(Error::ticket("broker"))?;
    let mut object = Map::new();
    let none = |why: &'static str| Some(Error::NoTicket(why).report());
    let Some(verified) = verified else {
        object.insert("state".to_owned(), json!("none"));
        object.insert("node".to_owned(), json!(state.node.to_string()));
        let problem = none("the wallet holds no node ticket");
        return Ok(Status {
            state,
            object,
            problem,
        });
    };
    let claims = verified.claims().clone();
    let left = claims.common.expires.since(now());
    let problem = match verified.live(now()) {
        Err(ticket::TicketError::Expired) => none("the node ticket has expired"),
        Err(_) => none("the node ticket begins in the future: check the clock"),
        Ok(_) if claims.node_key != state.key.public() => {
            none("a renewal was cut short; run `postern renew`")
        }
        Ok(_) => None,
    };
    let word = if problem.is_none() { "live" } else { "expired" };
    object.insert("state".to_owned(), json!(word));
    if let Value::Object(more) = describe(&state, &claims) {
        object.extend(more);
    }
    object.insert("remaining_seconds".to_owned(), json!(left));
    Ok(Status {
        state,
        object,
        problem,
    })
}

/// This instance's id, where a metadata service answers at once.
async fn instance(app: &App) -> Option<String> {
    let imds = Imds::from_env(&|name| std::env::var(name).ok()).ok()?;
    let proof = tokio::time::timeout(GLANCE, imds.identity_proof())
        .await
        .ok()?
        .ok()?;
    let keys = app.region_keys().ok()?;
    let document = ticket_format::iid::verify(proof.as_bytes(), &keys).ok()?;
    Some(document.instance_id().to_owned())
}

const COLUMNS: [&str; 8] = [
    "kind", "dataset", "actions", "issued", "expires", "budget", "state", "ticket",
];

/// `postern tickets`.
pub fn tickets(app: &App) -> Ended {
    let (state, wallet) = app.open()?;
    let key = &state.pins.ticket_keys;
    let mut rows = Vec::new();
    if let Some(session) = &wallet.node {
        rows.push(node_row(&session.ticket, key)?);
    }
    for session in &wallet.datasets {
        rows.push(dataset_row(&session.ticket, key)?);
    }
    app.out.rows("tickets", &COLUMNS, rows)?;
    Ok(exit::DONE)
}

fn word(expires: Timestamp) -> &'static str {
    if now() < expires { "live" } else { "expired" }
}

fn node_row(ticket: &[u8], key: &TicketKeys) -> Result<Vec<Value>, Report> {
    let verified =
        ticket::verify_for_anyone::<NodeClaims>(ticket, key).map_err(Error::ticket("broker"))?;
    let common = &verified.claims().common;
    Ok(vec![
        json!("node"),
        Value::Null,
        Value::Null,
        json!(common.issued.to_string()),
        json!(common.expires.to_string()),
        Value::Null,
        json!(word(common.expires)),
        json!(common.id.to_string()),
    ])
}

fn dataset_row(ticket: &[u8], key: &TicketKeys) -> Result<Vec<Value>, Report> {
    let verified =
        ticket::verify_for_anyone::<DatasetClaims>(ticket, key).map_err(Error::ticket("broker"))?;
    let claims = verified.claims();
    let common = &claims.common;
    let actions: Vec<&str> = claims.actions.iter().map(Action::name).collect();
    Ok(vec![
        json!("dataset"),
        json!(claims.dataset_name),
        json!(actions),
        json!(common.issued.to_string()),
        json!(common.expires.to_string()),
        json!(claims.budget),
        json!(word(common.expires)),
        json!(common.id.to_string()),
    ])
}

/// `postern logout`.
pub async fn logout(app: &App, args: &Logout) -> Ended {
    let patience = app.patience(Duration::from_secs(30))?;
    let file = app.wallet_file()?;
    let dir = app.state_dir()?;
    let wallet_there = file.path().symlink_metadata().is_ok();
    let state_there = args.forget && NodeState::path(&dir).symlink_metadata().is_ok();
    if args.dry_run {
        let text = format!(
            "would erase: wallet {}; state {}",
            if wallet_there {
                file.path().display().to_string()
            } else {
                "none".to_owned()
            },
            if state_there {
                NodeState::path(&dir).display().to_string()
            } else {
                "none".to_owned()
            },
        );
        app.done(
            text,
            json!({ "wallet": wallet_there, "state": state_there, "dry_run": true }),
        )?;
        return Ok(exit::DONE);
    }
    if state_there && !args.yes {
        confirm(&dir)?;
    }
    let wallet = erase_wallet(&file, patience, wallet_there).await?;
    if state_there {
        let _lock = patience.lock(|| NodeState::lock(&dir)).await?;
        NodeState::remove(&dir)?;
    }
    let text = match (wallet, state_there) {
        (true, true) => "logged out; wallet and node key are erased",
        (true, false) => "logged out; the wallet is erased",
        (false, true) => "the node key is erased; there was no wallet",
        (false, false) => "there was no wallet",
    };
    app.done(text, json!({ "wallet": wallet, "state": state_there }))?;
    Ok(exit::DONE)
}

async fn erase_wallet(file: &WalletFile, patience: Patience, there: bool) -> Result<bool, Report> {
    if !there {
        return Ok(false);
    }
    let lock = patience.lock(|| file.lock()).await?;
    Ok(file.remove(&lock)?)
}

/// Asks for the instance id: without the node key this instance cannot come back.
fn confirm(dir: &std::path::Path) -> Result<(), Report> {
    let name = match NodeState::load(dir) {
        Ok(Some(state)) => state.node.instance().to_owned(),
        _ => "forget".to_owned(),
    };
    let what = "the node key is not erased";
    if !std::io::stdin().is_terminal() {
        return Err(Report::new(exit::USAGE, what)
            .why("erasing it keeps this instance from coming back under its launch")
            .next("say --yes"));
    }
    talk(format!(
        "This erases 1 node key. This instance cannot come back under its launch. Type {name} to go on:"
    ));
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if read.is_ok() && line.trim() == name {
        Ok(())
    } else {
        Err(Report::new(exit::LOCAL, what).why("the name was not typed"))
    }
}
