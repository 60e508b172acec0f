//! The entries, in sorted shards that clones share until one of them changes.

use std::sync::Arc;

use super::entry::Entry;
use super::hash::Kind;
use crate::time::Timestamp;

/// Bits of the key for each of the two branches: 16,384 shards, of 61 entries for a
/// million denials.
const BRANCH_BITS: u32 = 7;
const BRANCHES: usize = 1 << BRANCH_BITS;

/// Later than every forget time.
const NOTHING: u64 = u64::MAX;

/// Entries whose keys begin alike, in order.
#[derive(Clone, Debug, Default)]
struct Shard(Vec<Entry>);

/// A child and the earliest forget time below it, or one before that.
#[derive(Debug)]
struct Slot<T> {
    next: u64,
    child: Option<Arc<T>>,
}

#[derive(Debug)]
struct Branch<T>(Vec<Slot<T>>);

/// Two levels of branches.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(Arc<Branch<Branch<Shard>>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self {
            next: self.next,
            child: self.child.clone(),
        }
    }
}

impl<T> Clone for Branch<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Without a slot until something is put in.
impl<T> Default for Branch<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone + Default> Branch<T> {
    fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)?.child.as_deref()
    }

    fn children(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|slot| slot.child.as_deref())
    }

    /// The child at this place, made where there is none and copied where it is shared, and told of
    /// a forget time.
    fn make(&mut self, index: usize, forget: u64) -> &mut T {
        if self.0.is_empty() {
            self.0.resize_with(BRANCHES, || Slot {
                next: NOTHING,
                child: None,
            });
        }
        // An index of `path`, which is below BRANCHES.
        let slot = &mut self.0[index];
        slot.next = slot.next.min(forget);
        Arc::make_mut(slot.child.get_or_insert_default())
    }

    fn next(&self) -> u64 {
        let times = self.0.iter().map(|slot| slot.next);
        times.min().unwrap_or(NOTHING)
    }

    /// Lets `change` at every child below which something is due; it says whether anything is left.
    fn each_due(
        &mut self,
        due: u64,
        touched: impl Fn(&T) -> bool,
        mut change: impl FnMut(&mut T) -> u64,
    ) {
        for slot in self.0.iter_mut().filter(|slot| slot.next <= due) {
            let Some(child) = &mut slot.child else {
                continue;
            };
            if touched(child) {
                slot.next = change(Arc::make_mut(child));
                if slot.next == NOTHING {
                    slot.child = None;
                }
            }
        }
    }
}

/// Where a key belongs: the places in the upper and the lower branch.
fn path(key: u128) -> (usize, usize) {
    let bits = |from: u32| (key << from >> (128 - BRANCH_BITS)) as usize;
    (bits(0), bits(BRANCH_BITS))
}

impl Tree {
    /// A tree of these, which need no order. It takes no more room than they need.
    pub(super) fn of(mut entries: Vec<Entry>) -> Self {
        // It finds what is in order already and merges that.
        entries.sort();
        entries.dedup();
        let mut upper = Branch::default();
        for run in entries.chunk_by(|one, other| path(one.key()) == path(other.key())) {
            let Some(first) = run.first() else { continue };
            let (high, low) = path(first.key());
            let shard = Shard(run.to_vec());
            let forget = shard.next();
            let branch: &mut Branch<Shard> = upper.make(high, forget);
            *branch.make(low, forget) = shard;
        }
        Self(Arc::new(upper))
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let shards = self.0.children().flat_map(Branch::children);
        shards.flat_map(|shard| shard.0.iter())
    }

    /// The first entry of this key, which hits most.
    pub(super) fn widest(&self, key: u128) -> Option<&Entry> {
        let (upper, lower) = path(key);
        let Shard(entries) = self.0.get(upper)?.get(lower)?;
        let first = entries.partition_point(|entry| entry.key() < key);
        entries.get(first).filter(|entry| entry.key() == key)
    }

    /// Whether it was not there.
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let (upper, lower) = path(entry.key());
        let forget = entry.forget();
        let branch = Arc::make_mut(&mut self.0).make(upper, forget);
        let Shard(entries) = branch.make(lower, forget);
        let Err(at) = entries.binary_search(&entry) else {
            return false;
        };
        if entries.len() == entries.capacity() {
            // An eighth at a time: shards of one size grow at one time, and doubling would take
            // twice the memory just then.
            entries.reserve_exact((entries.len() / 8).max(2));
        }
        entries.insert(at, entry);
        true
    }

    /// Removes what `goes`, below branches where something is due by `now`, or everywhere, and gives
    /// the kinds of what went.
    pub(super) fn remove(
        &mut self,
        now: Option<Timestamp>,
        goes: impl Fn(&Entry) -> bool,
    ) -> Vec<Kind> {
        let due = now.map_or(NOTHING - 1, Timestamp::seconds);
        let mut gone = Vec::new();
        if self.0.next() > due {
            return gone;
        }
        let any = |shard: &Shard| shard.0.iter().any(&goes);
        let below = |branch: &Branch<Shard>| {
            let due = branch.0.iter().filter(|slot| slot.next <= due);
            due.filter_map(|slot| slot.child.as_deref()).any(any)
        };
        Arc::make_mut(&mut self.0).each_due(due, below, |branch| {
            branch.each_due(due, any, |shard| shard.remove(&goes, &mut gone));
            branch.next()
        });
        gone
    }
}

impl Shard {
    /// The earliest forget time.
    fn next(&self) -> u64 {
        let times = self.0.iter().map(Entry::forget);
        times.min().unwrap_or(NOTHING)
    }

    /// Removes what `goes` and gives the earliest forget time of what stays.
    fn remove(&mut self, goes: impl Fn(&Entry) -> bool, gone: &mut Vec<Kind>) -> u64 {
        self.0.retain(|entry| {
            let goes = goes(entry);
            if goes {
                gone.push(entry.kind());
            }
            !goes
        });
        self.0.shrink_to_fit();
        self.next()
    }
}
