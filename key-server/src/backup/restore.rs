//! Putting a backup in a key server's place (BAK-4), and trying whether one would do (BAK-3).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use audit_log::guard::Recovery;
use audit_log::witness::Witness;
use rand_core::CryptoRng;
use store::files;
use store::root::{RootError, Ways};
use store::sealed::RootKey;
use store::{Outcome, RedbStore, Store, Transaction};
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, StatementDigest};
use ticket_format::statement::{Act, AdminSet, ReceivedStatement, Restore, VerifiedStatement};
use ticket_format::time::Timestamp;
use zeroize::Zeroizing;

use super::checks::{Checked, check};
use super::lay::{Laid, STORE, beginning, lay};
use super::seal::Hashing;
use super::{BackupError, Step};
use crate::admins::Admins;
use crate::config::{self, WITNESS_DIR, WITNESS_ED25519, WITNESS_ML_DSA};
use crate::records;

/// The log goes on at least so many shards behind the one that the backup has: the server may have begun
/// some since, and no two of one name may be signed.
const SHARDS: u64 = 1_000;
/// And by chance up to so many more: the same backup may be restored twice.
const CHANCE: u64 = 1 << 31;

/// What is asked for.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The backup.
    pub file: &'a Path,
    /// The data directory, which is not there or empty.
    pub into: &'a Path,
    /// The realm that the configuration names.
    pub realm: &'a str,
    /// The configured admin set.
    pub admin_set: &'a [u8],
    /// Sets that follow the newest one of the backup, in order.
    pub later: &'a [Vec<u8>],
    /// What a quorum of security signed.
    pub statement: &'a [u8],
    /// The time.
    pub now: Timestamp,
}

/// What was put in place, or would be.
#[derive(Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub header: ticket_format::backup::Header,
    /// What is in it.
    pub checked: Checked,
}

fn content(error: impl std::fmt::Display) -> BackupError {
    BackupError::Content(error.to_string())
}

/// Opens a backup wholly in a directory of its own below `scratch`, of which nothing is left.
///
/// # Errors
/// [`BackupError`]: it would not do.
pub async fn verify(
    file: &Path,
    scratch: &Path,
    open: impl FnOnce(&Ways) -> Result<RootKey, RootError>,
) -> Result<Restored, BackupError> {
    // rule: BAK-3
    let (beginning, _) = beginning(file)?;
    files::private_dir(scratch)?;
    let _alone = alone(scratch)?;
    let dir = scratch.join(format!("postern-verify-{}", beginning.header.id));
    files::erase_dir(&dir)?;
    let tried = tried(file, &dir, open).await;
    files::erase_dir(&dir)?;
    tried
}

async fn tried(
    file: &Path,
    dir: &Path,
    open: impl FnOnce(&Ways) -> Result<RootKey, RootError>,
) -> Result<Restored, BackupError> {
    let laid = lay(file, dir, open, &mut |_| Ok(()))?;
    let checked = check(&laid, dir).await?;
    let header = laid.header;
    Ok(Restored { header, checked })
}

/// Puts a backup in place: all of it, by one rename, or nothing.
///
/// # Errors
/// [`BackupError`]; the data directory is as it was.
pub async fn restore(
    wanted: &Wanted<'_>,
    open: impl FnOnce(&Ways) -> Result<RootKey, RootError>,
    rng: &mut (impl CryptoRng + Send),
    step: Step<'_>,
) -> Result<Restored, BackupError> {
    // rule: BAK-4
    empty(wanted.into)?;
    let received = of_this(wanted)?;
    let parent = match wanted.into.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let _alone = alone(parent)?;
    let stage = beside(wanted.into);
    // What a restore that was cut off left.
    files::erase_dir(&stage)?;
    let staged = staged(wanted, received, &stage, open, rng, step).await;
    if staged.is_err() {
        let _ = files::erase_dir(&stage);
    }
    staged
}

/// Works in a directory while no other restore or trial does: one would erase what the other laid down.
fn alone(dir: &Path) -> Result<std::fs::File, BackupError> {
    let failed = BackupError::io(dir);
    let held = std::fs::File::open(dir).map_err(&failed)?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(std::fs::TryLockError::WouldBlock) => Err(BackupError::Busy(dir.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn empty(into: &Path) -> Result<(), BackupError> {
    // rule: BAK-4
    match std::fs::read_dir(into) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(BackupError::io(into)(error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(BackupError::NotEmpty(into.to_owned())),
        },
    }
}

/// Beside the data directory, so that a rename puts it in place.
fn beside(into: &Path) -> PathBuf {
    let mut name = into.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".restoring");
    into.with_file_name(name)
}

/// The statement, of this file as it lies there; not verified yet.
fn of_this(wanted: &Wanted<'_>) -> Result<ReceivedStatement, BackupError> {
    let received = ReceivedStatement::parse(wanted.statement)?;
    if received.payload().act != Act::Restore {
        return Err(BackupError::OtherStatement("it is of another act"));
    }
    let payload = received.payload();
    // Signatures are checked once the backup has said by whom: nobody is asked for shares for a statement
    // that cannot count.
    if payload.realm != wanted.realm || wanted.now >= payload.expires {
        return Err(BackupError::OtherStatement(
            "it is of another realm, or has expired",
        ));
    }
    let body: Restore = received.body()?;
    let (beginning, _) = beginning(wanted.file)?;
    let header = &beginning.header;
    if header.realm != wanted.realm {
        return Err(content("it is of another realm than the configuration"));
    }
    if body.id != header.id {
        return Err(BackupError::OtherStatement("it names another backup"));
    }
    let failed = BackupError::io(wanted.file);
    let file = std::fs::File::open(wanted.file).map_err(&failed)?;
    let mut file = Hashing::new(file);
    std::io::copy(&mut file, &mut std::io::sink()).map_err(&failed)?;
    if body.digest != file.digest() {
        return Err(BackupError::OtherStatement("it names another file"));
    }
    Ok(received)
}

async fn staged(
    wanted: &Wanted<'_>,
    received: ReceivedStatement,
    stage: &Path,
    open: impl FnOnce(&Ways) -> Result<RootKey, RootError>,
    rng: &mut (impl CryptoRng + Send),
    step: Step<'_>,
) -> Result<Restored, BackupError> {
    step("open the backup")?;
    let laid = lay(wanted.file, stage, open, step)?;
    let body: Restore = received.body()?;
    if laid.digest != body.digest {
        return Err(BackupError::OtherStatement(
            "the file was changed meanwhile",
        ));
    }
    let checked = check(&laid, stage).await?;
    let sets = authorised(wanted, &checked)?;
    // rule: BAK-4, SET-2
    let server = &laid.header.server;
    let verified = received.verify(&sets.current, wanted.realm, Some(server), wanted.now)?;
    step("write new witness keys")?;
    another_witness(&laid, stage, rng)?;
    step("commit the restore")?;
    commit(wanted, &laid, &verified, &sets, stage, rng).await?;
    step("make the directories durable")?;
    sync_all(stage)?;
    step("put it in place")?;
    // An empty directory there is replaced; one that was filled meanwhile is not.
    std::fs::rename(stage, wanted.into).map_err(BackupError::io(wanted.into))?;
    let parent = wanted.into.parent();
    if let Some(parent) = parent.filter(|path| !path.as_os_str().is_empty()) {
        files::sync_dir(parent)?;
    }
    let header = laid.header;
    Ok(Restored { header, checked })
}

/// The admin set that counts, and those that the backup does not have.
struct Sets {
    current: AdminSet,
    later: BTreeMap<u64, Vec<u8>>,
}

fn authorised(wanted: &Wanted<'_>, checked: &Checked) -> Result<Sets, BackupError> {
    // rule: BAK-4, SET-3
    let (stored, now) = (checked.admin_sets.clone(), wanted.now);
    let admins = Admins::open(wanted.admin_set, stored, wanted.realm, now).map_err(content)?;
    let mut current = AdminSet::clone(&admins.current());
    let mut later = BTreeMap::new();
    for statement in wanted.later {
        let next = current.next(statement, wanted.realm, now);
        current = next.map_err(|error| {
            content(format!(
                "an admin set does not follow version {}: {error}",
                current.version()
            ))
        })?;
        later.insert(current.version(), statement.clone());
    }
    Ok(Sets { current, later })
}

/// As a witness of others' logs the server forgot what it cosigned since: it is another one from now on.
fn another_witness(laid: &Laid, stage: &Path, rng: &mut impl CryptoRng) -> Result<(), BackupError> {
    // rule: BAK-4, TLOG-9
    for name in [WITNESS_ED25519, WITNESS_ML_DSA] {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        let sealed = laid
            .root
            .seal(&config::sealed_name(name), seed.as_slice(), rng);
        files::write_private(&config::sealed_key(&laid.ways, name), &sealed)?;
    }
    Witness::create(&stage.join(WITNESS_DIR)).map_err(content)
}

/// What the next start does first: it begins a shard of the log that names the statement, and records that.
async fn commit(
    wanted: &Wanted<'_>,
    laid: &Laid,
    verified: &VerifiedStatement,
    sets: &Sets,
    stage: &Path,
    rng: &mut impl CryptoRng,
) -> Result<(), BackupError> {
    // rule: BAK-4, ADM-2, AUD-2
    let digest = StatementDigest::of(wanted.statement);
    let log = &laid.header.log;
    let recovery = Recovery {
        act: ActId::random(rng),
        at_least: log
            .shard
            .number
            .saturating_add(SHARDS + rng.next_u64() % CHANCE),
        time: wanted.now,
        statement: digest.0,
        seen: None,
    };
    let names = || verified.signers().iter().map(|admin| admin.name.clone());
    let entry = Entry::new(ActId::random(rng), Kind::Statement, wanted.now);
    let entry = entry.proof(digest.0).signers(names());
    let entry = entry.subject(names().next().unwrap_or_default());
    let record = Entry::new(ActId::random(rng), Kind::Backup, wanted.now);
    let record = record.follows(entry.act).signers(names());
    let record = record.proof(laid.digest).log(log.clone());
    let used = (verified.id(), verified.expires());
    let mut transaction =
        records::put_statement(Transaction::new(), used.0, used.1, Some(wanted.statement))
            .put(records::LOG_RECOVERY, recovery.to_cbor())
            .put(records::RESTORED, wanted.now.to_cbor())
            .put(records::outbox(entry.act), entry.to_cbor())
            .put(records::outbox(record.act), record.to_cbor());
    for (version, statement) in &sets.later {
        let key = records::admin_set(*version);
        transaction = transaction
            .absent(key.as_str())
            .put(key, statement.as_slice());
    }
    let path = stage.join(STORE);
    let store = tokio::task::spawn_blocking(move || {
        RedbStore::open(path, store::Options::default()).map_err(content)
    });
    let store = store.await.map_err(content)??;
    let committed = store.commit(transaction).await;
    store.close().await;
    match committed? {
        Outcome::Committed(_) => Ok(()),
        Outcome::Conflict { .. } => Err(BackupError::OtherStatement(
            "it was used before the backup was made",
        )),
    }
}

fn sync_all(dir: &Path) -> Result<(), BackupError> {
    let failed = BackupError::io(dir);
    for entry in std::fs::read_dir(dir).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if entry.file_type().map_err(&failed)?.is_dir() {
            sync_all(&entry.path())?;
        }
    }
    Ok(files::sync_dir(dir)?)
}
