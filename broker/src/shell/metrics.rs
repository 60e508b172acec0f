//! Counters for Prometheus. Labels come from closed lists only.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use ticket_format::Refusal;
use ticket_format::messages::Verb;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExchangeResult {
    exchange: &'static str,
    result: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Numbered {
    result: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Exchange {
    exchange: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByLimit {
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Subscriber {
    subscriber: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// The broker's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    exchanges: Family<ExchangeResult, Counter>,
    durations: Family<Exchange, Histogram>,
    tickets: Family<Exchange, Counter>,
    launches: Family<Numbered, Counter>,
    lifetimes: Histogram,
    alarms: Counter,
    denials: Gauge,
    epoch: Gauge,
    acknowledged: Family<Subscriber, Gauge>,
    entries: Counter,
    connections: Gauge,
    handshakes: Family<ByResult, Counter>,
    limited: Family<ByLimit, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let durations = || Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        let durations =
            Family::<Exchange, Histogram>::new_with_constructor(durations as fn() -> Histogram);
        let mut metrics = Self {
            registry: Arc::new(Registry::default()),
            exchanges: Family::default(),
            durations,
            tickets: Family::default(),
            launches: Family::default(),
            lifetimes: Histogram::new(exponential_buckets(60.0, 2.0, 11)),
            alarms: Counter::default(),
            denials: Gauge::default(),
            epoch: Gauge::default(),
            acknowledged: Family::default(),
            entries: Counter::default(),
            connections: Gauge::default(),
            handshakes: Family::default(),
            limited: Family::default(),
        };
        metrics.registry = Arc::new(metrics.register());
        metrics
    }
}

impl Metrics {
    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("postern");
        let build = Family::<Build, Gauge>::default();
        build
            .get_or_create(&Build {
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1);
        registry.register("build_info", "Version of this program", build);
        registry.register(
            "exchanges",
            "Exchanges by result: 0 or the refusal's number",
            self.exchanges.clone(),
        );
        registry.register_with_unit(
            "exchange_duration",
            "Time to decide an exchange",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "tickets_issued",
            "Tickets issued, by exchange",
            self.tickets.clone(),
        );
        registry.register("launch_uses", "Logins by result", self.launches.clone());
        registry.register_with_unit(
            "ticket_lifetime",
            "Lives of dataset tickets",
            Unit::Seconds,
            self.lifetimes.clone(),
        );
        registry.register("alarms", "Alarms recorded", self.alarms.clone());
        registry.register("denials_current", "Denials in force", self.denials.clone());
        registry.register("feed_epoch", "Newest denial", self.epoch.clone());
        registry.register(
            "feed_acknowledged_epoch",
            "Newest denial that a subscriber has applied",
            self.acknowledged.clone(),
        );
        registry.register(
            "audit_entries",
            "Entries in the audit log",
            self.entries.clone(),
        );
        registry.register("connections", "Connections now", self.connections.clone());
        registry.register(
            "handshakes",
            "Connection attempts since the start, by result",
            self.handshakes.clone(),
        );
        registry.register(
            "limited",
            "How often a limit said no since the start",
            self.limited.clone(),
        );
        registry
    }

    pub(crate) fn exchange(&self, verb: Option<Verb>, refusal: Option<Refusal>, took: Duration) {
        let exchange = verb.map_or("none", Verb::name);
        let result = refusal.map_or(0, |refusal| u64::from(refusal.number()));
        self.exchanges
            .get_or_create(&ExchangeResult { exchange, result })
            .inc();
        self.durations
            .get_or_create(&Exchange { exchange })
            .observe(took.as_secs_f64());
        if verb == Some(Verb::Login) {
            self.launches.get_or_create(&Numbered { result }).inc();
        }
        if refusal.is_none() && matches!(verb, Some(Verb::Login | Verb::Renew | Verb::Issue)) {
            self.tickets.get_or_create(&Exchange { exchange }).inc();
        }
    }

    pub(crate) fn dataset_ticket(&self, life: u64) {
        self.lifetimes.observe(life as f64);
    }

    pub(crate) fn alarm(&self) {
        self.alarms.inc();
    }

    pub(crate) fn acknowledged(&self, subscriber: String, epoch: u64) {
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        self.acknowledged
            .get_or_create(&Subscriber { subscriber })
            .set(epoch);
    }

    pub(crate) fn state(&self, denials: usize, epoch: u64, entries: u64) {
        self.denials.set(i64::try_from(denials).unwrap_or(i64::MAX));
        self.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
        self.entries.inner().store(entries, Ordering::Relaxed);
    }

    /// Takes over the transport's counters.
    pub(crate) fn transport(&self, transport: &transport::Metrics) {
        self.connections
            .set(i64::try_from(transport.connections()).unwrap_or(i64::MAX));
        for result in transport::HandshakeResult::ALL {
            self.handshakes
                .get_or_create(&ByResult {
                    result: result.label(),
                })
                .inner()
                .store(transport.handshakes_total(*result), Ordering::Relaxed);
        }
        for limit in transport::Limit::ALL {
            self.limited
                .get_or_create(&ByLimit {
                    limit: limit.label(),
                })
                .inner()
                .store(transport.limited_total(*limit), Ordering::Relaxed);
        }
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
