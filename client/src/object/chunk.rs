//! Sealing and opening one chunk, straight from the caller's buffer into the output.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use zeroize::Zeroize;

use super::error::BodyError;
use super::key::BodyKey;
use super::layout::{MAX_CHUNKS, TAG_LEN};

impl BodyKey {
    /// Base nonce XOR chunk number, big-endian.
    // rule: OBJ-7
    fn nonce(&self, index: u64) -> Result<Nonce, BodyError> {
        if index >= MAX_CHUNKS {
            return Err(BodyError::TooLong);
        }
        let mut nonce = self.base_nonce;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(index.to_be_bytes()) {
            *byte ^= number;
        }
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Appends the sealed chunk `index` to `out`.
    pub(super) fn seal(
        &self,
        index: u64,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        let nonce = self.nonce(index)?;
        let start = out.len();
        out.resize(start + plaintext.len() + TAG_LEN, 0);
        let (sealed, tag) = out[start..].split_at_mut(plaintext.len());
        self.aead
            .seal_out_of_place_scatter(nonce, Aad::empty(), plaintext, sealed, &[], tag)
            .map_err(|_| {
                out.truncate(start);
                BodyError::Library
            })
    }

    // rule: OBJ-8
    /// Appends the plaintext of chunk `index` to `out`, which grows only if the chunk is genuine.
    /// `sealed` must hold the tag at least.
    pub(super) fn open_chunk(
        &self,
        index: u64,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        let nonce = self.nonce(index)?;
        let Some((ciphertext, tag)) = sealed.split_last_chunk::<TAG_LEN>() else {
            return Err(BodyError::ChunkRefused { index });
        };
        let start = out.len();
        out.resize(start + ciphertext.len(), 0);
        self.aead
            .open_separate_gather(nonce, Aad::empty(), ciphertext, tag, &mut out[start..])
            .map_err(|_| {
                // The library may have written unauthenticated plaintext.
                out[start..].zeroize();
                out.truncate(start);
                BodyError::ChunkRefused { index }
            })
    }
}
