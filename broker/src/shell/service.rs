//! The running broker: what it holds in memory, how it starts, and how each message is answered.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use policy::Policy;
use rand_core::{CryptoRng, UnwrapErr};
use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, StatementId};
use ticket_format::keys::TicketKey;
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::time::Timestamp;
use tokio::sync::{Semaphore, watch};

use super::audit::{Audit, InLog};
use super::budget::Budgets;
use super::clock::Timekeeper;
use super::denials::Denials;
use super::directory::{Committed, Directory, unavailable};
use super::limits::{Limits, Rates, Repetitions, Replays, Strangers};
use super::memory::Versioned;
use super::metrics::Metrics;
use super::standing::Oversight;
use super::subscribers::Subscribers;
use super::watching::Watching;
use crate::Refused;
use crate::realm::{Caller, Realm};
use crate::state::{AliasEntry, Changes, DatasetEntry, keys};

/// How often a decision is made anew because what it was made on has changed.
pub(super) const ATTEMPTS: usize = 256;

/// The broker. Share it by `Arc`.
pub struct Broker {
    pub(crate) realm: Realm,
    pub(crate) directory: Directory,
    pub(crate) audit: Audit,
    pub(crate) denials: Denials,
    pub(crate) budgets: Budgets,
    pub(crate) time: Timekeeper,
    pub(crate) rates: Rates,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) subscribers: Subscribers,
    pub(crate) started: Timestamp,
    /// When it started, on the monotonic clock.
    pub(crate) began: Duration,
    pub(super) strangers: Strangers,
    pub(super) repetitions: Repetitions,
    pub(super) replays: Replays,
    pub(super) watching: Watching,
    pub(super) oversight: Oversight,
    /// The ticket key that was made last, and by which statement.
    pub(super) making: tokio::sync::Mutex<Option<(StatementId, TicketKey)>>,
    pub(super) trying: Semaphore,
    /// Who reads entries back: one at a time.
    pub(super) reading: Semaphore,
    /// What is read in the place of a launch that there is not.
    pub(super) no_launch: Vec<u8>,
    /// Who is proven a consistency to.
    pub(super) proving: Arc<Semaphore>,
    pub(super) policy: RwLock<Option<Versioned<Policy>>>,
    pub(super) datasets: RwLock<BTreeMap<String, Versioned<DatasetEntry>>>,
    pub(super) aliases: RwLock<BTreeMap<String, Versioned<AliasEntry>>>,
    pub(super) stopping: watch::Sender<bool>,
}

/// What a request has proven of who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proven {
    /// A node or an admin that the realm knows.
    Caller,
    /// A server that follows the feed.
    Subscriber,
}

/// Hears what a request proves, before it is answered: it may be held for long.
pub(crate) type Tell<'a> = &'a (dyn Fn(Proven) + Send + Sync);

/// A refusal, and whether it stands in the log already.
pub(crate) enum Failed {
    Unrecorded(Refused),
    Recorded(Refused),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Unrecorded(refused)
    }
}

impl Broker {
    /// The broker's realm, keys and admins.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn rng(&self) -> impl CryptoRng + use<> {
        UnwrapErr(getrandom::SysRng)
    }

    /// Answers one message, whatever its bytes (REF-1). `gone` completes when nobody waits any more.
    pub async fn answer(
        &self,
        caller: &Caller,
        message: &[u8],
        gone: impl Future<Output = ()> + Send,
    ) -> Vec<u8> {
        self.answer_and_tell(caller, message, gone, &|_| ()).await
    }

    /// As [`answer`](Self::answer), and tells as soon as it is known who the caller is.
    pub(crate) async fn answer_and_tell(
        &self,
        caller: &Caller,
        message: &[u8],
        gone: impl Future<Output = ()> + Send,
        tell: Tell<'_>,
    ) -> Vec<u8> {
        let began = self.time.monotonic();
        let (verb, result) = match RequestView::parse(message) {
            Ok(request) => {
                let answer = self.dispatch(&request, caller, gone, tell).await;
                if answer.is_ok() && request.verb != Verb::Consistency {
                    tell(Proven::Caller);
                }
                // What was decided before the rollback was known does not leave either.
                let held = answer.and_then(|answer| match request.verb {
                    Verb::Administer | Verb::Consistency => Ok(answer),
                    _ => self.good().map(|()| answer).map_err(Failed::Recorded),
                });
                (Some(request.verb), held)
            }
            Err(error) => (None, Err(Refused::stranger(error.refusal(), error).into())),
        };
        let took = self.time.monotonic().saturating_sub(began);
        let exchange = verb.map_or("none", Verb::name);
        match result {
            Ok(answer) => {
                self.metrics.exchange(verb, None, took);
                answer.to_bytes()
            }
            Err(failed) => {
                let refused = match failed {
                    Failed::Recorded(refused) => refused,
                    Failed::Unrecorded(refused) => {
                        self.record_refusal(verb, &refused, caller).await;
                        refused
                    }
                };
                let (number, subject) = (refused.refusal.number(), refused.subject.as_deref());
                self.metrics.exchange(verb, Some(refused.refusal), took);
                let (source, why) = (caller.address, &refused.why);
                // A line for each would let strangers fill the disk; they are counted.
                if refused.proven {
                    tracing::info!(exchange, refusal = number, subject, %source, %why, "refused");
                } else {
                    tracing::debug!(exchange, refusal = number, subject, %source, %why, "refused");
                }
                // rule: REF-1, REF-2
                Answer::Refused(refused.notice()).to_bytes()
            }
        }
    }

    async fn dispatch(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
        gone: impl Future<Output = ()> + Send,
        tell: Tell<'_>,
    ) -> Result<Answer, Failed> {
        // What a caller asks of consistency is answered from the log as it stands: a refusal in its place
        // would say that the log had split, and a witness's mere claim proves no such thing.
        if !matches!(request.verb, Verb::Administer | Verb::Consistency) {
            self.good()?;
        }
        match request.verb {
            Verb::Login => self.login(request, caller).await,
            Verb::Renew => self.renew(request, caller).await,
            Verb::Issue => self.issue(request, caller).await,
            Verb::Alias => self.alias(request, caller),
            Verb::Feed => self.feed(request, caller, gone, tell).await,
            Verb::Watch => self.watch(request, caller, gone, tell).await,
            Verb::Wipe => self.wipe(request, caller).await,
            // Elsewhere: what is asked seldom must not make room for itself in every exchange.
            Verb::Administer => Box::pin(self.administer(request, caller, gone)).await,
            Verb::Consistency => self.consistency(request, caller).await,
            Verb::Present | Verb::Redeem | Verb::Generate | Verb::Rewrap => Err(Refused::stranger(
                Refusal::Unsupported,
                "a broker does not know this verb",
            )
            .into()),
        }
    }

    /// Lists a refusal of a proven caller, or counts its repetition; counts one of a stranger (AUD-1).
    async fn record_refusal(&self, verb: Option<Verb>, refused: &Refused, caller: &Caller) {
        let kind = match verb {
            Some(Verb::Login) => Some(Kind::Login),
            Some(Verb::Renew) => Some(Kind::Renew),
            Some(Verb::Issue) => Some(Kind::Issue),
            Some(Verb::Administer) => Some(Kind::Statement),
            Some(Verb::Wipe) => Some(Kind::Wiped),
            _ => None,
        };
        let Some(kind) = kind.filter(|_| refused.proven) else {
            // rule: AUD-1
            return self.strangers.count(caller.address, refused.refusal);
        };
        let act = ActId::random(&mut self.rng());
        let mut entry = Entry::new(act, kind, self.time.latest())
            .refused(refused.refusal)
            .source(caller.address);
        entry = refused
            .subject
            .iter()
            .fold(entry, |entry, subject| entry.subject(subject));
        // While nothing may be appended nothing is listed (TLOG-10).
        if !self.oversight.is_good() || !self.repetitions.first(&entry, refused.refusal) {
            return;
        }
        if let Err(error) = self.audit.append(&entry).await {
            tracing::error!(why = %error.why, "a refusal could not be recorded");
        }
    }

    /// Decides until nothing has changed between gathering and committing: `attempt` gathers and
    /// decides, and gives what it read, what changes and what comes of it.
    pub(crate) async fn settle<T, F>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<(InLog, T), Failed>
    where
        F: Future<Output = Result<(Vec<(String, Option<u64>)>, Changes, T), Failed>>,
    {
        for _ in 0..ATTEMPTS {
            let (seen, changes, outcome) = attempt().await?;
            match self
                .directory
                .commit(seen, &changes, self.time.latest())
                .await
            {
                Ok(Committed::Conflict) => {}
                Ok(Committed::Done) => {
                    self.apply_epochs(&changes);
                    if changes.puts.iter().any(|(key, _)| key == keys::RECOVERY) {
                        // The new shard first: the entries stand in it.
                        self.finish_recovery().await.map_err(Failed::Recorded)?;
                    }
                    if changes.entries.first().map(|entry| entry.kind) != Some(Kind::Statement) {
                        // It stands in the outbox until the log goes on (TLOG-10).
                        self.good().map_err(Failed::Recorded)?;
                    }
                    let logged = self.record(&changes.entries).await?;
                    return Ok((logged, outcome));
                }
                Err(error) => {
                    // It may have been kept all the same.
                    if !changes.epochs.is_empty() {
                        let _ = self.reload_denials().await;
                    }
                    return Err(error.into());
                }
            }
        }
        Err(Refused::stranger(Refusal::Busy, "the records changed again and again").into())
    }

    /// Drains what a commit put into the outbox; the first entry.
    async fn record(&self, entries: &[Entry]) -> Result<InLog, Failed> {
        let logged = self.audit.drain(entries).await.map_err(Failed::Recorded)?;
        logged.ok_or_else(|| Refused::stranger(Refusal::Internal, "an act without an entry").into())
    }

    /// Tells held requests to end, so that a shutdown need not wait for them.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Ends: what was accepted is durable, files are released.
    pub async fn close(&self) {
        self.sweep().await;
        if let Err(error) = self.directory.keep_time(self.time.latest()).await {
            tracing::warn!(why = %error.why, "the time could not be persisted");
        }
        self.submit_no_more();
        self.audit.close().await;
        self.directory.store().close().await;
    }

    /// Whether the log is what was seen of it, and the store answers, for health checks.
    ///
    /// # Errors
    /// Refusals 62 and 65.
    pub async fn healthy(&self) -> Result<(), Refused> {
        self.good()?;
        self.directory
            .store()
            .revision()
            .await
            .map(drop)
            .map_err(unavailable)
    }
}
