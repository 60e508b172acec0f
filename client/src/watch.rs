//! Watch and wipe (`spec/protocol.md`, section 8): hears of a ticket's denial at once, and says last
//! of all that the ticket and its keys were erased.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Kind;
use ticket_format::ids::{TicketHash, TicketId};
use ticket_format::keys::{ProofSecret, ServerKey};
use ticket_format::messages::Verb;
use ticket_format::messages::watch::{WatchAnswer, WatchBody};
use ticket_format::messages::wipe::{WipeAnswer, WipeBody};
use ticket_format::ticket::{self, NodeClaims};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogKey, Logged};
use ticket_format::{Refusal, labels, limits};

use crate::error::Error;
use crate::issue::Opened;
use crate::link::{Link, Server};
use crate::logs::{LoggedLink, Logs};
use crate::receipt;
use crate::state::Pins;
use crate::wallet::{DatasetSession, NodeSession};

/// Longest wait for one attempt to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// A server that answers sooner than this without a denial is about to stop: it is given time.
const SOON: Duration = Duration::from_secs(1);

/// A ticket of ours that is watched: what is needed to ask, to believe the answer, and to say that
/// it was erased. It has a copy of the proof key of its own, erased on drop.
#[derive(Debug)]
pub struct Watched {
    server: Server,
    ticket: Vec<u8>,
    hash: TicketHash,
    id: TicketId,
    dataset: Option<String>,
    expires: Timestamp,
    proof: ProofSecret,
    /// Who signs the answers of a key server; a broker's are its connection's (WIP-2).
    signer: Option<ServerKey>,
    log_key: LogKey,
    logs: Logs,
}

/// How a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The ticket is denied.
    Denied(Denied),
    /// Its life is over.
    Expired,
}

/// What was heard of a denial, and believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The epoch that the server decided under.
    pub epoch: u64,
    /// Why, for people.
    pub reason: Option<String>,
}

impl Watched {
    /// A node ticket, at its broker.
    ///
    /// # Errors
    /// It is not the pinned broker's.
    pub fn node(session: &NodeSession, pins: &Pins, logs: &Logs) -> Result<Self, Error> {
        let verified = ticket::verify_for_anyone::<NodeClaims>(&session.ticket, &pins.ticket_keys);
        let verified = verified.map_err(Error::ticket("broker"))?;
        let common = &verified.claims().common;
        Ok(Self {
            server: pins.broker.clone(),
            ticket: session.ticket.clone(),
            hash: TicketHash::of(&session.ticket),
            id: common.id,
            dataset: None,
            expires: common.expires,
            proof: copy(&session.secrets.proof),
            signer: None,
            log_key: pins.log_key.clone(),
            logs: logs.clone(),
        })
    }

    /// A dataset ticket, at its key server.
    #[must_use]
    pub fn dataset(session: &DatasetSession, opened: &Opened, logs: &Logs) -> Self {
        Self {
            server: opened.server(),
            ticket: session.ticket.clone(),
            hash: opened.hash,
            id: opened.claims.common.id,
            dataset: Some(session.dataset.clone()),
            expires: opened.claims.common.expires,
            proof: copy(&session.secrets.proof),
            // rule: WIP-2
            signer: Some(opened.record.server_key),
            log_key: opened.log_key().clone(),
            logs: logs.clone(),
        }
    }

    /// Which ticket.
    #[must_use]
    pub fn id(&self) -> TicketId {
        self.id
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> TicketHash {
        self.hash
    }

    /// A dataset ticket's dataset.
    #[must_use]
    pub fn dataset_name(&self) -> Option<&str> {
        self.dataset.as_deref()
    }

    /// When it expires.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Who is asked.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Asks once over an open connection; the server may wait for as long as `hold`.
    ///
    /// # Errors
    /// The exchange failed, the server refused, or its answer is not signed by the key server that
    /// the dataset record names.
    pub async fn ask(&self, link: &Link, hold: Duration) -> Result<WatchAnswer, Error> {
        let hold = u64::try_from(hold.as_millis()).unwrap_or(limits::FEED_HOLD_MS);
        let body = WatchBody {
            ticket: self.ticket.clone(),
            hold_ms: hold.min(limits::FEED_HOLD_MS),
        }
        .to_cbor();
        let (channel, ticket) = (link.channel(), Some(self.hash));
        // rule: WIP-1
        let proof = channel.sign_with(&self.proof, labels::WATCH_REQUEST, ticket, &body);
        let (answer, signature) = link.call(Verb::Watch, &body, &[proof]).await?;
        // rule: WIP-2
        if let Some(signer) = &self.signer {
            let unsigned = Error::answer(link.word(), "what it says of a denial is not signed");
            let signature = signature.ok_or(unsigned)?;
            let verified =
                channel.verify_with(signer, labels::WATCH_ANSWER, ticket, &answer, &signature);
            verified.map_err(|_| {
                let why = "what it says of a denial is not signed by the key server of the record";
                Error::answer(link.word(), why)
            })?;
        }
        WatchAnswer::from_cbor(&answer, limits::SMALL_MESSAGE)
            .map_err(Error::malformed(link.word()))
    }

    /// Asks again and again, over new connections where need be, until the ticket is denied or its
    /// life is over. One request is always open, so a denial is heard of at once.
    ///
    /// # Errors
    /// The server refused for good, is another one, or its answer does not hold.
    pub async fn until_denied(&self, now: impl Fn() -> Timestamp) -> Result<Ended, Error> {
        let hold = Duration::from_millis(limits::FEED_HOLD_MS);
        let mut delays = delays();
        let mut link = None;
        while now() < self.expires {
            let asked = async {
                let open = match link.take() {
                    Some(open) => open,
                    None => self.connect().await?,
                };
                let begun = Instant::now();
                open.proven().await?;
                let answer = self.ask(open.link(), hold).await?;
                Ok::<_, Error>((open, answer, begun.elapsed()))
            };
            match asked.await {
                Ok((open, answer, _)) if answer.denied => {
                    if let Err(error) = open.close().await {
                        tracing::warn!(%error, "the server's log");
                    }
                    return Ok(Ended::Denied(Denied {
                        epoch: answer.epoch,
                        reason: answer.reason,
                    }));
                }
                Ok((open, _, took)) => {
                    link = Some(open);
                    delays = self::delays();
                    if took < SOON {
                        tokio::time::sleep(SOON).await;
                    }
                }
                Err(error) if error.refusal() == Some(Refusal::TicketExpired) => break,
                // A server that was rolled back serves nobody until its admins have decided. Whoever stopped
                // watching meanwhile would keep what is denied afterwards.
                Err(error)
                    if error.worth_retrying() || error.refusal() == Some(Refusal::Rollback) =>
                {
                    tracing::info!(%error, "watching again");
                    tokio::time::sleep(delays.next().unwrap_or(CONNECT)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ended::Expired)
    }

    /// Says that the ticket, its session keys and what was held by them is erased, `erased` keys in
    /// all. To be called when that is so: the proof key that signs this is the last of them, and goes
    /// with this value. Tries again for as long as `patience`.
    ///
    /// # Errors
    /// The last attempt's. What was erased stays erased.
    pub async fn wipe(
        self,
        denied: &Denied,
        erased: u64,
        at: Timestamp,
        patience: Duration,
    ) -> Result<Logged, Error> {
        let body = WipeBody {
            ticket: self.ticket.clone(),
            epoch: denied.epoch,
            erased,
            at,
        }
        .to_cbor();
        let until = Instant::now() + patience;
        let mut delays = delays();
        loop {
            let error = match self.send_wipe(&body).await {
                Err(error) if error.worth_retrying() => error,
                other => return other,
            };
            let delay = delays.next().unwrap_or(CONNECT);
            if Instant::now() + delay >= until {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn connect(&self) -> Result<LoggedLink, Error> {
        LoggedLink::connect(&self.server, &self.log_key, &self.logs, CONNECT).await
    }

    async fn send_wipe(&self, body: &[u8]) -> Result<Logged, Error> {
        let logged = self.connect().await?;
        logged.proven().await?;
        let link = logged.link();
        let (channel, ticket) = (link.channel(), Some(self.hash));
        // rule: WIP-2
        let proof = channel.sign_with(&self.proof, labels::WIPE_REQUEST, ticket, body);
        let answer = link.call(Verb::Wipe, body, &[proof]).await;
        let believed = async {
            let (answer, _) = answer?;
            let answer = WipeAnswer::from_cbor(&answer, limits::MESSAGE)
                .map_err(Error::malformed(link.word()))?;
            receipt::check(&logged, &answer.receipt, None, Kind::Wiped, self.hash).await
        };
        let believed = believed.await;
        let closed = logged.close().await;
        let believed = believed?;
        closed.map(|()| believed)
    }
}

fn copy(proof: &ProofSecret) -> ProofSecret {
    ProofSecret::from_seed(&proof.seed())
}

fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times()
        .build()
}
