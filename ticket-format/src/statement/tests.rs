mod acknowledgements;
mod admin_sets;
mod aliases;
mod backups;
mod house;
mod shapes;
mod signatures;
mod ticket_keys;
mod vault;

use std::collections::BTreeMap;

use super::*;
use crate::denial::Selector;
use crate::ids::{ChainDigest, DatasetId, KekId, LaunchId, PolicyDigest, ProducerId, TicketId};
use crate::keys::AdminSecret;
use crate::messages::feed::Numbered;
use crate::messages::mutate::strict;
use crate::messages::samples::{at, key, node, sealing, secret};
use crate::seal::Kem;
use crate::ticket::Attributes;

fn deny() -> DenyBody {
    DenyBody {
        selector: Selector::node(node()),
        reason: "stolen".into(),
    }
}

fn payload() -> Payload {
    Payload::act(StatementId([1; 16]), "realm", key(9), at(0), 600, &deny())
}

fn admin() -> AdminSecret {
    secret(1)
}

fn names(verified: &VerifiedStatement) -> Vec<&str> {
    let signers = verified.signers().iter();
    signers.map(|admin| admin.name.as_str()).collect()
}

fn verify(bytes: &[u8], now: Timestamp) -> Result<VerifiedStatement, StatementRefusal> {
    ReceivedStatement::parse(bytes)?.verify(&house::set(), "realm", Some(&key(9)), now)
}

#[test]
fn a_statement_is_believed_for_its_realm_server_and_time() {
    // rule: ADM-1, ADM-2
    let bytes = payload().sign(&[&admin()]).unwrap();
    let verified = verify(&bytes, at(1)).unwrap();
    assert_eq!(
        (verified.id(), verified.act()),
        (StatementId([1; 16]), Act::Deny)
    );
    assert_eq!(
        (names(&verified), verified.digest()),
        (vec!["operator-1"], StatementDigest::of(&bytes))
    );
    assert_eq!(verified.body::<DenyBody>(), Ok(deny()));
    assert_eq!(
        verified.body::<PolicySet>(),
        Err(StatementRefusal::OtherAct)
    );

    let parse = || ReceivedStatement::parse(&bytes).unwrap();
    let server = key(9);
    let of = |result: Result<VerifiedStatement, StatementRefusal>| result.unwrap_err().refusal();
    let set = house::set();
    let others = house::without(1);
    assert_eq!(
        of(parse().verify(&others, "realm", Some(&server), at(1))),
        Refusal::StatementSignature
    );
    assert_eq!(
        of(parse().verify(&set, "other", Some(&server), at(1))),
        Refusal::StatementAudience
    );
    assert_eq!(
        of(parse().verify(&set, "realm", Some(&key(8)), at(1))),
        Refusal::StatementAudience
    );
    assert_eq!(
        of(parse().verify(&set, "realm", None, at(1))),
        Refusal::StatementAudience
    );
    assert_eq!(of(verify(&bytes, at(600))), Refusal::StatementExpired);
    assert_eq!(
        of(verify(&bytes, at(0).minus(limits::SKEW + 1))),
        Refusal::StatementExpired
    );
    assert!(verify(&bytes, at(599)).is_ok() && verify(&bytes, at(0).minus(limits::SKEW)).is_ok());
}

#[test]
fn several_admins_sign_and_each_counts_once() {
    // rule: ADM-1
    let second: AdminSecret = secret(2);
    let both = payload().sign(&[&admin(), &second]).unwrap();
    let both = verify(&both, at(1)).unwrap();
    assert_eq!(names(&both), ["operator-1", "operator-2"]);
    assert_eq!(
        payload().sign(&[&admin(), &admin()]),
        Err(StatementRefusal::SignedTwice)
    );
    assert!(matches!(
        payload().sign(&[]),
        Err(StatementRefusal::Malformed(_))
    ));
    let stranger: AdminSecret = secret(77);
    let mixed = payload().sign(&[&admin(), &stranger]).unwrap();
    assert_eq!(verify(&mixed, at(1)), Err(StatementRefusal::UnknownSigner));
}

#[test]
fn every_flipped_bit_every_truncation_and_every_extension_is_refused() {
    // rule: ENC-1, ENC-4, ADM-2
    let bytes = payload().sign(&[&admin()]).unwrap();
    for at_bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at_bit / 8] ^= 1 << (at_bit % 8);
        assert!(verify(&flipped, at(1)).is_err(), "bit {at_bit}");
    }
    for end in 0..bytes.len() {
        assert!(verify(&bytes[..end], at(1)).is_err());
    }
    assert!(verify(&[&bytes[..], &[0]].concat(), at(1)).is_err());
    assert!(verify(&vec![0xd8; limits::STATEMENT + 1], at(1)).is_err());
}

/// A statement with these headers, by hand.
fn by_hand(
    tag: u64,
    body: &[u8],
    unprotected: &[u8],
    signer: &[u8],
    signer_unprotected: &[u8],
) -> Vec<u8> {
    let payload = payload().to_cbor();
    let mut input = Writer::new();
    input
        .array(5)
        .text("Signature")
        .bytes(body)
        .bytes(signer)
        .bytes(b"")
        .bytes(&payload);
    let signature = admin().sign_raw(&input.into_bytes());
    let mut writer = Writer::new();
    writer
        .tag(tag)
        .array(4)
        .bytes(body)
        .raw(unprotected)
        .bytes(&payload);
    writer
        .array(1)
        .array(3)
        .bytes(signer)
        .raw(signer_unprotected)
        .bytes(&signature);
    writer.into_bytes()
}

#[test]
fn a_header_has_exactly_the_members_that_it_should() {
    // rule: ADM-1, SIG-2
    let header = |write: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::new();
        write(&mut writer);
        writer.into_bytes()
    };
    let kid = key::<crate::keys::roles::Admin>(1).thumbprint();
    let body = header(&|w| _ = w.map(1).int(16).text("postern-statement"));
    let signer = header(&|w| _ = w.map(2).int(1).int(-8).int(4).bytes(&kid.0));
    assert!(verify(&by_hand(98, &body, &[0xa0], &signer, &[0xa0]), at(1)).is_ok());

    assert!(
        verify(&by_hand(18, &body, &[0xa0], &signer, &[0xa0]), at(1)).is_err(),
        "tag"
    );
    for bad in [
        header(&|w| _ = w.map(1).int(16).text("postern-node-ticket")),
        header(&|w| _ = w.map(2).int(1).int(-8).int(16).text("postern-statement")),
        header(&|w| _ = w.map(0)),
        vec![],
        [&body[..], &[0]].concat(),
    ] {
        assert!(
            verify(&by_hand(98, &bad, &[0xa0], &signer, &[0xa0]), at(1)).is_err(),
            "body header {bad:x?}"
        );
    }
    for bad in [
        header(&|w| _ = w.map(2).int(1).int(-7).int(4).bytes(&kid.0)),
        header(&|w| _ = w.map(1).int(1).int(-8)),
        header(&|w| _ = w.map(1).int(4).bytes(&kid.0)),
        header(&|w| _ = w.map(2).int(4).bytes(&kid.0).int(1).int(-8)),
        header(&|w| _ = w.map(2).int(1).int(-8).int(4).bytes(&kid.0[..16])),
        header(&|w| {
            _ = w
                .map(3)
                .int(1)
                .int(-8)
                .int(2)
                .array(1)
                .int(4)
                .int(4)
                .bytes(&kid.0)
        }),
    ] {
        assert!(
            verify(&by_hand(98, &body, &[0xa0], &bad, &[0xa0]), at(1)).is_err(),
            "signer header {bad:x?}"
        );
    }
    let more = header(&|w| _ = w.map(1).int(4).bytes(&kid.0));
    assert!(
        verify(&by_hand(98, &body, &more, &signer, &[0xa0]), at(1)).is_err(),
        "unprotected"
    );
    assert!(
        verify(&by_hand(98, &body, &[0xa0], &signer, &more), at(1)).is_err(),
        "unprotected, signer"
    );
}

#[test]
fn an_act_spans_a_day_at_most_and_only_records_are_for_everyone() {
    // rule: ADM-1, ADM-3
    let mut long = payload();
    long.expires = long.not_before.plus(limits::STATEMENT_LIFE);
    assert!(long.sign(&[&admin()]).is_ok());
    long.expires = long.expires.plus(1);
    assert_eq!(long.sign(&[&admin()]), Err(StatementRefusal::Span));
    long.expires = long.not_before;
    assert_eq!(long.sign(&[&admin()]), Err(StatementRefusal::Span));

    let owners: [AdminSecret; 2] = [secret(3), secret(4)];
    let record = Payload::record(StatementId([2; 16]), "realm", at(0), &record());
    let bytes = record.sign(&[&owners[0], &owners[1]]).unwrap();
    let years_later = at(20 * 365 * 86_400);
    let received = ReceivedStatement::parse(&bytes).unwrap();
    let set = house::set();
    for server in [None, Some(&key(9))] {
        let verified = received.clone().verify(&set, "realm", server, years_later);
        assert!(verified.is_ok());
    }
    let mut expiring = record;
    expiring.expires = years_later;
    assert_eq!(
        expiring.sign(&[&owners[0]]),
        Err(StatementRefusal::Span),
        "a record that expires could not be verified again"
    );
    let everyone = Payload::record(StatementId([3; 16]), "realm", at(0), &deny());
    assert_eq!(
        everyone.sign(&[&admin()]),
        Err(StatementRefusal::Span),
        "a denial for everyone could be replayed"
    );
}

fn tags() -> BTreeMap<String, String> {
    BTreeMap::from([("team".to_owned(), "maps".to_owned())])
}

fn launch() -> LaunchCreate {
    LaunchCreate {
        launch: LaunchId([1; 16]),
        key: key(1),
        accounts: vec!["123456789012".into()],
        regions: vec!["eu-west-1".into()],
        images: vec!["ami-1".into()],
        uses: 1,
        group: false,
        from: at(0),
        until: at(60),
        max_age: 900,
        node_life: 86_400,
        comment: "for maps".into(),
    }
}

fn witnessing() -> Witnessing {
    Witnessing {
        mode: WitnessMode::Watch,
        policy: "quorum w1\n".into(),
    }
}

fn record() -> DatasetRecord {
    DatasetRecord {
        recipients: Default::default(),
        class: Default::default(),
        dataset: DatasetId([1; 16]),
        name: "maps".into(),
        tags: tags(),
        tls_key: key(1),
        server_key: key(2),
        addresses: vec!["ks.example:7421".into()],
        kek: KekId([3; 16]),
        kek_version: 1,
        public_key: sealing(Kem::XWing),
        producers: vec![key(4)],
        kems: vec![Kem::X25519, Kem::XWing],
        max_budget: 1_000,
        max_life: 3_600,
        owners: vec![key(3)],
        lease: 5,
        evidence: true,
        follows: DatasetRecord::FIRST,
        log_key: crate::messages::samples::log_secret().key().clone(),
        witnessing: witnessing(),
    }
}

#[test]
fn a_launch_whose_members_do_not_go_together_is_named() {
    // rule: LOG-9
    assert_eq!(launch().check(), Ok(()));
    assert!(
        LaunchCreate {
            uses: 2,
            ..launch()
        }
        .check()
        .is_err()
    );
    assert!(
        LaunchCreate {
            uses: 2,
            group: true,
            ..launch()
        }
        .check()
        .is_ok()
    );
    assert!(
        LaunchCreate {
            until: at(0),
            ..launch()
        }
        .check()
        .is_err()
    );
    assert!(
        LaunchCreate {
            node_life: 0,
            ..launch()
        }
        .check()
        .is_err()
    );
    assert!(
        LaunchCreate {
            accounts: vec!["12345678901x".into()],
            ..launch()
        }
        .check()
        .is_err()
    );
}
