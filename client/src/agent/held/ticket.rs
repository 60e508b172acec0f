//! One dataset ticket of one job, in use: what is asked for by it, and how it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ticket_format::ids::{ItemDigest, TicketHash};
use ticket_format::messages::RefusalNotice;
use ticket_format::secret::Dek;
use ticket_format::statement::ReceivedStatement;
use ticket_format::time::Timestamp;
use ticket_format::wrapped::Wrapped;
use ticket_format::{Context, Refusal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::batch::{Asked, Failure, Gather, Item, Outcome, Step};
use super::node::Issued;
use crate::error::Error;
use crate::issue::Opened;
use crate::keys::{DatasetKeys, KeyError};
use crate::watch::Watched;

/// Longest time to end a connection in.
const CLOSE: Duration = Duration::from_secs(5);
/// Redeem requests of one ticket that are under way together.
const REQUESTS: usize = 2;
/// Session keys of one ticket: its proof key and its sealing key.
const SESSION_KEYS: u64 = 2;

/// A dataset ticket of one job.
#[derive(Debug)]
pub(super) struct JobTicket {
    bytes: Vec<u8>,
    opened: Opened,
    created: Timestamp,
    /// With the session keys; none once they are erased.
    keys: Mutex<Option<Arc<DatasetKeys>>>,
    gather: Gather,
    /// Every exchange under way: a denial ends them, and with them the last copies of the session keys.
    flights: Mutex<JoinSet<()>>,
    /// For redeem requests: what is asked for while so many are under way goes into the next.
    permits: Semaphore,
    /// A denial of the node begins another one.
    generation: u64,
    gone: AtomicBool,
    used: AtomicBool,
    erased: AtomicU64,
    /// Held while it is erased.
    ending: tokio::sync::Mutex<()>,
    shared: Arc<Shared>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is answered by a ticket that was denied.
pub(super) fn denied(server: &'static str) -> Error {
    refused(server, Refusal::Denied)
}

/// A server's refusal, said again.
pub(super) fn refused(server: &'static str, refusal: Refusal) -> Error {
    Error::Refused {
        server,
        notice: RefusalNotice::bare(refusal),
    }
}

impl JobTicket {
    /// Takes a checked session into use; from now on what comes by it is kept.
    pub(super) fn new(shared: &Arc<Shared>, issued: Issued) -> Self {
        let Issued {
            session,
            opened,
            generation,
        } = issued;
        shared.cache.open(opened.hash);
        let statement = ReceivedStatement::parse(&session.record);
        let created = statement.map_or(opened.claims.common.issued, |statement| {
            statement.payload().not_before
        });
        let (logs, patience) = (shared.node.logs().clone(), shared.options.patience);
        Self {
            bytes: session.ticket.clone(),
            created,
            keys: Mutex::new(Some(Arc::new(DatasetKeys::new(
                session,
                opened.clone(),
                logs,
                patience,
            )))),
            opened,
            gather: Gather::default(),
            flights: Mutex::default(),
            permits: Semaphore::new(REQUESTS),
            generation,
            gone: AtomicBool::new(false),
            used: AtomicBool::new(false),
            erased: AtomicU64::new(0),
            ending: tokio::sync::Mutex::default(),
            shared: Arc::clone(shared),
        }
    }

    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    pub(super) fn hash(&self) -> TicketHash {
        self.opened.hash
    }

    pub(super) fn created(&self) -> Timestamp {
        self.created
    }

    pub(super) fn issued(&self) -> Timestamp {
        self.opened.claims.common.issued
    }

    pub(super) fn expires(&self) -> Timestamp {
        self.opened.claims.common.expires
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is(&self, ticket: &[u8]) -> bool {
        self.bytes == ticket
    }

    /// Whether it may be used now.
    pub(super) fn is_live(&self) -> bool {
        !self.is_gone() && self.shared.clock().now() < self.expires()
    }

    /// Whether it was denied.
    pub(super) fn is_gone(&self) -> bool {
        // rule: AGT-6
        self.gone.load(Ordering::Acquire) || self.generation != self.shared.node.generation()
    }

    /// Whether anybody has asked for anything by it.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// How many data keys came by it.
    pub(super) fn released(&self) -> u64 {
        locked(&self.keys)
            .as_ref()
            .map_or(0, |keys| keys.released())
    }

    /// Erased keys, once it was denied.
    pub(super) fn erased(&self) -> u64 {
        self.erased.load(Ordering::Acquire)
    }

    /// As it can be watched.
    pub(super) fn watched(&self) -> Option<Watched> {
        locked(&self.keys).as_ref().map(|keys| keys.watched())
    }

    fn keys(&self) -> Result<Arc<DatasetKeys>, Error> {
        // rule: AGT-6
        if self.is_gone() {
            return Err(denied("key server"));
        }
        let keys = locked(&self.keys).clone();
        keys.ok_or(Error::NoTicket("the dataset ticket has expired"))
    }

    /// Runs an exchange such that a denial ends it.
    pub(super) async fn run<T, F>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<DatasetKeys>) -> F,
    ) -> Result<T, KeyError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, KeyError>> + Send + 'static,
    {
        self.used.store(true, Ordering::Relaxed);
        let work = work(self.keys()?);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let ticket = Arc::clone(self);
        self.spawn(async move {
            let answer = work.await;
            if let Err(error) = &answer {
                ticket.heard(error_refusal(error));
            }
            let _ = sender.send(answer);
        });
        let answer = receiver.await.unwrap_or_else(|_| Err(self.ended().into()));
        // rule: AGT-6
        if self.is_gone() {
            return Err(denied("key server").into());
        }
        answer
    }

    /// Opens a wrapped DEK: from the cache, with who asks for the same, or with others in one request.
    pub(super) async fn open(
        self: &Arc<Self>,
        wrapped: &[u8],
        context: &Context,
    ) -> Result<Arc<Dek>, KeyError> {
        self.used.store(true, Ordering::Relaxed);
        // One that is none would have the whole request refused.
        Wrapped::parse(wrapped)?;
        let item = Item::new(wrapped, context);
        let key = (self.hash(), item.digest);
        // Connects at most once for all who wait; and refuses where the keys are erased.
        let keys = self.keys()?;
        let cache = &self.shared.cache;
        let (asked, step) = self.gather.ask(item, || cache.get(&key, Instant::now()));
        self.follow(step, &keys);
        drop(keys);
        let dek = match asked {
            Asked::Kept(dek) => Ok(dek),
            Asked::Comes(receiver) => match receiver.await {
                Ok(outcome) => outcome.map_err(KeyError::from),
                Err(_) => Err(self.ended().into()),
            },
        };
        // rule: AGT-6
        if self.is_gone() {
            return Err(denied("key server").into());
        }
        dek
    }

    /// Why an exchange ended without an answer.
    fn ended(&self) -> Error {
        if self.is_gone() {
            return denied("key server");
        }
        Error::NoTicket("the agent has ended the exchange; ask again")
    }

    /// With the keys of when it was asked: another ticket may take this one's place while it is gathered.
    fn follow(self: &Arc<Self>, step: Step, keys: &Arc<DatasetKeys>) {
        if !step.send.is_empty() {
            let (ticket, keys) = (Arc::clone(self), Arc::clone(keys));
            self.spawn(async move {
                let _permit = ticket.permits.acquire().await;
                ticket.send(step.send, &keys).await;
            });
        }
        if let Some(window) = step.window {
            let (ticket, keys) = (Arc::clone(self), Arc::clone(keys));
            self.spawn(async move {
                // rule: AGT-8
                tokio::time::sleep(ticket.shared.options.batch_window).await;
                let _permit = ticket.permits.acquire().await;
                let items = ticket.gather.take(window);
                if !items.is_empty() {
                    ticket.send(items, &keys).await;
                }
            });
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut flights = locked(&self.flights);
        while flights.try_join_next().is_some() {}
        // A denial takes the flights once: none begins after it.
        if !self.is_gone() {
            flights.spawn(work);
        }
    }

    async fn send(&self, items: Vec<Item>, keys: &DatasetKeys) {
        let mut guard = Sent {
            gather: &self.gather,
            digests: items.iter().rev().map(|item| item.digest).collect(),
        };
        let asked: Vec<(&[u8], &Context)> = items
            .iter()
            .map(|item| (&item.wrapped[..], &item.context))
            .collect();
        // rule: AGT-6
        if self.is_gone() {
            return;
        }
        self.shared.cache.asks();
        match keys.redeem(&asked).await {
            Ok(answers) => {
                let left = self.expires().since(self.shared.clock().now());
                let left = Duration::from_secs(left);
                for (item, answer) in items.iter().zip(answers) {
                    let outcome = answer.map_err(|error| {
                        self.heard(error_refusal(&error));
                        failure(error)
                    });
                    let outcome: Outcome = outcome.map(|released| {
                        let key = (self.hash(), item.digest);
                        let cache = &self.shared.cache;
                        cache.put(key, &released.dek, left, Instant::now());
                        Arc::new(released.dek)
                    });
                    self.gather.give(&item.digest, &outcome);
                    guard.given();
                }
            }
            Err(error) => {
                self.heard(error.refusal());
                let failure = Failure::Exchange(Arc::new(error));
                for item in &items {
                    self.gather.give(&item.digest, &Err(failure.clone()));
                    guard.given();
                }
            }
        }
        drop(guard);
    }

    /// A denial may be heard of in an answer before the watch hears of it.
    fn heard(&self, refusal: Option<Refusal>) {
        // rule: AGT-6
        if refusal == Some(Refusal::Denied) {
            self.condemn();
        }
    }

    /// From now on nothing is answered by it, and no DEK of it is kept.
    fn condemn(&self) {
        // rule: AGT-6
        self.gone.store(true, Ordering::Release);
        let deks = self.shared.cache.wipe(self.hash()) as u64;
        self.erased.fetch_add(deks, Ordering::AcqRel);
    }

    /// It was denied: erases the DEKs that came by it and its session keys.
    pub(super) async fn erase(&self) {
        self.condemn();
        // Who says how many were erased says so when they are, also where another one erases them.
        let _ending = self.ending.lock().await;
        let mut flights = std::mem::take(&mut *locked(&self.flights));
        flights.shutdown().await;
        self.gather.drop_all();
        if self.close().await {
            self.erased.fetch_add(SESSION_KEYS, Ordering::AcqRel);
        }
    }

    /// Its life is over, or another one has taken its place: erases its session keys as soon as what is under
    /// way has come, and its DEKs now.
    pub(super) async fn retire(&self) {
        // rule: AGT-7
        self.shared.cache.wipe(self.hash());
        self.close().await;
    }

    /// Erases the session keys; true if they were there.
    async fn close(&self) -> bool {
        let keys = locked(&self.keys).take();
        let there = keys.is_some();
        // Where a flight has them still, they go with it.
        if let Some(keys) = keys.and_then(Arc::into_inner) {
            match tokio::time::timeout(CLOSE, keys.close()).await {
                Ok(Err(error)) => tracing::warn!(%error, "the key server's log"),
                Ok(Ok(())) => {}
                Err(_) => tracing::info!("the key server does not end the connection"),
            }
        }
        there
    }
}

/// Lets go of those who wait for what was sent, where no answer was given.
struct Sent<'a> {
    gather: &'a Gather,
    /// The last first.
    digests: Vec<ItemDigest>,
}

impl Sent<'_> {
    /// The next one has its answer: who asks for it from now on waits for another request.
    fn given(&mut self) {
        self.digests.pop();
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.gather.drop_some(self.digests.iter());
    }
}

fn failure(error: KeyError) -> Failure {
    match error {
        KeyError::Refused(refusal) => Failure::Refused(refusal),
        KeyError::Unsigned => Failure::Unsigned,
        KeyError::Exchange(error) => Failure::Exchange(Arc::new(error)),
        _ => Failure::Refused(Refusal::WrapMalformed),
    }
}

fn error_refusal(error: &KeyError) -> Option<Refusal> {
    match error {
        KeyError::Refused(refusal) => Some(*refusal),
        KeyError::Exchange(error) => error.refusal(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    #[test]
    fn who_asks_after_the_answer_is_not_let_go_with_the_request_before() {
        // rule: AGT-8
        let gather = Gather::default();
        let item = |name: &str| Item::new(&[7; 120], &Context::named(name).unwrap());
        let (_, step) = gather.ask(item("a"), || None);
        let _ = gather.ask(item("b"), || None);
        let sent = gather.take(step.window.unwrap());
        let mut guard = Sent {
            gather: &gather,
            digests: sent.iter().rev().map(|item| item.digest).collect(),
        };
        let no: Outcome = Err(Failure::Refused(Refusal::Policy));
        gather.give(&sent[0].digest, &no);
        guard.given();
        // The request has not ended yet.
        let (Asked::Comes(mut again), _) = gather.ask(item("a"), || None) else {
            panic!("nothing is kept")
        };
        let (Asked::Comes(mut other), _) = gather.ask(item("b"), || None) else {
            panic!("nothing is kept")
        };
        drop(guard);
        assert!(matches!(again.try_recv(), Err(TryRecvError::Empty)));
        assert!(matches!(other.try_recv(), Err(TryRecvError::Closed)));
    }
}
