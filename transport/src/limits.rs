//! The numbers that bound what a peer can cost. Every one has a unit, a default and a reason
//! (TR-5).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::error::LimitsError;

/// Kibibyte and mebibyte, in bytes.
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Longest message either way, in bytes: 2 MiB (section 11 of the protocol). The largest one is a redemption of 1,000 wrapped
/// DEKs; with the post-quantum kind (about 1,400 bytes) and its context each item may take 2,097
/// bytes.
const MESSAGE_BYTES: usize = 2 * MIB;

/// What a server allows. `Default` suits a key server or broker with 2 cores and 2 GiB.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Longest request, in bytes. 2 MiB; see [`Code::TooLarge`](crate::Code::TooLarge).
    pub message_bytes: usize,
    /// Exchanges at a time on one connection (QUIC bidirectional streams). 64: enough to keep a
    /// busy job's batches in flight, and one peer can hold no more than that many handlers.
    pub exchanges_per_connection: u32,
    /// Exchanges at a time in the whole server. 4,096: a task and a message each. A held stream
    /// (the denial feed) counts as one.
    pub exchanges: usize,
    /// Exchanges at a time of one source, over all its connections. `None`: a quarter of
    /// `exchanges`, so that no one source can take every place; see
    /// [`exchanges_of_a_source`](Self::exchanges_of_a_source).
    pub exchanges_per_source: Option<usize>,
    /// Request bytes held at a time in the whole server. 256 MiB: 128 requests of the largest
    /// size, or thousands of usual ones. Above it, reading waits.
    pub buffered_bytes: usize,
    /// Request bytes held at a time for one source. 64 MiB: a quarter of the whole, so that no one
    /// source can keep all others waiting.
    pub buffered_bytes_per_source: usize,
    /// Time for a request to arrive whole. 15 s: the largest request at 1.2 Mbit/s.
    pub read_timeout: Duration,
    /// Time for an answer to be received whole and acknowledged. 15 s, as for reading. The
    /// handler's own time is not limited here: a held stream may wait for long.
    pub write_timeout: Duration,
    /// Unread bytes that one stream may have in flight. 256 KiB: full speed on a local network,
    /// 5 MB/s at 50 ms round trip.
    pub stream_window: u32,
    /// Unread bytes that one connection may have in flight. 512 KiB: twice a stream's, so that one
    /// stalled request does not hold up the others. Times `connections` (1 GiB) it bounds what QUIC
    /// buffers before our own budget applies, gaps in the streams included.
    pub connection_window: u32,
    /// Unacknowledged answer bytes per connection. 1 MiB.
    pub send_window: u64,
    /// Silence after which a connection ends. 30 s: three of the client's keep-alives.
    pub idle_timeout: Duration,
    /// Connections at a time. 2,048; see `connection_window`.
    pub connections: usize,
    /// Connections at a time from one source: an IPv4 address or an IPv6 /64. 512, because a whole
    /// fleet may stand behind one NAT gateway. At most a quarter of `connections`, so that a few
    /// sources cannot fill the server.
    pub connections_per_source: usize,
    /// New connections per second from one source, in the long run. 200: a handshake takes about
    /// 0.3 ms of CPU, so one source can take 6 % of a core.
    pub new_connections_per_second: NonZeroU32,
    /// New connections at once from one source. 1,024: a fleet that starts together.
    pub new_connections_burst: NonZeroU32,
    /// What strangers are held to beside; see [`Peer::stands`](crate::Peer::stands). `None`, for a server
    /// that says of no peer that it is more than a stranger: nothing.
    pub strangers: Option<StrangerLimits>,
    /// Sources whose rate is remembered. 65,536 (about 5 MiB). Only addresses that were proven to
    /// receive our packets count, and an entry goes when its burst is whole again.
    pub sources: usize,
    /// Handshakes in progress. 256: some 20 KiB each. Above it, even proven addresses are refused; one
    /// source gets a quarter of them once its address is proven, and from three quarters on those that
    /// have taken longer than a second give way.
    pub handshakes: usize,
    /// Handshakes in progress from which on an address must be proven first, by a QUIC Retry (RFC
    /// 9000 section 8.1.2). 64; 0 means always. A Retry keeps no state, so spoofed sources cost
    /// one small packet each and can never fill the table above.
    pub retry_above: usize,
    /// Time for a handshake. 5 s: three lost packets on a slow path.
    pub handshake_timeout: Duration,
    /// Time from the handshake until a first request has arrived whole; a connection without one
    /// is closed with [`Code::TooSlow`](crate::Code::TooSlow). 10 s: who connects has something to
    /// ask. From then on `idle_timeout` alone counts, however long an exchange is held.
    pub first_exchange_timeout: Duration,
    /// Time that accepted exchanges have to finish when the server stops. 10 s.
    pub grace: Duration,
}

/// What a peer is held to that has proven nothing yet.
#[derive(Clone, Copy, Debug)]
pub struct StrangerLimits {
    /// Longest request, in bytes. 128 KiB: the longest that the protocol lets a stranger say is a
    /// present or a statement of 96 KiB, with its proofs.
    pub message_bytes: usize,
    /// Requests per second of all strangers of one source, in the long run. 1,000: a refusal takes
    /// about 0.1 ms of CPU, so one source can take a tenth of a core. Counted before a request is
    /// read.
    pub requests_per_second: NonZeroU32,
    /// Requests at once of all strangers of one source. 8,192: some for each node of a fleet that
    /// starts together.
    pub requests_burst: NonZeroU32,
}

impl Default for StrangerLimits {
    fn default() -> Self {
        const PER_SECOND: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
        const BURST: NonZeroU32 = NonZeroU32::new(8_192).unwrap();
        Self {
            message_bytes: 128 * KIB,
            requests_per_second: PER_SECOND,
            requests_burst: BURST,
        }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        const NEW_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).unwrap();
        const NEW_BURST: NonZeroU32 = NonZeroU32::new(1024).unwrap();
        Self {
            message_bytes: MESSAGE_BYTES,
            exchanges_per_connection: 64,
            exchanges: 4096,
            exchanges_per_source: None,
            buffered_bytes: 256 * MIB,
            buffered_bytes_per_source: 64 * MIB,
            read_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(15),
            stream_window: 256 * KIB as u32,
            connection_window: 512 * KIB as u32,
            send_window: MIB as u64,
            idle_timeout: Duration::from_secs(30),
            connections: 2048,
            connections_per_source: 512,
            new_connections_per_second: NEW_PER_SECOND,
            new_connections_burst: NEW_BURST,
            strangers: None,
            sources: 65_536,
            handshakes: 256,
            retry_above: 64,
            handshake_timeout: Duration::from_secs(5),
            first_exchange_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        }
    }
}

impl ServerLimits {
    /// Exchanges at a time that one source gets: as set, or a quarter of all.
    pub fn exchanges_of_a_source(&self) -> usize {
        self.exchanges_per_source
            .unwrap_or_else(|| a_quarter(self.exchanges))
    }

    /// Longest request of a peer, in bytes.
    pub(crate) fn longest_of(&self, stranger: bool) -> usize {
        let strangers = self.strangers.filter(|_| stranger);
        strangers.map_or(self.message_bytes, |strangers| {
            strangers.message_bytes.min(self.message_bytes)
        })
    }

    /// Checks that the numbers make sense together, so that a bad one is found at start and not
    /// under load.
    pub fn check(&self) -> Result<(), LimitsError> {
        at_least_one("message_bytes", self.message_bytes)?;
        at_least_one(
            "exchanges_per_connection",
            self.exchanges_per_connection as usize,
        )?;
        at_least_one("exchanges", self.exchanges)?;
        at_least_one("connections", self.connections)?;
        at_least_one("connections_per_source", self.connections_per_source)?;
        at_least_one("exchanges_per_source", self.exchanges_of_a_source())?;
        if self.exchanges_of_a_source() > self.exchanges {
            return Err(LimitsError::AboveShare {
                limit: "exchanges_per_source",
                most: self.exchanges,
                whole: "exchanges",
            });
        }
        if self.connections_per_source > a_quarter(self.connections) {
            return Err(LimitsError::AboveShare {
                limit: "connections_per_source",
                most: a_quarter(self.connections),
                whole: "connections",
            });
        }
        at_least_one("handshakes", self.handshakes)?;
        if let Some(strangers) = &self.strangers {
            at_least_one("strangers.message_bytes", strangers.message_bytes)?;
        }
        at_least_one("sources", self.sources)?;
        at_least_one("stream_window", self.stream_window as usize)?;
        at_least_one("connection_window", self.connection_window as usize)?;
        at_least_one(
            "send_window",
            usize::try_from(self.send_window).unwrap_or(usize::MAX),
        )?;
        // A message that no budget could ever hold would wait for its deadline each time.
        if self.buffered_bytes_per_source < self.message_bytes {
            return Err(LimitsError::TooSmall {
                limit: "buffered_bytes_per_source",
                least: self.message_bytes,
            });
        }
        if self.buffered_bytes < self.buffered_bytes_per_source {
            return Err(LimitsError::TooSmall {
                limit: "buffered_bytes",
                least: self.buffered_bytes_per_source,
            });
        }
        idle("idle_timeout", self.idle_timeout)?;
        Ok(())
    }

    /// The QUIC transport parameters: no datagrams, no unidirectional streams.
    pub(crate) fn transport(&self) -> Result<Arc<TransportConfig>, LimitsError> {
        let mut config = closed_transport();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(self.exchanges_per_connection))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.connection_window))
            .send_window(self.send_window)
            .max_idle_timeout(Some(idle("idle_timeout", self.idle_timeout)?));
        Ok(Arc::new(config))
    }
}

/// What a client allows.
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// Longest request that is sent, in bytes. 2 MiB, as the server's.
    pub message_bytes: usize,
    /// Longest answer that is read, in bytes. 2 MiB: as a redemption in, so its answer out.
    pub answer_bytes: usize,
    /// Time for an exchange, from sending to the last byte of the answer. 60 s: a held stream
    /// waits up to 30 s by design.
    pub exchange_timeout: Duration,
    /// Unread bytes that one stream may have in flight. 1 MiB: half of the largest answer.
    pub stream_window: u32,
    /// Unread bytes that one connection may have in flight. 4 MiB.
    pub connection_window: u32,
    /// Unacknowledged request bytes per connection. 4 MiB.
    pub send_window: u64,
    /// Silence after which the connection ends. 30 s.
    pub idle_timeout: Duration,
    /// How often a silent connection says that it lives. 10 s: the client does it, because the
    /// client is the one who wants the connection.
    pub keep_alive: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            message_bytes: MESSAGE_BYTES,
            answer_bytes: MESSAGE_BYTES,
            exchange_timeout: Duration::from_secs(60),
            stream_window: MIB as u32,
            connection_window: 4 * MIB as u32,
            send_window: 4 * MIB as u64,
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
        }
    }
}

impl ClientLimits {
    /// The QUIC transport parameters: the server may open no stream at all.
    pub(crate) fn transport(&self) -> Result<Arc<TransportConfig>, LimitsError> {
        at_least_one("stream_window", self.stream_window as usize)?;
        at_least_one("connection_window", self.connection_window as usize)?;
        let mut config = closed_transport();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.connection_window))
            .send_window(self.send_window)
            .max_idle_timeout(Some(idle("idle_timeout", self.idle_timeout)?))
            .keep_alive_interval(Some(self.keep_alive));
        Ok(Arc::new(config))
    }
}

/// Longest datagram that is looked for, in bytes. Jumbo frames take it, and so does loopback: an answer with
/// its receipt is then one packet in place of four. Ten of them, as many as QUIC hands to the kernel at once,
/// are less than the 65,507 bytes that the kernel takes. Where the path has less, discovery ends at that
/// (RFC 8899).
pub(crate) const DATAGRAM_BYTES: u16 = 6_500;

/// What neither side ever uses is off.
fn closed_transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut datagrams = MtuDiscoveryConfig::default();
    datagrams.upper_bound(DATAGRAM_BYTES);
    config
        .mtu_discovery_config(Some(datagrams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        // The spin bit tells observers the round-trip time; nobody here needs that.
        .allow_spin(false);
    config
}

fn idle(limit: &'static str, value: Duration) -> Result<IdleTimeout, LimitsError> {
    // QUIC reads 0 as "never": a silent peer would hold its place for ever.
    if value.is_zero() {
        return Err(LimitsError::TooSmall { limit, least: 1 });
    }
    IdleTimeout::try_from(value).map_err(|_| LimitsError::TooLarge { limit })
}

/// The share of a whole that one source may have; never nothing, so that a tiny server serves.
pub(crate) fn a_quarter(whole: usize) -> usize {
    (whole / 4).max(whole.min(1))
}

fn at_least_one(limit: &'static str, value: usize) -> Result<(), LimitsError> {
    if value == 0 {
        Err(LimitsError::TooSmall { limit, least: 1 })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        ServerLimits::default().check().expect("sound");
        ServerLimits::default().transport().expect("sound");
        ClientLimits::default().transport().expect("sound");
    }

    #[test]
    fn a_budget_smaller_than_one_message_is_named() {
        let limits = ServerLimits {
            buffered_bytes_per_source: 1,
            ..ServerLimits::default()
        };
        let error = limits.check().expect_err("too small");
        assert!(
            error.to_string().contains("buffered_bytes_per_source"),
            "{error}"
        );
    }

    #[test]
    fn one_source_gets_a_quarter_and_a_larger_share_of_the_connections_is_named() {
        let limits = ServerLimits {
            connections: 100,
            connections_per_source: 26,
            exchanges: 100,
            ..ServerLimits::default()
        };
        assert_eq!(limits.exchanges_of_a_source(), 25);
        let error = limits.check().expect_err("more than a quarter");
        assert_eq!(
            error.to_string(),
            "limit connections_per_source must be at most 25, for the sake of other sources; or raise connections"
        );
        let limits = ServerLimits {
            connections_per_source: 25,
            ..limits
        };
        limits.check().expect("a quarter");
        let limits = ServerLimits {
            exchanges_per_source: Some(101),
            ..limits
        };
        let error = limits.check().expect_err("more than there are");
        assert!(
            error.to_string().contains("exchanges_per_source"),
            "{error}"
        );
    }

    #[test]
    fn a_server_of_one_place_gives_it_to_anybody() {
        let limits = ServerLimits {
            connections: 1,
            connections_per_source: 1,
            exchanges: 1,
            ..ServerLimits::default()
        };
        limits.check().expect("sound");
        assert_eq!(limits.exchanges_of_a_source(), 1);
    }

    #[test]
    fn silence_without_end_is_no_limit() {
        let limits = ServerLimits {
            idle_timeout: Duration::ZERO,
            ..ServerLimits::default()
        };
        limits.check().expect_err("zero means never to QUIC");
    }
}
