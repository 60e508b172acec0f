//! Statements to a server: made, signed, sent, and the answer believed only when its receipt names
//! the statement.

mod believe;

use std::path::PathBuf;
use std::time::Duration;

use client::Error;
use client::link::Link;
use client::logs::{LoggedLink, Logs};
use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::ids::{StatementDigest, StatementId};
use ticket_format::keys::{AdminKey, AdminSecret, TlsKey};
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{Act, ActBody, AdminSet, Payload};
use ticket_format::tlog::{Checkpoint, Origin, Verifier};
use tokio::sync::OnceCell;

use super::config::Place;
use super::proposal::{self, Proposed};
use super::signer::Key;
use super::trust::{Known, Trust};
use super::{now, rng};

/// For how long an act is good, in seconds: long enough to be sent again after a lost answer.
pub(crate) const LIFE: u64 = 300;
/// How often one statement is sent when no answer comes.
const ATTEMPTS: usize = 3;

/// The admin who signs.
#[derive(Debug)]
pub struct Admin {
    realm: String,
    key: Key,
    timeout: Duration,
    house: Option<House>,
    known: OnceCell<Known>,
}

/// What an admin needs for acts that others must sign too.
#[derive(Debug)]
pub struct House {
    /// The admin set.
    pub trust: Trust,
    /// Whose inbox takes proposals.
    pub broker: Result<Place, Report>,
    /// What was seen of servers' logs.
    pub logs: Logs,
    /// A file that takes them instead.
    pub propose: Option<PathBuf>,
}

/// What became of an act that changes something.
#[derive(Debug)]
pub enum Change<R> {
    /// Done now: what it came to, and the digest of the statement that did it.
    Done(R, StatementDigest),
    /// Done by an earlier try whose answer was lost.
    Before(StatementDigest),
    /// It waits for other admins' signatures.
    Proposed(Proposed),
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
    place: Place,
    verifier: Verifier,
    link: Option<Link>,
    /// The same connection, with what was seen of the server's log.
    logged: Option<LoggedLink>,
}

impl Admin {
    /// The admin of this key.
    #[must_use]
    pub fn new(realm: String, secret: AdminSecret, timeout: Duration) -> Self {
        Self::alone(realm, Key::File(Box::new(secret)), timeout)
    }

    /// The admin of this key, in a realm whose admin set nobody has told yet.
    #[must_use]
    pub fn alone(realm: String, key: Key, timeout: Duration) -> Self {
        Self {
            realm,
            key,
            timeout,
            house: None,
            known: OnceCell::new(),
        }
    }

    /// The admin of this key, in a realm whose admin set is known.
    #[must_use]
    pub fn with(realm: String, key: Key, timeout: Duration, house: House) -> Self {
        Self {
            realm,
            key,
            timeout,
            house: Some(house),
            known: OnceCell::new(),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// How long it waits for a server.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same, who waits for a server that long at the least.
    #[must_use]
    pub fn patient(mut self, least: Duration) -> Self {
        self.timeout = self.timeout.max(least);
        self
    }

    /// Signs an act for a server that is to be done later, within a day, when others have signed.
    ///
    /// # Errors
    /// It would not be accepted.
    pub fn for_later<B: ActBody>(&self, server: TlsKey, body: &B) -> Result<Vec<u8>, Report> {
        let id = StatementId::random(&mut rng());
        let life = limits::STATEMENT_LIFE;
        self.sign(&Payload::act(id, &self.realm, server, now(), life, body))
    }

    /// The realm.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    fn house(&self) -> Result<&House, Report> {
        self.house.as_ref().ok_or_else(|| {
            Report::new(exit::CONFIG, "the admin set is not known here")
                .next("give --admin-set FILE")
        })
    }

    /// The broker, whose inbox takes proposals.
    ///
    /// # Errors
    /// None is known.
    pub fn broker(&self) -> Result<Remote<'_>, Report> {
        Ok(self.at(self.house()?.broker.clone()?))
    }

    /// The admin set in force: the one that is known here, followed to the broker's newest. Where the
    /// broker does not answer, the last one that is known.
    ///
    /// # Errors
    /// None is known, or the broker shows one that does not follow.
    pub async fn known(&self) -> Result<&Known, Report> {
        let follow = async || {
            let house = self.house()?;
            let known = house.trust.load()?;
            let mut broker = self.broker()?;
            let followed = house.trust.follow(known.clone(), &mut broker).await;
            broker.close().await;
            match followed {
                // A broker whose log was rolled back answers little: what the last known set authorises is
                // judged by the server that acts.
                Err(report)
                    if report.exit == exit::RETRY || report.refusal == Some(Refusal::Rollback) =>
                {
                    tracing::warn!(
                        "the broker does not answer; the admin set is the last one known here"
                    );
                    Ok(known)
                }
                followed => followed,
            }
        };
        self.known.get_or_try_init(follow).await
    }

    /// As [`Admin::known`], the set alone.
    ///
    /// # Errors
    /// As [`Admin::known`].
    pub async fn set(&self) -> Result<&AdminSet, Report> {
        Ok(&self.known().await?.set)
    }

    /// The admin's public key.
    #[must_use]
    pub fn public(&self) -> AdminKey {
        self.key.public()
    }

    /// A server to send to; it is connected to with the first statement.
    #[must_use]
    pub fn at(&self, place: Place) -> Remote<'_> {
        Remote {
            admin: self,
            verifier: Verifier::new(place.log_key.clone(), None),
            place,
            link: None,
            logged: None,
        }
    }

    /// What was seen of servers' logs, where there is a place for it.
    #[must_use]
    pub fn logs(&self) -> Option<&Logs> {
        self.house.as_ref().map(|house| &house.logs)
    }

    /// The largest checkpoint that was seen of a log.
    ///
    /// # Errors
    /// What is remembered cannot be read.
    pub fn remembered(&self, origin: &Origin) -> Result<Option<Checkpoint>, Report> {
        let Some(logs) = self.logs() else {
            return Ok(None);
        };
        let all = logs.list().map_err(|error| error.report())?;
        let found = all.into_iter().find(|one| one.origin == *origin);
        Ok(found.and_then(|one| one.newest))
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
        self.key.sign(payload)
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
            self.place.server.tls_key,
            now(),
            LIFE,
            body,
        );
        let statement = self.admin.sign(&payload)?;
        self.send::<B>(&statement).await
    }

    /// Changes something at this server: sent, when the set in force asks for no other signature than
    /// this admin's; else left as a proposal.
    ///
    /// # Errors
    /// As [`Remote::act`]; also that nobody may do this.
    pub async fn change<B: ActBody>(&mut self, body: &B) -> Result<Change<B::Result>, Report> {
        let alone = self.alone::<B>().await?;
        let life = if alone { LIFE } else { limits::STATEMENT_LIFE };
        let id = StatementId::random(&mut rng());
        let payload = Payload::act(
            id,
            &self.admin.realm,
            self.place.server.tls_key,
            now(),
            life,
            body,
        );
        self.put::<B>(&payload, alone).await
    }

    /// As [`Remote::change`], by a record for everyone (ADM-3).
    ///
    /// # Errors
    /// As [`Remote::change`].
    pub async fn change_record<B: ActBody>(
        &mut self,
        body: &B,
    ) -> Result<Change<B::Result>, Report> {
        let alone = self.alone::<B>().await?;
        let id = StatementId::random(&mut rng());
        let payload = Payload::record(id, &self.admin.realm, now(), body);
        self.put::<B>(&payload, alone).await
    }

    /// Whether this admin's signature is enough for the act.
    async fn alone<B: ActBody>(&self) -> Result<bool, Report> {
        // rule: SET-2
        if B::ACT == Act::Deny {
            // One is always enough (SET-4): nothing is asked before a denial is made.
            return Ok(true);
        }
        let set = self.admin.set().await?;
        let own = set.admin(&self.admin.public()).ok_or_else(|| {
            Report::new(exit::REFUSED, "this key is no admin's any more").why(format!(
                "version {} of the admin set does not name it",
                set.version()
            ))
        })?;
        let need = proposal::needed(set, B::ACT)?;
        let counting = set.counting(B::ACT, std::slice::from_ref(own));
        if counting == 0 && need == 1 {
            // Nobody else would have to sign it either: a proposal makes no sense.
            return Err(Report::new(
                exit::REFUSED,
                format!(
                    "a signature by {:?} does not count for {}",
                    own.name,
                    B::ACT
                ),
            )
            .why("the act's role is another one")
            .next("see `postern-admin admin-set show`"));
        }
        Ok(counting >= need)
    }

    async fn put<B: ActBody>(
        &mut self,
        payload: &Payload,
        alone: bool,
    ) -> Result<Change<B::Result>, Report> {
        let statement = self.admin.sign(payload)?;
        if !alone {
            let house = self.admin.house()?;
            let proposed = proposal::leave(self.admin, &statement, house.propose.as_deref());
            return proposed.await.map(Change::Proposed);
        }
        let digest = StatementDigest::of(&statement);
        Ok(match self.send::<B>(&statement).await? {
            Sent::Done(result) => Change::Done(result, digest),
            Sent::Before => Change::Before(digest),
        })
    }

    /// Sends a statement that is signed already, again when no answer comes: its id is used once
    /// (ADM-2), so it cannot act twice.
    ///
    /// # Errors
    /// As [`Remote::act`].
    pub async fn send<B: ActBody>(&mut self, statement: &[u8]) -> Result<Sent<B::Result>, Report> {
        match self.deliver(statement).await? {
            Sent::Done(result) => B::Result::from_cbor(&result, limits::MESSAGE)
                .map(Sent::Done)
                .map_err(|_| self.unbelieved()),
            Sent::Before => Ok(Sent::Before),
        }
    }

    /// As [`Remote::send`], of whatever act; the result as its bytes.
    ///
    /// # Errors
    /// As [`Remote::act`].
    pub async fn deliver(&mut self, statement: &[u8]) -> Result<Sent<Vec<u8>>, Report> {
        let mut lost = false;
        let mut attempt = 1;
        loop {
            match self.once(statement).await {
                Ok(answer) => return self.believe(statement, &answer).await.map(Sent::Done),
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
                Err(error) => return Err(believe::told(&error)),
            }
        }
    }

    async fn once(&mut self, statement: &[u8]) -> Result<Vec<u8>, Error> {
        self.connected().await?;
        // rule: TLOG-6
        if let Some(logged) = self.logged.as_ref().filter(|_| believe::strict(statement)) {
            logged.proven().await?;
        }
        let link = self.connected().await?;
        link.call(Verb::Administer, statement, &[])
            .await
            .map(|(body, _)| body)
    }

    async fn connected(&mut self) -> Result<&Link, Error> {
        if !self.link.as_ref().is_some_and(Link::is_open) {
            (self.link, self.logged) = (None, None);
        }
        match &mut self.link {
            Some(link) => Ok(link),
            none => {
                let server = &self.place.server;
                let link = Link::connect(server, self.admin.timeout).await?;
                let logs = self.admin.logs();
                let log = logs.map(|logs| logs.log(server.word, &self.place.log_key));
                self.logged = log.map(|log| LoggedLink::over(link.clone(), log));
                Ok(none.insert(link))
            }
        }
    }

    /// Tells the server that nothing more comes.
    pub async fn close(self) {
        if let Some(logged) = self.logged {
            // What is wrong with the log is kept, and ends the next command that asks this server.
            if let Err(error) = logged.close().await {
                tracing::error!(%error, "what was seen of the server's log");
            }
        } else if let Some(link) = self.link {
            link.close().await;
        }
    }
}
