//! `login` and `renew`.

use std::path::Path;
use std::time::Duration;

use rand_core::Rng as _;
use serde_json::{Value, json};
use ticket_format::Refusal;
use ticket_format::report::exit;
use ticket_format::ticket::{self, NodeClaims};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::app::{App, Ended, Patience, now, rng, talk, write_file};
use super::args::{Login, Renew};
use super::output::Printed;
use crate::Error;
use crate::imds::Imds;
use crate::login::Evidence;
use crate::logs::{LoggedLink, Logs};
use crate::state::NodeState;
use crate::wallet::{NodeSession, Wallet};

/// An instance that boots may have to wait for its network and for the broker.
const LOGIN: Duration = Duration::from_secs(300);
const RENEW: Duration = Duration::from_secs(60);

/// `postern login`.
pub async fn login(app: &App, args: &Login) -> Ended {
    let patience = app.patience(LOGIN)?;
    let evidence = evidence(app, patience, true).await?;
    let dir = app.state_dir()?;
    let file = app.wallet_file()?;
    let _lock = patience.lock(|| NodeState::lock(&dir)).await?;
    let mut state = crate::login::prepare(&dir, &evidence, &mut rng())?;
    let wallet = match file.load(&state.wallet_key) {
        // Of another launch or node; replaced once the broker has answered.
        Err(Error::Damaged { .. }) => Wallet::default(),
        other => other?,
    };
    if let Some((session, claims)) = live(&state, &wallet)
        && !args.force
    {
        keep(args.ticket_out.as_deref(), &session.ticket)?;
        let node = claims.common.node();
        let text = format!(
            "already logged in as {node} until {}",
            claims.common.expires
        );
        print(app, &text, &state, &claims)?;
        return Ok(exit::DONE);
    }
    let logs = app.logs()?;
    let session = if state.known {
        renewed(patience, &dir, logs, &mut state).await?
    } else {
        let first = patience
            .keep_trying(true, async |connect| {
                let link = to_broker(&state, logs, connect).await?;
                let answer =
                    crate::login::login(&link, &dir, &mut state, &evidence, now(), &mut rng())
                        .await;
                let closed = link.close().await;
                answer.and_then(|answer| closed.map(|()| answer))
            })
            .await;
        match first {
            // An earlier login was answered and the answer never arrived.
            Err(error) if error.refusal() == Some(Refusal::RetryOver) => {
                renewed(patience, &dir, logs, &mut state).await?
            }
            other => other?,
        }
    };
    store(
        app,
        patience,
        &state,
        session,
        "logged in",
        args.ticket_out.as_deref(),
    )
    .await?;
    Ok(exit::DONE)
}

/// User-data and identity proof, verified.
///
/// # Errors
/// There is none, or it does not hold.
pub async fn evidence(
    app: &App,
    patience: Patience,
    say: bool,
) -> Result<Evidence, ticket_format::report::Report> {
    let keys = app.region_keys()?;
    let imds = Imds::from_env(&|name| std::env::var(name).ok()).map_err(Error::from)?;
    let evidence = patience.keep_trying(say, async |_| {
        let user_data = imds.user_data().await?;
        let proof = imds.identity_proof().await?;
        Evidence::read(&user_data, proof, &keys)
    });
    Ok(evidence.await?)
}

/// `postern renew`.
pub async fn renew(app: &App, args: &Renew) -> Ended {
    let out = args.ticket_out.as_deref();
    if args.watch {
        return watch(app, out).await;
    }
    renew_once(app, app.patience(RENEW)?, out).await?;
    Ok(exit::DONE)
}

async fn renew_once(app: &App, patience: Patience, out: Option<&Path>) -> Printed {
    let dir = app.state_dir()?;
    app.wallet_file()?;
    let _lock = patience.lock(|| NodeState::lock(&dir)).await?;
    let mut state = app.state()?;
    let session = renewed(patience, &dir, app.logs()?, &mut state).await?;
    store(app, patience, &state, session, "renewed", out).await
}

/// A connection to the pinned broker.
///
/// # Errors
/// As [`LoggedLink::connect`].
pub(super) async fn to_broker(
    state: &NodeState,
    logs: &Logs,
    timeout: Duration,
) -> Result<LoggedLink, Error> {
    let pins = &state.pins;
    LoggedLink::connect(&pins.broker, &pins.log_key, logs, timeout).await
}

async fn renewed(
    patience: Patience,
    dir: &Path,
    logs: &Logs,
    state: &mut NodeState,
) -> Result<NodeSession, Error> {
    patience
        .keep_trying(true, async |connect| {
            let link = to_broker(state, logs, connect).await?;
            let answer = crate::renew::renew(&link, dir, state, now(), &mut rng()).await;
            let closed = link.close().await;
            answer.and_then(|answer| closed.map(|()| answer))
        })
        .await
}

/// Renews at half of each ticket's life until terminated.
async fn watch(app: &App, out: Option<&Path>) -> Ended {
    let local = |error| {
        ticket_format::report::Report::new(exit::LOCAL, "cannot watch for signals").why(error)
    };
    let mut terminated = signal(SignalKind::terminate()).map_err(local)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(local)?;
    let mut least = Duration::ZERO;
    loop {
        let wait = wait_for_half(app)?.max(least);
        // A ticket that is not live even when it is new (a wrong clock) must not be renewed at once.
        least = Duration::from_secs(10);
        if !sleep(wait, &mut terminated, &mut interrupted).await {
            return Ok(exit::DONE);
        }
        // A renewal that has begun is finished, unless it takes long: its state is on disk, and the
        // next one goes on from there.
        let renewal = renew_once(app, app.patience(RENEW)?, out);
        let renewal = tokio::select! {
            renewal = renewal => renewal,
            _ = terminated.recv() => return Ok(exit::DONE),
            _ = interrupted.recv() => return Ok(super::INTERRUPTED),
        };
        match renewal {
            Err(report) if report.exit == exit::RETRY => {
                talk(&report.what);
                let pause = Duration::from_secs(10 + rng().next_u64() % 10);
                if !sleep(pause, &mut terminated, &mut interrupted).await {
                    return Ok(exit::DONE);
                }
            }
            other => other?,
        }
    }
}

/// How long until half of the ticket's life is over, give or take a tenth so that many nodes that
/// were launched together do not renew together.
fn wait_for_half(app: &App) -> Result<Duration, ticket_format::report::Report> {
    let (state, wallet) = app.open()?;
    let Some((_, claims)) = live(&state, &wallet) else {
        return Ok(Duration::ZERO);
    };
    let common = &claims.common;
    let half = common.expires.since(common.issued) / 2;
    let jitter = rng().next_u64() % (half / 5).max(1);
    let at = common.issued.plus(half - half / 10 + jitter);
    Ok(Duration::from_secs(at.since(now())))
}

/// False when a signal ended the sleep. Sleeps by the minute, so that a clock that was set or an
/// instance that was suspended is noticed.
async fn sleep(wait: Duration, terminated: &mut Signal, interrupted: &mut Signal) -> bool {
    let until = now().plus(wait.as_secs());
    loop {
        let left = until.since(now());
        if left == 0 {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(left.min(60))) => {}
            _ = terminated.recv() => return false,
            _ = interrupted.recv() => return false,
        }
    }
}

/// The wallet's node ticket, if it is live and of the node key in force.
pub(super) fn live<'a>(
    state: &NodeState,
    wallet: &'a Wallet,
) -> Option<(&'a NodeSession, NodeClaims)> {
    let session = wallet.node.as_ref()?;
    let verified =
        ticket::verify_for_anyone::<NodeClaims>(&session.ticket, &state.pins.ticket_keys).ok()?;
    let live = verified.live(now()).ok()?;
    let ours = live.claims().node_key == state.key.public();
    ours.then(|| (session, live.claims().clone()))
}

async fn store(
    app: &App,
    patience: Patience,
    state: &NodeState,
    session: NodeSession,
    word: &str,
    out: Option<&Path>,
) -> Printed {
    keep(out, &session.ticket)?;
    let claims = ticket::verify_for_anyone::<NodeClaims>(&session.ticket, &state.pins.ticket_keys);
    let claims = claims.map_err(Error::ticket("broker"))?.claims().clone();
    app.change_wallet(patience, &state.wallet_key, true, |wallet| {
        wallet.node = Some(session);
    })
    .await?;
    let text = format!(
        "{word} as {} until {}",
        claims.common.node(),
        claims.common.expires
    );
    print(app, &text, state, &claims)
}

fn keep(out: Option<&Path>, ticket: &[u8]) -> Printed {
    out.map_or(Ok(()), |path| write_file(path, ticket))
}

fn print(app: &App, text: &str, state: &NodeState, claims: &NodeClaims) -> Printed {
    app.done(text, describe(state, claims))
}

/// A node ticket in JSON.
pub(super) fn describe(state: &NodeState, claims: &NodeClaims) -> Value {
    let common = &claims.common;
    json!({
        "node": common.node().to_string(),
        "realm": common.realm,
        "broker": state.pins.broker.addresses,
        "launch": common.launch.to_string(),
        "ticket": common.id.to_string(),
        "issued": common.issued.to_string(),
        "expires": common.expires.to_string(),
    })
}
