//! The answer to a batch: a verdict for each item in the clear, released DEKs sealed.

use crate::Refusal;
use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{RequestHash, TicketHash};
use crate::key_pair;
use crate::limits;
use crate::wrapped::Origin;

use super::Receipt;
use super::shape::{Bytes, Fixed, List, Maybe, OrNull, closed_map, item};

/// Length of a released DEK.
const DEK: usize = 32;
/// Length of the AEAD's tag.
const TAG: usize = 16;
/// Most bytes of the clear part: 1,000 verdicts, 1,000 new wraps and the receipt.
const CLEAR: usize = limits::MESSAGE - limits::ITEMS * DEK - 256;

closed_map! {
    /// The body of redeem's, generate's and rewrap's answer (RED-5).
    ///
    /// `batch-answer = { 1: bstr, 2: bstr .size (0..32016) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BatchAnswer {
        /// The bytes of a [`Clear`]: associated data of the sealed part.
        1 clear: Vec<u8> = Bytes(1..=CLEAR);
        /// Released DEKs in item order, sealed; empty when there are none to release.
        2 sealed: Vec<u8> = Bytes(0..=limits::ITEMS * DEK + TAG);
    }
}

closed_map! {
    /// The clear part of an answer to a batch.
    ///
    /// ```cddl
    /// clear = { 1: [*1000 verdict], 2: hash, 3: hash, 4: bstr .size 32, 5: receipt,
    ///           ? 6: [*1000 wrapped / null], ? 7: [*1000 bstr .size (44..91) / null] }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Clear {
        /// One for each item, in order.
        1 verdicts: Vec<Verdict> = List(0..=limits::ITEMS, item());
        /// The request's ticket.
        2 ticket: TicketHash = item();
        /// Hash of the request's body.
        3 request: RequestHash = item();
        /// Enters the answer key (SEAL-4).
        4 salt: [u8; 32] = Fixed::<32>;
        /// The audit log's receipt.
        5 receipt: Receipt = item();
        /// Generate and rewrap: the new wraps, null where an item was refused.
        6 wraps: Option<Vec<Option<Vec<u8>>>> = Maybe(List(0..=limits::ITEMS, OrNull(Bytes(1..=limits::WRAPPED))));
        /// Key pairs: the public keys as SubjectPublicKeyInfo, null where an item was refused (GEN-2).
        7 publics: Option<Vec<Option<Vec<u8>>>> = Maybe(List(0..=limits::ITEMS, OrNull(Bytes(key_pair::PUBLIC))));
    }
}

/// What became of one item.
///
/// `verdict = [0, origin] / [number: 1..99, null]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done; where the DEK comes from (ORG-1).
    Done(Origin),
    /// Refused; the others are unharmed (RED-3).
    Refused(Refusal),
}

impl Verdict {
    /// The refusal, if it is one.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Done(_) => None,
            Self::Refused(refusal) => Some(refusal),
        }
    }
}

impl Encode for Verdict {
    fn encode(&self, writer: &mut Writer) {
        writer.array(2);
        match self {
            Self::Done(origin) => origin.encode(writer.uint(0)),
            Self::Refused(refusal) => {
                writer.uint(refusal.number().into()).null();
            }
        }
    }
}

impl Decode for Verdict {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        match reader.uint()? {
            0 => Origin::decode(reader).map(Self::Done),
            number => {
                let refusal =
                    Refusal::from_number(number).ok_or(DecodeError::OutOfRange("verdict"))?;
                match reader.optional(|_| Err(DecodeError::Expected("null")))? {
                    None::<()> => Ok(Self::Refused(refusal)),
                    Some(()) => Err(DecodeError::Expected("null")),
                }
            }
        }
    }
}
