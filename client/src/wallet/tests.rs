//! The wallet's file: private, whole, of one node, changed by one process at a time.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use ticket_format::messages::Receipt;
use ticket_format::seal::Kem;

use std::fs::{File, OpenOptions};

use super::*;

const KEY: [u8; 32] = [0x5a; 32];

fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

fn node() -> NodeSession {
    NodeSession {
        ticket: vec![1; 900],
        secrets: SessionSecrets::generate(Kem::XWing, &mut rng()),
    }
}

fn session(dataset: &str) -> DatasetSession {
    DatasetSession {
        dataset: dataset.to_owned(),
        ticket: vec![2; 900],
        secrets: SessionSecrets::generate(Kem::X25519, &mut rng()),
        receipt: Receipt {
            entry: vec![4; 200],
            proof: "a proof".repeat(600),
        },
        record: vec![5; 2_000],
        evidence: None,
        alias: None,
    }
}

fn wallet() -> Wallet {
    let mut wallet = Wallet {
        node: Some(node()),
        datasets: Vec::new(),
    };
    wallet.put(session("faces"));
    wallet
}

struct Place {
    _dir: tempfile::TempDir,
    file: WalletFile,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/wallet");
    let file = WalletFile::from_spec(&format!("FILE:{}", path.display())).unwrap();
    Place { _dir: dir, file }
}

impl Place {
    fn save(&self, wallet: &Wallet) {
        let lock = self.file.lock().unwrap();
        self.file.save(&lock, wallet, &KEY, &mut rng()).unwrap();
    }

    fn refusal(&self) -> Error {
        self.file.load(&KEY).unwrap_err()
    }
}

#[test]
fn a_wallet_comes_back_as_it_was_saved() {
    let place = place();
    let saved = wallet();
    place.save(&saved);
    let loaded = place.file.load(&KEY).unwrap();
    let (was, is) = (saved.node.unwrap(), loaded.node.unwrap());
    assert_eq!(is.ticket, was.ticket);
    assert_eq!(is.secrets.proof.seed(), was.secrets.proof.seed());
    assert_eq!(is.secrets.sealing.seed(), was.secrets.sealing.seed());
    assert_eq!(is.secrets.sealing.kem(), Kem::XWing);
    let faces = &loaded.datasets[0];
    assert_eq!(faces.record, saved.datasets[0].record);
    assert_eq!(faces.receipt, saved.datasets[0].receipt);
    assert_eq!(faces.secrets.sealing.kem(), Kem::X25519);
}

#[test]
fn an_absent_wallet_is_empty() {
    let wallet = place().file.load(&KEY).unwrap();
    assert!(wallet.node.is_none() && wallet.datasets.is_empty());
}

#[test]
fn file_and_directory_are_for_their_owner_alone() {
    let place = place();
    place.save(&wallet());
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(place.file.path()), 0o600);
    assert_eq!(mode(place.file.path().parent().unwrap()), 0o700);
}

#[test]
fn a_wallet_that_others_may_read_is_refused() {
    let place = place();
    place.save(&wallet());
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(place.file.path(), mode).unwrap();
    assert!(matches!(
        place.refusal(),
        Error::File(FileError::NotPrivate(_))
    ));
}

#[test]
fn a_symbolic_link_is_no_wallet() {
    let place = place();
    place.save(&wallet());
    let real = place.file.path().with_file_name("real");
    std::fs::rename(place.file.path(), &real).unwrap();
    symlink(&real, place.file.path()).unwrap();
    assert!(matches!(
        place.refusal(),
        Error::File(FileError::NotPrivate(_))
    ));
}

#[test]
fn a_link_in_place_of_the_lock_is_not_followed() {
    let place = place();
    place.save(&wallet());
    let lock = place.file.path().with_file_name("wallet.lock");
    std::fs::remove_file(&lock).unwrap();
    let target = place.file.path().with_file_name("target");
    symlink(&target, &lock).unwrap();
    assert!(matches!(
        place.file.lock(),
        Err(Error::File(FileError::Io { .. }))
    ));
    assert!(!target.exists());
}

#[test]
fn a_directory_that_others_may_write_to_holds_no_wallet() {
    let place = place();
    place.save(&wallet());
    let dir = place.file.path().parent().unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(
        place.file.lock(),
        Err(Error::File(FileError::NotPrivateDirectory(_)))
    ));
}

#[test]
fn a_wallet_is_replaced_in_one_step() {
    let place = place();
    place.save(&wallet());
    let before = place.file.path().metadata().unwrap().ino();
    let open = File::open(place.file.path()).unwrap();
    place.save(&Wallet::default());
    // Another file under the name: whoever had the old one open still sees all of it.
    assert_ne!(place.file.path().metadata().unwrap().ino(), before);
    assert!(open.metadata().unwrap().len() > 1_000);
    let left = std::fs::read_dir(place.file.path().parent().unwrap()).unwrap();
    assert_eq!(left.count(), 2, "wallet and lock, nothing half-written");
}

#[test]
fn only_one_holds_the_lock_and_a_lock_file_left_behind_holds_nobody_up() {
    let place = place();
    let lock = place.file.lock().unwrap();
    assert!(matches!(place.file.lock(), Err(Error::Locked(_))));
    assert!(place.file.lock().unwrap_err().worth_retrying());
    drop(lock);
    assert!(place.file.path().with_file_name("wallet.lock").exists());
    assert!(place.file.lock().is_ok());
}

#[test]
fn another_nodes_wallet_is_refused() {
    let place = place();
    place.save(&wallet());
    let error = place.file.load(&[0xa5; 32]).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }));
    assert!(
        error.to_string().contains("not sealed by this node"),
        "{error}"
    );
}

#[test]
fn every_flipped_byte_cut_and_extension_is_refused() {
    let place = place();
    place.save(&wallet());
    let good = std::fs::read(place.file.path()).unwrap();
    let with = |bytes: &[u8]| {
        files::write_private(place.file.path(), bytes).unwrap();
        assert!(matches!(place.refusal(), Error::Damaged { .. }));
    };
    for at in (0..good.len()).step_by(37).chain([good.len() - 1]) {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        with(&flipped);
        with(&good[..at]);
    }
    with(&[&good[..], &[0]].concat());
}

#[test]
fn a_wallet_past_its_bound_is_not_read() {
    let place = place();
    place.save(&wallet());
    let file = OpenOptions::new()
        .write(true)
        .open(place.file.path())
        .unwrap();
    file.set_len(LIMIT + 1).unwrap();
    assert!(matches!(
        place.refusal(),
        Error::File(FileError::TooLarge { .. })
    ));
}

#[test]
fn the_file_shows_nothing_of_what_it_holds() {
    let place = place();
    let saved = wallet();
    place.save(&saved);
    let bytes = std::fs::read(place.file.path()).unwrap();
    let seed = saved.node.unwrap().secrets.proof.seed();
    assert!(!bytes.windows(32).any(|window| window == seed.as_slice()));
    assert!(!bytes.windows(5).any(|window| window == b"faces"));
}

#[test]
fn encoding_a_wallet_never_outgrows_the_room_made_for_it() {
    // Growing would leave copies of secrets behind.
    let mut wallet = wallet();
    for number in 0..SESSIONS {
        assert!(wallet.to_bytes().len() <= wallet.room());
        wallet.put(session(&format!("dataset-{number}")));
    }
    assert!(wallet.to_bytes().len() <= wallet.room());
}

#[test]
fn a_dataset_has_one_session_and_the_oldest_goes_when_there_are_many() {
    let mut wallet = wallet();
    wallet.put(session("faces"));
    assert_eq!(wallet.datasets.len(), 1);
    for number in 0..SESSIONS {
        wallet.put(session(&format!("dataset-{number}")));
    }
    assert_eq!(wallet.datasets.len(), SESSIONS);
    assert!(wallet.dataset("faces").is_none());
    let place = place();
    place.save(&wallet);
    assert_eq!(place.file.load(&KEY).unwrap().datasets.len(), SESSIONS);
}

#[test]
fn erasing_says_whether_there_was_one() {
    let place = place();
    place.save(&wallet());
    let lock = place.file.lock().unwrap();
    assert!(place.file.remove(&lock).unwrap());
    assert!(!place.file.remove(&lock).unwrap());
    assert!(!place.file.path().exists());
}

#[test]
fn a_place_is_a_path_or_says_that_it_is_one() {
    for spec in ["FILE:/run/x", "/run/x", "./x"] {
        assert!(WalletFile::from_spec(spec).is_ok(), "{spec}");
    }
    for spec in ["", "FILE:", "KEYRING:postern", "MEMORY:", "x", "OTHER:/x"] {
        assert!(WalletFile::from_spec(spec).is_err(), "{spec}");
    }
}
