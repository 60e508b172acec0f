//! `deny_to_applied`.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use client::link::Link;
use ticket_format::ids::{DatasetId, KekId, TicketId};
use ticket_format::keys::{ServerKey, ServerSecret, TlsSecret};
use ticket_format::report::{Report, exit};
use ticket_format::statement::{DatasetRecord, DenyBody, FeedShow, FeedView, Role};
use ticket_format::tlog::{LogSecret, Origin};
use tokio::task::JoinSet;
use tools::admin::rng;

use super::denials::selector;
use super::subscriber::Subscriber;
use crate::admins;
use crate::floor::{self, Signature};
use crate::realm::Realm;
use crate::rows::Row;
use crate::servers::{KeyServer, REALM};

/// All subscribers.
const SUBSCRIBERS: usize = 1_000;
/// Those that are processes, the realm's own key server among them.
const PROCESSES: usize = 3;
/// Denials over all rounds.
const DENIALS: u32 = 200;
/// Sockets that the others share: each address counts as one source at the broker.
const SOCKETS: usize = 16;
/// Records that are sent at a time.
const SENDERS: usize = 16;
/// How long one feed-show waits, in milliseconds.
const HOLD_MS: u64 = 20_000;

pub(super) struct Bench<'a> {
    realm: &'a Realm,
    deny: Link,
    show: Link,
    following: JoinSet<Report>,
    all: Vec<f64>,
    floors: Vec<f64>,
    denied: u64,
    _processes: Vec<KeyServer>,
}

impl<'a> Bench<'a> {
    /// Makes the subscribers known to the broker and waits until all of them follow.
    pub(super) async fn new(realm: &'a Realm) -> Result<Self, Report> {
        let mut processes = Vec::new();
        let mut record = None;
        for number in 1..PROCESSES {
            let name = format!("key-server-{number}");
            let mut process = realm.servers.another(&name, true)?;
            let (_, server) = process.start().await?;
            record = Some(realm.dataset(&server, &name).await?);
            processes.push(process);
        }
        let record = record.ok_or_else(|| Report::new(exit::LOCAL, "no dataset"))?;
        let secrets: Vec<ServerSecret> = (PROCESSES..SUBSCRIBERS)
            .map(|_| ServerSecret::generate(&mut rng()))
            .collect();
        let keys: Vec<ServerKey> = secrets.iter().map(ServerSecret::public).collect();
        make_known(realm, &record, &keys).await?;
        let mut following = JoinSet::new();
        let broker = &realm.servers.broker;
        let mut secrets = secrets.into_iter();
        for number in 0..SOCKETS {
            let socket = floor::socket(Ipv4Addr::new(127, 9, 0, number as u8 + 1))?;
            for secret in secrets.by_ref().take(SUBSCRIBERS.div_ceil(SOCKETS)) {
                let connection = realm.broker_connection(&socket).await?;
                let key = realm.servers.feed_key;
                let subscriber = Subscriber::new(secret, broker, key, connection)?;
                following.spawn(subscriber.follow());
            }
        }
        let mut bench = Self {
            realm,
            deny: realm.admin_link(broker).await?,
            show: realm.admin_link(broker).await?,
            following,
            all: Vec::new(),
            floors: Vec::new(),
            denied: 0,
            _processes: processes,
        };
        // The first is not counted: by it everybody is known to follow.
        bench.one().await?;
        Ok(bench)
    }

    /// One round's denials.
    pub(super) async fn measure(
        &mut self,
        round: u32,
        rounds: u32,
        row: &mut Row,
    ) -> Result<(), Report> {
        let share = DENIALS / rounds + u32::from(round < DENIALS % rounds);
        let mut times = Vec::new();
        for _ in 0..share {
            times.push(self.one().await?);
        }
        let floor = signatures();
        if let Some(median) = percentile(&times, 50) {
            row.add(median, floor);
        }
        self.all.extend(times);
        self.floors.push(floor);
        Ok(())
    }

    /// The row of all rounds together.
    pub(super) fn finish(self, row: &mut Row) {
        let floor = self.floors.iter().copied().fold(0.0, f64::max);
        if let Some(slow) = percentile(&self.all, 99) {
            row.add(slow, floor);
        }
    }

    /// One denial: milliseconds until all have applied it.
    async fn one(&mut self) -> Result<f64, Report> {
        if let Some(Ok(report)) = self.following.try_join_next() {
            return Err(report);
        }
        self.denied += 1;
        let broker = &self.realm.servers.broker;
        let body = DenyBody {
            selector: if self.denied.is_multiple_of(2) {
                selector(self.denied)
            } else {
                ticket_format::denial::Selector::ticket(TicketId::random(&mut rng()))
            },
            reason: "bench".to_owned(),
        };
        let statement = self.realm.admins.act(broker, &body)?;
        let started = Instant::now();
        let denied = admins::send::<DenyBody>(&self.deny, &statement).await?;
        let asked = FeedShow {
            epoch: denied.epoch,
            hold_ms: HOLD_MS,
        };
        let statement = self.realm.admins.act(broker, &asked)?;
        let view = admins::send::<FeedShow>(&self.show, &statement).await?;
        let took = started.elapsed();
        self.believe(&view, denied.epoch)?;
        Ok(milliseconds(took))
    }

    /// Every subscriber's signature is there, and says that it has applied the epoch.
    fn believe(&self, view: &FeedView, epoch: u64) -> Result<(), Report> {
        let broker = &self.realm.servers.broker;
        let applied = view.subscribers.iter().filter(|row| {
            let last = row.last.as_ref();
            let body = last.map(|last| last.verify(REALM, &broker.tls_key, &row.key));
            body.is_some_and(|body| body.is_ok_and(|body| body.epoch >= epoch))
        });
        let applied = applied.count();
        if applied == SUBSCRIBERS && view.subscribers.len() == SUBSCRIBERS {
            return Ok(());
        }
        let of = view.subscribers.len();
        Err(
            Report::new(exit::RETRY, "not all subscribers applied a denial").why(format!(
                "{applied} of {of} did, and {SUBSCRIBERS} were meant to"
            )),
        )
    }
}

/// Sends a dataset record for each of these subscribers.
async fn make_known(realm: &Realm, like: &DatasetRecord, keys: &[ServerKey]) -> Result<(), Report> {
    let mut sending = JoinSet::new();
    for part in keys.chunks(keys.len().div_ceil(SENDERS)) {
        let mut statements = Vec::new();
        for key in part {
            let tls_key = TlsSecret::generate(&mut rng()).public();
            // A record names its own server's log.
            let origin = Origin::new(REALM, Role::KeyServer, &tls_key);
            let log = LogSecret::from_seeds(origin, &tls_key.to_bytes(), &tls_key.to_bytes());
            let log = log.map_err(|error| Report::new(exit::LOCAL, "no log key").why(error))?;
            let record = DatasetRecord {
                dataset: DatasetId::random(&mut rng()),
                name: format!("dataset of {key}"),
                tls_key,
                log_key: log.key().clone(),
                server_key: *key,
                kek: KekId::random(&mut rng()),
                follows: DatasetRecord::FIRST,
                ..like.clone()
            };
            statements.push(realm.admins.record(&record)?);
        }
        let link = realm.admin_link(&realm.servers.broker).await?;
        sending.spawn(async move {
            for statement in statements {
                admins::send::<DatasetRecord>(&link, &statement).await?;
            }
            link.close().await;
            Ok::<(), Report>(())
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent.map_err(|error| Report::new(exit::LOCAL, "a task ended").why(error))??;
    }
    Ok(())
}

/// What both ends cannot do without, in milliseconds: a signature and a verification each for every
/// subscriber, on all cores.
fn signatures() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let signature = Signature::new();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for core in 0..cores {
            let (signature, mine) = (
                &signature,
                SUBSCRIBERS / cores + usize::from(core < SUBSCRIBERS % cores),
            );
            scope.spawn(move || {
                signature.sign(2 * mine);
                signature.verify(2 * mine);
            });
        }
    });
    milliseconds(started.elapsed())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// The smallest time that so many in a hundred do not pass.
fn percentile(times: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_hundred_times_the_99th_percentile_is_the_third_longest() {
        let times: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&times, 99), Some(198.0));
        assert_eq!(percentile(&times, 50), Some(100.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
