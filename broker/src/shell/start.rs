//! How a broker starts: clock, outbox, memory, budgets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use audit_log::{AuditLog, SideFile};
use rand_core::UnwrapErr;
use store::Store;
use ticket_format::cbor::Encode as _;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, Thumbprint};
use ticket_format::limits;
use ticket_format::time::Timestamp;
use tokio::sync::{Semaphore, watch};

use super::admin_sets;
use super::alarms::{Alarms, Hooks};
use super::audit::Audit;
use super::budget::Budgets;
use super::clock::{Clock, Timekeeper};
use super::consistency::PROVING;
use super::denials::Denials;
use super::directory::Directory;
use super::limits::{Limits, Rates, Repetitions, Replays, Strangers};
use super::metrics::Metrics;
use super::service::Broker;
use super::standing::{Oversight, Witnesses};
use super::subscribers::Subscribers;
use super::watching::Watching;
use crate::Refused;
use crate::administer::datasets::log_thumbprints;
use crate::feed::Chain;
use crate::realm::Realm;
use crate::state::{AliasEntry, DatasetEntry, FeedHead, LaunchRecord, keys};

/// The files that a broker works on, open.
pub struct Files {
    /// The records.
    pub store: Arc<dyn Store>,
    /// The audit log.
    pub log: AuditLog,
    /// What stands behind the hashes of its entries.
    pub side: SideFile,
}

/// Why a broker does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// TIM-1.
    #[error("the clock reads {read}, but {seen} was seen before: set the clock")]
    Clock {
        /// What the clock reads.
        read: Timestamp,
        /// The latest time that was persisted.
        seen: Timestamp,
    },
    /// The log knows of denials that the store does not.
    #[error(
        "the store is older than the audit log: the log has denial {logged}, the store only {stored}; find out who restored what"
    )]
    Rollback {
        /// The newest denial in the log.
        logged: u64,
        /// The newest denial in the store.
        stored: u64,
    },
    /// The configured admin set and the store's history contradict each other (SET-3).
    #[error("{0}")]
    AdminSet(String),
    /// The log knows of admin sets that the store does not.
    #[error(
        "the store is older than the audit log: the log has admin set {logged}, the store only {stored}; find out who restored what"
    )]
    OldAdminSet {
        /// The newest set in the log.
        logged: u64,
        /// The newest set in the store.
        stored: u64,
    },
    /// Something that it needs cannot be read or written.
    #[error("{0}")]
    State(String),
}

impl From<Refused> for StartError {
    fn from(refused: Refused) -> Self {
        Self::State(refused.why)
    }
}

impl Broker {
    /// Starts on open files: checks the clock (TIM-1) and the admin set (SET-3), compares the log with its
    /// witnesses (TLOG-10), drains the outbox (AUD-2), and fills memory from both.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        files: Files,
        realm: Realm,
        clock: Arc<dyn Clock>,
        limits: Limits,
        hooks: Hooks,
        witnesses: Witnesses,
    ) -> Result<Self, StartError> {
        // rule: SIG-5
        let mut own: Vec<Thumbprint> =
            vec![realm.tls.thumbprint(), realm.feed.public().thumbprint()];
        own.extend(realm.tickets.thumbprints());
        own.extend(log_thumbprints(files.log.key()));
        own.extend(realm.others.iter().copied());
        let directory = Directory::new(files.store, own);
        let seen = directory
            .get::<Timestamp>(keys::TIME)
            .await?
            .unwrap_or_default();
        let time = Timekeeper::new(clock, seen);
        let now = clocked(&time)?;
        let began = time.monotonic();
        admin_sets::settle(&directory, &realm, now).await?;
        let metrics = Metrics::default();
        let alarms = Alarms::new(realm.name.clone(), metrics.clone(), hooks);
        let rng = &mut UnwrapErr(getrandom::SysRng);
        // rule: TLOG-10 — before anything is appended, which would sign another history.
        let oversight = Oversight::begin(&directory, &files.log, &witnesses, now, rng).await?;
        let good = oversight.is_good();
        let audit = Audit::new(files.log, files.side, alarms, metrics.clone());
        let drained = match good {
            true => audit.drain_all(&directory).await?,
            false => 0,
        };
        let denials = Denials::load(&directory).await?;
        let head = denials.head();
        let no_launch = LaunchRecord::stand_in(realm.nobody).to_cbor();
        let broker = Self {
            realm,
            audit,
            denials,
            budgets: Budgets::new(limits.budget_window),
            time,
            rates: Rates::new(&limits),
            limits,
            metrics,
            subscribers: Subscribers::default(),
            started: now,
            began,
            strangers: Strangers::default(),
            repetitions: Repetitions::default(),
            replays: Replays::default(),
            watching: Watching::default(),
            oversight,
            making: tokio::sync::Mutex::default(),
            trying: Semaphore::new(1),
            reading: Semaphore::new(1),
            no_launch,
            proving: Arc::new(Semaphore::new(PROVING)),
            policy: RwLock::new(None),
            datasets: RwLock::new(BTreeMap::new()),
            aliases: RwLock::new(BTreeMap::new()),
            stopping: watch::Sender::new(false),
            directory,
        };
        broker.load_ticket_keys().await?;
        // rule: KEY-2 — it signs nothing with a key that nobody believes any more.
        broker.realm.tickets.check(now).map_err(StartError::State)?;
        broker.load_policy().await?;
        for entry in broker.directory.all::<DatasetEntry>(keys::DATASETS).await? {
            broker.load_dataset(&entry).await?;
        }
        for entry in broker.directory.all::<AliasEntry>(keys::ALIASES).await? {
            broker.load_alias(&entry.body.alias).await?;
        }
        let logged = broker.replay(now, head).await?;
        // rule: TIM-1
        broker.time.seen(logged.latest);
        let now = clocked(&broker.time)?;
        broker.directory.keep_time(broker.time.latest()).await?;
        // The store keeps the time with each act. It is off by less than the skew when acts race.
        if logged.act > seen.plus(limits::SKEW) {
            tracing::error!(logged = %logged.act, stored = %seen, "the store is older than the audit log: find out who restored what");
            let act = ActId::random(&mut broker.rng());
            let alarm = Entry::alarm(act, Alarm::StoreRollback, now).subject("broker");
            broker.raise(alarm).await?;
        }
        if good {
            broker.record_start(drained).await?;
        } else {
            let wrong = broker.good().err().map(|refused| refused.why);
            tracing::error!(
                why = wrong,
                "the log was rolled back: nothing is served until security's quorum says where it goes on (`postern-admin log recover`)"
            );
        }
        broker.after_witnesses().await?;
        broker.show_state();
        broker.tidy_proposals(now).await?;
        broker.submit_to(witnesses)?;
        Ok(broker)
    }

    /// Rebuilds the budgets from the log, and refuses a store that lacks denials of the log.
    async fn replay(&self, now: Timestamp, head: FeedHead) -> Result<Logged, StartError> {
        let since = now.minus(self.limits.budget_window);
        let (entries, mut replayed) = tokio::sync::mpsc::unbounded_channel();
        let newest = Arc::new(Newest::default());
        let logged = Arc::clone(&newest);
        self.audit
            .replay(move |entry| {
                let time = entry.time.seconds();
                logged.latest.fetch_max(time, Ordering::Relaxed);
                if entry.outcome.is_err() {
                    return;
                }
                if entry.alarm == Some(Alarm::AdminSet) {
                    let version = entry.count.unwrap_or_default();
                    logged.admin_set.fetch_max(version, Ordering::Relaxed);
                }
                match entry.kind {
                    Kind::Denial => {
                        let epoch = entry.epoch.unwrap_or_default();
                        logged.epoch.fetch_max(epoch, Ordering::Relaxed);
                    }
                    Kind::Login | Kind::Renew | Kind::Statement => {
                        logged.act.fetch_max(time, Ordering::Relaxed);
                    }
                    Kind::Issue if entry.time >= since => {
                        // The receiver outlives the reading.
                        let _ = entries.send(entry);
                    }
                    _ => {}
                }
            })
            .await?;
        while let Some(entry) = replayed.recv().await {
            let node = entry
                .subject
                .as_deref()
                .and_then(|subject| subject.parse().ok());
            if let (Some(node), Some(dataset), Some(count)) = (node, entry.dataset, entry.count) {
                self.budgets.replay(node, dataset, count, entry.time);
            }
        }
        let logged = newest.epoch.load(Ordering::Relaxed);
        if logged > head.epoch {
            return Err(StartError::Rollback {
                logged,
                stored: head.epoch,
            });
        }
        // rule: SET-3 — an older store would let admins in again who were removed.
        let (logged, stored) = (
            newest.admin_set.load(Ordering::Relaxed),
            self.realm.admins.current().version(),
        );
        if logged > stored {
            return Err(StartError::OldAdminSet { logged, stored });
        }
        let time = |newest: &AtomicU64| Timestamp::from_seconds(newest.load(Ordering::Relaxed));
        Ok(Logged {
            latest: time(&newest.latest),
            act: time(&newest.act),
        })
    }
}

/// What the log's reader has met so far: the newest epoch, admin set, and times in seconds.
#[derive(Default)]
struct Newest {
    epoch: AtomicU64,
    admin_set: AtomicU64,
    latest: AtomicU64,
    act: AtomicU64,
}

/// What the log tells about time.
struct Logged {
    /// The latest time of any entry.
    latest: Timestamp,
    /// The latest time of an act that the store must know.
    act: Timestamp,
}

/// The time to start at.
fn clocked(time: &Timekeeper) -> Result<Timestamp, StartError> {
    // rule: TIM-1
    time.now().map_err(|_| StartError::Clock {
        read: time.read(),
        seen: time.latest(),
    })
}
