//! One fault per test; each check of the ticket has one that goes red without it.

use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::*;
use crate::Context;
use crate::ids::{DatasetId, EvidenceHash, LaunchId, NodeId, PolicyDigest, TicketId};
use crate::keys::{NodeSecret, ProofSecret, TlsSecret};
use crate::seal::{Kem, SealingSecret};
use crate::secret::SealingSeed;

const NOW: u64 = 1_800_000_000;
const REALM: &str = "example.org";

fn key() -> TicketSecret {
    TicketSecret::from_seed(&[1; 32])
}

fn broker() -> Audience {
    Audience::Broker(TlsSecret::from_seed(&[2; 32]).public())
}

fn key_server() -> Audience {
    Audience::KeyServer(TlsSecret::from_seed(&[3; 32]).public())
}

fn common(audience: Audience) -> Common {
    Common {
        realm: REALM.to_owned(),
        audience,
        expires: Timestamp::from_seconds(NOW + 3_600),
        issued: Timestamp::from_seconds(NOW),
        id: TicketId([4; 16]),
        proof_key: ProofSecret::from_seed(&[5; 32]).public(),
        sealing_key: SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([6; 32]))
            .public(),
        launch: LaunchId([7; 16]),
        attributes: Attributes {
            node: NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").unwrap(),
            availability_zone: "eu-west-1a".to_owned(),
            image: "ami-0123456789abcdef0".to_owned(),
            instance_type: "m7g.large".to_owned(),
            launched_at: Timestamp::from_seconds(NOW - 100),
        },
        evidence: EvidenceHash([8; 32]),
    }
}

fn node_claims() -> NodeClaims {
    NodeClaims {
        common: common(broker()),
        node_key: NodeSecret::from_seed(&[9; 32]).public(),
    }
}

pub(super) fn dataset_claims() -> DatasetClaims {
    DatasetClaims {
        common: common(key_server()),
        dataset: DatasetId([10; 16]),
        dataset_name: "genomes".to_owned(),
        actions: Actions::new(&[Action::Decrypt, Action::Rewrap]).unwrap(),
        required: Context::named("s3://bucket/key").unwrap(),
        budget: 1_000,
        policy: PolicyDigest([11; 32]),
        parent: TicketId([12; 16]),
    }
}

/// A COSE_Sign1 with these parts, signed properly: what a signing broker could produce at worst.
fn signed(protected: &[u8], payload: &[u8], tag: u64) -> Vec<u8> {
    let mut input = Writer::new();
    input
        .array(4)
        .text("Signature1")
        .bytes(protected)
        .bytes(&[])
        .bytes(payload);
    let signature = key().sign_raw(&input.into_bytes());
    let mut token = Writer::new();
    token
        .tag(tag)
        .array(4)
        .bytes(protected)
        .map(0)
        .bytes(payload)
        .bytes(&signature);
    token.into_bytes()
}

fn protected(alg: i64, kid: &[u8], typ: &str) -> Vec<u8> {
    let mut header = Writer::new();
    header
        .map(3)
        .int(1)
        .int(alg)
        .int(4)
        .bytes(kid)
        .int(16)
        .text(typ);
    header.into_bytes()
}

fn usual_header() -> Vec<u8> {
    protected(-8, &key().public().thumbprint().0, NodeClaims::TYP)
}

fn payload(claims: &impl Claims) -> Vec<u8> {
    let mut writer = Writer::new();
    claims.encode(&mut writer);
    writer.into_bytes()
}

fn check(token: &[u8]) -> Result<Verified<NodeClaims>, TicketError> {
    verify(token, &key().public(), REALM, broker())
}

#[test]
fn both_kinds_of_ticket_are_read_back() {
    let token = sign(&node_claims(), &key());
    let verified = check(&token).unwrap();
    assert_eq!(verified.claims(), &node_claims());
    assert_eq!(verified.hash(), hash(&token));
    let token = sign(&dataset_claims(), &key());
    let verified = verify::<DatasetClaims>(&token, &key().public(), REALM, key_server()).unwrap();
    assert_eq!(verified.claims(), &dataset_claims());
    assert!(token.len() < limits::TICKET / 2, "{} bytes", token.len());
}

#[test]
fn what_is_signed_by_hand_is_what_coset_makes() {
    // rule: TKT-2
    assert_eq!(
        sign(&node_claims(), &key()),
        signed(&usual_header(), &payload(&node_claims()), 18)
    );
}

#[test]
fn cve_2022_37967_every_flipped_bit_cut_and_extension_is_refused() {
    // rule: TKT-1, TKT-4
    let token = sign(&dataset_claims(), &key());
    let refused = |bytes: &[u8]| {
        verify::<DatasetClaims>(bytes, &key().public(), REALM, key_server()).is_err()
    };
    for at in 0..token.len() {
        let mut flipped = token.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(refused(&flipped), "bit {} of byte {at}", at % 8);
        assert!(refused(&token[..at]), "cut at {at}");
    }
    for extra in [0x00, 0xf6, 0xff] {
        assert!(refused(&[&token[..], &[extra]].concat()));
    }
}

#[test]
fn a_ticket_of_the_other_kind_is_refused_as_such() {
    // rule: TKT-3
    let token = sign(&dataset_claims(), &key());
    assert_eq!(check(&token).unwrap_err(), TicketError::Kind);
    let token = sign(&node_claims(), &key());
    let other = verify::<DatasetClaims>(&token, &key().public(), REALM, broker());
    assert_eq!(other.unwrap_err(), TicketError::Kind);
}

#[test]
fn another_realm_or_server_is_refused() {
    // rule: TKT-6
    let token = sign(&node_claims(), &key());
    let at = |realm, audience| {
        verify::<NodeClaims>(&token, &key().public(), realm, audience).unwrap_err()
    };
    assert_eq!(at("example.com", broker()), TicketError::Audience);
    assert_eq!(
        at(
            REALM,
            Audience::Broker(TlsSecret::from_seed(&[99; 32]).public())
        ),
        TicketError::Audience
    );
    let Audience::Broker(same) = broker() else {
        panic!("broker() names a broker")
    };
    assert_eq!(at(REALM, Audience::KeyServer(same)), TicketError::Audience);
}

#[test]
fn cve_2025_49825_another_key_is_refused_even_with_our_kid() {
    // rule: TKT-4
    let token = sign(&node_claims(), &TicketSecret::from_seed(&[66; 32]));
    assert_eq!(check(&token).unwrap_err(), TicketError::Signature);
    refused_with_our_kid(&TicketSecret::from_seed(&[66; 32]));
}

#[test]
fn cve_2025_49825_a_ticket_that_a_tickets_own_keys_sign_is_refused() {
    // rule: TKT-4 — the keys that a genuine ticket names are no authority, not even for its own claims.
    let genuine = check(&sign(&node_claims(), &key())).unwrap();
    let claims = genuine.claims();
    for (seed, named) in [
        (5, claims.common.proof_key.to_bytes()),
        (9, claims.node_key.to_bytes()),
    ] {
        let holder = TicketSecret::from_seed(&[seed; 32]);
        assert_eq!(holder.public().to_bytes(), named);
        let token = sign(&node_claims(), &holder);
        assert_eq!(check(&token).unwrap_err(), TicketError::Signature);
        refused_with_our_kid(&holder);
    }
}

/// A ticket that names the broker's key and is signed by another.
fn refused_with_our_kid(foreign: &TicketSecret) {
    let header = usual_header();
    let mut input = Writer::new();
    input
        .array(4)
        .text("Signature1")
        .bytes(&header)
        .bytes(&[])
        .bytes(&payload(&node_claims()));
    let signature = foreign.sign_raw(&input.into_bytes());
    let mut token = Writer::new();
    token
        .tag(18)
        .array(4)
        .bytes(&header)
        .map(0)
        .bytes(&payload(&node_claims()))
        .bytes(&signature);
    assert_eq!(
        check(&token.into_bytes()).unwrap_err(),
        TicketError::Signature
    );
}

#[test]
fn cve_2010_1324_an_algorithm_that_the_key_does_not_have_is_refused() {
    // rule: TKT-4, SIG-2
    let kid = key().public().thumbprint().0;
    for alg in [-7, -19, 5, 0] {
        let token = signed(
            &protected(alg, &kid, NodeClaims::TYP),
            &payload(&node_claims()),
            18,
        );
        assert!(
            matches!(
                check(&token),
                Err(TicketError::Signature | TicketError::Malformed)
            ),
            "alg {alg}"
        );
    }
    let token = signed(
        &protected(-8, &[0; 32], NodeClaims::TYP),
        &payload(&node_claims()),
        18,
    );
    assert_eq!(check(&token).unwrap_err(), TicketError::Signature);
}

#[test]
fn headers_have_the_three_members_and_no_other() {
    // rule: TKT-2
    let kid = key().public().thumbprint().0;
    let refused = |header: &[u8]| check(&signed(header, &payload(&node_claims()), 18)).unwrap_err();
    let mut with_crit = Writer::new();
    with_crit
        .map(4)
        .int(1)
        .int(-8)
        .int(2)
        .array(1)
        .int(16)
        .int(4)
        .bytes(&kid)
        .int(16)
        .text(NodeClaims::TYP);
    assert_eq!(refused(&with_crit.into_bytes()), TicketError::Malformed);
    let mut with_more = Writer::new();
    with_more
        .map(4)
        .int(1)
        .int(-8)
        .int(4)
        .bytes(&kid)
        .int(16)
        .text(NodeClaims::TYP)
        .int(99)
        .int(1);
    assert_eq!(refused(&with_more.into_bytes()), TicketError::Malformed);
    let mut without_typ = Writer::new();
    without_typ.map(2).int(1).int(-8).int(4).bytes(&kid);
    assert_eq!(refused(&without_typ.into_bytes()), TicketError::Malformed);
    let mut unordered = Writer::new();
    unordered
        .map(3)
        .int(4)
        .bytes(&kid)
        .int(1)
        .int(-8)
        .int(16)
        .text(NodeClaims::TYP);
    assert_eq!(refused(&unordered.into_bytes()), TicketError::Malformed);
    assert_eq!(
        refused(&protected(-8, &kid, "postern-other-ticket")),
        TicketError::Malformed
    );
}

#[test]
fn an_unprotected_header_another_tag_or_none_is_refused() {
    // rule: TKT-1, TKT-2
    let token = sign(&node_claims(), &key());
    assert_eq!(check(&token[1..]).unwrap_err(), TicketError::Malformed);
    assert_eq!(
        check(&signed(&usual_header(), &payload(&node_claims()), 98)).unwrap_err(),
        TicketError::Malformed
    );
    let mut reader = Reader::new(&token);
    reader.tag(18).unwrap();
    reader.array(4..=4).unwrap();
    let (header, at) = (reader.bytes(..).unwrap(), reader.position());
    let mut changed = Writer::new();
    changed
        .tag(18)
        .array(4)
        .bytes(header)
        .map(1)
        .int(99)
        .int(1)
        .raw(&token[at + 1..]);
    assert_eq!(
        check(&changed.into_bytes()).unwrap_err(),
        TicketError::Malformed
    );
}

#[test]
fn spire_1_11_3_each_claim_is_needed_and_no_other_is_known() {
    // rule: TKT-5
    let whole: coset::cbor::Value =
        coset::cbor::de::from_reader(&payload(&dataset_claims())[..]).unwrap();
    let header = protected(-8, &key().public().thumbprint().0, DatasetClaims::TYP);
    let refused = |value: &coset::cbor::Value| {
        let mut bytes = Vec::new();
        coset::cbor::ser::into_writer(value, &mut bytes).unwrap();
        let token = signed(&header, &bytes, 18);
        verify::<DatasetClaims>(&token, &key().public(), REALM, key_server()).unwrap_err()
    };
    let members = whole.as_map().unwrap().clone();
    let two_to_the_64 = coset::cbor::Value::Tag(
        2,
        Box::new(coset::cbor::Value::Bytes(vec![1, 0, 0, 0, 0, 0, 0, 0, 0])),
    );
    for at in 0..members.len() {
        let mut without = members.clone();
        let dropped = without.remove(at);
        assert_eq!(
            refused(&coset::cbor::Value::Map(without)),
            TicketError::Malformed,
            "{:?}",
            dropped.0
        );
        let mut doubled = members.clone();
        doubled.insert(at, members[at].clone());
        assert_eq!(
            refused(&coset::cbor::Value::Map(doubled)),
            TicketError::Malformed
        );
        for wrong in [
            coset::cbor::Value::Null,
            coset::cbor::Value::Float(1.5),
            coset::cbor::Value::from(-1),
            two_to_the_64.clone(),
        ] {
            let mut mistyped = members.clone();
            mistyped[at].1 = wrong;
            assert_eq!(
                refused(&coset::cbor::Value::Map(mistyped)),
                TicketError::Malformed,
                "{:?}",
                members[at].0
            );
        }
    }
    let mut more = members.clone();
    more.push((coset::cbor::Value::from(-70_099), coset::cbor::Value::Null));
    assert_eq!(
        refused(&coset::cbor::Value::Map(more)),
        TicketError::Malformed
    );
}

#[test]
fn life_begins_within_the_skew_and_ends_without_grace() {
    // rule: TKT-5
    let token = sign(&node_claims(), &key());
    let live_at = |seconds| {
        check(&token)
            .unwrap()
            .live(Timestamp::from_seconds(seconds))
            .map(drop)
    };
    assert_eq!(
        live_at(NOW - limits::SKEW - 1),
        Err(TicketError::NotYetValid)
    );
    assert_eq!(live_at(NOW - limits::SKEW), Ok(()));
    assert_eq!(live_at(NOW + 3_599), Ok(()));
    assert_eq!(live_at(NOW + 3_600), Err(TicketError::Expired));
    let live = check(&token)
        .unwrap()
        .live(Timestamp::from_seconds(NOW))
        .unwrap();
    assert_eq!(
        live.still_live(Timestamp::from_seconds(NOW + 3_600)),
        Err(TicketError::Expired)
    );
}

#[test]
fn a_life_that_ends_before_it_begins_is_malformed() {
    // rule: TKT-5
    let mut claims = node_claims();
    claims.common.expires = claims.common.issued;
    assert_eq!(
        check(&sign(&claims, &key())).unwrap_err(),
        TicketError::Malformed
    );
}

#[test]
fn a_ticket_past_its_size_is_refused_before_it_is_read() {
    // rule: TKT-1, ENC-2
    let mut claims = dataset_claims();
    let pairs = (0..16)
        .map(|n| (format!("key{n}"), "v".repeat(1_000)))
        .collect();
    claims.required = Context::new(pairs).unwrap();
    let token = sign(&claims, &key());
    assert!(token.len() > limits::TICKET);
    let refused = verify::<DatasetClaims>(&token, &key().public(), REALM, key_server());
    assert_eq!(refused.unwrap_err(), TicketError::Malformed);
}

#[test]
fn a_token_signed_by_a_tickets_own_proof_key_is_refused() {
    // No nesting: a ticket makes nobody an issuer.
    let token = sign(
        &node_claims(),
        &TicketSecret::from_seed(&ProofSecret::generate(&mut UnwrapErr(SysRng)).seed()),
    );
    assert_eq!(check(&token).unwrap_err(), TicketError::Signature);
}
