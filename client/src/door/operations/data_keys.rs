//! Data keys and key pairs.

use std::collections::BTreeMap;

use aws_lc_rs::hkdf;
use serde_json::Value;
use ticket_format::Context;
use ticket_format::key_pair::KeyPairKind;
use ticket_format::secret::Dek;
use ticket_format::ticket::Action;
use zeroize::Zeroizing;

use super::{Call, JobKeys, base64, context_of, of_form};
use crate::door::blob::Blob;
use crate::door::fault::Fault;
use crate::door::members::Members;

/// Bytes of the longest data key.
const MAX: u64 = 1_024;
/// The form of a data key, before its length.
const DATA_KEY: &str = "data-key/";
/// What a longer or shorter key than a DEK is expanded by.
const LABEL: &[u8] = b"postern/1 kms data key";

/// The kinds of key pairs, by KMS's names.
const PAIRS: [(&str, KeyPairKind); 2] = [
    ("ECC_NIST_P256", KeyPairKind::P256),
    ("ECC_NIST_EDWARDS25519", KeyPairKind::Ed25519),
];

/// A form of a blob, read.
pub(super) enum Form {
    DataKey(usize),
    Payload,
    Pair(KeyPairKind),
}

impl Form {
    pub(super) fn parse(form: &str) -> Option<Self> {
        if form == super::payload::FORM {
            return Some(Self::Payload);
        }
        if let Some(length) = form.strip_prefix(DATA_KEY) {
            let number: u64 = length.parse().ok()?;
            let there_is = (1..=MAX).contains(&number) && number.to_string() == length;
            return there_is.then_some(Self::DataKey(number as usize));
        }
        let kind = PAIRS.iter().find(|(_, kind)| kind.name() == form);
        kind.map(|(_, kind)| Self::Pair(*kind))
    }

    /// The context of the wrap.
    pub(super) fn context(
        &self,
        pairs: BTreeMap<String, String>,
        form: &str,
    ) -> Result<Context, Fault> {
        match self {
            Self::Pair(kind) => context_of(pairs, (Context::KEY_PAIR, kind.name())),
            Self::DataKey(_) | Self::Payload => of_form(pairs, form),
        }
    }
}

/// A data key of so many bytes (DOOR-7).
pub(super) fn expand(dek: &Dek, length: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // rule: DOOR-7
    if length == dek.expose().len() {
        return Ok(Zeroizing::new(dek.expose().to_vec()));
    }
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut key = Zeroizing::new(vec![0; length]);
    // At most 1,024: two bytes.
    let bytes = (length as u16).to_be_bytes();
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, dek.expose());
    let filled = prk
        .expand(&[LABEL, &bytes], Length(length))
        .and_then(|okm| okm.fill(&mut key));
    filled.map_err(|_| Fault::internal("the data key could not be expanded"))?;
    Ok(key)
}

impl<K: JobKeys> Call<'_, K> {
    pub(super) async fn generate_data_key(mut self, plaintext: bool) -> Result<Value, Fault> {
        let pairs = self.members.context("EncryptionContext")?;
        let spec = self.members.text("KeySpec")?;
        let length = self.members.number("NumberOfBytes")?;
        let length = match (spec.as_deref(), length) {
            (Some("AES_256"), None) => 32,
            (Some("AES_128"), None) => 16,
            (None, Some(length)) if (1..=MAX).contains(&length) => length as usize,
            _ => {
                let why = "either KeySpec is AES_256 or AES_128, or NumberOfBytes from 1 to 1,024";
                return Err(Fault::invalid(why));
            }
        };
        let form = format!("{DATA_KEY}{length}");
        let context = of_form(pairs, &form)?;
        let dataset = self.key("KeyId", Action::Encrypt).await?;
        self.read_or_tried()?;
        let made = self
            .keys
            .generate(dataset.id, &context, plaintext, None)
            .await
            .map_err(Fault::of_making)?;
        let blob = Blob {
            dataset: dataset.id,
            wrapped: made.wrapped,
            form,
            sealed: None,
        };
        let mut answer = vec![
            ("CiphertextBlob", base64(&blob.to_bytes())),
            ("KeyId", self.arn(dataset.id)),
        ];
        if plaintext {
            let dek = made
                .dek
                .ok_or_else(|| Fault::internal("no data key came"))?;
            answer.push(("Plaintext", base64(&expand(&dek, length)?)));
        }
        Ok(answer
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }

    pub(super) async fn generate_data_key_pair(mut self, private: bool) -> Result<Value, Fault> {
        let pairs = self.members.context("EncryptionContext")?;
        let spec = Members::needed("KeyPairSpec", self.members.text("KeyPairSpec")?)?;
        let kind = PAIRS.iter().find(|(name, _)| *name == spec);
        let (_, kind) = kind.ok_or_else(|| {
            Fault::unsupported("key pairs but of ECC_NIST_P256 and ECC_NIST_EDWARDS25519")
        })?;
        let context = context_of(pairs, (Context::KEY_PAIR, kind.name()))?;
        let dataset = self.key("KeyId", Action::Encrypt).await?;
        self.read_or_tried()?;
        let keys = self.keys;
        let made = keys
            .generate(dataset.id, &context, private, Some(*kind))
            .await
            .map_err(Fault::of_making)?;
        let public = made
            .public
            .ok_or_else(|| Fault::internal("no public key came"))?;
        let blob = Blob {
            dataset: dataset.id,
            wrapped: made.wrapped,
            form: kind.name().to_owned(),
            sealed: None,
        };
        let mut answer = vec![
            ("PrivateKeyCiphertextBlob", base64(&blob.to_bytes())),
            ("PublicKey", base64(&public)),
            ("KeyPairSpec", spec.into()),
            ("KeyId", self.arn(dataset.id)),
        ];
        if private {
            let dek = made
                .dek
                .ok_or_else(|| Fault::internal("no private key came"))?;
            answer.push(("PrivateKeyPlaintext", base64(&pkcs8(*kind, &dek)?)));
        }
        Ok(answer
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }
}

/// The private part as other programs read it.
pub(super) fn pkcs8(kind: KeyPairKind, dek: &Dek) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let key = kind.pkcs8(dek);
    key.map_err(|_| Fault::internal("the private key is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_one_way_to_be_written() {
        // rule: DOOR-6
        for form in [
            "data-key/32",
            "data-key/1",
            "data-key/1024",
            "payload",
            "ed25519",
            "p-256",
        ] {
            assert!(Form::parse(form).is_some(), "{form}");
        }
        for none in [
            "",
            "data-key",
            "data-key/",
            "data-key/0",
            "data-key/032",
            "data-key/+32",
            "data-key/1025",
            "data-key/ 32",
            "Payload",
            "payload ",
            "x25519",
            "rsa",
        ] {
            assert!(Form::parse(none).is_none(), "{none}");
        }
    }

    #[test]
    fn keys_of_different_lengths_have_nothing_in_common() {
        // rule: DOOR-7
        let dek = Dek::from_bytes([7; 32]);
        assert_eq!(expand(&dek, 32).unwrap()[..], [7; 32]);
        let (short, long) = (expand(&dek, 16).unwrap(), expand(&dek, 64).unwrap());
        assert_eq!((short.len(), long.len()), (16, 64));
        assert_ne!(short[..], long[..16]);
        assert_ne!(long[..32], [7; 32]);
        assert_eq!(expand(&dek, 1_024).unwrap().len(), 1_024);
    }

    #[test]
    fn a_shorter_key_is_the_known_one() {
        // rule: DOOR-7
        // By the HKDF of pyca/cryptography 50.0.2.
        let dek = Dek::from_bytes([7; 32]);
        let known = 0x7f55_8046_d1b5_307a_1cdc_c552_32d4_b392_u128;
        assert_eq!(expand(&dek, 16).unwrap()[..], known.to_be_bytes());
    }
}
