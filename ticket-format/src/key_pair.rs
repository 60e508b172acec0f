//! Key pairs whose private part is a DEK (GEN-2): it is wrapped, sealed and counted as any DEK, and is one of
//! a pair by what its context says.
//!
//! For all three kinds the private part is 32 bytes: an X25519 scalar (RFC 7748), an Ed25519 seed (RFC 8032), a
//! P-256 scalar, big-endian (SEC 1).

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, X25519};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use const_oid::ObjectIdentifier;
use der::Encode as _;
use der::asn1::OctetStringRef;
use der::pem::{LineEnding, encode_string};
use ed25519_dalek::pkcs8::PrivateKeyInfoRef;
use ed25519_dalek::pkcs8::spki::AlgorithmIdentifierRef;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Context;
use crate::messages::shape::numbered;
use crate::secret::Dek;

/// RFC 8410, section 3.
const ID_X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
const ID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A public key as SubjectPublicKeyInfo (RFC 5280): 44 bytes of the two on Curve25519, 91 of P-256.
pub const PUBLIC: std::ops::RangeInclusive<usize> = 44..=91;

numbered! {
    /// What a pair is for.
    pub enum KeyPairKind("key pair kind") {
        /// Agreement on Curve25519.
        X25519 = 1, "x25519";
        /// Signatures on Curve25519.
        Ed25519 = 2, "ed25519";
        /// Agreement or ECDSA on P-256.
        P256 = 3, "p-256";
    }
}

/// The bytes are no private key of this kind: of P-256, zero or not below the group's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no private key of the kind that the context names")]
pub struct NotPrivate;

impl KeyPairKind {
    /// The kind that a context names.
    #[must_use]
    pub fn of(context: &Context) -> Option<Self> {
        let word = context.get(Context::KEY_PAIR)?;
        Self::ALL.iter().copied().find(|kind| kind.name() == word)
    }

    /// Makes a pair: its private part, and its public key as SubjectPublicKeyInfo.
    #[must_use]
    pub fn make(self, rng: &mut impl CryptoRng) -> (Dek, Vec<u8>) {
        loop {
            let private = Dek::random(rng);
            // Of P-256, one draw in 2^32 is none.
            if let Ok(public) = self.public(&private) {
                return (private, public);
            }
        }
    }

    /// The public key, as SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`NotPrivate`].
    pub fn public(self, private: &Dek) -> Result<Vec<u8>, NotPrivate> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::X25519 | Self::P256 => {
                let public = self.agreement(private)?.compute_public_key();
                public.map_err(|_| NotPrivate)?.as_der()
            }
            Self::Ed25519 => Ed25519KeyPair::from_seed_unchecked(private.expose())
                .map_err(|_| NotPrivate)?
                .public_key()
                .as_der(),
        };
        Ok(der.map_err(|_| NotPrivate)?.as_ref().to_vec())
    }

    /// The private part as PKCS#8 in DER (RFC 5958, version 1), as other programs read it.
    ///
    /// # Errors
    /// [`NotPrivate`].
    pub fn pkcs8(self, private: &Dek) -> Result<Zeroizing<Vec<u8>>, NotPrivate> {
        let oid = match self {
            Self::X25519 => ID_X25519,
            Self::Ed25519 => ID_ED25519,
            Self::P256 => {
                let der: Result<Pkcs8V1Der<'_>, _> = self.agreement(private)?.as_der();
                let der = der.map_err(|_| NotPrivate)?;
                return Ok(Zeroizing::new(der.as_ref().to_vec()));
            }
        };
        // RFC 8410, section 7: an octet string within the octet string.
        let mut inner = Zeroizing::new([0; 34]);
        inner[..2].copy_from_slice(&[0x04, 32]);
        inner[2..].copy_from_slice(private.expose());
        let algorithm = AlgorithmIdentifierRef {
            oid,
            parameters: None,
        };
        let octets = OctetStringRef::new(inner.as_slice()).map_err(|_| NotPrivate)?;
        let der = PrivateKeyInfoRef::new(algorithm, octets).to_der();
        der.map(Zeroizing::new).map_err(|_| NotPrivate)
    }

    /// The private part as PEM, `PRIVATE KEY` (RFC 7468, section 10).
    ///
    /// # Errors
    /// [`NotPrivate`].
    pub fn pem(self, private: &Dek) -> Result<Zeroizing<String>, NotPrivate> {
        let der = self.pkcs8(private)?;
        let text = encode_string("PRIVATE KEY", LineEnding::LF, &der);
        text.map(Zeroizing::new).map_err(|_| NotPrivate)
    }

    fn agreement(self, private: &Dek) -> Result<PrivateKey, NotPrivate> {
        let algorithm = match self {
            Self::X25519 => &X25519,
            Self::Ed25519 | Self::P256 => &ECDH_P256,
        };
        PrivateKey::from_private_key(algorithm, private.expose()).map_err(|_| NotPrivate)
    }
}

/// A public key as PEM, `PUBLIC KEY` (RFC 7468, section 13).
#[must_use]
pub fn public_pem(spki: &[u8]) -> String {
    // A document of at most 91 bytes never fails to be written.
    encode_string("PUBLIC KEY", LineEnding::LF, spki).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    fn private(hex: &str) -> Dek {
        Dek::from_bytes(bytes(hex).try_into().unwrap())
    }

    /// Private part, public key, from RFC 7748 (6.1), RFC 8032 (7.1, test 1) and RFC 6979 (A.2.5).
    const KNOWN: [(KeyPairKind, &str, &str); 3] = [
        (
            KeyPairKind::X25519,
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        ),
        (
            KeyPairKind::Ed25519,
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ),
        (
            KeyPairKind::P256,
            "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
            "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
        ),
    ];

    #[test]
    fn public_keys_are_those_of_the_rfcs() {
        for (kind, secret, public) in KNOWN {
            let spki = kind.public(&private(secret)).unwrap();
            assert!(spki.ends_with(&bytes(public)), "{kind}");
            assert!(PUBLIC.contains(&spki.len()), "{kind}: {}", spki.len());
        }
    }

    #[test]
    fn a_private_part_is_read_by_other_programs() {
        use ed25519_dalek::pkcs8::DecodePrivateKey as _;
        let der = |kind: KeyPairKind, secret| kind.pkcs8(&private(secret)).unwrap();
        for (kind, secret, public) in KNOWN {
            let der = der(kind, secret);
            let read = match kind {
                KeyPairKind::X25519 => {
                    // RFC 8410, section 7, with X25519's OID for Ed25519's.
                    let mut other = KeyPairKind::Ed25519.pkcs8(&private(secret)).unwrap();
                    let at = other
                        .windows(3)
                        .position(|w| w == [0x2b, 0x65, 0x70])
                        .unwrap();
                    other[at + 2] = 0x6e;
                    assert_eq!(*der, *other);
                    continue;
                }
                KeyPairKind::Ed25519 => {
                    ed25519_dalek::SigningKey::from_pkcs8_pem(&kind.pem(&private(secret)).unwrap())
                        .unwrap()
                        .verifying_key()
                        .to_bytes()
                        .to_vec()
                }
                KeyPairKind::P256 => {
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
                        .unwrap()
                        .public_key()
                        .as_ref()
                        .to_vec()
                }
            };
            assert_eq!(read, bytes(public), "{kind}");
        }
    }

    #[test]
    fn what_is_no_scalar_of_p_256_is_no_private_part() {
        let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
        for hex in [order, &"00".repeat(32), &"ff".repeat(32)] {
            assert_eq!(KeyPairKind::P256.public(&private(hex)), Err(NotPrivate));
            assert!(KeyPairKind::P256.pkcs8(&private(hex)).is_err());
        }
    }

    #[test]
    fn a_pair_is_of_the_kind_that_its_context_names() {
        let context = |word: &str| {
            let pairs = [(Context::KEY_PAIR.to_owned(), word.to_owned())];
            Context::new(pairs.into()).unwrap()
        };
        for kind in KeyPairKind::ALL {
            assert_eq!(KeyPairKind::of(&context(kind.name())), Some(*kind));
        }
        assert_eq!(KeyPairKind::of(&context("P-256")), None);
        assert_eq!(KeyPairKind::of(&Context::default()), None);
    }
}
