//! Deterministic CBOR (RFC 8949, 4.2.1; rules ENC-1 to ENC-4).
//!
//! Heads are read and written by `ciborium-ll`; what is ours is the strictness: shortest heads only,
//! definite lengths only, ascending map keys, no floats, nothing after the item. Readers borrow from
//! the received bytes, so hashes and signatures are taken over what came (ENC-4), and a declared
//! length never allocates (ENC-2).

mod reader;
mod writer;

pub use reader::{DecodeError, MapReader, Reader, validate};
pub use writer::Writer;

/// Deepest nesting that [`validate`] follows (ENC-2).
pub const MAX_DEPTH: usize = 8;

/// Something that has exactly one deterministic encoding.
pub trait Encode {
    /// Appends the one encoding of `self`.
    fn encode(&self, writer: &mut Writer);

    /// The one encoding of `self`.
    fn to_cbor(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.encode(&mut writer);
        writer.into_bytes()
    }
}

/// Something that can be read from exactly one deterministic encoding.
pub trait Decode: Sized {
    /// Reads one item.
    ///
    /// # Errors
    /// The first thing in which the bytes differ from the shape.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Reads one item that is all of `bytes`, at most `limit` of them.
    ///
    /// # Errors
    /// As [`Decode::decode`]; also when bytes follow the item or `limit` is passed.
    fn from_cbor(bytes: &[u8], limit: usize) -> Result<Self, DecodeError> {
        // rule: ENC-2
        if bytes.len() > limit {
            return Err(DecodeError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
