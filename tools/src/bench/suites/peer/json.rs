//! The messages of the HTTP service: the shapes of HashiCorp Vault's `transit/decrypt`, and the AEAD under them.

use std::borrow::Cow;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::realm::rng;

/// Where keys are unwrapped and nothing is recorded.
pub(super) const DECRYPT: &str = "/v1/transit/decrypt/bench";
/// Where the answer waits until a record of it is on disk.
pub(super) const DECRYPT_DURABLY: &str = "/v1/durable/decrypt/bench";
/// The most items of a request.
pub(super) const MOST_ITEMS: usize = 1_000;
/// Bytes of a key, of those that are wrapped too.
pub(super) const KEY: usize = 32;
/// Bytes of an AES-GCM tag.
const TAG: usize = 16;
/// What a ciphertext begins with: scheme and version of the key.
const PREFIX: &str = "vault:v1:";

/// A request.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub(super) batch_input: Vec<Input<'a>>,
}

/// One wrapped key.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Input<'a> {
    /// `vault:v1:` and base64 of nonce, ciphertext and tag.
    #[serde(borrow)]
    pub(super) ciphertext: Cow<'a, str>,
    /// Base64.
    #[serde(borrow)]
    pub(super) context: Cow<'a, str>,
}

/// An answer.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Answer {
    pub(super) data: Data,
}

/// What an answer holds.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Data {
    pub(super) batch_results: Vec<Outcome>,
}

/// What became of one item.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// Base64.
    Plaintext(String),
    /// Why not.
    Error(String),
}

/// The key that keys are wrapped with.
pub(super) struct Kek(LessSafeKey);

impl Kek {
    /// Of these bytes.
    pub(super) fn new(key: &[u8; KEY]) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// A wrapped key, as an input has it.
    pub(super) fn wrap(&self, dek: &[u8; KEY], context: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        rng().fill_bytes(&mut nonce);
        let mut sealed = dek.to_vec();
        let of_key = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(context);
        self.0
            .seal_in_place_append_tag(of_key, aad, &mut sealed)
            .ok()?;
        Some(PREFIX.to_owned() + &STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens one item.
    pub(super) fn unwrap(&self, input: &Input<'_>) -> Outcome {
        let dek = || {
            let context = STANDARD.decode(&*input.context).ok()?;
            let wrapped = input.ciphertext.strip_prefix(PREFIX)?;
            let mut wrapped = Zeroizing::new(STANDARD.decode(wrapped).ok()?);
            if wrapped.len() != NONCE_LEN + KEY + TAG {
                return None;
            }
            let (nonce, sealed) = wrapped.split_at_mut(NONCE_LEN);
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let dek = self.0.open_in_place(nonce, Aad::from(&context), sealed);
            Some(STANDARD.encode(dek.ok()?))
        };
        dek().map_or_else(
            || Outcome::Error("message authentication failed".to_owned()),
            Outcome::Plaintext,
        )
    }
}

/// A key that came back.
pub(super) fn plaintext(outcome: &Outcome) -> Option<[u8; KEY]> {
    match outcome {
        Outcome::Plaintext(text) => STANDARD.decode(text).ok()?.try_into().ok(),
        Outcome::Error(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_unwrapped_with_its_context_alone() {
        let (kek, dek) = (Kek::new(&[1; KEY]).unwrap(), [7; KEY]);
        let ciphertext = &kek.wrap(&dek, b"one").unwrap();
        let unwrap = |context: &[u8]| {
            let context = &STANDARD.encode(context);
            plaintext(&kek.unwrap(&Input {
                ciphertext: ciphertext.into(),
                context: context.into(),
            }))
        };
        assert_eq!(unwrap(b"one"), Some(dek));
        assert_eq!(unwrap(b"two"), None);
    }

    #[test]
    fn what_is_no_wrapped_key_is_an_error() {
        let kek = Kek::new(&[1; KEY]).unwrap();
        let good = kek.wrap(&[7; KEY], b"").unwrap();
        let other_version = good.replace("v1", "v2");
        for ciphertext in [
            "",
            "vault:v1:",
            "vault:v1:!",
            &good[..good.len() - 4],
            &other_version,
        ] {
            let outcome = kek.unwrap(&Input {
                ciphertext: ciphertext.into(),
                context: "".into(),
            });
            assert!(matches!(outcome, Outcome::Error(_)), "{ciphertext}");
        }
    }
}
