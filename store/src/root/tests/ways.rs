//! The two ways to one root key.

use std::fs;

use ticket_format::statement::AutoKind;

use super::rig::{Rig, both_open, holders, names, place, rng, shares};
use crate::files::{self, FileError};
use crate::root::{Means, Pkcs11Means, RootError, ShareError};
use crate::sealed::SealedError;

#[test]
fn a_root_key_opens_by_its_credential_and_by_any_two_of_three_shares() {
    // rule: ROOT-1
    let rig = Rig::new();
    assert!(!rig.root().exists());
    let (made, key) = rig.create(&rig.credential()).unwrap();
    assert!(rig.root().exists());
    let ways = rig.root().ways().unwrap();
    assert_eq!(
        (ways.root(), ways.kind()),
        (made.root(), AutoKind::Credential)
    );
    assert_eq!((ways.threshold(), ways.rows().len()), (2, 3));
    for numbers in [[1, 2], [3, 1], [2, 3]] {
        both_open(&ways, &rig.credential(), &numbers, &key);
    }
    assert_eq!(
        names(&rig.at("root/1")),
        ["auto", "replaced", "sealed", "shares"]
    );
    assert_eq!(ways.sealed(), rig.at("root/1/sealed"));
    assert_eq!(rig.names(), ["1", "current"]);
}

#[test]
fn root_keys_and_their_ids_are_random_and_no_file_holds_the_key() {
    // rule: ROOT-1
    let rigs = [Rig::new(), Rig::new()];
    let [(one, first), (two, second)] = rigs
        .each_ref()
        .map(|rig| rig.create(&rig.credential()).unwrap());
    assert_ne!(one.root(), two.root());
    assert!(!first.same(&second));
    for name in ["auto", "shares", "replaced"] {
        let bytes = fs::read(rigs[0].at("root/1").join(name)).unwrap();
        assert!(!bytes.windows(32).any(|window| window == first.expose()));
    }
}

#[test]
fn too_few_shares_and_shares_of_another_root_key_open_nothing() {
    // rule: ROOT-3
    let rig = Rig::new();
    let (ways, _) = rig.create(&rig.credential()).unwrap();
    let few = ways.open_shares(&shares(&ways, &[3])).unwrap_err();
    let expected = ShareError::TooFew { have: 1, need: 2 };
    assert!(matches!(few, RootError::Share(error) if error == expected));
    let other = Rig::new();
    let (theirs, _) = other.create(&other.credential()).unwrap();
    let mut mixed = shares(&ways, &[1]);
    mixed.extend(shares(&theirs, &[2]));
    let error = ways.open_shares(&mixed).unwrap_err();
    assert!(matches!(error, RootError::SharesNotThis));
}

#[test]
fn another_credential_is_told_from_a_missing_and_an_unusable_one() {
    // rule: ROOT-2
    let rig = Rig::new();
    let (ways, _) = rig.create(&rig.credential()).unwrap();
    let path = rig.at("credential");
    files::write_private(&path, &[8; 32]).unwrap();
    let error = ways.open_auto(&rig.credential()).unwrap_err();
    assert!(matches!(error, RootError::NotThis(AutoKind::Credential)));
    files::write_private(&path, &[8; 31]).unwrap();
    let error = ways.open_auto(&rig.credential()).unwrap_err();
    assert!(matches!(
        error,
        RootError::Secret {
            error: SealedError::Credential,
            ..
        }
    ));
    fs::remove_file(&path).unwrap();
    let error = ways.open_auto(&rig.credential()).unwrap_err();
    assert!(matches!(error, RootError::File(FileError::Missing(_))));
}

#[test]
fn a_passphrase_opens_its_root_key_and_another_does_not() {
    // rule: ROOT-2
    let rig = Rig::new();
    let path = rig.at("passphrase");
    let means = Means::Passphrase(path.clone());
    files::write_private(&path, b"correct horse\n").unwrap();
    let (ways, key) = rig.create(&means).unwrap();
    // The line's end is no part of it.
    files::write_private(&path, b"correct horse").unwrap();
    both_open(&ways, &means, &[1, 2], &key);
    files::write_private(&path, b"another horse").unwrap();
    let error = ways.open_auto(&means).unwrap_err();
    assert!(matches!(error, RootError::NotThis(AutoKind::Passphrase)));
}

#[test]
fn a_wrap_is_opened_by_its_own_kind_only() {
    // rule: ROOT-2
    let rig = Rig::new();
    let (ways, _) = rig.create(&rig.credential()).unwrap();
    let token = Means::Pkcs11(Pkcs11Means {
        module: rig.at("none.so"),
        token: "token".to_owned(),
        key: "key".to_owned(),
        pin_file: rig.at("pin"),
    });
    for means in [Means::Passphrase(rig.at("credential")), token] {
        let error = ways.open_auto(&means).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, RootError::Kind { .. }), "{said}");
        assert!(said.contains("credential"), "{said}");
    }
}

#[test]
fn a_wrap_names_its_root_key_and_no_other_takes_its_place() {
    // rule: ROOT-2
    let rig = Rig::new();
    let other = Rig::new();
    let (ways, _) = rig.create(&rig.credential()).unwrap();
    let (theirs, _) = other.create(&other.credential()).unwrap();
    // Another root key's wrap, under the same credential.
    let auto = fs::read(other.at("root/1/auto")).unwrap();
    files::write_private(&rig.at("root/1/auto"), &auto).unwrap();
    let error = rig.root().ways().unwrap_err();
    assert!(matches!(error, RootError::Damaged { .. }), "{error}");
    // The same, with the right id written over it.
    let at = auto.windows(16).position(|w| w == theirs.root().0).unwrap();
    let mut renamed = auto;
    renamed[at..at + 16].copy_from_slice(&ways.root().0);
    files::write_private(&rig.at("root/1/auto"), &renamed).unwrap();
    let renamed = rig.root().ways().unwrap();
    let error = renamed.open_auto(&rig.credential()).unwrap_err();
    assert!(matches!(error, RootError::NotThis(_)), "{error}");
}

#[test]
fn damaged_files_are_named() {
    let rig = Rig::new();
    rig.create(&rig.credential()).unwrap();
    for name in ["current", "1/auto", "1/shares", "1/replaced"] {
        let path = rig.at("root").join(name);
        let good = fs::read(&path).unwrap();
        for bad in [&b""[..], b"x\n", b"+1\n", b"01\n", b"1", &[0xff; 30]] {
            files::write_private(&path, bad).unwrap();
            let error = rig.root().ways().unwrap_err();
            let RootError::Damaged { path: at, .. } = &error else {
                panic!("{name}: {error}");
            };
            assert_eq!(*at, path);
        }
        files::write_private(&path, &good).unwrap();
    }
    assert!(rig.root().ways().is_ok());
    files::write_private(&rig.at("root/current"), b"7\n").unwrap();
    let error = rig.root().ways().unwrap_err();
    assert!(matches!(error, RootError::File(FileError::Missing(_))));
    assert!(
        rig.at("root/1").exists(),
        "nothing is erased for a pointer to nothing"
    );
}

#[test]
fn a_root_key_is_made_once() {
    let rig = Rig::new();
    rig.create(&rig.credential()).unwrap();
    let error = rig.create(&rig.credential()).unwrap_err();
    assert!(matches!(error, RootError::Exists(_)));
}

#[test]
fn an_automatic_way_that_is_not_there_leaves_no_root_key() {
    let rig = Rig::new();
    let none = Means::Credential(rig.at("none"));
    assert!(rig.create(&none).is_err());
    assert!(!rig.root().exists());
    assert!(rig.names().is_empty());
    // And the next one is not in its way.
    let made = rig
        .root()
        .create(&place(), &rig.credential(), &holders(1, 1), &mut rng());
    let (ways, key) = made.unwrap();
    both_open(&ways, &rig.credential(), &[1], &key);
}

#[test]
fn what_is_said_of_a_fault_fits_into_an_answer() {
    let long = RootError::Exists("ä".repeat(300).into());
    let said = long.brief();
    assert!(
        said.len() <= 256 && said.len() > 250 && said.ends_with('ä'),
        "{said}"
    );
    let short = RootError::SharesNotThis;
    assert_eq!(short.brief(), short.to_string());
}
