//! `issue`, and dataset tickets for the commands that need one.

use std::time::Duration;

use serde_json::json;
use ticket_format::report::{Report, exit};
use ticket_format::seal::Kem;
use ticket_format::ticket::{Action, Actions};
use ticket_format::{Context, Refusal};

use super::app::{App, Ended, Patience, now, rng, talk, write_file};
use super::args::Issue;
use super::exec;
use super::login::{live, to_broker};
use super::settings::{Origin, Setting};
use crate::Error;
use crate::agent::asked::{self, AgentKeys};
use crate::issue::{Opened, Wanted};
use crate::keys::DatasetKeys;
use crate::state::NodeState;
use crate::wallet::{DatasetSession, Wallet};

/// Data keys that a ticket is asked for unless more are needed.
pub const BUDGET: u64 = 10_000;
/// Life of a ticket that is got on the way.
const LIFE: u64 = 3_600;
/// A ticket that ends sooner than this is not begun with.
pub const MARGIN: u64 = 30;
const WAIT: Duration = Duration::from_secs(30);

/// `postern issue`.
pub async fn issue(app: &App, args: &Issue) -> Ended {
    let patience = app.patience(WAIT)?;
    let usage = |why: String| Report::new(exit::USAGE, "no ticket was asked for").why(why);
    let actions =
        Actions::new(&args.action).ok_or_else(|| usage("--action is empty".to_owned()))?;
    let required = Context::new(args.require.iter().cloned().collect());
    let wanted = Wanted {
        dataset: args.dataset.clone(),
        actions,
        required: required.map_err(|error| usage(error.to_string()))?,
        life: args.life.as_secs().max(1),
        budget: args.budget,
        kem: args.kem,
    };
    let (session, opened) = get(app, patience, &wanted).await?;
    if let Some(path) = &args.ticket_out {
        write_file(path, &session.ticket)?;
    }
    if let Some(path) = &args.record_out {
        write_file(path, &session.record)?;
    }
    let claims = &opened.claims;
    let actions: Vec<&str> = claims.actions.iter().map(Action::name).collect();
    let text = format!(
        "ticket for {} ({}) until {}, {} data keys",
        claims.dataset_name,
        actions.join(", "),
        claims.common.expires,
        claims.budget
    );
    let object = json!({
        "dataset": claims.dataset_name,
        "dataset_id": claims.dataset.to_string(),
        "actions": actions,
        "ticket": claims.common.id.to_string(),
        "issued": claims.common.issued.to_string(),
        "expires": claims.common.expires.to_string(),
        "budget": claims.budget,
        "required": claims.required.pairs(),
        "key_server": opened.record.addresses,
    });
    app.done(text, object)?;
    Ok(exit::DONE)
}

/// Gets a ticket and puts it into the wallet.
async fn get(
    app: &App,
    patience: Patience,
    wanted: &Wanted,
) -> Result<(DatasetSession, Opened), Report> {
    let (mut state, mut wallet) = app.open()?;
    if wallet.node.is_some() && live(&state, &wallet).is_none() {
        // Perhaps a renewal is under way, between its two files: it holds the state's lock.
        let dir = app.state_dir()?;
        let _lock = patience.lock(|| NodeState::lock(&dir)).await?;
        (state, wallet) = app.open()?;
    }
    let none = Error::NoTicket("the wallet holds no node ticket");
    let node = wallet.node.as_ref().ok_or(none)?;
    let known = state.pins.clone();
    let logs = app.logs()?;
    let session = patience
        .keep_trying(true, async |connect| {
            let link = to_broker(&state, logs, connect).await?;
            let answer =
                crate::issue::issue(&link, &mut state, node, wanted, now(), &mut rng()).await;
            let closed = link.close().await;
            answer.and_then(|answer| closed.map(|()| answer))
        })
        .await;
    if state.pins != known {
        let dir = app.state_dir()?;
        let _lock = patience.lock(|| NodeState::lock(&dir)).await?;
        NodeState::keep_followed(&dir, &state.pins)?;
    }
    let session = session?;
    let opened = Opened::check(&session, &state.pins, now())?;
    let kept = session.clone();
    app.change_wallet(patience, &state.wallet_key, false, |wallet| {
        wallet.put(session)
    })
    .await?;
    Ok((kept, opened))
}

/// What a command needs of a dataset.
#[derive(Debug)]
pub struct Need<'a> {
    /// Its name; without one the only live ticket of the wallet is used.
    pub dataset: Option<&'a str>,
    /// What for.
    pub action: Action,
    /// How many data keys.
    pub budget: u64,
    /// Whether public-unsigned origins are accepted.
    pub accept_unsigned: bool,
}

/// The data keys of a dataset by the node's agent, where its socket is named, or where this user has no state
/// and an agent listens at the usual place.
///
/// # Errors
/// It does not serve this user with it, or not in this way.
pub async fn by_agent(app: &App, need: &Need<'_>) -> Result<Option<AgentKeys>, Report> {
    // rule: AGT-11
    let named = app.settings.effective(Setting::Agent);
    let named = named.is_some_and(|named| named.origin != Origin::Default);
    let path = exec::socket(app)?;
    if !named {
        let own = NodeState::path(&app.state_dir()?)
            .symlink_metadata()
            .is_ok();
        if own || path.symlink_metadata().is_err() {
            return Ok(None);
        }
    }
    let usage = |why: &str| Report::new(exit::USAGE, "the agent was not asked").why(why);
    if need.accept_unsigned {
        let why = "the agent accepts no object that nobody signed";
        return Err(usage(why).next("leave out --accept-unsigned"));
    }
    let Some(dataset) = need.dataset else {
        return Err(usage("which dataset is not said").next("say --dataset NAME"));
    };
    let wait = app.patience(asked::WAIT)?.left();
    AgentKeys::of(&path, dataset, wait).await.map(Some)
}

/// The data keys of a dataset: with a live ticket of the wallet, or with one that is got now.
///
/// # Errors
/// There is no fitting ticket and none can be had.
pub async fn keys(app: &App, need: &Need<'_>) -> Result<DatasetKeys, Report> {
    let patience = app.patience(WAIT)?;
    let (session, opened) = match fitting(app, need)? {
        Some(found) => found,
        None => {
            let Some(dataset) = need.dataset else {
                return Err(
                    Report::new(exit::NO_TICKET, "there is no dataset ticket to use")
                        .why(format!(
                            "the wallet does not hold exactly one live ticket to {}",
                            need.action
                        ))
                        .next("say --dataset NAME, or run `postern issue NAME`"),
                );
            };
            let got = on_the_way(app, patience, dataset, need).await?;
            talk(format!("got a ticket to {} {dataset}", need.action));
            got
        }
    };
    with(app, need, session, opened)
}

/// The data keys of a dataset, with a ticket that is got now: the one before is used up, or about to end.
///
/// # Errors
/// None can be had.
pub async fn fresh_keys(app: &App, need: &Need<'_>, dataset: &str) -> Result<DatasetKeys, Report> {
    let patience = app.patience(WAIT)?;
    let (session, opened) = on_the_way(app, patience, dataset, need).await?;
    with(app, need, session, opened)
}

fn with(
    app: &App,
    need: &Need<'_>,
    session: DatasetSession,
    opened: Opened,
) -> Result<DatasetKeys, Report> {
    Ok(DatasetKeys::new(
        session,
        opened,
        app.logs()?.clone(),
        app.patience(WAIT)?.left(),
    )
    .accept_unsigned(need.accept_unsigned))
}

/// Gets a ticket for what is needed, and for what the wallet's ticket of this dataset is for, which
/// it replaces. Where the policy has changed and refuses both together, for what is needed.
async fn on_the_way(
    app: &App,
    patience: Patience,
    dataset: &str,
    need: &Need<'_>,
) -> Result<(DatasetSession, Opened), Report> {
    let (state, wallet) = app.open()?;
    let earlier = wallet.dataset(dataset);
    let earlier = earlier.and_then(|session| Opened::check(session, &state.pins, now()).ok());
    let only = [need.action];
    let mut all = only.to_vec();
    all.extend(
        earlier
            .iter()
            .flat_map(|opened| opened.claims.actions.iter()),
    );
    let wanted = |actions: &[Action]| {
        let actions = Actions::new(actions);
        let none = || Report::new(exit::USAGE, "no ticket was asked for");
        Ok::<_, Report>(Wanted {
            dataset: dataset.to_owned(),
            actions: actions.ok_or_else(none)?,
            required: Context::default(),
            life: LIFE,
            budget: need.budget.max(BUDGET),
            kem: Kem::XWing,
        })
    };
    match get(app, patience, &wanted(&all)?).await {
        Err(report) if report.refusal == Some(Refusal::Policy) && earlier.is_some() => {
            get(app, patience, &wanted(&only)?).await
        }
        other => other,
    }
}

/// The wallet's ticket that will do. Tickets whose budget is smaller than what is needed will not.
fn fitting(app: &App, need: &Need<'_>) -> Result<Option<(DatasetSession, Opened)>, Report> {
    let (state, wallet) = app.open()?;
    let Wallet { datasets, .. } = wallet;
    let fits = |session: DatasetSession| {
        let opened = Opened::check(&session, &state.pins, now().plus(MARGIN)).ok()?;
        let claims = &opened.claims;
        let named = need.dataset.is_none_or(|name| name == session.dataset);
        let fits = named && claims.actions.contains(need.action) && claims.budget >= need.budget;
        fits.then_some((session, opened))
    };
    let mut found: Vec<_> = datasets.into_iter().filter_map(fits).collect();
    Ok(if found.len() == 1 { found.pop() } else { None })
}
