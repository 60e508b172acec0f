//! The log and its witnesses (TLOG-10): compared at start and at each cosignature. While somebody has
//! seen more of the log than it holds nothing is served but what an admin needs to recover it, and nothing
//! else is appended: each entry would sign another history of the shard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use audit_log::AuditLog;
use audit_log::guard::{Contradiction, Event, Recovery, Standing, Told};
use audit_log::witness::{Endpoint, Status, Submitter, compare_at_start};
use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::statement::logs::{LogRecover, LogView};
use ticket_format::time::Timestamp;
use ticket_format::tlog::Checkpoint;
use tokio::sync::watch;

use super::directory::{Directory, Reads};
use super::service::Broker;
use super::start::StartError;
use crate::Refused;
use crate::administer::{Done, Opened};
use crate::feed::Chain;
use crate::state::{Changes, keys};

/// How long the witnesses may take to answer at start; who does not is compared when it does.
const AT_START: Duration = Duration::from_secs(5);
/// Most alarms that wait for the log to be recovered; they were told by then.
const PENDING: usize = 1_024;
/// Longest word on what is wrong with a log.
const WRONG: usize = 256;

/// A contradiction that was found, with the alarm that tells of it.
///
/// `log/rolled-back`: `[act: id16, time, contradiction]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    act: ActId,
    time: Timestamp,
    what: Contradiction,
}

impl Found {
    fn alarm(&self) -> Entry {
        // rule: TLOG-10
        let alarm = Entry::alarm(self.act, Alarm::LogRollback, self.time);
        let mut alarm = alarm.subject(&self.what.by).log(self.what.ours.clone());
        alarm.seen.clone_from(&self.what.seen);
        alarm
    }
}

impl Encode for Found {
    fn encode(&self, writer: &mut Writer) {
        self.act.encode(writer.array(3));
        self.time.encode(writer);
        self.what.encode(writer);
    }
}

impl Decode for Found {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        Ok(Self {
            act: ActId::decode(reader)?,
            time: Timestamp::decode(reader)?,
            what: Contradiction::decode(reader)?,
        })
    }
}

/// An alarm, or the record of an answer that was withheld, that cannot be appended yet.
struct Waiting {
    entry: Entry,
    /// Whether it stands in the outbox too, so that a crash does not forget it.
    kept: bool,
}

/// The witnesses that cosign this log, each with the name that it has in the configuration.
pub type Witnesses = Vec<(String, Endpoint)>;

/// What the broker knows of its log's witnesses.
pub(crate) struct Oversight {
    standing: Standing,
    /// Whether everything that a start does has been done: not while the log is rolled back.
    begun: AtomicBool,
    beginning: tokio::sync::Mutex<()>,
    /// What waits for the log, in the order in which it happened.
    pending: Mutex<Vec<Waiting>>,
    /// A rollback that the store does not know of yet.
    unpersisted: Mutex<Option<Found>>,
    /// When a caller's contradiction was alarmed last.
    alarmed: Mutex<Option<Duration>>,
    statuses: Mutex<Option<watch::Receiver<Vec<Status>>>>,
    /// Ends with the broker.
    submitter: Mutex<Option<Submitter>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Oversight {
    /// Finishes a recovery that was decided, and asks the witnesses what they have seen of the log.
    pub(super) async fn begin(
        directory: &Directory,
        log: &AuditLog,
        witnesses: &Witnesses,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, StartError> {
        let known = directory.get::<Found>(keys::ROLLED_BACK).await?;
        let names = witnesses.iter().map(|(name, _)| name.clone());
        let standing = Standing::new(names, known.as_ref().map(|found| found.what.clone()));
        let recovery = directory.get::<Recovery>(keys::RECOVERY).await?;
        if let Some(recovery) = recovery {
            recovery.finish(log).await.map_err(|error| {
                StartError::State(format!("the log could not be recovered: {error}"))
            })?;
            directory.remove(&[keys::RECOVERY.to_owned()]).await?;
            standing.recovered(log.head().checkpoint.checkpoint().shard.number);
        }
        let oversight = Self {
            standing,
            begun: AtomicBool::new(false),
            beginning: tokio::sync::Mutex::default(),
            pending: Mutex::default(),
            unpersisted: Mutex::default(),
            alarmed: Mutex::default(),
            statuses: Mutex::default(),
            submitter: Mutex::default(),
        };
        oversight.keep(known.iter().map(Found::alarm));
        let endpoints: Vec<_> = witnesses.iter().map(|(_, at)| at.clone()).collect();
        let compared = compare_at_start(log, &endpoints, AT_START).await;
        let compared =
            compared.map_err(|error| StartError::State(format!("[[log.witness]]: {error}")))?;
        let ours = log.head().checkpoint.checkpoint().clone();
        for (at, compared) in compared.iter().enumerate() {
            let name = witnesses.get(at).map(|(name, _)| name.as_str());
            tracing::info!(witness = name, ?compared, "compared the log with a witness");
            let event = oversight.standing.told(at, Told::from(compared), &ours);
            oversight.take(event, now, rng);
        }
        Ok(oversight)
    }

    /// Takes an event: what there is to be told and persisted.
    fn take(&self, event: Option<Event>, now: Timestamp, rng: &mut impl CryptoRng) {
        let act = ActId::random(rng);
        let found = |what| Found {
            act,
            time: now,
            what,
        };
        match event {
            None => {}
            Some(Event::RolledBack(what)) => {
                let found = found(what);
                self.keep([found.alarm()]);
                *locked(&self.unpersisted) = Some(found);
            }
            Some(Event::Claimed(what)) => self.keep([found(what).alarm()]),
            Some(Event::Silent(witness)) => {
                self.keep([Entry::alarm(act, Alarm::WitnessSilent, now).subject(witness)]);
            }
        }
    }

    /// Keeps entries until the log takes them.
    fn keep(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut pending = locked(&self.pending);
        for entry in entries {
            if pending.len() < PENDING {
                pending.push(Waiting { entry, kept: false });
            }
        }
    }

    /// Whether the log is what was seen of it.
    pub(super) fn is_good(&self) -> bool {
        self.standing.check().is_ok()
    }

    /// Everything that a start does has been done.
    pub(super) fn begun(&self) {
        self.begun.store(true, Ordering::Release);
    }
}

impl Broker {
    /// Refuses whatever is asked while the log is rolled back.
    ///
    /// # Errors
    /// Refusal 62.
    pub(super) fn good(&self) -> Result<(), Refused> {
        // rule: TLOG-10
        if self.oversight.is_good() {
            return Ok(());
        }
        let wrong = self.oversight.standing.wrong();
        Err(Refused::stranger(Refusal::Rollback, wrong))
    }

    /// Begins to submit checkpoints to the witnesses.
    pub(super) fn submit_to(&self, witnesses: Witnesses) -> Result<(), StartError> {
        let endpoints: Vec<_> = witnesses.into_iter().map(|(_, at)| at).collect();
        if endpoints.is_empty() {
            return Ok(());
        }
        let submitter = Submitter::start(self.audit.log(), endpoints);
        let submitter =
            submitter.map_err(|error| StartError::State(format!("[[log.witness]]: {error}")))?;
        *locked(&self.oversight.statuses) = Some(submitter.status());
        *locked(&self.oversight.submitter) = Some(submitter);
        Ok(())
    }

    /// Ends the submitting.
    pub(super) fn submit_no_more(&self) {
        locked(&self.oversight.submitter).take();
    }

    /// When a witness tells something; never where there is none.
    pub async fn witnesses_told(&self) {
        // The copy has seen what was looked at, and no more.
        let statuses = locked(&self.oversight.statuses).clone();
        if let Some(mut statuses) = statuses
            && statuses.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Takes what the witnesses have told since the last look: alarms, and whether anything is served. To be
    /// called when they tell something, and every second or so.
    pub async fn look_at_witnesses(&self) {
        let news = {
            let mut statuses = locked(&self.oversight.statuses);
            statuses.as_mut().and_then(|statuses| {
                let changed = statuses.has_changed().unwrap_or(false);
                changed.then(|| statuses.borrow_and_update().clone())
            })
        };
        let (ours, now) = (self.ours(), self.time.monotonic());
        for (at, status) in news.iter().flatten().enumerate() {
            if let Some((shard, size)) = &status.cosigned {
                self.oversight.standing.cosigned(at, shard, *size, now);
            }
            let event = self
                .oversight
                .standing
                .told(at, Told::from(&status.state), &ours);
            self.oversight
                .take(event, self.time.latest(), &mut self.rng());
        }
        if let Err(error) = self.after_witnesses().await {
            tracing::error!(why = %error.why, "what is known of the log could not be kept");
        }
    }

    /// Tells and persists what was found; where the log is good, records what waits, and begins to serve.
    pub(super) async fn after_witnesses(&self) -> Result<(), Refused> {
        if !self.oversight.is_good() {
            self.put_aside().await?;
        }
        if self
            .directory
            .get::<Recovery>(keys::RECOVERY)
            .await?
            .is_some()
        {
            // Decided, and not done: the log could not be written.
            self.finish_recovery().await?;
        }
        if self.oversight.is_good() {
            self.begin_serving().await?;
        }
        Ok(())
    }

    /// Does what a start could not do while the log was rolled back, and records what was only told.
    async fn begin_serving(&self) -> Result<(), Refused> {
        let _turn = self.oversight.beginning.lock().await;
        loop {
            let first = locked(&self.oversight.pending)
                .first()
                .map(|waiting| waiting.entry.clone());
            let Some(entry) = first else {
                break;
            };
            // Once: a recovery brings its alarm with it too.
            self.audit.drain(std::slice::from_ref(&entry)).await?;
            locked(&self.oversight.pending).retain(|other| other.entry.act != entry.act);
        }
        if !self.oversight.begun.load(Ordering::Acquire) {
            self.audit.sweep(&self.directory).await?;
            let drained = self.audit.drain_all(&self.directory).await?;
            self.record_start(drained).await?;
        }
        Ok(())
    }

    /// Raises an alarm: in the log, or, while nothing may be appended, to people only.
    pub(super) async fn raise(&self, alarm: Entry) -> Result<(), Refused> {
        if self.oversight.is_good() {
            return self.audit.append(&alarm).await.map(drop);
        }
        self.record_later(alarm).await
    }

    /// Keeps an entry of what happened while nothing may be appended.
    pub(super) async fn record_later(&self, entry: Entry) -> Result<(), Refused> {
        self.oversight.keep([entry]);
        self.put_aside().await
    }

    /// Tells people of the alarms that wait, and puts what waits into the outbox.
    async fn put_aside(&self) -> Result<(), Refused> {
        // rule: AUD-2, TLOG-10
        let mut changes = Changes::new();
        for waiting in locked(&self.oversight.pending).iter() {
            self.audit.alarms().unrecorded(&waiting.entry);
            if !waiting.kept {
                changes.record(waiting.entry.clone());
            }
        }
        let found = locked(&self.oversight.unpersisted).clone();
        if let Some(found) = &found {
            changes.put(keys::ROLLED_BACK.to_owned(), found);
        }
        if changes.entries.is_empty() && found.is_none() {
            return Ok(());
        }
        let latest = self.time.latest();
        self.directory.commit(Vec::new(), &changes, latest).await?;
        let kept = |entry: &Entry| changes.entries.iter().any(|other| other.act == entry.act);
        for waiting in locked(&self.oversight.pending).iter_mut() {
            waiting.kept |= kept(&waiting.entry);
        }
        locked(&self.oversight.unpersisted).take_if(|known| Some(&*known) == found.as_ref());
        Ok(())
    }

    /// A caller has shown a checkpoint that this log's keys signed and that it does not hold.
    pub(super) async fn contradicted(
        &self,
        what: Contradiction,
        source: impl ToString,
    ) -> Result<(), Refused> {
        /// One alarm in a minute: each caller that remembers what was lost shows it again and again.
        const AGAIN: Duration = Duration::from_secs(60);
        if !self.oversight.is_good() {
            // It is known, and was told.
            return Ok(());
        }
        let now = self.time.monotonic();
        {
            let mut last = locked(&self.oversight.alarmed);
            if last.is_some_and(|last| now.saturating_sub(last) < AGAIN) {
                return Ok(());
            }
            *last = Some(now);
        }
        // rule: TLOG-6
        let (act, time) = (ActId::random(&mut self.rng()), self.time.latest());
        let alarm = Found { act, time, what }.alarm();
        self.raise(alarm.source(source)).await
    }

    fn ours(&self) -> Checkpoint {
        self.audit.log().head().checkpoint.checkpoint().clone()
    }

    /// Decides where a log goes on that was rolled back.
    ///
    /// # Errors
    /// Refusals 77 and 79.
    pub(super) async fn log_recover(
        &self,
        opened: &Opened,
        reads: &mut Reads<'_>,
        now: Timestamp,
        mut changes: Changes,
    ) -> Result<Done, Refused> {
        // rule: TLOG-10
        let body = opened.body::<LogRecover>()?;
        let Some(named) = body.checkpoint() else {
            let why = format!("{:?} is no name of a shard", body.shard);
            return Err(opened.refuse(Refusal::Invalid, why));
        };
        let found = reads.get::<Found>(keys::ROLLED_BACK).await?;
        if reads.raw(keys::RECOVERY).await?.is_some() {
            let why = "the log is being recovered by another statement";
            return Err(opened.refuse(Refusal::Stale, why));
        }
        let (log, ours) = (self.audit.log(), self.ours());
        let root_of = |size| log.root_of(ours.shard.number, size).ok();
        let standing = &self.oversight.standing;
        let (seen, at_least) = standing
            .may_recover(&named, &ours, root_of)
            .map_err(|error| opened.refuse(Refusal::Stale, error))?;
        let recovery = Recovery {
            act: ActId::random(&mut self.rng()),
            at_least,
            time: now,
            statement: opened.statement().digest().0,
            seen,
        };
        changes.put(keys::RECOVERY.to_owned(), &recovery);
        changes.deletes.push(keys::ROLLED_BACK.to_owned());
        // With its record gone, nothing but the outbox would remember the alarm after a crash.
        changes.entries.extend(found.iter().map(Found::alarm));
        Ok(Done::new::<LogRecover>(
            changes,
            &ticket_format::statement::Nothing {},
        ))
    }

    /// Does a recovery that is committed: begins the next shard, and with it to serve.
    pub(super) async fn finish_recovery(&self) -> Result<(), Refused> {
        let Some(recovery) = self.directory.get::<Recovery>(keys::RECOVERY).await? else {
            return Ok(());
        };
        let begun = recovery.finish(self.audit.log()).await;
        begun.map_err(|error| Refused::stranger(Refusal::AuditUnavailable, error))?;
        // The alarm first: it is the reason of the new shard.
        self.begin_serving().await?;
        let shard = self.ours().shard.number;
        self.directory.remove(&[keys::RECOVERY.to_owned()]).await?;
        locked(&self.oversight.unpersisted).take();
        self.oversight.standing.recovered(shard);
        tracing::warn!(
            shard,
            "the log goes on in a new shard, as a quorum of security said"
        );
        Ok(())
    }

    /// The log and its witnesses, for people.
    pub(super) fn log_show(&self) -> LogView {
        let (log, standing) = (self.audit.log(), &self.oversight.standing);
        let newest = log.head().checkpoint;
        let cosigned = log.cosigned().borrow().clone();
        let cosigned = cosigned.filter(|note| note.checkpoint() == newest.checkpoint());
        let mut wrong = standing.wrong();
        while wrong.len() > WRONG {
            wrong.pop();
        }
        LogView {
            key: log.key().clone(),
            witnesses: standing.witnesses(newest.checkpoint(), self.time.monotonic()),
            checkpoint: cosigned.unwrap_or(newest).note().to_owned(),
            state: standing.state(),
            wrong,
        }
    }

    /// Takes over into the metrics how the log is.
    pub(super) fn show_log(&self) {
        let head = self.audit.log().head();
        let (now, ours) = (self.time.latest(), head.checkpoint.checkpoint());
        let standing = &self.oversight.standing;
        let witnesses = standing.witnesses(ours, self.time.monotonic());
        let age = now.since(head.checkpoint.time());
        self.metrics.log(head.entries, ours.size, age, &witnesses);
    }

    /// Records that the broker serves.
    pub(super) async fn record_start(&self, drained: usize) -> Result<(), Refused> {
        let epoch = self.denials.head().epoch;
        let act = ActId::random(&mut self.rng());
        let entry = Entry::new(act, Kind::Start, self.time.now()?)
            .subject("broker")
            .epoch(epoch);
        self.audit.append(&entry).await?;
        self.oversight.begun();
        tracing::info!(realm = %self.realm.name, epoch, drained, "started");
        Ok(())
    }
}
