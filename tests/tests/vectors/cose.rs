//! Messages of the COSE working group through `coset` with the signature checks that Postern uses,
//! and through Postern's own readers, which accept one shape and none of these.

use coset::{CoseSign, CoseSign1, Header, ProtectedHeader, TaggedCborSerializable};
use ed25519_dalek::{Signer, SigningKey};
use tests::admins::Admins;
use ticket_format::ids::StatementId;
use ticket_format::keys::{TicketKey, TicketSecret, TlsSecret};
use ticket_format::statement::{Payload, ReceivedStatement, StatementRefusal, StatusShow};
use ticket_format::ticket::{self, DatasetClaims, NodeClaims, TicketError};
use ticket_format::time::Timestamp;

use crate::cose_example::{Example, Jwk, Signer0};
use crate::support::{Hex, read};

/// Why a message is not believed, in the order of the checks.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Shape,
    Critical,
    Algorithm,
    Signature,
}

fn check_header(header: &ProtectedHeader) -> Result<(), Refused> {
    // Nothing that a signer may call critical is understood here.
    if header.header.crit.is_empty() {
        Ok(())
    } else {
        Err(Refused::Critical)
    }
}

fn check_algorithm(header: &ProtectedHeader, key: &Jwk) -> Result<(), Refused> {
    if header.header.alg == Some(key.algorithm()) {
        Ok(())
    } else {
        Err(Refused::Algorithm)
    }
}

fn verify_sign1(example: &Example) -> Result<Vec<u8>, Refused> {
    let Signer0 { key, external } = example.input.sign0.as_ref().expect("a COSE_Sign1");
    let message = CoseSign1::from_tagged_slice(&example.output.cbor).map_err(|_| Refused::Shape)?;
    check_header(&message.protected)?;
    check_algorithm(&message.protected, key)?;
    let verified = message.verify_signature(external, |signature, input| {
        if !example.fail {
            assert_eq!(input, &*example.intermediates.to_be_signed);
        }
        key.verifies(input, signature)
            .then_some(())
            .ok_or(Refused::Signature)
    });
    verified.map(|()| message.payload.unwrap_or_default())
}

#[test]
fn cose_sign1_messages_verify_or_are_refused_as_their_files_say() {
    // rule: TKT-4
    let mut run = 0;
    for (file, expected) in [
        ("CWT/A_3", Ok(())),
        ("RFC8152/Appendix_C_2_1", Ok(())),
        ("sign1-tests/sign-pass-02", Ok(())),
        ("eddsa-examples/eddsa-sig-01", Ok(())),
        // Good for who reads the algorithm where anyone can change it, and not for us.
        ("sign1-tests/sign-pass-01", Err(Refused::Algorithm)),
        // Ed448 goes by the same algorithm id as Ed25519.
        ("eddsa-examples/eddsa-sig-02", Err(Refused::Signature)),
        ("sign1-tests/sign-fail-01", Err(Refused::Shape)),
        ("sign1-tests/sign-fail-02", Err(Refused::Signature)),
        ("sign1-tests/sign-fail-04", Err(Refused::Algorithm)),
        ("sign1-tests/sign-fail-07", Err(Refused::Signature)),
    ] {
        let example: Example = read(&format!("cose/{file}.json"));
        assert_eq!(example.fail, file.contains("-fail-"), "{file}");
        let expected = expected.map(|()| example.input.plaintext());
        assert_eq!(verify_sign1(&example), expected, "{file}");
        run += 1;
    }
    assert_eq!(run, 10);
}

#[test]
fn an_empty_protected_header_is_signed_as_it_was_received() {
    let pass: Example = read("cose/sign1-tests/sign-pass-01.json");
    let mut message = CoseSign1::from_tagged_slice(&pass.output.cbor).expect("a COSE_Sign1");
    let key = &pass.input.sign0.as_ref().expect("a COSE_Sign1").key;
    assert_eq!(message.protected.header, Header::default());
    assert_eq!(message.unprotected.alg, Some(key.algorithm()));

    // The example carries an empty map and has signed an empty string in its place (RFC 9052, 4.4).
    // The library puts in what it received, which errs on the safe side; our headers are never empty.
    let verifies = |message: &CoseSign1| {
        let verified = message.verify_signature(&[], |signature, input| {
            key.verifies(input, signature).then_some(()).ok_or(())
        });
        verified.is_ok()
    };
    assert!(!verifies(&message));
    message.protected = ProtectedHeader::default();
    assert_eq!(message.tbs_data(&[]), *pass.intermediates.to_be_signed);
    assert!(verifies(&message));
}

fn verify_sign(example: &Example) -> Result<Vec<u8>, Refused> {
    let signers = &example.input.sign.as_ref().expect("a COSE_Sign").signers;
    let message = CoseSign::from_tagged_slice(&example.output.cbor).map_err(|_| Refused::Shape)?;
    check_header(&message.protected)?;
    assert_eq!(message.signatures.len(), signers.len());
    for (which, signer) in signers.iter().enumerate() {
        let header = &message.signatures[which].protected;
        check_header(header)?;
        check_algorithm(header, &signer.key)?;
        verify_one(example, &message, which, &signer.key)?;
    }
    Ok(message.payload.unwrap_or_default())
}

fn verify_one(
    example: &Example,
    message: &CoseSign,
    which: usize,
    key: &Jwk,
) -> Result<(), Refused> {
    message.verify_signature(which, &[], |signature, input| {
        assert_eq!(input, &*example.intermediates.signers[which].to_be_signed);
        key.verifies(input, signature)
            .then_some(())
            .ok_or(Refused::Signature)
    })
}

#[test]
fn a_cose_sign_message_verifies_unless_it_has_a_critical_header() {
    // rule: ADM-2, SIG-2
    let good: Example = read("cose/eddsa-examples/eddsa-01.json");
    assert_eq!(verify_sign(&good), Ok(good.input.plaintext()));

    let critical: Example = read("cose/RFC8152/Appendix_C_1_4.json");
    assert_eq!(verify_sign(&critical), Err(Refused::Critical));
    // It was nothing else: the signature is good.
    let message = CoseSign::from_tagged_slice(&critical.output.cbor).expect("a COSE_Sign");
    let key = &critical.input.sign.as_ref().expect("a COSE_Sign").signers[0].key;
    assert_eq!(verify_one(&critical, &message, 0, key), Ok(()));
}

#[test]
fn a_statement_with_a_critical_header_is_refused_whatever_else_is_right() {
    // rule: ADM-1
    let critical: Example = read("cose/RFC8152/Appendix_C_1_4.json");
    let critical = CoseSign::from_tagged_slice(&critical.output.cbor).expect("a COSE_Sign");
    let admins = Admins::fresh();
    let admin = &admins.operator;
    let server = TlsSecret::from_seed(&[2; 32]).public();
    let now = Timestamp::from_seconds(1_800_000_000);
    let statement = Payload::act(
        StatementId([3; 16]),
        "realm",
        server,
        now,
        60,
        &StatusShow {},
    );
    let statement = statement.sign(&[admin]).expect("it would be accepted");

    // Signs again what was changed, so that nothing else is wrong with it.
    let parse = |change: &dyn Fn(&mut Header)| {
        let mut changed = CoseSign::from_tagged_slice(&statement).expect("a COSE_Sign");
        change(&mut changed.protected.header);
        changed.protected.original_data = None;
        let input = changed.tbs_data(&[], &changed.signatures[0]);
        let signature = SigningKey::from_bytes(&admin.seed()).sign(&input);
        changed.signatures[0].signature = signature.to_vec();
        ReceivedStatement::parse(&changed.to_tagged_vec().expect("it was one"))
    };
    let good = parse(&|_| {}).expect("unchanged");
    let verified = good.verify(&admins.first_set(), "realm", Some(&server), now);
    assert!(verified.is_ok());

    // The header of the example, added to the one that a statement has.
    let refused = parse(&|header| {
        let example = &critical.protected.header;
        header.crit.clone_from(&example.crit);
        header.rest.extend(example.rest.iter().cloned());
    });
    assert_eq!(refused.unwrap_err(), StatementRefusal::Header);
}

#[test]
fn ed25519_makes_the_signatures_of_the_examples() {
    // Ed25519 is deterministic (RFC 8032): the same key and input give the same bytes.
    let mut made = Vec::new();
    let one: Example = read("cose/eddsa-examples/eddsa-sig-01.json");
    let message = CoseSign1::from_tagged_slice(&one.output.cbor).expect("a COSE_Sign1");
    let key = &one.input.sign0.as_ref().expect("a COSE_Sign1").key;
    made.push((key, &one.intermediates.to_be_signed, message.signature));

    let many: Example = read("cose/eddsa-examples/eddsa-01.json");
    let message = CoseSign::from_tagged_slice(&many.output.cbor).expect("a COSE_Sign");
    let key = &many.input.sign.as_ref().expect("a COSE_Sign").signers[0].key;
    let input = &many.intermediates.signers[0].to_be_signed;
    made.push((key, input, message.signatures[0].signature.clone()));

    for (key, input, signature) in made {
        let seed = key.d_hex.as_ref().and_then(Hex::array).expect("a seed");
        let secret = TicketSecret::from_seed(&seed);
        assert_eq!(secret.public().to_bytes(), *key.x());
        let again = SigningKey::from_bytes(&secret.seed()).sign(input);
        assert_eq!(again.to_vec(), signature);
    }
}

#[test]
fn none_of_the_messages_is_a_ticket_or_a_statement_even_with_the_right_key() {
    // rule: TKT-1, TKT-2, ENC-2
    let one: Example = read("cose/eddsa-examples/eddsa-sig-01.json");
    let key = one.input.sign0.expect("a COSE_Sign1").key.x();
    let key = TicketKey::from_bytes(&key.try_into().expect("32 bytes")).expect("a key");
    let mut run = 0;
    let mut by_header = Vec::new();
    for file in [
        "CWT/A_3",
        "CWT/A_4",
        "CWT/A_7",
        "RFC8152/Appendix_C_1_4",
        "RFC8152/Appendix_C_2_1",
        "X25519-tests/x25519-hkdf-256-direct",
        "chacha-poly-examples/chacha-poly-01",
        "eddsa-examples/eddsa-01",
        "eddsa-examples/eddsa-sig-01",
        "eddsa-examples/eddsa-sig-02",
        "sign1-tests/sign-fail-01",
        "sign1-tests/sign-fail-02",
        "sign1-tests/sign-fail-04",
        "sign1-tests/sign-fail-07",
        "sign1-tests/sign-pass-01",
        "sign1-tests/sign-pass-02",
    ] {
        let message = read::<Example>(&format!("cose/{file}.json")).output.cbor;
        let node = ticket::verify_for_anyone::<NodeClaims>(&message, &key);
        assert_eq!(node.unwrap_err(), TicketError::Malformed, "{file}");
        let dataset = ticket::verify_for_anyone::<DatasetClaims>(&message, &key);
        assert_eq!(dataset.unwrap_err(), TicketError::Malformed, "{file}");
        let unverified = ticket::read_unverified::<NodeClaims>(&message);
        assert_eq!(unverified.unwrap_err(), TicketError::Malformed, "{file}");
        match ReceivedStatement::parse(&message).unwrap_err() {
            StatementRefusal::Header => by_header.push(file),
            StatementRefusal::Malformed(_) => {}
            other => panic!("{file}: {other:?}"),
        }
        run += 1;
    }
    assert_eq!(run, 16);
    // The two that are COSE_Sign at all.
    assert_eq!(
        by_header,
        ["RFC8152/Appendix_C_1_4", "eddsa-examples/eddsa-01"]
    );
}
