//! A root key under a key of a real token: SoftHSM (Debian package softhsm2).

use std::path::Path;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use ticket_format::statement::AutoKind;

use super::rig::{Rig, both_open};
use crate::files;
use crate::pkcs11::{Pkcs11Error, softhsm};
use crate::root::{Means, Pkcs11Means, RootError};

/// The token as the means of a root key.
fn token(rig: &Rig) -> Pkcs11Means {
    softhsm::means(&rig.at("pin"), "root")
}

/// Makes an AES key by hand.
fn make_key(label: &str, extractable: bool) {
    softhsm::with_session(|session| {
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
    });
}

#[test]
fn a_root_key_opens_by_a_key_that_never_leaves_its_token() {
    softhsm::in_a_process("root::tests::pkcs11::a_token_opens");
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
    softhsm::in_a_process("root::tests::pkcs11::each_fault_is_its_own");
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
