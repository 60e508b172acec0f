//! Acts on KEK versions (`spec/vault.md`, section 1), and how each change of one is made.

use store::Transaction;
use store::files::FileError;
use ticket_format::cbor::Encode;
use ticket_format::ids::{DatasetId, KekId};
use ticket_format::limits;
use ticket_format::statement::{
    Act, DatasetCreated, KekDestroy, KekKeep, KekList, KekRotate, KekRow, KekRows, KekSet, KekState,
};
use ticket_format::time::Timestamp;

use super::administer::{Asked, Change, Plan};
use super::{Rng, Service};
use crate::dataset::Dataset;
use crate::records;
use crate::refused::Refused;
use crate::vault::{KekRecord, Pending, VaultError};

const DAY: u64 = 86_400;

/// A rotation that is not committed yet.
pub(super) struct Rotation {
    pub(super) transaction: Transaction,
    pub(super) new: Pending,
    /// What becomes of the version before it.
    pub(super) old: KekRecord,
}

impl Service {
    /// Plans the next version of a dataset's KEK (KEK-2).
    pub(super) fn next_version(
        &self,
        dataset: &Dataset,
        make: impl FnOnce((DatasetId, u64), Timestamp, &mut Rng) -> Pending,
    ) -> Result<Rotation, Refused> {
        // rule: KEK-2
        let versions = self.state.vault.versions(dataset.id);
        let newest = versions.first().ok_or(VaultError::Unknown)?;
        if versions.len() >= limits::KEKS {
            return Err(Refused::Invalid(format!(
                "a dataset has at most {} KEK versions, destroyed ones too: put its objects into a new one",
                limits::KEKS
            )));
        }
        let (number, rng) = (newest.version + 1, &mut super::rng());
        let now = self.clock.now();
        let new = make((dataset.id, number), now, rng);
        let old = match newest.state {
            KekState::Enabled => newest.in_state(KekState::DecryptOnly),
            _ => newest.clone(),
        };
        let (record, numbered) = (new.record(), records::kek_number(dataset.id, number));
        // rule: KEK-1 — whatever becomes of this commit, no two versions share a number.
        let transaction = Transaction::new()
            .absent(numbered.as_str())
            .put(numbered, record.kek.to_cbor())
            .put(record.path(), record.to_cbor())
            .put(old.path(), old.to_cbor());
        Ok(Rotation {
            transaction,
            new,
            old,
        })
    }

    /// The key material of a version that the server makes itself.
    pub(super) fn generated(
        &self,
    ) -> impl FnOnce((DatasetId, u64), Timestamp, &mut Rng) -> Pending {
        |(dataset, number), now, rng| self.state.vault.create_kek(dataset, number, now, rng)
    }

    pub(super) fn rotate(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: KekRotate = asked.statement.body()?;
        let dataset = self.owned(asked, &body.name)?;
        // rule: KEK-2, ADM-5
        if self.state.vault.current(dataset.id)?.id != body.replaces {
            return Err(Refused::StaleKek);
        }
        let Rotation {
            transaction,
            new,
            old,
        } = self.next_version(&dataset, self.generated())?;
        Ok(Plan {
            transaction,
            result: self.created(new.record())?.to_cbor(),
            change: Change::Rotated { new, old },
        })
    }

    pub(super) async fn set_kek(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: KekSet = asked.statement.body()?;
        let dataset = self.owned(asked, &body.name)?;
        let (record, newest) = self.version(dataset.id, body.kek)?;
        // rule: KEK-1
        let state = match record.state {
            KekState::PendingDestruction => return Err(VaultError::Pending.into()),
            KekState::Destroyed => return Err(VaultError::State.into()),
            _ if !body.usable => KekState::Disabled,
            // rule: IMP-3
            _ if record.expired(self.clock.now()) => {
                return Err(Refused::Invalid(
                    "the version has expired: whoever has its material imports it once more, with another expiry"
                        .to_owned(),
                ));
            }
            _ if newest => KekState::Enabled,
            _ => KekState::DecryptOnly,
        };
        self.kek_change(record.in_state(state)).await
    }

    pub(super) async fn list_keks(&self, body: KekList) -> Result<Plan, Refused> {
        let dataset = self.dataset_named(&body.name)?;
        // rule: INV-1
        self.inventory.settled().await?;
        let rows = self.state.vault.versions(dataset.id);
        let mut listed = Vec::with_capacity(rows.len());
        for record in &rows {
            listed.push(self.row(record).await?);
        }
        Ok(Plan::reading(&KekRows { rows: listed }))
    }

    pub(super) async fn destroy_kek(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: KekDestroy = asked.statement.body()?;
        let dataset = self.dataset_named(&body.name)?;
        let (record, newest) = self.version(dataset.id, body.kek)?;
        // rule: KEK-4
        if newest {
            return Err(Refused::Invalid(
                "the newest KEK version of a dataset cannot be destroyed: rotate first".to_owned(),
            ));
        }
        match record.state {
            KekState::DecryptOnly | KekState::Disabled => {}
            KekState::PendingDestruction => return Err(VaultError::Pending.into()),
            KekState::Enabled | KekState::Destroyed => return Err(VaultError::State.into()),
        }
        self.inventory.settled().await?;
        let named = self.inventory.dependants(record.kek).await?;
        // rule: KEK-4, ADM-5
        if named != (body.wraps, body.dependants) {
            return Err(Refused::StaleWraps);
        }
        let then = self.clock.now().plus(body.days * DAY);
        self.kek_change(record.pending(then)).await
    }

    pub(super) async fn keep_kek(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: KekKeep = asked.statement.body()?;
        let dataset = self.dataset_named(&body.name)?;
        let (record, _) = self.version(dataset.id, body.kek)?;
        // rule: KEK-4
        if record.state != KekState::PendingDestruction || due(&record, self.clock.now()) {
            return Err(VaultError::State.into());
        }
        self.kek_change(record.in_state(KekState::Disabled)).await
    }

    /// A version of a dataset, and whether it is the newest.
    pub(super) fn version(
        &self,
        dataset: DatasetId,
        kek: KekId,
    ) -> Result<(KekRecord, bool), Refused> {
        let versions = self.state.vault.versions(dataset);
        let place = versions.iter().position(|record| record.kek == kek);
        let place = place.ok_or(VaultError::Unknown)?;
        Ok((versions[place].clone(), place == 0))
    }

    async fn kek_change(&self, record: KekRecord) -> Result<Plan, Refused> {
        self.inventory.settled().await?;
        Ok(Plan {
            transaction: Transaction::new().put(record.path(), record.to_cbor()),
            result: self.row(&record).await?.to_cbor(),
            change: Change::Kek(record),
        })
    }

    async fn row(&self, record: &KekRecord) -> Result<KekRow, Refused> {
        let counts = self.inventory.counts(record.kek);
        let newest = self.state.vault.current(record.dataset)?.id == record.kek;
        let (wraps, dependants) = if newest {
            // It cannot be destroyed, and changes with every request.
            (counts.wraps, [0; 32])
        } else {
            self.inventory.dependants(record.kek).await?
        };
        Ok(KekRow {
            kek: record.kek,
            version: record.version,
            state: record.state,
            origin: record.origin,
            created: record.created,
            public_key: record.public.clone(),
            wraps,
            dependants,
            last_used: counts.last_used,
            destroyed: record.destroyed,
            // rule: INV-2
            since: self
                .inventory
                .since()
                .filter(|since| *since > record.created),
            provenance: record.provenance.clone(),
            expiry: record.expiry,
        })
    }

    /// What an admin learns of a new version.
    pub(super) fn created(&self, record: &KekRecord) -> Result<DatasetCreated, Refused> {
        Ok(DatasetCreated {
            dataset: record.dataset,
            kek: record.kek,
            kek_version: record.version,
            public_key: record.public.clone().ok_or(VaultError::State)?,
            server_key: self.state.signing.public(),
            log_key: self.state.log_key.clone(),
        })
    }

    /// Writes the key material of a version that the store is about to name.
    pub(super) async fn write_key_file(&self, new: &Pending) -> Result<(), Refused> {
        // rule: KEK-5, ROOT-7 — nothing more is sealed under a root key that may be replaced by now.
        self.roots.settled()?;
        let (files, record, sealed) = (
            self.key_files.clone(),
            new.record().clone(),
            new.sealed.clone(),
        );
        on_disk(move || files.create(&record, &sealed)).await
    }

    /// Erases the key material of a version that the store does not name: never, or no more.
    pub(super) async fn erase_key_file(&self, record: &KekRecord) -> Result<(), Refused> {
        let (files, record) = (self.key_files.clone(), record.clone());
        on_disk(move || files.erase(&record)).await
    }

    /// A change that was not committed: its key material is nobody's.
    pub(super) async fn undo(&self, change: Change) {
        let change = match change {
            Change::Rekeyed(rekeyed) => return self.not_rekeyed(*rekeyed).await,
            Change::BackedUp(_) => return self.discard_backup().await,
            change => change,
        };
        let Some(new) = change.new_kek() else { return };
        if let Err(error) = self.erase_key_file(new.record()).await {
            tracing::warn!(%error, kek = %new.record().kek, "key material that nothing names stays: it was never in use");
        }
    }
}

/// Whether a destruction's time has come.
pub(super) fn due(record: &KekRecord, now: Timestamp) -> bool {
    record.destroyed.is_some_and(|then| then <= now)
}

/// Whether an act changes KEK versions or their files: one at a time.
pub(super) fn changes_keks(act: Act) -> bool {
    matches!(
        act,
        Act::DatasetCreate
            | Act::KekRotate
            | Act::KekSet
            | Act::KekDestroy
            | Act::KekKeep
            | Act::KekImport
            | Act::KekExport
            | Act::Rekey
    )
}

/// Does it on a thread where it may block.
async fn on_disk(
    work: impl FnOnce() -> Result<(), FileError> + Send + 'static,
) -> Result<(), Refused> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::error!(%error, "key material could not be written or erased");
            Err(Refused::KeyFile)
        }
        Err(_) => Err(Refused::Internal("a file was not written or erased")),
    }
}

impl Change {
    /// The version whose key material must be on disk before the change is committed.
    pub(super) fn new_kek(&self) -> Option<&Pending> {
        match self {
            Self::Created { kek: new, .. } | Self::Rotated { new, .. } => Some(new),
            _ => None,
        }
    }
}
