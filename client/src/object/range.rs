//! Range reads: which bytes of the body to fetch, and how to open them.

use std::ops::Range;

use zeroize::{Zeroize, Zeroizing};

use super::decrypt::open_full_chunks;
use super::error::BodyError;
use super::key::{BodyHeader, BodyKey, ObjectContext};
use super::layout::{
    CHUNK_LEN, HEADER_LEN, SEALED_CHUNK_LEN, chunk_offset, last_chunk, plaintext_len,
};

/// Which bytes of a body a range read needs: the header, the last chunk (it alone proves the
/// length that the store claims), and the full chunks that the range touches. The three never
/// overlap. Offsets count from the first byte of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangePlan {
    wanted: Range<u64>,
    plaintext_len: u64,
    body_len: u64,
    last: u64,
    /// Full chunks that the range touches; the last chunk is never among them.
    full: Range<u64>,
}

impl RangePlan {
    /// Plans the read of the plaintext bytes `wanted` from a body of `body_len` bytes.
    ///
    /// # Errors
    /// [`BodyError::RangeOutside`] unless `start <= end <=` plaintext length, and those of
    /// [`plaintext_len`] for an impossible body length.
    pub fn new(body_len: u64, wanted: Range<u64>) -> Result<Self, BodyError> {
        let len = plaintext_len(body_len)?;
        let Range { start, end } = wanted;
        if start > end || end > len {
            return Err(BodyError::RangeOutside { start, end, len });
        }
        let last = last_chunk(body_len)?;
        let chunk = CHUNK_LEN as u64;
        let first = start / chunk;
        let full = if start == end {
            0..0
        } else {
            first.min(last)..end.div_ceil(chunk).min(last)
        };
        Ok(Self {
            wanted: start..end,
            plaintext_len: len,
            body_len,
            last,
            full,
        })
    }

    /// Plans the read of the whole object.
    ///
    /// # Errors
    /// Those of [`plaintext_len`] for an impossible body length.
    pub fn whole(body_len: u64) -> Result<Self, BodyError> {
        Self::new(body_len, 0..plaintext_len(body_len)?)
    }

    /// Bytes of the header.
    #[must_use]
    pub fn header(&self) -> Range<u64> {
        0..HEADER_LEN as u64
    }

    /// Bytes of the last chunk.
    #[must_use]
    pub fn tail(&self) -> Range<u64> {
        chunk_offset(self.last)..self.body_len
    }

    /// Bytes of the full chunks; empty if the range lies in the last chunk.
    #[must_use]
    pub fn chunks(&self) -> Range<u64> {
        chunk_offset(self.full.start)..chunk_offset(self.full.end)
    }

    /// Length of the object; proven once [`RangePlan::open`] has succeeded.
    #[must_use]
    pub fn plaintext_len(&self) -> u64 {
        self.plaintext_len
    }

    /// Checks the commitment in `header`, then the length by opening `tail`; afterwards the bytes
    /// of [`RangePlan::chunks`] can be opened as they arrive.
    ///
    /// # Errors
    /// [`BodyError::RangeLength`] if header or tail are not as long as planned,
    /// [`BodyError::WrongCommitment`], and [`BodyError::ChunkRefused`] for a false length.
    // rule: OBJ-9
    pub fn open(
        &self,
        dek: &[u8; 32],
        context: &ObjectContext,
        header: &[u8],
        tail: &[u8],
    ) -> Result<RangeDecryptor, BodyError> {
        expect_len(&self.header(), header.len() as u64)?;
        expect_len(&self.tail(), tail.len() as u64)?;
        let key = BodyKey::open(dek, context, &BodyHeader::from_bytes(header)?)?;
        let mut last = Zeroizing::new(Vec::new());
        key.open_chunk(self.last, tail, &mut last)?;
        Ok(RangeDecryptor {
            key,
            plan: self.clone(),
            next: self.full.start,
            pending: Vec::with_capacity(SEALED_CHUNK_LEN),
            last,
            failed: None,
        })
    }
}

fn expect_len(planned: &Range<u64>, have: u64) -> Result<(), BodyError> {
    let want = planned.end - planned.start;
    if have == want {
        Ok(())
    } else {
        Err(BodyError::RangeLength { want, have })
    }
}

/// Opens the chunks of a range whose header and length are proven.
pub struct RangeDecryptor {
    key: BodyKey,
    plan: RangePlan,
    next: u64,
    pending: Vec<u8>,
    last: Zeroizing<Vec<u8>>,
    failed: Option<BodyError>,
}

impl RangeDecryptor {
    /// Takes the next bytes of [`RangePlan::chunks`]; appends to `out` the wanted bytes that they
    /// complete and authenticate. Memory beside `out` is one chunk. After an error every further
    /// call gives the same error.
    ///
    /// # Errors
    /// [`BodyError::ChunkRefused`]; [`BodyError::RangeLength`] for more bytes than planned.
    pub fn update(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let start = out.len();
        self.advance(body, out).inspect_err(|error| {
            out[start..].zeroize();
            out.truncate(start);
            self.failed = Some(error.clone());
        })
    }

    fn advance(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let done = self.next - self.plan.full.start;
        let have = done * SEALED_CHUNK_LEN as u64 + (self.pending.len() + body.len()) as u64;
        let planned = self.plan.chunks();
        if have > planned.end - planned.start {
            return Err(BodyError::RangeLength {
                want: planned.end - planned.start,
                have,
            });
        }
        let first = self.next;
        let start = out.len();
        open_full_chunks(&self.key, &mut self.next, &mut self.pending, body, out)?;
        self.keep_wanted(first, start, out);
        Ok(())
    }

    /// Appends what the range wants of the last chunk, and ends.
    ///
    /// # Errors
    /// [`BodyError::RangeLength`] if planned bytes never came.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let done = self.next - self.plan.full.start;
        let have = done * SEALED_CHUNK_LEN as u64 + self.pending.len() as u64;
        expect_len(&self.plan.chunks(), have)?;
        let start = out.len();
        out.extend_from_slice(&self.last);
        self.keep_wanted(self.plan.last, start, out);
        Ok(())
    }

    /// Cuts `out[start..]`, the plaintext of the chunks from `first` on, down to the range.
    fn keep_wanted(&self, first: u64, start: usize, out: &mut Vec<u8>) {
        let offset = first * CHUNK_LEN as u64;
        let len = (out.len() - start) as u64;
        let from = self.plan.wanted.start.saturating_sub(offset).min(len) as usize;
        let to = self.plan.wanted.end.saturating_sub(offset).min(len) as usize;
        out.truncate(start + to.max(from));
        out.drain(start..start + from);
    }
}

impl std::fmt::Debug for RangeDecryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangeDecryptor")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
