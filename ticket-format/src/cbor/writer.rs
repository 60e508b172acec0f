//! Writing deterministic CBOR.

use std::collections::BTreeMap;

use ciborium_ll::{Encoder, Header};

/// Appends deterministic CBOR items to a buffer. Callers write map keys in ascending order; the
/// reader's tests hold them to it.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
        }
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn push(&mut self, header: Header) -> &mut Self {
        let written = Encoder::from(&mut self.bytes).push(header);
        debug_assert!(written.is_ok(), "writing to a Vec does not fail");
        self
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.push(Header::Positive(value))
    }

    /// An integer of either sign.
    pub fn int(&mut self, value: i64) -> &mut Self {
        match u64::try_from(value) {
            Ok(value) => self.push(Header::Positive(value)),
            Err(_) => self.push(Header::Negative(!(value as u64))),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.push(Header::Bytes(Some(value.len())));
        self.bytes.extend_from_slice(value);
        self
    }

    /// A text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.push(Header::Text(Some(value.len())));
        self.bytes.extend_from_slice(value.as_bytes());
        self
    }

    /// The head of an array of `len` items, which the caller writes next.
    pub fn array(&mut self, len: usize) -> &mut Self {
        self.push(Header::Array(Some(len)))
    }

    /// The head of a map of `len` pairs, which the caller writes next, keys ascending.
    pub fn map(&mut self, len: usize) -> &mut Self {
        self.push(Header::Map(Some(len)))
    }

    /// A tag; its content follows.
    pub fn tag(&mut self, tag: u64) -> &mut Self {
        self.push(Header::Tag(tag))
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.push(Header::Simple(if value { 21 } else { 20 }))
    }

    /// Null.
    pub fn null(&mut self) -> &mut Self {
        self.push(Header::Simple(22))
    }

    /// A byte string, or null.
    pub fn optional_bytes(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.bytes(value),
            None => self.null(),
        }
    }

    /// A map of text to text, keys in bytewise order of their encoding: shorter ones first.
    pub fn text_map(&mut self, pairs: &BTreeMap<String, String>) -> &mut Self {
        let mut ordered: Vec<_> = pairs.iter().collect();
        ordered.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        self.map(ordered.len());
        for (key, value) in ordered {
            self.text(key).text(value);
        }
        self
    }

    /// An item that is encoded already.
    pub fn raw(&mut self, item: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(item);
        self
    }
}
