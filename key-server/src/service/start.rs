//! Start: everything is read, opened and checked before anything is served.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit_log::guard::{Contradiction, Recovery, Standing, Told};
use audit_log::witness::{Endpoint, EndpointError, compare_at_start};
use audit_log::{AuditLog, ReadError, SideFile};
use store::files::FileError;
use store::hooks::Hook;
use store::root::{Means, RootError, Ways};
use store::sealed::RootKey;
use store::{Outcome, Store, Transaction};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::CHAIN_START;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{DatasetId, NodeId};
use ticket_format::iid::RegionKeys;
use ticket_format::keys::{ServerSecret, TicketKey, TlsKey};
use ticket_format::limits;
use ticket_format::messages::feed::Report;
use ticket_format::statement::Canary;
use ticket_format::ticket::TicketKeys;
use ticket_format::time::Timestamp;
use ticket_format::tlog::LogKey;
use tokio::sync::Semaphore;

use super::Service;
use super::admin_sets::no_key_of_ours;
use super::backups::Backups;
use super::counted::Counted;
use super::key_files::KeyFiles;
use super::logs::kept;
use super::record::lossy;
use super::rekey::{put_records, renamed};
use super::reports::Reports;
use super::roots::Roots;
use crate::admins::{Admins, HistoryError};
use crate::broker_log::{self, BrokerLog, Fork};
use crate::budget::Budgets;
use crate::clock::{Clock, Latest, WentBack};
use crate::dataset::{CanaryDeks, Dataset, DatasetError, DatasetState, Datasets};
use crate::evidence::Checker;
use crate::gate::Gate;
use crate::habit::{BurstLimits, Habits};
use crate::inventory::{Inventory, InventoryError};
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::records::{self, FeedHead};
use crate::refused::Refused;
use crate::sealed::Opened;
use crate::state::State;
use crate::ticket_keys::{OtherKeys, TicketRing};
use crate::vault::{KekRecord, LoadError, Vault};

/// How long witnesses have at start to say what they have seen; who is late is compared when it answers.
const COMPARE: Duration = Duration::from_secs(2);

/// Who this server is and whom it believes.
#[derive(Debug)]
pub struct Identity {
    /// The realm.
    pub realm: String,
    /// This server's TLS key.
    pub tls_key: TlsKey,
    /// This server's signing key.
    pub signing: ServerSecret,
    /// The broker's ticket-signing key.
    pub ticket_key: TicketKey,
    /// The broker's TLS key, which evidence names (EVD-1).
    pub broker: TlsKey,
    /// The keys of the broker's log (PRE-5).
    pub broker_log: LogKey,
    /// Whose identity documents count as evidence.
    pub regions: RegionKeys,
    /// The statement of an admin set, which the operator vouches for (SET-3).
    pub admin_set: Vec<u8>,
}

/// What a service is made of.
pub struct Parts {
    /// Who it is.
    pub identity: Identity,
    /// Opens the KEKs.
    pub root: RootKey,
    /// The ways to it, and where stands what is sealed under it.
    pub ways: Ways,
    /// The automatic way, for drills (ROOT-6).
    pub means: Means,
    /// How it was opened.
    pub opened: Opened,
    /// The store, open.
    pub store: Arc<dyn Store>,
    /// The audit log, open.
    pub log: AuditLog,
    /// Who witnesses it, by the names that the operator gave them.
    pub witnesses: Vec<(String, Endpoint)>,
    /// What stands behind the log's hashes, open (AUD-5).
    pub side: SideFile,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Told of alarms (EXP-4).
    pub hook: Hook,
    /// When a burst is one (EXP-3).
    pub bursts: BurstLimits,
    /// The data directory, for backups.
    pub data: PathBuf,
    /// The inventory's file (INV-1); it is made where there is none.
    pub inventory: PathBuf,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error("the store cannot be used: {0}")]
    Store(#[from] store::Error),
    /// The configured ticket key.
    #[error(transparent)]
    TicketKeys(OtherKeys),
    /// The log cannot be read back.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The log cannot be written.
    #[error("the start could not be recorded: {0}")]
    Append(#[from] audit_log::AppendError),
    /// The outbox.
    #[error("an entry of the outbox could not be recorded: {0}")]
    Outbox(Refused),
    /// A record of the store.
    #[error("the record {0} in the store is damaged")]
    Record(String),
    /// An entry of the log.
    #[error("audit entry {0} is of a shape that this program does not know")]
    Entry(u64),
    /// A dataset.
    #[error("dataset {id} cannot be used: {error}")]
    Dataset {
        /// Which one.
        id: DatasetId,
        /// Why.
        error: DatasetError,
    },
    /// The admin set, or its history.
    #[error(transparent)]
    Admins(#[from] HistoryError),
    /// An admin's key in another role.
    #[error("the admin set cannot be used: {0}")]
    AdminsKey(Refused),
    /// A record that another release wrote.
    #[error(
        "the record {record} in the store is of format {format}, and this release reads formats {oldest} to {newest}: nothing was changed; start the release that wrote it, or one that reads both"
    )]
    Format {
        /// Which.
        record: String,
        /// Its format.
        format: u64,
        /// The oldest that is read.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// A KEK.
    #[error(transparent)]
    Kek(#[from] LoadError),
    /// The file of its key material.
    #[error("the key material of a KEK version cannot be read, or what a crash left erased: {0}")]
    KeyFile(#[from] FileError),
    /// The root key's files.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The program is ending.
    #[error("the start was aborted")]
    Aborted,
    /// The inventory.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The denials.
    #[error(transparent)]
    Denials(#[from] super::load::LoadDenialsError),
    /// The clock.
    #[error(transparent)]
    Clock(#[from] WentBack),
    /// The witnesses.
    #[error(transparent)]
    Witnesses(#[from] EndpointError),
    /// A recovery that was committed.
    #[error("the log could not be recovered as security says: {0}")]
    Recovery(Refused),
}

/// What the log says about the time before this start.
#[derive(Debug, Default)]
struct Remembered {
    budgets: Budgets,
    /// The highest epoch that anything was decided under.
    epoch: u64,
    /// The latest time of an entry.
    latest: Timestamp,
}

impl Service {
    /// Reads everything, and makes the record of the start durable.
    ///
    /// # Errors
    /// [`StartError`]: nothing is served.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, StartError> {
        let Parts {
            identity,
            root,
            ways,
            means,
            opened,
            store,
            log,
            witnesses,
            side,
            clock,
            hook,
            bursts,
            data,
            inventory,
        } = parts;
        let Identity {
            realm,
            tls_key,
            signing,
            ticket_key,
            broker,
            broker_log,
            regions,
            admin_set,
        } = identity;
        let now = clock.now();
        let remembered = remember(log.clone(), now).await?;
        // rule: TIM-1
        let persisted = latest(&*store).await?.max(remembered.latest);
        let latest = Latest::from(persisted);
        latest.see(now)?;
        let key_files = KeyFiles::at(ways.sealed().join("kek"));
        let vault = vault(&*store, &realm, root, &ways, &key_files).await?;
        let datasets = datasets(&*store).await?;
        let admins = admins(&*store, &admin_set, &realm, now).await?;
        let single = Single::read(&*store).await?;
        let ticket_keys =
            TicketRing::open(ticket_key, single.ticket_keys).map_err(StartError::TicketKeys)?;
        let gate = gate(&*store, now).await?;
        let reports = reports(&*store).await?;
        let (names, witnesses): (Vec<_>, Vec<_>) = witnesses.into_iter().unzip();
        // rule: TLOG-10 — before anything is appended: what was lost is lost with what the log said then.
        let compared = compare_at_start(&log, &witnesses, COMPARE).await?;
        let state = State {
            realm,
            tls_key,
            ticket_keys,
            signing,
            admins,
            datasets,
            log_key: log.key().clone(),
            standing: Standing::new(names, single.rolled_back),
            broker_log: BrokerLog::new(
                broker_log,
                single.broker_log.unwrap_or_default(),
                single.fork,
            ),
            evidence: Checker::new(broker, regions),
            vault,
            gate,
            lease: Lease::new(),
            budgets: remembered.budgets,
            latest,
            restored: single.restored,
        };
        let roots = Roots::new(ways, means, &state.realm, state.tls_key, clock.monotonic());
        no_key_of_ours(&state.admins.current(), &state).map_err(StartError::AdminsKey)?;
        let inventory = Inventory::open(inventory, log.clone()).await?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let service = Arc::new(Self {
            state,
            metrics: Metrics::default(),
            store,
            log,
            clock,
            side,
            hook,
            habits: Habits::new(bursts),
            counted: Counted::default(),
            started: now,
            heavy: Arc::new(Semaphore::new(cores)),
            reading: Semaphore::new(1),
            proving: Arc::new(Semaphore::new(super::PROVING)),
            watching: super::watching::Watching::default(),
            applying: tokio::sync::Mutex::default(),
            reports,
            roots,
            key_files,
            inventory,
            keks: tokio::sync::Mutex::default(),
            backups: Backups::at(data)?,
            imports: crate::imports::Imports::default(),
            erase_again: std::sync::atomic::AtomicBool::default(),
        });
        // rule: TLOG-10
        if let Some(recovery) = single.recovery {
            let recovered = service.recovered(&recovery.knowing(&compared)).await;
            recovered.map_err(StartError::Recovery)?;
        }
        for (witness, compared) in compared.iter().enumerate() {
            service.witness_told(witness, Told::from(compared)).await;
        }
        // rule: TLOG-10
        let good = service.state.standing.check().is_ok();
        if good {
            service.drain_outbox().await?;
        }
        service.notice_rollback(remembered.epoch, now).await?;
        service
            .store
            .commit(store::Transaction::new().put(records::TIME, now.max(persisted).to_cbor()))
            .await?;
        let epoch = service.state.gate.permit().epoch().number();
        let entry = Entry::new(service.act(), Kind::Start, now).epoch(epoch);
        service.begin(&entry).await?;
        service.record_opened(opened).await?;
        // rule: KEK-3, KEK-4 — what became due while the server was off.
        service.do_what_is_due().await;
        Ok(service)
    }

    /// The log says that something was decided under denials that the store does not have: an old copy
    /// of the store was put in place. The broker's feed brings the denials back before anything is
    /// released, but somebody should look.
    async fn notice_rollback(&self, seen: u64, now: Timestamp) -> Result<(), StartError> {
        let stored = self.state.gate.permit().epoch().number();
        if seen > stored {
            tracing::error!(
                alarm = Alarm::StoreRollback.name(),
                stored,
                seen,
                "the store is older than the log"
            );
            let alarm = Entry::alarm(self.act(), Alarm::StoreRollback, now);
            self.begin(&alarm.epoch(seen)).await?;
        }
        Ok(())
    }

    /// Appends an entry, or puts it aside.
    pub(super) async fn begin(&self, entry: &Entry) -> Result<(), StartError> {
        // rule: TLOG-10
        if self.state.standing.check().is_ok() {
            self.append(entry).await?;
            return Ok(());
        }
        self.raised(None, entry);
        self.put_aside(entry).await.map_err(StartError::Outbox)
    }
}

/// Reads the whole log: it blocks, on a thread of its own.
async fn remember(log: AuditLog, now: Timestamp) -> Result<Remembered, StartError> {
    let read = tokio::task::spawn_blocking(move || {
        let mut remembered = Remembered::default();
        for record in log.read(log.first_kept()) {
            let record = record?;
            let entry = Entry::from_cbor(&record.entry, limits::ENTRY)
                .map_err(|_| StartError::Entry(record.index))?;
            // rule: RED-4
            remembered.budgets.replay(&entry, now);
            remembered.epoch = remembered.epoch.max(entry.epoch.unwrap_or_default());
            remembered.latest = remembered.latest.max(entry.time);
        }
        Ok(remembered)
    });
    match read.await {
        Ok(result) => result,
        Err(error) => Err(ReadError::Io(std::io::Error::other(error)).into()),
    }
}

async fn latest(store: &dyn Store) -> Result<Timestamp, StartError> {
    Ok(kept(store, records::TIME).await?.unwrap_or_default())
}

/// Reads what a start reads of a store beside its KEK versions and admin sets.
///
/// # Errors
/// [`StartError`]: a start would not.
pub async fn readable(store: &dyn Store, now: Timestamp) -> Result<(), StartError> {
    // rule: BAK-3
    latest(store).await?;
    Single::read(store).await?;
    datasets(store).await?;
    gate(store, now).await?;
    reports(store).await?;
    Ok(())
}

/// The records of which there is one at most.
struct Single {
    ticket_keys: Option<TicketKeys>,
    rolled_back: Option<Contradiction>,
    recovery: Option<Recovery>,
    broker_log: Option<broker_log::Remembered>,
    fork: Option<Fork>,
    restored: Option<Timestamp>,
}

impl Single {
    async fn read(store: &dyn Store) -> Result<Self, StartError> {
        Ok(Self {
            ticket_keys: kept(store, records::TICKET_KEYS).await?,
            rolled_back: kept(store, records::LOG_ROLLED_BACK).await?,
            recovery: kept(store, records::LOG_RECOVERY).await?,
            broker_log: kept(store, records::BROKER_LOG).await?,
            fork: kept(store, records::BROKER_FORK).await?,
            restored: kept(store, records::RESTORED).await?,
        })
    }
}

/// Why a record is not read: it is of another format than these, or damaged.
fn unread(key: &[u8], value: &[u8], formats: RangeInclusive<u64>) -> StartError {
    let record = lossy(key);
    match records::format_of(value) {
        Some(format) if !formats.contains(&format) => StartError::Format {
            record,
            format,
            oldest: *formats.start(),
            newest: *formats.end(),
        },
        _ => StartError::Record(record),
    }
}

/// All KEK versions, open. What a rekey sealed anew has another digest since, which the records get first;
/// what a crash left of key material is erased.
async fn vault(
    store: &dyn Store,
    realm: &str,
    root: RootKey,
    ways: &Ways,
    files: &KeyFiles,
) -> Result<Vault, StartError> {
    let mut versions = BTreeMap::new();
    for (key, entry) in records::all(store, records::KEKS).await? {
        let damaged = || StartError::Record(lossy(&key));
        let record = KekRecord::from_cbor(&entry.value, limits::SMALL_MESSAGE);
        let record = record.map_err(|_| unread(&key, &entry.value, KekRecord::FORMATS))?;
        if text(&key)? != record.path() {
            return Err(damaged());
        }
        versions.insert(record.path(), record);
    }
    // rule: ROOT-7
    let changed = renamed(versions.values().cloned().collect(), ways);
    put_records(store, &changed).await?;
    versions.extend(changed.into_iter().map(|record| (record.path(), record)));
    let versions: Vec<_> = versions.into_values().collect();
    // rule: KEK-5 — what it says is destroyed goes; what it does not name may be of a store newer than this.
    for record in versions.iter().filter(|record| record.file.is_none()) {
        files.erase(record)?;
    }
    let named: HashSet<_> = versions
        .iter()
        .map(|record| (record.dataset, record.kek))
        .collect();
    let unnamed = files.unnamed(&named)?;
    if unnamed > 0 {
        tracing::error!(
            unnamed,
            "there is key material that the store does not name: a rotation was cut off before it was taken into use, or the store is an older copy; it stays"
        );
    }
    let with_material = versions.into_iter().map(|record| {
        let sealed = match record.file {
            None => None,
            Some(_) => match files.read(&record) {
                Ok(sealed) => Some(sealed),
                Err(FileError::Missing(_)) => None,
                Err(error) => return Err(StartError::KeyFile(error)),
            },
        };
        Ok((record, sealed))
    });
    let versions: Result<Vec<_>, StartError> = with_material.collect();
    Ok(Vault::open(realm, root, versions?)?)
}

/// The history of admin sets; a new store begins with the configured one.
///
/// # Errors
/// [`StartError`]: the store, or a set in it.
pub async fn admins(
    store: &dyn Store,
    configured: &[u8],
    realm: &str,
    now: Timestamp,
) -> Result<Admins, StartError> {
    // rule: SET-3
    let mut stored = BTreeMap::new();
    for (key, entry) in records::all(store, records::ADMIN_SETS).await? {
        let version = records::version_of(&key);
        let version = version.ok_or_else(|| StartError::Record(lossy(&key)))?;
        stored.insert(version, entry.value);
    }
    let new = stored.is_empty();
    let admins = Admins::open(configured, stored, realm, now)?;
    if new {
        let (version, statement) = admins.head();
        let key = records::admin_set(version);
        let begin = Transaction::new().absent(key.as_str()).put(key, statement);
        match store.commit(begin).await? {
            Outcome::Committed(_) => {}
            Outcome::Conflict { key } => return Err(StartError::Record(lossy(&key))),
        }
    }
    Ok(admins)
}

async fn canary_deks(store: &dyn Store) -> Result<HashMap<DatasetId, CanaryDeks>, StartError> {
    let mut all = HashMap::<DatasetId, CanaryDeks>::new();
    for (key, entry) in records::all(store, records::CANARY_DEKS).await? {
        let damaged = || StartError::Record(lossy(&key));
        let (dataset, dek) = records::canary_of(&key).ok_or_else(damaged)?;
        let canary = Canary::from_cbor(&entry.value, 16).map_err(|_| damaged())?;
        all.entry(dataset).or_default().insert(dek, canary);
    }
    Ok(all)
}

async fn datasets(store: &dyn Store) -> Result<Datasets, StartError> {
    let datasets = Datasets::default();
    let mut canaries = canary_deks(store).await?;
    for (key, entry) in records::all(store, records::DATASETS).await? {
        let damaged = || StartError::Record(lossy(&key));
        let id = text(&key)?
            .strip_prefix(records::DATASETS)
            .and_then(|id| id.parse::<DatasetId>().ok())
            .ok_or_else(damaged)?;
        let state = DatasetState::from_cbor(&entry.value, limits::SMALL_MESSAGE);
        let state = state.map_err(|_| unread(&key, &entry.value, DatasetState::FORMATS))?;
        let policy = store
            .get(records::policy(id).as_bytes())
            .await?
            .ok_or_else(damaged)?;
        let policy = String::from_utf8(policy.value).map_err(|_| damaged())?;
        let dataset = Dataset::new(id, state, &policy, entry.revision);
        let dataset = dataset.map_err(|error| StartError::Dataset { id, error })?;
        let canary_deks = Arc::new(canaries.remove(&id).unwrap_or_default());
        datasets.put(Arc::new(dataset.with_canary_deks(canary_deks)));
    }
    Ok(datasets)
}

async fn gate(store: &dyn Store, now: Timestamp) -> Result<Gate, StartError> {
    let head = match store.get(records::FEED_HEAD.as_bytes()).await? {
        Some(entry) => FeedHead::from_cbor(&entry.value, 64)
            .map_err(|_| StartError::Record(records::FEED_HEAD.to_owned()))?,
        None => FeedHead {
            epoch: 0,
            chain: CHAIN_START,
        },
    };
    let mut seed = [0; 16];
    rand_core::Rng::fill_bytes(&mut super::rng(), &mut seed);
    let mut set = super::load::denials(store, &seed).await?;
    set.prune(now);
    let mut here = BTreeSet::new();
    for (key, _) in records::all(store, records::HERE).await? {
        let node = text(&key)?.strip_prefix(records::HERE);
        let node = node.and_then(|node| node.parse::<NodeId>().ok());
        here.insert(node.ok_or_else(|| StartError::Record(lossy(&key)))?);
    }
    Ok(Gate::new(set, here, head.epoch, head.chain))
}

async fn reports(store: &dyn Store) -> Result<Reports, StartError> {
    let mut waiting = Vec::new();
    for (key, entry) in records::all(store, records::REPORTS).await? {
        let report = Report::from_cbor(&entry.value, limits::SMALL_MESSAGE);
        waiting.push(report.map_err(|_| StartError::Record(lossy(&key)))?);
    }
    Ok(Reports::new(waiting))
}

fn text(key: &[u8]) -> Result<&str, StartError> {
    std::str::from_utf8(key).map_err(|_| StartError::Record(lossy(key)))
}
