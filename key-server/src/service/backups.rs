//! Backups on request (`spec/vault.md`, section 5): made while everything else goes on, fetched in parts.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use store::files::{self, FileError};
use store::root::Ways;
use store::{KeyRange, Snapshot, Transaction};
use ticket_format::backup::Header;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, BackupId};
use ticket_format::keys::AdminKey;
use ticket_format::limits;
use ticket_format::statement::{BACKUP_PART, BackupBegin, BackupMade, BackupPart, BackupPiece};
use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use super::administer::{Asked, Change, Plan};
use super::{Service, rng};
use crate::backup::{BackupError, Sources, write};
use crate::config::DOOR;
use crate::inventory::InventoryCopy;
use crate::records;
use crate::refused::Refused;
use crate::vault::KekRecord;

/// How long a backup is kept for whoever fetches it.
const KEPT: Duration = Duration::from_secs(3_600);
/// How often the state is taken anew, where something changed while it was.
const TRIES: usize = 32;
/// Most bytes of the side file that a backup holds.
const SIDE: u64 = 256 * 1024 * 1024;
/// Most bytes of the inventory's file that a backup holds.
const INVENTORY: u64 = 512 * 1024 * 1024;
/// The directory of the backup, in the data directory.
const DIR: &str = "backup";

/// The backup that can be fetched.
pub(super) struct Backups {
    data: PathBuf,
    /// Who makes one: one at a time, until it is committed or taken back.
    making: Arc<tokio::sync::Mutex<()>>,
    held: Mutex<Option<Held>>,
}

#[derive(Clone)]
struct Held {
    made: BackupMade,
    by: AdminKey,
    since: Duration,
    path: PathBuf,
}

/// A backup that was made and is not committed yet: no other is begun, so that whatever takes it back takes
/// back no other one.
pub(super) struct BackedUp(
    BackupMade,
    #[expect(dead_code, reason = "held")] OwnedMutexGuard<()>,
);

impl BackedUp {
    /// The record of it, beside the statement's own.
    pub(super) fn record(&self, entry: &Entry) -> Entry {
        // rule: BAK-1
        let Self(made, _) = self;
        let mut record = Entry::new(ActId(made.id.0), Kind::Backup, entry.time);
        record.signers.clone_from(&entry.signers);
        record
            .follows(entry.act)
            .proof(made.digest)
            .count(made.size)
    }
}

impl Backups {
    /// Erases what a process before left.
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn at(data: PathBuf) -> Result<Self, FileError> {
        // rule: BAK-1
        files::erase_dir(&data.join(DIR))?;
        Ok(Self {
            data,
            making: Arc::default(),
            held: Mutex::default(),
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backup, if it is this one.
    fn find(&self, id: BackupId, by: &AdminKey) -> Option<Held> {
        let held = self.held();
        let held = held.as_ref()?;
        (held.made.id == id && held.by == *by).then(|| held.clone())
    }
}

/// All of one moment, but for the files that are read when it is over.
struct Moment {
    ways: Arc<Ways>,
    snapshot: Snapshot,
    log: audit_log::LogCopy,
    inventory: Option<InventoryCopy>,
}

impl Service {
    /// Makes a backup, and plans its record.
    pub(super) async fn begin_backup(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let BackupBegin {} = asked.statement.body()?;
        let Ok(turn) = Arc::clone(&self.backups.making).try_lock_owned() else {
            return Err(Refused::Busy("a backup is being made: ask again"));
        };
        let by = asked.statement.signers().first().map(|admin| admin.key);
        let by = by.ok_or(Refused::Internal("a statement that nobody signed"))?;
        self.discard_backup().await;
        // And what one left that was cut off.
        let left = self.backups.data.join(DIR);
        blocking(move || Ok(files::erase_dir(&left)?)).await?;
        let id = BackupId::random(&mut rng());
        let sources = self.sources(id).await?;
        let dir = self.backups.data.join(DIR);
        let path = dir.join(id.to_string());
        let made = {
            let path = path.clone();
            blocking(move || {
                files::private_dir(&dir)?;
                write(sources, &path, &mut rng())
            })
            .await?
        };
        let made = BackupMade {
            id,
            size: made.size,
            parts: made.size.div_ceil(BACKUP_PART as u64),
            digest: made.digest,
        };
        *self.backups.held() = Some(Held {
            made: made.clone(),
            by,
            since: self.clock.monotonic(),
            path,
        });
        Ok(Plan {
            transaction: Transaction::new(),
            result: made.to_cbor(),
            change: Change::BackedUp(BackedUp(made, turn)),
        })
    }

    /// A part of the backup that the same admin had made.
    pub(super) async fn backup_part(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let BackupPart { id, number } = asked.statement.body()?;
        self.expire_backup().await;
        let by = asked.statement.signers().first();
        let held = by.and_then(|admin| self.backups.find(id, &admin.key));
        // rule: BAK-1
        let held = held.ok_or(Refused::NoBackup)?;
        if number >= held.made.parts {
            return Err(Refused::NoBackup);
        }
        let bytes = blocking(move || {
            use std::os::unix::fs::FileExt as _;
            let at = number * BACKUP_PART as u64;
            let length = (held.made.size - at).min(BACKUP_PART as u64);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(BACKUP_PART)];
            let read =
                std::fs::File::open(&held.path).and_then(|file| file.read_exact_at(&mut bytes, at));
            read.map_err(BackupError::io(&held.path))?;
            Ok(bytes)
        });
        let bytes = bytes.await?;
        Ok(Plan::reading(&BackupPiece { bytes }))
    }

    /// Removes a backup that was kept for long enough.
    pub(super) async fn expire_backup(&self) {
        let now = self.clock.monotonic();
        let over = |held: &Held| now.saturating_sub(held.since) >= KEPT;
        if self.backups.held().as_ref().is_some_and(over) {
            self.discard_backup().await;
        }
    }

    /// Removes the backup.
    pub(super) async fn discard_backup(&self) {
        // rule: BAK-1
        let Some(held) = self.backups.held().take() else {
            return;
        };
        // It is sealed: nothing is gained by writing over it.
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(held.path)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "a backup stays until the next start");
        }
    }

    /// What a backup is made of. Nothing is held up: where something changed meanwhile it is taken anew.
    async fn sources(&self, id: BackupId) -> Result<Sources, Refused> {
        // rule: BAK-1
        let mut files = 0;
        for _ in 0..TRIES {
            let Some(moment) = self.one_moment().await? else {
                continue;
            };
            if let Some(sources) = self.of_moment(id, moment).await? {
                return Ok(sources);
            }
            files += 1;
        }
        // rule: KEK-5 — a backup without it would not start either.
        if files > TRIES / 2 {
            tracing::error!(
                "a sealed file is missing, or is not what the store names: no backup can be made"
            );
            return Err(Refused::Backup);
        }
        Err(Refused::Busy(
            "the key server's state changes faster than it can be read: ask again",
        ))
    }

    /// Store and log as they stood at one moment; none where a commit came between the two.
    async fn one_moment(&self) -> Result<Option<Moment>, Refused> {
        // rule: BAK-1
        self.roots.settled()?;
        let ways = self.roots.ways();
        self.key_files_named(&ways).await?;
        // Before the log: it must not have read more than that holds.
        let inventory = self.inventory.copied(INVENTORY)?;
        let snapshot = self.store.snapshot().await?;
        let log = self.log.clone();
        let log = blocking(move || {
            log.copy()
                .map_err(BackupError::io(&PathBuf::from("the log")))
        });
        let log = log.await?;
        // The log tells of nothing that the store does not have, and has what the store's outbox has not.
        let unchanged = self.store.revision().await? == snapshot.revision();
        Ok(unchanged.then_some(Moment {
            ways,
            snapshot,
            log,
            inventory,
        }))
    }

    /// The files that the snapshot names, by the digests that it has of them; none where one is not there
    /// any more, or another.
    async fn of_moment(&self, id: BackupId, moment: Moment) -> Result<Option<Sources>, Refused> {
        let Moment {
            ways,
            snapshot,
            log,
            inventory,
        } = moment;
        let own = self.roots.keys.clone();
        let (read, at) = (ways.clone(), self.backups.data.join(DOOR));
        let contents = blocking(move || {
            let contents = Contents::read(&snapshot, &read, &own)?;
            let door = match files::read_private(&at, 32) {
                Ok(door) => Some(Zeroizing::new(door)),
                Err(FileError::Missing(_)) => None,
                Err(error) => return Err(error.into()),
            };
            Ok((snapshot, contents, door))
        });
        let (snapshot, contents, door) = contents.await?;
        let Some(contents) = contents else {
            return Ok(None);
        };
        self.roots.settled()?;
        // rule: ROOT-7
        if self.roots.ways().root() != ways.root() {
            return Ok(None);
        }
        let mut left_out = vec!["tiles of the log, which are published and made anew".to_owned()];
        if log.left_out > 0 {
            left_out.push(format!(
                "the entries of the log's first {} shards: keep their tiles",
                log.left_out
            ));
        }
        if inventory.is_none() {
            left_out.push("the inventory: it is counted anew from the log in it".to_owned());
        }
        left_out.push("what was cosigned as a witness".to_owned());
        let length = self.side.length();
        let side = (length <= SIDE).then(|| (self.side.clone(), length));
        if side.is_none() {
            left_out.push("the side file: contexts of acts before are not known after".to_owned());
        }
        let kept = ways.kept();
        let header = Header {
            format: 1,
            id,
            realm: self.state.realm.clone(),
            server: self.state.tls_key,
            made: self.clock.now(),
            root: ways.root(),
            auto: kept.auto,
            shares: kept.shares,
            datasets: contents.datasets,
            keks: contents.keks,
            entries: log.entries,
            log: log.checkpoint.checkpoint().clone(),
            revision: snapshot.revision().0,
            left_out,
        };
        Ok(Some(Sources {
            header,
            root: self.state.vault.root(),
            snapshot,
            sealed: contents.sealed,
            door,
            log,
            side,
            inventory,
        }))
    }
}

/// What the store names.
struct Contents {
    datasets: u64,
    keks: u64,
    sealed: Vec<(String, Vec<u8>)>,
}

impl Contents {
    fn read(
        snapshot: &Snapshot,
        ways: &Ways,
        own: &[PathBuf],
    ) -> Result<Option<Self>, BackupError> {
        let mut datasets = 0;
        snapshot.each(KeyRange::prefix(records::DATASETS), |_, _| {
            datasets += 1;
            Ok::<_, BackupError>(())
        })?;
        let mut named = BTreeMap::new();
        snapshot.each(KeyRange::prefix(records::KEKS), |key, entry| {
            let record = KekRecord::from_cbor(&entry.value, limits::SMALL_MESSAGE);
            let record = record.map_err(|_| {
                let key = String::from_utf8_lossy(&key);
                BackupError::Content(format!("the record {key} is damaged"))
            })?;
            if let Some(digest) = record.file {
                named.insert(record.path(), digest);
            }
            Ok::<_, BackupError>(())
        })?;
        let keks = named.len() as u64;
        let mut sealed = Vec::with_capacity(named.len() + own.len());
        for (path, digest) in named {
            // rule: KEK-5
            match files::read_private(&ways.sealed().join(format!("{path}.sealed")), FILE) {
                Ok(bytes) if <[u8; 32]>::from(Sha256::digest(&bytes)) == digest => {
                    sealed.push((path, bytes));
                }
                Ok(_) | Err(FileError::Missing(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        for name in own {
            let path = ways.sealed().join("keys").join(name);
            let name = name.file_stem().unwrap_or_default().to_string_lossy();
            match files::read_private(&path, FILE) {
                Ok(bytes) => sealed.push((format!("keys/{name}"), bytes)),
                Err(FileError::Missing(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(Self {
            datasets,
            keks,
            sealed,
        }))
    }
}

/// Most bytes of a sealed file.
const FILE: u64 = 1_024;

/// Does it on a thread where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(io::Error::other);
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(%error, "a backup could not be made or read");
            Err(Refused::Backup)
        }
        Err(error) => {
            tracing::error!(%error, "a backup could not be made or read");
            Err(Refused::Internal("a backup was not made"))
        }
    }
}
