//! A root key under a key of a real token: SoftHSM (Debian package softhsm2).

use std::path::{Path, PathBuf};
use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use ticket_format::statement::AutoKind;

use super::rig::{Rig, both_open};
use crate::files;
use crate::root::{Means, Pkcs11Error, Pkcs11Means, RootError};

const HOW: &str = "SoftHSM is missing; install it with: apt-get install softhsm2";
const MODULES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];
const PIN: &str = "1234567";

/// The library reads where its tokens are from the environment of its process: each of these tests runs
/// in one of its own.
fn in_a_process_with_a_token(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("softhsm2.conf");
    let tokens = dir.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&conf, text).unwrap();
    for label in ["postern", "other"] {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label])
            .args(["--so-pin", "12345678", "--pin", PIN])
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .expect(HOW);
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
    }
    let name = format!("root::tests::pkcs11::{test}");
    let ran = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--ignored", "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{errors}");
    assert!(said.contains("1 passed"), "{said}");
}

fn module() -> PathBuf {
    let found = MODULES.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect(HOW)
}

fn token(rig: &Rig) -> Pkcs11Means {
    let pin_file = rig.at("pin");
    files::write_private(&pin_file, format!("{PIN}\n").as_bytes()).unwrap();
    Pkcs11Means {
        module: module(),
        token: "postern".to_owned(),
        key: "root".to_owned(),
        pin_file,
    }
}

/// Makes an AES key by hand.
fn make_key(label: &str, extractable: bool) {
    let library = Pkcs11::new(module()).unwrap();
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    library.initialize(arguments).unwrap();
    let slots = library.get_slots_with_initialized_token().unwrap();
    let mut slots = slots.into_iter();
    let slot = slots.find(|slot| library.get_token_info(*slot).unwrap().label() == "postern");
    let session = library.open_rw_session(slot.unwrap()).unwrap();
    let pin: AuthPin = PIN.to_owned().into();
    session.login(UserType::User, Some(&pin)).unwrap();
    let template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    session
        .generate_key(&Mechanism::AesKeyGen, &template)
        .unwrap();
    drop(session);
    library.finalize().unwrap();
}

#[test]
fn a_root_key_opens_by_a_key_that_never_leaves_its_token() {
    in_a_process_with_a_token("a_token_opens");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn a_token_opens() {
    // rule: ROOT-2
    let rig = Rig::new();
    let means = Means::Pkcs11(token(&rig));
    let (ways, key) = rig.create(&means).unwrap();
    assert_eq!(ways.kind(), AutoKind::Pkcs11);
    both_open(&ways, &means, &[1, 3], &key);
    // A rekey takes the same key of the token; a wrap of the first root key is no way to the second.
    let old = std::fs::read(rig.at("root/1/auto")).unwrap();
    let (next, next_key) = rig.rekey(&ways, &key, &means).unwrap();
    both_open(&next, &means, &[1, 2, 3], &next_key);
    let mut renamed = old.clone();
    let at = old.windows(16).position(|w| w == ways.root().0).unwrap();
    renamed[at..at + 16].copy_from_slice(&next.root().0);
    files::write_private(&rig.at("root/2/auto"), &renamed).unwrap();
    let error = rig.root().ways().unwrap().open_auto(&means).unwrap_err();
    assert!(
        matches!(error, RootError::NotThis(AutoKind::Pkcs11)),
        "{error}"
    );
}

#[test]
fn a_token_that_does_not_serve_is_told_why() {
    in_a_process_with_a_token("each_fault_is_its_own");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn each_fault_is_its_own() {
    // rule: ROOT-2
    let rig = Rig::new();
    let good = token(&rig);
    let (ways, key) = rig.create(&Means::Pkcs11(good.clone())).unwrap();
    let open = |means: Pkcs11Means| match ways.open_auto(&Means::Pkcs11(means)) {
        Err(RootError::Pkcs11(error)) => error,
        other => panic!("{other:?}"),
    };
    let mut means = good.clone();
    means.module = rig.at("none.so");
    assert!(matches!(open(means), Pkcs11Error::Module { .. }));
    let mut means = good.clone();
    means.token = "none".to_owned();
    assert!(matches!(open(means), Pkcs11Error::Token { count: 0, .. }));
    let mut means = good.clone();
    means.key = "none".to_owned();
    assert!(matches!(open(means), Pkcs11Error::Key { count: 0, .. }));
    // The right label in another token.
    let mut means = good.clone();
    means.token = "other".to_owned();
    assert!(matches!(open(means), Pkcs11Error::Key { count: 0, .. }));
    let mut means = good.clone();
    means.pin_file = rig.at("wrong-pin");
    files::write_private(&means.pin_file, b"7654321").unwrap();
    let error = open(means);
    assert!(matches!(error, Pkcs11Error::Pin { .. }));
    assert!(!error.to_string().contains("7654321"), "{error}");
    // Two keys of one label; another key in the place of the one.
    make_key("root", false);
    assert!(matches!(
        open(good.clone()),
        Pkcs11Error::Key { count: 2, .. }
    ));
    make_key("second", false);
    let mut means = good.clone();
    means.key = "second".to_owned();
    let error = ways.open_auto(&Means::Pkcs11(means)).unwrap_err();
    assert!(matches!(error, RootError::NotThis(_)), "{error}");
    // A key that can be read out of the token wraps nothing and opens nothing.
    make_key("loose", true);
    let mut means = good;
    means.key = "loose".to_owned();
    assert!(matches!(open(means.clone()), Pkcs11Error::Leaves { .. }));
    let error = rig.rekey(&ways, &key, &Means::Pkcs11(means)).unwrap_err();
    assert!(matches!(
        error,
        RootError::Pkcs11(Pkcs11Error::Leaves { .. })
    ));
    assert!(
        ways.open_shares(&super::rig::shares(&ways, &[1, 2]))
            .unwrap()
            .same(&key)
    );
    assert!(Path::new(&rig.at("root/1")).exists());
}
