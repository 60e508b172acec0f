//! Who asks for the same wrap at the same time waits for one redemption; different wraps that are asked
//! for within a short time travel in one request (AGT-8).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ticket_format::cbor::Encode as _;
use ticket_format::ids::ItemDigest;
use ticket_format::messages::batch::item_digest;
use ticket_format::secret::Dek;
use ticket_format::{Context, Refusal, limits};
use tokio::sync::oneshot;

use super::cache::Hit;
use crate::error::Error;
use crate::keys::KeyError;

/// Most bytes of wraps and contexts in one request: its message has room for its proof beside them.
const BYTES: usize = limits::MESSAGE / 2;

/// One wrap that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The wrapped DEK.
    pub(super) wrapped: Vec<u8>,
    /// Its encryption context.
    pub(super) context: Context,
    /// What names it.
    pub(super) digest: ItemDigest,
    bytes: usize,
}

impl Item {
    /// Names it.
    #[must_use]
    pub(super) fn new(wrapped: &[u8], context: &Context) -> Self {
        let raw = context.to_cbor();
        Self {
            wrapped: wrapped.to_vec(),
            context: context.clone(),
            digest: item_digest(wrapped, &raw),
            bytes: wrapped.len() + raw.len(),
        }
    }
}

/// Why a DEK is not there, for all who waited for it.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The key server refused this item.
    Refused(Refusal),
    /// Nobody signed the wrap (ORG-1).
    Unsigned,
    /// The exchange as a whole failed.
    Exchange(Arc<Error>),
}

impl From<Failure> for KeyError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Unsigned => Self::Unsigned,
            Failure::Exchange(error) => Self::Exchange(Error::Shared(error)),
        }
    }
}

/// What one item came to.
pub(super) type Outcome = Result<Arc<Dek>, Failure>;

/// What is asked for and has no answer yet.
#[derive(Debug, Default)]
pub(super) struct Gather {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Who waits for each; also of those that have been sent.
    waiting: HashMap<ItemDigest, Vec<oneshot::Sender<Outcome>>>,
    /// What has not been sent yet.
    open: Vec<Item>,
    bytes: usize,
    /// Counts requests: a window's end sends only what was gathered in it.
    request: u64,
}

/// What the one who asked has to do.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// To be sent now.
    pub(super) send: Vec<Item>,
    /// A window that has begun: what is gathered in it is to be sent when it is over.
    pub(super) window: Option<u64>,
}

/// What came of asking.
#[derive(Debug)]
pub(super) enum Asked {
    /// It is kept.
    Kept(Arc<Dek>),
    /// It will come.
    Comes(oneshot::Receiver<Outcome>),
}

impl Gather {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an item: what is `kept` is taken, what is on its way is waited for, and only then it is
    /// gathered for a request. One that is kept and ripe is gathered as well.
    pub(super) fn ask(&self, item: Item, kept: impl FnOnce() -> Option<Hit>) -> (Asked, Step) {
        let mut inner = self.inner();
        // Under the lock: what was kept before its waiters were let go is found.
        let hit = kept();
        let on_its_way = inner.waiting.get_mut(&item.digest);
        match (hit, on_its_way) {
            (Some(hit), way) => {
                let step = match way {
                    None if hit.ripe => {
                        inner.waiting.insert(item.digest, Vec::new());
                        inner.gather(item)
                    }
                    _ => Step::default(),
                };
                (Asked::Kept(hit.dek), step)
            }
            // rule: AGT-8
            (None, Some(waiting)) => {
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                (Asked::Comes(receiver), Step::default())
            }
            (None, None) => {
                let (sender, receiver) = oneshot::channel();
                inner.waiting.insert(item.digest, vec![sender]);
                let step = inner.gather(item);
                (Asked::Comes(receiver), step)
            }
        }
    }

    /// What was gathered in a window that is over; nothing where it was sent already.
    #[must_use]
    pub(super) fn take(&self, window: u64) -> Vec<Item> {
        let mut inner = self.inner();
        if inner.request == window {
            inner.take()
        } else {
            Vec::new()
        }
    }

    /// Gives an outcome to all who wait for it.
    pub(super) fn give(&self, digest: &ItemDigest, outcome: &Outcome) {
        let waiting = self.inner().waiting.remove(digest);
        for sender in waiting.into_iter().flatten() {
            // One who waits no more has gone.
            let _ = sender.send(outcome.clone());
        }
    }

    /// Lets those go who still wait for one of these, without an outcome.
    pub(super) fn drop_some<'a>(&self, digests: impl Iterator<Item = &'a ItemDigest>) {
        let mut inner = self.inner();
        for digest in digests {
            inner.waiting.remove(digest);
        }
    }

    /// Lets all go, without an outcome.
    pub(super) fn drop_all(&self) {
        let mut inner = self.inner();
        inner.take();
        inner.waiting.clear();
    }
}

impl Inner {
    fn gather(&mut self, item: Item) -> Step {
        let mut step = Step::default();
        if self.bytes + item.bytes > BYTES {
            step.send = self.take();
        }
        self.bytes += item.bytes;
        self.open.push(item);
        // rule: AGT-8
        if self.open.len() == limits::ITEMS {
            step.send = self.take();
        } else if self.open.len() == 1 {
            step.window = Some(self.request);
        }
        step
    }

    fn take(&mut self) -> Vec<Item> {
        self.request += 1;
        self.bytes = 0;
        std::mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: usize) -> Item {
        let context = Context::named(&format!("object-{number}")).unwrap();
        Item::new(&[7; 120], &context)
    }

    fn comes(asked: Asked) -> oneshot::Receiver<Outcome> {
        match asked {
            Asked::Comes(receiver) => receiver,
            Asked::Kept(_) => panic!("nothing is kept"),
        }
    }

    #[test]
    fn who_asks_for_the_same_waits_for_one() {
        // rule: AGT-8
        let gather = Gather::default();
        let (first, step) = gather.ask(item(1), || None);
        let window = step.window.expect("a window begins");
        let (second, step) = gather.ask(item(1), || None);
        assert!(step.send.is_empty() && step.window.is_none());
        let sent = gather.take(window);
        assert_eq!(sent.len(), 1);
        let (third, step) = gather.ask(item(1), || None);
        assert!(step.send.is_empty() && step.window.is_none(), "it is sent");
        gather.give(&sent[0].digest, &Err(Failure::Refused(Refusal::Policy)));
        for asked in [first, second, third] {
            let outcome = comes(asked).try_recv().expect("an outcome");
            assert!(matches!(outcome, Err(Failure::Refused(Refusal::Policy))));
        }
        let (_, step) = gather.ask(item(1), || None);
        assert!(step.window.is_some(), "afterwards it is asked for again");
    }

    #[test]
    fn another_context_is_another_item() {
        // rule: AGT-8
        let gather = Gather::default();
        let (_, step) = gather.ask(item(1), || None);
        let _ = gather.ask(item(2), || None);
        assert_eq!(gather.take(step.window.unwrap()).len(), 2);
    }

    #[test]
    fn a_thousand_are_one_request_and_a_window_sends_only_its_own() {
        // rule: AGT-8
        let gather = Gather::default();
        let mut windows = Vec::new();
        let mut sent = Vec::new();
        for number in 0..2_500 {
            let (_, step) = gather.ask(item(number), || None);
            windows.extend(step.window);
            if !step.send.is_empty() {
                sent.push(step.send.len());
            }
        }
        assert_eq!(sent, [1_000, 1_000]);
        let late: Vec<usize> = windows.iter().map(|of| gather.take(*of).len()).collect();
        assert_eq!(late, [0, 0, 500]);
    }

    #[test]
    fn a_request_fits_into_a_message() {
        // rule: AGT-8
        let gather = Gather::default();
        let big = |number: usize| {
            let pair = |at: usize| (format!("pair-{at}"), format!("{number:>1024}"));
            let pairs = (0..limits::PAIRS).map(pair).collect();
            Item::new(&[7; limits::WRAPPED], &Context::new(pairs).unwrap())
        };
        let mut windows = Vec::new();
        let mut sent = Vec::new();
        for number in 0..limits::ITEMS {
            let (_, step) = gather.ask(big(number), || None);
            windows.extend(step.window);
            sent.extend((!step.send.is_empty()).then_some(step.send));
        }
        sent.extend(windows.iter().map(|of| gather.take(*of)));
        let bytes = |items: &Vec<Item>| items.iter().map(|item| item.bytes).sum::<usize>();
        assert!(sent.iter().all(|items| bytes(items) <= BYTES));
        assert_eq!(sent.iter().map(Vec::len).sum::<usize>(), limits::ITEMS);
    }

    #[test]
    fn what_is_kept_is_not_asked_for_and_what_is_ripe_is_asked_for_once() {
        // rule: AGT-7
        let gather = Gather::default();
        let kept = |ripe| {
            let dek = Arc::new(Dek::from_bytes([1; 32]));
            move || Some(Hit { dek, ripe })
        };
        let (asked, step) = gather.ask(item(1), kept(false));
        assert!(matches!(asked, Asked::Kept(_)) && step.window.is_none());
        let (asked, step) = gather.ask(item(1), kept(true));
        assert!(matches!(asked, Asked::Kept(_)));
        let window = step.window.expect("it is asked for");
        let (_, step) = gather.ask(item(1), kept(true));
        assert!(step.window.is_none(), "it is on its way");
        assert_eq!(gather.take(window).len(), 1);
    }

    #[test]
    fn who_is_let_go_hears_of_it() {
        // rule: AGT-6
        let gather = Gather::default();
        let (asked, step) = gather.ask(item(1), || None);
        gather.drop_all();
        assert!(comes(asked).try_recv().is_err());
        assert!(gather.take(step.window.unwrap()).is_empty());
    }
}
