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

fn verify(bytes: &[u8], now: Timestamp) -> Result<VerifiedStatement, StatementRefusal> {
    ReceivedStatement::parse(bytes)?.verify(&[key(1), key(2)], "realm", Some(&key(9)), now)
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
        (verified.signers(), verified.digest()),
        (&[key(1)][..], StatementDigest::of(&bytes))
    );
    assert_eq!(verified.body::<DenyBody>(), Ok(deny()));
    assert_eq!(
        verified.body::<PolicySet>(),
        Err(StatementRefusal::OtherAct)
    );

    let parse = || ReceivedStatement::parse(&bytes).unwrap();
    let server = key(9);
    let of = |result: Result<VerifiedStatement, StatementRefusal>| result.unwrap_err().refusal();
    assert_eq!(
        of(parse().verify(&[key(2)], "realm", Some(&server), at(1))),
        Refusal::StatementSignature
    );
    assert_eq!(
        of(parse().verify(&[], "realm", Some(&server), at(1))),
        Refusal::StatementSignature
    );
    assert_eq!(
        of(parse().verify(&[key(1)], "other", Some(&server), at(1))),
        Refusal::StatementAudience
    );
    assert_eq!(
        of(parse().verify(&[key(1)], "realm", Some(&key(8)), at(1))),
        Refusal::StatementAudience
    );
    assert_eq!(
        of(parse().verify(&[key(1)], "realm", None, at(1))),
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
    assert_eq!(verify(&both, at(1)).unwrap().signers(), [key(1), key(2)]);
    assert_eq!(
        payload().sign(&[&admin(), &admin()]),
        Err(StatementRefusal::SignedTwice)
    );
    assert!(matches!(
        payload().sign(&[]),
        Err(StatementRefusal::Malformed(_))
    ));
    let stranger: AdminSecret = secret(3);
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

    let record = Payload::record(StatementId([2; 16]), "realm", at(0), &record())
        .sign(&[&admin()])
        .unwrap();
    let years_later = at(20 * 365 * 86_400);
    let received = ReceivedStatement::parse(&record).unwrap();
    assert!(
        received
            .clone()
            .verify(&[key(1)], "realm", None, years_later)
            .is_ok()
    );
    assert!(
        received
            .verify(&[key(1)], "realm", Some(&key(9)), years_later)
            .is_ok()
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

fn record() -> DatasetRecord {
    DatasetRecord {
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
    }
}

#[test]
fn payload_and_launches_hold_to_their_shapes() {
    // rule: ENC-3
    strict(&payload(), &[], &[]);
    strict(&launch(), &[], &[4, 5, 12]);
    let view = LaunchView {
        launch: launch(),
        digest: StatementDigest([1; 32]),
        used: 1,
        nodes: vec![node()],
        closed: false,
    };
    strict(&view, &[], &[4]);
    strict(
        &LaunchPage {
            rows: vec![view],
            more: true,
        },
        &[],
        &[1],
    );
    strict(&LaunchList::after("x"), &[], &[1]);
    strict(
        &LaunchShow {
            launch: LaunchId([1; 16]),
        },
        &[],
        &[],
    );
    strict(
        &LaunchClose {
            launch: LaunchId([1; 16]),
            deny: true,
            reason: "done".into(),
        },
        &[],
        &[3],
    );
    strict(&deny(), &[], &[2]);
    strict(
        &Denied {
            epoch: 1,
            chain: ChainDigest([1; 32]),
        },
        &[],
        &[],
    );
    strict(
        &DenyList {
            after: 0,
            rows: 500,
        },
        &[],
        &[],
    );
    strict(
        &DenialPage {
            rows: vec![Numbered {
                epoch: 1,
                denial: vec![1],
            }],
            more: false,
        },
        &[],
        &[1],
    );
}

#[test]
fn datasets_policies_nodes_and_status_hold_to_their_shapes() {
    // rule: ENC-3
    let create = DatasetCreate {
        name: "maps".into(),
        tags: tags(),
        policy: "permit(principal, action, resource);".into(),
        producers: vec![key(1)],
        kems: vec![Kem::XWing],
        max_budget: 1,
        max_life: 1,
    };
    strict(&create, &[], &[2, 4]);
    let mut doubled = create.clone();
    doubled.kems = vec![Kem::XWing, Kem::XWing];
    assert!(
        DatasetCreate::from_cbor(&doubled.to_cbor(), usize::MAX).is_err(),
        "a KEM twice"
    );
    let (dataset, kek, public_key) = (DatasetId([1; 16]), KekId([2; 16]), sealing(Kem::XWing));
    strict(
        &DatasetCreated {
            dataset,
            kek,
            kek_version: 1,
            public_key: public_key.clone(),
            server_key: key(1),
        },
        &[],
        &[],
    );
    strict(&record(), &[], &[3, 10]);
    let row = DatasetRow {
        dataset,
        name: "maps".into(),
        tags: tags(),
    };
    strict(&row, &[], &[3]);
    strict(
        &DatasetPage {
            rows: vec![row.clone()],
            more: false,
        },
        &[],
        &[1],
    );
    let view = DatasetView {
        row,
        kek,
        kek_version: 1,
        public_key,
        producers: vec![key(1)],
        kems: vec![Kem::XWing],
        max_budget: 1,
        max_life: 1,
        policy: Some("permit(principal, action, resource);".into()),
        record: Some(StatementDigest([1; 32])),
    };
    strict(&view, &[], &[5]);
    strict(
        &DatasetShow {
            name: "maps".into(),
        },
        &[],
        &[],
    );
    strict(
        &DatasetPolicySet {
            name: "maps".into(),
            text: "x".into(),
        },
        &[],
        &[],
    );
    strict(
        &ProducerAdd {
            name: "maps".into(),
            producer: key(1),
        },
        &[],
        &[],
    );
    strict(
        &ProducerAdded {
            producer: ProducerId([1; 16]),
        },
        &[],
        &[],
    );
    strict(&PolicySet { text: "x".into() }, &[], &[]);
    strict(
        &PolicyText {
            text: "x".into(),
            digest: PolicyDigest([1; 32]),
        },
        &[],
        &[1],
    );
    strict(
        &PolicyTextSet {
            digest: PolicyDigest([1; 32]),
        },
        &[],
        &[],
    );
    let attributes = Attributes {
        node: node(),
        availability_zone: "eu-west-1a".into(),
        image: "ami-1".into(),
        instance_type: "m7g.large".into(),
        launched_at: at(0),
    };
    let view = NodeView {
        attributes,
        launch: LaunchId([1; 16]),
        state: NodeState::Frozen,
        node_key: key(1),
        logged_in: at(0),
        renewed: at(1),
        until: at(2),
        reason: "fork".into(),
    };
    strict(&view, &[], &[8]);
    strict(
        &NodePage {
            rows: vec![view],
            more: false,
        },
        &[],
        &[1],
    );
    strict(
        &NodeUnfreeze {
            node: node(),
            node_key: key(1),
        },
        &[],
        &[],
    );
    let ticket = TicketView {
        ticket: TicketId([1; 16]),
        node: node(),
        launch: LaunchId([1; 16]),
        dataset: Some(dataset),
        parent: Some(TicketId([2; 16])),
        issued: at(0),
        expires: at(1),
        budget: 5,
        denied: true,
    };
    strict(&ticket, &[], &[]);
    let status = Status {
        role: Role::KeyServer,
        version: "0.1.0".into(),
        started: at(0),
        now: at(1),
        epoch: 2,
        chain: ChainDigest([1; 32]),
        entries: 3,
        lease_ms: Some(4_000),
        datasets: 5,
        holders: 6,
    };
    strict(&status, &[], &[]);
    assert_eq!(Nothing {}.to_cbor(), [0xa0]);
    assert!(Nothing::from_cbor(&[0xa1, 1, 1], 8).is_err());
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
