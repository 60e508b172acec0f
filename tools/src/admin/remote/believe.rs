//! What is believed of a server's answer: that its receipt stands in the server's log, and that this log
//! is the one that was seen before (TLOG-5, TLOG-6).

use client::Error;
use ticket_format::cbor::Decode as _;
use ticket_format::entry::Kind;
use ticket_format::ids::StatementDigest;
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{Act, ReceivedStatement};
use ticket_format::tlog::Logged;

use super::Remote;

/// Whether a statement is only sent to a server whose log is what it was. What a server that was rolled
/// back still answers must reach it; admin sets prove themselves (SET-3, TLOG-10).
pub(super) fn strict(statement: &[u8]) -> bool {
    let act = ReceivedStatement::parse(statement).map(|received| received.payload().act);
    !matches!(
        act,
        Ok(Act::AdminSet | Act::AdminSetShow | Act::LogRecover | Act::LogShow | Act::Status)
    )
}

/// An error of the log's, with what an admin does about it.
pub(super) fn told(error: &Error) -> Report {
    let report = error.report();
    match error {
        Error::Log(failure) => report.next(format!(
            "use nothing of this server; find out who restored or changed what (`postern-admin log show`), then `log recover`; once {} is accounted for: `postern-admin log forget`",
            failure.origin
        )),
        _ => report,
    }
}

impl Remote<'_> {
    /// The receipt must stand in the server's log, and be of this very statement: its hash stands in the
    /// entry.
    pub(super) async fn believe(&self, statement: &[u8], answer: &[u8]) -> Result<Vec<u8>, Report> {
        // rule: TLOG-5
        let answer =
            AdministerAnswer::from_cbor(answer, limits::MESSAGE).map_err(|_| self.unbelieved())?;
        let logged = match self.logged.as_ref().filter(|_| strict(statement)) {
            None => self.logged(&answer.receipt)?,
            Some(link) => {
                let believed = link.believe(&answer.receipt, None).await;
                believed.map_err(|error| match &error {
                    Error::Receipt { source, .. } => self.unbelieved().why(source),
                    error => told(error),
                })?
            }
        };
        let entry = &logged.entry;
        // A denial's entry is of its own kind; both name the statement.
        let kind = matches!(entry.kind, Kind::Statement | Kind::Denial);
        if !kind || entry.outcome.is_err() || entry.proof != Some(StatementDigest::of(statement).0)
        {
            return Err(self.unbelieved());
        }
        Ok(answer.result)
    }

    /// Verifies a receipt by the server's log key.
    ///
    /// # Errors
    /// It does not stand in that log.
    pub fn logged(&self, receipt: &Receipt) -> Result<Logged, Report> {
        self.verifier
            .verify(receipt)
            .map_err(|error| self.unbelieved().why(error))
    }

    pub(super) fn unbelieved(&self) -> Report {
        Report::new(
            exit::INTEGRITY,
            format!("the {}'s answer was not used", self.place.server.word),
        )
        .why("it is malformed, or its receipt is not of this statement")
        .next("the act may have been done: look with `show` or `list` before you repeat it")
    }
}
