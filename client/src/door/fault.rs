//! What a caller of the door is told, in the shape of AWS KMS's own errors (DOOR-9).

use ticket_format::Refusal;

use crate::error::Error;
use crate::keys::KeyError;

/// An error of KMS's, with a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The error's name, as KMS's model has it.
    pub(super) kind: &'static str,
    /// The HTTP status that goes with it.
    pub(super) status: u16,
    pub(super) message: String,
}

impl Fault {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: match kind {
                "KMSInternalException" => 500,
                _ => 400,
            },
            message: message.into(),
        }
    }

    /// Without the door's token, or from who the door is not for: whatever else the request says (DOOR-1).
    pub(super) fn no_entry() -> Self {
        Self {
            status: 403,
            ..Self::denied("this address is another job's")
        }
    }

    pub(super) fn denied(why: impl Into<String>) -> Self {
        Self::new("AccessDeniedException", why)
    }

    pub(super) fn invalid(why: impl Into<String>) -> Self {
        Self::new("ValidationException", why)
    }

    pub(super) fn malformed(why: impl Into<String>) -> Self {
        Self::new("SerializationException", why)
    }

    pub(super) fn not_found() -> Self {
        // The same for what exists and what does not.
        Self::new(
            "NotFoundException",
            "no dataset of this job has that name; `postern status` lists those that have been asked for",
        )
    }

    pub(super) fn ciphertext() -> Self {
        // Without more: what is wrong with it is nobody's business (DOOR-8).
        Self::new(
            "InvalidCiphertextException",
            "the ciphertext does not open with this context",
        )
    }

    pub(super) fn incorrect_key() -> Self {
        Self::new(
            "IncorrectKeyException",
            "the ciphertext is of another dataset than KeyId names",
        )
    }

    pub(super) fn unsupported(what: &str) -> Self {
        Self::new(
            "UnsupportedOperationException",
            format!("Postern's door does not do {what}; spec/agent.md lists what it does"),
        )
    }

    pub(super) fn grant_token() -> Self {
        Self::new(
            "InvalidGrantTokenException",
            "a grant token is no ticket that the agent holds for this job",
        )
    }

    pub(super) fn dry_run() -> Self {
        Self::new(
            "DryRunOperationException",
            "the request would have succeeded",
        )
    }

    pub(super) fn throttled(why: impl Into<String>) -> Self {
        Self::new("ThrottlingException", why)
    }

    pub(super) fn internal(why: impl Into<String>) -> Self {
        Self::new("KMSInternalException", why)
    }

    /// Of a data key that was to be made: there is no ciphertext whose context could be wrong.
    pub(super) fn of_making(error: KeyError) -> Self {
        match &error {
            KeyError::Refused(Refusal::Context) => Self::denied(format!("{error}")),
            _ => error.into(),
        }
    }

    fn of_exchange(error: &Error, sentence: String) -> Self {
        match error {
            // What a ticket was not had for is told to all who waited for it.
            Error::Shared(error) => Self::of_exchange(error, sentence),
            error => match error.refusal() {
                Some(refusal) => Self::of_refusal(refusal, sentence),
                None if error.worth_retrying() => Self::throttled(sentence),
                None if matches!(error, Error::NoTicket(_)) => Self::denied(sentence),
                None => Self::internal(sentence),
            },
        }
    }

    fn of_refusal(refusal: Refusal, sentence: String) -> Self {
        match refusal {
            // rule: DOOR-8
            Refusal::WrapMalformed
            | Refusal::KekUnknown
            | Refusal::WrapAuthentication
            | Refusal::Context
            | Refusal::WrapCommitment
            | Refusal::WrapDataset
            | Refusal::Producer => Self::ciphertext(),
            Refusal::DatasetUnknown => Self::not_found(),
            refusal if refusal.retry_is_safe() => Self::throttled(sentence),
            // A proof that does not hold.
            refusal if refusal.exit_code() == ticket_format::report::exit::INTEGRITY => {
                Self::internal(sentence)
            }
            _ => Self::denied(sentence),
        }
    }
}

impl From<KeyError> for Fault {
    // rule: DOOR-9
    fn from(error: KeyError) -> Self {
        let report = error.report();
        let next = report.next.as_deref().map(|next| format!("; {next}"));
        let sentence = format!("{error}{}", next.unwrap_or_default());
        match error {
            KeyError::Refused(refusal) => Self::of_refusal(refusal, sentence),
            KeyError::Exchange(error) => Self::of_exchange(&error, sentence),
            KeyError::Context(_) => Self::invalid(sentence),
            KeyError::Wrap(_) | KeyError::Unsigned => Self::ciphertext(),
            KeyError::Producer | KeyError::Agent(_) => Self::denied(sentence),
            KeyError::Recovery(_) | KeyError::Recipient(_) | KeyError::Body(_) => {
                Self::internal(sentence)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_failure_is_the_error_that_sdks_know_what_to_do_with() {
        // rule: DOOR-8, DOOR-9
        let kind = |error: KeyError| Fault::from(error).kind;
        let shared = |error| KeyError::Exchange(Error::Shared(Arc::new(error)));
        assert_eq!(
            kind(shared(Error::NoTicket("expired"))),
            "AccessDeniedException"
        );
        assert_eq!(
            kind(shared(Error::Answer {
                server: "broker",
                what: "x"
            })),
            "KMSInternalException"
        );
        for refusal in Refusal::ALL.iter().copied() {
            let found = kind(KeyError::Refused(refusal));
            assert_eq!(
                found,
                Fault::of_exchange(
                    &Error::Refused {
                        server: "key server",
                        notice: ticket_format::messages::RefusalNotice::bare(refusal),
                    },
                    String::new()
                )
                .kind
            );
            let expected = match refusal {
                Refusal::WrapMalformed
                | Refusal::KekUnknown
                | Refusal::WrapAuthentication
                | Refusal::Context
                | Refusal::WrapCommitment
                | Refusal::WrapDataset
                | Refusal::Producer => "InvalidCiphertextException",
                Refusal::DatasetUnknown => "NotFoundException",
                Refusal::Busy => "ThrottlingException",
                Refusal::Denied | Refusal::Policy | Refusal::TicketExpired | Refusal::Budget => {
                    "AccessDeniedException"
                }
                Refusal::Rollback => "KMSInternalException",
                _ => found,
            };
            assert_eq!(found, expected, "{refusal}");
        }
        let making = Fault::of_making(KeyError::Refused(Refusal::Context));
        assert_eq!(making.kind, "AccessDeniedException");
    }
}
