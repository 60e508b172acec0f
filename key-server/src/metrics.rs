//! Counters for `/metrics`; names are those of the project's conventions, labels from closed lists.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Arc, Weak};
use ticket_format::Refusal;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::messages::Verb;
use ticket_format::statement::{KekState, WitnessState};

use crate::service::Service;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exchange {
    exchange: &'static str,
    result: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExchangeName {
    exchange: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlarmName {
    alarm: &'static str,
}

/// What happens in exchanges.
#[derive(Debug)]
pub struct Metrics {
    exchanges: Family<Exchange, Counter>,
    duration: Family<ExchangeName, Histogram>,
    deks: Family<ExchangeName, Counter>,
    alarms: Family<AlarmName, Counter>,
    exports: Counter,
    commits: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 50 µs, a present, to a quarter of a second, a batch of a thousand uploads.
        let buckets = || {
            Histogram::new([
                5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25,
            ])
        };
        Self {
            exchanges: Family::default(),
            duration: Family::new_with_constructor(buckets),
            deks: Family::default(),
            alarms: Family::default(),
            exports: Counter::default(),
            commits: buckets(),
        }
    }
}

impl Metrics {
    /// An exchange ended.
    pub fn exchange(&self, verb: Option<Verb>, refusal: Option<Refusal>, took: Duration) {
        let exchange = verb.map_or("unknown", Verb::name);
        let result = refusal.map_or(0, Refusal::number);
        self.exchanges
            .get_or_create(&Exchange { exchange, result })
            .inc();
        self.duration
            .get_or_create(&ExchangeName { exchange })
            .observe(took.as_secs_f64());
    }

    /// Items of a batch were released, made or wrapped anew.
    pub fn released(&self, kind: Kind, deks: usize) {
        self.deks
            .get_or_create(&ExchangeName {
                exchange: kind.name(),
            })
            .inc_by(deks as u64);
    }

    /// An entry of the audit log became durable, or not, after so long.
    pub fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// An alarm was raised.
    pub fn alarm(&self, alarm: Alarm) {
        let alarm = alarm.name();
        self.alarms.get_or_create(&AlarmName { alarm }).inc();
    }

    /// A KEK version's material was given out (IMP-4).
    pub fn exported(&self) {
        self.exports.inc();
    }

    /// How often KEK versions' material was given out.
    #[must_use]
    pub fn exports(&self) -> u64 {
        self.exports.get()
    }

    /// How many alarms of this kind were raised.
    #[must_use]
    pub fn alarms(&self, alarm: Alarm) -> u64 {
        let alarm = alarm.name();
        self.alarms.get_or_create(&AlarmName { alarm }).get()
    }

    /// Makes them readable, with what the service and the transport know themselves.
    pub fn register(service: &Arc<Service>, transport: Arc<transport::Metrics>) -> Registry {
        let mut registry = Registry::with_prefix("postern");
        let metrics = &service.metrics;
        registry.register(
            "exchanges",
            "Exchanges by result: 0 or the refusal's number",
            metrics.exchanges.clone(),
        );
        registry.register_with_unit(
            "exchange_duration",
            "Time of an exchange",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "deks",
            "DEKs released, made or wrapped anew",
            metrics.deks.clone(),
        );
        registry.register(
            "alarms",
            "Alarms recorded, by alarm",
            metrics.alarms.clone(),
        );
        registry.register(
            "kek_exports",
            "KEK versions whose material was given out",
            metrics.exports.clone(),
        );
        registry.register_with_unit(
            "audit_commit",
            "Time until an entry of the audit log is durable",
            Unit::Seconds,
            metrics.commits.clone(),
        );
        registry.register_collector(Box::new(Views {
            service: Arc::downgrade(service),
            transport,
        }));
        registry
    }
}

/// What is read when somebody asks.
#[derive(Debug)]
struct Views {
    service: Weak<Service>,
    transport: Arc<transport::Metrics>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Collector for Views {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        if let Some(service) = self.service.upgrade() {
            // rule: ROOT-4
            gauge(
                "key_server_sealed",
                "1 while the key server has no root key and serves nothing",
                0.0,
            )?;
            let permit = service.state.gate.permit();
            gauge(
                "feed_epoch",
                "Denial epoch applied",
                permit.epoch().number() as f64,
            )?;
            gauge(
                "denials_current",
                "Denials in force",
                permit.epoch().denials().len() as f64,
            )?;
            let left = service.state.lease_left(service.clock().monotonic());
            gauge(
                "feed_lease_seconds",
                "What is left of the shortest lease of the datasets here",
                left.as_secs_f64(),
            )?;
            let newest = service.log().head().checkpoint;
            gauge(
                "audit_tree_size",
                "Entries in the open shard of the audit log",
                newest.checkpoint().size as f64,
            )?;
            let age = service.clock().now().since(newest.time());
            gauge(
                "audit_checkpoint_age_seconds",
                "Since the newest checkpoint of the audit log was signed",
                age as f64,
            )?;
            gauge(
                "audit_log_good",
                "0 while the log is not what its witnesses saw of it, and nothing is served",
                f64::from(u8::from(service.state.standing.check().is_ok())),
            )?;
            gauge(
                "broker_log_forked",
                "1 while the broker's log is known not to be one log, and no ticket is taken",
                f64::from(u8::from(service.state.broker_log.is_forked())),
            )?;
            gauge(
                "broker_log_unproven",
                "Checkpoints of the broker's log that wait to be proven of one log",
                service.state.broker_log.waiting() as f64,
            )?;
            gauge("datasets", "Datasets", service.state.datasets.len() as f64)?;
            let set = service.state.admins.current();
            gauge(
                "admin_set_version",
                "Version of the admin set in force",
                set.version() as f64,
            )?;
        }
        gauge(
            "connections",
            "Connections open",
            self.transport.connections() as f64,
        )?;
        if let Some(service) = self.service.upgrade() {
            let entries = ConstCounter::new(service.entries());
            entries.encode(encoder.encode_descriptor(
                "audit_entries",
                "Entries in the audit log",
                None,
                MetricType::Counter,
            )?)?;
            let mut witnesses = encoder.encode_descriptor(
                "audit_witnesses",
                "Witnesses of the audit log, by how they are",
                None,
                MetricType::Gauge,
            )?;
            let newest = service.log().head().checkpoint;
            let now = service.clock().monotonic();
            let rows = service.state.standing.witnesses(newest.checkpoint(), now);
            for state in [
                WitnessState::Good,
                WitnessState::Behind,
                WitnessState::Silent,
                WitnessState::Ahead,
            ] {
                let count = rows.iter().filter(|row| row.state == state).count();
                let gauge = ConstGauge::new(count as f64);
                gauge.encode(witnesses.encode_family(&[("state", state.name())])?)?;
            }
            let mut keks = encoder.encode_descriptor(
                "keks",
                "KEK versions, by state",
                None,
                MetricType::Gauge,
            )?;
            for state in KekState::ALL {
                let gauge = ConstGauge::new(service.state.vault.count(*state) as f64);
                gauge.encode(keks.encode_family(&[("state", state.name())])?)?;
            }
            let lost = ConstCounter::new(service.contexts_lost());
            lost.encode(encoder.encode_descriptor(
                "side_records_lost",
                "Records that the side file of the audit log could not take",
                None,
                MetricType::Counter,
            )?)?;
            let mut hooks = encoder.encode_descriptor(
                "hooks",
                "Lines for the operator's programs, by what became of them",
                None,
                MetricType::Counter,
            )?;
            let counts = service.hook_counts();
            let results = [
                ("run", counts.run),
                ("failed", counts.failed),
                ("dropped", counts.dropped),
            ];
            for (result, count) in results {
                let counter = ConstCounter::new(count);
                counter.encode(hooks.encode_family(&[("hook", "alarm"), ("result", result)])?)?;
            }
        }
        let mut limited = encoder.encode_descriptor(
            "limited",
            "How often a limit said no",
            None,
            MetricType::Counter,
        )?;
        for limit in transport::Limit::ALL {
            let counter = ConstCounter::new(self.transport.limited_total(*limit));
            counter.encode(limited.encode_family(&[("limit", limit.label())])?)?;
        }
        let mut handshakes = encoder.encode_descriptor(
            "handshakes",
            "Connection attempts",
            None,
            MetricType::Counter,
        )?;
        for result in transport::HandshakeResult::ALL {
            let counter = ConstCounter::new(self.transport.handshakes_total(*result));
            counter.encode(handshakes.encode_family(&[("result", result.label())])?)?;
        }
        Ok(())
    }
}
