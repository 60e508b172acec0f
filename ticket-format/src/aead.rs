//! ChaCha20-Poly1305 (RFC 8439) and XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) by `aws-lc-rs`, for what
//! is done once for each DEK: on messages of 32 bytes it takes a quarter of the time of `chacha20poly1305`,
//! which stays in use wherever that does not count. rationale 53.
//!
//! The library's context of a key is on its heap, which it overwrites when it frees it.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use chacha20::R20;
use zeroize::{Zeroize as _, Zeroizing};

/// Length of the authentication tag.
pub(crate) const TAG: usize = 16;

/// The AEAD refused: wrong key, nonce, associated data or ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Unauthentic;

/// One key, for as many nonces as its user can keep apart.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    /// The cipher of a key.
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, Unauthentic> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| Unauthentic)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The cipher of a key and the first 16 bytes of an extended nonce, and the nonce that is left.
    fn extended(key: &[u8; 32], nonce: &[u8; 24]) -> Result<(Self, [u8; 12]), Unauthentic> {
        let (mut first, mut rest) = ([0; 16], [0; 12]);
        first.copy_from_slice(&nonce[..16]);
        rest[4..].copy_from_slice(&nonce[16..]);
        let mut subkey: [u8; 32] = chacha20::hchacha::<R20>(key.into(), &first.into()).into();
        let cipher = Self::new(&subkey);
        subkey.zeroize();
        Ok((cipher?, rest))
    }

    /// Encrypts; the tag is the end of what is returned.
    pub(crate) fn seal(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, Unauthentic> {
        let mut sealed = Vec::with_capacity(plain.len() + TAG);
        sealed.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(associated), &mut sealed)
            .map_err(|_| Unauthentic)?;
        Ok(sealed)
    }

    /// Opens what [`Cipher::seal`] made under the same nonce and associated data.
    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unauthentic> {
        let length = sealed.len().checked_sub(TAG).ok_or(Unauthentic)?;
        let mut plain = Zeroizing::new(vec![0; length]);
        self.open_to(nonce, associated, sealed, &mut plain)?;
        Ok(plain)
    }

    fn open_to(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        sealed: &[u8],
        plain: &mut [u8],
    ) -> Result<(), Unauthentic> {
        let (sealed, tag) = sealed.split_at_checked(plain.len()).ok_or(Unauthentic)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_separate_gather(nonce, Aad::from(associated), sealed, tag, plain)
            .map_err(|_| Unauthentic)
    }
}

/// Encrypts under XChaCha20-Poly1305; the tag is the end of what is returned.
pub(crate) fn seal_extended(
    key: &[u8; 32],
    nonce: &[u8; 24],
    associated: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, Unauthentic> {
    let (cipher, nonce) = Cipher::extended(key, nonce)?;
    cipher.seal(nonce, associated, plain)
}

/// Opens 32 bytes that [`seal_extended`] made with the same key, nonce and associated data.
pub(crate) fn open_extended(
    key: &[u8; 32],
    nonce: &[u8; 24],
    associated: &[u8],
    sealed: &[u8; 48],
) -> Result<Zeroizing<[u8; 32]>, Unauthentic> {
    let (cipher, nonce) = Cipher::extended(key, nonce)?;
    let mut plain = Zeroizing::new([0; 32]);
    cipher.open_to(nonce, associated, sealed, &mut *plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{Aead as _, Payload};
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, XChaCha20Poly1305};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_libraries_make_and_open_the_same_bytes(
            key: [u8; 32],
            nonce: [u8; 24],
            associated in proptest::collection::vec(any::<u8>(), 0..300),
            plain: [u8; 32],
            flip in 0..48_usize,
        ) {
            let payload = Payload { msg: &plain, aad: &associated };
            let theirs = XChaCha20Poly1305::new(&key.into()).encrypt(&nonce.into(), payload).unwrap();
            let ours = seal_extended(&key, &nonce, &associated, &plain).unwrap();
            prop_assert_eq!(&ours, &theirs);
            let mut sealed: [u8; 48] = ours.try_into().unwrap();
            prop_assert_eq!(*open_extended(&key, &nonce, &associated, &sealed).unwrap(), plain);
            sealed[flip] ^= 1;
            prop_assert_eq!(open_extended(&key, &nonce, &associated, &sealed), Err(Unauthentic));

            let nonce: [u8; 12] = nonce[..12].try_into().unwrap();
            let payload = Payload { msg: &plain, aad: &associated };
            let theirs = ChaCha20Poly1305::new(&key.into()).encrypt(&nonce.into(), payload).unwrap();
            let cipher = Cipher::new(&key).unwrap();
            let ours = cipher.seal(nonce, &associated, &plain).unwrap();
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(&**cipher.open(nonce, &associated, &ours).unwrap(), &plain[..]);
            prop_assert!(cipher.open(nonce, &associated, &sealed).is_err());
        }
    }

    #[test]
    fn what_is_shorter_than_a_tag_does_not_open() {
        let cipher = Cipher::new(&[1; 32]).unwrap();
        for length in 0..TAG {
            assert!(cipher.open([0; 12], b"", &vec![0; length]).is_err());
        }
    }
}
