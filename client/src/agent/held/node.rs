//! The node: its key and its ticket, renewed at half of its life, and the tickets that it is issued.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as Plain, PoisonError};
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::Refusal;
use ticket_format::ids::{NodeId, TicketId};
use ticket_format::ticket::{self, NodeClaims};
use ticket_format::time::Timestamp;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::clock::{self, Clock};
use super::ticket::{denied, refused};
use crate::error::Error;
use crate::issue::{self, Opened, Wanted};
use crate::logs::{LoggedLink, Logs};
use crate::state::{NodeState, Pins};
use crate::wallet::{DatasetSession, NodeSession, WalletFile};
use crate::watch::Watched;

/// Longest wait for one attempt to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// After a refusal for good the broker is not asked again sooner than this, whoever asks.
const REFUSED: Duration = Duration::from_secs(5);

/// A ticket that is not live even when it is new (a wrong clock) is not renewed sooner than this.
const LEAST: Duration = Duration::from_secs(10);
/// How long the wallet's lock is waited for, to erase it.
const WALLET: Duration = Duration::from_secs(10);

/// A dataset ticket that was issued.
pub(super) struct Issued {
    /// With its session keys.
    pub(super) session: DatasetSession,
    /// Ticket and record, checked.
    pub(super) opened: Opened,
    /// Which denial of the node it is worthless after.
    pub(super) generation: u64,
}

/// What the node holds.
#[derive(Debug)]
pub(super) struct Node {
    id: NodeId,
    dir: PathBuf,
    logs: Logs,
    wallet: Option<WalletFile>,
    clock: Clock,
    inner: Mutex<Inner>,
    ticket: Plain<NodeTicket>,
    /// When the last renewal was.
    last: Plain<Option<Instant>>,
    /// How often the node was denied: what was issued before is worth nothing from then on.
    generation: AtomicU64,
    /// Somebody wants something that the node ticket is needed for.
    asked: Notify,
    /// Another ticket is there.
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    /// None once the node was denied, until somebody asks.
    state: Option<NodeState>,
    session: Option<NodeSession>,
    /// When the broker refused for good the last time, and how.
    refused: Option<(Instant, Option<Refusal>)>,
}

/// What is known of the node ticket without waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTicket {
    /// Which, where there is one.
    pub id: Option<TicketId>,
    /// From when on.
    pub issued: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// Why the last one was denied, where it was.
    pub denied: Option<String>,
}

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// The claims of a session's ticket, where it is of the node key in force.
fn claims(state: &NodeState, session: &NodeSession) -> Option<NodeClaims> {
    let keys = &state.pins.ticket_keys;
    let verified = ticket::verify_for_anyone::<NodeClaims>(&session.ticket, keys).ok()?;
    let claims = verified.claims();
    (claims.node_key == state.key.public()).then(|| claims.clone())
}

impl Node {
    /// Takes over a node's state, and the ticket in its wallet where that is still good.
    pub(super) fn new(
        dir: PathBuf,
        state: NodeState,
        wallet: Option<WalletFile>,
        logs: Logs,
        clock: Clock,
    ) -> Self {
        let kept = wallet.as_ref().map(|file| file.load(&state.wallet_key));
        let session = match kept {
            Some(Ok(wallet)) => wallet.node,
            Some(Err(error)) => {
                tracing::warn!(%error, "the wallet is not used");
                None
            }
            None => None,
        };
        let claims = session.as_ref().and_then(|session| claims(&state, session));
        let session = session.filter(|_| claims.is_some());
        let node = Self {
            id: state.node.clone(),
            dir,
            logs,
            wallet,
            clock,
            ticket: Plain::default(),
            last: Plain::default(),
            generation: AtomicU64::new(0),
            asked: Notify::new(),
            changed: Notify::new(),
            inner: Mutex::new(Inner {
                state: Some(state),
                session,
                refused: None,
            }),
        };
        node.show(claims.as_ref());
        node
    }

    pub(super) fn id(&self) -> &NodeId {
        &self.id
    }

    pub(super) fn logs(&self) -> &Logs {
        &self.logs
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What is known of its ticket.
    pub(super) fn ticket(&self) -> NodeTicket {
        let ticket = self.ticket.lock();
        ticket.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, claims: Option<&NodeClaims>) {
        let shown = claims.map(|claims| NodeTicket {
            id: Some(claims.common.id),
            issued: claims.common.issued,
            expires: claims.common.expires,
            denied: None,
        });
        let mut ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        *ticket = shown.unwrap_or_default();
    }

    fn is_live(&self) -> bool {
        let ticket = self.ticket();
        ticket.id.is_some() && self.clock.now() < ticket.expires
    }

    /// Its ticket, as it can be watched.
    pub(super) async fn watched(&self) -> Option<Watched> {
        let inner = self.inner.lock().await;
        let (state, session) = (inner.state.as_ref()?, inner.session.as_ref()?);
        Watched::node(session, &state.pins, &self.logs).ok()
    }

    /// How often the node was denied.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Waits until the ticket is due, and renews it; until there is another one.
    pub(super) async fn renewed(&self) {
        let mut pauses = clock::pauses();
        loop {
            let ticket = self.ticket();
            let due = match ticket.id {
                Some(_) => clock::half(ticket.issued, ticket.expires),
                None => Timestamp::from_seconds(0),
            };
            if ticket.denied.is_some() {
                // Nothing is tried before somebody asks, who then renews.
                self.changed.notified().await;
                return;
            }
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let due = async {
                self.clock.until(due).await;
                if let Some(last) = last {
                    tokio::time::sleep_until(last + LEAST).await;
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => return,
            }
            let pause = pauses.next().unwrap_or(clock::MOST);
            let error = {
                let mut inner = self.inner.lock().await;
                if self.ticket() != ticket {
                    return;
                }
                match self.renew(&mut inner).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            };
            tracing::warn!(%error, "the node ticket was not renewed");
            // rule: AGT-5
            if !error.worth_retrying() {
                self.asked.notified().await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn connect(&self, pins: &Pins) -> Result<LoggedLink, Error> {
        LoggedLink::connect(&pins.broker, &pins.log_key, &self.logs, CONNECT).await
    }

    async fn renew(&self, inner: &mut Inner) -> Result<(), Error> {
        let state = inner.state.as_mut().ok_or_else(|| denied("broker"))?;
        let link = self.connect(&state.pins).await?;
        let now = self.clock.now();
        let answer = crate::renew::renew(&link, &self.dir, state, now, &mut rng()).await;
        let closed = link.close().await;
        let session = answer.and_then(|answer| closed.map(|()| answer))?;
        self.keep(state, &session);
        self.show(claims(state, &session).as_ref());
        inner.session = Some(session);
        inner.refused = None;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    /// Puts the node ticket into the wallet: a restart goes on with it, and other commands of the node. It is in
    /// force without that.
    fn keep(&self, state: &NodeState, session: &NodeSession) {
        let Some(file) = &self.wallet else { return };
        let kept = file.lock().and_then(|lock| {
            let mut wallet = file.load(&state.wallet_key).unwrap_or_default();
            wallet.node = Some(NodeSession {
                ticket: session.ticket.clone(),
                secrets: session.secrets.clone(),
            });
            file.save(&lock, &wallet, &state.wallet_key, &mut rng())
        });
        if let Err(error) = kept {
            tracing::warn!(%error, "the node ticket is not in the wallet");
        }
    }

    /// Has a live ticket, if need be by a renewal.
    async fn ready(&self, inner: &mut Inner) -> Result<(), Error> {
        if inner.session.is_some() && self.is_live() {
            return Ok(());
        }
        // rule: AGT-5
        if let Some((at, refusal)) = inner.refused
            && at.elapsed() < REFUSED
        {
            return Err(match refusal {
                Some(refusal) => refused("broker", refusal),
                None => Error::NoTicket("the node ticket was not renewed"),
            });
        }
        if inner.state.is_none() {
            inner.state = NodeState::load(&self.dir)?;
        }
        let renewed = self.renew(inner).await;
        if renewed.is_ok() {
            self.changed.notify_one();
        }
        if let Err(error) = &renewed
            && !error.worth_retrying()
        {
            inner.refused = Some((Instant::now(), error.refusal()));
            if error.refusal() == Some(Refusal::Denied) {
                inner.state = None;
            }
        }
        renewed
    }

    /// Has a dataset ticket issued.
    ///
    /// # Errors
    /// The broker is away or refused, or its answer does not hold.
    pub(super) async fn issue(&self, wanted: &Wanted) -> Result<Issued, Error> {
        self.asked.notify_one();
        let pins = {
            let mut inner = self.inner.lock().await;
            self.ready(&mut inner).await?;
            let state = inner.state.as_ref().ok_or_else(|| denied("broker"))?;
            state.pins.clone()
        };
        // Whoever finds the broker away keeps nobody else waiting.
        let link = self.connect(&pins).await?;
        let mut inner = self.inner.lock().await;
        let inner = &mut *inner;
        let (Some(state), Some(node)) = (inner.state.as_mut(), inner.session.as_ref()) else {
            return Err(denied("broker"));
        };
        let generation = self.generation();
        let (before, now) = (state.pins.clone(), self.clock.now());
        let answer = issue::issue(&link, state, node, wanted, now, &mut rng()).await;
        if state.pins != before {
            // rule: ISS-6, KEY-3, ALI-2
            state.save(&self.dir)?;
        }
        let closed = link.close().await;
        let session = answer.and_then(|answer| closed.map(|()| answer))?;
        let opened = Opened::check(&session, &state.pins, now)?;
        Ok(Issued {
            session,
            opened,
            generation,
        })
    }

    /// The node was denied: from now on nothing is answered by what it was issued.
    pub(super) fn deny(&self, reason: Option<&str>) {
        // rule: AGT-6
        self.generation.fetch_add(1, Ordering::AcqRel);
        let mut ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        *ticket = NodeTicket {
            denied: Some(reason.unwrap_or("no reason is given").to_owned()),
            ..NodeTicket::default()
        };
    }

    /// Erases its ticket, its session keys and its node key from memory, and the wallet. How many keys that
    /// were.
    pub(super) async fn erase(&self) -> u64 {
        // rule: AGT-6
        let mut inner = self.inner.lock().await;
        let session = inner.session.take();
        inner.state = None;
        inner.refused = Some((Instant::now(), Some(Refusal::Denied)));
        drop(inner);
        let until = Instant::now() + WALLET;
        while let Some(file) = &self.wallet {
            match file.lock().and_then(|lock| file.remove(&lock)) {
                Err(error) if error.worth_retrying() && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => {
                    tracing::error!(%error, "the wallet was not erased");
                    break;
                }
                Ok(_) => break,
            }
        }
        // Proof and sealing key. The node key stays in the state, as it does for any command.
        if session.is_some() { 2 } else { 0 }
    }

    /// The agent has ended: nothing is answered any more.
    pub(super) fn end(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The agent ends: its ticket and its keys are in memory no more.
    pub(super) async fn forget(&self) {
        let mut inner = self.inner.lock().await;
        inner.session = None;
        inner.state = None;
        drop(inner);
        self.show(None);
    }
}
