//! One connection on the server: from the first packet to the last exchange.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quinn::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::admission::{Admission, ConnectionPlace, HandshakePlace};
use crate::budget::Budget;
use crate::code::Code;
use crate::exchange::{self, Spoke};
use crate::limits::ServerLimits;
use crate::metrics::{HandshakeResult, Limit, Metrics};
use crate::peer::Peer;
use crate::server::Handler;
use crate::source::SourcePlace;
use crate::tls;

/// How often what is left of exchanges that have ended is cleared away.
const CLEARING: Duration = Duration::from_millis(100);

/// Where the server is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Everything is served.
    Serving,
    /// What was accepted is finished, nothing new is taken.
    Draining,
    /// The grace time is over.
    Stopping,
}

/// What all connections of a server share.
pub(crate) struct Shared<H: Handler> {
    pub(crate) handler: Arc<H>,
    pub(crate) limits: ServerLimits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Admission,
    pub(crate) exchanges: Arc<Semaphore>,
    pub(crate) bytes: Arc<Semaphore>,
}

/// Runs one connection; returns the number of exchanges that it left unfinished.
pub(crate) async fn run<H: Handler>(
    shared: Arc<Shared<H>>,
    incoming: Incoming,
    place: HandshakePlace,
    stage: watch::Receiver<Stage>,
) -> usize {
    let metrics = &shared.metrics;
    let Ok(connecting) = incoming.accept() else {
        metrics.handshake(HandshakeResult::Failed);
        return 0;
    };
    let over = place.over();
    let shaken = tokio::select! {
        shaken = timeout(shared.limits.handshake_timeout, connecting) => shaken,
        () = over.notified() => {
            metrics.limited(Limit::GaveWay);
            metrics.handshake(HandshakeResult::TimedOut);
            return 0;
        }
    };
    let connection = match shaken {
        Ok(Ok(connection)) if tls::speaks_postern(&connection) => connection,
        Ok(_) => {
            metrics.handshake(HandshakeResult::Failed);
            return 0;
        }
        Err(_) => {
            metrics.handshake(HandshakeResult::TimedOut);
            return 0;
        }
    };
    let place = match shared.admission.finished(place) {
        Ok(place) => place,
        Err(limit) => {
            metrics.handshake(HandshakeResult::Refused);
            metrics.limited(limit);
            connection.close(Code::Busy.varint(), b"");
            return 0;
        }
    };
    metrics.handshake(HandshakeResult::Completed);
    let _gauge = metrics.connection();
    serve(&shared, connection, place, stage).await
}

/// Serves the exchanges of one connection until it ends or the server goes down.
///
/// A handler that has a message runs to its end even when the peer leaves: a stranger must not be
/// able to choose at which point an act is cut off. The connection keeps its place until then, so
/// leaving and coming again gains a peer nothing.
async fn serve<H: Handler>(
    shared: &Arc<Shared<H>>,
    connection: quinn::Connection,
    place: ConnectionPlace,
    mut stage: watch::Receiver<Stage>,
) -> usize {
    let shown = place.turn.shown().clone();
    let peer = Peer::new(connection.clone(), shown.clone());
    let state = Arc::new(shared.handler.connected(peer));
    let over = place.turn.over();
    let mut over = pin!(over.notified());
    let mut settled = false;
    let mut exchanges = JoinSet::new();
    let mut unfinished = 0;
    let mut open = true;
    let spoke = Arc::new(Spoke::default());
    let mut silence = pin!(sleep(shared.limits.first_exchange_timeout));
    let mut waiting = true;
    // While the connection serves, exchanges that have ended are cleared away together: to be woken for each
    // would cost as much as a small exchange itself.
    let mut clearing = pin!(sleep(CLEARING));
    let mut to_clear = false;
    loop {
        let now = *stage.borrow_and_update();
        if now == Stage::Stopping {
            unfinished = exchanges.len();
            // Each one resets its stream with `Unfinished` as it goes.
            exchanges.shutdown().await;
        }
        if exchanges.is_empty() && (now != Stage::Serving || !open) {
            break;
        }
        tokio::select! {
            biased;
            Some(ended) = exchanges.join_next(), if now != Stage::Serving || !open => cleared(&ended),
            // An error means that the server itself is gone, which ends this task as well.
            changed = stage.changed() => if changed.is_err() { break },
            // Before new streams, so that a flood of them cannot put it off.
            () = &mut silence, if waiting => {
                waiting = false;
                if open && !spoke.ever() {
                    shared.metrics.limited(Limit::FirstExchangeTimeout);
                    // Requests that are still arriving break off, and the place is free.
                    connection.close(Code::TooSlow.varint(), b"");
                    open = false;
                }
            },
            () = &mut over, if !settled => {
                settled = true;
                if open {
                    shared.metrics.limited(Limit::GaveWay);
                    connection.close(Code::Busy.varint(), b"");
                    open = false;
                }
            },
            () = &mut clearing, if to_clear => {
                while let Some(ended) = exchanges.try_join_next() {
                    cleared(&ended);
                }
                to_clear = !exchanges.is_empty();
                clearing.as_mut().reset(Instant::now() + CLEARING);
            },
            stream = connection.accept_bi(), if open => match stream {
                Err(_) => open = false,
                Ok(stream) if now != Stage::Serving => exchange::refuse(stream, Code::GoingAway),
                Ok(stream) => match exchange_place(shared, &place.source, shown.stranger()) {
                    Err(limit) => {
                        shared.metrics.limited(limit);
                        exchange::refuse(stream, Code::Busy);
                    }
                    Ok(permits) => {
                        if !to_clear {
                            to_clear = true;
                            clearing.as_mut().reset(Instant::now() + CLEARING);
                        }
                        let (shared, state) = (Arc::clone(shared), Arc::clone(&state));
                        let budget = Budget::new(&shared.bytes, place.source.bytes());
                        let (spoke, stranger) = (Arc::clone(&spoke), shown.stranger());
                        // In a box, which is handed on where the whole would be copied again and again.
                        exchanges.spawn(Box::pin(async move {
                            let _permits = permits;
                            let _gauge = shared.metrics.exchange();
                            let Shared { handler, limits, metrics, .. } = &*shared;
                            exchange::serve(&**handler, &*state, &budget, limits, metrics, (&spoke, stranger), stream)
                            .await;
                        }));
                    }
                },
            },
        }
    }
    connection.close(Code::GoingAway.varint(), b"");
    shared.handler.closed(&state);
    unfinished
}

/// Says that a handler panicked, if it did.
fn cleared(ended: &Result<(), JoinError>) {
    if ended.is_err() {
        tracing::error!("the handler of an exchange panicked");
    }
}

/// Takes a place for an exchange among those of its source and then among all, or says which of
/// the two are taken.
fn exchange_place<H: Handler>(
    shared: &Shared<H>,
    source: &SourcePlace,
    stranger: bool,
) -> Result<[OwnedSemaphorePermit; 2], Limit> {
    if stranger {
        shared.admission.request(source.source())?;
    }
    shared.admission.make_room(&shared.exchanges, &shared.bytes);
    let own = Arc::clone(source.exchanges())
        .try_acquire_owned()
        .map_err(|_| Limit::ExchangesPerSource)?;
    let whole = Arc::clone(&shared.exchanges)
        .try_acquire_owned()
        .map_err(|_| Limit::Exchanges)?;
    Ok([own, whole])
}
