//! HKDF-SHA256 (launch keys, HPKE) and HMAC-SHA256 (request MACs).

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::support::{Hex, Tally, Verdict, wycheproof};

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Expansion {
    ikm: Hex,
    salt: Hex,
    info: Hex,
    size: usize,
    okm: Hex,
}

/// The length of an output, as the library behind the object format asks for it.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn by_aws_lc(case: &Expansion) -> Option<Vec<u8>> {
    let key = Salt::new(HKDF_SHA256, &case.salt).extract(&case.ikm);
    let info: [&[u8]; 1] = [&case.info];
    let output = key.expand(&info, Length(case.size)).ok()?;
    let mut bytes = vec![0; case.size];
    output.fill(&mut bytes).ok()?;
    Some(bytes)
}

fn by_rust_crypto(case: &Expansion) -> Option<Vec<u8>> {
    let mut bytes = vec![0; case.size];
    Hkdf::<Sha256>::new(Some(&case.salt), &case.ikm)
        .expand(&case.info, &mut bytes)
        .ok()?;
    Some(bytes)
}

#[test]
fn wycheproof_hkdf_gives_the_valid_outputs_and_refuses_the_lengths_it_cannot_give() {
    // rule: BOOT-2
    let mut tally = Tally::default();
    for group in wycheproof::<Nothing, Expansion>("hkdf_sha256_test.json", 60) {
        for case in group.tests {
            let expected = (case.result == Verdict::Valid).then(|| case.data.okm.to_vec());
            assert_eq!(expected.is_none(), case.has("SizeTooLarge"));
            assert_eq!(by_rust_crypto(&case.data), expected, "{}", case.name());
            assert_eq!(by_aws_lc(&case.data), expected, "{}", case.name());
            tally.count(expected.is_some());
        }
    }
    let expected = Tally {
        accepted: 58,
        refused: 2,
    };
    assert_eq!(tally, expected);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MacSizes {
    key_size: usize,
    tag_size: usize,
}

#[derive(Deserialize)]
struct Authenticated {
    key: Hex,
    msg: Hex,
    tag: Hex,
}

/// A 32-byte key as `ticket_format::sign` gives it: padded with zeros to the block.
fn padded(key: &[u8; 32], message: &[u8]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&block).into());
    mac.update(message);
    mac
}

#[test]
fn wycheproof_hmac_verifies_exactly_what_is_valid() {
    // rule: SEAL-3
    let (mut tally, mut with_our_keys) = (Tally::default(), Tally::default());
    for group in wycheproof::<MacSizes, Authenticated>("hmac_sha256_test.json", 101) {
        let MacSizes { key_size, tag_size } = group.common;
        for case in group.tests {
            let Authenticated { key, msg, tag } = &case.data;
            let valid = case.result == Verdict::Valid;
            assert_eq!((key.len() * 8, tag.len() * 8), (key_size, tag_size));

            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
            mac.update(msg);
            let accepted = mac.verify_truncated_left(tag).is_ok();
            assert_eq!(accepted, valid, "{}", case.name());
            tally.count(accepted);

            let Some(key) = key.array() else { continue };
            // The whole tag or nothing: a cut one is refused even if it is right as far as it goes.
            let accepted = padded(&key, msg).verify_slice(tag).is_ok();
            assert_eq!(accepted, valid && tag_size == 256, "{}", case.name());
            with_our_keys.count(accepted);
        }
    }
    let expected = Tally {
        accepted: 43,
        refused: 58,
    };
    assert_eq!(tally, expected);
    let expected = Tally {
        accepted: 18,
        refused: 74,
    };
    assert_eq!(with_our_keys, expected);
}
