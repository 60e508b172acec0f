//! The AEADs: ChaCha20-Poly1305 (answers), XChaCha20-Poly1305 (wraps and the store) and AES-256-GCM
//! with 96-bit nonces (objects).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use serde::Deserialize;

use crate::support::{Hex, Tally, Verdict, wycheproof};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sizes {
    key_size: usize,
    iv_size: usize,
    tag_size: usize,
}

#[derive(Deserialize)]
struct Sealed {
    key: Hex,
    iv: Hex,
    aad: Hex,
    msg: Hex,
    ct: Hex,
    tag: Hex,
}

impl Sealed {
    fn whole(&self) -> Vec<u8> {
        [&*self.ct, &*self.tag].concat()
    }
}

/// One of the `RustCrypto` AEADs on a file of cases with 256-bit keys.
fn check<A: Aead + KeyInit>(file: &str, cases: usize, iv_bits: usize, expected: &Tally) {
    let mut tally = Tally::default();
    for group in wycheproof::<Sizes, Sealed>(file, cases) {
        assert_eq!((group.common.key_size, group.common.tag_size), (256, 128));
        for case in group.tests {
            let sealed = &case.data;
            let cipher = A::new_from_slice(&sealed.key).expect("256 bits");
            let Ok(nonce) = (&*sealed.iv).try_into() else {
                assert_ne!(group.common.iv_size, iv_bits, "{}", case.name());
                assert_eq!(case.result, Verdict::Invalid, "{}", case.name());
                tally.count(false);
                continue;
            };
            let opened = cipher.decrypt(
                nonce,
                Payload {
                    msg: &sealed.whole(),
                    aad: &sealed.aad,
                },
            );
            if case.result == Verdict::Valid {
                assert_eq!(opened.as_deref(), Ok(&*sealed.msg), "{}", case.name());
            }
            assert_eq!(
                opened.is_ok(),
                case.result == Verdict::Valid,
                "{}",
                case.name()
            );
            let again = cipher.encrypt(
                nonce,
                Payload {
                    msg: &sealed.msg,
                    aad: &sealed.aad,
                },
            );
            let same = again.expect("short enough") == sealed.whole();
            assert_eq!(same, case.result == Verdict::Valid, "{}", case.name());
            tally.count(opened.is_ok());
        }
    }
    assert_eq!(&tally, expected);
}

#[test]
fn wycheproof_chacha20_poly1305_opens_exactly_what_is_valid() {
    // rule: SEAL-4
    let expected = Tally {
        accepted: 163,
        refused: 43,
    };
    check::<ChaCha20Poly1305>("chacha20_poly1305_test.json", 206, 96, &expected);
}

#[test]
fn wycheproof_xchacha20_poly1305_opens_exactly_what_is_valid() {
    // rule: WRAP-2, REST-1
    let expected = Tally {
        accepted: 157,
        refused: 31,
    };
    check::<XChaCha20Poly1305>("xchacha20_poly1305_test.json", 188, 192, &expected);
}

#[test]
fn wycheproof_aes_gcm_opens_exactly_what_is_valid_with_our_key_and_nonce_sizes() {
    // rule: OBJ-1
    let mut ours = Tally::default();
    let (mut other_keys, mut other_nonces) = (0, 0);
    for group in wycheproof::<Sizes, Sealed>("aes_gcm_test.json", 198) {
        let Sizes {
            key_size,
            iv_size,
            tag_size,
        } = group.common;
        assert_eq!(tag_size, 128);
        for case in group.tests {
            let sealed = &case.data;
            let key = UnboundKey::new(&AES_256_GCM, &sealed.key);
            assert_eq!(key.is_ok(), key_size == 256, "{}", case.name());
            let Ok(key) = key.map(LessSafeKey::new) else {
                other_keys += 1;
                continue;
            };
            let nonce = || Nonce::try_assume_unique_for_key(&sealed.iv);
            assert_eq!(nonce().is_ok(), iv_size == 96, "{}", case.name());
            let (Ok(to_open), Ok(to_seal)) = (nonce(), nonce()) else {
                other_nonces += 1;
                continue;
            };
            let mut buffer = sealed.whole();
            let opened = key
                .open_in_place(to_open, Aad::from(&*sealed.aad), &mut buffer)
                .map(|clear| clear.to_vec());
            if case.result == Verdict::Valid {
                assert_eq!(opened.as_deref(), Ok(&*sealed.msg), "{}", case.name());
            }
            assert_eq!(
                opened.is_ok(),
                case.result == Verdict::Valid,
                "{}",
                case.name()
            );
            let mut again = sealed.msg.to_vec();
            key.seal_in_place_append_tag(to_seal, Aad::from(&*sealed.aad), &mut again)
                .expect("short enough");
            let same = again == sealed.whole();
            assert_eq!(same, case.result == Verdict::Valid, "{}", case.name());
            ours.count(opened.is_ok());
        }
    }
    let expected = Tally {
        accepted: 20,
        refused: 15,
    };
    assert_eq!((ours, other_keys, other_nonces), (expected, 138, 25));
}
