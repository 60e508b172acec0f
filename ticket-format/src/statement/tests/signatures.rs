//! The forms of signatures, and how they are gathered.

use super::house::{body, signed};
use super::*;
use crate::keys::AdminKey;

/// What OpenSSH 9's `ssh-keygen -Y sign -n postern-statement` makes of `MESSAGE` with an Ed25519 key.
const MESSAGE: &[u8] = b"what COSE says is signed";
const OPENSSH_KEY: &str = "9bb29a3be477c7d868ebbd15e501add4fbe22c9247c6065761f0d0f2a4ecd74c";
const OPENSSH_SIGNATURE: [&str; 2] = [
    "46a9640641b381a1bcf93e29f9bb81732722bdd261a5fc2d943c3fc620e863b5",
    "0c61da090230107dec5528e8cca5e9e15ab4a6df2655e0d5c05ce860be20bd0f",
];

const APPLICATION: &str = "ssh:postern";

/// A set in which operator-1 signs by an agent and operator-2 by a security key.
fn mixed() -> AdminSet {
    let mut body = body();
    for admin in &mut body.admins {
        if admin.key == key(1) {
            admin.kind = AdminKeyKind::Agent;
        } else if admin.key == key(2) {
            admin.kind = AdminKeyKind::SecurityKey;
            admin.application = Some(APPLICATION.into());
        }
    }
    AdminSet::new(body).unwrap()
}

fn check(bytes: &[u8]) -> Result<VerifiedStatement, StatementRefusal> {
    ReceivedStatement::parse(bytes)?.verify(&mixed(), "realm", Some(&key(9)), at(1))
}

/// What an agent answers for its `ssh-ed25519` key: Ed25519 over the data of the request.
fn by_agent(seed: u8, payload: &Payload) -> Vec<u8> {
    let secret: AdminSecret = secret(seed);
    let signer = AdminSigner::agent(secret.public());
    let value = secret.sign_raw(&payload.signature_input(&signer));
    payload.signed(&signer, &value).unwrap()
}

/// A statement with these signatures, whatever they are.
fn forged(payload: &Payload, signatures: &[(AdminKey, AdminKeyKind, Vec<u8>)]) -> Vec<u8> {
    let mut sign = super::super::cose::unsigned(payload);
    for (key, kind, value) in signatures {
        let signature = super::super::cose::signature_of(key.thumbprint(), *kind, value.clone());
        sign.signatures.push(signature);
    }
    super::super::cose::bytes_of(sign).unwrap()
}

/// COSE's Sig_structure for a signer, which the code only ever makes from whole statements.
fn structure(payload: &Payload, signer: &AdminKey, kind: AdminKeyKind) -> Vec<u8> {
    let mut header = Writer::new();
    header.map(2).int(1).int(kind.alg());
    header.int(4).bytes(&signer.thumbprint().0);
    let mut body = Writer::new();
    body.map(1).int(16).text("postern-statement");
    let mut input = Writer::new();
    input.array(5).text("Signature").bytes(&body.into_bytes());
    input.bytes(&header.into_bytes()).bytes(b"");
    input.bytes(&payload.to_cbor());
    input.into_bytes()
}

/// What a security key answers: Ed25519 over the application's hash, flags, counter and the blob's hash.
fn as_security_key(
    key: &AdminSecret,
    application: &str,
    flags: u8,
    counter: u32,
    message: &[u8],
) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let tail = [&[flags][..], &counter.to_be_bytes()].concat();
    let application = Sha256::digest(application);
    let blob = Sha256::digest(sshsig::blob(message));
    let input = [&application[..], &tail, &blob].concat();
    [key.sign_raw(&input), tail].concat()
}

#[test]
fn a_signature_that_openssh_made_is_verified_over_the_same_bytes_only() {
    // rule: SET-7
    let key: AdminKey = OPENSSH_KEY.parse().unwrap();
    let halves: [crate::ids::Thumbprint; 2] = OPENSSH_SIGNATURE.map(|half| half.parse().unwrap());
    let signature = [halves[0].0, halves[1].0].concat();
    assert!(sshsig::verify(&key, MESSAGE, &signature).is_ok());
    assert!(sshsig::verify(&key, b"another message", &signature).is_err());
    assert!(key.verify_raw(MESSAGE, &signature).is_err(), "not raw");
}

#[test]
fn an_agents_signature_counts_for_an_admin_whose_key_an_agent_holds() {
    // rule: SET-7
    let bytes = by_agent(1, &payload());
    assert_eq!(names(&check(&bytes).unwrap()), ["operator-1"]);
    // The set says agent; a raw signature by the same key is another form.
    assert_eq!(
        check(&signed(&payload(), &[1])).map(drop),
        Err(StatementRefusal::Form)
    );
    assert_eq!(
        StatementRefusal::Form.refusal(),
        Refusal::StatementSignature
    );
    // The set of `verify` says file; the agent's is another form there.
    assert_eq!(verify(&bytes, at(1)).map(drop), Err(StatementRefusal::Form));
}

#[test]
fn a_raw_signature_under_the_agents_number_is_refused_and_the_reverse() {
    // rule: SET-7, SIG-2
    let secret: AdminSecret = secret(1);
    let payload = payload();
    let (agent, file) = (AdminKeyKind::Agent, AdminKeyKind::File);
    let raw = secret.sign_raw(&structure(&payload, &secret.public(), agent));
    let lie = forged(&payload, &[(secret.public(), agent, raw)]);
    assert_eq!(check(&lie).map(drop), Err(StatementRefusal::BadSignature));
    let blob = sshsig::blob(&structure(&payload, &secret.public(), file));
    let lie = forged(&payload, &[(secret.public(), file, secret.sign_raw(&blob))]);
    assert_eq!(
        verify(&lie, at(1)).map(drop),
        Err(StatementRefusal::BadSignature)
    );
}

fn by_security_key(application: &str, flags: u8) -> Vec<u8> {
    let secret: AdminSecret = secret(2);
    let payload = payload();
    let kind = AdminKeyKind::SecurityKey;
    let message = structure(&payload, &secret.public(), kind);
    let value = as_security_key(&secret, application, flags, 7, &message);
    forged(&payload, &[(secret.public(), kind, value)])
}

#[test]
fn a_security_key_signs_for_its_application_when_somebody_touches_it() {
    // rule: SET-7
    assert_eq!(
        names(&check(&by_security_key(APPLICATION, 1)).unwrap()),
        ["operator-2"]
    );
    assert!(
        check(&by_security_key(APPLICATION, 5)).is_ok(),
        "and verified who it was"
    );
    let bad = Err(StatementRefusal::BadSignature);
    for untouched in [0, 4, 0xfe] {
        let bytes = by_security_key(APPLICATION, untouched);
        assert_eq!(check(&bytes).map(drop), bad, "flags {untouched}");
    }
    assert_eq!(
        check(&by_security_key("ssh:", 1)).map(drop),
        bad,
        "another application"
    );
}

#[test]
fn every_byte_of_a_security_keys_signature_is_signed() {
    // rule: SET-7
    let payload = payload();
    let (secret, kind): (AdminSecret, _) = (secret(2), AdminKeyKind::SecurityKey);
    let message = structure(&payload, &secret.public(), kind);
    let value = as_security_key(&secret, APPLICATION, 1, 7, &message);
    for at_bit in 0..value.len() * 8 {
        let mut flipped = value.clone();
        flipped[at_bit / 8] ^= 1 << (at_bit % 8);
        let bytes = forged(&payload, &[(secret.public(), kind, flipped)]);
        assert!(check(&bytes).is_err(), "bit {at_bit}");
    }
    for cut in 64..value.len() {
        let short = value[..cut].to_vec();
        let bytes = forged(&payload, &[(secret.public(), kind, short)]);
        assert!(check(&bytes).is_err(), "{cut} bytes");
    }
}

#[test]
fn a_signature_of_another_length_is_no_statements() {
    // rule: ENC-3
    let secret: AdminSecret = secret(1);
    let kind = AdminKeyKind::File;
    for length in [0, 63, 70] {
        let mut sign = super::super::cose::unsigned(&payload());
        let thumbprint = secret.public().thumbprint();
        let value = vec![1; length];
        sign.signatures
            .push(super::super::cose::signature_of(thumbprint, kind, value));
        assert!(matches!(
            super::super::cose::bytes_of(sign),
            Err(StatementRefusal::Malformed(_))
        ));
    }
}

#[test]
fn signatures_are_gathered_one_after_the_other() {
    // rule: PRO-1, SET-7
    let payload = payload();
    let first = by_agent(1, &payload);
    let received = ReceivedStatement::parse(&first).unwrap();
    let signer = AdminSigner::security_key(key(2), APPLICATION);
    // An agent signs what it is given: the blob, of which a security key signs the hash.
    assert_eq!(
        received.signature_input(&signer),
        sshsig::blob(&structure(&payload, &key(2), AdminKeyKind::SecurityKey))
    );
    let message = structure(&payload, &key(2), AdminKeyKind::SecurityKey);
    let value = as_security_key(&secret(2), APPLICATION, 1, 9, &message);
    let both = received.add(&signer, &value).unwrap();
    let third = ReceivedStatement::parse(&both).unwrap();
    let third = third.add_by(&secret(3)).unwrap();
    assert_eq!(
        names(&check(&third).unwrap()),
        ["operator-1", "operator-2", "owner-1"]
    );

    let again = ReceivedStatement::parse(&both)
        .unwrap()
        .add(&signer, &value);
    assert_eq!(again, Err(StatementRefusal::SignedTwice));
    let elsewhere = AdminSigner::security_key(key(2), "ssh:");
    assert_eq!(
        received.add(&elsewhere, &value),
        Err(StatementRefusal::BadSignature)
    );
    assert_eq!(
        payload.signed(&AdminSigner::file(key(1)), &[1; 64]),
        Err(StatementRefusal::BadSignature)
    );
}

#[test]
fn signatures_over_one_payload_join_and_over_another_do_not() {
    // rule: PRO-1
    let parse = |bytes: &[u8]| ReceivedStatement::parse(bytes).unwrap();
    let payload = payload();
    let (one, two) = (signed(&payload, &[1, 3]), signed(&payload, &[2, 3]));
    let joined = parse(&one).join(&parse(&two)).unwrap();
    assert_eq!(
        names(&verify(&joined, at(1)).unwrap()),
        ["operator-1", "owner-1", "operator-2"]
    );
    assert_eq!(parse(&one).join(&parse(&one)).unwrap(), one);
    let mut other = payload.clone();
    other.expires = other.expires.plus(1);
    let other = parse(&signed(&other, &[2]));
    let refused = parse(&one).join(&other);
    assert_eq!(refused, Err(StatementRefusal::OtherPayload));
    assert_eq!(refused.unwrap_err().refusal(), Refusal::Exists);
}

#[test]
fn a_signature_over_another_payload_is_refused() {
    // rule: ADM-1, ENC-4
    let secret: AdminSecret = secret(1);
    let mut other = payload();
    other.id = StatementId([99; 16]);
    let kind = AdminKeyKind::File;
    let value = secret.sign_raw(&structure(&other, &secret.public(), kind));
    let moved = forged(&payload(), &[(secret.public(), kind, value)]);
    assert_eq!(
        verify(&moved, at(1)).map(drop),
        Err(StatementRefusal::BadSignature)
    );
}

#[test]
fn one_admin_twice_is_refused_even_in_two_forms() {
    // rule: ADM-2
    let payload = payload();
    let secret: AdminSecret = secret(1);
    let mut sign = super::super::cose::unsigned(&payload);
    for kind in [AdminKeyKind::File, AdminKeyKind::Agent] {
        let value = secret.sign_raw(&structure(&payload, &secret.public(), kind));
        let thumbprint = secret.public().thumbprint();
        sign.signatures
            .push(super::super::cose::signature_of(thumbprint, kind, value));
    }
    assert_eq!(
        super::super::cose::bytes_of(sign),
        Err(StatementRefusal::SignedTwice)
    );
}
