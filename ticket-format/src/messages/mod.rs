//! What travels: the envelope, and one file per exchange (`spec/protocol.md`).
//!
//! A request's body stays the bytes that came, because signatures and MACs are over them (ENC-4).
//! [`RequestView`] and [`AnswerView`] borrow, so that 2 MiB are not copied to be looked at.

pub mod administer;
pub mod alias;
pub mod batch;
pub mod consistency;
pub mod feed;
pub mod issue;
pub mod login;
pub mod present;
pub mod renew;
pub(crate) mod shape;
pub mod watch;
pub mod wipe;

mod answer;
mod verdict;

pub use answer::{Answer, AnswerView, Receipt, RefusalNotice};
pub use verdict::{BatchAnswer, Clear, Verdict};

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::sign::Proof;
use crate::{Refusal, labels, limits};
use shape::numbered;

numbered! {
    /// What a request asks for.
    pub enum Verb("verb") {
        /// First evidence for a node ticket.
        Login = 1, "login";
        /// The next node ticket, by the node key.
        Renew = 2, "renew";
        /// A dataset ticket.
        Issue = 3, "issue";
        /// Opens a dataset ticket on this connection.
        Present = 4, "present";
        /// Wrapped DEKs in, DEKs out.
        Redeem = 5, "redeem";
        /// New DEKs, wrapped.
        Generate = 6, "generate";
        /// Wrapped DEKs in, wrapped anew.
        Rewrap = 7, "rewrap";
        /// News of denials.
        Feed = 8, "feed";
        /// An admin's statement.
        Administer = 9, "administer";
        /// Waits for the denial of a ticket.
        Watch = 10, "watch";
        /// Says that a denied ticket and its keys were erased.
        Wipe = 11, "wipe";
        /// How a server's log continues a checkpoint (TLOG-6).
        Consistency = 12, "consistency";
        /// Which dataset an alias names.
        Alias = 13, "alias";
    }
}

/// Most proofs in one request.
const PROOFS: usize = 8;

impl Verb {
    /// The label of its request's proofs (SIG-1); none for administer, whose statement signs itself, nor
    /// for consistency, which anybody may ask.
    #[must_use]
    pub fn request_label(self) -> Option<&'static str> {
        match self {
            Self::Login => Some(labels::LOGIN_REQUEST),
            Self::Renew => Some(labels::RENEW_REQUEST),
            Self::Issue => Some(labels::ISSUE_REQUEST),
            Self::Present => Some(labels::PRESENT_REQUEST),
            Self::Redeem => Some(labels::REDEEM_REQUEST),
            Self::Generate => Some(labels::GENERATE_REQUEST),
            Self::Rewrap => Some(labels::REWRAP_REQUEST),
            Self::Feed => Some(labels::FEED_REQUEST),
            Self::Watch => Some(labels::WATCH_REQUEST),
            Self::Wipe => Some(labels::WIPE_REQUEST),
            Self::Alias => Some(labels::ALIAS_REQUEST),
            Self::Administer | Self::Consistency => None,
        }
    }

    /// Most bytes of its request's body.
    #[must_use]
    pub fn body_limit(self) -> usize {
        match self {
            Self::Login
            | Self::Renew
            | Self::Issue
            | Self::Feed
            | Self::Watch
            | Self::Wipe
            | Self::Alias => limits::SMALL_MESSAGE,
            Self::Present => limits::PRESENT,
            Self::Consistency => limits::NOTE + 8,
            Self::Redeem | Self::Generate | Self::Rewrap => limits::MESSAGE,
            Self::Administer => limits::STATEMENT,
        }
    }
}

/// A request as it came: the body and the values of its proofs are not looked into yet.
///
/// `request = [verb, body: bstr, proofs: [0*8 proof]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestView<'a> {
    /// What it asks for.
    pub verb: Verb,
    /// The body, as received.
    pub body: &'a [u8],
    /// Signatures or the MAC.
    pub proofs: Vec<Proof>,
}

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Above the limit of a message, or of this verb's body.
    #[error("the request is larger than its verb allows")]
    TooLarge,
    /// No verb of this version.
    #[error("the verb is unknown")]
    UnknownVerb,
    /// Another shape.
    #[error("the request is malformed: {0}")]
    Malformed(#[from] DecodeError),
}

impl RequestError {
    /// The refusal that the peer gets.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::TooLarge => Refusal::TooLarge,
            Self::UnknownVerb => Refusal::Unsupported,
            Self::Malformed(_) => Refusal::Malformed,
        }
    }
}

impl<'a> RequestView<'a> {
    /// Reads the envelope.
    ///
    /// # Errors
    /// [`RequestError`], which names the refusal.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RequestError> {
        // rule: ENC-2
        if bytes.len() > limits::MESSAGE {
            return Err(RequestError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        reader.array(3..=3)?;
        let verb = Verb::from_number(reader.uint()?).ok_or(RequestError::UnknownVerb)?;
        let body = reader.bytes(..)?;
        if body.len() > verb.body_limit() {
            return Err(RequestError::TooLarge);
        }
        let proofs = reader.list(0..=PROOFS, Proof::decode)?;
        reader.finish()?;
        Ok(Self { verb, body, proofs })
    }

    /// A copy that owns its body.
    #[must_use]
    pub fn to_owned(&self) -> Request {
        Request {
            verb: self.verb,
            body: self.body.to_vec(),
            proofs: self.proofs.clone(),
        }
    }
}

/// A request that owns its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub verb: Verb,
    /// The encoded body, over which the proofs are.
    pub body: Vec<u8>,
    /// Signatures or the MAC.
    pub proofs: Vec<Proof>,
}

impl Request {
    /// The bytes of a request from its parts.
    #[must_use]
    pub fn encode_parts(verb: Verb, body: &[u8], proofs: &[Proof]) -> Vec<u8> {
        let room: usize = proofs.iter().map(|proof| proof.value.len() + 8).sum();
        let mut writer = Writer::with_capacity(body.len() + room + 16);
        writer.array(3);
        verb.encode(&mut writer);
        writer.bytes(body).array(proofs.len());
        proofs.iter().for_each(|proof| proof.encode(&mut writer));
        writer.into_bytes()
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        Self::encode_parts(self.verb, &self.body, &self.proofs)
    }
}

#[cfg(test)]
pub(crate) mod mutate;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
