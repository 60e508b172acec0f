//! Hostile peers, for tests, the bench and the soak: bounded in count and time, and aimed at loopback
//! only.
//!
//! A flood is run by [`Flood::run`] for a span against one server; it tells what was sent, what came
//! back and what the server did with it. Each kind is one way in which a stranger makes a server spend
//! memory, places or time (LESSONS of other systems: unauthenticated floods of KDCs, join requests that
//! exhaust memory, gap-filled QUIC streams).

mod packets;
mod raw;
mod strangers;
mod usage;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use usage::Usage;

/// A server to flood. Only loopback addresses are taken.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    address: SocketAddr,
}

impl Target {
    /// This server; none when it is not on this machine's loopback.
    #[must_use]
    pub fn new(address: SocketAddr) -> Option<Self> {
        address.ip().is_loopback().then_some(Self { address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One kind of hostile peer.
#[derive(Clone, Debug)]
pub enum Flood {
    /// Well-formed Initials of addresses that answer nothing, each with a new connection id.
    Initials,
    /// Handshakes of addresses that prove themselves by a Retry, and then say no more.
    HalfOpen,
    /// Whole handshakes, and no request.
    Silent,
    /// Requests that are written a byte at a time and never finished.
    SlowWriters,
    /// Requests whose answers are never read, with windows of a byte.
    SlowReaders,
    /// Streams of single bytes with gaps between them, as far as the windows go.
    Gaps,
    /// As many streams as a connection may have, each with a byte of rubbish or reset at once, again and
    /// again.
    Streams,
    /// Messages as long as any may be: of nested arrays.
    Messages,
    /// The same request over and over, on new connections: a login with a wrong secret, a ticket that is
    /// refused.
    Storm {
        /// The request.
        request: Arc<[u8]>,
        /// Requests on one connection.
        each: u32,
    },
}

/// How hard.
#[derive(Clone, Copy, Debug)]
pub struct Force {
    /// For how long.
    pub span: Duration,
    /// Peers at a time, each with an address of its own as far as there are addresses.
    pub peers: usize,
    /// Loopback addresses that they share: sources. At most 200.
    pub sources: u8,
    /// Acts (datagram pairs, connections or requests) in one second, of all of them together.
    pub per_second: u32,
}

/// What came of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Hostile acts.
    pub acts: u64,
    /// Bytes sent, where they are counted (Initials).
    pub sent: u64,
    /// Bytes that came back, where they are counted (Initials).
    pub received: u64,
    /// Acts that the server went along with: a handshake done, a request answered.
    pub served: u64,
    /// Acts that it broke off or refused by a code.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    acts: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    served: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn served(&self, served: bool) {
        let counter = if served { &self.served } else { &self.refused };
        Self::add(counter, 1);
    }

    fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            acts: read(&self.acts),
            sent: read(&self.sent),
            received: read(&self.received),
            served: read(&self.served),
            refused: read(&self.refused),
        }
    }
}

/// One peer's share of a flood.
pub(crate) struct Part {
    pub(crate) target: SocketAddr,
    pub(crate) from: IpAddr,
    pub(crate) until: Instant,
    every: Duration,
    pub(crate) counts: Arc<Counts>,
}

impl Part {
    pub(crate) fn over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Waits until the next act is due, which is counted; false when the flood is over.
    pub(crate) async fn next(&self, due: &mut Instant) -> bool {
        tokio::time::sleep_until((*due).into()).await;
        // What was missed is not made up for: that would be a burst.
        *due = (*due + self.every).max(Instant::now());
        if self.over() {
            return false;
        }
        self.act();
        true
    }

    /// Counts an act.
    pub(crate) fn act(&self) {
        Counts::add(&self.counts.acts, 1);
    }

    /// What is left of the span.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

impl Flood {
    /// Every kind but storms, which need a request.
    pub const KINDS: [Flood; 8] = [
        Flood::Initials,
        Flood::HalfOpen,
        Flood::Silent,
        Flood::SlowWriters,
        Flood::SlowReaders,
        Flood::Gaps,
        Flood::Streams,
        Flood::Messages,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Initials => "spoofed_initials",
            Self::HalfOpen => "half_open",
            Self::Silent => "silent",
            Self::SlowWriters => "slow_writers",
            Self::SlowReaders => "slow_readers",
            Self::Gaps => "gaps",
            Self::Streams => "streams",
            Self::Messages => "messages",
            Self::Storm { .. } => "storm",
        }
    }

    /// Runs it to its end.
    pub async fn run(&self, target: Target, force: Force) -> Tally {
        self.run_until(target, force, std::future::pending()).await
    }

    /// Runs it to its end, or until it is told to stop.
    pub async fn run_until(
        &self,
        target: Target,
        force: Force,
        stop: impl Future<Output = ()> + Send,
    ) -> Tally {
        let counts = Arc::new(Counts::default());
        let until = Instant::now() + force.span;
        let peers = force.peers.max(1);
        let every = Duration::from_secs(1) * u32::try_from(peers).unwrap_or(u32::MAX)
            / force.per_second.max(1);
        let mut running = JoinSet::new();
        for peer in 0..peers {
            let source = peer % usize::from(force.sources.clamp(1, 200));
            let part = Part {
                target: target.address,
                from: address(target.address, source),
                until,
                every,
                counts: Arc::clone(&counts),
            };
            let flood = self.clone();
            running.spawn(async move {
                match flood {
                    Flood::Initials => packets::initials(&part).await,
                    Flood::HalfOpen => packets::half_open(&part).await,
                    Flood::Gaps => raw::gaps(&part).await,
                    other => strangers::flood(&other, &part).await,
                }
            });
        }
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                ended = running.join_next() => if ended.is_none() { break },
                () = &mut stop => break,
            }
        }
        running.shutdown().await;
        counts.tally()
    }
}

/// The loopback address of a source. IPv6 has one only.
fn address(target: SocketAddr, source: usize) -> IpAddr {
    let last = u8::try_from(source + 10).unwrap_or(u8::MAX);
    match target.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(127, 0, 66, last)),
        v6 @ IpAddr::V6(_) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_flooded() {
        assert!(Target::new("192.0.2.1:1".parse().unwrap()).is_none());
        assert!(Target::new("127.0.0.9:1".parse().unwrap()).is_some());
    }

    #[test]
    fn floods_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = Flood::KINDS.iter().map(Flood::name).collect();
        assert_eq!(names.len(), Flood::KINDS.len());
    }

    struct Echo;

    impl transport::Handler for Echo {
        type Connection = ();

        fn connected(&self, _peer: transport::Peer) {}

        async fn exchange(&self, (): &(), message: transport::Bytes) -> transport::Bytes {
            message
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_flood_gets_as_far_as_it_is_meant_to() {
        use transport::{Server, ServerIdentity, ServerLimits};
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let identity = ServerIdentity::new(&key).unwrap();
        let limits = ServerLimits {
            retry_above: 0,
            ..ServerLimits::default()
        };
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), &identity, limits).unwrap();
        let target = Target::new(server.local_addr()).unwrap();
        let metrics = server.metrics();
        tokio::spawn(server.run(Arc::new(Echo), std::future::pending()));
        let force = Force {
            span: Duration::from_millis(700),
            peers: 2,
            sources: 2,
            per_second: 20,
        };
        let storm = Flood::Storm {
            request: Arc::from([1, 2, 3].as_slice()),
            each: 3,
        };
        for flood in Flood::KINDS.iter().chain([&storm]) {
            let before = metrics.handshakes_total(transport::HandshakeResult::Completed);
            let tally = flood.run(target, force).await;
            let done = metrics.handshakes_total(transport::HandshakeResult::Completed) - before;
            assert!(tally.acts > 0, "{}: {tally:?}", flood.name());
            match flood {
                Flood::Initials => {
                    assert!(tally.received > 0 && done == 0, "{tally:?}");
                }
                Flood::HalfOpen => assert!(tally.served > 0 && done == 0, "{tally:?}"),
                Flood::Messages => assert!(done > 0, "{tally:?}"),
                _ => assert!(tally.served > 0 && done > 0, "{}: {tally:?}", flood.name()),
            }
        }
    }
}
