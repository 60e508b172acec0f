//! The denials in memory: looked up before every answer, handed to subscribers, and waited for.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ticket_format::denial::{Denial, DenialSet, TicketFacts};
use ticket_format::time::Timestamp;
use tokio::sync::watch;

use crate::feed::Chain;
use crate::state::{FeedHead, StoredDenial};

struct State {
    head: FeedHead,
    /// What the feed tells: until no ticket is left that it could hit.
    current: BTreeMap<u64, StoredDenial>,
    /// What is kept for good.
    lasting: BTreeMap<u64, StoredDenial>,
    set: DenialSet,
}

/// All denials that count. Locked for moments, never over I/O.
pub(crate) struct Denials {
    state: RwLock<State>,
    epoch: watch::Sender<u64>,
}

impl State {
    fn new(head: FeedHead, current: Vec<StoredDenial>, lasting: Vec<StoredDenial>) -> Self {
        let mut state = Self {
            head,
            current: BTreeMap::new(),
            lasting: BTreeMap::new(),
            set: DenialSet::new(),
        };
        lasting
            .into_iter()
            .chain(current.iter().cloned())
            .for_each(|denial| state.enter(&denial));
        state.current = current
            .into_iter()
            .map(|denial| (denial.epoch, denial))
            .collect();
        state
    }

    fn add(&mut self, denial: StoredDenial) {
        self.enter(&denial);
        self.current.insert(denial.epoch, denial);
    }

    /// Commits may be heard of out of order; the head moves over what is whole.
    fn advance(&mut self) {
        while let Some(next) = self
            .current
            .get(&self.head.epoch.saturating_add(1))
            .map(StoredDenial::head)
        {
            self.head = next;
        }
    }

    fn enter(&mut self, stored: &StoredDenial) {
        let mut denial = stored.denial.clone();
        if stored.lasts() {
            // rule: DEN-7
            denial = Denial {
                forget: Timestamp::from_seconds(u64::MAX),
                ..denial
            };
            self.lasting.insert(stored.epoch, stored.clone());
        }
        // Four thousand million denials would not have fitted in memory.
        let _ = self.set.insert(&denial, stored.epoch);
    }
}

impl Denials {
    pub(crate) fn new(
        head: FeedHead,
        current: Vec<StoredDenial>,
        lasting: Vec<StoredDenial>,
    ) -> Self {
        Self {
            state: RwLock::new(State::new(head, current, lasting)),
            epoch: watch::Sender::new(head.epoch),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what the store held in place of everything up to its head. Denials above it that were heard of
    /// since stay: nobody tells of them again.
    pub(crate) fn reload(
        &self,
        head: FeedHead,
        current: Vec<StoredDenial>,
        lasting: Vec<StoredDenial>,
    ) {
        let mut state = self.write();
        if head.epoch >= state.head.epoch {
            let newer = state.current.split_off(&head.epoch.saturating_add(1));
            *state = State::new(head, current, lasting);
            for denial in newer.into_values() {
                state.add(denial);
            }
            state.advance();
        }
        drop(state);
        self.wake();
    }

    /// Applies denials that are durable now, and wakes who waits.
    pub(crate) fn apply(&self, denials: &[StoredDenial]) {
        if denials.is_empty() {
            return;
        }
        let mut state = self.write();
        for denial in denials {
            state.add(denial.clone());
        }
        state.advance();
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        let epoch = self.read().head.epoch;
        self.epoch
            .send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    /// Tells of new epochs.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// The reason of a denial that hits these facts.
    pub(crate) fn check(&self, facts: &TicketFacts<'_>) -> Option<String> {
        let state = self.read();
        let hit = state.set.check(facts)?;
        let stored = state
            .lasting
            .get(&hit.epoch)
            .or_else(|| state.current.get(&hit.epoch));
        Some(stored.map_or_else(String::new, |stored| stored.denial.reason.clone()))
    }

    /// Forgets what can hit no ticket any more; gives the epochs that may leave the store.
    pub(crate) fn prune(&self, now: Timestamp) -> Vec<u64> {
        // rule: DEN-7
        let mut state = self.write();
        let over: Vec<u64> = state
            .current
            .values()
            .take_while(|stored| stored.denial.forget <= now)
            .map(|stored| stored.epoch)
            .collect();
        if let Some(last) = over.last() {
            state.current = state.current.split_off(&last.saturating_add(1));
            state.set.prune(now);
        }
        over
    }

    /// Denials in force after an epoch, and whether there are more.
    pub(crate) fn list(&self, after: u64, most: usize) -> (Vec<StoredDenial>, bool) {
        let state = self.read();
        let from = after.saturating_add(1);
        let mut all: BTreeMap<u64, &StoredDenial> = state
            .lasting
            .range(from..)
            .map(|(epoch, stored)| (*epoch, stored))
            .collect();
        all.extend(
            state
                .current
                .range(from..)
                .map(|(epoch, stored)| (*epoch, stored)),
        );
        let more = all.len() > most;
        (all.into_values().take(most).cloned().collect(), more)
    }

    /// How many are in force.
    pub(crate) fn count(&self) -> usize {
        self.read().set.len()
    }
}

impl Chain for Denials {
    fn head(&self) -> FeedHead {
        self.read().head
    }

    fn after(&self, epoch: u64, most: usize) -> Vec<StoredDenial> {
        let state = self.read();
        // What is above the head is not whole yet.
        let to = state.head.epoch;
        if epoch >= to {
            return Vec::new();
        }
        state
            .current
            .range(epoch.saturating_add(1)..=to)
            .map(|(_, stored)| stored.clone())
            .take(most)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::denial::Selector;
    use ticket_format::ids::{StatementDigest, TicketId};
    use ticket_format::limits;

    fn made(count: u64) -> Vec<StoredDenial> {
        let mut head = FeedHead::START;
        let one = |number: u64| {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&number.to_be_bytes());
            let selector = Selector::ticket(TicketId(id));
            let denial = Denial::new(
                selector,
                String::new(),
                StatementDigest([0; 32]),
                Timestamp::from_seconds(1),
            );
            let stored = StoredDenial::after(head, denial);
            head = stored.head();
            stored
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn what_one_answer_does_not_take_comes_in_the_next() {
        // rule: DEN-3
        let all = made(limits::DENIALS as u64 + 1);
        let denials = Denials::new(all.last().unwrap().head(), all.clone(), Vec::new());
        let first = denials.after(0, limits::DENIALS);
        assert_eq!(first, all[..limits::DENIALS]);
        assert_eq!(
            denials.after(limits::DENIALS as u64, limits::DENIALS),
            all[limits::DENIALS..]
        );
    }

    #[test]
    fn denials_that_are_heard_of_out_of_order_are_told_in_order() {
        // rule: DEN-1
        let all = made(3);
        let denials = Denials::new(FeedHead::START, Vec::new(), Vec::new());
        denials.apply(&all[1..2]);
        assert_eq!(
            (denials.head(), denials.after(0, 10).len()),
            (FeedHead::START, 0)
        );
        denials.apply(&all[..1]);
        assert_eq!(
            (denials.head(), denials.after(0, 10).len()),
            (all[1].head(), 2)
        );
        // An older reading of the store takes nothing back.
        denials.reload(all[0].head(), all[..1].to_vec(), Vec::new());
        denials.apply(&all[2..]);
        assert_eq!(denials.head(), all[2].head());
        assert_eq!(*denials.news().borrow(), 3);
    }

    #[test]
    fn a_reading_of_the_store_loses_no_denial_that_was_heard_of_since() {
        // rule: DEN-1
        let all = made(3);
        let denials = Denials::new(FeedHead::START, Vec::new(), Vec::new());
        // The third is heard of while a store is read that has two.
        denials.apply(&all[2..]);
        denials.reload(all[1].head(), all[..2].to_vec(), Vec::new());
        assert_eq!((denials.head(), denials.count()), (all[2].head(), 3));
        assert_eq!(denials.after(0, 10), all);
    }
}
