//! AES-256-GCM of one long message, piece by piece (NIST SP 800-38D, section 7).
//!
//! The cryptographic library seals and opens a message in one piece alone, and an object may have 64 GiB. So the
//! keystream is its AES-256 in counter mode, and the tag that of the `ghash` crate over what passes. Tests compare the
//! whole with the library's own AES-256-GCM and with vectors.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use ghash::universal_hash::UniversalHash as _;
use ghash::{Block, GHash};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::object::BodyError;
use crate::object::layout::TAG_LEN;

/// Bytes of a nonce.
pub(super) const NONCE_LEN: usize = 12;
const BLOCK: usize = 16;
/// The most bytes that one key and nonce may encrypt: 2^39 - 256 bits.
pub const MAX_LEN: u64 = (1 << 36) - 32;

/// One message under way, in one direction.
pub(super) struct Gcm {
    keystream: StreamingEncryptingKey,
    hash: GHash,
    /// The ciphertext of a block that is not full yet.
    partial: [u8; BLOCK],
    partial_len: usize,
    /// What the hash is encrypted with to be the tag.
    mask: Zeroizing<[u8; BLOCK]>,
    associated_len: u64,
    len: u64,
}

impl Gcm {
    /// Begins a message.
    ///
    /// # Errors
    /// [`BodyError::Library`] only.
    pub(super) fn new(
        key: &[u8; 32],
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
    ) -> Result<Self, BodyError> {
        let mut subkey = Zeroizing::new(Block::default());
        counter_mode(key, [0; BLOCK])?.apply_block(&mut subkey)?;
        let mut counter = [0; BLOCK];
        counter[..NONCE_LEN].copy_from_slice(nonce);
        // The first counter makes the mask, and the message begins with the next: 2^32 - 2 blocks are the most, so
        // that the last four bytes never run over.
        counter[BLOCK - 1] = 1;
        let mut keystream = counter_mode(key, counter)?;
        let mut mask = Zeroizing::new(Block::default());
        keystream.apply_block(&mut mask)?;
        let mut hash = GHash::new(&subkey);
        hash.update_padded(associated);
        Ok(Self {
            keystream: keystream.0,
            hash,
            partial: [0; BLOCK],
            partial_len: 0,
            mask: Zeroizing::new((*mask).into()),
            associated_len: associated.len() as u64,
            len: 0,
        })
    }

    /// Appends the ciphertext of the next bytes to `out`.
    ///
    /// # Errors
    /// [`BodyError::WholeTooLong`] past [`MAX_LEN`].
    pub(super) fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.count(plaintext)?;
        let start = out.len();
        self.apply(plaintext, out)?;
        self.absorb(&out[start..]);
        Ok(())
    }

    /// Appends the plaintext of the next bytes to `out`. It is genuine only if [`Gcm::verify`] says so later.
    ///
    /// # Errors
    /// As [`Gcm::seal`].
    pub(super) fn open_unverified(
        &mut self,
        ciphertext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        self.count(ciphertext)?;
        self.absorb(ciphertext);
        self.apply(ciphertext, out)
    }

    /// Bytes of the message so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The tag of the whole message.
    pub(super) fn tag(&self) -> [u8; TAG_LEN] {
        let mut hash = self.hash.clone();
        hash.update_padded(&self.partial[..self.partial_len]);
        let mut lengths = Block::default();
        lengths[..8].copy_from_slice(&(self.associated_len * 8).to_be_bytes());
        lengths[8..].copy_from_slice(&(self.len * 8).to_be_bytes());
        hash.update(&[lengths]);
        let mut tag: [u8; TAG_LEN] = hash.finalize().into();
        for (byte, mask) in tag.iter_mut().zip(*self.mask) {
            *byte ^= mask;
        }
        tag
    }

    /// Whether the message, now that all of it has passed, is the one that was sealed.
    ///
    /// # Errors
    /// [`BodyError::WholeRefused`].
    // rule: AMZ-8
    pub(super) fn verify(&self, tag: &[u8; TAG_LEN]) -> Result<(), BodyError> {
        if bool::from(self.tag().ct_eq(tag)) {
            Ok(())
        } else {
            Err(BodyError::WholeRefused)
        }
    }

    // rule: AMZ-1
    fn count(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        let len = self.len.saturating_add(piece.len() as u64);
        if len > MAX_LEN {
            return Err(BodyError::WholeTooLong);
        }
        self.len = len;
        Ok(())
    }

    fn apply(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let start = out.len();
        // The library wants room up to the end of the block, and writes no more than it was given.
        out.resize(start + input.len() + BLOCK, 0);
        let written = self
            .keystream
            .update(input, &mut out[start..])
            .map(|update| update.written().len());
        match written {
            Ok(written) if written == input.len() => {
                out.truncate(start + written);
                Ok(())
            }
            _ => {
                out[start..].zeroize();
                out.truncate(start);
                Err(BodyError::Library)
            }
        }
    }

    fn absorb(&mut self, mut ciphertext: &[u8]) {
        if self.partial_len > 0 {
            let missing = (BLOCK - self.partial_len).min(ciphertext.len());
            let (head, rest) = ciphertext.split_at(missing);
            self.partial[self.partial_len..][..missing].copy_from_slice(head);
            self.partial_len += missing;
            ciphertext = rest;
            if self.partial_len < BLOCK {
                return;
            }
            self.hash.update(&[self.partial.into()]);
        }
        let (blocks, rest) = Block::slice_as_chunks(ciphertext);
        self.hash.update(blocks);
        self.partial[..rest.len()].copy_from_slice(rest);
        self.partial_len = rest.len();
    }
}

struct Keystream(StreamingEncryptingKey);

impl Keystream {
    fn apply_block(&mut self, block: &mut Block) -> Result<(), BodyError> {
        let mut out = Zeroizing::new([0; 2 * BLOCK]);
        let zeros = [0; BLOCK];
        let done = self.0.update(&zeros, &mut out[..]);
        if done.map_err(|_| BodyError::Library)?.written().len() != BLOCK {
            return Err(BodyError::Library);
        }
        block.copy_from_slice(&out[..BLOCK]);
        Ok(())
    }
}

fn counter_mode(key: &[u8; 32], counter: [u8; BLOCK]) -> Result<Keystream, BodyError> {
    let context = EncryptionContext::Iv128(FixedLength::from(counter));
    UnboundCipherKey::new(&AES_256, key)
        .and_then(|key| StreamingEncryptingKey::less_safe_ctr(key, context))
        .map(Keystream)
        .map_err(|_| BodyError::Library)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use proptest::prelude::*;

    /// What the library makes of the message in one piece.
    fn whole(key: &[u8; 32], nonce: [u8; 12], associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        let mut body = plaintext.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(associated), &mut body)
            .unwrap();
        body
    }

    proptest! {
        /// rule: AMZ-1
        #[test]
        fn pieces_are_sealed_and_opened_as_the_library_does_it_in_one(
            key: [u8; 32],
            nonce: [u8; 12],
            associated in proptest::collection::vec(any::<u8>(), 0..40),
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70), 0..8),
        ) {
            let plaintext = pieces.concat();
            let expected = whole(&key, nonce, &associated, &plaintext);
            let mut gcm = Gcm::new(&key, &nonce, &associated).unwrap();
            let mut body = Vec::new();
            for piece in &pieces {
                gcm.seal(piece, &mut body).unwrap();
            }
            body.extend_from_slice(&gcm.tag());
            prop_assert_eq!(&body, &expected);

            let (ciphertext, tag) = body.split_last_chunk::<TAG_LEN>().unwrap();
            let mut gcm = Gcm::new(&key, &nonce, &associated).unwrap();
            let mut opened = Vec::new();
            for piece in ciphertext.chunks(13) {
                gcm.open_unverified(piece, &mut opened).unwrap();
            }
            prop_assert_eq!(&opened, &plaintext);
            prop_assert_eq!(gcm.verify(tag), Ok(()));
        }
    }

    #[test]
    fn a_message_of_many_blocks_is_the_librarys_too() {
        let plaintext: Vec<u8> = (0..3_000_017_u32).map(|at| (at % 251) as u8).collect();
        let expected = whole(&[7; 32], [1; 12], b"\0s", &plaintext);
        let mut gcm = Gcm::new(&[7; 32], &[1; 12], b"\0s").unwrap();
        let mut body = Vec::new();
        for piece in plaintext.chunks(65_537) {
            gcm.seal(piece, &mut body).unwrap();
        }
        assert_eq!(gcm.len(), plaintext.len() as u64);
        body.extend_from_slice(&gcm.tag());
        assert!(body == expected);
    }

    /// rule: AMZ-8
    #[test]
    fn another_tag_is_refused() {
        let mut gcm = Gcm::new(&[7; 32], &[1; 12], b"").unwrap();
        gcm.seal(b"hello", &mut Vec::new()).unwrap();
        let mut tag = gcm.tag();
        tag[15] ^= 1;
        let mut gcm = Gcm::new(&[7; 32], &[1; 12], b"").unwrap();
        gcm.seal(b"hello", &mut Vec::new()).unwrap();
        assert_eq!(gcm.verify(&tag), Err(BodyError::WholeRefused));
    }

    /// rule: AMZ-1
    #[test]
    fn no_byte_over_the_limit_is_taken() {
        let mut gcm = Gcm::new(&[7; 32], &[1; 12], b"").unwrap();
        gcm.len = MAX_LEN - 5;
        let mut out = Vec::new();
        assert_eq!(gcm.seal(b"123456", &mut out), Err(BodyError::WholeTooLong));
        assert_eq!(
            gcm.open_unverified(b"123456", &mut out),
            Err(BodyError::WholeTooLong)
        );
        assert_eq!((out.len(), gcm.len()), (0, MAX_LEN - 5));
        gcm.seal(b"12345", &mut out).unwrap();
        assert_eq!(gcm.seal(b"6", &mut out), Err(BodyError::WholeTooLong));
    }
}
