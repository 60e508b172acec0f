//! Administer: acts are admins' statements (spec/protocol.md, section 9).
//!
//! verify the statement by the set in force -> plan the act -> commit it with the statement's use and
//! the record in the outbox, if the same set is in force still -> drain -> take it into memory -> answer.

use std::sync::Arc;

use audit_log::guard::Recovery;
use store::{Error, Outcome, Revision, Transaction};
use ticket_format::cbor::{DecodeError, Encode};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, DatasetId};
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::{
    Act, Admin, AdminSet, ReceivedStatement, Role, RootShow, StatementRefusal, Status,
    VerifiedStatement,
};
use ticket_format::time::Timestamp;

use super::backups::BackedUp;
use super::keks::changes_keks;
use super::logs::may_be_done;
use super::rekey::Rekeyed;
use super::{Failed, Service};
use crate::broker_log::Remembered;
use crate::dataset::{CanaryDeks, Dataset, DatasetState};
use crate::records;
use crate::refused::Refused;
use crate::state::Connection;
use crate::vault::import::ImportKeys;
use crate::vault::{KekRecord, Pending};

/// What an act will do, once it is committed.
pub(super) struct Plan {
    pub(super) transaction: Transaction,
    /// The answer's result, of the act's own shape.
    pub(super) result: Vec<u8>,
    pub(super) change: Change,
}

/// Why an act is not answered as done.
enum NotDone {
    /// Nothing was committed.
    Refused(Refused),
    /// It was committed, or may have been, with its entry in the outbox.
    Committed(Refused),
}

impl From<Refused> for NotDone {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What changes in memory.
pub(super) enum Change {
    Nothing,
    Created {
        id: DatasetId,
        state: DatasetState,
        policy: String,
        kek: Pending,
    },
    Changed {
        id: DatasetId,
        state: DatasetState,
        policy: String,
        canary_deks: Arc<CanaryDeks>,
    },
    /// A KEK version more.
    Rotated {
        new: Pending,
        old: KekRecord,
    },
    /// A KEK version in another state.
    Kek(KekRecord),
    /// A dataset has keys that material is wrapped to.
    ImportBegun(DatasetId, Arc<ImportKeys>, crate::imports::Turn),
    /// A KEK version's material is given out.
    Exported(KekRecord),
    Admins {
        set: Arc<AdminSet>,
        statement: Vec<u8>,
    },
    /// This server's log goes on in a new shard.
    Recovered(Recovery),
    /// The server forgets its root key.
    Sealed,
    /// Another root key, with the record of it.
    Rekeyed(Box<Rekeyed>),
    /// A backup can be fetched, with the record of it.
    BackedUp(BackedUp),
    /// The broker's log goes on where admins say.
    BrokerRecovered(Remembered),
}

impl Plan {
    pub(super) fn reading(result: &impl Encode) -> Self {
        Self {
            transaction: Transaction::new(),
            result: result.to_cbor(),
            change: Change::Nothing,
        }
    }

    fn dataset(&self) -> Option<DatasetId> {
        match &self.change {
            Change::Nothing
            | Change::Admins { .. }
            | Change::Recovered(_)
            | Change::Sealed
            | Change::Rekeyed(_)
            | Change::BackedUp(_)
            | Change::BrokerRecovered(_) => None,
            Change::Created { id, .. }
            | Change::Changed { id, .. }
            | Change::ImportBegun(id, ..) => Some(*id),
            Change::Rotated { old: record, .. }
            | Change::Kek(record)
            | Change::Exported(record) => Some(record.dataset),
        }
    }
}

/// A verified statement, with the set that it was verified by.
pub(super) struct Asked<'a> {
    pub(super) statement: &'a VerifiedStatement,
    pub(super) set: &'a AdminSet,
    pub(super) bytes: &'a [u8],
}

impl Service {
    pub(super) async fn administer(
        &self,
        connection: &Connection,
        request: &RequestView<'_>,
    ) -> Result<Answer, Failed> {
        if !request.proofs.is_empty() {
            return Err(Failed::stranger(DecodeError::OutOfRange("proofs")));
        }
        let now = self.clock.now();
        let entry = self.statement_entry(connection, request.body);
        // rule: SET-2 — read once: everything about this statement is judged by the same set.
        let set = self.state.admins.current();
        // rule: ADM-1, ADM-2, REF-2 — a statement that is not for this server now says nothing of who
        // brings it: statements may be public, and are kept by others.
        let received = ReceivedStatement::parse(request.body).map_err(Failed::stranger)?;
        let signers = received.signed_by(&set).map_err(Failed::stranger)?;
        let entry = signed_by(entry, &signers);
        let verified = received.verify(&set, &self.state.realm, Some(&self.state.tls_key), now);
        let statement = match verified {
            Ok(statement) => statement,
            // Admins tried alone what they may only do together: that is worth a line of its own.
            Err(refused @ (StatementRefusal::Quorum { .. } | StatementRefusal::NoQuorum(_))) => {
                return Err(Failed::known(refused, entry));
            }
            Err(refused) => return Err(Failed::stranger(refused)),
        };
        // rule: BAK-4, ADM-2 — a record for everyone names what it follows, and is brought again.
        let spent = self.state.may_be_spent(statement.not_before());
        if spent && statement.expires() != Timestamp::LAST {
            return Err(Failed::stranger(Refused::SpentStatement));
        }
        if let Err(error) = self.state.latest.see(now) {
            return Err(Failed::known(error, entry));
        }
        // rule: TLOG-10
        if let Err(error) = self.state.standing.check()
            && !may_be_done(statement.act())
        {
            return Err(Failed::known(error, entry));
        }
        let asked = Asked {
            statement: &statement,
            set: &set,
            bytes: request.body,
        };
        match self.act_on(&asked, entry.clone()).await {
            Ok(answer) => Ok(Answer::done(Verb::Administer, &answer)),
            // A statement for everyone, of an act of another server's, is public.
            Err(NotDone::Refused(Refused::Act)) => Err(Failed::stranger(Refused::Act)),
            Err(NotDone::Refused(Refused::Replayed))
                if self.counted.first_replay(statement.id()) =>
            {
                let mut alarm = entry;
                (alarm.kind, alarm.alarm) = (Kind::Alarm, Some(Alarm::StatementReplayed));
                Err(Failed::alarm(Refused::Replayed, alarm))
            }
            Err(NotDone::Refused(Refused::Replayed)) => Err(Failed::stranger(Refused::Replayed)),
            Err(NotDone::Refused(refused)) => Err(Failed::known(refused, entry)),
            Err(NotDone::Committed(refused)) => Err(Failed::committed(refused)),
        }
    }

    fn statement_entry(&self, connection: &Connection, bytes: &[u8]) -> Entry {
        let digest = ticket_format::ids::StatementDigest::of(bytes);
        let entry = Entry::new(self.act(), Kind::Statement, self.clock.now()).proof(digest.0);
        match connection.source {
            Some(source) => entry.source(source),
            None => entry,
        }
    }

    async fn act_on(&self, asked: &Asked<'_>, entry: Entry) -> Result<AdministerAnswer, NotDone> {
        let Asked {
            statement,
            set,
            bytes,
        } = *asked;
        // rule: ADM-2 — asked here so that a replay is told as one; the commit holds it.
        let used = records::statement(statement.id());
        let known = self.store.get(used.as_bytes()).await;
        if known.map_err(Refused::from)?.is_some() {
            return Err(Refused::Replayed.into());
        }
        // rule: KEK-1 — planned by what is committed, and by nothing that another act is about to change.
        let _turn = if changes_keks(statement.act()) {
            Some(self.keks.lock().await)
        } else {
            None
        };
        let mut plan = self.plan_act(asked).await?;
        let entry = match plan.dataset() {
            Some(dataset) => entry.dataset(dataset),
            None => entry,
        };
        let act = entry.act;
        let alarm = match &plan.change {
            Change::Rekeyed(_) => Some(Rekeyed::record(&entry, self.act())),
            Change::BackedUp(made) => Some(made.record(&entry)),
            change => self.alarm_of(change, &entry),
        };
        // rule: ADM-2, ADM-3, AUD-2
        let kept = (!statement.act().only_reads()).then_some(bytes);
        // rule: SET-2 — a signature of an admin that is removed meanwhile counts nowhere any more.
        let next_set = records::admin_set(set.version().saturating_add(1));
        let transaction = plan.transaction.absent(next_set.as_str());
        let mut transaction =
            records::put_statement(transaction, statement.id(), statement.expires(), kept)
                .put(records::outbox(act), entry.to_cbor())
                .put(records::TIME, self.state.latest.get().to_cbor());
        if let Some(alarm) = &alarm {
            transaction = transaction.put(records::outbox(alarm.act), alarm.to_cbor());
        }
        if let Some(new) = plan.change.new_kek() {
            self.write_key_file(new).await?;
        }
        if let Change::Rekeyed(_) = &plan.change {
            self.roots.unsettle();
        }
        let committed = match self.store.commit(transaction).await {
            Ok(Outcome::Committed(revision)) => Ok(revision),
            Ok(Outcome::Conflict { key }) => Err(NotDone::Refused(if key == used.as_bytes() {
                Refused::Replayed
            } else if key == next_set.as_bytes() {
                Refused::OtherSet
            } else if key.starts_with(b"dataset-name/") {
                Refused::Exists
            } else {
                Refused::Raced
            })),
            Err(error @ (Error::OutcomeUnknown { .. } | Error::MustReopen { .. })) => {
                self.committed_after_all(act, &used, error).await
            }
            Err(error) => Err(NotDone::Refused(error.into())),
        };
        let revision = match committed {
            Ok(revision) => revision,
            Err(not_done) => {
                if matches!(not_done, NotDone::Refused(_)) {
                    self.undo(plan.change).await;
                }
                return Err(not_done);
            }
        };
        // From here on the act is done, and its entry in the outbox is the only one.
        if let Change::Recovered(recovery) = &plan.change {
            let begun = self.recovered(recovery).await;
            begun.map_err(NotDone::Committed)?;
        }
        if let Change::Rekeyed(rekeyed) = plan.change {
            let view = self.rekeyed(*rekeyed).await;
            plan.result = view.map_err(NotDone::Committed)?.to_cbor();
            plan.change = Change::Nothing;
        }
        self.take_over(plan.change, revision)
            .map_err(NotDone::Committed)?;
        let drained = self.drain(&entry).await;
        let receipt = drained.map_err(NotDone::Committed)?;
        if let Some(alarm) = alarm
            && let Err(error) = self.drain(&alarm).await
        {
            tracing::error!(%act, %error, "an alarm waits in the outbox");
        }
        if statement.act() == Act::SealServer {
            self.end_sealed();
        }
        // rule: DEN-9
        if statement.act() == Act::AdminSet
            && let Err(error) = self.reconsider().await
        {
            tracing::warn!(%error, "liftings are looked at again in a minute");
        }
        let subject = entry.subject.as_deref().unwrap_or_default();
        tracing::info!(%act, exchange = "administer", admin = subject, statement = statement.act().name(), "done");
        Ok(AdministerAnswer {
            result: plan.result,
            receipt,
        })
    }

    /// Reads back whether a commit with an unknown outcome was kept: its entry is in the outbox then.
    async fn committed_after_all(
        &self,
        act: ActId,
        used: &str,
        error: Error,
    ) -> Result<Revision, NotDone> {
        if let Ok(Some(kept)) = self.store.get(records::outbox(act).as_bytes()).await {
            return Ok(kept.revision);
        }
        // The outbox may have been drained just now; the statement's use stays.
        match self.store.get(used.as_bytes()).await {
            Ok(None) => Err(NotDone::Refused(error.into())),
            Ok(Some(_)) | Err(_) => Err(NotDone::Committed(error.into())),
        }
    }

    async fn plan_act(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let statement = asked.statement;
        match statement.act() {
            Act::DatasetCreate => self.create(asked),
            Act::DatasetPolicySet => self.set_policy(asked),
            Act::ProducerAdd => self.add_producer(asked),
            Act::DatasetSet => self.set_options(asked),
            Act::DatasetOwnersSet => self.set_owners(asked),
            Act::CanarySet => self.set_canary(asked),
            Act::DatasetList => self.list(&statement.body()?),
            Act::DatasetShow => self.show(&statement.body()?),
            Act::AdminSet => self.set_admins(asked),
            Act::AdminSetShow => self.show_admins(&statement.body()?),
            Act::Exposure => self.exposure(statement.body()?).await,
            Act::EntryShow => self.show_entry(statement.body()?).await,
            Act::LogShow => self.show_log(asked),
            Act::LogRecover => self.recover_log(asked),
            Act::RootShow => {
                let RootShow {} = statement.body()?;
                Ok(Plan::reading(&self.show_root()))
            }
            Act::ShareGive => self.drill(asked).await,
            Act::SealServer => self.seal(asked),
            Act::Rekey => self.rekey(asked).await,
            Act::KekRotate => self.rotate(asked),
            Act::KekSet => self.set_kek(asked).await,
            Act::KekList => self.list_keks(statement.body()?).await,
            Act::KekDestroy => self.destroy_kek(asked).await,
            Act::KekKeep => self.keep_kek(asked).await,
            Act::WrapList => self.list_wraps(statement.body()?).await,
            Act::ImportBegin => self.begin_import(asked).await,
            Act::KekImport => self.import_kek(asked).await,
            Act::KekExport => self.export_kek(asked),
            Act::BackupBegin => self.begin_backup(asked).await,
            Act::BackupPart => self.backup_part(asked).await,
            Act::Status => {
                let StatusShow {} = statement.body()?;
                Ok(Plan::reading(&self.status()))
            }
            Act::LaunchCreate
            | Act::LaunchList
            | Act::LaunchShow
            | Act::LaunchClose
            | Act::PolicySet
            | Act::PolicyShow
            | Act::WhatIf
            | Act::AliasSet
            | Act::AliasList
            | Act::DatasetRecord
            | Act::NodeList
            | Act::NodeShow
            | Act::NodeUnfreeze
            | Act::Deny
            | Act::DenyList
            | Act::Undeny
            | Act::FeedShow
            | Act::TicketShow
            | Act::Propose
            | Act::ProposalList
            | Act::ProposalShow
            | Act::ProposalWithdraw
            | Act::TicketKeyMake
            | Act::TicketKeySet
            | Act::TicketKeyList
            | Act::Restore => Err(Refused::Act),
        }
    }

    fn status(&self) -> Status {
        let permit = self.state.gate.permit();
        let left = self.state.lease_left(self.clock.monotonic());
        Status {
            role: Role::KeyServer,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            now: self.clock.now(),
            epoch: permit.epoch().number(),
            chain: permit.epoch().chain(),
            entries: self.entries(),
            lease_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            datasets: self.state.datasets.len() as u64,
            holders: self.state.budgets.len() as u64,
        }
    }

    fn take_over(&self, change: Change, revision: Revision) -> Result<(), Refused> {
        let (id, state, policy, canary_deks) = match change {
            Change::Nothing
            | Change::Recovered(_)
            | Change::Sealed
            | Change::Rekeyed(_)
            | Change::BackedUp(_) => return Ok(()),
            Change::BrokerRecovered(remembered) => {
                self.state.broker_log.recovered(remembered);
                return Ok(());
            }
            Change::Admins { set, statement } => {
                self.state.admins.put(set, statement);
                return Ok(());
            }
            Change::Rotated { new, old } => {
                self.state.vault.install(new);
                self.state.vault.update(&old);
                return Ok(());
            }
            Change::Kek(record) => {
                self.state.vault.update(&record);
                return Ok(());
            }
            Change::ImportBegun(_, keys, _turn) => {
                self.imports.put(keys);
                return Ok(());
            }
            Change::Exported(record) => {
                // rule: IMP-4
                self.metrics.exported();
                tracing::warn!(dataset = %record.dataset, kek = %record.kek, version = record.version, "the key material of a KEK version is given out");
                return Ok(());
            }
            Change::Created {
                id,
                state,
                policy,
                kek,
            } => {
                self.state.vault.install(kek);
                (id, state, policy, Arc::default())
            }
            Change::Changed {
                id,
                state,
                policy,
                canary_deks,
            } => (id, state, policy, canary_deks),
        };
        // It was parsed before the commit, so this does not fail.
        let dataset = Dataset::new(id, state, &policy, revision)?.with_canary_deks(canary_deks);
        self.state.datasets.put(Arc::new(dataset));
        Ok(())
    }
}

/// Says who signed: the subject is the first of them.
fn signed_by(entry: Entry, signers: &[Admin]) -> Entry {
    let entry = match signers.first() {
        Some(admin) => entry.subject(&admin.name),
        None => entry,
    };
    entry.signers(signers.iter().map(|admin| admin.name.clone()))
}
