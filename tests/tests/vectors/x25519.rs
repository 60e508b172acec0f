//! X25519: the function of RFC 7748, and the key agreement over it, which refuses what it must
//! (RFC 9180, 7.1.4; SEAL-5).

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde::Deserialize;
use ticket_format::seal::{Kem, SealError, SealingKey, SealingSecret, encapsulate};
use ticket_format::secret::SealingSeed;

use crate::support::{Hex, Tally, wycheproof};

#[derive(Deserialize)]
struct Curve {
    curve: String,
}

#[derive(Deserialize)]
struct Exchange {
    public: Hex,
    private: Hex,
    shared: Hex,
}

#[test]
fn wycheproof_x25519_is_computed_right_and_agrees_on_no_key_with_a_point_of_low_order() {
    // rule: SEAL-5
    let mut tally = Tally::default();
    for group in wycheproof::<Curve, Exchange>("x25519_test.json", 360) {
        assert_eq!(group.common.curve, "curve25519");
        for case in group.tests {
            let private: [u8; 32] = case.data.private.array().expect("32 bytes");
            let public: [u8; 32] = case.data.public.array().expect("32 bytes");
            let shared = x25519_dalek::x25519(private, public);
            assert_eq!(shared, *case.data.shared, "{}", case.name());

            let low = case.has("ZeroSharedSecret") || case.has("LowOrderPublic");
            assert_eq!(shared == [0; 32], low, "{}", case.name());

            // A receiver that gets the point as an encapsulation.
            let seed = SealingSeed::from_bytes(private);
            let received = SealingSecret::from_seed(Kem::X25519, seed).decapsulate(&public, b"");
            assert_eq!(received.is_err(), low, "{}", case.name());
            // A sender that gets it as a session key: refused when read, or when used.
            let sent = SealingKey::from_bytes(Kem::X25519, &public)
                .map_err(|_| SealError::Encapsulation)
                .and_then(|key| encapsulate(&key, b"", &mut UnwrapErr(SysRng)));
            assert_eq!(sent.is_err(), low, "{}", case.name());
            tally.count(received.is_ok());
        }
    }
    let expected = Tally {
        accepted: 341,
        refused: 19,
    };
    assert_eq!(tally, expected);
}
