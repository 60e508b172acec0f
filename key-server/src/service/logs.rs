//! This server's log and the broker's: what callers remember of it (TLOG-6), what witnesses say of it
//! (TLOG-8, TLOG-10), whether the broker's is one log (TLOG-7), and where a log goes on.

use std::sync::Arc;

use audit_log::guard::{self, Contradiction, Event, NotConsistent, Recovery, Told};
use audit_log::witness::Status;
use store::{Store, Transaction};
use ticket_format::cbor::{Decode, DecodeError, Encode};
use ticket_format::entry::{Alarm, Entry};
use ticket_format::ids::StatementDigest;
use ticket_format::limits;
use ticket_format::messages::consistency::ConsistencyBody;
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::statement::{Act, LogRecover, LogShow, LogState, LogView, Nothing};
use ticket_format::tlog::SignedCheckpoint;
use tokio::sync::watch;

use super::administer::{Asked, Change, Plan};
use super::start::StartError;
use super::{Failed, Service};
use crate::broker_log::{BrokerLog, Fork, Known, Round, Said};
use crate::records;
use crate::refused::Refused;
use crate::state::Connection;

/// What may be done while the log is not what was seen of it.
pub(super) fn may_be_done(act: Act) -> bool {
    // rule: TLOG-10
    matches!(
        act,
        Act::AdminSet | Act::LogRecover | Act::LogShow | Act::Status
    )
}

impl Service {
    /// Proves to who remembers a checkpoint that the log goes on from it. Anybody may ask.
    pub(super) async fn consistency(
        &self,
        connection: &Connection,
        request: &RequestView<'_>,
    ) -> Result<Answer, Failed> {
        if !request.proofs.is_empty() {
            return Err(Failed::stranger(DecodeError::OutOfRange("proofs")));
        }
        let body = ConsistencyBody::from_cbor(request.body, limits::PRESENT);
        let body = body.map_err(Failed::stranger)?;
        let proved = if guard::reads(&self.log, &body) {
            // An old shard's hashes are read from the disk: few at a time, on threads of their own.
            // The turn goes with the work: a caller that leaves does not end it.
            let turn = Arc::clone(&self.proving).acquire_owned().await;
            let log = self.log.clone();
            let task = tokio::task::spawn_blocking(move || {
                let proved = guard::consistency(&log, &body);
                drop(turn);
                proved
            });
            let unfinished = |_| Failed::stranger(Refused::Internal("a proof did not finish"));
            task.await.map_err(unfinished)?
        } else {
            // Some hashes of the tree in memory: less than it takes to hand it to another thread.
            guard::consistency(&self.log, &body)
        };
        // rule: TLOG-6
        let error = match proved {
            Ok(answer) => return Ok(Answer::done(Verb::Consistency, &answer)),
            Err(error) => error,
        };
        if let NotConsistent::Read(error) = &error {
            tracing::error!(%error, "the log could not prove what it became");
        }
        let refused = Refused::Inconsistent(error.refusal(), error.to_string());
        let NotConsistent::Contradicted(found) = error else {
            return Err(Failed::stranger(refused));
        };
        let mut alarm = self.rollback_alarm(&found);
        alarm.subject = None;
        if let Some(source) = connection.source {
            alarm = alarm.source(source);
        }
        Err(match self.counted.first_alarm(&alarm) {
            true => Failed::alarm(refused, alarm),
            false => Failed::stranger(refused),
        })
    }

    fn rollback_alarm(&self, found: &Contradiction) -> Entry {
        let alarm = Entry::alarm(self.act(), Alarm::LogRollback, self.clock.now());
        let mut alarm = alarm
            .subject(&found.by)
            .log(found.ours.clone())
            .count(found.size);
        alarm.seen.clone_from(&found.seen);
        alarm
    }

    /// Takes what witnesses say, until nobody says anything any more.
    pub async fn follow_witnesses(self: Arc<Self>, mut statuses: watch::Receiver<Vec<Status>>) {
        loop {
            let told: Vec<_> = statuses
                .borrow_and_update()
                .iter()
                .map(|status| (Told::from(&status.state), status.cosigned.clone()))
                .collect();
            for (witness, (told, cosigned)) in told.into_iter().enumerate() {
                if let Some((shard, size)) = cosigned {
                    let now = self.clock.monotonic();
                    self.state.standing.cosigned(witness, &shard, size, now);
                }
                self.witness_told(witness, told).await;
            }
            if statuses.changed().await.is_err() {
                return;
            }
        }
    }

    /// A witness, by its place in the configuration, says something.
    pub async fn witness_told(&self, witness: usize, told: Told) {
        let ours = self.log.head().checkpoint;
        let standing = &self.state.standing;
        let before = standing.check();
        let event = standing.told(witness, told, ours.checkpoint());
        if before.is_err() && standing.check().is_ok() {
            tracing::warn!("no witness contradicts the log any more");
            self.catch_up().await;
        }
        if let Some(event) = event {
            self.happened(event).await;
        }
    }

    /// What was put aside goes into the log, when something may be appended again.
    async fn catch_up(&self) {
        // rule: AUD-2
        if let Err(error) = self.drain_outbox().await {
            tracing::error!(%error, "the outbox could not be drained");
        }
    }

    async fn happened(&self, event: Event) {
        let (alarm, kept) = match event {
            // rule: TLOG-8
            Event::Silent(witness) => {
                let alarm = Entry::alarm(self.act(), Alarm::WitnessSilent, self.clock.now());
                (alarm.subject(witness), None)
            }
            // rule: TLOG-10
            Event::Claimed(found) => {
                tracing::error!(%found, "nothing is served while this stands");
                (self.rollback_alarm(&found), None)
            }
            Event::RolledBack(found) => {
                tracing::error!(%found, "nothing is served until security says where the log goes on");
                let kept = Transaction::new().put(records::LOG_ROLLED_BACK, found.to_cbor());
                (self.rollback_alarm(&found), Some(kept))
            }
        };
        self.record_alarm(kept, &alarm).await;
    }

    /// Records an alarm together with what is to outlive a restart; whether that is persisted.
    async fn record_alarm(&self, kept: Option<Transaction>, alarm: &Entry) -> bool {
        // rule: AUD-2
        let commit = kept
            .unwrap_or_default()
            .put(records::outbox(alarm.act), alarm.to_cbor());
        if let Err(error) = self.store.commit(commit).await {
            tracing::error!(%error, "an alarm, and what is wrong with a log, could not be persisted");
            self.raised(None, alarm);
            return false;
        }
        if let Err(error) = self.settle(alarm).await {
            tracing::error!(%error, "an alarm waits in the outbox");
        }
        true
    }

    /// The broker's log is not one log: no ticket is taken any more.
    pub async fn broker_forked(&self, fork: &Fork) {
        // rule: TLOG-7
        tracing::error!(%fork, "no ticket is taken until security says where the broker's log goes on");
        let alarm = Entry::alarm(self.act(), Alarm::LogFork, self.clock.now());
        let mut alarm = alarm.log(fork.ours.clone());
        alarm.seen.clone_from(&fork.theirs);
        let kept = Transaction::new().put(records::BROKER_FORK, fork.to_cbor());
        if self.record_alarm(Some(kept), &alarm).await {
            self.state.broker_log.fork_kept(fork);
        }
    }

    /// Takes what the broker said about its log; whether something is to be asked again.
    pub async fn broker_said(self: &Arc<Self>, asked: Vec<Known>, said: Vec<Option<Said>>) -> bool {
        // A task of its own: it ends also where the connection, and who waits here, end before.
        let service = Arc::clone(self);
        let task = tokio::spawn(async move { service.judge_broker(asked, said).await });
        task.await.unwrap_or(false)
    }

    async fn judge_broker(self: Arc<Self>, asked: Vec<Known>, said: Vec<Option<Said>>) -> bool {
        // Signatures of as many as 64 answers.
        let service = Arc::clone(&self);
        let task =
            tokio::task::spawn_blocking(move || service.state.broker_log.answered(&asked, said));
        let round = task.await;
        self.remember_broker_log().await;
        match round {
            Ok(Round::Proven) | Err(_) => false,
            Ok(Round::Again) => true,
            Ok(Round::Forked(fork)) => {
                self.broker_forked(&fork).await;
                false
            }
        }
    }

    /// Persists the largest checkpoint that was seen of the broker's log, if there is a larger one.
    pub async fn remember_broker_log(&self) {
        // rule: TLOG-7
        let Some(remembered) = self.state.broker_log.to_keep() else {
            return;
        };
        let commit = Transaction::new().put(records::BROKER_LOG, remembered.to_cbor());
        match self.store.commit(commit).await {
            Ok(_) => self.state.broker_log.kept(remembered),
            Err(error) => {
                tracing::warn!(%error, "what was seen of the broker's log is not persisted")
            }
        }
    }

    pub(super) fn show_log(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let LogShow {} = asked.statement.body()?;
        let newest = self.newest_cosigned();
        let standing = &self.state.standing;
        let (state, wrong) = match (standing.state(), self.state.broker_log.fork()) {
            (LogState::Good, Some(fork)) => (LogState::BrokerForked, fork.to_string()),
            (state, _) => (state, standing.wrong()),
        };
        Ok(Plan::reading(&LogView {
            key: self.state.log_key.clone(),
            checkpoint: newest.note().to_owned(),
            state,
            wrong: cut(wrong),
            witnesses: standing.witnesses(newest.checkpoint(), self.clock.monotonic()),
        }))
    }

    /// The newest checkpoint, with the cosignatures that it has.
    fn newest_cosigned(&self) -> SignedCheckpoint {
        let newest = self.log.head().checkpoint;
        let cosigned = self.log.cosigned().borrow().clone();
        cosigned
            .filter(|cosigned| cosigned.checkpoint() == newest.checkpoint())
            .unwrap_or(newest)
    }

    pub(super) fn recover_log(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: LogRecover = asked.statement.body()?;
        let invalid = |why: &str| Refused::Invalid(why.to_owned());
        let named = body
            .checkpoint()
            .ok_or_else(|| invalid("the shard's name is none"))?;
        let result = Nothing {}.to_cbor();
        if named.shard.origin == self.state.log_key.origin {
            // rule: TLOG-10
            let newest = self.log.head().checkpoint;
            let ours = newest.checkpoint();
            let root_of = |size| self.log.root_of(ours.shard.number, size).ok();
            let may = self.state.standing.may_recover(&named, ours, root_of);
            let (seen, at_least) = may.map_err(|why| Refused::NotRecovered(why.to_string()))?;
            let recovery = Recovery {
                act: self.act(),
                at_least,
                time: self.clock.now(),
                statement: StatementDigest::of(asked.bytes).0,
                seen,
            };
            return Ok(Plan {
                transaction: Transaction::new()
                    .put(records::LOG_RECOVERY, recovery.to_cbor())
                    .delete(records::LOG_ROLLED_BACK),
                result,
                change: Change::Recovered(recovery),
            });
        }
        if named.shard.origin != self.state.broker_log.key().origin {
            let why = "the shard is neither of this server's log nor of the broker's";
            return Err(invalid(why));
        }
        // rule: TLOG-7
        if !self.state.broker_log.is_forked() {
            let why = "nothing is known against the broker's log: there is nothing to recover";
            return Err(Refused::NotRecovered(why.to_owned()));
        }
        let remembered = BrokerLog::vouched(named);
        Ok(Plan {
            transaction: Transaction::new()
                .put(records::BROKER_LOG, remembered.to_cbor())
                .delete(records::BROKER_FORK),
            result,
            change: Change::BrokerRecovered(remembered),
        })
    }

    /// Begins the shard that a committed recovery asks for.
    pub(super) async fn recovered(&self, recovery: &Recovery) -> Result<(), Refused> {
        // rule: TLOG-10
        let begun = recovery.finish(&self.log).await?;
        let shard = begun.checkpoint().checkpoint().shard.number;
        self.state.standing.recovered(shard);
        tracing::warn!(shard, "the log goes on in a new shard, as security says");
        let done = Transaction::new().delete(records::LOG_RECOVERY);
        if let Err(error) = self.store.commit(done).await {
            // It is found done at the next start.
            tracing::warn!(%error, "a recovery that is done stays in the store");
        }
        self.catch_up().await;
        Ok(())
    }
}

impl Service {
    /// Finishes a recovery that was committed, where the log could not be written then.
    pub(super) async fn finish_recovery(&self) {
        if self.state.standing.check().is_ok() {
            return;
        }
        match recovery(&*self.store).await {
            Ok(Some(recovery)) => {
                if let Err(error) = self.recovered(&recovery).await {
                    tracing::error!(%error, "a recovery is still to be done");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a recovery could not be looked for"),
        }
    }
}

/// The recovery that was committed, if it may not be done.
pub(super) async fn recovery(store: &dyn Store) -> Result<Option<Recovery>, StartError> {
    kept(store, records::LOG_RECOVERY).await
}

/// A record that there may be.
pub(super) async fn kept<T: Decode>(store: &dyn Store, key: &str) -> Result<Option<T>, StartError> {
    let Some(entry) = store.get(key.as_bytes()).await? else {
        return Ok(None);
    };
    // Two notes at most.
    let found = T::from_cbor(&entry.value, 3 * limits::NOTE);
    found
        .map(Some)
        .map_err(|_| StartError::Record(key.to_owned()))
}

fn cut(mut text: String) -> String {
    let mut end = text.len().min(256);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
