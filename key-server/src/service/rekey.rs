//! A new root key in place of the one in use, without a moment's pause (ROOT-7).
//!
//! prepare it, whole, beside the old -> commit the statement, which decides -> say on disk that it is in
//! force -> take it into memory. A start after the commit goes on where a crash left off.

use std::sync::Arc;

use store::root::{Holders, Means, Prepared, RootDir, RootError, Ways};
use store::{Store, Transaction};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, RootId};
use ticket_format::statement::{Rekey, RootView};

use super::administer::{Asked, Change, Plan};
use super::roots::within;
use super::start::StartError;
use super::{Service, rng};
use crate::records;
use crate::refused::Refused;
use crate::vault::KekRecord;

/// Records of KEK versions that one commit rewrites.
const RECORDS: usize = 64;

/// A root key that is about to be in force.
pub(super) struct Rekeyed {
    prepared: Prepared,
}

impl Rekeyed {
    /// The record of the root key's change, beside the statement's own.
    pub(super) fn record(entry: &Entry, act: ActId) -> Entry {
        let mut record = Entry::new(act, Kind::Root, entry.time).follows(entry.act);
        record.signers.clone_from(&entry.signers);
        record
    }
}

/// The ways to the root key that is in force, after what a crash of a rekey left undone.
///
/// # Errors
/// [`StartError`]: the store, or the root key's files.
pub async fn root_ways(store: &dyn Store, roots: RootDir) -> Result<Ways, StartError> {
    // rule: ROOT-7
    let decided = match store.get(records::REKEYED.as_bytes()).await? {
        None => None,
        Some(entry) => Some(
            RootId::from_cbor(&entry.value, 32)
                .map_err(|_| StartError::Record(records::REKEYED.to_owned()))?,
        ),
    };
    let opened = tokio::task::spawn_blocking(move || {
        if let Some(root) = decided
            && roots.finish(root)?
        {
            tracing::warn!(%root, "a crash ended a rekey that was decided: its root key is in force now");
        }
        roots.ways()
    });
    let opened = opened.await.map_err(|_| StartError::Aborted)?;
    Ok(opened?)
}

impl Service {
    /// Plans the root key's replacement: the new one is whole on disk when this returns.
    pub(super) async fn rekey(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let body: Rekey = asked.statement.body()?;
        let ways = self.roots.ways();
        // rule: ROOT-7, ADM-5
        if body.replaces != ways.root() {
            return Err(Refused::StaleRoot);
        }
        self.roots.settled()?;
        let holders = Holders::new(body.threshold, body.holders)
            .map_err(|error| Refused::Invalid(error.to_string()))?;
        // What the last rekey sealed anew is told of by its list, which ends with this one.
        self.name_key_files(&ways).await?;
        // rule: KEK-5 — what is destroyed is not carried over to the new root key.
        for record in self.state.vault.records() {
            if record.file.is_none() {
                self.erase_key_file(&record).await?;
            }
        }
        let _turn = self.roots.automatic.lock().await;
        let (root, means) = (self.state.vault.root(), self.roots.means.clone());
        let place = self.roots.place.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            ways.prepare(&root, &place, &means, &holders, &mut rng())
        });
        let prepared = within(prepared)
            .await?
            .map_err(|error| cannot(&self.roots.means, &error))?;
        // rule: ROOT-7 — what is not carried over would be lost with the old root key.
        if let Some(missing) = self.not_carried_over(&prepared) {
            self.not_rekeyed(Rekeyed { prepared }).await;
            return Err(Refused::Invalid(format!(
                "nothing changed: {missing} is missing on disk or is not what this server works with; put it back from a backup first"
            )));
        }
        Ok(Plan {
            transaction: Transaction::new().put(records::REKEYED, prepared.root().to_cbor()),
            // What it shows is known when it is in force.
            result: Vec::new(),
            change: Change::Rekeyed(Box::new(Rekeyed { prepared })),
        })
    }

    /// The first of the sealed files that the server needs and that a new root key does not have.
    fn not_carried_over(&self, prepared: &Prepared) -> Option<String> {
        let named = self.state.vault.records().into_iter();
        let mut lost = named.filter(|record| {
            record
                .file
                .is_some_and(|file| prepared.replaced(&file).is_none())
        });
        if let Some(record) = lost.next() {
            return Some(format!("the key material of {}", record.path()));
        }
        let keys = prepared.sealed().join("keys");
        let own = self.roots.keys.iter();
        let mut lost = own.filter(|name| !keys.join(name).is_file());
        lost.next()
            .map(|name| format!("the server's key {}", name.display()))
    }

    /// Puts the root key in force whose statement is committed.
    pub(super) async fn rekeyed(&self, rekeyed: Rekeyed) -> Result<RootView, Refused> {
        // rule: ROOT-7
        let switched = tokio::task::spawn_blocking(move || rekeyed.prepared.switch()).await;
        let switched = switched.map_err(|_| Refused::Internal("a root key was not put in force"));
        let (ways, root) = switched?.map_err(|error| {
            tracing::error!(%error, "start the server again");
            Refused::Internal("which root key is in force is known after a restart")
        })?;
        self.state.vault.rekeyed(root);
        self.key_files.move_to(ways.sealed().join("kek"));
        tracing::warn!(root = %ways.root(), "the root key was replaced");
        self.roots.replace(ways, self.clock.monotonic());
        if let Err(error) = self.name_key_files(&self.roots.ways()).await {
            tracing::warn!(%error, "the next start, or rekey, names the key files anew");
        }
        Ok(self.show_root())
    }

    /// Erases a root key whose statement was not committed.
    pub(super) async fn not_rekeyed(&self, rekeyed: Rekeyed) {
        // rule: ROOT-7
        let undone = tokio::task::spawn_blocking(move || rekeyed.prepared.undo()).await;
        if undone.is_err() {
            tracing::warn!("a root key that is not used stays until the next start");
        }
        self.roots.settle();
    }

    /// As a backup needs it: the records name the key files as they stand.
    pub(super) async fn key_files_named(&self, ways: &Arc<Ways>) -> Result<(), Refused> {
        if renamed(self.state.vault.records(), ways).is_empty() {
            return Ok(());
        }
        let _turn = self.keks.lock().await;
        self.name_key_files(ways).await
    }

    /// Has the records of KEK versions name the key files that a rekey sealed anew (KEK-5).
    async fn name_key_files(&self, ways: &Arc<Ways>) -> Result<(), Refused> {
        // rule: KEK-5, ROOT-7
        let changed = renamed(self.state.vault.records(), ways);
        put_records(&*self.store, &changed).await?;
        for record in &changed {
            self.state.vault.update(record);
        }
        Ok(())
    }
}

/// Rewrites records of KEK versions.
pub(super) async fn put_records(
    store: &dyn Store,
    records: &[KekRecord],
) -> Result<(), store::Error> {
    for records in records.chunks(RECORDS) {
        let put = |put: Transaction, record: &KekRecord| put.put(record.path(), record.to_cbor());
        let transaction = records.iter().fold(Transaction::new(), put);
        store.commit(transaction).await?;
    }
    Ok(())
}

/// The records whose key file a rekey sealed anew, with the new one's digest.
pub(super) fn renamed(records: Vec<KekRecord>, ways: &Ways) -> Vec<KekRecord> {
    let renamed = records.into_iter().filter_map(|mut record| {
        record.file = Some(ways.replaced(&record.file?)?);
        Some(record)
    });
    renamed.collect()
}

/// Why there is no new root key, and what it takes.
fn cannot(means: &Means, error: &RootError) -> Refused {
    tracing::error!(%error, "the root key could not be replaced");
    let takes = match means {
        Means::Credential(_) => "its credential file must be there",
        Means::Passphrase(_) => "its passphrase file must be there",
        Means::Pkcs11(_) => {
            "the token must answer, and what its library reads and writes stand under [sandbox]"
        }
        Means::Tpm2(_) => "the TPM must answer to tpm2-tools",
    };
    Refused::Invalid(format!(
        "nothing changed: {error}; the automatic way is used for it: {takes}"
    ))
}
