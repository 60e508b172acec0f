//! Budgets: how many distinct DEKs a ticket may still have (RED-4).

use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ItemDigest, TicketId};
use ticket_format::limits::SKEW;
use ticket_format::time::Timestamp;

/// What one ticket has had: distinct items, so that a retry is free. Each takes 10 to 20 bytes.
#[derive(Debug)]
pub struct Budget {
    expires: Timestamp,
    had: Mutex<Had>,
    marks: RandomState,
    /// Whether more was asked for than there is, and told of (EXP-3).
    passed: AtomicBool,
}

/// Items by a mark of 64 bits, under a key that nobody knows: of a million items one has the mark of another,
/// and is not counted, once in 37 million tickets, and nobody can look for such.
type Had = HashSet<u64, BuildHasherDefault<IsHash>>;

/// A mark is a hash already.
#[derive(Debug, Default)]
struct IsHash(u64);

impl Hasher for IsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Marks alone are hashed, by `write_u64`.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }
}

/// A budget while a request takes from it. Held over no wait.
#[derive(Debug)]
pub struct Taking<'a> {
    had: MutexGuard<'a, Had>,
    marks: &'a RandomState,
}

impl Budget {
    fn new(expires: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            expires,
            had: Mutex::default(),
            marks: RandomState::new(),
            passed: AtomicBool::new(false),
        })
    }

    /// Begins to take; another request on the same ticket waits, so that two together never get more
    /// than there is.
    #[must_use]
    pub fn take(&self) -> Taking<'_> {
        Taking {
            had: self.had.lock().unwrap_or_else(PoisonError::into_inner),
            marks: &self.marks,
        }
    }

    /// More was asked for than there is: whether that is so for the first time.
    #[must_use]
    pub fn first_passed(&self) -> bool {
        // rule: EXP-3
        !self.passed.swap(true, Ordering::Relaxed)
    }

    /// How many distinct items were had.
    #[must_use]
    pub fn had(&self) -> usize {
        self.take().had.len()
    }
}

impl Taking<'_> {
    /// Takes this item; false when it is new and `most` distinct ones were had.
    #[must_use]
    pub fn item(&mut self, item: ItemDigest, most: u64) -> bool {
        // rule: RED-4
        let mark = self.marks.hash_one(item);
        if self.had.len() as u64 >= most {
            return self.had.contains(&mark);
        }
        self.had.insert(mark);
        true
    }

    /// Gives back an item that nobody can ever ask for again: made for an answer that was not sent.
    pub fn give_back(&mut self, item: &ItemDigest) {
        self.had.remove(&self.marks.hash_one(item));
    }
}

/// The budgets of all tickets that may still be live.
#[derive(Debug, Default)]
pub struct Budgets(DashMap<TicketId, Arc<Budget>>);

impl Budgets {
    /// The budget of a ticket.
    #[must_use]
    pub fn of(&self, ticket: TicketId, expires: Timestamp) -> Arc<Budget> {
        Arc::clone(&self.0.entry(ticket).or_insert_with(|| Budget::new(expires)))
    }

    /// Takes over what an entry of the audit log says was released, before anything is served.
    pub fn replay(&self, entry: &Entry, now: Timestamp) {
        // rule: RED-4
        let released = entry.outcome.is_ok()
            && matches!(entry.kind, Kind::Redeem | Kind::Generate | Kind::Rewrap);
        let (Some(ticket), Some(expires), Some(items)) =
            (entry.ticket, entry.expires, &entry.items)
        else {
            return;
        };
        if !released || over(expires, now) {
            return;
        }
        let budget = self.of(ticket, expires);
        if items
            .iter()
            .any(|(_, outcome)| *outcome == Err(Refusal::Budget))
        {
            let _ = budget.first_passed();
        }
        let mut taking = budget.take();
        let done = items.iter().filter(|(_, outcome)| outcome.is_ok());
        let Taking { had, marks } = &mut taking;
        had.extend(done.map(|(digest, _)| marks.hash_one(digest)));
    }

    /// Drops the budgets of tickets that no clock takes for live any more.
    pub fn sweep(&self, now: Timestamp) {
        self.0.retain(|_, budget| !over(budget.expires, now));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn over(expires: Timestamp, now: Timestamp) -> bool {
    expires.plus(SKEW) <= now
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::Refusal;
    use ticket_format::ids::ActId;

    const TICKET: TicketId = TicketId([1; 16]);

    fn item(n: u8) -> ItemDigest {
        ItemDigest([n; 32])
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_budget_counts_distinct_items() {
        // rule: RED-4
        let budgets = Budgets::default();
        let budget = budgets.of(TICKET, at(100));
        let mut taking = budget.take();
        assert!(taking.item(item(1), 2) && taking.item(item(1), 2) && taking.item(item(2), 2));
        assert!(!taking.item(item(3), 2));
        assert!(
            taking.item(item(1), 2),
            "a retry is free even when nothing is left"
        );
        assert!(!taking.item(item(9), 0));
    }

    #[test]
    fn a_budget_is_rebuilt_from_what_the_log_says_was_released() {
        // rule: RED-4
        let items = vec![
            (item(1), Ok(())),
            (item(2), Err(Refusal::Context)),
            (item(3), Ok(())),
        ];
        let entry = Entry::new(ActId([0; 16]), Kind::Redeem, at(10))
            .items(items)
            .ticket(TICKET)
            .expires(at(100));
        let budgets = Budgets::default();
        budgets.replay(&entry.clone().refused(Refusal::AuditUnavailable), at(50));
        assert!(budgets.is_empty(), "a batch that was refused");
        budgets.replay(&entry, at(50));
        budgets.replay(&entry, at(50));
        assert_eq!(budgets.of(TICKET, at(100)).had(), 2);
        budgets.sweep(at(159));
        assert_eq!(budgets.len(), 1);
        budgets.sweep(at(160));
        assert!(budgets.is_empty());
        budgets.replay(&entry, at(160));
        assert!(budgets.is_empty());
    }
}
