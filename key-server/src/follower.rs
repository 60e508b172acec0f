//! The follower: keeps one feed request open at the broker (DEN-3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_core::Rng;
use ticket_format::Refusal;
use ticket_format::keys::{FeedKey, TlsKey};
use ticket_format::limits;
use ticket_format::sign::{Channel, Exporter};
use ticket_format::time::Timestamp;
use transport::{ClientLimits, Connection, ExporterUse};

use crate::feed::{self, FeedFault};
use crate::prover;
use crate::service::{ApplyError, Service};

/// Longest hold that is asked for.
const HOLD: Duration = Duration::from_millis(limits::FEED_HOLD_MS);
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// Time that an answer may take beyond the hold.
const SLACK: Duration = Duration::from_secs(2);
/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The same alarm again only after this time.
const ALARM_AGAIN: Duration = Duration::from_secs(60);

/// The broker that is followed.
#[derive(Clone, Debug)]
pub struct Broker {
    /// `host:port`, tried in turn.
    pub addresses: Vec<String>,
    /// Its identity.
    pub tls_key: TlsKey,
    /// Signs the feed.
    pub feed_key: FeedKey,
}

/// Why the feed was interrupted.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("no address of the broker resolves: {0}")]
    Resolve(String),
    #[error(transparent)]
    Connect(#[from] transport::ConnectError),
    #[error(transparent)]
    Exporter(#[from] transport::ExporterError),
    #[error(transparent)]
    Exchange(#[from] transport::ExchangeError),
    #[error(transparent)]
    Fault(#[from] FeedFault),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Follows until it is dropped.
pub async fn run(service: Arc<Service>, broker: Broker) {
    let mut follower = Follower {
        service,
        broker,
        pause: PAUSE.0,
        alarmed: None,
        said: String::new(),
        clocks_apart: false,
        silent: false,
        newer_admins: 0,
    };
    let mut turn = 0;
    loop {
        let interrupted = match follower.follow(turn).await {
            Err(interrupted) => interrupted,
            Ok(never) => match never {},
        };
        turn += 1;
        follower.say(&interrupted);
        if let Interrupted::Fault(fault) = &interrupted {
            follower.alarm(fault).await;
        }
        // With a part at random, so that a fleet does not come back in step.
        let pause = follower.pause.as_millis() as u64;
        let jitter = rand_core::UnwrapErr(getrandom::SysRng).next_u64() % (pause / 2 + 1);
        tokio::time::sleep(Duration::from_millis(pause / 2 + jitter)).await;
        follower.pause = (follower.pause * 2).min(PAUSE.1);
    }
}

enum Never {}

struct Follower {
    service: Arc<Service>,
    broker: Broker,
    pause: Duration,
    alarmed: Option<(FeedFault, Instant)>,
    said: String,
    clocks_apart: bool,
    /// The last request told of alarms and failed: the next one does not.
    silent: bool,
    /// The newest admin set at the broker of which it was said that it is not here.
    newer_admins: u64,
}

impl Follower {
    /// Connects to the next address and asks, again and again.
    async fn follow(&mut self, turn: usize) -> Result<Never, Interrupted> {
        let connection = self.connect(turn).await?;
        let exporter = Exporter(connection.exporter(ExporterUse::Authenticator)?);
        let state = &self.service.state;
        let channel = Channel {
            realm: state.realm.clone(),
            server: self.broker.tls_key,
            exporter,
        };
        // rule: TLOG-7
        let service = Arc::clone(&self.service);
        let proving = prover::run(&service, &connection);
        tokio::select! {
            interrupted = self.feed(&connection, &channel) => interrupted,
            never = proving => match never {},
        }
    }

    /// Asks for news, again and again.
    async fn feed(
        &mut self,
        connection: &Connection,
        channel: &Channel,
    ) -> Result<Never, Interrupted> {
        // The first answer comes at once: without it there is no lease.
        let mut hold = Duration::ZERO;
        loop {
            let mut asked = self.service.ask();
            if self.silent {
                asked.reports.clear();
            }
            let telling = !asked.reports.is_empty();
            if telling {
                hold = Duration::ZERO;
            }
            // rule: DEN-6 — the lease runs from here.
            let sent = self.service.clock().monotonic();
            let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
            let request = feed::request(channel, &self.service.state.signing, &asked, hold_ms);
            let answer = tokio::select! {
                answer = connection.exchange_within(&request, hold + SLACK) => answer,
                // rule: DEN-11 — the open request is given up; the one that tells follows at once.
                () = self.service.something_to_tell(), if !telling => continue,
            };
            let now = self.service.clock().now();
            let accepted = answer.map_err(Interrupted::from).and_then(|answer| {
                Ok(feed::accept(
                    channel,
                    &self.broker.feed_key,
                    &asked,
                    &answer,
                    now,
                )?)
            });
            // Reports that cannot be taken must not cost the lease.
            self.silent = telling && accepted.is_err();
            let news = accepted?;
            self.compare_clocks(news.now);
            let admin_set = news.admin_set;
            self.service.apply(news, sent).await?;
            self.service
                .told(&asked.reports)
                .await
                .map_err(ApplyError::from)?;
            self.pause = PAUSE.0;
            if !self.said.is_empty() {
                self.said.clear();
                tracing::info!(exchange = "feed", broker = %connection.address(), "following the broker again");
            }
            self.compare_admin_sets(admin_set);
            hold = HOLD.min(self.service.state.datasets.shortest_lease() / 3);
        }
    }

    /// Clocks that differ by more than the skew make one server refuse what the other signs.
    fn compare_clocks(&mut self, broker: Timestamp) {
        let ours = self.service.clock().now();
        let apart = ours.since(broker).max(broker.since(ours)) > limits::SKEW;
        if apart && !self.clocks_apart {
            tracing::warn!(exchange = "feed", %ours, %broker, "the broker's clock and ours differ by more than a minute");
        }
        self.clocks_apart = apart;
    }

    /// An older admin set here verifies by the admins of before, and lifts nothing that the new ones lift.
    fn compare_admin_sets(&mut self, broker: u64) {
        let ours = self.service.admin_set();
        if broker > ours.max(self.newer_admins) {
            tracing::warn!(
                exchange = "feed",
                ours,
                broker,
                "the broker has a newer admin set: send its statement to this key server too"
            );
            self.newer_admins = broker;
        }
    }

    async fn connect(&self, turn: usize) -> Result<Connection, Interrupted> {
        let name = self
            .broker
            .addresses
            .get(turn % self.broker.addresses.len().max(1))
            .cloned()
            .unwrap_or_default();
        let unresolved = |why: &str| Interrupted::Resolve(format!("{name}: {why}"));
        let mut found = tokio::net::lookup_host(&name)
            .await
            .map_err(|error| unresolved(&error.to_string()))?;
        let address = found.next().ok_or_else(|| unresolved("nothing found"))?;
        let pin = self.broker.tls_key.to_bytes();
        Ok(Connection::connect(address, pin, ClientLimits::default(), CONNECT).await?)
    }

    /// One line for each new reason, not for each attempt.
    fn say(&mut self, interrupted: &Interrupted) {
        let why = interrupted.to_string();
        if why == self.said {
            return;
        }
        match interrupted {
            Interrupted::Fault(FeedFault::Refused(notice))
                if notice.refusal == Refusal::NotSubscriber =>
            {
                tracing::warn!(
                    exchange = "feed",
                    "the broker knows no dataset record of this key server yet: {why}"
                );
            }
            _ => tracing::warn!(exchange = "feed", %why, "not following the broker"),
        }
        self.said = why;
    }

    async fn alarm(&mut self, fault: &FeedFault) {
        let again = self
            .alarmed
            .as_ref()
            .is_some_and(|(last, at)| last == fault && at.elapsed() < ALARM_AGAIN);
        if fault.is_alarming() && !again {
            self.service.alarm(fault).await;
            self.alarmed = Some((fault.clone(), Instant::now()));
        }
    }
}
