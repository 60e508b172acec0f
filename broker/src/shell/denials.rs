//! The denials in memory: looked up before every answer, handed to subscribers, and waited for. What was
//! said long ago is read from the store: memory holds what a look-up needs, and the newest epochs.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ticket_format::cbor::Decode;
use ticket_format::denial::{DenialSet, TicketFacts};
use ticket_format::ids::ChainDigest;
use ticket_format::limits;
use ticket_format::time::Timestamp;
use tokio::sync::watch;

use super::directory::Directory;
use crate::Refused;
use crate::feed::Chain;
use crate::state::{FeedHead, Happened, StoredEpoch, keys};
use ticket_format::Refusal;

/// Epochs that are kept in memory whole: subscribers that follow ask for no others.
const NEWEST: usize = 2_048;

#[derive(Default)]
struct State {
    /// The newest epochs up to the head, without a gap.
    newest: VecDeque<Arc<StoredEpoch>>,
    /// What was heard of before the epochs that it follows.
    early: BTreeMap<u64, Arc<StoredEpoch>>,
    /// The reason of each denial in force. Most share theirs with many others.
    reasons: BTreeMap<u64, Arc<str>>,
    told: HashSet<Arc<str>>,
    /// When which denial may be forgotten, and its epoch.
    due: BTreeSet<(Timestamp, u64)>,
    set: DenialSet,
}

/// All denials that count. Locked for moments, never over I/O.
pub(crate) struct Denials {
    state: RwLock<(FeedHead, State)>,
    epoch: watch::Sender<u64>,
}

impl State {
    /// A denial counts from the moment that it is heard of.
    fn enter(&mut self, epoch: &StoredEpoch) {
        let Happened::Denied { denial, lifted, .. } = &epoch.happened else {
            return;
        };
        if denial.forget < Timestamp::LAST {
            self.due.insert((denial.forget, epoch.number));
        }
        if lifted.is_none() {
            let reason = match self.told.get(denial.reason.as_str()) {
                Some(known) => Arc::clone(known),
                None => {
                    let reason: Arc<str> = Arc::from(denial.reason.as_str());
                    self.told.insert(Arc::clone(&reason));
                    reason
                }
            };
            self.reasons.insert(epoch.number, reason);
            // Four thousand million denials would not have fitted in memory.
            let _ = self.set.insert(denial, epoch.number);
        }
    }

    /// The epoch is the head now. What it lifts is lifted, since all before it are known.
    fn reach(&mut self, epoch: Arc<StoredEpoch>) {
        if let Happened::Lifted { epochs, .. } = &epoch.happened {
            // rule: DEN-9
            self.set.lift(epochs);
            for lifted in epochs {
                self.reasons.remove(lifted);
            }
        }
        self.newest.push_back(epoch);
        if self.newest.len() > NEWEST {
            self.newest.pop_front();
        }
    }

    /// The newest epochs after this one; none when memory does not hold all of them.
    fn after(&self, epoch: u64) -> Option<impl Iterator<Item = &Arc<StoredEpoch>>> {
        let first = self.newest.front()?.number;
        let skip = usize::try_from(epoch.saturating_add(1).checked_sub(first)?).ok()?;
        Some(self.newest.iter().skip(skip))
    }
}

impl Denials {
    fn empty() -> Self {
        Self {
            state: RwLock::new((FeedHead::START, State::default())),
            epoch: watch::Sender::new(0),
        }
    }

    /// Walks the whole chain as the store holds it.
    ///
    /// # Errors
    /// Refusal 65 or 5: a chain that does not join.
    pub(crate) async fn load(directory: &Directory) -> Result<Self, Refused> {
        let denials = Self::empty();
        denials.catch_up(directory).await?;
        Ok(denials)
    }

    /// Takes from the store the epochs that memory has not heard of.
    ///
    /// # Errors
    /// Refusal 65 or 5.
    pub(crate) async fn catch_up(&self, directory: &Directory) -> Result<(), Refused> {
        let damaged = |number: u64, why: &str| {
            let why = format!("epoch {number} of the denials in the store {why}");
            Refused::stranger(Refusal::Internal, why)
        };
        // The head first: an epoch that is made meanwhile is above it, and is applied by its maker.
        let stored = directory.get::<FeedHead>(keys::FEED_HEAD).await?;
        let stored = stored.unwrap_or(FeedHead::START);
        let mut walked = self.head();
        while walked.epoch < stored.epoch {
            let epochs = read(directory, walked.epoch, store::MAX_PAGE_ENTRIES).await?;
            if epochs.is_empty() {
                return Err(damaged(walked.epoch.saturating_add(1), "is missing"));
            }
            for epoch in &epochs {
                if !epoch.follows(walked) {
                    return Err(damaged(epoch.number, "does not continue their chain"));
                }
                walked = epoch.head();
            }
            self.apply(&epochs);
        }
        if walked.epoch == stored.epoch && walked != stored {
            return Err(damaged(walked.epoch, "is not the head of their chain"));
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, (FeedHead, State)> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, (FeedHead, State)> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies epochs that are durable now, and wakes who waits. Commits may be heard of out of order:
    /// the head moves over what is whole.
    pub(crate) fn apply(&self, epochs: &[StoredEpoch]) {
        if epochs.is_empty() {
            return;
        }
        let mut guard = self.write();
        let (head, state) = &mut *guard;
        for epoch in epochs {
            let known = epoch.number <= head.epoch || state.early.contains_key(&epoch.number);
            if !known {
                state.enter(epoch);
                state.early.insert(epoch.number, Arc::new(epoch.clone()));
            }
        }
        while let Some(next) = state.early.remove(&head.epoch.saturating_add(1)) {
            *head = next.head();
            state.reach(next);
        }
        let epoch = head.epoch;
        drop(guard);
        self.epoch
            .send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    /// Tells of new epochs.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// The reason of a denial that hits these facts.
    pub(crate) fn check(&self, facts: &TicketFacts<'_>) -> Option<String> {
        let guard = self.read();
        let hit = guard.1.set.check(facts)?;
        let reason = guard.1.reasons.get(&hit.epoch);
        Some(reason.map_or_else(String::new, ToString::to_string))
    }

    /// The epochs of denials that can hit no ticket any more, on no subscriber's clock either; at most
    /// so many.
    pub(crate) fn over(&self, now: Timestamp, most: usize) -> Vec<u64> {
        // rule: DEN-7 — one skew later than a subscriber forgets, so that none is told of a denial as
        // gone that it still has to keep.
        let over = |(forget, _): &&(Timestamp, u64)| forget.plus(limits::SKEW) <= now;
        let guard = self.read();
        let due = guard.1.due.iter().take_while(over).take(most);
        due.map(|(_, epoch)| *epoch).collect()
    }

    /// Forgets denials whose records in the store are gone now.
    pub(crate) fn forget(&self, gone: &[StoredEpoch], now: Timestamp) {
        let mut guard = self.write();
        let state = &mut guard.1;
        for epoch in gone {
            state.due.remove(&(epoch.link().forget, epoch.number));
            state.reasons.remove(&epoch.number);
            let first = state.newest.front().map_or(u64::MAX, |first| first.number);
            let at = epoch.number.checked_sub(first);
            if let Some(newest) = at
                .and_then(|at| usize::try_from(at).ok())
                .and_then(|at| state.newest.get_mut(at))
            {
                *newest = Arc::new(epoch.clone());
            }
        }
        state.set.prune(now.minus(limits::SKEW));
        state.told.retain(|reason| Arc::strong_count(reason) > 1);
    }

    /// The epochs of the denials in force after this one, at most so many; and whether there are more.
    pub(crate) fn in_force(&self, after: u64, most: usize) -> (Vec<u64>, bool) {
        let guard = self.read();
        let mut rest = guard.1.reasons.range(after.saturating_add(1)..);
        let epochs = rest.by_ref().take(most).map(|(epoch, _)| *epoch).collect();
        (epochs, rest.next().is_some())
    }

    /// How many are in force.
    pub(crate) fn count(&self) -> usize {
        self.read().1.reasons.len()
    }

    /// The chain digest at an epoch up to the head; none where there is no such epoch.
    ///
    /// # Errors
    /// Refusal 65 or 5.
    pub(crate) async fn chain_at(
        &self,
        epoch: u64,
        directory: &Directory,
    ) -> Result<Option<ChainDigest>, Refused> {
        let known = {
            let guard = self.read();
            let (head, state) = &*guard;
            match epoch {
                0 => Some(FeedHead::START.chain),
                _ if epoch > head.epoch => return Ok(None),
                _ if epoch == head.epoch => Some(head.chain),
                _ => state
                    .after(epoch - 1)
                    .and_then(|mut newest| newest.next().map(|epoch| epoch.chain)),
            }
        };
        if known.is_some() {
            return Ok(known);
        }
        let stored = directory.get::<StoredEpoch>(&keys::epoch(epoch)).await?;
        Ok(stored.map(|stored| stored.chain))
    }

    /// The epochs after this one, in order and without a gap, at most so many and up to the head.
    ///
    /// # Errors
    /// Refusal 65 or 5.
    pub(crate) async fn after(
        &self,
        epoch: u64,
        most: usize,
        directory: &Directory,
    ) -> Result<Vec<Arc<StoredEpoch>>, Refused> {
        let head = {
            let guard = self.read();
            let (head, state) = &*guard;
            if epoch >= head.epoch {
                return Ok(Vec::new());
            }
            if let Some(newest) = state.after(epoch) {
                return Ok(newest.take(most).map(Arc::clone).collect());
            }
            head.epoch
        };
        let stored = read(directory, epoch, most).await?;
        // What is above the head is not whole yet.
        let whole = stored.into_iter().filter(|stored| stored.number <= head);
        Ok(whole.map(Arc::new).collect())
    }
}

/// Epochs from the store, after this one.
async fn read(directory: &Directory, epoch: u64, most: usize) -> Result<Vec<StoredEpoch>, Refused> {
    let after = format!("{epoch:020}");
    let (rows, _) = directory.page(keys::EPOCHS, Some(&after), most).await?;
    let parsed = rows.iter().map(|(key, value)| {
        let damaged = |error| {
            let why = format!("the record {key} cannot be read: {error}");
            Refused::stranger(Refusal::Internal, why)
        };
        StoredEpoch::from_cbor(value, store::MAX_VALUE_BYTES).map_err(damaged)
    });
    parsed.collect()
}

impl Chain for Denials {
    fn head(&self) -> FeedHead {
        self.read().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::denial::{Denial, Selector};
    use ticket_format::ids::{LaunchId, NodeId, StatementDigest, TicketId};

    fn made(count: u64) -> Vec<StoredEpoch> {
        let mut head = FeedHead::START;
        let one = |number: u64| {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&number.to_be_bytes());
            let denial = Denial::new(
                Selector::ticket(TicketId(id)),
                format!("reason {number}"),
                StatementDigest([0; 32]),
                Timestamp::from_seconds(1),
                "ann".to_owned(),
            );
            let stored = StoredEpoch::denial(head, denial);
            head = stored.head();
            stored
        };
        (1..=count).map(one).collect()
    }

    fn denied(denials: &Denials, number: u64) -> Option<String> {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        let node: NodeId = "ec2/123456789012/eu-west-1/i-0123456789abcdef0"
            .parse()
            .unwrap();
        denials.check(&TicketFacts {
            ticket: Some(TicketId(id)),
            parent: None,
            node: &node,
            launch: LaunchId([1; 16]),
            image: "ami-1",
            dataset: None,
            issued: Timestamp::from_seconds(1),
        })
    }

    fn numbers<'a>(epochs: impl Iterator<Item = &'a Arc<StoredEpoch>>) -> Vec<u64> {
        epochs.map(|epoch| epoch.number).collect()
    }

    #[test]
    fn memory_holds_the_newest_epochs_and_every_reason() {
        // rule: DEN-4
        let count = NEWEST as u64 + 3;
        let denials = Denials::empty();
        denials.apply(&made(count));
        let guard = denials.read();
        assert_eq!((guard.0.epoch, guard.1.newest.len()), (count, NEWEST));
        assert!(
            guard.1.after(2).is_none(),
            "the third is not there any more"
        );
        assert_eq!(
            numbers(guard.1.after(3).unwrap()),
            (4..=count).collect::<Vec<_>>()
        );
        assert_eq!(numbers(guard.1.after(count - 1).unwrap()), [count]);
        drop(guard);
        assert_eq!(denied(&denials, 1).as_deref(), Some("reason 1"));
        assert_eq!(denials.in_force(1, 2), (vec![2, 3], true));
    }

    #[test]
    fn epochs_that_are_heard_of_out_of_order_count_at_once_and_are_told_in_order() {
        // rule: DEN-1
        let all = made(3);
        let denials = Denials::empty();
        denials.apply(&all[1..2]);
        assert_eq!(denials.head(), FeedHead::START);
        assert!(denied(&denials, 2).is_some());
        denials.apply(&all[..1]);
        assert_eq!(denials.head(), all[1].head());
        // Who has heard of them already hears of nothing new.
        denials.apply(&all);
        assert_eq!((denials.head(), denials.count()), (all[2].head(), 3));
        assert_eq!(*denials.news().borrow(), 3);
        assert_eq!(numbers(denials.read().1.after(0).unwrap()), [1, 2, 3]);
    }

    #[test]
    fn a_lifting_that_is_heard_of_before_its_denial_lifts_it_all_the_same() {
        // rule: DEN-9
        let all = made(2);
        let lifting = StoredEpoch::lifting(all[1].head(), vec![2], vec![1]);
        let denials = Denials::empty();
        denials.apply(&all[..1]);
        denials.apply(&[lifting]);
        denials.apply(&all[1..]);
        assert_eq!((denials.head().epoch, denials.count()), (3, 1));
        assert_eq!(denied(&denials, 2), None);
        assert!(denied(&denials, 1).is_some());
    }

    #[test]
    fn a_denial_is_forgotten_one_skew_after_the_subscribers_forget_it() {
        // rule: DEN-7
        let all = made(2);
        let denials = Denials::empty();
        denials.apply(&all);
        let forget = all[0].link().forget;
        assert!(denials.over(forget.plus(limits::SKEW - 1), 10).is_empty());
        let now = forget.plus(limits::SKEW);
        assert_eq!(denials.over(now, 1), [1]);
        assert_eq!(denials.over(now, 10), [1, 2]);
        let gone: Vec<_> = all.iter().filter_map(StoredEpoch::forgotten).collect();
        denials.forget(&gone, now);
        assert!(denials.over(now, 10).is_empty());
        assert_eq!((denials.count(), denied(&denials, 1)), (0, None));
        assert_eq!(
            denials.head(),
            all[1].head(),
            "its place in the chain stays"
        );
        let told = denials.read().1.after(0).unwrap().next().unwrap().clone();
        assert_eq!(told, Arc::new(gone[0].clone()));
    }
}
