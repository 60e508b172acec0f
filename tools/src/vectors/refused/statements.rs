//! Statements.

use ticket_format::Refusal;
use ticket_format::cbor::{Encode, Writer};
use ticket_format::statement::{Payload, ReceivedStatement};

use super::super::case::Case;
use super::super::tickets::status_statement;
use super::super::world::{NOW, REALM, World, at, ed25519};
use super::{header, refused};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let broker = world.broker_tls.public();
    let check = |path: &str, about: &str, expected, bytes: &[u8]| {
        let verified = ReceivedStatement::parse(bytes).and_then(|received| {
            received.verify(&[world.admin.public()], REALM, Some(&broker), at(0))
        });
        let got = verified
            .map(|_| ())
            .map_err(|error| (error.refusal(), error.to_string()));
        refused(path, "statement", about, expected, got)
            .given("statement", bytes)
            .input("now", NOW)
    };
    let payload = status_statement(world, 0x2f);
    let good = world.signed(&payload);
    let with = |edit: &dyn Fn(&mut Payload)| {
        let mut payload = payload.clone();
        edit(&mut payload);
        unchecked(&payload.to_cbor(), &[[6; 32]])
    };
    assert_eq!(
        unchecked(&payload.to_cbor(), &[[6; 32]]),
        good,
        "the forge makes good statements of good parts"
    );
    let server = ticket_format::statement::Audience::Server(world.server_tls.public());
    let everyone = ticket_format::statement::Audience::Everyone;
    let mut flipped = good.clone();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let (bad, signature) = (Refusal::StatementMalformed, Refusal::StatementSignature);
    vec![
        check(
            "statement-trailing",
            "ENC-1: a byte after the statement.",
            bad,
            &[&good[..], &[0]].concat(),
        ),
        check(
            "statement-signer-unknown",
            "ADM-1: signed by a key that is no admin's.",
            signature,
            &unchecked(&payload.to_cbor(), &[[0x99; 32]]),
        ),
        check(
            "statement-signed-twice",
            "ADM-1: two signatures by one admin.",
            signature,
            &unchecked(&payload.to_cbor(), &[[6; 32], [6; 32]]),
        ),
        check(
            "statement-unsigned",
            "ADM-1: no signature.",
            bad,
            &unchecked(&payload.to_cbor(), &[]),
        ),
        check(
            "statement-flipped",
            "ADM-1: one bit of the signature.",
            signature,
            &flipped,
        ),
        check(
            "statement-audience-other",
            "ADM-2: it is for a key server.",
            Refusal::StatementAudience,
            &with(&|payload| payload.audience = server),
        ),
        check(
            "statement-realm-other",
            "ADM-2: it is of another realm.",
            Refusal::StatementAudience,
            &with(&|payload| payload.realm = "other".to_owned()),
        ),
        check(
            "statement-expired",
            "ADM-2: it expired this second.",
            Refusal::StatementExpired,
            &with(&|payload| (payload.not_before, payload.expires) = (at(0).minus(300), at(0))),
        ),
        check(
            "statement-early",
            "ADM-2: it begins 61 seconds from now.",
            Refusal::StatementExpired,
            &with(&|payload| (payload.not_before, payload.expires) = (at(61), at(361))),
        ),
        check(
            "statement-long",
            "ADM-1: a day and a second.",
            bad,
            &with(&|payload| payload.expires = at(86_401)),
        ),
        check(
            "statement-for-everyone",
            "ADM-1: an act that is no record, for everyone.",
            bad,
            &with(&|payload| payload.audience = everyone),
        ),
    ]
}

/// A statement as COSE_Sign makes it of its parts (RFC 9052, 4.1), whether or not it would be accepted.
fn unchecked(payload: &[u8], seeds: &[[u8; 32]]) -> Vec<u8> {
    let body = header(1, |writer| {
        writer.int(16).text("postern-statement");
    });
    let mut writer = Writer::new();
    writer
        .tag(98)
        .array(4)
        .bytes(&body)
        .map(0)
        .bytes(payload)
        .array(seeds.len());
    for seed in seeds {
        let signer = ticket_format::keys::AdminSecret::from_seed(seed)
            .public()
            .thumbprint();
        let signer = header(2, |writer| {
            writer.int(1).int(-8).int(4).bytes(&signer.0);
        });
        let mut input = Writer::new();
        input
            .array(5)
            .text("Signature")
            .bytes(&body)
            .bytes(&signer)
            .bytes(&[])
            .bytes(payload);
        writer
            .array(3)
            .bytes(&signer)
            .map(0)
            .bytes(&ed25519(seed, &input.into_bytes()));
    }
    writer.into_bytes()
}
