//! Encapsulations and sealing keys.

use ticket_format::Refusal;
use ticket_format::seal::{self, Kem, SealingKey};
use ticket_format::ticket;

use super::super::case::Case;
use super::super::world::{AUTHENTICATOR, REALM, World};
use super::refused;

pub(super) fn cases(world: &World) -> Vec<Case> {
    let info = seal::session_info(
        Kem::X25519,
        REALM,
        &world.server_tls.public(),
        ticket::hash(b"ticket"),
        AUTHENTICATOR,
    );
    let encapsulation =
        |path: &str, about: &str, kem: Kem, secret: &seal::SealingSecret, enc: &[u8]| {
            let got = secret
                .decapsulate(enc, &info)
                .map(|_| ())
                .map_err(|error| (Refusal::Possession, error.to_string()));
            refused(path, "decapsulate", about, Refusal::Possession, got)
                .input("kem", kem.id())
                .given("seed", secret.seed().expose())
                .given("enc", enc)
                .given("info", &info)
        };
    let mut order_eight = [0; 32];
    order_eight[0] = 1;
    let short = SealingKey::from_bytes(Kem::XWing, &[0; 1_215])
        .map(|_| ())
        .map_err(|error| (Refusal::Malformed, error.to_string()));
    let range = SealingKey::from_bytes(Kem::XWing, &[0xff; 1_216])
        .map(|_| ())
        .map_err(|error| (Refusal::Malformed, error.to_string()));
    vec![
        encapsulation(
            "enc-zero",
            "SEAL-5: an all-zero X25519 share.",
            Kem::X25519,
            &world.job_x25519,
            &[0; 32],
        ),
        encapsulation(
            "enc-low-order",
            "SEAL-5: an X25519 share of low order.",
            Kem::X25519,
            &world.job_x25519,
            &order_eight,
        ),
        encapsulation(
            "enc-length",
            "An X-Wing encapsulation of 1,119 bytes.",
            Kem::XWing,
            &world.job_sealing,
            &[0; 1_119],
        ),
        refused(
            "sealing-key-length",
            "x-wing-key",
            "An X-Wing key of 1,215 bytes.",
            Refusal::Malformed,
            short,
        )
        .given("key", [0; 1_215]),
        refused(
            "sealing-key-range",
            "x-wing-key",
            "FIPS 203, 7.2: coefficients out of range.",
            Refusal::Malformed,
            range,
        )
        .given("key", [0xff; 1_216]),
    ]
}
