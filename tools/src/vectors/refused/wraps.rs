//! Wrapped DEKs.

use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::wrapped::{Wrapped, local, public};

use super::super::case::Case;
use super::super::rng::Fixed;
use super::super::world::{DATASET, KEK, REALM, World};
use super::refused;

pub(super) fn cases(world: &World) -> Vec<Case> {
    let context = World::context().to_cbor();
    let open = |bytes: &[u8], context: &[u8]| -> Result<(), (Refusal, String)> {
        let parsed =
            Wrapped::parse(bytes).map_err(|error| (Refusal::WrapMalformed, error.to_string()))?;
        let failed = |error: ticket_format::wrapped::WrapError| (error.into(), error.to_string());
        match parsed {
            Wrapped::Local {
                header,
                origin,
                nonce,
                ciphertext,
            } => local::unwrap(
                &world.kek,
                REALM,
                &header,
                origin,
                context,
                &nonce,
                &ciphertext,
            )
            .map(|_| ())
            .map_err(failed),
            Wrapped::Public {
                header,
                enc,
                commitment,
                producer,
            } => {
                let exports = public::open_upload(&world.dataset, REALM, &header, enc)
                    .map_err(|error| (Refusal::WrapAuthentication, error.to_string()))?;
                public::unwrap(&exports, REALM, &header, context, &commitment).map_err(failed)?;
                let producers = [world.producer.public()];
                producer.map_or(Ok(()), |claim| {
                    public::verify_producer(
                        &producers,
                        REALM,
                        &header,
                        enc,
                        &commitment,
                        context,
                        &claim,
                    )
                    .map_err(failed)
                })
            }
        }
    };
    let check = |path: &str, about: &str, expected, bytes: &[u8], context: &[u8]| {
        refused(path, "wrap", about, expected, open(bytes, context))
            .given("wrapped", bytes)
            .given("context", context)
    };
    let header = ticket_format::wrapped::Header {
        dataset: DATASET,
        kek: KEK,
        kek_version: 1,
        dek: super::super::world::DEK,
    };
    let dek = ticket_format::secret::Dek::from_bytes([0x81; 32]);
    let rng = &mut Fixed::new("postern vectors: wrap");
    let local = local::wrap(
        &world.kek,
        REALM,
        &header,
        ticket_format::wrapped::Origin::Generated,
        &context,
        &dek,
        rng,
    );
    let (unsigned, _) = super::super::wraps::made(world, false);
    let (signed, _) = super::super::wraps::made(world, true);
    for good in [&local, &unsigned, &signed] {
        assert!(
            open(good, &context).is_ok(),
            "a wrap that is not changed opens"
        );
    }
    let flip = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let other = ticket_format::Context::named("faces/0002.jpg")
        .unwrap_or_default()
        .to_cbor();
    let origin = {
        // The byte after the DEK id: 0 says generated, 1 says public-unsigned.
        let at = local
            .windows(16)
            .position(|bytes| bytes == header.dek.0)
            .unwrap_or(0)
            + 16;
        flip(&local, at)
    };
    // An unsigned wrap ends in its commitment and null.
    let commitment = flip(&unsigned, unsigned.len() - 2);
    let shares = unsigned
        .windows(3)
        .position(|head| head == [0x59, 0x04, 0x60])
        .unwrap_or(0)
        + 3;
    let (malformed, authentication) = (Refusal::WrapMalformed, Refusal::WrapAuthentication);
    vec![
        check(
            "wrap-context-other",
            "WRAP-2: another context.",
            authentication,
            &local,
            &other,
        ),
        check(
            "wrap-tag-flipped",
            "WRAP-2: one bit of the tag.",
            authentication,
            &flip(&local, local.len() - 1),
            &context,
        ),
        check(
            "wrap-origin-changed",
            "ORG-1: the origin says public-unsigned.",
            authentication,
            &origin,
            &context,
        ),
        check(
            "wrap-version",
            "WRAP-1: version 2.",
            malformed,
            &{
                let mut bytes = local.clone();
                bytes[1] = 2;
                bytes
            },
            &context,
        ),
        check(
            "wrap-kind",
            "WRAP-1: kind 3.",
            malformed,
            &{
                let mut bytes = local.clone();
                bytes[2] = 3;
                bytes
            },
            &context,
        ),
        check(
            "wrap-trailing",
            "ENC-1: a byte after the wrap.",
            malformed,
            &[&local[..], &[0]].concat(),
            &context,
        ),
        check(
            "wrap-public-context-other",
            "WRAP-3: another context.",
            Refusal::WrapCommitment,
            &unsigned,
            &other,
        ),
        check(
            "wrap-public-commitment-flipped",
            "WRAP-3: one bit of the commitment.",
            Refusal::WrapCommitment,
            &commitment,
            &context,
        ),
        check(
            "wrap-public-enc-flipped",
            "WRAP-3: one bit of the encapsulation.",
            Refusal::WrapCommitment,
            &flip(&unsigned, shares),
            &context,
        ),
        check(
            "wrap-producer-flipped",
            "WRAP-4: one bit of the producer's signature.",
            Refusal::Producer,
            &flip(&signed, signed.len() - 1),
            &context,
        ),
    ]
}
