//! Secrets at rest: each value sealed under a root key, with its path as associated data (REST-1).
//!
//! The root key is never stored. It comes from a passphrase (Argon2id) or from a credential file
//! that systemd or another secret store lays down for the process.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::locked::{Locked, erasing_stack};

const FORMAT: u8 = 1;
/// Stack that a cipher uses, in bytes.
const STACK: usize = 16 * 1024;
const NONCE: usize = 24;

/// Salt of the passphrase KDF; public, one per data directory.
pub const SALT_BYTES: usize = 16;

/// Argon2id cost (RFC 9106, 4, second recommendation): 64 MiB, 3 passes, 4 lanes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// Why a root key or a sealed value cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// A credential that is not 32 bytes, or 64 hexadecimal digits.
    #[error("the root key credential must be 32 bytes or 64 hexadecimal digits")]
    Credential,
    /// A passphrase outside 8 to 1,024 bytes.
    #[error("the passphrase must have 8 to 1024 bytes")]
    Passphrase,
    /// The value does not open: another root key, another path, or damage.
    #[error("the sealed value does not open: wrong root key, or the file is damaged")]
    Open,
}

/// The key that seals a server's secrets, in locked pages (MEM-1). Erased on drop.
pub struct RootKey(Locked<32>);

impl RootKey {
    /// The key of these 32 bytes, which must be as good as random.
    #[must_use]
    pub fn from_bytes(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        // rule: MEM-1
        Self(Locked::copied(&key))
    }

    /// A fresh one (ROOT-1).
    #[must_use]
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        // rule: ROOT-1
        Self(Locked::fill(|key| rng.fill_bytes(key)))
    }

    /// Whether it is the same key, in constant time (ROOT-6).
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }

    /// Another copy, in pages of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Locked::copied(&self.0))
    }

    /// The key of these bytes, which stay the caller's to erase.
    pub(crate) fn copied(key: &[u8; 32]) -> Self {
        Self(Locked::copied(key))
    }

    /// The bytes, for the wraps that lead to it (ROOT-1).
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a credential: 32 raw bytes, or 64 hexadecimal digits with at most one line end.
    ///
    /// # Errors
    /// [`SealedError::Credential`].
    pub fn from_credential(credential: &[u8]) -> Result<Self, SealedError> {
        if let Ok(key) = <&[u8; 32]>::try_from(credential) {
            return Ok(Self(Locked::copied(key)));
        }
        let text = credential.strip_suffix(b"\n").unwrap_or(credential);
        if text.len() != 64 {
            return Err(SealedError::Credential);
        }
        let mut key = Locked::<32>::zeroed();
        for (byte, pair) in key.expose_mut().iter_mut().zip(text.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(SealedError::Credential);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?)
                .map_err(|_| SealedError::Credential)?;
        }
        Ok(Self(key))
    }

    /// Derives it from a passphrase by Argon2id.
    ///
    /// # Errors
    /// [`SealedError::Passphrase`].
    pub fn from_passphrase(
        passphrase: &[u8],
        salt: &[u8; SALT_BYTES],
    ) -> Result<Self, SealedError> {
        if !(8..=1_024).contains(&passphrase.len()) {
            return Err(SealedError::Passphrase);
        }
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32))
            .map_err(|_| SealedError::Passphrase)?;
        let mut key = Locked::<32>::zeroed();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, salt, key.expose_mut())
            .map_err(|_| SealedError::Passphrase)?;
        Ok(Self(key))
    }

    /// Seals a value for one path: `format || nonce || ciphertext`.
    #[must_use]
    pub fn seal(&self, path: &str, value: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
        // rule: REST-1
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let aad = associated(path);
        // rule: MEM-1
        let sealed = erasing_stack::<STACK, _>(|| {
            let cipher = XChaCha20Poly1305::new(self.0.expose().into());
            let payload = Payload {
                msg: value,
                aad: &aad,
            };
            cipher.encrypt((&nonce).into(), payload)
        });
        // An AEAD refuses only messages of 256 GiB and more.
        let sealed = sealed.unwrap_or_default();
        [&[FORMAT][..], &nonce, &sealed].concat()
    }

    /// Opens what was sealed for the same path.
    ///
    /// # Errors
    /// [`SealedError::Open`].
    pub fn open(&self, path: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        // rule: REST-1
        let (format, rest) = sealed.split_first().ok_or(SealedError::Open)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().ok_or(SealedError::Open)?;
        if *format != FORMAT {
            return Err(SealedError::Open);
        }
        let aad = associated(path);
        // rule: MEM-1
        let opened = erasing_stack::<STACK, _>(|| {
            let cipher = XChaCha20Poly1305::new(self.0.expose().into());
            let payload = Payload {
                msg: ciphertext,
                aad: &aad,
            };
            cipher.decrypt(nonce.into(), payload)
        });
        opened.map(Zeroizing::new).map_err(|_| SealedError::Open)
    }
}

/// Associated data of what is sealed for a path.
pub(crate) fn associated(path: &str) -> Vec<u8> {
    [b"postern/1 at rest\0", &[FORMAT][..], path.as_bytes()].concat()
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    #[test]
    fn a_sealed_value_opens_under_its_own_path_and_key_only() {
        // rule: REST-1
        let key = RootKey::from_credential(&[7; 32]).unwrap();
        let sealed = key.seal("kek/1", b"value", &mut UnwrapErr(SysRng));
        assert_eq!(*key.open("kek/1", &sealed).unwrap(), b"value");
        assert_eq!(key.open("kek/2", &sealed), Err(SealedError::Open));
        assert_eq!(
            RootKey::from_credential(&[8; 32])
                .unwrap()
                .open("kek/1", &sealed),
            Err(SealedError::Open)
        );
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(
                key.open("kek/1", &damaged),
                Err(SealedError::Open),
                "byte {at}"
            );
            assert_eq!(
                key.open("kek/1", &sealed[..at]),
                Err(SealedError::Open),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_credential_is_raw_or_hexadecimal() {
        let raw = RootKey::from_credential(&[0xab; 32]).unwrap();
        let hex = RootKey::from_credential(format!("{}\n", "ab".repeat(32)).as_bytes()).unwrap();
        assert_eq!(*raw.0, *hex.0);
        for bad in [&b""[..], &[1; 31], &[b'g'; 64], &[b'a'; 66]] {
            assert_eq!(
                RootKey::from_credential(bad).unwrap_err(),
                SealedError::Credential
            );
        }
    }

    #[test]
    fn a_passphrase_and_its_salt_make_the_key() {
        let key = |pass: &[u8], salt| RootKey::from_passphrase(pass, &[salt; SALT_BYTES]).unwrap();
        let sealed = key(b"correct horse", 1).seal("x", b"v", &mut UnwrapErr(SysRng));
        assert!(key(b"correct horse", 1).open("x", &sealed).is_ok());
        assert!(key(b"correct horse", 2).open("x", &sealed).is_err());
        assert!(key(b"another horse", 1).open("x", &sealed).is_err());
        assert_eq!(
            RootKey::from_passphrase(b"short", &[0; SALT_BYTES]).unwrap_err(),
            SealedError::Passphrase
        );
    }
}
