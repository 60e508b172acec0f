//! KEK material on its way in and out of a key server (`spec/vault.md`, section 5): what both ends of an
//! import and of an export compute alike.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use chacha20poly1305::aead::Aead as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cbor::Writer;
use crate::ids::{DatasetId, ImportId, KekId};
use crate::keys::TlsKey;
use crate::labels;
use crate::seal::{Kem, SealError, SealingKey, SealingSecret, XWING_ENC, encapsulate};

/// Bytes of material that is imported.
pub const MATERIAL: usize = 32;
/// Bytes of it wrapped by HPKE: encapsulation, ciphertext, tag.
pub const HPKE_WRAPPED: usize = XWING_ENC + MATERIAL + 16;
/// Bytes of it wrapped by RSA-OAEP: the modulus has 4,096 bits.
pub const RSA_WRAPPED: usize = 512;
/// Bits of an import's RSA key.
pub const RSA_BITS: usize = RSA_WRAPPED * 8;
/// Bytes of exported material, sealed: symmetric key, X-Wing seed, tag.
pub const EXPORTED: usize = 2 * 32 + 16;

/// What an import's material is bound to where HPKE wraps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportPlace<'a> {
    /// The realm.
    pub realm: &'a str,
    /// The key server.
    pub server: TlsKey,
    /// The dataset.
    pub dataset: DatasetId,
    /// The import.
    pub import: ImportId,
}

impl ImportPlace<'_> {
    fn info(&self) -> Vec<u8> {
        // rule: IMP-1
        let mut writer = Writer::with_capacity(160);
        writer
            .array(5)
            .text(labels::IMPORT)
            .text(self.realm)
            .bytes(&self.server.to_bytes())
            .bytes(&self.dataset.0)
            .bytes(&self.import.0);
        writer.into_bytes()
    }

    /// Wraps material to the import's X-Wing key: `encapsulation || ciphertext and tag`.
    ///
    /// # Errors
    /// The key is none that anything can be sealed to.
    pub fn wrap(
        &self,
        key: &SealingKey,
        material: &[u8; MATERIAL],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        // rule: IMP-1
        if key.kem() != Kem::XWing {
            return Err(SealError::Encapsulation);
        }
        let info = self.info();
        let (mut wrapped, exports) = encapsulate(key, &info, rng)?;
        let key = exports.export::<32>(&info);
        // The key is used once, so its nonce may be zeros.
        let cipher = ChaCha20Poly1305::new((&*key).into());
        let sealed = cipher.encrypt(&Nonce::default(), material.as_slice());
        wrapped.extend(sealed.map_err(|_| SealError::Encapsulation)?);
        Ok(wrapped)
    }

    /// Opens what was wrapped to the import's X-Wing key. None: it is damaged, or was wrapped to another key,
    /// or for another place.
    #[must_use]
    pub fn open(
        &self,
        secret: &SealingSecret,
        wrapped: &[u8],
    ) -> Option<Zeroizing<[u8; MATERIAL]>> {
        // rule: IMP-1
        if wrapped.len() != HPKE_WRAPPED {
            return None;
        }
        let (enc, sealed) = wrapped.split_at_checked(XWING_ENC)?;
        let info = self.info();
        let exports = secret.decapsulate(enc, &info).ok()?;
        let key = exports.export::<32>(&info);
        let cipher = ChaCha20Poly1305::new((&*key).into());
        let opened = cipher.decrypt(&Nonce::default(), sealed);
        exactly(&Zeroizing::new(opened.ok()?))
    }
}

/// Bytes as one key of 32.
fn exactly(bytes: &[u8]) -> Option<Zeroizing<[u8; MATERIAL]>> {
    let mut material = Zeroizing::new([0; MATERIAL]);
    if bytes.len() != MATERIAL {
        return None;
    }
    material.copy_from_slice(bytes);
    Some(material)
}

/// Bytes that are no RSA public key of [`RSA_BITS`] bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no RSA public key of 4,096 bits (SubjectPublicKeyInfo, DER)")]
pub struct NotAnRsaKey;

/// Wraps material to an import's RSA key as HSMs and openssl do: OAEP, SHA-256 for hash and MGF1, no label.
///
/// # Errors
/// [`NotAnRsaKey`].
pub fn rsa_wrap(spki: &[u8], material: &[u8; MATERIAL]) -> Result<Vec<u8>, NotAnRsaKey> {
    // rule: IMP-1
    let key = PublicEncryptingKey::from_der(spki).map_err(|_| NotAnRsaKey)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| NotAnRsaKey)?;
    if key.key_size_bits() != RSA_BITS {
        return Err(NotAnRsaKey);
    }
    let mut wrapped = vec![0; RSA_WRAPPED];
    let length = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, material, &mut wrapped, None)
        .map_err(|_| NotAnRsaKey)?
        .len();
    wrapped.truncate(length);
    Ok(wrapped)
}

/// How statements and records name material without telling it: its SHA-256.
#[must_use]
pub fn commitment(material: &[u8; MATERIAL]) -> [u8; 32] {
    Sha256::digest(material).into()
}

/// Whether anybody would guess it: one byte, 32 times.
#[must_use]
pub fn guessable(material: &[u8; MATERIAL]) -> bool {
    // rule: IMP-2
    let others = material
        .iter()
        .fold(0, |all, byte| all | (byte ^ material[0]));
    others == 0
}

/// One of the two keys of a KEK version that is made of imported material.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The symmetric key, for local wraps.
    Symmetric = 1,
    /// The seed of the X-Wing key, for public wraps.
    Seed = 2,
}

/// Derives one half of a version's key material: HKDF-SHA256 (RFC 5869) of the material, without salt, `info`
/// = `["postern/1 imported key", realm, dataset id, 1 or 2]`. Whoever has the material has both, and opens
/// the version's wraps without a key server.
pub fn derive(
    material: &[u8; MATERIAL],
    realm: &str,
    dataset: DatasetId,
    half: Half,
    key: &mut [u8; 32],
) {
    // rule: IMP-2
    let mut writer = Writer::with_capacity(160);
    writer
        .array(4)
        .text(labels::IMPORTED)
        .text(realm)
        .bytes(&dataset.0)
        .uint(half as u64);
    let derived = Hkdf::<Sha256>::new(None, material).expand(&writer.into_bytes(), key);
    debug_assert!(derived.is_ok(), "32 bytes are no more than HKDF gives");
}

/// What an export is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPlace<'a> {
    /// The realm.
    pub realm: &'a str,
    /// The key server.
    pub server: TlsKey,
    /// The dataset.
    pub dataset: DatasetId,
    /// The KEK version.
    pub kek: KekId,
}

impl ExportPlace<'_> {
    /// `["postern/1 export", realm, key server's TLS key, dataset id, KEK id, number]`: of a share's number,
    /// from 1; of the material itself, 0.
    #[must_use]
    pub fn info(&self, number: u64) -> Vec<u8> {
        // rule: IMP-4
        let mut writer = Writer::with_capacity(160);
        writer
            .array(6)
            .text(labels::EXPORT)
            .text(self.realm)
            .bytes(&self.server.to_bytes())
            .bytes(&self.dataset.0)
            .bytes(&self.kek.0)
            .uint(number);
        writer.into_bytes()
    }

    fn cipher(&self, secret: &[u8; 32]) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(secret.into())
    }

    /// Seals a version's material under a secret that is used for nothing else.
    ///
    /// # Errors
    /// The cipher failed.
    pub fn seal(
        &self,
        secret: &[u8; 32],
        symmetric: &[u8; 32],
        seed: &[u8; 32],
    ) -> Result<Vec<u8>, SealError> {
        // rule: IMP-4
        let mut both = Zeroizing::new([0; 64]);
        both[..32].copy_from_slice(symmetric);
        both[32..].copy_from_slice(seed);
        let payload = chacha20poly1305::aead::Payload {
            msg: both.as_slice(),
            aad: &self.info(0),
        };
        let sealed = self.cipher(secret).encrypt(&Nonce::default(), payload);
        sealed.map_err(|_| SealError::Encapsulation)
    }

    /// Opens it: the symmetric key and the X-Wing seed. None: it is damaged, another secret's, or another
    /// version's.
    #[must_use]
    pub fn open(&self, secret: &[u8; 32], sealed: &[u8]) -> Option<Zeroizing<[u8; 64]>> {
        // rule: IMP-4
        let payload = chacha20poly1305::aead::Payload {
            msg: sealed,
            aad: &self.info(0),
        };
        let opened = self.cipher(secret).decrypt(&Nonce::default(), payload);
        let opened = Zeroizing::new(opened.ok()?);
        let mut both = Zeroizing::new([0; 64]);
        if opened.len() != both.len() {
            return None;
        }
        both.copy_from_slice(&opened);
        Some(both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SealingSeed;
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    fn server(seed: u8) -> TlsKey {
        crate::keys::TlsSecret::from_seed(&[seed; 32]).public()
    }

    fn place() -> ImportPlace<'static> {
        ImportPlace {
            realm: "test",
            server: server(1),
            dataset: DatasetId([2; 16]),
            import: ImportId([3; 16]),
        }
    }

    #[test]
    fn material_opens_for_the_import_that_it_was_wrapped_for_and_for_no_other() {
        // rule: IMP-1
        let secret = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([7; 32]));
        let other = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([8; 32]));
        let wrapped = place()
            .wrap(&secret.public(), &[9; 32], &mut UnwrapErr(SysRng))
            .unwrap();
        assert_eq!(wrapped.len(), HPKE_WRAPPED);
        assert_eq!(place().open(&secret, &wrapped).as_deref(), Some(&[9; 32]));
        assert_eq!(place().open(&other, &wrapped), None);
        assert_eq!(place().open(&secret, &wrapped[1..]), None);
        let elsewhere = [
            ImportPlace {
                realm: "other",
                ..place()
            },
            ImportPlace {
                server: server(4),
                ..place()
            },
            ImportPlace {
                dataset: DatasetId([4; 16]),
                ..place()
            },
            ImportPlace {
                import: ImportId([4; 16]),
                ..place()
            },
        ];
        for place in elsewhere {
            assert_eq!(place.open(&secret, &wrapped), None, "{place:?}");
        }
    }

    #[test]
    fn rsa_wraps_what_a_key_of_4096_bits_opens_and_takes_no_shorter_one() {
        // rule: IMP-1
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        assert_eq!(rsa_wrap(der.as_ref(), &[9; 32]), Err(NotAnRsaKey));
        assert_eq!(rsa_wrap(b"no key", &[9; 32]), Err(NotAnRsaKey));
        let key = PrivateDecryptingKey::generate(KeySize::Rsa4096).unwrap();
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let wrapped = rsa_wrap(der.as_ref(), &[9; 32]).unwrap();
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        let mut opened = [0; RSA_WRAPPED];
        let opened = key.decrypt(&OAEP_SHA256_MGF1SHA256, &wrapped, &mut opened, None);
        assert_eq!(opened.unwrap(), [9; 32]);
    }

    #[test]
    fn what_is_derived_is_of_its_realm_dataset_and_half() {
        // rule: IMP-2
        let of = |realm: &str, dataset, half| {
            let mut key = [0; 32];
            derive(&[9; 32], realm, DatasetId([dataset; 16]), half, &mut key);
            key
        };
        let all = [
            of("test", 2, Half::Symmetric),
            of("test", 2, Half::Seed),
            of("other", 2, Half::Symmetric),
            of("test", 3, Half::Symmetric),
        ];
        for (place, key) in all.iter().enumerate() {
            assert!(!all[..place].contains(key) && *key != [0; 32]);
        }
        assert_eq!(all[0], of("test", 2, Half::Symmetric));
    }

    #[test]
    fn one_byte_32_times_is_no_key() {
        // rule: IMP-2
        assert!(guessable(&[0; 32]) && guessable(&[7; 32]));
        let mut material = [7; 32];
        material[31] = 8;
        assert!(!guessable(&material));
    }

    #[test]
    fn exported_material_opens_in_its_own_place_only() {
        // rule: IMP-4
        let place = ExportPlace {
            realm: "test",
            server: server(1),
            dataset: DatasetId([2; 16]),
            kek: KekId([3; 16]),
        };
        let sealed = place.seal(&[5; 32], &[6; 32], &[7; 32]).unwrap();
        assert_eq!(sealed.len(), EXPORTED);
        let opened = place.open(&[5; 32], &sealed).unwrap();
        assert_eq!((&opened[..32], &opened[32..]), (&[6; 32][..], &[7; 32][..]));
        assert!(place.open(&[4; 32], &sealed).is_none());
        let other = ExportPlace {
            kek: KekId([4; 16]),
            ..place.clone()
        };
        assert!(other.open(&[5; 32], &sealed).is_none());
        assert_ne!(place.info(1), place.info(2));
    }
}
