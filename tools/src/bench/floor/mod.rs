//! Floors: what an act cannot do without, and nothing else.
//!
//! A floor is a server in this process that answers as many bytes as the real one, after the
//! primitives of the act and one durable append, and a caller that does the caller's primitives. It
//! is driven by as many tasks as the real act, over the same transport, so that its rate can be
//! compared with the real one on the same machine. It knows no tickets, no state and no policy.

mod append;
mod primitives;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ticket_format::report::{Report, exit};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use transport::{
    Bytes, ClientEndpoint, ClientLimits, Connection, Handler, Peer, Server, ServerIdentity,
    ServerLimits,
};

pub(crate) use append::GroupCommit;
pub(crate) use primitives::{Batch, Chunks, MlDsa, Rsa, Signature, make_sealing_key, record_bytes};

/// One side's primitives.
pub(crate) type Work = Box<dyn Fn() + Send + Sync>;

/// What one act needs at least.
pub(crate) struct Act {
    /// Bytes of the request.
    pub(crate) request: usize,
    /// Bytes of the answer.
    pub(crate) answer: usize,
    /// Bytes of the audit entry.
    pub(crate) record: usize,
    /// The server's primitives.
    pub(crate) server: Work,
    /// The caller's.
    pub(crate) caller: Work,
}

/// A server that does an act's primitives; it ends when this is dropped.
pub(crate) struct Floor {
    request: Vec<u8>,
    caller: Work,
    address: SocketAddr,
    pin: [u8; 32],
    _stop: oneshot::Sender<()>,
    _server: JoinHandle<()>,
}

struct Answering {
    answer: Bytes,
    record: usize,
    work: Work,
    log: GroupCommit,
}

impl Handler for Answering {
    type Connection = ();

    fn connected(&self, _peer: Peer) {}

    async fn exchange(&self, (): &(), _message: Bytes) -> Bytes {
        (self.work)();
        // An empty answer is an error at the caller.
        match self.log.append(vec![0xa5; self.record]).await {
            Ok(()) => self.answer.clone(),
            Err(_) => Bytes::new(),
        }
    }
}

impl Floor {
    /// Starts the server, its log in a new file of this directory.
    pub(crate) fn start(dir: &Path, name: &str, act: Act) -> Result<Arc<Self>, Report> {
        let failed = |error: &dyn std::error::Error| {
            Report::new(exit::LOCAL, "cannot start the server of a floor").why(error)
        };
        let key = SigningKey::generate(&mut crate::realm::rng());
        let identity = ServerIdentity::new(&key).map_err(|error| failed(&error))?;
        let limits = ServerLimits {
            new_connections_per_second: NonZeroU32::MAX,
            new_connections_burst: NonZeroU32::MAX,
            // Connections are opened before the round in which they are first used.
            first_exchange_timeout: Duration::from_secs(24 * 3_600),
            ..ServerLimits::default()
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(address, &identity, limits).map_err(|error| failed(&error))?;
        let address = server.local_addr();
        let log = GroupCommit::create(&dir.join(name)).map_err(|error| failed(&error))?;
        let handler = Answering {
            answer: Bytes::from(vec![0x5a; act.answer]),
            record: act.record,
            work: act.server,
            log,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            // Ends when the sender is dropped; a floor that failed shows at its callers.
            let _ = server
                .run(Arc::new(handler), async { drop(stopped.await) })
                .await;
        });
        Ok(Arc::new(Self {
            request: vec![0xa5; act.request],
            caller: act.caller,
            address,
            pin: identity.public_key(),
            _stop: stop,
            _server: server,
        }))
    }

    /// A new connection from this socket: one full handshake.
    pub(crate) async fn connect(&self, from: &ClientEndpoint) -> Result<Connection, Report> {
        connect(from, self.address, self.pin).await
    }

    /// One act over a connection.
    pub(crate) async fn act(&self, connection: &Connection) -> Result<(), Report> {
        (self.caller)();
        let answer = connection.exchange(&self.request).await;
        answer
            .map(drop)
            .map_err(|error| Report::new(exit::LOCAL, "an exchange of a floor failed").why(error))
    }
}

/// A connection to a server that is known to be there.
pub(crate) async fn connect(
    from: &ClientEndpoint,
    address: SocketAddr,
    pin: [u8; 32],
) -> Result<Connection, Report> {
    let connected = from.connect(address, pin, Duration::from_secs(10)).await;
    connected.map_err(|error| Report::new(exit::LOCAL, "a connection failed").why(error))
}

/// A socket on a loopback address of its own, as if on another machine: servers limit how often one
/// address may connect and log in.
pub(crate) fn socket(address: Ipv4Addr) -> Result<ClientEndpoint, Report> {
    let socket = ClientEndpoint::bind(SocketAddr::from((address, 0)), ClientLimits::default());
    socket.map_err(|error| Report::new(exit::LOCAL, "cannot open a socket").why(error))
}
