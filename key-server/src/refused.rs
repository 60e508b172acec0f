//! Why a request is refused: precise here, one number outside.

use ticket_format::Refusal;
use ticket_format::cbor::DecodeError;
use ticket_format::evidence::EvidenceError;
use ticket_format::messages::RequestError;
use ticket_format::statement::StatementRefusal;
use ticket_format::ticket::{Action, TicketError};
use ticket_format::tlog::ReceiptError;

use crate::clock::WentBack;
use crate::lease::NoLease;
use crate::vault::VaultError;

/// Why a request is refused. Shown to a caller whose proof has verified, and to the log (REF-2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The envelope.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The body.
    #[error("the request is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A verb that a key server does not serve.
    #[error(
        "a key server serves present, redeem, generate, rewrap, watch, wipe, consistency and administer"
    )]
    Verb,
    /// The ticket itself.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The ticket is from before this key server was put back from a backup.
    #[error("the ticket is from before this key server was restored from a backup: issue another")]
    SpentTicket,
    /// The dataset's longest ticket life is over, whatever the ticket says.
    #[error("the ticket is older than tickets of this dataset may become")]
    Overlong,
    /// Not exactly one proof, or one that does not verify on this connection.
    #[error("the proof does not verify on this connection")]
    Possession,
    /// No such presented ticket on this connection.
    #[error("no such presented ticket on this connection")]
    Handle,
    /// Another ticket was presented under this handle.
    #[error("the handle names another ticket")]
    OtherTicket,
    /// As many tickets as a connection may present.
    #[error("this connection has presented as many tickets as it may")]
    Presented,
    /// A denial.
    #[error("denied in epoch {0}")]
    Denied(u64),
    /// The lease.
    #[error(transparent)]
    Lease(#[from] NoLease),
    /// The clock.
    #[error(transparent)]
    Clock(#[from] WentBack),
    /// No such dataset here.
    #[error("this key server has no such dataset")]
    Dataset,
    /// The KEM.
    #[error("the dataset does not allow the ticket's KEM")]
    Kem,
    /// The ticket's sealing key.
    #[error("nothing can be sealed to the ticket's sealing key")]
    SealingKey,
    /// The dataset wants evidence and none was brought.
    #[error("the dataset wants evidence beside the ticket, and there is none")]
    NoEvidence,
    /// The evidence does not bear out the ticket.
    #[error("the evidence does not prove what the ticket says: {0}")]
    Evidence(Box<EvidenceError>),
    /// No receipt of the ticket's issue.
    #[error("the receipt of the ticket's issue is missing")]
    NoReceipt,
    /// It proves nothing.
    #[error("the receipt of the ticket's issue does not hold: {0}")]
    Receipt(Box<ReceiptError>),
    /// It is of something else.
    #[error("the receipt is not of this ticket's issue")]
    OtherReceipt,
    /// The broker's log is not one log (TLOG-7).
    #[error("the broker's log has forked: security has to say where it goes on")]
    Forked,
    /// The ticket's issue stood in a part of the broker's log that was lost (TLOG-7).
    #[error("issued in a part of the broker's log that was lost: issue again")]
    LostReceipt,
    /// Cosignatures did not come in time.
    #[error("the record is not witnessed as the dataset requires: {0}")]
    Unwitnessed(String),
    /// This server's log is not what was seen of it (TLOG-10).
    #[error(
        "this server's log is not what its witnesses saw of it: security has to say where it goes on"
    )]
    RolledBack,
    /// A caller remembers something that is not in the log.
    #[error("the log does not go on from this checkpoint: {1}")]
    Inconsistent(Refusal, String),
    /// A log goes on elsewhere than the statement says, or is as it should be.
    #[error("{0}")]
    NotRecovered(String),
    /// The ticket does not carry the action.
    #[error("the ticket does not carry {0}")]
    Action(Action),
    /// The key server's own policy.
    #[error("the dataset's policy does not permit it: {0}")]
    Policy(String),
    /// The vault, for the whole request.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The record cannot be written.
    #[error("the record cannot be written: {0}")]
    Audit(#[from] audit_log::AppendError),
    /// The store cannot be used.
    #[error("the store cannot be used: {0}")]
    Store(#[from] store::Error),
    /// The statement.
    #[error(transparent)]
    Statement(#[from] StatementRefusal),
    /// The statement is from before this key server was put back from a backup.
    #[error("the statement is from before this key server was restored from a backup: sign anew")]
    SpentStatement,
    /// The statement's id was used.
    #[error("this statement was used before")]
    Replayed,
    /// The act is one of another server's.
    #[error("a key server does not do this act")]
    Act,
    /// There is one already.
    #[error("there is a dataset of this name already")]
    Exists,
    /// There is none.
    #[error("there is no dataset of this name")]
    NotFound,
    /// There is no such entry.
    #[error("the audit log has no such entry")]
    NoEntry,
    /// An admin set.
    #[error("{1}")]
    AdminSet(Refusal, String),
    /// Another admin set was put in force while this was decided by the one before.
    #[error("the admin set was replaced at the same time: make the statement anew")]
    OtherSet,
    /// An admin's key in another role.
    #[error("a key in it has another role: the key of an admin signs statements and nothing else")]
    AdminsKey,
    /// Another policy stands.
    #[error(
        "another policy stands than the one that the statement replaces: look at it and sign anew"
    )]
    StalePolicy,
    /// Another KEK version is the newest.
    #[error(
        "another KEK version is the newest than the one that the statement names: look at it and sign anew"
    )]
    StaleKek,
    /// The keys of an import are not here any more, or never were.
    #[error("{}", Refusal::ImportUnknown.meaning())]
    NoImport,
    /// Other wraps would be lost.
    #[error("other wraps would be lost than the statement names: look at them and sign anew")]
    StaleWraps,
    /// The inventory.
    #[error("{0}")]
    Inventory(String),
    /// The file of a KEK version's key material.
    #[error("the key material could not be written: the server's log says why")]
    KeyFile,
    /// There is no such backup for this admin.
    #[error("there is no such backup, or no such part of it, for this admin: begin anew")]
    NoBackup,
    /// A backup could not be made or read.
    #[error("the backup could not be made or read: the server's log says why")]
    Backup,
    /// The act's content.
    #[error("{0}")]
    Invalid(String),
    /// Two admins changed one dataset at the same time.
    #[error("the dataset was changed at the same time: make the statement anew")]
    Raced,
    /// An admin changed the dataset after this request was decided.
    #[error("the dataset was changed while this was recorded: ask again")]
    Changed,
    /// The act is done, or may be, and its record waits in the outbox.
    #[error("the act is done or may be, and its record follows: look before you ask again: {0}")]
    Committed(Box<Refused>),
    /// Another root key is in force.
    #[error(
        "another root key is in force than the one that the statement names: look and sign anew"
    )]
    StaleRoot,
    /// A share for another attempt, or one too many.
    #[error("{0}")]
    StaleShare(String),
    /// As much as can be done at one time.
    #[error("{0}")]
    Busy(&'static str),
    /// A fault of our own.
    #[error("the server failed: {0}")]
    Internal(&'static str),
}

impl From<audit_log::guard::NotGood> for Refused {
    fn from(_: audit_log::guard::NotGood) -> Self {
        Self::RolledBack
    }
}

impl Refused {
    /// The number that the peer, the record and the metric get (REF-1).
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Request(error) => error.refusal(),
            Self::Malformed(_) => Refusal::Malformed,
            Self::Verb => Refusal::Unsupported,
            Self::Ticket(error) => (*error).into(),
            Self::Overlong | Self::SpentTicket => Refusal::TicketExpired,
            Self::Possession => Refusal::Possession,
            Self::Handle | Self::OtherTicket => Refusal::HandleUnknown,
            Self::Presented => Refusal::TooLarge,
            Self::Denied(_) => Refusal::Denied,
            Self::Lease(_) => Refusal::Lease,
            Self::Clock(_) => Refusal::Clock,
            Self::Dataset => Refusal::DatasetUnknown,
            Self::NoEvidence | Self::Evidence(_) => Refusal::Evidence,
            Self::NoReceipt
            | Self::Receipt(_)
            | Self::OtherReceipt
            | Self::Forked
            | Self::LostReceipt => Refusal::Receipt,
            Self::Unwitnessed(_) => Refusal::Unwitnessed,
            Self::RolledBack => Refusal::Rollback,
            Self::Inconsistent(refusal, _) => *refusal,
            Self::NotRecovered(_) => Refusal::Stale,
            Self::Kem => Refusal::Kem,
            Self::SealingKey => Refusal::TicketMalformed,
            Self::Action(_) => Refusal::Action,
            Self::Policy(_) => Refusal::Policy,
            Self::Vault(error) => (*error).into(),
            Self::Audit(_) => Refusal::AuditUnavailable,
            Self::Store(_) => Refusal::StoreUnavailable,
            Self::Statement(error) => error.refusal(),
            Self::SpentStatement => StatementRefusal::Expired.refusal(),
            Self::Replayed => Refusal::StatementReplayed,
            Self::Act => Refusal::StatementMalformed,
            Self::Exists => Refusal::Exists,
            Self::NotFound | Self::NoEntry | Self::NoBackup => Refusal::NotFound,
            Self::AdminSet(refusal, _) => *refusal,
            Self::OtherSet
            | Self::StalePolicy
            | Self::StaleKek
            | Self::StaleWraps
            | Self::StaleRoot
            | Self::StaleShare(_) => Refusal::Stale,
            Self::NoImport => Refusal::ImportUnknown,
            Self::KeyFile | Self::Inventory(_) | Self::Backup => Refusal::StoreUnavailable,
            Self::AdminsKey => Refusal::KeyReused,
            Self::Invalid(_) => Refusal::Invalid,
            Self::Raced | Self::Changed | Self::Busy(_) => Refusal::Busy,
            Self::Committed(error) => error.refusal(),
            Self::Internal(_) => Refusal::Internal,
        }
    }
}
