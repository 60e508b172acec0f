//! What can go wrong, said precisely, and for clients: whether trying again is safe.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::code::Code;

/// The server's TLS identity could not be made from its key.
#[derive(Debug, Error)]
#[error("cannot make a TLS identity from the key: {0}")]
pub struct IdentityError(pub(crate) String);

/// The connection gave no exporter value: it has no finished handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the connection has no exporter value")]
pub struct ExporterError;

/// A limit that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LimitsError {
    /// Smaller than anything could work with.
    #[error("limit {limit} must be at least {least}")]
    TooSmall {
        /// The field's name.
        limit: &'static str,
        /// The least value that works, in the field's unit.
        least: usize,
    },
    /// One source could keep out all others.
    #[error(
        "limit {limit} must be at most {most}, for the sake of other sources; or raise {whole}"
    )]
    AboveShare {
        /// The field's name.
        limit: &'static str,
        /// The largest value that leaves others enough, in the field's unit.
        most: usize,
        /// The field that it is a share of.
        whole: &'static str,
    },
    /// Larger than QUIC can say.
    #[error("limit {limit} is larger than QUIC allows")]
    TooLarge {
        /// The field's name.
        limit: &'static str,
    },
}

/// An endpoint could not be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address cannot be had: in use, not ours, or not permitted.
    #[error("cannot listen on {address}: {source}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The given socket cannot carry QUIC.
    #[error("the socket cannot be used: {0}")]
    Unusable(#[source] io::Error),
    /// The limits contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The TLS library lacks something that the protocol needs.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// The server stopped without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RunError {
    /// The UDP socket failed for good.
    #[error("the UDP socket failed; no more connections can be accepted")]
    SocketLost,
}

/// What is known about a request that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server did not act on it and will not: sending it again is safe.
    NotProcessed,
    /// The server may have acted on it. Send again only what the protocol makes idempotent.
    Unknown,
}

/// No connection came about. Nothing was sent but the handshake, so no act can have happened.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No answer in time: wrong address, a firewall, no network, or the server is down.
    #[error("no answer from {address} within {waited:?}")]
    Unreachable {
        /// Where we tried.
        address: SocketAddr,
        /// How long we waited.
        waited: Duration,
    },
    /// The server at this address is not the pinned one. Never retried: it may be an attack.
    #[error("the server at {address} does not hold the pinned key")]
    WrongIdentity {
        /// Where we tried.
        address: SocketAddr,
    },
    /// The server does not speak `postern/1`.
    #[error("the server at {address} does not speak postern/1")]
    Alpn {
        /// Where we tried.
        address: SocketAddr,
    },
    /// The server is at one of its limits, or shutting down.
    #[error("the server at {address} takes no connection now (busy or going away)")]
    Busy {
        /// Where we tried.
        address: SocketAddr,
    },
    /// TLS or QUIC could not agree, for example on X25519MLKEM768.
    #[error("the handshake with {address} failed: {reason}")]
    Handshake {
        /// Where we tried.
        address: SocketAddr,
        /// What failed, in the words of the TLS library.
        reason: String,
    },
    /// The pin is not an Ed25519 public key that anybody could hold.
    #[error("the pin is not a usable Ed25519 public key")]
    BadPin,
    /// The address cannot be connected to from the local socket (family, port 0).
    #[error("cannot connect to {address}: {reason}")]
    BadAddress {
        /// Where we tried.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// The local endpoint could not be opened or is closed.
    #[error(transparent)]
    Local(#[from] BindError),
    /// The local endpoint was closed.
    #[error("the local endpoint is closed")]
    Closed,
}

impl ConnectError {
    /// Whether the same attempt may succeed later. Nothing was asked of the server yet, so trying
    /// again never does harm; this says whether it makes sense.
    pub fn worth_retrying(&self) -> bool {
        match self {
            ConnectError::Unreachable { .. } | ConnectError::Busy { .. } => true,
            ConnectError::WrongIdentity { .. }
            | ConnectError::Alpn { .. }
            | ConnectError::Handshake { .. }
            | ConnectError::BadPin
            | ConnectError::BadAddress { .. }
            | ConnectError::Local(_)
            | ConnectError::Closed => false,
        }
    }
}

/// An exchange brought no answer.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The request is longer than we may send. Nothing was sent.
    #[error("the request has {length} bytes, {limit} are allowed")]
    RequestTooLarge {
        /// Length of the request in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The connection was gone before the request was whole.
    #[error("the connection is closed: {reason}")]
    Closed {
        /// How it ended.
        reason: String,
    },
    /// The server ended this exchange without an answer.
    #[error("the server gave no answer: {}", code.name())]
    Refused {
        /// The server's reason.
        code: Code,
    },
    /// The server ended this exchange with a number outside the list of codes.
    #[error("the server gave no answer, with the unknown code {number}")]
    UnknownCode {
        /// The number received.
        number: u64,
    },
    /// The connection was lost after the request was on its way.
    #[error("the connection was lost before the answer came: {reason}")]
    Lost {
        /// How it ended.
        reason: String,
    },
    /// No whole answer in time. The exchange was abandoned; the connection still stands.
    #[error("no answer within {waited:?}")]
    TimedOut {
        /// How long we waited.
        waited: Duration,
        /// Whether the whole request may have reached the server.
        sent: bool,
    },
    /// The answer is longer than we allow.
    #[error("the answer has more than {limit} bytes")]
    AnswerTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The server finished the stream without a byte, which no answer of the protocol is.
    #[error("the server sent an empty answer")]
    Empty,
}

impl ExchangeError {
    /// What is known about the request.
    pub fn outcome(&self) -> Outcome {
        match self {
            ExchangeError::RequestTooLarge { .. } | ExchangeError::Closed { .. } => {
                Outcome::NotProcessed
            }
            ExchangeError::TimedOut { sent: false, .. } => Outcome::NotProcessed,
            ExchangeError::Refused { code } => match code {
                Code::GoingAway | Code::Busy | Code::TooLarge | Code::TooSlow => {
                    Outcome::NotProcessed
                }
                Code::Done | Code::Unfinished | Code::Misuse | Code::Abandoned => Outcome::Unknown,
            },
            ExchangeError::UnknownCode { .. }
            | ExchangeError::Lost { .. }
            | ExchangeError::TimedOut { .. }
            | ExchangeError::AnswerTooLarge { .. }
            | ExchangeError::Empty => Outcome::Unknown,
        }
    }

    /// Whether sending the same request again can do no harm and may help.
    pub fn safe_to_retry(&self) -> bool {
        match self {
            // The same request would be too long again.
            ExchangeError::RequestTooLarge { .. }
            | ExchangeError::Refused {
                code: Code::TooLarge,
            } => false,
            other => other.outcome() == Outcome::NotProcessed,
        }
    }

    /// Whether a new connection is needed before anything else can be tried.
    pub fn needs_new_connection(&self) -> bool {
        matches!(
            self,
            ExchangeError::Closed { .. }
                | ExchangeError::Lost { .. }
                | ExchangeError::Refused {
                    code: Code::GoingAway
                }
        )
    }
}
