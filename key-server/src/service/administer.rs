//! Administer: acts are admins' statements (spec/protocol.md, section 9).
//!
//! verify the statement -> plan the act -> commit it with the statement's use and the record in the
//! outbox -> drain -> take it into memory -> answer.

use std::sync::Arc;

use store::{Error, Outcome, Revision, Transaction};
use ticket_format::cbor::{DecodeError, Encode};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, DatasetId};
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::statement::datasets::{DatasetList, ProducerAdded, policy_digest};
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::{
    Act, DatasetCreate, DatasetCreated, DatasetPage, DatasetPolicySet, DatasetShow, DatasetView,
    PolicyTextSet, ProducerAdd, ReceivedStatement, Role, Status, VerifiedStatement,
};

use super::{Failed, Service};
use crate::dataset::{Dataset, DatasetError, DatasetState};
use crate::records;
use crate::refused::Refused;
use crate::state::Connection;
use crate::vault::Pending;

/// What an act will do, once it is committed.
struct Plan {
    transaction: Transaction,
    /// The answer's result, of the act's own shape.
    result: Vec<u8>,
    change: Change,
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
enum Change {
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
    },
}

impl Plan {
    fn reading(result: &impl Encode) -> Self {
        Self {
            transaction: Transaction::new(),
            result: result.to_cbor(),
            change: Change::Nothing,
        }
    }

    fn dataset(&self) -> Option<DatasetId> {
        match &self.change {
            Change::Nothing => None,
            Change::Created { id, .. } | Change::Changed { id, .. } => Some(*id),
        }
    }
}

impl From<DatasetError> for Refused {
    fn from(error: DatasetError) -> Self {
        match error {
            DatasetError::ProducerTwice => {
                Self::Invalid("the producer is registered already".to_owned())
            }
            other => Self::Invalid(other.to_string()),
        }
    }
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
        // rule: ADM-1, ADM-2, REF-2 — a statement that is not for this server now says nothing of who
        // brings it: statements may be public, and are kept by others.
        let verified = ReceivedStatement::parse(request.body).and_then(|statement| {
            statement.verify(
                &self.admins,
                &self.state.realm,
                Some(&self.state.tls_key),
                now,
            )
        });
        let statement = verified.map_err(Failed::stranger)?;
        let entry = match statement.signers().first() {
            Some(signer) => entry.subject(signer),
            None => entry,
        };
        if let Err(error) = self.state.latest.see(now) {
            return Err(Failed::known(error, entry));
        }
        match self.act_on(&statement, request.body, entry.clone()).await {
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

    async fn act_on(
        &self,
        statement: &VerifiedStatement,
        bytes: &[u8],
        entry: Entry,
    ) -> Result<AdministerAnswer, NotDone> {
        // rule: ADM-2 — asked here so that a replay is told as one; the commit holds it.
        let used = records::statement(statement.id());
        let known = self.store.get(used.as_bytes()).await;
        if known.map_err(Refused::from)?.is_some() {
            return Err(Refused::Replayed.into());
        }
        let plan = self.plan(statement)?;
        let entry = match plan.dataset() {
            Some(dataset) => entry.dataset(dataset),
            None => entry,
        };
        let act = entry.act;
        // rule: ADM-2, ADM-3, AUD-2
        let kept = (!statement.act().only_reads()).then_some(bytes);
        let transaction =
            records::put_statement(plan.transaction, statement.id(), statement.expires(), kept)
                .put(records::outbox(act), entry.to_cbor())
                .put(records::TIME, self.state.latest.get().to_cbor());
        let revision = match self.store.commit(transaction).await {
            Ok(Outcome::Committed(revision)) => revision,
            Ok(Outcome::Conflict { key }) if key == used.as_bytes() => {
                return Err(Refused::Replayed.into());
            }
            Ok(Outcome::Conflict { key }) if key.starts_with(b"dataset-name/") => {
                return Err(Refused::Exists.into());
            }
            Ok(Outcome::Conflict { .. }) => return Err(Refused::Raced.into()),
            Err(error @ (Error::OutcomeUnknown { .. } | Error::MustReopen { .. })) => {
                self.committed_after_all(act, &used, error).await?
            }
            Err(error) => return Err(Refused::from(error).into()),
        };
        // From here on the act is done, and its entry in the outbox is the only one.
        self.take_over(plan.change, revision)
            .map_err(NotDone::Committed)?;
        let receipt = self
            .drain(act, entry.to_cbor())
            .await
            .map_err(NotDone::Committed)?;
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

    fn plan(&self, statement: &VerifiedStatement) -> Result<Plan, Refused> {
        match statement.act() {
            Act::DatasetCreate => self.create(statement),
            Act::DatasetPolicySet => self.set_policy(&statement.body()?),
            Act::ProducerAdd => self.add_producer(&statement.body()?),
            Act::DatasetList => {
                let DatasetList { after, rows } = statement.body()?;
                let (rows, more) = self
                    .state
                    .datasets
                    .page(&after, usize::try_from(rows).unwrap_or(1));
                Ok(Plan::reading(&DatasetPage {
                    rows: rows.iter().map(|dataset| dataset.row()).collect(),
                    more,
                }))
            }
            Act::DatasetShow => self.show(&statement.body()?),
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
            | Act::DatasetRecord
            | Act::NodeList
            | Act::NodeShow
            | Act::NodeUnfreeze
            | Act::Deny
            | Act::DenyList
            | Act::TicketShow => Err(Refused::Act),
        }
    }

    fn create(&self, statement: &VerifiedStatement) -> Result<Plan, Refused> {
        let body: DatasetCreate = statement.body()?;
        let rng = &mut super::rng();
        let (id, state) = (
            DatasetId::random(rng),
            DatasetState::new(&body, statement.id())?,
        );
        // Parsed here so that a faulty policy is refused with its place, before anything is made.
        Dataset::new(id, state.clone(), &body.policy, Revision::ZERO)?;
        if self.state.datasets.named(&state.name).is_some() {
            return Err(Refused::Exists);
        }
        let kek = self.state.vault.create_kek(id, 1, rng);
        let info = kek.info();
        let name = records::dataset_name(&state.name);
        let transaction = Transaction::new()
            .absent(name.as_str())
            .absent(records::dataset(id))
            .put(name, id.to_cbor())
            .put(records::dataset(id), state.to_cbor())
            .put(records::policy(id), body.policy.as_bytes())
            .put(kek.path.as_str(), kek.record.as_slice());
        let created = DatasetCreated {
            dataset: id,
            kek: info.id,
            kek_version: info.version,
            public_key: info.public,
            server_key: self.state.signing.public(),
        };
        Ok(Plan {
            transaction,
            result: created.to_cbor(),
            change: Change::Created {
                id,
                state,
                policy: body.policy,
                kek,
            },
        })
    }

    fn set_policy(&self, body: &DatasetPolicySet) -> Result<Plan, Refused> {
        let known = self
            .state
            .datasets
            .named(&body.name)
            .ok_or(Refused::NotFound)?;
        Dataset::new(known.id, known.state.clone(), &body.text, Revision::ZERO)?;
        let set = PolicyTextSet {
            digest: policy_digest(&body.text),
        };
        Ok(change(&known, known.state.clone(), body.text.clone(), &set))
    }

    fn add_producer(&self, body: &ProducerAdd) -> Result<Plan, Refused> {
        let known = self
            .state
            .datasets
            .named(&body.name)
            .ok_or(Refused::NotFound)?;
        let state = known.state.clone().with_producer(body.producer)?;
        let added = ProducerAdded {
            producer: body.producer.id(),
        };
        Ok(change(
            &known,
            state,
            known.policy.text().to_owned(),
            &added,
        ))
    }

    fn show(&self, body: &DatasetShow) -> Result<Plan, Refused> {
        let dataset = self
            .state
            .datasets
            .named(&body.name)
            .ok_or(Refused::NotFound)?;
        let kek = self.state.vault.current(dataset.id)?;
        Ok(Plan::reading(&DatasetView {
            row: dataset.row(),
            kek: kek.id,
            kek_version: kek.version,
            public_key: kek.public,
            producers: dataset.state.producers.clone(),
            kems: dataset.state.kems.clone(),
            max_budget: dataset.state.max_budget,
            max_life: dataset.state.max_life,
            policy: Some(dataset.policy.text().to_owned()),
            record: None,
        }))
    }

    fn status(&self) -> Status {
        let permit = self.state.gate.permit();
        let left = self.state.lease.left(self.clock.monotonic());
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
        let (id, state, policy) = match change {
            Change::Nothing => return Ok(()),
            Change::Created {
                id,
                state,
                policy,
                kek,
            } => {
                self.state.vault.install(kek);
                (id, state, policy)
            }
            Change::Changed { id, state, policy } => (id, state, policy),
        };
        // It was parsed before the commit, so this does not fail.
        let dataset = Dataset::new(id, state, &policy, revision)?;
        self.state.datasets.put(Arc::new(dataset));
        Ok(())
    }
}

/// A change of a dataset, if nobody else changes it meanwhile.
fn change(known: &Dataset, state: DatasetState, policy: String, result: &impl Encode) -> Plan {
    let transaction = Transaction::new()
        .at(records::dataset(known.id), known.revision)
        .put(records::dataset(known.id), state.to_cbor())
        .put(records::policy(known.id), policy.as_bytes());
    Plan {
        transaction,
        result: result.to_cbor(),
        change: Change::Changed {
            id: known.id,
            state,
            policy,
        },
    }
}
