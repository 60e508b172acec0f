//! Who may connect: the order of the checks that a connection attempt passes (TR-5).
//!
//! An address counts for nothing until it is proven to receive our packets, by a Retry or by a
//! finished handshake: else a stranger could fill tables, or use up another's share, with made-up
//! sources.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::ServerLimits;
use crate::metrics::Limit;
use crate::source::{Shares, Source, SourcePlace, Sources};

/// How often entries whose burst is whole again are swept out. Not more often even when the table
/// is full: a sweep looks at every entry, and strangers must not be able to ask for one each.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Admission {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    handshakes_limit: usize,
    retry_above: usize,
    sources: Arc<Sources>,
    rate: DefaultKeyedRateLimiter<Source>,
    rate_entries: usize,
    swept: Mutex<Instant>,
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
    proven: Option<SourcePlace>,
}

/// A connection that is up; its places are given back on drop.
pub(crate) struct ConnectionPlace {
    _connection: OwnedSemaphorePermit,
    pub(crate) source: SourcePlace,
}

impl Admission {
    pub(crate) fn new(limits: &ServerLimits) -> Self {
        let quota = Quota::per_second(limits.new_connections_per_second)
            .allow_burst(limits.new_connections_burst);
        Self {
            connections: semaphore(limits.connections),
            handshakes: semaphore(limits.handshakes),
            handshakes_limit: limits.handshakes,
            retry_above: limits.retry_above,
            sources: Sources::new(Shares {
                connections: limits.connections_per_source,
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
        if !proven && in_progress >= self.retry_above {
            return Verdict::Retry;
        }
        let source = Source::from(address);
        let proven = match proven.then(|| self.enter(source)).transpose() {
            Ok(place) => place,
            Err(limit) => return Verdict::Refuse(limit),
        };
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
        } = place;
        drop(handshake);
        let source = match proven {
            Some(place) => place,
            None => self.enter(source)?,
        };
        Ok(ConnectionPlace {
            _connection: connection,
            source,
        })
    }

    fn enter(&self, source: Source) -> Result<SourcePlace, Limit> {
        if self.sweep_is_due() {
            self.rate.retain_recent();
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
