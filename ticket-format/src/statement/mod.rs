//! Admins' statements (`spec/protocol.md`, section 9): COSE_Sign (RFC 9052, tag 98) with at least
//! one admin's signature.
//!
//! ```text
//! bytes --parse--> ReceivedStatement --verify--> VerifiedStatement
//!        shape                        signers, realm, audience, time
//! ```
//! Content can be read from the last one only. That an id is used once is the store's to hold (ADM-2).

pub mod acts;
mod cose;
pub mod datasets;
pub mod denials;
pub mod launches;
pub mod nodes;
pub mod policies;
pub mod status;

pub use acts::{Act, ActBody, Nothing};
pub use cose::ReceivedStatement;
pub use datasets::{
    DatasetCreate, DatasetCreated, DatasetList, DatasetPage, DatasetPolicySet, DatasetRecord,
    DatasetRow, DatasetShow, DatasetView, ProducerAdd, ProducerAdded, policy_digest,
};
pub use denials::{DenialPage, Denied, DenyBody, DenyList};
pub use launches::{LaunchClose, LaunchCreate, LaunchList, LaunchPage, LaunchShow, LaunchView};
pub use nodes::{
    NodeList, NodePage, NodeShow, NodeState, NodeUnfreeze, NodeView, TicketShow, TicketView,
};
pub use policies::{PolicySet, PolicyShow, PolicyText, PolicyTextSet};
pub use status::{Role, Status, StatusShow};

use crate::Refusal;
use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{StatementDigest, StatementId};
use crate::keys::{AdminKey, TlsKey};
use crate::limits;
use crate::messages::shape::{Bytes, Text, closed_map, item};
use crate::time::Timestamp;

/// The server that a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The server with this TLS key.
    Server(TlsKey),
    /// A record that servers and nodes read: 32 zero bytes on the wire.
    Everyone,
}

impl Encode for Audience {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Server(key) => key.encode(writer),
            Self::Everyone => {
                writer.bytes(&[0; 32]);
            }
        }
    }
}

impl Decode for Audience {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // No server has the key of zeros: it is of small order.
        let key: [u8; 32] = reader.array_of()?;
        if key == [0; 32] {
            return Ok(Self::Everyone);
        }
        TlsKey::from_bytes(&key)
            .map(Self::Server)
            .map_err(|_| DecodeError::OutOfRange("audience"))
    }
}

closed_map! {
    /// What is signed.
    ///
    /// ```cddl
    /// statement-payload = { 1: id16, 2: unix-time, 3: unix-time, 4: name, 5: ed-key, 6: uint,
    ///                       7: bstr .size (1..90112) }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Payload {
        /// Used once (ADM-2).
        1 id: StatementId = item();
        /// From when on it holds.
        2 not_before: Timestamp = item();
        /// From when on it holds no more.
        3 expires: Timestamp = item();
        /// The realm.
        4 realm: String = Text(1..=limits::NAME);
        /// Whom it is for.
        5 audience: Audience = item();
        /// What it does.
        6 act: Act = item();
        /// The act's body, of the act's own shape.
        7 body: Vec<u8> = Bytes(1..=BODY);
    }
}

/// Most bytes of an act's body: the rest of a statement is head and signatures.
pub const BODY: usize = 88 * 1024;

impl Payload {
    /// An act for one server, good for `life` seconds, at most a day, from `now` on.
    #[must_use]
    pub fn act<B: ActBody>(
        id: StatementId,
        realm: &str,
        server: TlsKey,
        now: Timestamp,
        life: u64,
        body: &B,
    ) -> Self {
        Self {
            id,
            not_before: now,
            expires: now.plus(life.min(limits::STATEMENT_LIFE)),
            realm: realm.to_owned(),
            audience: Audience::Server(server),
            act: B::ACT,
            body: body.to_cbor(),
        }
    }

    /// A record for everyone, good until the year 9999.
    #[must_use]
    pub fn record<B: ActBody>(id: StatementId, realm: &str, now: Timestamp, body: &B) -> Self {
        Self {
            id,
            not_before: now,
            expires: Timestamp::from_seconds(u64::MAX),
            realm: realm.to_owned(),
            audience: Audience::Everyone,
            act: B::ACT,
            body: body.to_cbor(),
        }
    }

    /// ADM-1: a day at most, except for a record meant for everyone, which never is another act.
    fn span_holds(&self) -> bool {
        // rule: ADM-1
        match self.audience {
            Audience::Everyone => self.act.is_record() && self.expires > self.not_before,
            Audience::Server(_) => {
                self.expires > self.not_before
                    && self.expires.since(self.not_before) <= limits::STATEMENT_LIFE
            }
        }
    }
}

/// Why a statement is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementRefusal {
    /// Not the one shape.
    #[error("not a statement: {0}")]
    Malformed(DecodeError),
    /// A header with other members than the shape's.
    #[error("not a statement: a header has other members than it should")]
    Header,
    /// The span between not-before and expiry is empty or longer than this act may have.
    #[error("the statement's time span is empty or longer than a day")]
    Span,
    /// A signature by a key that is not registered.
    #[error("signed by a key that is no registered admin's")]
    UnknownSigner,
    /// A signature that does not verify.
    #[error("a signature does not verify")]
    BadSignature,
    /// Two signatures by one key: they count once, so the second is a mistake or a trick.
    #[error("signed twice by one key")]
    SignedTwice,
    /// Of another realm.
    #[error("the statement is of another realm")]
    Realm,
    /// For another server.
    #[error("the statement is for another server")]
    Audience,
    /// Not yet or no longer.
    #[error("the clock is outside the statement's not-before and expiry")]
    Expired,
    /// The body is of another act.
    #[error("the statement is another act")]
    OtherAct,
}

impl StatementRefusal {
    /// The refusal that the peer gets.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Malformed(_) | Self::Header | Self::Span | Self::OtherAct => {
                Refusal::StatementMalformed
            }
            Self::UnknownSigner | Self::BadSignature | Self::SignedTwice => {
                Refusal::StatementSignature
            }
            Self::Realm | Self::Audience => Refusal::StatementAudience,
            Self::Expired => Refusal::StatementExpired,
        }
    }
}

impl From<DecodeError> for StatementRefusal {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// A statement whose signatures, realm, audience and time were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStatement {
    payload: Payload,
    signers: Vec<AdminKey>,
    digest: StatementDigest,
}

impl VerifiedStatement {
    /// Its id, to be used once.
    #[must_use]
    pub fn id(&self) -> StatementId {
        self.payload.id
    }

    /// What it does.
    #[must_use]
    pub fn act(&self) -> Act {
        self.payload.act
    }

    /// Whom it is for.
    #[must_use]
    pub fn audience(&self) -> Audience {
        self.payload.audience
    }

    /// The admins who signed, each once.
    #[must_use]
    pub fn signers(&self) -> &[AdminKey] {
        &self.signers
    }

    /// SHA-256 of the statement's bytes.
    #[must_use]
    pub fn digest(&self) -> StatementDigest {
        self.digest
    }

    /// From when on it holds.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.payload.not_before
    }

    /// From when on it holds no more.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.payload.expires
    }

    /// The act's body.
    ///
    /// # Errors
    /// Another act, or not the act's shape.
    pub fn body<B: ActBody>(&self) -> Result<B, StatementRefusal> {
        if self.payload.act != B::ACT {
            return Err(StatementRefusal::OtherAct);
        }
        Ok(B::from_cbor(&self.payload.body, BODY)?)
    }
}

#[cfg(test)]
mod tests;
