//! Who may connect: the order of the checks that a connection attempt passes (TR-5).
//!
//! An address counts for nothing until it is proven to receive our packets, by a Retry or by a
//! finished handshake: else a stranger could fill tables, or use up another's share, with made-up
//! sources.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits::{ServerLimits, a_quarter};
use crate::metrics::Limit;
use crate::source::{Shares, Source, SourcePlace, Sources};
use crate::standing::{Line, Turn};

/// How often entries whose burst is whole again are swept out. Not more often even when the table
/// is full: a sweep looks at every entry, and strangers must not be able to ask for one each.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Admission {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    handshakes_limit: usize,
    /// Places below which others give way: the last quarter is for whoever comes.
    reserve: Reserve,
    shaking: Arc<Line>,
    connected: Arc<Line>,
    retry_above: usize,
    sources: Arc<Sources>,
    rate: DefaultKeyedRateLimiter<Source>,
    strangers: Option<DefaultKeyedRateLimiter<Source>>,
    rate_entries: usize,
    swept: Mutex<Instant>,
}

struct Reserve {
    handshakes: usize,
    connections: usize,
    exchanges: usize,
    bytes: usize,
}

/// What to do with a connection attempt.
pub(crate) enum Verdict {
    /// Go on with the handshake.
    Handshake(HandshakePlace),
    /// Ask for proof of the address first.
    Retry,
    /// Say no.
    Refuse(Limit),
}

/// A handshake in progress: its place, and the connection's own, once the address is proven.
pub(crate) struct HandshakePlace {
    source: Source,
    handshake: OwnedSemaphorePermit,
    connection: OwnedSemaphorePermit,
    proven: Option<(SourcePlace, OwnedSemaphorePermit)>,
    turn: Turn,
}

impl HandshakePlace {
    /// Tells when the handshake has to give way.
    pub(crate) fn over(&self) -> Arc<Notify> {
        self.turn.over()
    }
}

/// A connection that is up; its places are given back on drop.
pub(crate) struct ConnectionPlace {
    _connection: OwnedSemaphorePermit,
    pub(crate) source: SourcePlace,
    pub(crate) turn: Turn,
}

impl Admission {
    pub(crate) fn new(limits: &ServerLimits) -> Self {
        let quota = Quota::per_second(limits.new_connections_per_second)
            .allow_burst(limits.new_connections_burst);
        let strangers = limits.strangers.map(|strangers| {
            let quota = Quota::per_second(strangers.requests_per_second);
            RateLimiter::keyed(quota.allow_burst(strangers.requests_burst))
        });
        Self {
            reserve: Reserve {
                handshakes: limits.handshakes / 4,
                connections: limits.connections / 4,
                exchanges: limits.exchanges / 4,
                bytes: limits.buffered_bytes / 4,
            },
            shaking: Arc::default(),
            connected: Arc::default(),
            strangers,
            connections: semaphore(limits.connections),
            handshakes: semaphore(limits.handshakes),
            handshakes_limit: limits.handshakes,
            retry_above: limits.retry_above,
            sources: Sources::new(Shares {
                connections: limits.connections_per_source,
                handshakes: a_quarter(limits.handshakes),
                exchanges: limits.exchanges_of_a_source(),
                buffered_bytes: limits.buffered_bytes_per_source,
            }),
            rate: RateLimiter::keyed(quota),
            rate_entries: limits.sources,
            swept: Mutex::new(Instant::now()),
        }
    }

    /// Judges a first packet from `address`; `proven` if it carries proof of the address.
    pub(crate) fn arrived(&self, address: IpAddr, proven: bool) -> Verdict {
        let in_progress = self
            .handshakes_limit
            .saturating_sub(self.handshakes.available_permits());
        // Nobody gives way to an address that may be made up.
        let short = self.connections.available_permits() < self.reserve.connections;
        if !proven && (in_progress >= self.retry_above || short) {
            return Verdict::Retry;
        }
        let source = Source::from(address);
        let proven = match proven.then(|| self.enter_proven(source)).transpose() {
            Ok(place) => place,
            Err(limit) => return Verdict::Refuse(limit),
        };
        // rule: TR-8
        if proven.is_some() && self.handshakes.available_permits() < self.reserve.handshakes {
            self.shaking.make_room();
        }
        if short {
            self.connected.make_room();
        }
        let Ok(handshake) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            return Verdict::Refuse(Limit::Handshakes);
        };
        let Ok(connection) = Arc::clone(&self.connections).try_acquire_owned() else {
            return Verdict::Refuse(Limit::Connections);
        };
        Verdict::Handshake(HandshakePlace {
            source,
            handshake,
            connection,
            proven,
            turn: self.shaking.join(),
        })
    }

    /// The handshake is done, which proves the address if nothing did before: counts the
    /// connection against its source.
    pub(crate) fn finished(&self, place: HandshakePlace) -> Result<ConnectionPlace, Limit> {
        let HandshakePlace {
            source,
            handshake,
            connection,
            proven,
            turn,
        } = place;
        drop((handshake, turn));
        let source = match proven {
            Some((place, _)) => place,
            None => self.enter(source)?,
        };
        Ok(ConnectionPlace {
            _connection: connection,
            source,
            turn: self.connected.join(),
        })
    }

    /// Counts a request of a stranger, before any of it is read.
    pub(crate) fn request(&self, source: Source) -> Result<(), Limit> {
        let Some(strangers) = &self.strangers else {
            return Ok(());
        };
        // One entry for each source that is connected or was just now, and no more than of those.
        let within = strangers.check_key(&source);
        within.map_err(|_| Limit::StrangerRequests)
    }

    /// A request came: when those in progress hold too much, somebody gives way.
    pub(crate) fn make_room(&self, exchanges: &Semaphore, bytes: &Semaphore) {
        if exchanges.available_permits() < self.reserve.exchanges
            || bytes.available_permits() < self.reserve.bytes
        {
            self.connected.make_room();
        }
    }

    /// A place for a source that was proven before its handshake: that it answers a Retry is no reason
    /// to let it have all handshakes.
    fn enter_proven(&self, source: Source) -> Result<(SourcePlace, OwnedSemaphorePermit), Limit> {
        let place = self.enter(source)?;
        let handshake = Arc::clone(place.handshakes()).try_acquire_owned();
        let handshake = handshake.map_err(|_| Limit::HandshakesPerSource)?;
        Ok((place, handshake))
    }

    fn enter(&self, source: Source) -> Result<SourcePlace, Limit> {
        if self.sweep_is_due() {
            self.rate.retain_recent();
            if let Some(strangers) = &self.strangers {
                strangers.retain_recent();
            }
        }
        // Full of sources that connected just now: the newcomer has to wait.
        if self.rate.len() >= self.rate_entries {
            return Err(Limit::Sources);
        }
        self.rate
            .check_key(&source)
            .map_err(|_| Limit::NewConnections)?;
        self.sources
            .enter(source)
            .ok_or(Limit::ConnectionsPerSource)
    }
}

impl Admission {
    fn sweep_is_due(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = swept.elapsed() >= SWEEP_EVERY;
        if due {
            *swept = Instant::now();
        }
        due
    }
}

/// A semaphore of `places`, or as many as one can have.
pub(crate) fn semaphore(places: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn place(verdict: Verdict) -> HandshakePlace {
        match verdict {
            Verdict::Handshake(place) => place,
            Verdict::Retry => panic!("asked to retry"),
            Verdict::Refuse(limit) => panic!("refused: {}", limit.label()),
        }
    }

    fn one_per_second(burst: u32) -> ServerLimits {
        ServerLimits {
            new_connections_per_second: NonZeroU32::MIN,
            new_connections_burst: NonZeroU32::new(burst).expect("not zero"),
            ..ServerLimits::default()
        }
    }

    #[test]
    fn above_the_threshold_only_proven_addresses_get_on() {
        let limits = ServerLimits {
            retry_above: 1,
            handshakes: 2,
            ..ServerLimits::default()
        };
        let admission = Admission::new(&limits);
        let _first = place(admission.arrived(address(1), false));
        assert!(matches!(
            admission.arrived(address(2), false),
            Verdict::Retry
        ));
        let _second = place(admission.arrived(address(2), true));
        let third = admission.arrived(address(3), true);
        assert!(matches!(third, Verdict::Refuse(Limit::Handshakes)));
        assert!(matches!(
            admission.arrived(address(3), false),
            Verdict::Retry
        ));
    }

    #[test]
    fn made_up_sources_leave_no_trace() {
        let limits = ServerLimits {
            retry_above: 10,
            ..ServerLimits::default()
        };
        let admission = Admission::new(&limits);
        for last in 0..=255 {
            drop(place(admission.arrived(address(last), false)));
        }
        assert_eq!(admission.rate.len(), 0);
        assert!(
            admission
                .finished(place(admission.arrived(address(1), false)))
                .is_ok()
        );
        assert_eq!(admission.rate.len(), 1);
    }

    #[test]
    fn a_source_that_connects_too_often_is_refused_and_others_are_not() {
        let admission = Admission::new(&one_per_second(2));
        for _ in 0..2 {
            let place = place(admission.arrived(address(1), false));
            assert!(admission.finished(place).is_ok());
        }
        let third = place(admission.arrived(address(1), false));
        assert!(matches!(
            admission.finished(third),
            Err(Limit::NewConnections)
        ));
        let proven = admission.arrived(address(1), true);
        assert!(matches!(proven, Verdict::Refuse(Limit::NewConnections)));
        assert!(
            admission
                .finished(place(admission.arrived(address(2), true)))
                .is_ok()
        );
    }

    #[test]
    fn the_memory_for_sources_is_bounded() {
        let limits = ServerLimits {
            sources: 3,
            ..one_per_second(1)
        };
        let admission = Admission::new(&limits);
        for last in 0..3 {
            assert!(
                admission
                    .finished(place(admission.arrived(address(last), true)))
                    .is_ok()
            );
        }
        assert!(matches!(
            admission.arrived(address(9), true),
            Verdict::Refuse(Limit::Sources)
        ));
        assert_eq!(admission.rate.len(), 3);
    }

    #[test]
    fn connections_are_bounded_in_all_and_per_source() {
        let limits = ServerLimits {
            connections: 3,
            connections_per_source: 2,
            ..ServerLimits::default()
        };
        let admission = Admission::new(&limits);
        let connect = |last| {
            admission
                .finished(place(admission.arrived(address(last), true)))
                .expect("up")
        };
        let (first, _second) = (connect(1), connect(1));
        let third = admission.arrived(address(1), true);
        assert!(matches!(
            third,
            Verdict::Refuse(Limit::ConnectionsPerSource)
        ));
        let _third = connect(2);
        assert!(matches!(
            admission.arrived(address(3), true),
            Verdict::Refuse(Limit::Connections)
        ));
        drop(first);
        connect(3);
    }
}
