//! Counters that a server's metrics endpoint reads. Labels come from closed lists only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The label's value.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// How a connection attempt ended: label `result` of `handshakes_total`.
    HandshakeResult {
        /// The connection is up.
        Completed => "completed",
        /// TLS or QUIC failed: another protocol, group or version, or a peer that went away.
        Failed => "failed",
        /// Not finished in time.
        TimedOut => "timed_out",
        /// Refused by a limit; `limited_total` says which.
        Refused => "refused",
        /// Answered by a Retry: the address was not proven yet.
        Retried => "retried",
    }
}

labels! {
    /// What said no: label `limit` of `limited_total`. Names are those of
    /// [`ServerLimits`](crate::ServerLimits).
    Limit {
        /// Handshakes in progress.
        Handshakes => "handshakes",
        /// Handshakes in progress of one source.
        HandshakesPerSource => "handshakes_per_source",
        /// Connections in all.
        Connections => "connections",
        /// Connections of one source.
        ConnectionsPerSource => "connections_per_source",
        /// New connections per second of one source.
        NewConnections => "new_connections",
        /// Sources remembered.
        Sources => "sources",
        /// Exchanges in all.
        Exchanges => "exchanges",
        /// Exchanges of one source.
        ExchangesPerSource => "exchanges_per_source",
        /// Requests per second of the strangers of one source.
        StrangerRequests => "stranger_requests",
        /// Asked to give way to whoever comes.
        GaveWay => "gave_way",
        /// Time until a connection's first request has arrived.
        FirstExchangeTimeout => "first_exchange_timeout",
        /// Length of a message.
        MessageBytes => "message_bytes",
        /// Request bytes held, in all or for one source.
        BufferedBytes => "buffered_bytes",
        /// Time to receive a request.
        ReadTimeout => "read_timeout",
        /// Time to deliver an answer.
        WriteTimeout => "write_timeout",
    }
}

/// The counters of one server. Shared by [`Server::metrics`](crate::Server::metrics).
#[derive(Debug)]
pub struct Metrics {
    handshakes: [AtomicU64; HandshakeResult::ALL.len()],
    limited: [AtomicU64; Limit::ALL.len()],
    connections: AtomicU64,
    exchanges: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            handshakes: std::array::from_fn(|_| AtomicU64::new(0)),
            limited: std::array::from_fn(|_| AtomicU64::new(0)),
            connections: AtomicU64::new(0),
            exchanges: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// `handshakes_total{result}`: attempts that ended this way since the start.
    pub fn handshakes_total(&self, result: HandshakeResult) -> u64 {
        self.handshakes[result as usize].load(Ordering::Relaxed)
    }

    /// `limited_total{limit}`: how often this limit said no since the start.
    pub fn limited_total(&self, limit: Limit) -> u64 {
        self.limited[limit as usize].load(Ordering::Relaxed)
    }

    /// `connections`: how many are up now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Exchanges in progress now.
    pub fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }

    pub(crate) fn handshake(&self, result: HandshakeResult) {
        self.handshakes[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn limited(&self, limit: Limit) {
        self.limited[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection(self: &Arc<Self>) -> Gauge {
        Gauge::new(self, |metrics| &metrics.connections)
    }

    pub(crate) fn exchange(self: &Arc<Self>) -> Gauge {
        Gauge::new(self, |metrics| &metrics.exchanges)
    }
}

/// Counts one while it lives.
pub(crate) struct Gauge {
    metrics: Arc<Metrics>,
    field: fn(&Metrics) -> &AtomicU64,
}

impl Gauge {
    fn new(metrics: &Arc<Metrics>, field: fn(&Metrics) -> &AtomicU64) -> Self {
        field(metrics).fetch_add(1, Ordering::Relaxed);
        Self {
            metrics: Arc::clone(metrics),
            field,
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        (self.field)(&self.metrics).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counts_while_it_lives() {
        let metrics = Arc::new(Metrics::default());
        let gauge = metrics.connection();
        assert_eq!(metrics.connections(), 1);
        drop(gauge);
        assert_eq!(metrics.connections(), 0);
    }

    #[test]
    fn every_label_has_its_own_counter() {
        let metrics = Metrics::default();
        for limit in Limit::ALL {
            metrics.limited(*limit);
        }
        for result in HandshakeResult::ALL {
            metrics.handshake(*result);
        }
        assert!(
            Limit::ALL
                .iter()
                .all(|limit| metrics.limited_total(*limit) == 1)
        );
        assert!(
            HandshakeResult::ALL
                .iter()
                .all(|result| metrics.handshakes_total(*result) == 1)
        );
    }
}
