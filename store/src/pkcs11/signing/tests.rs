//! Ed25519 keys in a real token.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::Session;
use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::{Pkcs11Error, SigningToken, using};
use crate::files;
use crate::pkcs11::{load, softhsm};
use crate::root::Pkcs11Means;

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn means(dir: &tempfile::TempDir, key: &str) -> Pkcs11Means {
    softhsm::means(&dir.path().join("pin"), key)
}

/// Makes a pair by hand, of these ids.
fn pair(session: &Session, label: &str, extractable: bool, ids: [&[u8]; 2]) {
    let template = |id: &[u8], more: &[Attribute]| {
        let mut template = more.to_vec();
        template.push(Attribute::Token(true));
        template.push(Attribute::Label(label.as_bytes().to_vec()));
        template.push(Attribute::Id(id.to_vec()));
        template
    };
    let curve = Attribute::EcParams(b"\x06\x03\x2b\x65\x70".to_vec());
    let public = template(ids[0], &[Attribute::Verify(true), curve]);
    let private = template(
        ids[1],
        &[
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(extractable),
            Attribute::Sign(true),
        ],
    );
    let made = session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private);
    made.unwrap();
}

fn verifies(key: &[u8; 32], input: &[u8], signature: &[u8]) -> bool {
    let key = ed25519_dalek::VerifyingKey::from_bytes(key).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(signature).unwrap();
    key.verify_strict(input, &signature).is_ok()
}

#[test]
fn a_key_that_a_token_made_signs_in_it_until_it_is_destroyed() {
    softhsm::in_a_process("pkcs11::signing::tests::a_token_signs");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn a_token_signs() {
    // rule: KEY-4
    let dir = tempfile::tempdir().unwrap();
    let token = SigningToken::open(&means(&dir, "tickets")).unwrap();
    assert!(token.keys().unwrap().is_empty());
    let one = token.make(&mut rng()).unwrap();
    let signature = token.sign(&one, b"a ticket").unwrap();
    assert!(verifies(&one, b"a ticket", &signature));
    let two = token.make(&mut rng()).unwrap();
    assert_ne!(one, two);
    // A session that knew the keys before finds the new one.
    assert!(verifies(&two, b"b", &token.sign(&two, b"b").unwrap()));
    // Who opens it again, as after a restart, has the same.
    let again = SigningToken::open(&means(&dir, "tickets")).unwrap();
    let mut both = vec![one, two];
    both.sort_unstable();
    assert_eq!(again.keys().unwrap(), both);
    assert!(verifies(&one, b"c", &again.sign(&one, b"c").unwrap()));
    // Another label has none of them.
    let other = SigningToken::open(&means(&dir, "others")).unwrap();
    assert!(other.keys().unwrap().is_empty());
    assert!(matches!(
        other.sign(&one, b"d"),
        Err(Pkcs11Error::Gone { .. })
    ));
    // At the same time.
    std::thread::scope(|scope| {
        for number in 0..4_u8 {
            let token = &token;
            scope.spawn(move || {
                for round in 0..25_u8 {
                    let signature = token.sign(&one, &[number, round]).unwrap();
                    assert!(verifies(&one, &[number, round], &signature));
                }
            });
        }
    });
    token.destroy(&one).unwrap();
    token.destroy(&one).unwrap();
    assert!(matches!(
        token.sign(&one, b"e"),
        Err(Pkcs11Error::Gone { .. })
    ));
    assert_eq!(again.keys().unwrap(), [two]);
    assert!(again.sign(&one, b"f").is_err(), "another session's handle");
    assert!(verifies(&two, b"g", &token.sign(&two, b"g").unwrap()));
}

#[test]
fn a_session_that_ended_is_replaced_and_a_pin_that_is_refused_is_not_tried_again() {
    softhsm::in_a_process("pkcs11::signing::tests::a_token_comes_back");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn a_token_comes_back() {
    // rule: KEY-4
    let dir = tempfile::tempdir().unwrap();
    let means = means(&dir, "tickets");
    let token = SigningToken::open(&means).unwrap();
    let key = token.make(&mut rng()).unwrap();
    // As if the device had been taken out and put in again.
    let away = || {
        let library = using(&means, |library| Ok(library.clone())).unwrap();
        library.finalize().unwrap();
    };
    away();
    assert!(verifies(&key, b"b", &token.sign(&key, b"b").unwrap()));
    // And with another PIN.
    let pin = "7654321".to_owned().into();
    let changed = token.fresh(|live| {
        live.session.set_pin(&token.pin, &pin).unwrap();
        Ok(())
    });
    changed.unwrap();
    away();
    load(&means).unwrap();
    assert!(matches!(
        token.sign(&key, b"c"),
        Err(Pkcs11Error::Pin { .. })
    ));
    for _ in 0..3 {
        let error = token.sign(&key, b"d").unwrap_err();
        assert!(matches!(error, Pkcs11Error::Barred { .. }), "{error}");
    }
    files::write_private(&means.pin_file, b"7654321").unwrap();
    let again = SigningToken::open(&means).unwrap();
    assert!(verifies(&key, b"e", &again.sign(&key, b"e").unwrap()));
}

#[test]
fn a_key_that_could_leave_its_token_or_is_half_a_pair_stands_for_nothing() {
    softhsm::in_a_process("pkcs11::signing::tests::each_fault_is_its_own");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn each_fault_is_its_own() {
    // rule: KEY-4
    let dir = tempfile::tempdir().unwrap();
    softhsm::with_session(|session| {
        pair(session, "loose", true, [b"1", b"1"]);
        pair(session, "crossed", false, [b"2", b"3"]);
        pair(session, "good", false, [b"4", b"4"]);
        pair(session, "twice", false, [b"5", b"5"]);
        pair(session, "twice", false, [b"5", b"5"]);
    });
    let keys = |label| SigningToken::open(&means(&dir, label)).unwrap().keys();
    assert!(matches!(keys("loose"), Err(Pkcs11Error::Leaves { .. })));
    assert!(matches!(keys("crossed"), Err(Pkcs11Error::Half { .. })));
    assert!(matches!(keys("twice"), Err(Pkcs11Error::Half { .. })));
    assert_eq!(keys("good").unwrap().len(), 1);
    // Nor does it sign.
    let loose = SigningToken::open(&means(&dir, "loose")).unwrap();
    let error = loose.sign(&[1; 32], b"a").unwrap_err();
    assert!(matches!(error, Pkcs11Error::Leaves { .. }), "{error}");
    // Which token, and by which PIN.
    let open = |edit: &dyn Fn(&mut Pkcs11Means)| {
        let mut means = means(&dir, "good");
        edit(&mut means);
        SigningToken::open(&means).unwrap_err()
    };
    let nowhere = dir.path().join("none.so");
    let error = open(&|means| means.module.clone_from(&nowhere));
    assert!(matches!(error, Pkcs11Error::Module { .. }), "{error}");
    let error = open(&|means| means.token = "none".to_owned());
    assert!(
        matches!(error, Pkcs11Error::Token { count: 0, .. }),
        "{error}"
    );
    let wrong = dir.path().join("wrong-pin");
    files::write_private(&wrong, b"0000000").unwrap();
    let error = open(&|means| means.pin_file.clone_from(&wrong));
    assert!(matches!(error, Pkcs11Error::Pin { .. }), "{error}");
    assert!(!error.to_string().contains("0000000"), "{error}");
    let missing = dir.path().join("no-pin");
    let error = open(&|means| means.pin_file.clone_from(&missing));
    assert!(matches!(error, Pkcs11Error::File(_)), "{error}");
}
