//! Reading deterministic CBOR and nothing else.

use std::collections::BTreeMap;

use ciborium_ll::{Decoder, Header};

use super::MAX_DEPTH;

/// In what the bytes differ from the one encoding of the expected shape. For our own log: a peer
/// is told `malformed` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than the shape may ever have.
    #[error("more bytes than allowed")]
    TooLarge,
    /// The item ends before its declared end.
    #[error("the bytes end inside an item")]
    Truncated,
    /// Bytes follow the item.
    #[error("bytes follow the item")]
    TrailingBytes,
    /// Well-formed or not, it is not the shortest, definite, ordered form.
    #[error("not deterministic CBOR")]
    NotDeterministic,
    /// Another type than the shape has here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A text string that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A member that must be there is not.
    #[error("member {0} is missing")]
    Missing(i64),
    /// A member that the shape does not have.
    #[error("unknown member")]
    UnknownMember,
    /// A length, count or number outside its range.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// Nested deeper than any shape is.
    #[error("nested too deeply")]
    TooDeep,
}

/// Reads items from the front of a byte slice, borrowing strings from it.
#[derive(Clone)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `input`.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Says that the item was all there is (ENC-1).
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        // rule: ENC-1
        if self.at == self.input.len() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }

    /// Position of the next byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes from `start` to here: a whole item as it was received.
    #[must_use]
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.input.get(start..self.at).unwrap_or_default()
    }

    fn head(&mut self) -> Result<Header, DecodeError> {
        match self.short_head() {
            Some(head) => Ok(head),
            None => self.any_head(),
        }
    }

    /// A head of one byte or two, which nearly all are; read here because the general way takes several times
    /// as long, and a batch has ten thousand.
    fn short_head(&mut self) -> Option<Header> {
        let first = *self.input.get(self.at)?;
        let (argument, used) = match first & 0x1f {
            argument @ 0..24 => (argument, 1),
            // rule: ENC-1 — shorter ones do not fill two bytes.
            24 => (
                *self
                    .input
                    .get(self.at + 1)
                    .filter(|argument| **argument >= 24)?,
                2,
            ),
            _ => return None,
        };
        let (number, len) = (u64::from(argument), Some(usize::from(argument)));
        let head = match first >> 5 {
            0 => Header::Positive(number),
            1 => Header::Negative(number),
            2 => Header::Bytes(len),
            3 => Header::Text(len),
            4 => Header::Array(len),
            5 => Header::Map(len),
            6 => Header::Tag(number),
            _ => return None,
        };
        self.at += used;
        Some(head)
    }

    fn any_head(&mut self) -> Result<Header, DecodeError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let mut decoder = Decoder::from(rest);
        let header = decoder.pull().map_err(|error| match error {
            ciborium_ll::Error::Io(_) => DecodeError::Truncated,
            ciborium_ll::Error::Syntax(_) => DecodeError::NotDeterministic,
        })?;
        let used = decoder.offset();
        // rule: ENC-1
        let argument = match header {
            Header::Positive(n) | Header::Negative(n) | Header::Tag(n) => n,
            Header::Bytes(Some(n))
            | Header::Text(Some(n))
            | Header::Array(Some(n))
            | Header::Map(Some(n)) => n as u64,
            Header::Simple(n @ 20..=22) => u64::from(n),
            // Floats, undefined, other simple values, indefinite lengths and break.
            _ => return Err(DecodeError::NotDeterministic),
        };
        let shortest = match argument {
            0..24 => 1,
            24..=0xff => 2,
            0x100..=0xffff => 3,
            0x1_0000..=0xffff_ffff => 5,
            _ => 9,
        };
        if used != shortest {
            return Err(DecodeError::NotDeterministic);
        }
        self.at += used;
        Ok(header)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(len).ok_or(DecodeError::Truncated)?;
        let taken = self.input.get(self.at..end).ok_or(DecodeError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// Another item, or not its shortest form.
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        match self.head()? {
            Header::Positive(n) => Ok(n),
            _ => Err(DecodeError::Expected("an unsigned integer")),
        }
    }

    /// An integer of either sign that fits 64 bits.
    ///
    /// # Errors
    /// As [`Reader::uint`].
    pub fn int(&mut self) -> Result<i64, DecodeError> {
        match self.head()? {
            Header::Positive(n) => i64::try_from(n).map_err(|_| DecodeError::OutOfRange("integer")),
            Header::Negative(n) => i64::try_from(n)
                .map(|n| !n)
                .map_err(|_| DecodeError::OutOfRange("integer")),
            _ => Err(DecodeError::Expected("an integer")),
        }
    }

    /// A byte string whose length lies in `len`.
    ///
    /// # Errors
    /// Another item, another length, or more than there is.
    pub fn bytes(
        &mut self,
        len: impl std::ops::RangeBounds<usize>,
    ) -> Result<&'a [u8], DecodeError> {
        match self.head()? {
            Header::Bytes(Some(n)) if len.contains(&n) => self.take(n),
            Header::Bytes(_) => Err(DecodeError::OutOfRange("byte string length")),
            _ => Err(DecodeError::Expected("a byte string")),
        }
    }

    /// A byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn array_of<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.bytes(N..=N)?
            .try_into()
            .map_err(|_| DecodeError::OutOfRange("byte string length"))
    }

    /// A text string whose length in bytes lies in `len`.
    ///
    /// # Errors
    /// Another item, another length, or not UTF-8.
    pub fn text(&mut self, len: impl std::ops::RangeBounds<usize>) -> Result<&'a str, DecodeError> {
        match self.head()? {
            Header::Text(Some(n)) if len.contains(&n) => {
                std::str::from_utf8(self.take(n)?).map_err(|_| DecodeError::NotUtf8)
            }
            Header::Text(_) => Err(DecodeError::OutOfRange("text length")),
            _ => Err(DecodeError::Expected("a text string")),
        }
    }

    /// The head of an array whose count lies in `len`; its items come next.
    ///
    /// # Errors
    /// Another item or another count.
    pub fn array(&mut self, len: impl std::ops::RangeBounds<usize>) -> Result<usize, DecodeError> {
        match self.head()? {
            Header::Array(Some(n)) if len.contains(&n) => Ok(n),
            Header::Array(_) => Err(DecodeError::OutOfRange("array length")),
            _ => Err(DecodeError::Expected("an array")),
        }
    }

    /// An array whose items `item` reads. Room is made for what is there, not for what is declared.
    ///
    /// # Errors
    /// As [`Reader::array`], and whatever `item` finds.
    pub fn list<T>(
        &mut self,
        len: impl std::ops::RangeBounds<usize>,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.array(len)?;
        // rule: ENC-2
        let mut items = Vec::with_capacity(count.min(self.input.len() - self.at));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A map of at most `limit` pairs.
    ///
    /// # Errors
    /// Another item or more pairs.
    pub fn map(&mut self, limit: usize) -> Result<MapReader<'_, 'a>, DecodeError> {
        match self.head()? {
            Header::Map(Some(n)) if n <= limit => Ok(MapReader {
                reader: self,
                left: n,
                last: None,
                next: None,
            }),
            Header::Map(_) => Err(DecodeError::OutOfRange("map length")),
            _ => Err(DecodeError::Expected("a map")),
        }
    }

    /// A map of text to text with bounds on count, key and value.
    ///
    /// # Errors
    /// As [`Reader::map`]; keys not ascending or doubled.
    pub fn text_map(
        &mut self,
        count: usize,
        key: usize,
        value: usize,
    ) -> Result<BTreeMap<String, String>, DecodeError> {
        let mut out = BTreeMap::new();
        self.text_pairs(count, key, value, |name, value| {
            out.insert(name.to_owned(), value.to_owned());
        })?;
        Ok(out)
    }

    /// As [`Reader::text_map`], each pair handed to `pair` without a copy. Gives the map's bytes.
    ///
    /// # Errors
    /// As [`Reader::text_map`].
    pub fn text_pairs(
        &mut self,
        count: usize,
        key: usize,
        value: usize,
        mut pair: impl FnMut(&'a str, &'a str),
    ) -> Result<&'a [u8], DecodeError> {
        let map = self.at;
        let pairs = match self.head()? {
            Header::Map(Some(n)) if n <= count => n,
            Header::Map(_) => return Err(DecodeError::OutOfRange("map length")),
            _ => return Err(DecodeError::Expected("a map")),
        };
        let mut last: &[u8] = &[];
        for _ in 0..pairs {
            let start = self.at;
            let name = self.text(1..=key)?;
            let encoded = self.since(start);
            // rule: ENC-1
            if encoded <= last {
                return Err(DecodeError::NotDeterministic);
            }
            last = encoded;
            pair(name, self.text(..=value)?);
        }
        Ok(self.since(map))
    }

    /// A boolean.
    ///
    /// # Errors
    /// Another item.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.head()? {
            Header::Simple(20) => Ok(false),
            Header::Simple(21) => Ok(true),
            _ => Err(DecodeError::Expected("a boolean")),
        }
    }

    /// This tag and no other; its content comes next.
    ///
    /// # Errors
    /// Another item or tag.
    pub fn tag(&mut self, tag: u64) -> Result<(), DecodeError> {
        match self.head()? {
            Header::Tag(found) if found == tag => Ok(()),
            _ => Err(DecodeError::Expected("the shape's tag")),
        }
    }

    /// Null, or what `item` reads.
    ///
    /// # Errors
    /// Whatever `item` finds.
    pub fn optional<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        // 0xf6 is null (RFC 8949, 3.3).
        if self.input.get(self.at) == Some(&0xf6) {
            self.at += 1;
            return Ok(None);
        }
        item(self).map(Some)
    }

    /// What kind of item comes next: its major type (RFC 8949, 3.1).
    #[must_use]
    pub fn peek_major(&self) -> Option<u8> {
        self.input.get(self.at).map(|byte| byte >> 5)
    }

    fn skip(&mut self, depth: usize) -> Result<(), DecodeError> {
        // rule: ENC-2
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match self.head()? {
            Header::Bytes(Some(n)) => self.take(n).map(drop),
            Header::Text(Some(n)) => std::str::from_utf8(self.take(n)?)
                .map(drop)
                .map_err(|_| DecodeError::NotUtf8),
            Header::Array(Some(n)) => (0..n).try_for_each(|_| self.skip(depth + 1)),
            Header::Map(Some(n)) => {
                let mut last: &[u8] = &[];
                for _ in 0..n {
                    let start = self.at;
                    self.skip(depth + 1)?;
                    let key = self.since(start);
                    if key <= last {
                        return Err(DecodeError::NotDeterministic);
                    }
                    last = key;
                    self.skip(depth + 1)?;
                }
                Ok(())
            }
            // rule: ENC-1
            Header::Tag(18 | 98) => self.skip(depth + 1),
            Header::Tag(_) => Err(DecodeError::NotDeterministic),
            _ => Ok(()),
        }
    }
}

/// Says whether `bytes` are exactly one deterministic item, whatever its shape. For bytes that
/// another library decodes: it may be lax because this was strict.
///
/// # Errors
/// What is not deterministic, too deep or too large.
pub fn validate(bytes: &[u8], limit: usize) -> Result<(), DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge);
    }
    let mut reader = Reader::new(bytes);
    reader.skip(1)?;
    reader.finish()
}

/// Reads a closed map with integer keys in their one order (ENC-3). Ask for the members in
/// ascending bytewise order: 0, 1, 2, … then -1, -2, ….
pub struct MapReader<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
    last: Option<&'a [u8]>,
    next: Option<i64>,
}

impl<'a> MapReader<'_, 'a> {
    fn peek(&mut self) -> Result<Option<i64>, DecodeError> {
        if self.next.is_none() && self.left > 0 {
            let start = self.reader.at;
            let key = self.reader.int()?;
            let encoded = self.reader.since(start);
            // rule: ENC-1
            if self.last.is_some_and(|last| encoded <= last) {
                return Err(DecodeError::NotDeterministic);
            }
            self.last = Some(encoded);
            self.left -= 1;
            self.next = Some(key);
        }
        Ok(self.next)
    }

    /// The member `key`, which must be there.
    ///
    /// # Errors
    /// It is missing, another comes first, or its value is not what `item` reads.
    pub fn required<T>(
        &mut self,
        key: i64,
        item: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        // rule: ENC-3
        self.optional(key, item)?.ok_or(DecodeError::Missing(key))
    }

    /// The member `key`, if it comes next.
    ///
    /// # Errors
    /// Its value is not what `item` reads.
    pub fn optional<T>(
        &mut self,
        key: i64,
        item: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.peek()? != Some(key) {
            return Ok(None);
        }
        self.next = None;
        item(self.reader).map(Some)
    }

    /// Says that no member is left.
    ///
    /// # Errors
    /// [`DecodeError::UnknownMember`].
    pub fn end(self) -> Result<(), DecodeError> {
        // rule: ENC-3
        if self.left == 0 && self.next.is_none() {
            Ok(())
        } else {
            Err(DecodeError::UnknownMember)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_same_by_either_way() {
        // rule: ENC-1
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                for input in [&[first, second, 7][..], &[first, second], &[first]] {
                    let (mut short, mut any) = (Reader::new(input), Reader::new(input));
                    assert_eq!(short.head().ok(), any.any_head().ok(), "{input:02x?}");
                    assert_eq!(short.at, any.at);
                }
            }
        }
    }
}
