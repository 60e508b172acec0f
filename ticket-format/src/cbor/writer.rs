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
        let (major, argument) = match header {
            Header::Positive(number) => (0, number),
            Header::Negative(number) => (1, number),
            Header::Bytes(Some(len)) => (2, len as u64),
            Header::Text(Some(len)) => (3, len as u64),
            Header::Array(Some(len)) => (4, len as u64),
            Header::Map(Some(len)) => (5, len as u64),
            Header::Tag(number) => (6, number),
            // Never short: what is in no one's hands here.
            _ => (7, u64::MAX),
        };
        // Nearly all heads are of one byte or two, and the general way takes several times as long.
        match argument {
            argument @ 0..24 => self.bytes.push(major << 5 | argument as u8),
            argument @ 24..256 => self
                .bytes
                .extend_from_slice(&[major << 5 | 24, argument as u8]),
            _ => self.push_any(header),
        }
        self
    }

    fn push_any(&mut self, header: Header) {
        let written = Encoder::from(&mut self.bytes).push(header);
        debug_assert!(written.is_ok(), "writing to a Vec does not fail");
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

    /// The head of a byte string of `len` bytes, which the caller adds.
    pub fn bytes_head(&mut self, len: usize) -> &mut Self {
        self.push(Header::Bytes(Some(len)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_same_by_either_way() {
        // rule: ENC-1
        let heads: [fn(u64) -> Header; 7] = [
            Header::Positive,
            Header::Negative,
            |len| Header::Bytes(Some(len as usize)),
            |len| Header::Text(Some(len as usize)),
            |len| Header::Array(Some(len as usize)),
            |len| Header::Map(Some(len as usize)),
            Header::Tag,
        ];
        for head in heads {
            for argument in (0..1_000).chain([65_535, 65_536, u64::from(u32::MAX)]) {
                let (mut short, mut any) = (Writer::new(), Writer::new());
                short.push(head(argument));
                any.push_any(head(argument));
                assert_eq!(short.bytes, any.bytes);
            }
        }
        let (mut short, mut any) = (Writer::new(), Writer::new());
        for simple in 20..=22 {
            short.push(Header::Simple(simple));
            any.push_any(Header::Simple(simple));
        }
        assert_eq!(short.bytes, any.bytes);
    }
}
