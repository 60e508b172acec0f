//! The server: accepts connections under limits and hands each exchange to a handler.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Incoming, NoneTokenLog, ValidationTokenConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admission::{Admission, Verdict, semaphore};
use crate::code::Code;
use crate::error::{BindError, RunError};
use crate::identity::ServerIdentity;
use crate::limits::ServerLimits;
use crate::metrics::{HandshakeResult, Metrics};
use crate::peer::Peer;
use crate::session::{self, Shared, Stage};
use crate::{socket, tls};

/// Packets of one attempt that are kept until it is judged, in bytes. A ClientHello with an
/// ML-KEM key takes two packets; the judgement takes microseconds.
const INCOMING_BYTES: u64 = 16 * 1024;

/// The same for all attempts together, in bytes.
const INCOMING_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// Time to tell peers at the end that we are gone. A peer that misses it finds out by itself.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a server does with its exchanges.
pub trait Handler: Send + Sync + 'static {
    /// What the server keeps per connection: tickets presented on it, proofs already checked.
    type Connection: Send + Sync + 'static;

    /// A connection is up. The peer is still a stranger. Must return at once.
    fn connected(&self, peer: Peer) -> Self::Connection;

    /// Answers one message: any bytes from 0 to [`ServerLimits::message_bytes`], from anybody.
    ///
    /// Several exchanges of one connection run at the same time. Once called, the future runs to
    /// its end even if the peer leaves; it is cut off only when a shutdown's grace time is over.
    /// It may take long (a held stream); [`Peer::closed`] tells when nobody waits any more. A panic
    /// ends this exchange alone, with [`Code::Unfinished`].
    fn exchange(
        &self,
        connection: &Self::Connection,
        message: Bytes,
    ) -> impl Future<Output = Bytes> + Send;

    /// The connection has ended, and so has its last exchange. Called once. Must return at once.
    fn closed(&self, connection: &Self::Connection) {
        let _ = connection;
    }
}

/// How a server ended that was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Stopped {
    /// Exchanges that were accepted but cut off at the end of the grace time.
    pub unfinished: usize,
}

/// A bound QUIC server that does not accept yet.
#[derive(Debug)]
pub struct Server {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    limits: ServerLimits,
    metrics: Arc<Metrics>,
}

impl Server {
    /// Listens on `address`; port 0 lets the system choose. Must be called within a tokio runtime.
    pub fn bind(
        address: SocketAddr,
        identity: &ServerIdentity,
        limits: ServerLimits,
    ) -> Result<Self, BindError> {
        let socket =
            socket::bind(address).map_err(|source| BindError::Socket { address, source })?;
        Self::from_socket(socket, identity, limits)
    }

    /// Listens on a socket that is already bound, for example one handed over by systemd. Must be
    /// called within a tokio runtime.
    pub fn from_socket(
        socket: UdpSocket,
        identity: &ServerIdentity,
        limits: ServerLimits,
    ) -> Result<Self, BindError> {
        limits.check()?;
        let config = quic_config(identity, &limits)?;
        let endpoint = socket::endpoint(socket, Some(config)).map_err(BindError::Unusable)?;
        let address = endpoint.local_addr().map_err(BindError::Unusable)?;
        Ok(Self {
            endpoint,
            address,
            limits,
            metrics: Arc::new(Metrics::default()),
        })
    }

    /// The address that the server listens on, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The counters, for the metrics endpoint. They live on after the server.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Serves until `shutdown` completes. Then nothing new is accepted, accepted exchanges have
    /// [`ServerLimits::grace`] to finish, every connection is closed with [`Code::GoingAway`], and
    /// the call returns.
    pub async fn run<H: Handler>(
        self,
        handler: Arc<H>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Stopped, RunError> {
        let Self {
            endpoint,
            limits,
            metrics,
            ..
        } = self;
        let grace = limits.grace;
        let shared = Arc::new(Shared {
            handler,
            metrics,
            admission: Admission::new(&limits),
            exchanges: semaphore(limits.exchanges),
            bytes: semaphore(limits.buffered_bytes),
            limits,
        });
        let (stage, stages) = watch::channel(Stage::Serving);
        let mut sessions = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = sessions.join_next() => {}
                incoming = endpoint.accept() => {
                    let incoming = incoming.ok_or(RunError::SocketLost)?;
                    admit(&shared, incoming, &stages, &mut sessions);
                }
            }
        }
        let unfinished = drain(&endpoint, &stage, grace, sessions).await;
        endpoint.close(Code::GoingAway.varint(), b"");
        // A farewell that takes longer is not waited for.
        let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
        Ok(Stopped { unfinished })
    }
}

/// Judges a connection attempt and starts its session.
fn admit<H: Handler>(
    shared: &Arc<Shared<H>>,
    incoming: Incoming,
    stages: &watch::Receiver<Stage>,
    sessions: &mut JoinSet<usize>,
) {
    let address = incoming.remote_address().ip();
    match shared
        .admission
        .arrived(address, incoming.remote_address_validated())
    {
        Verdict::Handshake(place) => {
            sessions.spawn(session::run(
                Arc::clone(shared),
                incoming,
                place,
                stages.clone(),
            ));
        }
        Verdict::Retry => {
            shared.metrics.handshake(HandshakeResult::Retried);
            // An unproven address may always be asked; if not, dropping the attempt refuses it.
            let _ = incoming.retry();
        }
        Verdict::Refuse(limit) => {
            shared.metrics.handshake(HandshakeResult::Refused);
            shared.metrics.limited(limit);
            incoming.refuse();
        }
    }
}

/// Lets what was accepted finish; returns the number of exchanges that did not.
async fn drain(
    endpoint: &quinn::Endpoint,
    stage: &watch::Sender<Stage>,
    grace: Duration,
    mut sessions: JoinSet<usize>,
) -> usize {
    stage.send_replace(Stage::Draining);
    let mut unfinished = 0;
    let mut over = pin!(sleep(grace));
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            ended = sessions.join_next() => match ended {
                None => return unfinished,
                Some(ended) => unfinished += ended.unwrap_or_default(),
            },
            () = &mut over, if !stopping => {
                stopping = true;
                stage.send_replace(Stage::Stopping);
            }
            Some(incoming) = endpoint.accept() => incoming.refuse(),
        }
    }
}

/// QUIC of a server: what TR-1 and the limits say, and nothing that outlives a connection.
fn quic_config(
    identity: &ServerIdentity,
    limits: &ServerLimits,
) -> Result<quinn::ServerConfig, BindError> {
    let crypto = tls::quic_server(identity).map_err(BindError::Tls)?;
    let mut tokens = ValidationTokenConfig::default();
    // NEW_TOKEN tokens would let an address skip its proof later and link its connections.
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(limits.transport()?)
        .validation_token_config(tokens)
        // A connection stays where it was counted and where policy saw it come from.
        // rule: TR-7
        .migration(false)
        .max_incoming(limits.handshakes.saturating_mul(4).max(64))
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    Ok(config)
}
