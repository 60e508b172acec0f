//! Statements to a server: made, signed, sent, and the answer believed only when its receipt names
//! the statement.

use std::time::Duration;

use client::Error;
use client::link::{Link, Server};
use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{StatementDigest, StatementId};
use ticket_format::keys::{AdminKey, AdminSecret};
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{ActBody, Payload};

use super::{now, rng};

/// For how long an act is good, in seconds: long enough to be sent again after a lost answer.
const LIFE: u64 = 300;
/// How often one statement is sent when no answer comes.
const ATTEMPTS: usize = 3;

/// The admin who signs.
#[derive(Debug)]
pub struct Admin {
    realm: String,
    secret: AdminSecret,
    timeout: Duration,
}

/// What became of a statement.
#[derive(Debug)]
pub enum Sent<R> {
    /// Done now; what it came to.
    Done(R),
    /// Done by an earlier try whose answer was lost: the server has used this statement's id.
    Before,
}

/// A server, and the connection to it.
#[derive(Debug)]
pub struct Remote<'a> {
    admin: &'a Admin,
    server: Server,
    link: Option<Link>,
}

impl Admin {
    /// The admin of this key.
    #[must_use]
    pub fn new(realm: String, secret: AdminSecret, timeout: Duration) -> Self {
        Self {
            realm,
            secret,
            timeout,
        }
    }

    /// The admin's public key.
    #[must_use]
    pub fn public(&self) -> AdminKey {
        self.secret.public()
    }

    /// A server to send to; it is connected to with the first statement.
    #[must_use]
    pub fn at(&self, server: Server) -> Remote<'_> {
        Remote {
            admin: self,
            server,
            link: None,
        }
    }

    /// Signs a record for everyone (ADM-3).
    ///
    /// # Errors
    /// It would not be accepted.
    pub fn record<B: ActBody>(&self, body: &B) -> Result<Vec<u8>, Report> {
        self.sign(&Payload::record(
            StatementId::random(&mut rng()),
            &self.realm,
            now(),
            body,
        ))
    }

    fn sign(&self, payload: &Payload) -> Result<Vec<u8>, Report> {
        payload
            .sign(&[&self.secret])
            .map_err(|error| Report::new(exit::LOCAL, "the statement cannot be made").why(error))
    }
}

impl Remote<'_> {
    /// Asks; nothing changes.
    ///
    /// # Errors
    /// As [`Remote::act`].
    pub async fn ask<B: ActBody>(&mut self, body: &B) -> Result<B::Result, Report> {
        match self.act(body).await? {
            Sent::Done(result) => Ok(result),
            // The answer of the first try was lost; a question may be put anew.
            Sent::Before => match self.act(body).await? {
                Sent::Done(result) => Ok(result),
                Sent::Before => {
                    Err(Report::new(exit::RETRY, "no answer came back").next("try again"))
                }
            },
        }
    }

    /// Asks; none when the server knows of no such thing.
    ///
    /// # Errors
    /// As [`Remote::act`].
    pub async fn find<B: ActBody>(&mut self, body: &B) -> Result<Option<B::Result>, Report> {
        match self.ask(body).await {
            Err(report)
                if matches!(
                    report.refusal,
                    Some(Refusal::NotFound | Refusal::DatasetUnknown)
                ) =>
            {
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Acts, for this server alone.
    ///
    /// # Errors
    /// It cannot be reached, it refused, or its answer does not hold.
    pub async fn act<B: ActBody>(&mut self, body: &B) -> Result<Sent<B::Result>, Report> {
        let id = StatementId::random(&mut rng());
        let payload = Payload::act(
            id,
            &self.admin.realm,
            self.server.tls_key,
            now(),
            LIFE,
            body,
        );
        let statement = self.admin.sign(&payload)?;
        self.send::<B>(&statement).await
    }

    /// Sends a statement that is signed already, again when no answer comes: its id is used once
    /// (ADM-2), so it cannot act twice.
    ///
    /// # Errors
    /// As [`Remote::act`].
    pub async fn send<B: ActBody>(&mut self, statement: &[u8]) -> Result<Sent<B::Result>, Report> {
        let mut lost = false;
        let mut attempt = 1;
        loop {
            match self.once(statement).await {
                Ok(answer) => return self.believe::<B>(statement, &answer).map(Sent::Done),
                Err(Error::Refused { notice, .. })
                    if lost && notice.refusal == Refusal::StatementReplayed =>
                {
                    return Ok(Sent::Before);
                }
                Err(error @ Error::Exchange { .. }) if attempt < ATTEMPTS => {
                    tracing::info!(%error, "no answer; sending the same statement again");
                    lost = true;
                    attempt += 1;
                    self.link = None;
                }
                Err(error) => return Err(error.report()),
            }
        }
    }

    async fn once(&mut self, statement: &[u8]) -> Result<Vec<u8>, Error> {
        let link = match &self.link {
            Some(link) if link.is_open() => link,
            _ => self
                .link
                .insert(Link::connect(&self.server, self.admin.timeout).await?),
        };
        link.call(Verb::Administer, statement, &[])
            .await
            .map(|(body, _)| body)
    }

    /// The receipt must be of this very statement: its hash stands in the entry.
    fn believe<B: ActBody>(&self, statement: &[u8], answer: &[u8]) -> Result<B::Result, Report> {
        let answered = AdministerAnswer::from_cbor(answer, limits::MESSAGE)
            .ok()
            .and_then(|answer| {
                let entry = Entry::from_cbor(&answer.receipt.entry, limits::ENTRY).ok()?;
                // A denial's entry is of its own kind; both name the statement.
                let kind = matches!(entry.kind, Kind::Statement | Kind::Denial);
                let ours = kind
                    && entry.outcome.is_ok()
                    && entry.proof == Some(StatementDigest::of(statement).0);
                let result = B::Result::from_cbor(&answer.result, limits::MESSAGE).ok()?;
                ours.then_some(result)
            });
        answered.ok_or_else(|| {
            Report::new(
                exit::INTEGRITY,
                format!("the {}'s answer was not used", self.server.word),
            )
            .why("it is malformed, or its receipt is not of this statement")
            .next("the act may have been done: look with `show` or `list` before you repeat it")
        })
    }

    /// Tells the server that nothing more comes.
    pub async fn close(self) {
        if let Some(link) = self.link {
            link.close().await;
        }
    }
}
