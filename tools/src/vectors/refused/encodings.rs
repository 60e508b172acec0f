//! Encodings: what ENC-1 to ENC-3 refuse.

use ciborium::Value;
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode, Writer};
use ticket_format::messages::feed::FeedBody;
use ticket_format::messages::{RequestView, Verb};

use super::super::case::Case;
use super::super::world::World;
use super::{Edit, edited, malformed, refused, set};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let chain = ticket_format::denial::CHAIN_START;
    let body = FeedBody {
        subscriber: world.server.public(),
        nonce: [0x61; 32],
        epoch: 0,
        chain,
        hold_ms: 0,
        reports: Vec::new(),
    }
    .to_cbor();
    let check = |path: &str, about: &str, bytes: &[u8]| {
        let got = FeedBody::from_cbor(bytes, Verb::Feed.body_limit())
            .map(|_| ())
            .map_err(malformed);
        refused(path, "feed-body", about, Refusal::Malformed, got).given("body", bytes)
    };
    let edit = |edit: Edit| edited(&body, edit);
    // The body ends in `5: 0, 6: []`: the bytes 05 00 06 80.
    let last = |value: &[u8]| {
        let before = body.get(..body.len() - 3).unwrap_or_default();
        [before, value, &[0x06, 0x80]].concat()
    };
    let indefinite = [&[0xbf][..], body.get(1..).unwrap_or_default(), &[0xff]].concat();
    let mut all = vec![
        check(
            "cbor-trailing",
            "ENC-1: a byte after the item.",
            &[&body[..], &[0]].concat(),
        ),
        check(
            "cbor-truncated",
            "ENC-1: the last byte is missing.",
            body.get(..body.len() - 1).unwrap_or_default(),
        ),
        check(
            "cbor-unsorted",
            "ENC-1: members 1 and 2 have changed places.",
            &edit(Box::new(|members| members.swap(0, 1))),
        ),
        check(
            "cbor-doubled",
            "ENC-1: member 6 stands there twice.",
            &edit(Box::new(|members| {
                if let Some(last) = members.last().cloned() {
                    members.push(last);
                }
            })),
        ),
        check(
            "cbor-unknown",
            "ENC-3: a member 7 that is not of the shape.",
            &edit(Box::new(|members| {
                members.push((Value::from(7), Value::from(0)))
            })),
        ),
        check(
            "cbor-missing",
            "ENC-3: member 6 is missing.",
            &edit(Box::new(|members| {
                members.pop();
            })),
        ),
        check(
            "cbor-mistyped",
            "ENC-3: member 3 is text.",
            &edit(Box::new(set(3, Value::Text("0".to_owned())))),
        ),
        check(
            "cbor-not-shortest",
            "ENC-1: the number 0 in two bytes.",
            &last(&[0x18, 0x00]),
        ),
        check(
            "cbor-float",
            "ENC-1: the number 0 as a float.",
            &last(&[0xf9, 0x00, 0x00]),
        ),
        check("cbor-undefined", "ENC-1: undefined.", &last(&[0xf7])),
        check(
            "cbor-tag",
            "ENC-1: the number 0 under a tag.",
            &last(&[0xc1, 0x00]),
        ),
        check(
            "cbor-indefinite",
            "ENC-1: a map of indefinite length.",
            &indefinite,
        ),
        check(
            "cbor-out-of-range",
            "ENC-3: a hold of 30,001 ms.",
            &edit(Box::new(set(5, Value::from(30_001)))),
        ),
        check(
            "cbor-length-lies",
            "ENC-2: a byte string that says it has 2^32 bytes.",
            &[0xa6, 0x01, 0x5a, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    all.extend(envelopes());
    all
}

fn envelopes() -> Vec<Case> {
    let request = |path: &str, about: &str, expected, bytes: &[u8]| {
        let got = RequestView::parse(bytes)
            .map(|_| ())
            .map_err(|error| (error.refusal(), error.to_string()));
        refused(path, "request", about, expected, got).given("request", bytes)
    };
    let large = {
        let mut writer = Writer::new();
        writer.array(3).uint(8).bytes(&[0; 32 * 1024 + 1]).array(0);
        writer.into_bytes()
    };
    let proofs = {
        let mut writer = Writer::new();
        writer.array(3).uint(8).bytes(&[0]).array(9);
        (0..9).for_each(|_| {
            writer.array(2).int(-8).bytes(&[0; 64]);
        });
        writer.into_bytes()
    };
    vec![
        request(
            "request-verb-unknown",
            "A verb of no version.",
            Refusal::Unsupported,
            &[0x83, 0x18, 0x63, 0x40, 0x80],
        ),
        request(
            "request-too-large",
            "Section 11: a feed request's body of 32 KiB and one byte.",
            Refusal::TooLarge,
            &large,
        ),
        request(
            "request-proofs-many",
            "ENC-3: nine proofs.",
            Refusal::Malformed,
            &proofs,
        ),
    ]
}
