//! The feed's subscribers in memory: what each has acknowledged by its signature, when it was heard, and
//! who waits for all of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ticket_format::ids::DatasetId;
use ticket_format::keys::ServerKey;
use ticket_format::limits;
use ticket_format::statement::{Acknowledgement, DatasetRecord, Subscriber};
use tokio::sync::Notify;

/// Epochs of which it is known when they were made.
const MADE: usize = 1_024;
/// Acknowledgements of which it is known, for each subscriber, when they came.
const APPLIED: usize = 32;
/// Who may wait for all subscribers at one time: each is an admin's act.
const WAITERS: usize = 64;
/// The same subscriber off the chain is alarmed again only after this time.
const ALARM_AGAIN: Duration = Duration::from_secs(600);
/// Most datasets that one row names.
const NAMES: usize = 64;

type Key = [u8; 32];

/// All subscribers that a dataset record names (DEN-8). Locked for moments.
#[derive(Default)]
pub(crate) struct Subscribers {
    state: Mutex<State>,
    /// Reports are taken one after the other, so that each act is taken once.
    pub(super) reporting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    named: HashMap<Key, Named>,
    made: VecDeque<(u64, Duration)>,
    waiters: HashMap<u64, Waiter>,
    next: u64,
}

struct Named {
    key: ServerKey,
    datasets: BTreeMap<String, (DatasetId, u64)>,
    last: Option<Last>,
    /// When it acknowledged which epoch, ascending; older ones are dropped.
    applied: VecDeque<(u64, Duration)>,
    silent: bool,
    off_chain: Option<Duration>,
}

struct Last {
    epoch: u64,
    acknowledgement: Acknowledgement,
    heard: Duration,
}

struct Waiter {
    epoch: u64,
    missing: usize,
    tell: Arc<Notify>,
}

/// The wait of one who wants to know when all have applied an epoch. Over when it is dropped.
pub(crate) struct Waiting<'a> {
    subscribers: &'a Subscribers,
    number: u64,
    tell: Arc<Notify>,
}

impl Waiting<'_> {
    /// Until all have.
    pub(crate) async fn all(&self) {
        self.tell.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.subscribers.lock().waiters.remove(&self.number);
    }
}

impl Named {
    fn new(key: ServerKey) -> Self {
        Self {
            key,
            datasets: BTreeMap::new(),
            last: None,
            applied: VecDeque::new(),
            silent: false,
            off_chain: None,
        }
    }

    fn epoch(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.epoch)
    }

    fn lacks(&self, epoch: u64) -> bool {
        self.epoch().is_none_or(|applied| applied < epoch)
    }

    /// Its longest lease: until then the silence of the broker is survived at some dataset.
    fn lease(&self) -> u64 {
        let leases = self.datasets.values().map(|(_, lease)| *lease);
        leases.max().unwrap_or_default()
    }

    /// When it first acknowledged this epoch or a later one; none when that is not known any more.
    fn applied_at(&self, epoch: u64) -> Option<Duration> {
        let at = self
            .applied
            .iter()
            .position(|(number, _)| *number >= epoch)?;
        let dropped_none = self.applied.len() < APPLIED;
        (at > 0 || dropped_none).then(|| self.applied[at].1)
    }
}

impl State {
    fn recount(&mut self) {
        for waiter in self.waiters.values_mut() {
            let lacking = self
                .named
                .values()
                .filter(|named| named.lacks(waiter.epoch));
            waiter.missing = lacking.count();
            waiter.tell_if_done();
        }
    }
}

impl Waiter {
    fn tell_if_done(&self) {
        if self.missing == 0 {
            self.tell.notify_one();
        }
    }
}

impl Subscribers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a dataset's record says now, in place of what it said before.
    pub(crate) fn place(&self, before: Option<&DatasetRecord>, now: &DatasetRecord) {
        let mut state = self.lock();
        if let Some(before) = before {
            let key = before.server_key.to_bytes();
            let left = state.named.get_mut(&key).is_some_and(|named| {
                named.datasets.remove(&before.name);
                named.datasets.is_empty()
            });
            if left && before.server_key != now.server_key {
                state.named.remove(&key);
            }
        }
        let named = state
            .named
            .entry(now.server_key.to_bytes())
            .or_insert_with(|| Named::new(now.server_key));
        named
            .datasets
            .insert(now.name.clone(), (now.dataset, now.lease));
        state.recount();
    }

    /// Whether a dataset record names this key server (DEN-8).
    pub(crate) fn names(&self, key: &ServerKey) -> bool {
        // rule: DEN-8
        self.lock().named.contains_key(&key.to_bytes())
    }

    /// Whether a record that names this key server makes them more than there may be.
    pub(crate) fn is_full_for(&self, key: &ServerKey) -> bool {
        let state = self.lock();
        state.named.len() >= limits::SUBSCRIBERS && !state.named.contains_key(&key.to_bytes())
    }

    /// Whether a record places this dataset at this key server (DEN-11).
    pub(crate) fn holds(&self, key: &ServerKey, dataset: DatasetId) -> bool {
        let state = self.lock();
        let named = state.named.get(&key.to_bytes());
        named.is_some_and(|named| named.datasets.values().any(|(id, _)| *id == dataset))
    }

    /// These epochs were made now.
    pub(crate) fn made(&self, epochs: impl Iterator<Item = u64>, now: Duration) {
        let mut state = self.lock();
        for epoch in epochs {
            state.made.push_back((epoch, now));
            if state.made.len() > MADE {
                state.made.pop_front();
            }
        }
    }

    /// Takes a signed acknowledgement of an epoch of our chain; gives how long each epoch took that it
    /// acknowledges for the first time.
    pub(crate) fn heard(
        &self,
        key: &ServerKey,
        epoch: u64,
        acknowledgement: Acknowledgement,
        now: Duration,
    ) -> Vec<Duration> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(named) = state.named.get_mut(&key.to_bytes()) else {
            return Vec::new();
        };
        let before = named.epoch();
        named.last = Some(Last {
            epoch,
            acknowledgement,
            heard: now,
        });
        named.silent = false;
        named.off_chain = None;
        if before.is_some_and(|before| before > epoch) {
            // An older copy of its store was put in place: it has to apply them again.
            named.applied.clear();
        }
        if before != Some(epoch) {
            named.applied.push_back((epoch, now));
            if named.applied.len() > APPLIED {
                named.applied.pop_front();
            }
            for waiter in state.waiters.values_mut() {
                let lacked = before.is_none_or(|before| before < waiter.epoch);
                match (lacked, epoch < waiter.epoch) {
                    (true, false) => waiter.missing = waiter.missing.saturating_sub(1),
                    (false, true) => waiter.missing = waiter.missing.saturating_add(1),
                    _ => continue,
                }
                waiter.tell_if_done();
            }
        }
        let Some(before) = before.filter(|before| *before < epoch) else {
            return Vec::new();
        };
        let new = state.made.iter().rev();
        let new = new.skip_while(|(made, _)| *made > epoch);
        let new = new.take_while(|(made, _)| *made > before);
        new.map(|(_, made)| now.saturating_sub(*made)).collect()
    }

    /// A subscriber is off our chain: whether somebody is to be told, or was lately.
    pub(crate) fn off_chain(&self, key: &ServerKey, now: Duration) -> bool {
        let mut state = self.lock();
        let Some(named) = state.named.get_mut(&key.to_bytes()) else {
            return false;
        };
        let again = named
            .off_chain
            .is_some_and(|at| now < at.saturating_add(ALARM_AGAIN));
        if !again {
            named.off_chain = Some(now);
        }
        !again
    }

    /// Subscribers that were heard and fell silent for longer than their longest lease, once each until
    /// they are heard again (DEN-12).
    pub(crate) fn fell_silent(&self, now: Duration) -> Vec<ServerKey> {
        // rule: DEN-12
        let mut fell = Vec::new();
        for named in self.lock().named.values_mut().filter(|named| !named.silent) {
            let lease = Duration::from_secs(named.lease());
            let silent = named
                .last
                .as_ref()
                .is_some_and(|last| now.saturating_sub(last.heard) > lease);
            if silent {
                named.silent = true;
                fell.push(named.key);
            }
        }
        fell
    }

    /// How many there are, and how many of them are silent.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        let silent = state.named.values().filter(|named| named.silent).count();
        (state.named.len(), silent)
    }

    /// Key and epoch of each that was heard.
    pub(crate) fn acknowledged(&self) -> Vec<(Key, u64)> {
        let state = self.lock();
        let heard = state.named.iter();
        heard
            .filter_map(|(key, named)| Some((*key, named.epoch()?)))
            .collect()
    }

    /// Waits until all have applied an epoch; none when too many wait.
    pub(crate) fn wait(&self, epoch: u64) -> Option<Waiting<'_>> {
        let mut state = self.lock();
        if state.waiters.len() >= WAITERS {
            return None;
        }
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        let tell = Arc::new(Notify::new());
        let lacking = state.named.values().filter(|named| named.lacks(epoch));
        let waiter = Waiter {
            epoch,
            missing: lacking.count(),
            tell: Arc::clone(&tell),
        };
        waiter.tell_if_done();
        state.waiters.insert(number, waiter);
        Some(Waiting {
            subscribers: self,
            number,
            tell,
        })
    }

    /// A row for each, by key (DEN-10). `began` is when this broker started: who was not heard since may
    /// live on an answer from before.
    pub(crate) fn rows(&self, epoch: u64, began: Duration, now: Duration) -> Vec<Subscriber> {
        let state = self.lock();
        let made = state.made.iter().find(|(made, _)| *made == epoch);
        let made = made.map(|(_, at)| *at);
        let mut rows: Vec<Subscriber> = state
            .named
            .values()
            .map(|named| {
                let heard = named.last.as_ref().map(|last| last.heard);
                let ends = heard
                    .unwrap_or(began)
                    .saturating_add(Duration::from_secs(named.lease()));
                let applied = named.applied_at(epoch).filter(|_| !named.lacks(epoch));
                let took = made.zip(applied).map(|(made, at)| at.saturating_sub(made));
                Subscriber {
                    key: named.key,
                    datasets: named.datasets.keys().take(NAMES).cloned().collect(),
                    lease: named.lease(),
                    last: named.last.as_ref().map(|last| last.acknowledgement.clone()),
                    silent_ms: heard.map(|heard| millis(now.saturating_sub(heard))),
                    lease_ms: Some(millis(ends.saturating_sub(now))),
                    applied_ms: took.map(millis),
                }
            })
            .collect();
        rows.sort_by_key(|row| row.key.to_bytes());
        rows
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::UnwrapErr;
    use std::collections::BTreeMap;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use ticket_format::ids::KekId;
    use ticket_format::keys::{ServerSecret, TlsSecret};
    use ticket_format::seal::{Kem, SealingSecret};
    use ticket_format::sign::{Exporter, Proof};
    use ticket_format::statement::witnessing::Witnessing;
    use ticket_format::tlog::{LogKey, LogSecret};

    fn log_key() -> LogKey {
        let origin = "test/key-server/0123456789abcdef".parse().unwrap();
        let secret = LogSecret::from_seeds(origin, &[1; 32], &[2; 32]).unwrap();
        secret.key().clone()
    }

    const SECOND: fn(u64) -> Duration = Duration::from_secs;

    fn record(name: &str, key: ServerKey, lease: u64) -> DatasetRecord {
        let rng = &mut UnwrapErr(getrandom::SysRng);
        DatasetRecord {
            recipients: Default::default(),
            class: Default::default(),
            dataset: DatasetId::random(rng),
            name: name.to_owned(),
            tags: BTreeMap::new(),
            tls_key: TlsSecret::generate(rng).public(),
            server_key: key,
            addresses: vec!["127.0.0.1:7879".to_owned()],
            kek: KekId::random(rng),
            kek_version: 1,
            public_key: SealingSecret::generate(Kem::XWing, rng).public(),
            producers: Vec::new(),
            kems: vec![Kem::XWing],
            max_budget: 1,
            max_life: 60,
            owners: Vec::new(),
            lease,
            evidence: false,
            follows: DatasetRecord::FIRST,
            log_key: log_key(),
            witnessing: Witnessing::none(),
        }
    }

    fn key() -> ServerKey {
        ServerSecret::generate(&mut UnwrapErr(getrandom::SysRng)).public()
    }

    fn heard(subscribers: &Subscribers, key: &ServerKey, epoch: u64, at: u64) -> Vec<Duration> {
        let acknowledgement = Acknowledgement {
            body: vec![1],
            exporter: Exporter([1; 32]),
            proof: Proof {
                alg: -8,
                value: vec![1],
            },
        };
        subscribers.heard(key, epoch, acknowledgement, SECOND(at))
    }

    fn done(waiting: &Waiting<'_>) -> bool {
        let mut all = pin!(waiting.all());
        let polled = all.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        polled == Poll::Ready(())
    }

    #[test]
    fn a_wait_is_over_when_the_last_one_has_applied_the_epoch() {
        // rule: DEN-10
        let subscribers = Subscribers::default();
        let (one, two) = (key(), key());
        subscribers.place(None, &record("a", one, 5));
        assert!(!done(&subscribers.wait(1).unwrap()));
        heard(&subscribers, &one, 3, 0);
        assert!(done(&subscribers.wait(3).unwrap()), "it was over before");
        subscribers.place(None, &record("b", two, 5));
        let waiting = subscribers.wait(3).unwrap();
        assert!(!done(&waiting));
        // One that went back to an older store has to apply it again.
        heard(&subscribers, &one, 2, 1);
        heard(&subscribers, &two, 3, 1);
        assert!(!done(&waiting));
        heard(&subscribers, &one, 4, 1);
        assert!(done(&waiting));
        // A new one counts from the moment that a record names it, and who is named no more does not.
        let waiting = subscribers.wait(3).unwrap();
        let (three, before) = (key(), record("c", key(), 5));
        subscribers.place(None, &before);
        assert!(done(&waiting), "told before the record came");
        assert!(!done(&waiting));
        subscribers.place(Some(&before), &record("c", three, 5));
        assert!(!subscribers.names(&before.server_key) && subscribers.names(&three));
        heard(&subscribers, &three, 3, 2);
        assert!(done(&waiting));
    }

    #[test]
    fn those_who_wait_are_bounded() {
        let subscribers = Subscribers::default();
        subscribers.place(None, &record("a", key(), 5));
        let mut waiting: Vec<_> = (0..WAITERS).map(|_| subscribers.wait(1).unwrap()).collect();
        assert!(subscribers.wait(1).is_none());
        waiting.pop();
        assert!(subscribers.wait(1).is_some());
    }

    #[test]
    fn the_longest_lease_of_its_datasets_is_a_subscribers_own() {
        // rule: DEN-12
        let subscribers = Subscribers::default();
        let one = key();
        let short = record("a", one, 1);
        subscribers.place(None, &short);
        subscribers.place(None, &record("b", one, 30));
        heard(&subscribers, &one, 0, 0);
        assert!(subscribers.fell_silent(SECOND(30)).is_empty());
        assert_eq!(subscribers.fell_silent(SECOND(31)), [one]);
        assert_eq!(subscribers.counts(), (1, 1));
        let rows = subscribers.rows(0, SECOND(0), SECOND(31));
        assert_eq!((rows[0].lease, rows[0].lease_ms), (30, Some(0)));
        assert_eq!(rows[0].datasets, ["a", "b"]);
        assert!(subscribers.holds(&one, short.dataset));
        // The longer one moves to another key server.
        heard(&subscribers, &one, 0, 40);
        let moved = record("b", key(), 30);
        subscribers.place(Some(&record("b", one, 30)), &moved);
        assert_eq!(subscribers.fell_silent(SECOND(42)), [one]);
        assert!(!subscribers.holds(&one, moved.dataset));
    }

    #[test]
    fn an_epoch_is_timed_once_for_each_subscriber() {
        // rule: DEN-10
        let subscribers = Subscribers::default();
        let one = key();
        subscribers.place(None, &record("a", one, 5));
        subscribers.made(1..=1, SECOND(10));
        assert!(heard(&subscribers, &one, 0, 11).is_empty());
        subscribers.made(2..=2, SECOND(12));
        let took = heard(&subscribers, &one, 2, 13);
        assert_eq!(took, [SECOND(1), SECOND(3)]);
        assert!(heard(&subscribers, &one, 2, 14).is_empty());
        let applied = |epoch| subscribers.rows(epoch, SECOND(0), SECOND(20))[0].applied_ms;
        assert_eq!((applied(1), applied(2)), (Some(3_000), Some(1_000)));
        assert_eq!((applied(3), applied(9)), (None, None));
        // What it was first heard with may have been applied long before.
        let late = key();
        subscribers.place(None, &record("b", late, 5));
        assert!(heard(&subscribers, &late, 2, 15).is_empty());
    }
}
