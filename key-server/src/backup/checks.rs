//! Whether what was laid down is a key server's, whole (BAK-3).

use std::collections::BTreeMap;
use std::path::Path;

use audit_log::{AuditLog, Options, SideFile, SideOptions};
use store::{RedbStore, Store};
use ticket_format::cbor::Decode as _;
use ticket_format::entry::Entry;
use ticket_format::limits;
use ticket_format::statement::KekState;
use ticket_format::tlog::LogSecret;

use super::BackupError;
use super::lay::{Laid, STORE};
use super::make::SIDE;
use crate::config::{self, INVENTORY, LOG_DIR, Secrets};
use crate::dataset::DatasetState;
use crate::inventory;
use crate::records;
use crate::service::readable;
use crate::vault::{KekRecord, Vault};

/// What is in a backup that was checked.
#[derive(Debug)]
pub struct Checked {
    /// Datasets.
    pub datasets: u64,
    /// KEK versions with their key material.
    pub keks: u64,
    /// KEK versions that are destroyed.
    pub destroyed: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Versions that wait for their destruction: the dataset's name, and the version's number.
    pub pending: Vec<(String, u64)>,
    /// The statements of admin sets, by version.
    pub admin_sets: BTreeMap<u64, Vec<u8>>,
}

fn content(error: impl std::fmt::Display) -> BackupError {
    BackupError::Content(error.to_string())
}

/// Opens everything that a start would open, and compares it with what the store and the header say of it.
///
/// # Errors
/// [`BackupError`]: a key server would not start on it.
pub(super) async fn check(laid: &Laid, dir: &Path) -> Result<Checked, BackupError> {
    // rule: BAK-3
    let header = &laid.header;
    let secrets = config::secrets(&header.realm, &laid.ways, &laid.root).map_err(content)?;
    let Secrets { tls, log, .. } = secrets;
    if tls.public() != header.server {
        return Err(content("its TLS key is another than it says"));
    }
    let path = dir.join(STORE);
    let store = tokio::task::spawn_blocking(move || {
        RedbStore::open(path, store::Options::default()).map_err(content)
    });
    let store = store.await.map_err(content)??;
    let checked = contents(laid, &store).await;
    store.close().await;
    let checked = checked?;
    the_log(laid, dir, log).await?;
    if laid.files.contains_key(SIDE) {
        let path = dir.join(SIDE);
        let opened = tokio::task::spawn_blocking(move || {
            SideFile::open(path, &SideOptions::default()).map_err(content)
        });
        let (side, loss) = opened.await.map_err(content)??;
        side.close().await;
        if loss.is_some_and(|loss| loss.torn > 0) {
            return Err(content("its side file ends in a torn record"));
        }
    }
    if laid.files.contains_key(INVENTORY) {
        let path = dir.join(INVENTORY);
        let opened = tokio::task::spawn_blocking(move || inventory::check(&path).map_err(content));
        opened.await.map_err(content)??;
    }
    if (checked.datasets, checked.keks) != (header.datasets, header.keks) {
        return Err(content(
            "it has other datasets or KEK versions than it says",
        ));
    }
    Ok(checked)
}

/// The store, and the key files that it names.
async fn contents(laid: &Laid, store: &RedbStore) -> Result<Checked, BackupError> {
    let damaged = |key: &[u8]| {
        content(format!(
            "the record {} is damaged",
            String::from_utf8_lossy(key)
        ))
    };
    let mut names = BTreeMap::new();
    for (key, entry) in records::all(store, records::DATASETS).await? {
        let state = DatasetState::from_cbor(&entry.value, limits::SMALL_MESSAGE);
        let state = state.map_err(|_| damaged(&key))?;
        let id = String::from_utf8_lossy(&key[records::DATASETS.len()..]).into_owned();
        names.insert(id, state.name);
    }
    let (mut versions, mut keks, mut pending) = (Vec::new(), 0, Vec::new());
    for (key, entry) in records::all(store, records::KEKS).await? {
        let record = KekRecord::from_cbor(&entry.value, limits::SMALL_MESSAGE);
        let record = record.map_err(|_| damaged(&key))?;
        if key != record.path().as_bytes() {
            return Err(damaged(&key));
        }
        let sealed = match record.file {
            None => None,
            Some(_) => {
                let path = laid.ways.sealed().join(format!("{}.sealed", record.path()));
                keks += 1;
                Some(store::files::read_private(&path, 1_024)?)
            }
        };
        if record.state == KekState::PendingDestruction {
            let name = names.get(&record.dataset.to_string());
            pending.push((name.cloned().unwrap_or_default(), record.version));
        }
        versions.push((record, sealed));
    }
    let named = laid.files.keys().filter(|path| path.starts_with("kek/"));
    if named.count() as u64 != keks {
        return Err(content("it has key material that its store does not name"));
    }
    let destroyed = versions.len() as u64 - keks;
    // rule: KEK-5 — each by the digest that the store has of it, and by the root key.
    let root = laid.root.copy();
    Vault::open(&laid.header.realm, root, versions).map_err(content)?;
    readable(store, laid.header.made).await.map_err(content)?;
    let mut admin_sets = BTreeMap::new();
    for (key, entry) in records::all(store, records::ADMIN_SETS).await? {
        let version = records::version_of(&key).ok_or_else(|| damaged(&key))?;
        admin_sets.insert(version, entry.value);
    }
    Ok(Checked {
        datasets: names.len() as u64,
        keks,
        destroyed,
        entries: laid.header.entries,
        pending,
        admin_sets,
    })
}

/// The log opens, stands where the header says, and every entry that it keeps is one.
async fn the_log(laid: &Laid, dir: &Path, secret: LogSecret) -> Result<(), BackupError> {
    let (path, header) = (dir.join(LOG_DIR), laid.header.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let options = Options {
            publish_every: None,
            ..Options::default()
        };
        let (log, torn) = AuditLog::open(path, secret, &options).map_err(content)?;
        let head = log.head();
        let fits = *head.checkpoint.checkpoint() == header.log && head.entries == header.entries;
        if torn.is_some() || !fits {
            return Err(content("its log stands elsewhere than it says"));
        }
        for record in log.read(log.first_kept()) {
            let record = record.map_err(content)?;
            Entry::from_cbor(&record.entry, limits::ENTRY)
                .map_err(|_| content(format!("entry {} of its log is none", record.index)))?;
        }
        Ok(log)
    });
    opened.await.map_err(content)??.close().await;
    Ok(())
}
