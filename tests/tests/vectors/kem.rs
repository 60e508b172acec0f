//! ML-KEM-768 (FIPS 203), the half of X-Wing that is to outlive X25519.

use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::{MlKem768, Seed};
use serde::Deserialize;
use ticket_format::seal::{Kem, NotASealingKey, SealingKey};

use crate::support::{Hex, Tally, Verdict, wycheproof};

type DecapsulationKey = ml_kem::DecapsulationKey<MlKem768>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    parameter_set: String,
}

#[derive(Deserialize)]
struct Encapsulated {
    seed: Hex,
    #[serde(default)]
    ek: Hex,
    c: Hex,
    #[serde(rename = "K")]
    k: Hex,
}

impl Encapsulated {
    /// The public key and the shared secret, if seed and ciphertext have the lengths of some.
    fn open(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let key = DecapsulationKey::from_seed(Seed::try_from(&*self.seed).ok()?);
        let shared = key.decapsulate_slice(&self.c).ok()?;
        let public = key.encapsulation_key().to_bytes();
        Some((public.to_vec(), shared.to_vec()))
    }
}

fn cases() -> Vec<crate::support::Case<Encapsulated>> {
    let mut groups = wycheproof::<Parameters, Encapsulated>("mlkem_768_test.json", 121);
    assert!(
        groups
            .iter()
            .all(|group| group.common.parameter_set == "ML-KEM-768")
    );
    groups.drain(..).flat_map(|group| group.tests).collect()
}

#[test]
fn wycheproof_ml_kem_768_gives_the_valid_secrets_and_refuses_other_lengths() {
    let mut tally = Tally::default();
    for case in cases() {
        let expected =
            (case.result == Verdict::Valid).then(|| (case.data.ek.to_vec(), case.data.k.to_vec()));
        let opened = case.data.open();
        assert!(opened == expected, "{}", case.name());
        tally.count(opened.is_some());
    }
    let expected = Tally {
        accepted: 95,
        refused: 26,
    };
    assert_eq!(tally, expected);
}

#[test]
fn an_x_wing_key_is_read_with_every_valid_ml_kem_key_and_with_none_that_is_out_of_range() {
    // rule: SEAL-5
    let mut tally = Tally::default();
    for case in cases().iter().filter(|case| case.result == Verdict::Valid) {
        // An X-Wing key is the ML-KEM key, then the X25519 key; 9 is the base point.
        let mut base_point = [0; 32];
        base_point[0] = 9;
        let good = [&*case.data.ek, &base_point].concat();
        let read = SealingKey::from_bytes(Kem::XWing, &good);
        assert!(
            read.is_ok_and(|key| key.as_bytes() == good),
            "{}",
            case.name()
        );
        tally.count(true);

        // The first of its 768 coefficients becomes q = 3329, which is zero written otherwise, and
        // then 4095 (FIPS 203, 7.2).
        for [low, high] in [[0x01, 0x0d], [0xff, 0x0f]] {
            let mut bad = good.clone();
            bad[0] = low;
            bad[1] = (bad[1] & 0xf0) | high;
            assert_eq!(
                SealingKey::from_bytes(Kem::XWing, &bad),
                Err(NotASealingKey)
            );
            tally.count(false);
        }
    }
    let expected = Tally {
        accepted: 95,
        refused: 190,
    };
    assert_eq!(tally, expected);
}
