//! The form of the COSE working group's example files.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coset::Algorithm;
use coset::iana::Algorithm as Name;
use serde::Deserialize;

use crate::ed25519;
use crate::support::Hex;

#[derive(Deserialize)]
pub(crate) struct Example {
    #[serde(default)]
    pub(crate) fail: bool,
    pub(crate) input: Input,
    #[serde(default)]
    pub(crate) intermediates: Intermediates,
    pub(crate) output: Output,
}

#[derive(Deserialize)]
pub(crate) struct Input {
    plaintext: Option<String>,
    plaintext_hex: Option<Hex>,
    pub(crate) sign0: Option<Signer0>,
    pub(crate) sign: Option<Signers>,
    mac0: Option<Recipients>,
    enveloped: Option<Recipients>,
}

#[derive(Deserialize)]
pub(crate) struct Signer0 {
    pub(crate) key: Jwk,
    #[serde(default)]
    pub(crate) external: Hex,
}

#[derive(Deserialize)]
pub(crate) struct Signers {
    pub(crate) signers: Vec<Keyed>,
}

#[derive(Deserialize)]
pub(crate) struct Recipients {
    recipients: Vec<Keyed>,
}

#[derive(Deserialize)]
pub(crate) struct Keyed {
    pub(crate) key: Jwk,
}

#[derive(Deserialize, Default)]
pub(crate) struct Intermediates {
    #[serde(rename = "ToBeSign_hex", default)]
    pub(crate) to_be_signed: Hex,
    #[serde(rename = "ToMac_hex", default)]
    pub(crate) to_be_authenticated: Hex,
    #[serde(rename = "CEK_hex", default)]
    pub(crate) content_key: Hex,
    #[serde(default)]
    pub(crate) signers: Vec<Intermediates>,
    #[serde(default)]
    pub(crate) recipients: Vec<Agreement>,
}

#[derive(Deserialize)]
pub(crate) struct Agreement {
    #[serde(rename = "Context_hex", default)]
    pub(crate) context: Hex,
    #[serde(rename = "Secret_hex", default)]
    pub(crate) secret: Hex,
}

#[derive(Deserialize)]
pub(crate) struct Output {
    pub(crate) cbor: Hex,
}

/// A key: each number in base64url or, with `_hex`, in hexadecimal.
#[derive(Deserialize)]
pub(crate) struct Jwk {
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    x_hex: Option<Hex>,
    y_hex: Option<Hex>,
    pub(crate) d_hex: Option<Hex>,
    k: Option<String>,
    k_hex: Option<Hex>,
}

fn number(text: Option<&String>, hex: Option<&Hex>) -> Vec<u8> {
    match (text, hex) {
        (Some(text), None) => URL_SAFE_NO_PAD.decode(text).expect("base64url"),
        (None, Some(hex)) => hex.to_vec(),
        _ => panic!("the number is given once"),
    }
}

impl Jwk {
    pub(crate) fn x(&self) -> Vec<u8> {
        number(self.x.as_ref(), self.x_hex.as_ref())
    }

    /// A symmetric key.
    pub(crate) fn symmetric(&self) -> Vec<u8> {
        number(self.k.as_ref(), self.k_hex.as_ref())
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        Algorithm::Assigned(match self.crv.as_deref() {
            Some("P-256") => Name::ES256,
            Some("Ed25519" | "Ed448") => Name::EdDSA,
            other => panic!("no signature key: {other:?}"),
        })
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
        if self.algorithm() == Algorithm::Assigned(Name::EdDSA) {
            return ed25519::verifies(&self.x(), message, signature);
        }
        let y = number(self.y.as_ref(), self.y_hex.as_ref());
        let point = [&[4], &*self.x(), &*y].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(message, signature)
            .is_ok()
    }
}

impl Input {
    pub(crate) fn plaintext(&self) -> Vec<u8> {
        match (&self.plaintext, &self.plaintext_hex) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(hex)) => hex.to_vec(),
            _ => panic!("the plaintext is given once"),
        }
    }

    /// The key of a MAC or of an encrypted message, which has one recipient here.
    pub(crate) fn recipient(&self) -> &Jwk {
        let recipients = self.mac0.as_ref().or(self.enveloped.as_ref());
        let [one] = &*recipients.expect("a MAC or encrypted").recipients else {
            panic!("one recipient");
        };
        &one.key
    }
}
