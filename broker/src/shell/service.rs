//! The running broker: what it holds in memory, how it starts, and how each message is answered.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use audit_log::AuditLog;
use dashmap::DashMap;
use policy::Policy;
use rand_core::{CryptoRng, UnwrapErr};
use store::Store;
use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, PolicyDigest, Thumbprint};
use ticket_format::keys::ServerKey;
use ticket_format::messages::{Answer, Receipt, RequestView, Verb};
use ticket_format::time::Timestamp;
use tokio::sync::watch;

use super::audit::Audit;
use super::budget::Budgets;
use super::clock::{Clock, Timekeeper};
use super::denials::Denials;
use super::directory::{Committed, Directory, Reads, unavailable};
use super::limits::{Limits, Rates, Strangers};
use super::metrics::Metrics;
use crate::Refused;
use crate::feed::Chain;
use crate::realm::{Caller, Realm};
use crate::state::{
    Changes, DatasetEntry, FeedHead, PolicyHead, StoredDenial, UsedStatement, keys,
};

/// How often a decision is made anew because what it was made on has changed.
const ATTEMPTS: usize = 256;
/// How long an exchange waits for a denial that is durable to be applied in memory.
const APPLIED_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// A value with the store's revision of it, so that an older one never replaces a newer.
pub(crate) struct Versioned<T> {
    revision: u64,
    pub(crate) value: Arc<T>,
}

/// What a subscriber has acknowledged by its signature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) epoch: u64,
}

/// The broker. Share it by `Arc`.
pub struct Broker {
    pub(crate) realm: Realm,
    pub(crate) directory: Directory,
    pub(crate) audit: Audit,
    pub(crate) denials: Denials,
    pub(crate) budgets: Budgets,
    pub(crate) time: Timekeeper,
    pub(crate) rates: Rates,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) acknowledged: DashMap<[u8; 32], Acknowledged>,
    pub(crate) started: Timestamp,
    strangers: Strangers,
    policy: RwLock<Option<Versioned<Policy>>>,
    datasets: RwLock<BTreeMap<String, Versioned<DatasetEntry>>>,
    stopping: watch::Sender<bool>,
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
    /// Something that it needs cannot be read or written.
    #[error("{0}")]
    State(String),
}

impl From<Refused> for StartError {
    fn from(refused: Refused) -> Self {
        Self::State(refused.why)
    }
}

/// A refusal, and whether it stands in the log already.
pub(crate) enum Failed {
    Unrecorded(Refused),
    Recorded(Refused),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Unrecorded(refused)
    }
}

impl Broker {
    /// Starts on an open store and log: checks the clock (TIM-1), drains the outbox (AUD-2), and fills
    /// memory from both.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        store: Arc<dyn Store>,
        log: AuditLog,
        realm: Realm,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<Self, StartError> {
        let own: Vec<Thumbprint> = [
            realm.tls.thumbprint(),
            realm.ticket.public().thumbprint(),
            realm.feed.public().thumbprint(),
        ]
        .into_iter()
        .chain(realm.admins.iter().map(|admin| admin.thumbprint()))
        .collect();
        let directory = Directory::new(store, own);
        let seen = directory
            .get::<Timestamp>(keys::TIME)
            .await?
            .unwrap_or_default();
        let time = Timekeeper::new(clock, seen);
        // rule: TIM-1
        let now = time.now().map_err(|_| StartError::Clock {
            read: time.read(),
            seen,
        })?;
        directory.keep_time(time.latest()).await?;
        let audit = Audit::new(log);
        let drained = audit.drain_all(&directory).await?;
        let (head, current, lasting) = load_denials(&directory).await?;
        let broker = Self {
            realm,
            audit,
            denials: Denials::new(head, current, lasting),
            budgets: Budgets::new(limits.budget_window),
            time,
            rates: Rates::new(&limits),
            limits,
            metrics: Metrics::default(),
            acknowledged: DashMap::new(),
            started: now,
            strangers: Strangers::default(),
            policy: RwLock::new(None),
            datasets: RwLock::new(BTreeMap::new()),
            stopping: watch::Sender::new(false),
            directory,
        };
        broker.load_policy().await?;
        for entry in broker.directory.all::<DatasetEntry>(keys::DATASETS).await? {
            broker.load_dataset(&entry).await?;
        }
        broker.replay(now, head).await?;
        let entry = Entry::new(ActId::random(&mut broker.rng()), Kind::Start, now)
            .subject("broker")
            .epoch(head.epoch);
        broker.audit.append(&entry).await?;
        broker.show_state();
        tracing::info!(realm = %broker.realm.name, epoch = head.epoch, drained, "started");
        Ok(broker)
    }

    /// Rebuilds the budgets from the log, and notices a store that is older than the log.
    async fn replay(&self, now: Timestamp, head: FeedHead) -> Result<(), StartError> {
        let since = now.minus(self.limits.budget_window);
        let (entries, mut replayed) = tokio::sync::mpsc::unbounded_channel();
        let newest = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let logged = Arc::clone(&newest);
        self.audit
            .replay(move |entry| {
                if entry.kind == Kind::Denial {
                    logged.fetch_max(
                        entry.epoch.unwrap_or_default(),
                        std::sync::atomic::Ordering::Relaxed,
                    );
                } else if entry.kind == Kind::Issue && entry.time >= since {
                    // The receiver outlives the reading.
                    let _ = entries.send(entry);
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
        let logged = newest.load(std::sync::atomic::Ordering::Relaxed);
        if logged > head.epoch {
            return Err(StartError::Rollback {
                logged,
                stored: head.epoch,
            });
        }
        Ok(())
    }

    /// The broker's realm, keys and admins.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn rng(&self) -> impl CryptoRng + use<> {
        UnwrapErr(getrandom::SysRng)
    }

    /// Answers one message, whatever its bytes (REF-1). `gone` completes when nobody waits any more.
    pub async fn answer(
        &self,
        caller: &Caller,
        message: &[u8],
        gone: impl Future<Output = ()> + Send,
    ) -> Vec<u8> {
        let began = self.time.monotonic();
        let (verb, result) = match RequestView::parse(message) {
            Ok(request) => (
                Some(request.verb),
                self.dispatch(&request, caller, gone).await,
            ),
            Err(error) => (None, Err(Refused::stranger(error.refusal(), error).into())),
        };
        let took = self.time.monotonic().saturating_sub(began);
        let exchange = verb.map_or("none", Verb::name);
        match result {
            Ok(answer) => {
                self.metrics.exchange(verb, None, took);
                answer.to_bytes()
            }
            Err(failed) => {
                let refused = match failed {
                    Failed::Recorded(refused) => refused,
                    Failed::Unrecorded(refused) => {
                        self.record_refusal(verb, &refused, caller).await;
                        refused
                    }
                };
                let (number, subject) = (refused.refusal.number(), refused.subject.as_deref());
                self.metrics.exchange(verb, Some(refused.refusal), took);
                tracing::info!(exchange, refusal = number, subject, source = %caller.address, why = %refused.why, "refused");
                // rule: REF-1, REF-2
                Answer::Refused(refused.notice()).to_bytes()
            }
        }
    }

    async fn dispatch(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<Answer, Failed> {
        match request.verb {
            Verb::Login => self.login(request, caller).await,
            Verb::Renew => self.renew(request, caller).await,
            Verb::Issue => self.issue(request, caller).await,
            Verb::Feed => self.feed(request, caller, gone).await,
            Verb::Administer => self.administer(request, caller).await,
            Verb::Present | Verb::Redeem | Verb::Generate | Verb::Rewrap => Err(Refused::stranger(
                Refusal::Unsupported,
                "a broker does not know this verb",
            )
            .into()),
        }
    }

    /// Lists a refusal of a proven caller; counts one of a stranger (AUD-1).
    async fn record_refusal(&self, verb: Option<Verb>, refused: &Refused, caller: &Caller) {
        let kind = match verb {
            Some(Verb::Login) => Some(Kind::Login),
            Some(Verb::Renew) => Some(Kind::Renew),
            Some(Verb::Issue) => Some(Kind::Issue),
            Some(Verb::Administer) => Some(Kind::Statement),
            _ => None,
        };
        let Some(kind) = kind.filter(|_| refused.proven) else {
            // rule: AUD-1
            return self.strangers.count(caller.address, refused.refusal);
        };
        let act = ActId::random(&mut self.rng());
        let mut entry = Entry::new(act, kind, self.time.latest())
            .refused(refused.refusal)
            .source(caller.address);
        entry = refused
            .subject
            .iter()
            .fold(entry, |entry, subject| entry.subject(subject));
        if let Err(error) = self.audit.append(&entry).await {
            tracing::error!(why = %error.why, "a refusal could not be recorded");
        }
    }

    /// Decides until nothing has changed between gathering and committing: `attempt` gathers and
    /// decides, and gives what it read, what changes and what comes of it.
    pub(crate) async fn settle<T, F>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<(Receipt, T), Failed>
    where
        F: Future<Output = Result<(Vec<(String, Option<u64>)>, Changes, T), Failed>>,
    {
        for _ in 0..ATTEMPTS {
            let (seen, changes, outcome) = attempt().await?;
            match self
                .directory
                .commit(seen, &changes, self.time.latest())
                .await
            {
                Ok(Committed::Conflict) => {}
                Ok(Committed::Done) => {
                    self.denials.apply(&changes.denials);
                    let receipt = self.record(&changes.entries).await?;
                    return Ok((receipt, outcome));
                }
                Err(error) => {
                    // It may have been kept all the same.
                    if !changes.denials.is_empty() {
                        let _ = self.reload_denials().await;
                    }
                    return Err(error.into());
                }
            }
        }
        Err(Refused::stranger(Refusal::Busy, "the records changed again and again").into())
    }

    /// Drains what a commit put into the outbox; the first entry's receipt.
    async fn record(&self, entries: &[Entry]) -> Result<Receipt, Failed> {
        for entry in entries.iter().filter(|entry| entry.kind == Kind::Alarm) {
            self.metrics.alarm();
            let subject = entry.subject.as_deref();
            tracing::warn!(act = %entry.act, alarm = entry.alarm.map(|alarm| alarm.to_string()), subject, "alarm");
        }
        let receipt = self.audit.drain(entries).await.map_err(Failed::Recorded)?;
        receipt
            .ok_or_else(|| Refused::stranger(Refusal::Internal, "an act without an entry").into())
    }

    /// The feed's head as the store has it, once memory knows the denials up to it.
    pub(crate) async fn head(&self, reads: &mut Reads<'_>) -> Result<FeedHead, Refused> {
        let head = reads
            .get::<FeedHead>(keys::FEED_HEAD)
            .await?
            .unwrap_or(FeedHead::START);
        let mut news = self.denials.news();
        let applied = news.wait_for(|epoch| *epoch >= head.epoch);
        if tokio::time::timeout(APPLIED_WITHIN, applied).await.is_err() {
            self.reload_denials().await?;
        }
        Ok(head)
    }

    async fn reload_denials(&self) -> Result<(), Refused> {
        let (head, current, lasting) = load_denials(&self.directory).await?;
        self.denials.reload(head, current, lasting);
        Ok(())
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        policy.as_ref().map(|policy| Arc::clone(&policy.value))
    }

    /// Takes the policy that the store holds, unless a newer one is here already.
    pub(crate) async fn load_policy(&self) -> Result<(), Refused> {
        let damaged = |why: String| {
            Refused::stranger(Refusal::Internal, format!("the policy in the store: {why}"))
        };
        for _ in 0..ATTEMPTS {
            let mut reads = self.directory.reads();
            let Some(head) = reads.get::<PolicyHead>(keys::POLICY).await? else {
                return Ok(());
            };
            let text = reads.raw(keys::POLICY_TEXT).await?.unwrap_or_default();
            if PolicyDigest::of(&text) != head.policy {
                // Another policy was set between the two reads.
                continue;
            }
            let text = String::from_utf8(text).map_err(|error| damaged(error.to_string()))?;
            let policy = Policy::parse(&text).map_err(|error| damaged(error.to_string()))?;
            let revision = reads
                .seen()
                .iter()
                .find(|(key, _)| key == keys::POLICY)
                .and_then(|(_, revision)| *revision)
                .unwrap_or_default();
            let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
            if current
                .as_ref()
                .is_none_or(|current| current.revision <= revision)
            {
                *current = Some(Versioned {
                    revision,
                    value: Arc::new(policy),
                });
            }
            return Ok(());
        }
        Err(damaged("its text is not the one that was set".to_owned()))
    }

    /// A dataset by name.
    pub(crate) fn dataset(&self, name: &str) -> Option<Arc<DatasetEntry>> {
        let datasets = self.datasets.read().unwrap_or_else(PoisonError::into_inner);
        datasets.get(name).map(|dataset| Arc::clone(&dataset.value))
    }

    /// The datasets after a name, at most so many, and whether there are more.
    pub(crate) fn datasets(&self, after: &str, most: usize) -> (Vec<Arc<DatasetEntry>>, bool) {
        use std::ops::Bound;
        let datasets = self.datasets.read().unwrap_or_else(PoisonError::into_inner);
        let mut rest = datasets.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let page: Vec<_> = rest
            .by_ref()
            .take(most)
            .map(|(_, dataset)| Arc::clone(&dataset.value))
            .collect();
        (page, rest.next().is_some())
    }

    pub(crate) fn dataset_count(&self) -> usize {
        self.datasets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether a dataset record names this key server (DEN-8).
    pub(crate) fn is_subscriber(&self, key: &ServerKey) -> bool {
        // rule: DEN-8
        let datasets = self.datasets.read().unwrap_or_else(PoisonError::into_inner);
        datasets
            .values()
            .any(|dataset| dataset.value.record.server_key == *key)
    }

    /// Takes a dataset as the store holds it, unless a newer record is here already.
    pub(crate) async fn load_dataset(&self, entry: &DatasetEntry) -> Result<(), Refused> {
        let key = keys::dataset(entry.record.dataset);
        let mut reads = self.directory.reads();
        let Some(entry) = reads.get::<DatasetEntry>(&key).await? else {
            return Ok(());
        };
        let revision = reads
            .seen()
            .first()
            .and_then(|(_, revision)| *revision)
            .unwrap_or_default();
        let mut datasets = self
            .datasets
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let newer = datasets
            .get(&entry.record.name)
            .is_some_and(|known| known.revision > revision);
        if !newer {
            datasets.insert(
                entry.record.name.clone(),
                Versioned {
                    revision,
                    value: Arc::new(entry),
                },
            );
        }
        Ok(())
    }

    /// Tells held feed requests to end, so that a shutdown need not wait for them.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Removes from the outbox what stands in the log. To be called every second or so.
    pub async fn sweep(&self) {
        if let Err(error) = self.audit.sweep(&self.directory).await {
            tracing::warn!(why = %error.why, "the outbox could not be swept");
        }
    }

    /// What is to be done once a minute: persist the time, list counted refusals, forget what is over.
    ///
    /// # Errors
    /// The first thing that could not be done; the next minute tries again.
    pub async fn tick(&self) -> Result<(), Refused> {
        let now = self.time.now()?;
        // rule: TIM-1
        self.directory.keep_time(self.time.latest()).await?;
        for (source, refusal, count) in self.strangers.take() {
            // rule: AUD-1
            let entry = Entry::new(ActId::random(&mut self.rng()), Kind::RefusalsCounted, now)
                .refused(refusal)
                .count(count);
            let source = source.map_or_else(|| "others".to_owned(), |source| source.to_string());
            self.audit.append(&entry.source(source)).await?;
        }
        self.audit.sweep(&self.directory).await?;
        self.audit.drain_all(&self.directory).await?;
        let forgotten: Vec<String> = self
            .denials
            .prune(now)
            .into_iter()
            .map(keys::denial)
            .collect();
        self.directory.remove(&forgotten).await?;
        self.forget_statements(now).await?;
        self.budgets.prune(now);
        self.rates.prune();
        self.show_state();
        Ok(())
    }

    /// Forgets used statement ids whose statements have expired (ADM-2).
    async fn forget_statements(&self, now: Timestamp) -> Result<(), Refused> {
        let (mut after, mut more) = (None::<String>, true);
        while more {
            let (rows, next) = self
                .directory
                .page(keys::STATEMENTS, after.as_deref(), 1_000)
                .await?;
            let over = |value: &[u8]| {
                UsedStatement::from_cbor(value, 256).is_ok_and(|used| used.expires <= now)
            };
            let gone: Vec<String> = rows
                .iter()
                .filter(|(_, value)| over(value))
                .map(|(key, _)| key.clone())
                .collect();
            self.directory.remove(&gone).await?;
            after = rows
                .last()
                .map(|(key, _)| key.trim_start_matches(keys::STATEMENTS).to_owned());
            more = next && after.is_some();
        }
        Ok(())
    }

    pub(crate) fn show_state(&self) {
        self.metrics.state(
            self.denials.count(),
            self.denials.head().epoch,
            self.audit.log().head().0,
        );
    }

    /// Ends: what was accepted is durable, files are released.
    pub async fn close(&self) {
        self.sweep().await;
        if let Err(error) = self.directory.keep_time(self.time.latest()).await {
            tracing::warn!(why = %error.why, "the time could not be persisted");
        }
        self.audit.log().close().await;
        self.directory.store().close().await;
    }

    /// Whether the store answers, for health checks.
    ///
    /// # Errors
    /// Refusal 65.
    pub async fn healthy(&self) -> Result<(), Refused> {
        self.directory
            .store()
            .revision()
            .await
            .map(drop)
            .map_err(unavailable)
    }
}

async fn load_denials(
    directory: &Directory,
) -> Result<(FeedHead, Vec<StoredDenial>, Vec<StoredDenial>), Refused> {
    // The head first: a denial that is made meanwhile is then above it, and is applied by its maker.
    let head = directory
        .get::<FeedHead>(keys::FEED_HEAD)
        .await?
        .unwrap_or(FeedHead::START);
    let current = directory.all::<StoredDenial>(keys::DENIALS).await?;
    let lasting = directory.all::<StoredDenial>(keys::LASTING).await?;
    Ok((head, current, lasting))
}
