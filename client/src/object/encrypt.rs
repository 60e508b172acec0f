//! Streaming encryption.

use zeroize::Zeroizing;

use super::error::BodyError;
use super::key::{BodyHeader, BodyKey, ObjectContext};
use super::layout::{CHUNK_LEN, SALT_LEN, SEALED_CHUNK_LEN};

/// Encrypts one object, piece by piece, in constant memory (one chunk).
///
/// ```text
/// let mut encryptor = Encryptor::start(&dek, &context, salt, &mut out)?;
/// encryptor.update(piece, &mut out)?;   // as often as there are pieces
/// encryptor.finish(&mut out)?;          // without it the body counts as cut off
/// ```
pub struct Encryptor {
    key: BodyKey,
    header: BodyHeader,
    /// The start of the next chunk, always shorter than a chunk.
    pending: Zeroizing<Vec<u8>>,
    next: u64,
}

impl Encryptor {
    /// Starts a body: appends its header to `out`. `salt` must come fresh from a random source.
    ///
    /// # Errors
    /// [`BodyError::Library`] only.
    // rule: OBJ-3
    pub fn start(
        dek: &[u8; 32],
        context: &ObjectContext,
        salt: [u8; SALT_LEN],
        out: &mut Vec<u8>,
    ) -> Result<Self, BodyError> {
        let (key, header) = BodyKey::create(dek, context, salt)?;
        out.extend_from_slice(&header.to_bytes());
        let pending = Zeroizing::new(Vec::with_capacity(CHUNK_LEN));
        Ok(Self {
            key,
            header,
            pending,
            next: 0,
        })
    }

    /// The header, whose commitment a producer signs.
    #[must_use]
    pub fn header(&self) -> &BodyHeader {
        &self.header
    }

    /// Appends to `out` every chunk that `plaintext` completes.
    ///
    /// # Errors
    /// [`BodyError::TooLong`] when the object passes 4 PiB.
    pub fn update(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let chunks = (self.pending.len() + plaintext.len()) / CHUNK_LEN;
        out.reserve(chunks * SEALED_CHUNK_LEN);
        if !self.pending.is_empty() {
            let missing = (CHUNK_LEN - self.pending.len()).min(plaintext.len());
            let (head, rest) = plaintext.split_at(missing);
            self.pending.extend_from_slice(head);
            plaintext = rest;
            if self.pending.len() < CHUNK_LEN {
                return Ok(());
            }
            self.key.seal(self.next, &self.pending, out)?;
            self.next += 1;
            self.pending.clear();
        }
        let (full, rest) = plaintext.as_chunks::<CHUNK_LEN>();
        for chunk in full {
            self.key.seal(self.next, chunk, out)?;
            self.next += 1;
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Appends the last chunk, which is always shorter than 16 KiB and may be empty.
    ///
    /// # Errors
    /// [`BodyError::TooLong`] when the object passes 4 PiB.
    // rule: OBJ-6
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.key.seal(self.next, &self.pending, out)
    }
}

impl std::fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryptor")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
