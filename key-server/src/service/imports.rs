//! Acts that bring KEK material here and take it elsewhere (`spec/vault.md`, section 6).

use std::sync::Arc;

use store::Transaction;
use store::root::Holders;
use ticket_format::cbor::Encode;
use ticket_format::ids::StatementDigest;
use ticket_format::statement::{
    ImportBegin, KekExport, KekExported, KekImport, KekState, Provenance,
};
use ticket_format::time::Timestamp;

use super::Service;
use super::administer::{Asked, Change, Plan};
use super::keks::Rotation;
use crate::refused::Refused;
use crate::vault::import::{ImportKeys, Material};
use crate::vault::{BadMaterial, KekRecord, VaultError};

impl From<BadMaterial> for Refused {
    fn from(error: BadMaterial) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl Service {
    /// Makes the keys that material is wrapped to.
    pub(super) async fn begin_import(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: ImportBegin = asked.statement.body()?;
        let dataset = self.owned(asked, &body.name)?;
        let (id, now) = (dataset.id, self.clock.now());
        // rule: IMP-1 — one at a time: an RSA key takes seconds of a core.
        let Some(turn) = self.imports.turn() else {
            return Err(Refused::Busy(
                "the keys of another import are being made: ask again",
            ));
        };
        if !self.imports.have_room(id, now) {
            return Err(Refused::Busy(
                "imports of 16 datasets are open: finish one, or wait until one is over",
            ));
        }
        let made = apart(move || ImportKeys::generate(id, now, &mut super::rng())).await?;
        let keys = made.map_err(|_| Refused::Internal("no RSA key could be made"))?;
        Ok(Plan {
            transaction: Transaction::new(),
            result: keys.begun().to_cbor(),
            change: Change::ImportBegun(id, Arc::new(keys), turn),
        })
    }

    /// Plans the next version of material that was brought, or renews the version that was made of it.
    pub(super) async fn import_kek(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: KekImport = asked.statement.body()?;
        let dataset = self.owned(asked, &body.name)?;
        // rule: IMP-2, ADM-5
        if self.state.vault.current(dataset.id)?.id != body.replaces {
            return Err(Refused::StaleKek);
        }
        let now = self.clock.now();
        // rule: IMP-3
        if body.expiry.is_some_and(|then| then <= now) {
            return Err(Refused::Invalid(
                "the expiry is past: the version would never be usable".to_owned(),
            ));
        }
        let versions = self.state.vault.versions(dataset.id);
        let same = versions.iter().find(|one| one.is_of(&body.commitment));
        if let Some(same) = same {
            renewable(same)?;
        }
        // rule: IMP-1
        let keys = self.imports.find(dataset.id, body.import, now);
        let keys = keys.ok_or(Refused::NoImport)?;
        let material = self.opened(&keys, &body).await?;
        // rule: IMP-2
        material.check(&body.commitment)?;
        let provenance = Provenance {
            how: body.how,
            statement: StatementDigest::of(asked.bytes),
            commitment: body.commitment,
        };
        if let Some(same) = same {
            let newest = versions.first().map(|newest| newest.kek);
            let record = KekRecord {
                provenance: Some(provenance),
                ..renewed(same, newest == Some(same.kek), body.expiry)
            };
            return Ok(Plan {
                transaction: Transaction::new().put(record.path(), record.to_cbor()),
                result: self.created(&record)?.to_cbor(),
                change: Change::Kek(record),
            });
        }
        let Rotation {
            transaction,
            new,
            old,
        } = self.next_version(&dataset, |place, now, rng| {
            let came = (provenance, body.expiry);
            let vault = &self.state.vault;
            vault.import_kek(place, now, &material, came, rng)
        })?;
        Ok(Plan {
            transaction,
            result: self.created(new.record())?.to_cbor(),
            change: Change::Rotated { new, old },
        })
    }

    /// Opens what was brought, and uses the import up: at once where it opens, after a few tries where it
    /// does not.
    async fn opened(&self, keys: &Arc<ImportKeys>, body: &KekImport) -> Result<Material, Refused> {
        let (realm, server) = (self.state.realm.clone(), self.state.tls_key);
        let (of, how, wrapped) = (Arc::clone(keys), body.how, body.wrapped.clone());
        let opened = apart(move || of.open(&realm, server, how, &wrapped)).await?;
        // rule: IMP-1
        if opened.is_some() {
            self.imports.spent(keys);
        } else {
            self.imports.failed(keys);
        }
        opened.ok_or_else(|| {
            Refused::Invalid(
                "the wrapped material does not open: it must be exactly 32 bytes, wrapped to this import's key"
                    .to_owned(),
            )
        })
    }

    /// Seals a version's material to recipients, by security's quorum.
    pub(super) fn export_kek(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: KekExport = asked.statement.body()?;
        let dataset = self.dataset_named(&body.name)?;
        // rule: IMP-4
        if !dataset.state.exportable {
            return Err(Refused::Invalid(
                "the dataset was not made exportable, and that never changes".to_owned(),
            ));
        }
        let (record, _) = self.version(dataset.id, body.kek)?;
        match record.state {
            KekState::PendingDestruction => return Err(VaultError::Pending.into()),
            KekState::Destroyed => return Err(VaultError::State.into()),
            KekState::Enabled | KekState::DecryptOnly | KekState::Disabled => {}
        }
        let holders = Holders::new(body.threshold, body.holders);
        let holders = holders.map_err(|error| Refused::Invalid(error.to_string()))?;
        let vault = &self.state.vault;
        let exported = vault.export(&record, self.state.tls_key, &holders, &mut super::rng());
        let (sealed, shares) = exported?;
        let result = KekExported {
            dataset: dataset.id,
            kek: record.kek,
            version: record.version,
            sealed,
            threshold: holders.threshold(),
            shares,
        };
        Ok(Plan {
            transaction: Transaction::new(),
            result: result.to_cbor(),
            change: Change::Exported(record),
        })
    }
}

/// Whether a version that was made of the same material can be renewed.
fn renewable(same: &KekRecord) -> Result<(), Refused> {
    // rule: IMP-3
    match same.state {
        KekState::Enabled | KekState::DecryptOnly | KekState::Disabled => Ok(()),
        KekState::PendingDestruction => Err(VaultError::Pending.into()),
        KekState::Destroyed => Err(Refused::Invalid(format!(
            "version {} was made of the same material and destroyed: it does not come back",
            same.version
        ))),
    }
}

/// A version with another expiry: in use again, as its place allows, if its expiry had disabled it.
fn renewed(same: &KekRecord, newest: bool, expiry: Option<Timestamp>) -> KekRecord {
    // rule: IMP-3, KEK-1
    let state = match newest {
        _ if !same.lapsed => same.state,
        true => KekState::Enabled,
        false => KekState::DecryptOnly,
    };
    KekRecord {
        expiry,
        ..same.in_state(state)
    }
}

/// Computes on a thread where it holds nobody up.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refused::Internal("a computation ended early"))
}
