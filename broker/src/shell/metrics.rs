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
use store::hooks::HookCounts;
use ticket_format::Refusal;
use ticket_format::entry::Alarm;
use ticket_format::messages::Verb;
use ticket_format::statement::logs::{WitnessRow, WitnessState};

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
struct ByAlarm {
    alarm: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByHook {
    hook: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    state: &'static str,
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
    alarms: Family<ByAlarm, Counter>,
    hooks: Family<ByHook, Counter>,
    proposals: Gauge,
    side_lost: Counter,
    admin_set: Gauge,
    denials: Gauge,
    epoch: Gauge,
    acknowledged: Family<Subscriber, Gauge>,
    propagation: Histogram,
    subscribers: Gauge,
    silent: Gauge,
    entries: Counter,
    tree: Gauge,
    commits: Histogram,
    checkpoint_age: Gauge,
    witnesses: Family<ByState, Gauge>,
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
            alarms: Family::default(),
            hooks: Family::default(),
            proposals: Gauge::default(),
            side_lost: Counter::default(),
            admin_set: Gauge::default(),
            denials: Gauge::default(),
            epoch: Gauge::default(),
            acknowledged: Family::default(),
            // From 2 ms to 8 s.
            propagation: Histogram::new(exponential_buckets(0.002, 2.0, 13)),
            subscribers: Gauge::default(),
            silent: Gauge::default(),
            entries: Counter::default(),
            tree: Gauge::default(),
            commits: Histogram::new(exponential_buckets(0.000_1, 4.0, 9)),
            checkpoint_age: Gauge::default(),
            witnesses: Family::default(),
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
        registry.register("alarms", "Alarms recorded, by alarm", self.alarms.clone());
        registry.register(
            "hooks",
            "Lines for the operator's programs, by what became of them",
            self.hooks.clone(),
        );
        registry.register(
            "proposals_pending",
            "Statements that wait for signatures",
            self.proposals.clone(),
        );
        registry.register(
            "side_records_lost",
            "Records that the side file of the audit log could not take",
            self.side_lost.clone(),
        );
        registry.register(
            "admin_set_version",
            "Version of the admin set in force",
            self.admin_set.clone(),
        );
        registry.register("denials_current", "Denials in force", self.denials.clone());
        registry.register("feed_epoch", "Newest denial", self.epoch.clone());
        registry.register(
            "feed_acknowledged_epoch",
            "Newest denial that a subscriber has applied",
            self.acknowledged.clone(),
        );
        registry.register_with_unit(
            "denial_propagation",
            "Time from making an epoch to its acknowledgement by a subscriber",
            Unit::Seconds,
            self.propagation.clone(),
        );
        registry.register(
            "feed_subscribers",
            "Key servers that dataset records name",
            self.subscribers.clone(),
        );
        registry.register(
            "feed_subscribers_silent",
            "Subscribers that were heard and are silent for longer than their lease",
            self.silent.clone(),
        );
        registry.register(
            "audit_entries",
            "Entries in the audit log",
            self.entries.clone(),
        );
        registry.register(
            "audit_tree_size",
            "Entries in the open shard of the audit log",
            self.tree.clone(),
        );
        registry.register_with_unit(
            "audit_commit",
            "Time until an entry is durable and covered by a signed checkpoint",
            Unit::Seconds,
            self.commits.clone(),
        );
        registry.register_with_unit(
            "audit_checkpoint_age",
            "Time since the newest checkpoint was signed",
            Unit::Seconds,
            self.checkpoint_age.clone(),
        );
        registry.register(
            "audit_witnesses",
            "Configured witnesses by how they are",
            self.witnesses.clone(),
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

    pub(crate) fn alarm(&self, alarm: Alarm) {
        let alarm = alarm.name();
        self.alarms.get_or_create(&ByAlarm { alarm }).inc();
    }

    pub(crate) fn proposals(&self, waiting: usize) {
        self.proposals
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub(crate) fn admin_set(&self, version: u64) {
        self.admin_set
            .set(i64::try_from(version).unwrap_or(i64::MAX));
    }

    /// Takes over the hooks' counters, and the side file's.
    pub(crate) fn told(&self, hooks: [(&'static str, HookCounts); 2], side_lost: u64) {
        for (hook, counts) in hooks {
            let results = [
                ("run", counts.run),
                ("failed", counts.failed),
                ("dropped", counts.dropped),
            ];
            for (result, count) in results {
                self.hooks
                    .get_or_create(&ByHook { hook, result })
                    .inner()
                    .store(count, Ordering::Relaxed);
            }
        }
        self.side_lost.inner().store(side_lost, Ordering::Relaxed);
    }

    pub(crate) fn acknowledged(&self, subscriber: String, epoch: u64) {
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        self.acknowledged
            .get_or_create(&Subscriber { subscriber })
            .set(epoch);
    }

    pub(crate) fn propagated(&self, took: Duration) {
        self.propagation.observe(took.as_secs_f64());
    }

    pub(crate) fn subscribers(&self, all: usize, silent: usize) {
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.subscribers.set(gauge(all));
        self.silent.set(gauge(silent));
    }

    pub(crate) fn state(&self, denials: usize, epoch: u64) {
        self.denials.set(i64::try_from(denials).unwrap_or(i64::MAX));
        self.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }

    /// An entry became durable.
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// How the log is: entries in all and in the open shard, seconds since the newest checkpoint, and
    /// how each witness is.
    pub(crate) fn log(&self, entries: u64, tree: u64, age: u64, witnesses: &[WitnessRow]) {
        self.entries.inner().store(entries, Ordering::Relaxed);
        self.tree.set(i64::try_from(tree).unwrap_or(i64::MAX));
        self.checkpoint_age
            .set(i64::try_from(age).unwrap_or(i64::MAX));
        for state in WitnessState::ALL {
            let count = witnesses.iter().filter(|row| row.state == *state).count();
            let state = state.name();
            self.witnesses
                .get_or_create(&ByState { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
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
