//! Streaming decryption.

use zeroize::Zeroizing;

use super::error::BodyError;
use super::key::{BodyHeader, BodyKey, ObjectContext};
use super::layout::{CHUNK_LEN, HEADER_LEN, SEALED_CHUNK_LEN, TAG_LEN};

/// Decrypts one body from its first byte, piece by piece, in constant memory (one chunk).
///
/// What it appends to the output is authentic and in its place; only [`Decryptor::finish`] says
/// that the object is whole. After an error every further call gives the same error.
pub struct Decryptor {
    state: State,
    /// The start of the header or of the next chunk.
    pending: Vec<u8>,
    next: u64,
}

enum State {
    Header {
        dek: Zeroizing<[u8; 32]>,
        context: ObjectContext,
    },
    Chunks(BodyKey),
    Failed(BodyError),
}

impl Decryptor {
    /// Starts before the header.
    #[must_use]
    pub fn new(dek: &[u8; 32], context: &ObjectContext) -> Self {
        Self {
            state: State::Header {
                dek: Zeroizing::new(*dek),
                context: context.clone(),
            },
            pending: Vec::with_capacity(SEALED_CHUNK_LEN),
            next: 0,
        }
    }

    /// Takes the next bytes of the body and appends to `out` what they complete and authenticate.
    ///
    /// # Errors
    /// [`BodyError::WrongCommitment`], [`BodyError::ChunkRefused`], [`BodyError::TooLong`].
    pub fn update(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.advance(body, out)
            .inspect_err(|error| self.state = State::Failed(error.clone()))
    }

    fn advance(&mut self, mut body: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        if let State::Header { .. } = self.state {
            body = fill(&mut self.pending, body, HEADER_LEN);
            if self.pending.len() < HEADER_LEN {
                return Ok(());
            }
        }
        let key = match &self.state {
            State::Chunks(key) => key,
            State::Failed(error) => return Err(error.clone()),
            State::Header { dek, context } => {
                let header = BodyHeader::from_bytes(&self.pending)?;
                let key = BodyKey::open(dek, context, &header)?;
                self.pending.clear();
                self.state = State::Chunks(key);
                // Replacing the state borrowed above: start over with the rest.
                return self.advance(body, out);
            }
        };
        open_full_chunks(key, &mut self.next, &mut self.pending, body, out)
    }

    /// Opens the last chunk and ends. Returns the length of the object.
    ///
    /// # Errors
    /// [`BodyError::HeaderTruncated`] and [`BodyError::Truncated`] beside those of
    /// [`Decryptor::update`].
    // rule: OBJ-6
    pub fn finish(self, out: &mut Vec<u8>) -> Result<u64, BodyError> {
        let pending = self.pending.len() as u64;
        let key = match self.state {
            State::Chunks(key) => key,
            State::Failed(error) => return Err(error),
            State::Header { .. } => return Err(BodyError::HeaderTruncated { have: pending }),
        };
        let Some(last_len) = self.pending.len().checked_sub(TAG_LEN) else {
            let have = super::layout::chunk_offset(self.next) + pending;
            return Err(BodyError::Truncated { have });
        };
        key.open_chunk(self.next, &self.pending, out)?;
        Ok(self.next * CHUNK_LEN as u64 + last_len as u64)
    }
}

/// Opens each full chunk of `pending || body`, and leaves what follows them in `pending`. A full
/// chunk is never the last, so none has to be held back.
// rule: OBJ-8
pub(super) fn open_full_chunks(
    key: &BodyKey,
    next: &mut u64,
    pending: &mut Vec<u8>,
    mut body: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    out.reserve((pending.len() + body.len()) / SEALED_CHUNK_LEN * CHUNK_LEN);
    if !pending.is_empty() {
        body = fill(pending, body, SEALED_CHUNK_LEN);
        if pending.len() < SEALED_CHUNK_LEN {
            return Ok(());
        }
        key.open_chunk(*next, pending, out)?;
        *next += 1;
        pending.clear();
    }
    let (full, rest) = body.as_chunks::<SEALED_CHUNK_LEN>();
    for chunk in full {
        key.open_chunk(*next, chunk, out)?;
        *next += 1;
    }
    pending.extend_from_slice(rest);
    Ok(())
}

/// Moves bytes of `body` to `pending` until it has `wanted`; returns the others.
fn fill<'a>(pending: &mut Vec<u8>, body: &'a [u8], wanted: usize) -> &'a [u8] {
    let missing = wanted.saturating_sub(pending.len()).min(body.len());
    let (head, rest) = body.split_at(missing);
    pending.extend_from_slice(head);
    rest
}

impl std::fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decryptor")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
