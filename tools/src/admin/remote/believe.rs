//! What is believed of a server's answer: that its receipt stands in the server's log, and that this log
//! is the one that was seen before (TLOG-5, TLOG-6).

use client::Error;
use client::link::Link;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::Kind;
use ticket_format::ids::StatementDigest;
use ticket_format::limits;
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::messages::{Receipt, Verb};
use ticket_format::report::{Report, exit};
use ticket_format::statement::{Act, ReceivedStatement};
use ticket_format::tlog::{Logged, verify_continuation};

use super::{ATTEMPTS, Remote};
use crate::admin::seen;

/// Whether a statement is only sent to a server whose log is what it was. What a server that was rolled
/// back still answers must reach it; admin sets prove themselves (SET-3, TLOG-10).
pub(super) fn strict(statement: &[u8]) -> bool {
    let act = ReceivedStatement::parse(statement).map(|received| received.payload().act);
    !matches!(
        act,
        Ok(Act::AdminSet | Act::AdminSetShow | Act::LogRecover | Act::LogShow | Act::Status)
    )
}

impl Remote<'_> {
    /// Has the server show that its log continues what was seen of it, once on each connection.
    pub(super) async fn continues(&mut self) -> Result<(), Report> {
        // rule: TLOG-6
        let Some(seen) = self.admin.seen().cloned() else {
            return Ok(());
        };
        let key = self.place.log_key.clone();
        let word = self.place.server.word;
        let open = self.link.as_ref().is_some_and(Link::is_open);
        if open && self.continued {
            return Ok(());
        }
        let Some(mut newest) = seen.load(&key)? else {
            return Ok(());
        };
        let another = |why: &dyn std::fmt::Display| seen::another(word, &key.origin, why);
        let mut attempt = 1;
        loop {
            let body = ConsistencyBody {
                checkpoint: newest.note().to_owned(),
            };
            let link = self.connected().await.map_err(|error| error.report())?;
            let answer = match link.call(Verb::Consistency, &body.to_cbor(), &[]).await {
                Ok((answer, _)) => answer,
                Err(Error::Exchange { .. }) if attempt < ATTEMPTS => {
                    attempt += 1;
                    self.link = None;
                    continue;
                }
                // To be refused the proof is to have none. One that sheds load is asked again later.
                Err(Error::Refused { notice, .. }) if notice.refusal.exit_code() != exit::RETRY => {
                    return Err(another(&format!(
                        "the {word} refused to prove it ({notice})"
                    )));
                }
                Err(error) => return Err(error.report()),
            };
            let answer = ConsistencyAnswer::from_cbor(&answer, limits::MESSAGE)
                .map_err(|error| another(&error))?;
            let went = verify_continuation(&self.verifier, newest.checkpoint(), &answer)
                .map_err(|error| another(&error))?;
            let further = seen::later(&went.checkpoint, &newest);
            newest = went.checkpoint;
            seen.keep(word, &key, &newest)?;
            if !(went.more && further) {
                break;
            }
        }
        self.continued = true;
        Ok(())
    }

    /// The receipt must stand in the server's log, and be of this very statement: its hash stands in the
    /// entry.
    pub(super) fn believe(&self, statement: &[u8], answer: &[u8]) -> Result<Vec<u8>, Report> {
        // rule: TLOG-5
        let answer =
            AdministerAnswer::from_cbor(answer, limits::MESSAGE).map_err(|_| self.unbelieved())?;
        let logged = self.logged(&answer.receipt)?;
        let entry = &logged.entry;
        // A denial's entry is of its own kind; both name the statement.
        let kind = matches!(entry.kind, Kind::Statement | Kind::Denial);
        if !kind || entry.outcome.is_err() || entry.proof != Some(StatementDigest::of(statement).0)
        {
            return Err(self.unbelieved());
        }
        if let Some(seen) = self.admin.seen().filter(|_| strict(statement)) {
            let word = self.place.server.word;
            seen.keep(word, &self.place.log_key, &logged.checkpoint)?;
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
