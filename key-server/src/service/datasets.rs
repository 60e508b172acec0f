//! Acts on datasets: who owns them, what they allow, what in them is a canary (SET-5, EXP-2).

use std::sync::Arc;

use store::{Revision, Transaction};
use ticket_format::cbor::Encode;
use ticket_format::ids::DatasetId;
use ticket_format::keys::{AdminKey, ProducerKey};
use ticket_format::statement::datasets::{DatasetList, ProducerAdded, policy_digest};
use ticket_format::statement::{
    AdminRole, AdminSet, Canary, CanarySet, DatasetCreate, DatasetOwnersSet, DatasetPage,
    DatasetPolicySet, DatasetSet, DatasetShow, DatasetView, Nothing, PolicyTextSet, ProducerAdd,
};

use super::Service;
use super::administer::{Asked, Change, Plan};
use crate::dataset::{CANARY_DEKS, CanaryDeks, Dataset, DatasetError, DatasetState};
use crate::records;
use crate::refused::Refused;

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
    pub(super) fn dataset_named(&self, name: &str) -> Result<Arc<Dataset>, Refused> {
        self.state.datasets.named(name).ok_or(Refused::NotFound)
    }

    /// The dataset of this name, if as many of its owners signed as the act needs.
    pub(super) fn owned(&self, asked: &Asked<'_>, name: &str) -> Result<Arc<Dataset>, Refused> {
        let known = self.dataset_named(name)?;
        // rule: SET-5
        let need = asked.set.quorum(asked.statement.act());
        let need = need.ok_or(Refused::Act)?;
        asked.statement.by_owners(&known.state.owners, need)?;
        Ok(known)
    }

    pub(super) fn create(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: DatasetCreate = asked.statement.body()?;
        owners_hold_the_role(asked.set, &body.owners)?;
        body.producers
            .iter()
            .try_for_each(|producer| no_admin(asked.set, producer))?;
        let rng = &mut super::rng();
        let (id, state) = (
            DatasetId::random(rng),
            DatasetState::new(&body, asked.statement.id())?,
        );
        // Parsed here so that a faulty policy is refused with its place, before anything is made.
        Dataset::new(id, state.clone(), &body.policy, Revision::ZERO)?;
        if self.state.datasets.named(&state.name).is_some() {
            return Err(Refused::Exists);
        }
        let kek = self.state.vault.create_kek(id, 1, self.clock.now(), rng);
        let name = records::dataset_name(&state.name);
        let transaction = Transaction::new()
            .absent(name.as_str())
            .absent(records::dataset(id))
            .put(name, id.to_cbor())
            .put(records::dataset(id), state.to_cbor())
            .put(records::policy(id), body.policy.as_bytes())
            .put(records::kek_number(id, 1), kek.record().kek.to_cbor())
            .put(kek.record().path(), kek.record().to_cbor());
        let created = self.created(kek.record())?;
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

    pub(super) fn set_policy(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: DatasetPolicySet = asked.statement.body()?;
        let known = self.owned(asked, &body.name)?;
        // rule: ADM-5
        if body.replaces != known.digest {
            return Err(Refused::StalePolicy);
        }
        Dataset::new(known.id, known.state.clone(), &body.text, Revision::ZERO)?;
        let set = PolicyTextSet {
            digest: policy_digest(&body.text),
        };
        Ok(change(&known, known.state.clone(), body.text, &set))
    }

    pub(super) fn add_producer(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: ProducerAdd = asked.statement.body()?;
        let known = self.owned(asked, &body.name)?;
        no_admin(asked.set, &body.producer)?;
        let state = known.state.clone().with_producer(body.producer)?;
        let added = ProducerAdded {
            producer: body.producer.id(),
        };
        let policy = known.policy.text().to_owned();
        Ok(change(&known, state, policy, &added))
    }

    pub(super) fn set_options(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: DatasetSet = asked.statement.body()?;
        let known = self.owned(asked, &body.name)?;
        let state = known.state.clone().with_options(&body)?;
        self.changed_to(&known, state)
    }

    pub(super) fn set_owners(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: DatasetOwnersSet = asked.statement.body()?;
        let known = self.dataset_named(&body.name)?;
        owners_hold_the_role(asked.set, &body.owners)?;
        let state = DatasetState {
            owners: body.owners,
            ..known.state.clone()
        };
        self.changed_to(&known, state)
    }

    pub(super) fn set_canary(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: CanarySet = asked.statement.body()?;
        let known = self.owned(asked, &body.name)?;
        let mut canaries = CanaryDeks::clone(&known.canary_deks);
        let key = records::canary_dek(known.id, body.dek);
        let policy = known.policy.text().to_owned();
        let mut plan = change(&known, known.state.clone(), policy, &Nothing {});
        if body.canary == Canary::No {
            canaries.remove(&body.dek);
            plan.transaction = plan.transaction.delete(key);
        } else {
            canaries.insert(body.dek, body.canary);
            plan.transaction = plan.transaction.put(key, body.canary.to_cbor());
        }
        if canaries.len() > CANARY_DEKS {
            return Err(DatasetError::Canaries.into());
        }
        if let Change::Changed { canary_deks, .. } = &mut plan.change {
            *canary_deks = Arc::new(canaries);
        }
        Ok(plan)
    }

    pub(super) fn list(&self, body: &DatasetList) -> Result<Plan, Refused> {
        let rows = usize::try_from(body.rows).unwrap_or(1);
        let (rows, more) = self.state.datasets.page(&body.after, rows);
        Ok(Plan::reading(&DatasetPage {
            rows: rows.iter().map(|dataset| dataset.row()).collect(),
            more,
        }))
    }

    pub(super) fn show(&self, body: &DatasetShow) -> Result<Plan, Refused> {
        let dataset = self.dataset_named(&body.name)?;
        Ok(Plan::reading(&self.view(&dataset, dataset.state.clone())?))
    }

    /// A change of the state alone, answered by what the dataset looks like then.
    fn changed_to(&self, known: &Dataset, state: DatasetState) -> Result<Plan, Refused> {
        let view = self.view(known, state.clone())?;
        let policy = known.policy.text().to_owned();
        Ok(change(known, state, policy, &view))
    }

    /// A dataset as it looks with this state.
    fn view(&self, dataset: &Dataset, state: DatasetState) -> Result<DatasetView, Refused> {
        let kek = self.state.vault.current(dataset.id)?;
        Ok(DatasetView {
            rotation: Some(state.rotation),
            class: state.class,
            exportable: Some(state.exportable),
            row: dataset.row(),
            kek: kek.id,
            kek_version: kek.version,
            public_key: kek.public,
            producers: state.producers,
            kems: state.kems,
            max_budget: state.max_budget,
            max_life: state.max_life,
            policy: Some(dataset.policy.text().to_owned()),
            record: None,
            owners: state.owners,
            lease: state.lease,
            evidence: state.evidence,
            canary: Some(state.canary),
            witnessing: state.witnessing,
            log_key: self.state.log_key.clone(),
        })
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
            canary_deks: Arc::clone(&known.canary_deks),
        },
    }
}

/// Owners are admins of the set in force who hold the role.
fn owners_hold_the_role(set: &AdminSet, owners: &[AdminKey]) -> Result<(), Refused> {
    // rule: SET-5
    let holds = |key: &AdminKey| {
        set.admin(key)
            .is_some_and(|admin| admin.roles.contains(&AdminRole::DatasetOwner))
    };
    match owners.iter().find(|key| !holds(key)) {
        None => Ok(()),
        Some(key) => Err(Refused::Invalid(format!(
            "{key} is no admin with the role dataset-owner, and cannot own a dataset"
        ))),
    }
}

/// An admin's key has no other role.
fn no_admin(set: &AdminSet, producer: &ProducerKey) -> Result<(), Refused> {
    // rule: SET-4, SIG-5
    let same = |key: &AdminKey| key.to_bytes() == producer.to_bytes();
    if set.admins().iter().any(|admin| same(&admin.key)) {
        Err(Refused::AdminsKey)
    } else {
        Ok(())
    }
}
