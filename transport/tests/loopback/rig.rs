//! A running server with a scripted handler.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use transport::{
    Bytes, ClientEndpoint, ClientLimits, ConnectError, Connection, ExporterUse, Handler, Metrics,
    Peer, RunError, Server, ServerIdentity, ServerLimits, Standing, Stopped,
};

/// Long enough for anything on loopback that is going to happen at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long something must not happen to count as not happening.
pub(crate) const A_WHILE: Duration = Duration::from_millis(200);

pub(crate) const ECHO: u8 = b'e';
/// Waits for one permit of the gate, then echoes.
pub(crate) const WAIT: u8 = b'w';
pub(crate) const PANIC: u8 = b'p';
/// Answers with a mebibyte.
pub(crate) const LONG: u8 = b'l';
/// Answers with both exporter values.
pub(crate) const EXPORT: u8 = b'x';
/// Has the connection closed for misuse.
pub(crate) const CLOSE: u8 = b'c';
/// Has the peer be known from now on.
pub(crate) const KNOW: u8 = b'k';
/// Answers with the peer's address as text.
pub(crate) const ADDRESS: u8 = b'a';

pub(crate) struct Script {
    pub(crate) gate: Semaphore,
    pub(crate) started: Semaphore,
    pub(crate) finished: Semaphore,
    pub(crate) closed: Semaphore,
    pub(crate) exchanges: AtomicUsize,
}

impl Handler for Script {
    type Connection = Peer;

    fn connected(&self, peer: Peer) -> Peer {
        peer
    }

    async fn exchange(&self, peer: &Peer, message: Bytes) -> Bytes {
        self.exchanges.fetch_add(1, Ordering::SeqCst);
        self.started.add_permits(1);
        let answer = match message.first() {
            Some(&WAIT) => {
                self.gate.acquire().await.expect("the gate stands").forget();
                message
            }
            Some(&PANIC) => panic!("as the message asked"),
            Some(&LONG) => Bytes::from(vec![LONG; 1 << 20]),
            Some(&EXPORT) => {
                let uses = [ExporterUse::Authenticator, ExporterUse::Hpke];
                let values = uses.map(|usage| peer.exporter(usage).expect("a value"));
                Bytes::from(values.concat())
            }
            Some(&ADDRESS) => Bytes::from(peer.address().to_string()),
            Some(&KNOW) => {
                peer.stands(Standing::Known);
                message
            }
            Some(&CLOSE) => {
                peer.close();
                message
            }
            _ => message,
        };
        self.finished.add_permits(1);
        answer
    }

    fn closed(&self, _connection: &Peer) {
        self.closed.add_permits(1);
    }
}

pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) pin: [u8; 32],
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) script: Arc<Script>,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<Result<Stopped, RunError>>,
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn loopback(last: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))
}

impl Rig {
    pub(crate) fn start(limits: ServerLimits) -> Self {
        Self::start_on(loopback(1), limits)
    }

    pub(crate) fn start_on(address: SocketAddr, limits: ServerLimits) -> Self {
        let identity = ServerIdentity::new(&key(1)).expect("an identity");
        let server = Server::bind(address, &identity, limits).expect("a server");
        let (address, metrics) = (server.local_addr(), server.metrics());
        let script = Arc::new(Script {
            gate: Semaphore::new(0),
            started: Semaphore::new(0),
            finished: Semaphore::new(0),
            closed: Semaphore::new(0),
            exchanges: AtomicUsize::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let run = tokio::spawn(server.run(Arc::clone(&script), shutdown));
        let pin = identity.public_key();
        Self {
            address,
            pin,
            metrics,
            script,
            stop: Some(stop),
            run,
        }
    }

    pub(crate) async fn connect(&self) -> Connection {
        self.try_connect().await.expect("a connection")
    }

    pub(crate) async fn try_connect(&self) -> Result<Connection, ConnectError> {
        Connection::connect(self.address, self.pin, ClientLimits::default(), PATIENCE).await
    }

    /// Connects from another loopback address, which is another source.
    pub(crate) async fn connect_from(&self, last: u8) -> Result<Connection, ConnectError> {
        let endpoint =
            ClientEndpoint::bind(loopback(last), ClientLimits::default()).expect("an endpoint");
        endpoint.connect(self.address, self.pin, PATIENCE).await
    }

    /// The server still serves a new caller.
    pub(crate) async fn assert_serving(&self) {
        let connection = self.connect().await;
        let answer = connection
            .exchange(&[ECHO, 1, 2, 3])
            .await
            .expect("an answer");
        assert_eq!(answer.as_ref(), [ECHO, 1, 2, 3]);
    }

    pub(crate) fn ask_to_stop(&mut self) {
        self.stop
            .take()
            .expect("asked once")
            .send(())
            .expect("the server runs");
    }

    pub(crate) async fn stopped(self) -> Stopped {
        let ended = tokio::time::timeout(PATIENCE, self.run)
            .await
            .expect("run() returns");
        ended.expect("no panic").expect("no error")
    }
}

/// Waits until `count` of something have happened.
pub(crate) async fn happened(semaphore: &Semaphore, count: u32) {
    let permits = tokio::time::timeout(PATIENCE, semaphore.acquire_many(count));
    permits.await.expect("in time").expect("stands").forget();
}

/// Waits until `condition` holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("in time");
}
