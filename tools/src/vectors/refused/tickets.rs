//! Tickets.

use ciborium::Value;
use ticket_format::Refusal;
use ticket_format::cbor::Writer;
use ticket_format::keys::TicketSecret;
use ticket_format::ticket::{self, Audience, Claims, NodeClaims};

use super::super::case::Case;
use super::super::tickets::{EVIDENCE, protected, sig_structure};
use super::super::world::{NOW, REALM, World, at, ed25519};
use super::{Edit, edited, header, refused, set};

/// A ticket from parts that may be wrong, with a signature that is right.
fn forged(world: &World, protected: &[u8], unprotected: &[u8], payload: &[u8]) -> Vec<u8> {
    let signature = ed25519(&world.ticket.seed(), &sig_structure(protected, payload));
    let mut writer = Writer::new();
    writer
        .tag(18)
        .array(4)
        .bytes(protected)
        .raw(unprotected)
        .bytes(payload)
        .bytes(&signature);
    writer.into_bytes()
}

fn payload(claims: &impl Claims) -> Vec<u8> {
    let mut writer = Writer::new();
    claims.encode(&mut writer);
    writer.into_bytes()
}

pub(super) fn cases(world: &World) -> Vec<Case> {
    let claims = world.node_claims(EVIDENCE);
    let good = ticket::sign(&claims, &world.ticket);
    let (head, body) = (
        protected(&world.ticket.public(), NodeClaims::TYP),
        payload(&claims),
    );
    assert_eq!(
        forged(world, &head, &[0xa0], &body),
        good,
        "the forge makes good tickets of good parts"
    );
    let kid = world.ticket.public().thumbprint().0;
    let broker = Audience::Broker(world.broker_tls.public());
    let check = |path: &str, about: &str, expected, bytes: &[u8]| {
        let verified = ticket::verify::<NodeClaims>(bytes, &world.ticket.public(), REALM, broker);
        let got = verified.and_then(|verified| verified.live(at(0)).map(|_| ()));
        refused(
            path,
            "node-ticket",
            about,
            expected,
            got.map_err(|error| (error.into(), error.to_string())),
        )
        .given("ticket", bytes)
        .input("now", NOW)
    };
    let with_head = |members, write: &dyn Fn(&mut Writer)| {
        forged(
            world,
            &header(members, |writer| write(writer)),
            &[0xa0],
            &body,
        )
    };
    let with_body = |edit: Edit| forged(world, &head, &[0xa0], &edited(&body, edit));
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let trailing = [&good[..], &[0]].concat();
    let other = TicketSecret::from_seed(&[0x99; 32]);
    let mut late = claims.clone();
    (late.common.issued, late.common.expires) = (at(61), at(3_600));
    let mut over = claims.clone();
    (over.common.issued, over.common.expires) = (claims.common.issued.minus(3_600), at(0));
    let mut foreign = claims.clone();
    foreign.common.audience = Audience::Broker(world.server_tls.public());
    let mut realm = claims.clone();
    realm.common.realm = "other".to_owned();
    let dataset = ticket::sign(
        &world.dataset_claims(EVIDENCE, &world.job_sealing),
        &world.ticket,
    );
    let (bad, signature) = (Refusal::TicketMalformed, Refusal::TicketSignature);
    let typ = |writer: &mut Writer| {
        writer.int(16).text(NodeClaims::TYP);
    };
    vec![
        check(
            "ticket-alg-other",
            "SIG-2: alg says ES256; the Ed25519 signature over it is good.",
            signature,
            &with_head(3, &|w| {
                w.int(1).int(-7).int(4).bytes(&kid);
                typ(w);
            }),
        ),
        check(
            "ticket-kid-other",
            "TKT-4: kid is another key's thumbprint.",
            signature,
            &with_head(3, &|w| {
                w.int(1)
                    .int(-8)
                    .int(4)
                    .bytes(&other.public().thumbprint().0);
                typ(w);
            }),
        ),
        check(
            "ticket-typ-unknown",
            "TKT-3: typ is neither kind's.",
            bad,
            &with_head(3, &|w| {
                w.int(1).int(-8).int(4).bytes(&kid).int(16).text("JWT");
            }),
        ),
        check(
            "ticket-typ-missing",
            "TKT-2: there is no typ.",
            bad,
            &with_head(2, &|w| {
                w.int(1).int(-8).int(4).bytes(&kid);
            }),
        ),
        check(
            "ticket-crit",
            "TKT-2: a critical header that nobody knows.",
            bad,
            &with_head(4, &|w| {
                w.int(1).int(-8).int(2).array(1).int(16).int(4).bytes(&kid);
                typ(w);
            }),
        ),
        check(
            "ticket-header-unsorted",
            "ENC-1: the protected header's members are in another order.",
            bad,
            &with_head(3, &|w| {
                w.int(4).bytes(&kid).int(1).int(-8);
                typ(w);
            }),
        ),
        check(
            "ticket-unprotected",
            "TKT-2: the unprotected header is not empty.",
            bad,
            &forged(world, &head, &[0xa1, 0x01, 0x27], &body),
        ),
        check(
            "ticket-kind",
            "TKT-3: a dataset ticket where a node ticket is wanted.",
            Refusal::TicketKind,
            &dataset,
        ),
        check(
            "ticket-trailing",
            "ENC-1: a byte after the ticket.",
            bad,
            &trailing,
        ),
        check(
            "ticket-untagged",
            "TKT-1: the COSE_Sign1 has no tag 18.",
            bad,
            good.get(1..).unwrap_or_default(),
        ),
        check(
            "ticket-truncated",
            "ENC-1: the last byte is missing.",
            bad,
            good.get(..good.len() - 1).unwrap_or_default(),
        ),
        check(
            "ticket-signature-flipped",
            "TKT-4: one bit of the signature.",
            signature,
            &flipped(good.len() - 1),
        ),
        check(
            "ticket-signer-other",
            "TKT-4: signed by another key, and kid says so.",
            signature,
            &ticket::sign(&claims, &other),
        ),
        check(
            "ticket-claim-missing",
            "TKT-5: there is no exp.",
            bad,
            &with_body(Box::new(|members| {
                members.retain(|(key, _)| *key != Value::from(4))
            })),
        ),
        check(
            "ticket-claim-unknown",
            "TKT-5: a claim that is not of the shape.",
            bad,
            &with_body(Box::new(|members| {
                members.push((Value::from(-70_099), Value::from(1)))
            })),
        ),
        check(
            "ticket-claim-doubled",
            "ENC-1: exp stands there twice.",
            bad,
            &with_body(Box::new(|members| {
                if let Some(at) = members.iter().position(|(key, _)| *key == Value::from(4)) {
                    members.insert(at, members[at].clone());
                }
            })),
        ),
        check(
            "ticket-claims-unsorted",
            "ENC-1: iss and sub have changed places.",
            bad,
            &with_body(Box::new(|members| members.swap(0, 1))),
        ),
        check(
            "ticket-exp-float",
            "ENC-1: exp is a float.",
            bad,
            &with_body(Box::new(set(4, Value::Float(1.0)))),
        ),
        check(
            "ticket-exp-negative",
            "TKT-5: exp is negative.",
            bad,
            &with_body(Box::new(set(4, Value::from(-1)))),
        ),
        check(
            "ticket-exp-huge",
            "TKT-5: exp is 2^64 - 1.",
            bad,
            &with_body(Box::new(set(4, Value::from(u64::MAX)))),
        ),
        check(
            "ticket-nbf-other",
            "TKT-5: nbf is not iat.",
            bad,
            &with_body(Box::new(set(5, Value::from(NOW - 1)))),
        ),
        check(
            "ticket-exp-before-iat",
            "TKT-5: exp is iat.",
            bad,
            &with_body(Box::new(set(4, Value::from(NOW)))),
        ),
        check(
            "ticket-aud-other",
            "TKT-6: it is for another broker.",
            Refusal::TicketAudience,
            &ticket::sign(&foreign, &world.ticket),
        ),
        check(
            "ticket-realm-other",
            "TKT-6: it is of another realm.",
            Refusal::TicketAudience,
            &ticket::sign(&realm, &world.ticket),
        ),
        check(
            "ticket-expired",
            "TKT-5: it expired this second; there is no grace.",
            Refusal::TicketExpired,
            &ticket::sign(&over, &world.ticket),
        ),
        check(
            "ticket-not-yet-valid",
            "TKT-5: it begins 61 seconds from now.",
            Refusal::TicketNotYetValid,
            &ticket::sign(&late, &world.ticket),
        ),
        check(
            "ticket-nested",
            "ENC-2: arrays within arrays, 8,192 deep.",
            bad,
            &[0x81; 8_192],
        ),
        check(
            "ticket-too-large",
            "TKT-1: 8,193 bytes.",
            bad,
            &vec![0; 8_193],
        ),
    ]
}
