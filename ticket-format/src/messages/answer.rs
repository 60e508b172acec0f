//! Answers: what was asked for, or one numbered refusal.

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::sign::Proof;
use crate::{Refusal, limits};

use super::Verb;
use super::shape::{Bytes, Shape, Text};

/// Longest detail of a refusal, in bytes.
const DETAIL: usize = 512;

/// A numbered refusal as it travels.
///
/// `refusal = [0, number: 1..99, detail: tstr .size (0..512) / null]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalNotice {
    /// Which one.
    pub refusal: Refusal,
    /// For authenticated callers only (REF-2): what exactly, in one line.
    pub detail: Option<String>,
}

impl RefusalNotice {
    /// Without detail: for strangers.
    #[must_use]
    pub fn bare(refusal: Refusal) -> Self {
        Self {
            refusal,
            detail: None,
        }
    }

    /// With a detail line, for a caller whose proof has verified; cut to what the shape allows.
    #[must_use]
    pub fn detailed(refusal: Refusal, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        let mut end = detail.len().min(DETAIL);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        detail.truncate(end);
        Self {
            refusal,
            detail: Some(detail),
        }
    }
}

impl From<Refusal> for RefusalNotice {
    fn from(refusal: Refusal) -> Self {
        Self::bare(refusal)
    }
}

impl std::fmt::Display for RefusalNotice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.refusal),
            None => self.refusal.fmt(f),
        }
    }
}

impl std::error::Error for RefusalNotice {}

/// An answer as it came.
///
/// `answer = [verb, body: bstr, proofs: [0*1 proof]] / refusal`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerView<'a> {
    /// Done.
    Done {
        /// The request's verb.
        verb: Verb,
        /// The body, as received.
        body: &'a [u8],
        /// Present's and feed's answers carry a signature.
        proof: Option<Proof>,
    },
    /// Refused.
    Refused(RefusalNotice),
}

impl<'a> AnswerView<'a> {
    /// Reads the envelope.
    ///
    /// # Errors
    /// Too large or another shape. A refusal's number that this version does not know is malformed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        // rule: ENC-2
        if bytes.len() > limits::MESSAGE {
            return Err(DecodeError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        reader.array(3..=3)?;
        let answer = match reader.uint()? {
            0 => {
                let refusal = Refusal::from_number(reader.uint()?)
                    .ok_or(DecodeError::OutOfRange("refusal"))?;
                let detail = reader.optional(|reader| reader.text(..=DETAIL).map(str::to_owned))?;
                Self::Refused(RefusalNotice { refusal, detail })
            }
            number => Self::Done {
                verb: Verb::from_number(number).ok_or(DecodeError::OutOfRange("verb"))?,
                body: reader.bytes(..)?,
                proof: reader.list(0..=1, Proof::decode)?.pop(),
            },
        };
        reader.finish()?;
        Ok(answer)
    }
}

/// An answer that owns its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done {
        /// The request's verb.
        verb: Verb,
        /// The encoded body.
        body: Vec<u8>,
        /// Present's and feed's answers carry a signature.
        proof: Option<Proof>,
    },
    /// Refused.
    Refused(RefusalNotice),
}

impl Answer {
    /// An answer without a proof.
    #[must_use]
    pub fn done(verb: Verb, body: &impl Encode) -> Self {
        Self::Done {
            verb,
            body: body.to_cbor(),
            proof: None,
        }
    }

    /// Reads an answer and copies its body.
    ///
    /// # Errors
    /// As [`AnswerView::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match AnswerView::parse(bytes)? {
            AnswerView::Done { verb, body, proof } => Self::Done {
                verb,
                body: body.to_vec(),
                proof,
            },
            AnswerView::Refused(notice) => Self::Refused(notice),
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Done { verb, body, proof } => {
                let mut writer = Writer::with_capacity(body.len() + 128);
                writer.array(3);
                verb.encode(&mut writer);
                writer.bytes(body).array(usize::from(proof.is_some()));
                if let Some(proof) = proof {
                    proof.encode(&mut writer);
                }
                writer.into_bytes()
            }
            Self::Refused(notice) => {
                let mut writer = Writer::new();
                writer.array(3).uint(0).uint(notice.refusal.number().into());
                match &notice.detail {
                    Some(detail) => writer.text(detail),
                    None => writer.null(),
                };
                writer.into_bytes()
            }
        }
    }
}

impl From<RefusalNotice> for Answer {
    fn from(notice: RefusalNotice) -> Self {
        Self::Refused(notice)
    }
}

/// What proves to a caller that his act stands in the audit log (TLOG-5). It proves nothing before a
/// [`crate::tlog::Verifier`] has looked at it.
///
/// `receipt = [entry: bstr .size (1..61440), proof: tstr .size (1..49152)]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's bytes, for [`crate::entry::Entry`].
    pub entry: Vec<u8>,
    /// Its c2sp.org/tlog-proof, for [`crate::tlog::Proof`].
    pub proof: String,
}

const ENTRY: Bytes = Bytes(1..=limits::ENTRY);
const PROOF: Text = Text(1..=limits::NOTE);

impl Encode for Receipt {
    fn encode(&self, writer: &mut Writer) {
        writer.array(2).bytes(&self.entry).text(&self.proof);
    }
}

impl Decode for Receipt {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        Ok(Self {
            entry: ENTRY.read(reader)?,
            proof: PROOF.read(reader)?,
        })
    }
}
