//! A refusal on its way out of the core.

use ticket_format::Refusal;
use ticket_format::messages::RefusalNotice;

/// Why a request is refused: what the peer is told, and what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number.
    pub refusal: Refusal,
    /// One line with what exactly.
    pub why: String,
    /// Whether the caller has proven who he is: a stranger is told the number only (REF-2).
    pub proven: bool,
    /// Who was refused, where that is known: a node's name, a launch, an admin's key.
    pub subject: Option<String>,
}

impl Refused {
    /// Refuses somebody whose proof has not verified.
    #[must_use]
    pub fn stranger(refusal: Refusal, why: impl ToString) -> Self {
        Self {
            refusal,
            why: why.to_string(),
            proven: false,
            subject: None,
        }
    }

    /// Refuses a caller whose proof has verified.
    #[must_use]
    pub fn proven(refusal: Refusal, why: impl ToString) -> Self {
        Self {
            refusal,
            why: why.to_string(),
            proven: true,
            subject: None,
        }
    }

    /// Says who.
    #[must_use]
    pub fn of(mut self, subject: impl ToString) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// What travels.
    #[must_use]
    pub fn notice(&self) -> RefusalNotice {
        // rule: REF-2
        if self.proven {
            RefusalNotice::detailed(self.refusal, self.why.clone())
        } else {
            RefusalNotice::bare(self.refusal)
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.refusal, self.why)
    }
}

impl std::error::Error for Refused {}
