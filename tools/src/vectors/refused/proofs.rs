//! Signatures.

use ticket_format::Refusal;
use ticket_format::keys::NodeKey;
use ticket_format::labels;
use ticket_format::sign::{Exporter, Proof};

use super::super::case::Case;
use super::super::world::World;
use super::refused;

pub(super) fn cases(world: &World) -> Vec<Case> {
    let (channel, label, body) = (world.to_broker(), labels::FEED_REQUEST, b"body".as_slice());
    let good = channel.sign_with(&world.server, label, None, body);
    let check = |path: &str,
                 about: &str,
                 channel: &ticket_format::sign::Channel,
                 label,
                 body: &[u8],
                 proof: &Proof| {
        let got = channel.verify_with(&world.server.public(), label, None, body, proof);
        refused(
            path,
            "server-proof",
            about,
            Refusal::Possession,
            got.map_err(|error| (Refusal::Possession, error.to_string())),
        )
        .input("label", label)
        .given("identity", channel.server.to_bytes())
        .given("exporter", channel.exporter.0)
        .given("body", body)
        .input("alg", proof.alg)
        .given("value", &proof.value)
    };
    let mut elsewhere = channel.clone();
    elsewhere.exporter = Exporter([0xa3; 32]);
    let mut flipped = good.clone();
    flipped.value[0] ^= 1;
    let small = {
        let mut identity = [0; 32];
        identity[0] = 1;
        let got = NodeKey::from_bytes(&identity)
            .map(|_| ())
            .map_err(|error| (Refusal::Malformed, error.to_string()));
        refused(
            "key-small-order",
            "ed-key",
            "SIG-2: the neutral element as a public key.",
            Refusal::Malformed,
            got,
        )
        .given("key", identity)
    };
    vec![
        check(
            "proof-alg-other",
            "SIG-2: alg says ES256; the value is a good Ed25519 signature.",
            &channel,
            label,
            body,
            &Proof {
                alg: -7,
                ..good.clone()
            },
        ),
        check(
            "proof-alg-mac",
            "SIG-2: alg says HMAC where a signature is wanted.",
            &channel,
            label,
            body,
            &Proof {
                alg: 5,
                ..good.clone()
            },
        ),
        check(
            "proof-connection-other",
            "SIG-1: made on another connection.",
            &elsewhere,
            label,
            body,
            &good,
        ),
        check(
            "proof-server-other",
            "SIG-1: made for another server.",
            &world.to_server(),
            label,
            body,
            &good,
        ),
        check(
            "proof-label-other",
            "SIG-1: made for another use.",
            &channel,
            labels::FEED_ANSWER,
            body,
            &good,
        ),
        check(
            "proof-body-other",
            "SIG-1: made over another body.",
            &channel,
            label,
            b"bodY",
            &good,
        ),
        check(
            "proof-flipped",
            "SIG-1: one bit of the signature.",
            &channel,
            label,
            body,
            &flipped,
        ),
        small,
    ]
}
