//! Admins' statements (`spec/protocol.md`, section 9): COSE_Sign (RFC 9052, tag 98) with at least
//! one admin's signature.
//!
//! ```text
//! bytes --parse--> ReceivedStatement --verify--> VerifiedStatement
//!        shape                        signers, realm, audience, time
//! ```
//! Content can be read from the last one only. That an id is used once is the store's to hold (ADM-2).

pub mod acts;
pub mod admin_set;
pub mod admins;
pub mod aliases;
pub mod backups;
mod cose;
pub mod datasets;
pub mod denials;
pub mod exposures;
pub mod feeds;
pub mod imports;
pub mod keks;
pub mod launches;
pub mod logs;
pub mod nodes;
pub mod policies;
pub mod proposals;
pub mod roots;
mod signing;
pub mod sshsig;
pub mod status;
pub mod ticket_keys;
pub mod what_if;
pub mod witnessing;

pub use acts::{Act, ActBody, Nothing};
pub use admin_set::{AdminSet, AdminSetFault, AdminSetRefusal};
pub use admins::{Admin, AdminKeyKind, AdminRole, AdminSetBody, AdminSetPage, AdminSetShow};
pub use aliases::{AliasList, AliasPage, AliasRow, AliasSet, AliasTarget};
pub use backups::{BACKUP_PART, BackupBegin, BackupMade, BackupPart, BackupPiece, Restore};
pub use cose::ReceivedStatement;
pub use datasets::{
    Canary, CanarySet, DatasetClass, DatasetCreate, DatasetCreated, DatasetList, DatasetOwnersSet,
    DatasetPage, DatasetPolicySet, DatasetRecord, DatasetRow, DatasetSet, DatasetShow, DatasetView,
    ProducerAdd, ProducerAdded, policy_digest,
};
pub use denials::{DenialPage, Denied, DenyBody, DenyList, Undeny};
pub use exposures::{EntryShow, EntryView, Exposed, ExposurePage, ExposureShow};
pub use feeds::{Acknowledgement, BadAcknowledgement, FeedShow, FeedView, Subscriber};
pub use imports::{
    ImportBegin, ImportBegun, ImportHow, KekExport, KekExported, KekImport, Provenance,
};
pub use keks::{
    KekDestroy, KekKeep, KekList, KekOrigin, KekRotate, KekRow, KekRows, KekSet, KekState,
    Rotation, WrapList, WrapPage, WrapRow,
};
pub use launches::{LaunchClose, LaunchCreate, LaunchList, LaunchPage, LaunchShow, LaunchView};
pub use logs::{LogRecover, LogShow, LogState, LogView, WitnessRow, WitnessState};
pub use nodes::{
    NodeList, NodePage, NodeShow, NodeState, NodeUnfreeze, NodeView, TicketShow, TicketView,
};
pub use policies::{PolicySet, PolicyShow, PolicyText, PolicyTextSet};
pub use proposals::{
    ProposalList, ProposalPage, ProposalRow, ProposalShow, ProposalView, ProposalWithdraw, Propose,
};
pub use roots::{
    Attempt, AutoKind, Rekey, RootShow, RootView, SEALED_SHARE, SHARE, SealServer, ShareGive,
    ShareHolder, SharePurpose, ShareRow,
};
pub use signing::AdminSigner;
pub use status::{Role, Status, StatusShow};
pub use ticket_keys::{
    TicketKeyList, TicketKeyMade, TicketKeyMake, TicketKeyRow, TicketKeyRows, TicketKeySet,
};
pub use what_if::{Changed, WhatIf, WhatIfPage};
pub use witnessing::{WitnessMode, Witnessing, WitnessingError};

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

    /// A record for everyone, which does not expire: it is good until the year 9999.
    #[must_use]
    pub fn record<B: ActBody>(id: StatementId, realm: &str, now: Timestamp, body: &B) -> Self {
        Self {
            id,
            not_before: now,
            expires: Timestamp::LAST,
            realm: realm.to_owned(),
            audience: Audience::Everyone,
            act: B::ACT,
            body: body.to_cbor(),
        }
    }

    /// ADM-1: a day at most, except for a record meant for everyone, which never is another act and
    /// never expires: others verify it again as long as it is read.
    fn span_holds(&self) -> bool {
        // rule: ADM-1
        match self.audience {
            Audience::Everyone => self.act.is_record() && self.expires == Timestamp::LAST,
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
    /// A signature by a key that is not in the admin set in force.
    #[error("signed by a key that is no admin's")]
    UnknownSigner,
    /// A signature of another form than the set says for this admin's key (SET-7).
    #[error("signed in another form than this admin's kind of key signs in")]
    Form,
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
    /// Too few signatures that count (SET-2, SET-5).
    #[error("signed by {have} admins whose signature counts for this act; {need} must sign")]
    Quorum {
        /// How many signed.
        have: u64,
        /// How many must.
        need: u64,
    },
    /// The admin set has no number for the act, so that nobody can authorise it (SET-2).
    #[error("the admin set in force lets nobody do this: it has no number for {0}")]
    NoQuorum(Act),
    /// Signatures over another payload cannot join (PRO-1).
    #[error("the two statements say different things under one id")]
    OtherPayload,
}

impl StatementRefusal {
    /// The refusal that the peer gets.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Malformed(_) | Self::Header | Self::Span | Self::OtherAct => {
                Refusal::StatementMalformed
            }
            Self::UnknownSigner | Self::Form | Self::BadSignature | Self::SignedTwice => {
                Refusal::StatementSignature
            }
            Self::Quorum { .. } | Self::NoQuorum(_) => Refusal::Quorum,
            Self::OtherPayload => Refusal::Exists,
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

/// A statement whose signatures, realm, audience, time and quorum were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStatement {
    payload: Payload,
    signers: Vec<Admin>,
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
    pub fn signers(&self) -> &[Admin] {
        &self.signers
    }

    /// Holds an act on a dataset to its owners (SET-5): of their signatures alone there must be
    /// `need`, as many as the set in force demands for the act ([`AdminSet::quorum`]).
    ///
    /// # Errors
    /// [`StatementRefusal::Quorum`].
    pub fn by_owners(&self, owners: &[AdminKey], need: u64) -> Result<(), StatementRefusal> {
        // rule: SET-5
        let counts = |admin: &&Admin| admin.may(self.payload.act) && owners.contains(&admin.key);
        let have = self.signers.iter().filter(counts).count() as u64;
        if have < need {
            return Err(StatementRefusal::Quorum { have, need });
        }
        Ok(())
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
        self.payload.body_of()
    }
}

#[cfg(test)]
mod tests;
