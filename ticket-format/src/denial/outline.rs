//! What the set of denials keeps of one, read where it lies: a server that starts reads a million.

use crate::cbor::{DecodeError, Reader};
use crate::limits;
use crate::time::Timestamp;

/// A denial's selector and forget time, borrowed from its bytes. The shape is held to as
/// [`Denial`](super::Denial) holds to it; that a node's name has its form was seen when the denial
/// was taken, and is not looked at again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline<'a> {
    pub(super) ticket: Option<&'a [u8; 16]>,
    pub(super) node: Option<&'a str>,
    pub(super) launch: Option<&'a [u8; 16]>,
    pub(super) account: Option<&'a str>,
    pub(super) region: Option<&'a str>,
    pub(super) image: Option<&'a str>,
    pub(super) dataset: Option<&'a [u8; 16]>,
    pub(super) issued_before: Option<Timestamp>,
    pub(super) forget: Timestamp,
}

impl<'a> Outline<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        // rule: ENC-2, ENC-3
        let mut reader = Reader::new(bytes);
        let mut denial = reader.map(6)?;
        let mut outline = denial.required(1, Self::selector)?;
        denial.required(2, |reader| reader.text(..=super::REASON))?;
        denial.required(3, |reader| reader.bytes(32..=32))?;
        denial.required(4, Reader::uint)?;
        outline.forget = Timestamp::from_seconds(denial.required(5, Reader::uint)?);
        denial.required(6, |reader| reader.text(..=super::AUTHOR))?;
        denial.end()?;
        reader.finish()?;
        Ok(outline)
    }

    fn selector(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut members = reader.map(8)?;
        let selector = Self {
            ticket: members.optional(1, id)?,
            node: members.optional(2, |reader| reader.text(1..=limits::NAME))?,
            launch: members.optional(3, id)?,
            account: members.optional(4, |reader| reader.text(12..=12))?,
            region: members.optional(5, |reader| reader.text(1..=32))?,
            image: members.optional(6, |reader| reader.text(1..=32))?,
            dataset: members.optional(7, id)?,
            issued_before: members
                .optional(8, Reader::uint)?
                .map(Timestamp::from_seconds),
            forget: Timestamp::default(),
        };
        members.end()?;
        // rule: DEN-2 — one without members would hit everything.
        if selector == Self::default() {
            return Err(DecodeError::OutOfRange("selector"));
        }
        Ok(selector)
    }
}

fn id<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8; 16], DecodeError> {
    let bytes = reader.bytes(16..=16)?;
    bytes
        .try_into()
        .map_err(|_| DecodeError::OutOfRange("length"))
}
