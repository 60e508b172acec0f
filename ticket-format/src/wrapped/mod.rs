//! Wrapped DEKs: self-describing, bound to dataset and context (`spec/ticket.md`, section 4).
//!
//! `local` wraps are made by the key server under a symmetric KEK version; `public` wraps are made
//! offline by a producer who knows only the dataset's public key.

pub mod local;
pub mod public;

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{DatasetId, DekId, KekId, ProducerId};
use crate::limits;
use crate::seal::XWING_ENC;
use crate::sign::Proof;

/// Format version of both kinds.
const VERSION: u64 = 1;
const LOCAL: u64 = 1;
const PUBLIC: u64 = 2;

/// Where a DEK came from (ORG-1). CDDL `origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Made by the key server.
    Generated,
    /// Made by anybody who knows the dataset's public key.
    PublicUnsigned,
    /// Made and signed by this producer.
    PublicSigned(ProducerId),
}

impl Encode for Origin {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Generated => writer.uint(0),
            Self::PublicUnsigned => writer.uint(1),
            Self::PublicSigned(producer) => writer.bytes(&producer.0),
        };
    }
}

impl Decode for Origin {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.peek_major() == Some(2) {
            return ProducerId::decode(reader).map(Self::PublicSigned);
        }
        match reader.uint()? {
            0 => Ok(Self::Generated),
            1 => Ok(Self::PublicUnsigned),
            _ => Err(DecodeError::OutOfRange("origin")),
        }
    }
}

/// As in verdicts and command output: `generated`, `public-unsigned`, `public-signed:<producer>`.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generated => f.write_str("generated"),
            Self::PublicUnsigned => f.write_str("public-unsigned"),
            Self::PublicSigned(producer) => write!(f, "public-signed:{producer}"),
        }
    }
}

/// What every wrap says in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The dataset.
    pub dataset: DatasetId,
    /// Which KEK version, by its random id.
    pub kek: KekId,
    /// Its number, for people.
    pub kek_version: u64,
    /// The DEK, through all its wraps.
    pub dek: DekId,
}

impl Header {
    fn encode(&self, writer: &mut Writer) {
        writer
            .bytes(&self.dataset.0)
            .bytes(&self.kek.0)
            .uint(self.kek_version)
            .bytes(&self.dek.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            dataset: DatasetId::decode(reader)?,
            kek: KekId::decode(reader)?,
            kek_version: match reader.uint()? {
                version @ ..=0xffff_ffff => version,
                _ => return Err(DecodeError::OutOfRange("KEK version")),
            },
            dek: DekId::decode(reader)?,
        })
    }
}

/// A producer's claim to a public wrap (WRAP-4). CDDL `producer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerClaim {
    /// Which producer.
    pub producer: ProducerId,
    /// Bytes 24..56 of the object's body.
    pub body_commitment: [u8; 32],
    /// The signature.
    pub signature: Proof,
}

/// A wrapped DEK as received, borrowed from the request. CDDL `wrapped-dek`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrapped<'a> {
    /// Under a symmetric KEK version.
    Local {
        /// In the clear.
        header: Header,
        /// Where the DEK came from.
        origin: Origin,
        /// Nonce.
        nonce: [u8; 24],
        /// DEK and tag.
        ciphertext: [u8; 48],
    },
    /// To the dataset's public key.
    Public {
        /// In the clear.
        header: Header,
        /// The upload's HPKE encapsulation.
        enc: &'a [u8],
        /// Commits to DEK and context.
        commitment: [u8; 32],
        /// Who says that he made it.
        producer: Option<ProducerClaim>,
    },
}

impl<'a> Wrapped<'a> {
    /// Reads a wrap and checks its shape and size (WRAP-1).
    ///
    /// # Errors
    /// In what it differs from the shape.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > limits::WRAPPED {
            return Err(DecodeError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        reader.array(9..=9)?;
        if reader.uint()? != VERSION {
            return Err(DecodeError::OutOfRange("version"));
        }
        let kind = reader.uint()?;
        let header = Header::decode(&mut reader)?;
        let wrapped = match kind {
            LOCAL => Self::Local {
                header,
                origin: Origin::decode(&mut reader)?,
                nonce: reader.array_of()?,
                ciphertext: reader.array_of()?,
            },
            PUBLIC => Self::Public {
                header,
                enc: reader.bytes(XWING_ENC..=XWING_ENC)?,
                commitment: reader.array_of()?,
                producer: reader.optional(|r| {
                    r.array(3..=3)?;
                    Ok(ProducerClaim {
                        producer: ProducerId::decode(r)?,
                        body_commitment: r.array_of()?,
                        signature: Proof::decode(r)?,
                    })
                })?,
            },
            _ => return Err(DecodeError::OutOfRange("kind")),
        };
        reader.finish()?;
        // rule: WRAP-1
        let limit = if kind == LOCAL {
            limits::LOCAL_WRAP
        } else {
            limits::PUBLIC_WRAP
        };
        if bytes.len() > limit {
            Err(DecodeError::TooLarge)
        } else {
            Ok(wrapped)
        }
    }

    /// What it says in the clear.
    #[must_use]
    pub fn header(&self) -> &Header {
        match self {
            Self::Local { header, .. } | Self::Public { header, .. } => header,
        }
    }

    /// The origin that it claims; authenticated only once the wrap has opened.
    #[must_use]
    pub fn claimed_origin(&self) -> Origin {
        match self {
            Self::Local { origin, .. } => *origin,
            Self::Public { producer: None, .. } => Origin::PublicUnsigned,
            Self::Public {
                producer: Some(claim),
                ..
            } => Origin::PublicSigned(claim.producer),
        }
    }
}

/// Why a wrap does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Another KEK, another context, or damage.
    #[error("the wrap does not open with this context")]
    Authentication,
    /// The commitment is of another DEK or context.
    #[error("the wrap's commitment does not match")]
    Commitment,
    /// The producer is not registered, or the signature is not his.
    #[error("the producer's signature does not verify")]
    Producer,
}

impl From<WrapError> for crate::Refusal {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Authentication => Self::WrapAuthentication,
            WrapError::Commitment => Self::WrapCommitment,
            WrapError::Producer => Self::Producer,
        }
    }
}

/// Context of an object's body, from the same ids that its wraps carry (`spec/object.md`). It names
/// neither KEK version nor wrap: a rewrap replaces those and leaves the body as it is.
#[must_use]
pub fn object_context(realm: &str, header: &Header, raw_context: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    // rule: OBJ-4
    let mut writer = Writer::with_capacity(160);
    writer
        .array(5)
        .text(crate::labels::OBJECT)
        .text(realm)
        .bytes(&header.dataset.0)
        .bytes(&header.dek.0);
    writer.bytes(&Sha256::digest(raw_context));
    writer.into_bytes()
}

#[cfg(test)]
mod tests;
