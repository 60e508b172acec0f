//! What can go wrong between a client and the servers, and how it is told.

use std::path::PathBuf;

use store::files::FileError;
use ticket_format::cbor::DecodeError;
use ticket_format::messages::RefusalNotice;
use ticket_format::messages::present::LINKS;
use ticket_format::report::{Report, exit};
use ticket_format::ticket::TicketError;
use ticket_format::tlog::ReceiptError;
use transport::{ConnectError, ExchangeError, Outcome};

use crate::imds::ImdsError;
use crate::logs::LogFailure;

/// A failure of the client library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address of the server could be reached.
    #[error("cannot reach the {server}: {source}")]
    Connect {
        /// `broker` or `key server`.
        server: &'static str,
        /// The last attempt's failure.
        source: ConnectError,
    },
    /// None of the configured addresses has an IP address.
    #[error("cannot resolve the address of the {server}: {address}")]
    Resolve {
        /// `broker` or `key server`.
        server: &'static str,
        /// What was to be resolved.
        address: String,
    },
    /// The connection failed during an exchange.
    #[error("the exchange with the {server} failed: {source}")]
    Exchange {
        /// `broker` or `key server`.
        server: &'static str,
        /// What happened.
        source: ExchangeError,
    },
    /// The server refused.
    #[error("{server} refused: {notice}")]
    Refused {
        /// `broker` or `key server`.
        server: &'static str,
        /// Which refusal.
        notice: RefusalNotice,
    },
    /// The server's answer does not hold: nothing in it was used.
    #[error("the {server}'s answer does not hold: {what}")]
    Answer {
        /// `broker` or `key server`.
        server: &'static str,
        /// Which check failed.
        what: &'static str,
    },
    /// What the answer brings as proof that it is recorded is none: nothing in it was used.
    #[error("the {server}'s receipt does not hold: {source}")]
    Receipt {
        /// `broker` or `key server`.
        server: &'static str,
        /// Which check failed.
        source: ReceiptError,
    },
    /// The server's log is not what was seen of it: nothing of that server is used.
    #[error(transparent)]
    Log(Box<LogFailure>),
    /// The file in which checkpoints of a log are remembered is damaged.
    #[error("{0} holds no checkpoints that can be read")]
    Checkpoints(PathBuf),
    /// As many logs are remembered as may be.
    #[error("{0} remembers as many logs as it may")]
    TooManyLogs(PathBuf),
    /// The metadata service gave no user-data or no identity proof.
    #[error(transparent)]
    Imds(#[from] ImdsError),
    /// The identity proof is not one of AWS's for a known region.
    #[error("{0}")]
    Identity(String),
    /// User-data holds no usable bootstrap.
    #[error("{0}")]
    Bootstrap(String),
    /// A file of state or wallet cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A state or wallet file is damaged, or was sealed for another node.
    #[error("{path} cannot be opened: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// Another process is changing the wallet.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// The dataset wants evidence, and this node has renewed more often than key servers take.
    #[error("the dataset wants evidence, and this node has renewed more than {LINKS} times")]
    TooLong,
    /// There is no node ticket, or it has expired.
    #[error("{0}")]
    NoTicket(&'static str),
    /// One failure that several had waited for.
    #[error(transparent)]
    Shared(std::sync::Arc<Error>),
}

impl Error {
    pub(crate) fn answer(server: &'static str, what: &'static str) -> Self {
        Self::Answer { server, what }
    }

    pub(crate) fn malformed(server: &'static str) -> impl Fn(DecodeError) -> Self {
        move |_| Self::Answer {
            server,
            what: "it is malformed",
        }
    }

    pub(crate) fn ticket(server: &'static str) -> impl Fn(TicketError) -> Self {
        move |_| Self::Answer {
            server,
            what: "its ticket does not verify with the pinned key",
        }
    }

    /// Whether the same call may succeed later without anybody changing anything. The exchanges are
    /// made to be repeated (LOG-7, REN-2), so an unknown outcome may be tried again too.
    #[must_use]
    pub fn worth_retrying(&self) -> bool {
        match self {
            Self::Connect { source, .. } => source.worth_retrying(),
            Self::Exchange { source, .. } => {
                source.safe_to_retry() || source.outcome() == Outcome::Unknown
            }
            Self::Refused { notice, .. } => notice.refusal.retry_is_safe(),
            Self::Imds(error) => error.is_retryable(),
            Self::Shared(error) => error.worth_retrying(),
            Self::Resolve { .. } | Self::Locked(_) => true,
            Self::Answer { .. }
            | Self::Receipt { .. }
            | Self::Log(_)
            | Self::Checkpoints(_)
            | Self::TooManyLogs(_)
            | Self::Bootstrap(_)
            | Self::Identity(_)
            | Self::File(_)
            | Self::Damaged { .. }
            | Self::TooLong
            | Self::NoTicket(_) => false,
        }
    }

    /// The refusal, if a server refused.
    #[must_use]
    pub fn refusal(&self) -> Option<ticket_format::Refusal> {
        match self {
            Self::Refused { notice, .. } => Some(notice.refusal),
            Self::Shared(error) => error.refusal(),
            _ => None,
        }
    }

    /// The error as a person reads it.
    #[must_use]
    pub fn report(&self) -> Report {
        match self {
            Self::Connect {
                server,
                source: source @ ConnectError::WrongIdentity { .. },
            } => Report::new(
                exit::INTEGRITY,
                format!("the {server} is not the one that was pinned"),
            )
            .why(source)
            .next("stop, and find out who answers at that address"),
            Self::Connect { server, source } => {
                Report::new(exit::RETRY, format!("cannot reach the {server}"))
                    .why(source)
                    .next("check address, port (UDP) and firewall; it is safe to retry")
            }
            Self::Resolve { server, address } => Report::new(
                exit::RETRY,
                format!("cannot resolve the address of the {server}"),
            )
            .why(address)
            .next("check name resolution; it is safe to retry"),
            Self::Exchange { server, source } => {
                Report::new(exit::RETRY, format!("no answer from the {server}"))
                    .why(source)
                    .next("it is safe to retry")
            }
            Self::Refused { server, notice } => {
                Report::refused(server, notice.refusal, notice.detail.as_deref())
            }
            Self::Answer { server, what } => Report::new(
                exit::INTEGRITY,
                format!("the {server}'s answer was not used"),
            )
            .why(what)
            .next("do not use the output; ask the operator of the server"),
            Self::Receipt { server, source } => Report::new(
                exit::INTEGRITY,
                format!("the {server}'s answer was not used: its receipt does not hold"),
            )
            .why(source)
            .next("do not use the output; ask the operator of the server"),
            Self::Log(failure) => failure.report(),
            Self::Checkpoints(_) => {
                Report::new(exit::LOCAL, "what is remembered of a log cannot be read")
                    .why(self)
                    .next("find out what damaged it, tell security, and move the file away")
            }
            Self::TooManyLogs(_) => Report::new(exit::LOCAL, "no more logs can be remembered")
                .why(self)
                .next("see `postern logs`; forget those of servers that are gone: `postern logs forget ORIGIN`"),
            Self::Imds(error) => {
                let code = if error.is_retryable() {
                    exit::RETRY
                } else {
                    exit::LOCAL
                };
                Report::new(
                    code,
                    "the instance metadata service gave no answer to build on",
                )
                .why(error)
                .next("check that IMDSv2 is on and that its hop limit reaches this process")
            }
            Self::Bootstrap(why) => Report::new(
                exit::CONFIG,
                "user-data holds no usable bootstrap",
            )
            .why(why)
            .next("start the instance with the text that `postern-admin launch create` printed"),
            Self::Identity(why) => Report::new(
                exit::INTEGRITY,
                "the instance's identity proof does not verify",
            )
            .why(why)
            .next("check the metadata service; a new AWS region needs a newer table"),
            Self::File(error) => Report::new(exit::LOCAL, "a file cannot be used").why(error),
            Self::Damaged { .. } => Report::new(exit::LOCAL, "stored state cannot be used")
                .why(self)
                .next("run `postern logout` and `postern login` again"),
            Self::Locked(_) => Report::new(exit::RETRY, "the wallet is busy")
                .why(self)
                .next("try again"),
            Self::TooLong => Report::new(
                exit::NO_TICKET,
                "this node's evidence is too long to be checked",
            )
            .why(self)
            .next("start a new instance with a new launch"),
            Self::Shared(error) => error.report(),
            Self::NoTicket(why) => Report::new(exit::NO_TICKET, "there is no usable ticket")
                .why(why)
                .next("run `postern login`"),
        }
    }
}

impl From<LogFailure> for Error {
    fn from(failure: LogFailure) -> Self {
        Self::Log(Box::new(failure))
    }
}
