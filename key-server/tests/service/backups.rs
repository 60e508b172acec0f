//! Backups: made under load, tried, refused, put in place: BAK-1 to BAK-4.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use key_server::backup::{BackupError, Restored, Wanted, collect, restore, verify};
use key_server::clock::Clock as _;
use key_server::config;
use sha2::{Digest as _, Sha256};
use store::root::{RootError, Share, Ways};
use store::sealed::RootKey;
use ticket_format::Refusal;
use ticket_format::backup::{Beginning, CHUNK, SEALED};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{BackupId, NodeId, StatementDigest, StatementId};
use ticket_format::keys::AdminSecret;
use ticket_format::statement::{
    Attempt, BACKUP_PART, BackupBegin, BackupMade, BackupPart, Payload, Rekey, Restore,
    ShareHolder, SharePurpose, StatusShow,
};

use crate::rig::{
    REALM, Rig, World, first_digest, first_set, manager, named, operator, refusal, rng, set_of,
    set_statement, wanted,
};

/// A server with its own keys in files, as `init` makes them, and one dataset.
async fn whole() -> Rig {
    let world = World::new();
    let (ways, root) = world.root_key();
    store::files::private_dir(&ways.sealed().join("keys")).unwrap();
    let seeds = [
        (config::TLS, *world.tls.seed()),
        (config::SIGNING, *world.signing.seed()),
        (config::LOG_ED25519, [0x31; 32]),
        (config::LOG_ML_DSA, [0x32; 32]),
        (config::WITNESS_ED25519, [0x33; 32]),
        (config::WITNESS_ML_DSA, [0x34; 32]),
    ];
    for (name, seed) in seeds {
        let sealed = root.seal(&config::sealed_name(name), &seed, &mut rng());
        store::files::create_private(&config::sealed_key(&ways, name), &sealed).unwrap();
    }
    let door = world.dir.path().join(config::DOOR);
    store::files::create_private(&door, &[9; 32]).unwrap();
    let mut rig = world.start().await;
    rig.dataset = Some(rig.administer(&wanted("faces")).await.unwrap());
    rig
}

impl Rig {
    async fn begin_backup(&self) -> BackupMade {
        let made = self.administer_by(&BackupBegin {}, &[&manager(1)]).await;
        made.unwrap()
    }

    async fn fetch(&self, made: &BackupMade) -> Vec<u8> {
        let mut file = Vec::new();
        for number in 0..made.parts {
            let part = BackupPart {
                id: made.id,
                number,
            };
            let piece = self.administer_by(&part, &[&manager(1)]).await.unwrap();
            file.extend_from_slice(&piece.bytes);
        }
        assert_eq!(file.len() as u64, made.size);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&file)), made.digest);
        file
    }

    async fn backup(&self) -> (BackupMade, Vec<u8>) {
        let made = self.begin_backup().await;
        let file = self.fetch(&made).await;
        (made, file)
    }

    fn kept(&self) -> Vec<PathBuf> {
        let dir = fs::read_dir(self.world.dir.path().join("backup"));
        let dir = dir.into_iter().flatten();
        dir.map(|entry| entry.unwrap().path()).collect()
    }

    fn of_kind(&self, kind: Kind) -> Vec<Entry> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.kind == kind);
        entries
    }
}

/// When a restore takes place, in seconds after the beginning.
const RESTORED: u64 = 60;

/// A machine with nothing on it but a backup.
struct Machine {
    dir: tempfile::TempDir,
    credential: PathBuf,
}

impl Machine {
    fn new(file: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credential = dir.path().join("credential");
        store::files::create_private(&credential, &[7; 32]).unwrap();
        let machine = Self { dir, credential };
        machine.put(file);
        machine
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("backup")
    }

    fn put(&self, file: &[u8]) {
        fs::write(self.file(), file).unwrap();
    }

    fn open(&self) -> impl FnOnce(&Ways) -> Result<RootKey, RootError> + use<> {
        let means = store::root::Means::Credential(self.credential.clone());
        move |ways| ways.open_auto(&means)
    }

    fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    async fn verify(&self) -> Result<Restored, BackupError> {
        let tried = verify(&self.file(), &self.scratch(), self.open()).await;
        if let Ok(left) = fs::read_dir(self.scratch()) {
            assert_eq!(left.count(), 0, "something is left");
        }
        tried
    }

    async fn restore(&self, into: &Path, statement: &[u8]) -> Result<Restored, BackupError> {
        self.restore_by(into, statement, &[], &mut |_| Ok(())).await
    }

    async fn restore_by(
        &self,
        into: &Path,
        statement: &[u8],
        later: &[Vec<u8>],
        step: &mut (dyn FnMut(&'static str) -> Result<(), BackupError> + Send),
    ) -> Result<Restored, BackupError> {
        let (admin_set, file) = (first_set(), self.file());
        let wanted = Wanted {
            file: &file,
            into,
            realm: REALM,
            admin_set: &admin_set,
            later,
            statement,
            now: ticket_format::time::Timestamp::from_seconds(crate::rig::START + RESTORED),
        };
        restore(&wanted, self.open(), &mut rng(), step).await
    }
}

fn body(made: &BackupMade) -> Restore {
    Restore {
        id: made.id,
        digest: made.digest,
        reason: "the machine is gone".into(),
    }
}

/// Puts a backup in the place of a server that is gone.
async fn put_back(rig: Rig, machine: &Machine, statement: &[u8]) -> (World, Restored) {
    let Rig { world, service, .. } = rig;
    service.close().await;
    drop(service);
    let data = world.dir.path().to_owned();
    fs::remove_dir_all(&data).unwrap();
    let restored = machine.restore(&data, statement).await.unwrap();
    // What opens it stands outside as a rule.
    fs::copy(&machine.credential, data.join("credential")).unwrap();
    world.clock.set(RESTORED);
    (world, restored)
}

/// The lease of a server that has heard the feed.
fn heard(rig: &Rig) {
    rig.service.state.lease.heard(rig.world.clock.monotonic());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_put_back_opens_what_was_wrapped_before_it() {
    // rule: BAK-1, BAK-3, BAK-4
    let rig = whole().await;
    let dataset = rig.dataset.clone();
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let old = rig.wraps(&opened, &context, 1).await.remove(0);
    rig.rotate().await.unwrap();
    let new = rig.wraps(&opened, &context, 1).await.remove(0);
    let (made, file) = rig.backup().await;
    // The record names file and statement, and nothing rang.
    let recorded = rig.of_kind(Kind::Backup);
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].act.0, made.id.0);
    assert_eq!(recorded[0].proof, Some(made.digest));
    assert_eq!(recorded[0].count, Some(made.size));
    assert_eq!(recorded[0].signers, Some(vec!["manager-1".to_owned()]));
    assert!(recorded[0].follows.is_some());
    let alarms = rig.of_kind(Kind::Alarm).len();
    // What comes later is not in it.
    rig.rotate().await.unwrap();
    let lost = rig.wraps(&opened, &context, 1).await.remove(0);
    let machine = Machine::new(&file);
    let tried = machine.verify().await.unwrap();
    assert_eq!((tried.header.datasets, tried.header.keks), (1, 2));
    assert_eq!(tried.checked.entries, tried.header.entries);
    assert_eq!(tried.header.id, made.id);
    let statement = rig.statement(&body(&made));
    let before = rig.statement(&StatusShow {});
    let set = set_statement(
        &set_of(2, first_digest(), &[0, 1, 2]),
        &[&manager(0), &manager(1)],
    );
    let shard = rig.log.head().checkpoint.checkpoint().shard.number;
    let vkeys = |world: &World| {
        let (ways, root) = world.root_key();
        let secrets = config::secrets(REALM, &ways, &root).unwrap();
        (secrets.log.key().clone(), secrets.witness.vkeys().clone())
    };
    let keys = vkeys(&rig.world);
    let (world, restored) = put_back(rig, &machine, &statement).await;
    assert_eq!(restored.checked.keks, 2);
    // The same server, and another witness: it forgot what it cosigned (TLOG-9).
    let again = vkeys(&world);
    assert_eq!(again.0, keys.0);
    assert_ne!(again.1, keys.1);
    assert!(world.dir.path().join(config::WITNESS_DIR).is_dir());
    let mut rig = world.start().await;
    rig.dataset = dataset;
    // The log goes on in a shard of its own, which names the statement.
    let head = rig.log.head();
    let begun = head.checkpoint.checkpoint().shard.number;
    assert!((shard + 1_000..shard + 1_000 + (1 << 31)).contains(&begun));
    assert_ne!(
        begun,
        shard + 1_000,
        "two restores of one backup share no number"
    );
    let begun = rig.of_kind(Kind::ShardOpened);
    assert_eq!(begun.len(), 1);
    assert_eq!(begun[0].proof, Some(StatementDigest::of(&statement).0));
    assert_eq!(begun[0].count, Some(restored.header.entries));
    let recorded = rig.of_kind(Kind::Backup);
    assert_eq!(recorded.len(), 1, "its own record was not in it");
    assert_eq!(recorded[0].proof, Some(made.digest));
    assert_eq!(recorded[0].log, Some(restored.header.log.clone()));
    assert_eq!(rig.of_kind(Kind::Alarm).len(), alarms);
    // A key server does not do the act, whoever signed it.
    let sent = rig.send_statement(&statement).await;
    assert_eq!(refusal(sent), Refusal::StatementExpired);
    // Nobody knows which tickets and statements of before were used, but for those meant for everyone.
    let spent = rig.present(&rig.connect(2), &job).await.map(drop);
    assert_eq!(refusal(spent), Refusal::TicketExpired);
    let entries = rig.entries().len();
    let sent = rig.send_statement(&before).await;
    assert_eq!(refusal(sent), Refusal::StatementExpired);
    assert_eq!(rig.entries().len(), entries, "whoever kept it fills no log");
    rig.send_statement(&set).await.unwrap();
    let (_, opened) = rig.opened(|_| {}).await;
    let items = [
        (&*old.0, &context),
        (&*new.0, &context),
        (&*lost.0, &context),
    ];
    let got = rig.redeem(&opened, &items).await.unwrap();
    assert_eq!(got.refusals(), [None, None, Some(Refusal::KekUnknown)]);
    assert_eq!(*got.deks, [old.1, new.1].concat());
    // What was counted is, and what was wrapped since the backup nobody can know (INV-2).
    let rows = rig.keks().await;
    let counted: Vec<_> = rows.iter().map(|row| (row.version, row.wraps)).collect();
    assert_eq!(counted, [(2, 1), (1, 1)]);
    assert!(rows.iter().all(|row| row.since.is_some()));
    // What it does from now on survives another start.
    rig.rotate().await.unwrap();
    let rig = rig.restart().await;
    assert_eq!(rig.keks().await.len(), 3);
    assert_eq!(rig.of_kind(Kind::ShardOpened).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_made_while_others_redeem_and_rotate_holds_together() {
    // rule: BAK-1
    let rig = Arc::new(whole().await);
    let (_, opened) = rig.opened(|_| {}).await;
    let stop = Arc::new(AtomicBool::new(false));
    let context = named("a");
    let first = rig.wraps(&opened, &context, 1).await.remove(0);
    let rotating = tokio::spawn({
        let (rig, stop) = (Arc::clone(&rig), Arc::clone(&stop));
        async move {
            let mut rotations = 0;
            while !stop.load(Ordering::SeqCst) {
                rig.rotate().await.unwrap();
                rotations += 1;
            }
            rotations
        }
    });
    let redeeming = tokio::spawn({
        let (rig, stop) = (Arc::clone(&rig), Arc::clone(&stop));
        async move {
            let context = named("a");
            while !stop.load(Ordering::SeqCst) {
                let items = [(&*first.0, &context)];
                let got = rig.redeem(&opened, &items).await.unwrap();
                assert_eq!(got.refusals(), [None]);
                rig.wraps(&opened, &context, 1).await;
            }
        }
    });
    let mut keks = 0;
    for _ in 0..3 {
        let (_, file) = rig.backup().await;
        let machine = Machine::new(&file);
        // Every version opens by the digest that the store has of it; the log stands where it says.
        let tried = machine.verify().await.unwrap();
        assert!(tried.checked.keks > keks, "it went on meanwhile");
        keks = tried.checked.keks;
    }
    stop.store(true, Ordering::SeqCst);
    redeeming.await.unwrap();
    let rotations = rotating.await.unwrap();
    assert!(rotations >= keks - 1);
    assert_eq!(rig.kept().len(), 1, "one at a time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_taken_anew_where_a_commit_comes_between_store_and_log() {
    // rule: BAK-1
    let rig = Arc::new(whole().await);
    let rotating = Arc::clone(&rig);
    rig.world.cut_off.after_snapshot(async move {
        rotating.rotate().await.unwrap();
    });
    let (_, file) = rig.backup().await;
    let tried = Machine::new(&file).verify().await.unwrap();
    assert_eq!(tried.checked.keks, 2, "its log tells of the rotation");
    // So it is where the root key is replaced: the files of the moment are under the new one.
    let rekeying = Arc::clone(&rig);
    rig.world.cut_off.after_snapshot(async move {
        let (ways, _) = rekeying.world.root_key();
        let rekey = Rekey {
            replaces: ways.root(),
            threshold: 2,
            holders: ways
                .rows()
                .iter()
                .map(|row| ShareHolder {
                    name: row.name.clone(),
                    key: row.key.clone(),
                })
                .collect(),
        };
        rekeying.administer(&rekey).await.unwrap();
    });
    let (_, file) = rig.backup().await;
    let tried = Machine::new(&file).verify().await.unwrap();
    assert_eq!(tried.checked.keks, 2);
    let (ways, _) = rig.world.root_key();
    assert_eq!(tried.header.root, ways.root());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_backup_is_made_without_all_that_the_store_names() {
    // rule: BAK-1, KEK-5
    let rig = whole().await;
    let (ways, _) = rig.world.root_key();
    let dir = ways.sealed().join("kek");
    let dir = dir.join(rig.dataset().dataset.to_string());
    let path = dir.join(format!("{}.sealed", rig.dataset().kek));
    let good = fs::read(&path).unwrap();
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&path, other).unwrap();
    let refused = rig.administer_by(&BackupBegin {}, &[&manager(1)]).await;
    assert_eq!(refusal(refused), Refusal::StoreUnavailable);
    fs::remove_file(&path).unwrap();
    let refused = rig.administer_by(&BackupBegin {}, &[&manager(1)]).await;
    assert_eq!(refusal(refused), Refusal::StoreUnavailable);
    assert!(rig.kept().is_empty());
    store::files::create_private(&path, &good).unwrap();
    rig.begin_backup().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_fetched_by_who_had_it_made_and_goes_in_time() {
    // rule: BAK-1
    let rig = whole().await;
    for signer in [operator(), AdminSecret::generate(&mut rng())] {
        let refused = rig.administer_by(&BackupBegin {}, &[&signer]).await;
        assert!(refused.is_err());
    }
    assert!(rig.kept().is_empty());
    let made = rig.begin_backup().await;
    let kept = rig.kept();
    assert_eq!(kept.len(), 1);
    let mode = fs::metadata(&kept[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let part = BackupPart {
        id: made.id,
        number: 0,
    };
    let by_other = rig.administer_by(&part, &[&manager(0)]).await;
    assert_eq!(refusal(by_other), Refusal::NotFound);
    let wrong = [
        BackupPart {
            number: made.parts,
            ..part
        },
        BackupPart {
            id: BackupId([1; 16]),
            ..part
        },
    ];
    for wrong in wrong {
        let refused = rig.administer_by(&wrong, &[&manager(1)]).await;
        assert_eq!(refusal(refused), Refusal::NotFound);
    }
    assert!(made.size <= made.parts * BACKUP_PART as u64);
    rig.administer_by(&part, &[&manager(1)]).await.unwrap();
    // The next one takes its place, and what one left that was cut off; an hour ends that.
    fs::write(kept[0].with_file_name("left"), "half").unwrap();
    let next = rig.begin_backup().await;
    assert_eq!(rig.kept().len(), 1);
    let refused = rig.administer_by(&part, &[&manager(1)]).await;
    assert_eq!(refusal(refused), Refusal::NotFound);
    let now = rig.world.clock.monotonic().as_millis();
    rig.world
        .clock
        .set_monotonic(u64::try_from(now).unwrap() + 3_600_000);
    let part = BackupPart {
        id: next.id,
        number: 0,
    };
    let late = rig.administer_by(&part, &[&manager(1)]).await;
    assert_eq!(refusal(late), Refusal::NotFound);
    assert!(rig.kept().is_empty());
    // So does a start.
    rig.begin_backup().await;
    let rig = rig.restart().await;
    assert!(rig.kept().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_touched_is_refused_with_one_line() {
    // rule: BAK-2, BAK-3
    let rig = whole().await;
    let (_, opened) = rig.opened(|_| {}).await;
    // Three chunks at the least.
    for _ in 0..4 {
        rig.wraps(&opened, &named("a"), 300).await;
    }
    let (_, file) = rig.backup().await;
    let beginning = Beginning::read(&mut &file[..]).unwrap().to_bytes().len();
    let chunk = CHUNK + SEALED;
    assert!(file.len() > beginning + 2 * chunk);
    let machine = Machine::new(&file);
    machine.verify().await.unwrap();
    let refused = async |file: &[u8], what: &str| {
        machine.put(file);
        let error = machine.verify().await.unwrap_err();
        let said = error.to_string();
        assert!(!said.contains('\n') && !said.is_empty(), "{what}: {said}");
        error
    };
    for cut in [
        0,
        10,
        beginning - 1,
        beginning,
        beginning + chunk,
        file.len() - 1,
    ] {
        refused(&file[..cut], &format!("cut at {cut}")).await;
    }
    let longer = [&file[..], &[0]].concat();
    refused(&longer, "a byte more").await;
    // Every part of the beginning, and of chunks: format, nonce, text, tag.
    let flips = [
        20,
        40,
        60,
        beginning - 80,
        beginning - 1,
        beginning,
        beginning + 5,
    ];
    for at in flips.into_iter().chain([beginning + 100, file.len() - 1]) {
        let mut file = file.clone();
        file[at] ^= 1;
        refused(&file, &format!("bit flip at {at}")).await;
    }
    let mut swapped = file.clone();
    let (one, two) = (
        beginning..beginning + chunk,
        beginning + chunk..beginning + 2 * chunk,
    );
    swapped[one.clone()].copy_from_slice(&file[two.clone()]);
    swapped[two].copy_from_slice(&file[one.clone()]);
    let error = refused(&swapped, "two parts exchanged").await;
    assert!(matches!(error, BackupError::Chunk(0)), "{error}");
    let without = [&file[..one.start], &file[one.end..]].concat();
    refused(&without, "a part less").await;
    // A part of another backup of the same server, in its place.
    let (_, other) = rig.backup().await;
    let begins = Beginning::read(&mut &other[..]).unwrap().to_bytes().len();
    let mut mixed = file.clone();
    mixed[one].copy_from_slice(&other[begins..begins + chunk]);
    let error = refused(&mixed, "a part of another").await;
    assert!(matches!(error, BackupError::Chunk(0)), "{error}");
    // Another root key: its wraps in this one's header.
    let foreign = whole().await;
    let (_, theirs) = foreign.backup().await;
    let mut header = Beginning::read(&mut &file[..]).unwrap();
    let foreign = Beginning::read(&mut &theirs[..]).unwrap().header;
    (header.header.auto, header.header.shares) = (foreign.auto, foreign.shares);
    header.header.root = foreign.root;
    let wrapped = [&header.to_bytes()[..], &file[beginning..]].concat();
    let error = refused(&wrapped, "another root key").await;
    assert!(matches!(error, BackupError::Key), "{error}");
    // Nothing of the header can be changed, be it for people only.
    type Change = fn(&mut ticket_format::backup::Header);
    let changes: [Change; 3] = [
        |header| header.made = header.made.plus(1),
        |header| header.left_out.clear(),
        |header| header.revision += 1,
    ];
    for change in changes {
        let mut header = Beginning::read(&mut &file[..]).unwrap();
        change(&mut header.header);
        let changed = [&header.to_bytes()[..], &file[beginning..]].concat();
        let error = refused(&changed, "another header").await;
        assert!(matches!(error, BackupError::Key), "{error}");
    }
    // Another credential.
    machine.put(&file);
    fs::remove_file(&machine.credential).unwrap();
    store::files::create_private(&machine.credential, &[8; 32]).unwrap();
    let error = machine.verify().await.unwrap_err();
    assert!(matches!(error, BackupError::Root(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_takes_a_quorum_for_this_file_and_an_empty_place() {
    // rule: BAK-4, SET-2
    let rig = whole().await;
    let (made, file) = rig.backup().await;
    let machine = Machine::new(&file);
    let into = machine.dir.path().join("data");
    let untouched = || {
        assert!(!into.exists());
        assert!(!machine.dir.path().join("data.restoring").exists());
    };
    let one = rig.statement_by(&body(&made), &[&manager(0)]);
    let operators = rig.statement_by(&body(&made), &[&manager(0), &operator()]);
    let other_file = rig.statement(&Restore {
        digest: [1; 32],
        ..body(&made)
    });
    let other_backup = rig.statement(&Restore {
        id: BackupId([1; 16]),
        ..body(&made)
    });
    let other_act = rig.statement(&BackupBegin {});
    let elsewhere = {
        let server = ticket_format::keys::TlsSecret::generate(&mut rng()).public();
        let id = StatementId::random(&mut rng());
        let payload = Payload::act(id, REALM, server, rig.now(), 600, &body(&made));
        payload.sign(&[&manager(0), &manager(1)]).unwrap()
    };
    let late = {
        let (id, server) = (StatementId::random(&mut rng()), rig.world.server());
        let payload = Payload::act(id, REALM, server, rig.now(), 30, &body(&made));
        payload.sign(&[&manager(0), &manager(1)]).unwrap()
    };
    let wrong = [
        one,
        operators,
        other_file,
        other_backup,
        other_act,
        elsewhere,
        late,
    ];
    for (n, wrong) in wrong.iter().enumerate() {
        let error = machine.restore(&into, wrong).await.unwrap_err();
        let of_statement = matches!(
            error,
            BackupError::Statement(_) | BackupError::OtherStatement(_)
        );
        assert!(of_statement, "{n}: {error}");
        untouched();
    }
    let error = machine.restore(&into, b"none").await.unwrap_err();
    assert!(matches!(error, BackupError::Statement(_)), "{error}");
    // Security removed an admin since: the later set is brought along, and his signature counts no more.
    let next = set_of(2, first_digest(), &[0, 1]);
    let next = set_statement(&next, &[&manager(0), &manager(1)]);
    let removed = rig.statement_by(&body(&made), &[&manager(0), &manager(2)]);
    let later = [next.clone()];
    let nothing = &mut |_| Ok(());
    let error = machine.restore_by(&into, &removed, &later, nothing).await;
    assert!(matches!(error, Err(BackupError::Statement(_))), "{error:?}");
    untouched();
    let good = rig.statement(&body(&made));
    let unrelated = [set_statement(
        &set_of(3, first_digest(), &[0, 1]),
        &[&manager(0), &manager(1)],
    )];
    let error = machine.restore_by(&into, &good, &unrelated, nothing).await;
    assert!(matches!(error, Err(BackupError::Content(_))), "{error:?}");
    untouched();
    // In a realm of another name; the statement is of that one too.
    let (admin_set, from) = (first_set(), machine.file());
    let mut asked = 0;
    let other_realm = {
        let (id, server) = (StatementId::random(&mut rng()), rig.world.server());
        let payload = Payload::act(id, "other", server, rig.now(), 600, &body(&made));
        payload.sign(&[&manager(0), &manager(1)]).unwrap()
    };
    for (realm, statement) in [
        ("other", &other_realm),
        ("other", &good),
        (REALM, &wrong[6]),
    ] {
        let wanted = Wanted {
            file: &from,
            into: &into,
            realm,
            admin_set: &admin_set,
            later: &[],
            statement,
            now: ticket_format::time::Timestamp::from_seconds(crate::rig::START + RESTORED),
        };
        let open = |_: &Ways| {
            asked += 1;
            Err(RootError::Unclear(store::files::FileError::Missing(
                PathBuf::new(),
            )))
        };
        let error = restore(&wanted, open, &mut rng(), nothing)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                BackupError::Content(_) | BackupError::OtherStatement(_)
            ),
            "{error}"
        );
        untouched();
    }
    assert_eq!(asked, 0, "nobody is asked for a share for it");
    // Another backup is put in its place after its digest was compared.
    let (_, second) = rig.backup().await;
    let mut step = |_| {
        fs::write(&from, &second).unwrap();
        Ok(())
    };
    let error = machine.restore_by(&into, &good, &[], &mut step).await;
    assert!(
        matches!(error, Err(BackupError::OtherStatement(_))),
        "{error:?}"
    );
    machine.put(&file);
    untouched();
    // Another restore is at work there.
    let alone = fs::File::open(machine.dir.path()).unwrap();
    alone.lock().unwrap();
    let error = machine.restore(&into, &good).await.unwrap_err();
    assert!(matches!(error, BackupError::Busy(_)), "{error}");
    drop(alone);
    // Somebody else has put a link where it works.
    let theirs = machine.dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("note"), "mine").unwrap();
    let link = machine.dir.path().join("data.restoring");
    std::os::unix::fs::symlink(&theirs, &link).unwrap();
    let error = machine.restore(&into, &good).await.unwrap_err();
    assert!(matches!(error, BackupError::File(_)), "{error}");
    assert!(theirs.join("note").exists(), "a link is followed nowhere");
    fs::remove_file(link).unwrap();
    // Something is there.
    fs::create_dir(&into).unwrap();
    fs::write(into.join("note"), "mine").unwrap();
    let error = machine.restore(&into, &good).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)), "{error}");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 1);
    fs::remove_file(into.join("note")).unwrap();
    machine
        .restore_by(&into, &good, &later, nothing)
        .await
        .unwrap();
    assert!(into.join("store.redb").is_file() && into.join("door.seed").is_file());
    // What it did is done with that statement: it is not put over itself.
    let error = machine.restore(&into, &good).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty(_)), "{error}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mode = fs::metadata(from).unwrap().permissions();
    fs::set_permissions(to, mode).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_cut_off_anywhere_leaves_nothing_and_is_done_anew() {
    // rule: BAK-4
    let rig = whole().await;
    rig.rotate().await.unwrap();
    let (made, file) = rig.backup().await;
    let statement = rig.statement(&body(&made));
    let machine = Machine::new(&file);
    let place = machine.dir.path().join("place");
    fs::create_dir(&place).unwrap();
    let into = place.join("data");
    // What a crash would have left before each step.
    let states = tempfile::tempdir().unwrap();
    let mut steps = Vec::new();
    let mut step = |name| {
        let state = states.path().join(steps.len().to_string());
        copy(&place, &state);
        steps.push(name);
        Ok(())
    };
    machine
        .restore_by(&into, &statement, &[], &mut step)
        .await
        .unwrap();
    assert!(steps.len() > 12, "{steps:?}");
    assert_eq!(steps.last(), Some(&"put it in place"));
    for (n, name) in steps.iter().enumerate() {
        let into = states.path().join(n.to_string()).join("data");
        assert!(!into.exists(), "{name}");
        if n % 5 == 0 || n + 1 == steps.len() {
            machine.restore(&into, &statement).await.unwrap();
            assert!(!into.with_file_name("data.restoring").exists());
            assert!(into.join("root/current").is_file(), "{name}");
        }
    }
    // A step that fails, as on a full disk, leaves nothing at all.
    for last in [0, 3, steps.len() - 1] {
        let into = machine.dir.path().join("full");
        let mut left = last;
        let mut full = |_| match left.checked_sub(1) {
            Some(fewer) => {
                left = fewer;
                Ok(())
            }
            None => Err(BackupError::Store("the disk is full".into())),
        };
        let failed = machine.restore_by(&into, &statement, &[], &mut full).await;
        assert!(failed.is_err());
        assert!(!into.exists() && !into.with_file_name("full.restoring").exists());
    }
    // What was made in the end is a key server.
    let Rig { world, service, .. } = rig;
    service.close().await;
    drop(service);
    let data = world.dir.path().to_owned();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&into, &data).unwrap();
    fs::copy(&machine.credential, data.join("credential")).unwrap();
    world.clock.set(RESTORED);
    let rig = world.start().await;
    assert_eq!(rig.keks().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_serves_nothing_before_the_feed_brought_the_denials_since() {
    // rule: BAK-4, DEN-6
    let rig = whole().await;
    let dataset = rig.dataset.clone();
    let (made, file) = rig.backup().await;
    let node = NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").unwrap();
    let news = rig.news(Selector::node(node.clone()));
    rig.deny(Selector::node(node)).await;
    let machine = Machine::new(&file);
    let statement = rig.statement(&body(&made));
    let (world, _) = put_back(rig, &machine, &statement).await;
    let (service, log) = world.try_start().await.unwrap();
    let rig = Rig {
        world,
        service,
        log,
        dataset,
    };
    let job = rig.job(|_| {});
    // Without a lease nothing is opened, and the feed's first answer brings the denial with it.
    assert_eq!(
        refusal(rig.present(&rig.connect(1), &job).await.map(drop)),
        Refusal::Lease
    );
    rig.service
        .apply(news, rig.world.clock.monotonic())
        .await
        .unwrap();
    heard(&rig);
    assert_eq!(
        refusal(rig.present(&rig.connect(1), &job).await.map(drop)),
        Refusal::Denied
    );
    let rolled: Vec<_> = rig.of_kind(Kind::Alarm);
    assert!(
        rolled
            .iter()
            .all(|entry| entry.alarm != Some(Alarm::StoreRollback))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_given_into_a_directory_open_a_backup_and_others_do_not() {
    // rule: BAK-2, BAK-3
    let rig = whole().await;
    let (_, file) = rig.backup().await;
    let machine = Machine::new(&file);
    let header = Beginning::read(&mut &file[..]).unwrap().header;
    let (ways, root) = rig.world.root_key();
    let dir = machine.dir.path().join("shares");
    let give = |n: usize, purpose: SharePurpose| {
        let attempt = loop {
            if let Ok(bytes) = fs::read(dir.join(collect::ATTEMPT)) {
                break Attempt::from_cbor(&bytes, 4_096).unwrap();
            }
            std::thread::yield_now();
        };
        let row = &ways.rows()[n];
        let share = Share::open(row, &rig.world.shares[n], &rig.world.place(), ways.root());
        let mut to = collect::given(&header);
        to.purpose = purpose;
        let given = share.unwrap().give(&attempt, &to, &mut rng()).unwrap();
        let path = dir.join(format!("holder-{n}.{}", collect::SHARE));
        store::files::write_private(&path, &given.to_cbor()).unwrap();
    };
    let collecting = || {
        let (ways, header, dir) = (ways.clone(), header.clone(), dir.clone());
        std::thread::spawn(move || collect::collect(&ways, &header, &dir, &mut rng(), |_| {}))
    };
    let first = collecting();
    give(0, SharePurpose::Restore);
    give(2, SharePurpose::Restore);
    assert!(first.join().unwrap().unwrap().same(&root));
    assert!(!dir.join(collect::ATTEMPT).exists());
    // Those of that attempt stay where they are, and are nothing to the next; one that was given to
    // unseal a server opens nothing here.
    let second = collecting();
    give(1, SharePurpose::Unseal);
    let error = second.join().unwrap().unwrap_err();
    assert!(matches!(error, RootError::Share(_)), "{error}");
}
