//! The cache of DEKs: in locked memory, bounded by count, by age and by the life of the ticket by which
//! each came (AGT-7).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::locked::Locked;
use ticket_format::ids::{ItemDigest, TicketHash};
use ticket_format::secret::Dek;
use tokio::time::Instant;

/// Which DEK: by which ticket, for which wrap and context.
pub(super) type CacheKey = (TicketHash, ItemDigest);

/// What a cache has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// DEKs that are kept.
    pub kept: usize,
    /// Asked for and found.
    pub hits: u64,
    /// Asked for and not found.
    pub misses: u64,
    /// Given up for want of room.
    pub evictions: u64,
    /// Redeemed anew before their age was over.
    pub refreshes: u64,
    /// Requests by which DEKs were redeemed.
    pub requests: u64,
}

/// A DEK that was found.
#[derive(Debug)]
pub(super) struct Hit {
    /// The DEK.
    pub(super) dek: Arc<Dek>,
    /// Whether it is in the last quarter of its age: it is to be redeemed anew meanwhile.
    pub(super) ripe: bool,
}

/// The cache of all jobs together.
#[derive(Debug)]
pub(super) struct Cache {
    age: Duration,
    count: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Tickets that DEKs may come by. What comes by another is not kept.
    open: HashSet<TicketHash>,
    entries: HashMap<CacheKey, Entry>,
    /// By last use, the longest unused first.
    uses: BTreeMap<u64, CacheKey>,
    /// By end, the next first.
    ends: BTreeMap<(Instant, u64), CacheKey>,
    next: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Entry {
    dek: Locked<32>,
    used: u64,
    /// From when on it is redeemed anew.
    ripe: Instant,
    end: Instant,
    /// Tells those of one end apart.
    number: u64,
}

impl Cache {
    /// Keeps `count` DEKs at most, each for `age`; none where either is zero.
    #[must_use]
    pub(super) fn new(age: Duration, count: usize) -> Self {
        Self {
            age,
            count,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what comes by this ticket is kept.
    pub(super) fn open(&self, ticket: TicketHash) {
        self.inner().open.insert(ticket);
    }

    /// A request for DEKs goes to a key server.
    pub(super) fn asks(&self) {
        self.inner().counts.requests += 1;
    }

    /// The DEK, unless its time is over.
    #[must_use]
    pub(super) fn get(&self, key: &CacheKey, now: Instant) -> Option<Hit> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        // rule: AGT-7
        let entry = inner.entries.get_mut(key).filter(|entry| now < entry.end);
        let Some(entry) = entry else {
            inner.counts.misses += 1;
            return None;
        };
        inner.counts.hits += 1;
        inner.uses.remove(&entry.used);
        entry.used = inner.next;
        inner.next += 1;
        inner.uses.insert(entry.used, *key);
        Some(Hit {
            dek: Arc::new(Dek::from_bytes(*entry.dek.expose())),
            ripe: entry.ripe <= now,
        })
    }

    /// Keeps a DEK; `left` is what is left of its ticket's life. One of a ticket that is not open any more is
    /// not kept.
    pub(super) fn put(&self, key: CacheKey, dek: &Dek, left: Duration, now: Instant) {
        let mut inner = self.inner();
        // rule: AGT-6
        if !inner.open.contains(&key.0) {
            return;
        }
        let life = self.age.min(left);
        if life.is_zero() || self.count == 0 {
            return;
        }
        if inner.remove(&key) {
            inner.counts.refreshes += 1;
        }
        // rule: AGT-7
        while inner.entries.len() >= self.count {
            let Some((_, oldest)) = inner.uses.first_key_value() else {
                break;
            };
            let oldest = *oldest;
            inner.remove(&oldest);
            inner.counts.evictions += 1;
        }
        let number = inner.next;
        inner.next += 1;
        let entry = Entry {
            // rule: AGT-4
            dek: Locked::copied(dek.expose()),
            used: number,
            ripe: now + life - life / 4,
            end: now + life,
            number,
        };
        inner.uses.insert(number, key);
        inner.ends.insert((entry.end, number), key);
        inner.entries.insert(key, entry);
    }

    /// Erases what came by a ticket, and keeps nothing more that comes by it. How many DEKs that were.
    pub(super) fn wipe(&self, ticket: TicketHash) -> usize {
        let mut inner = self.inner();
        // rule: AGT-6
        inner.open.remove(&ticket);
        let of: Vec<CacheKey> = inner
            .entries
            .keys()
            .filter(|key| key.0 == ticket)
            .copied()
            .collect();
        for key in &of {
            inner.remove(key);
        }
        of.len()
    }

    /// Erases those whose time is over.
    pub(super) fn sweep(&self, now: Instant) {
        let mut inner = self.inner();
        // rule: AGT-7
        while let Some((&(end, _), &key)) = inner.ends.first_key_value() {
            if now < end {
                break;
            }
            inner.remove(&key);
        }
    }

    /// Erases everything, and keeps nothing more.
    pub(super) fn clear(&self) {
        let mut inner = self.inner();
        inner.open.clear();
        inner.entries.clear();
        inner.uses.clear();
        inner.ends.clear();
    }

    /// What it has seen so far.
    #[must_use]
    pub(super) fn counts(&self) -> Counts {
        let inner = self.inner();
        Counts {
            kept: inner.entries.len(),
            ..inner.counts
        }
    }
}

impl Inner {
    /// Erases one; true if there was one.
    fn remove(&mut self, key: &CacheKey) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        self.uses.remove(&entry.used);
        self.ends.remove(&(entry.end, entry.number));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(300);
    const LONG: Duration = Duration::from_secs(3_600);

    fn key(ticket: u8, item: u8) -> CacheKey {
        (TicketHash([ticket; 32]), ItemDigest([item; 32]))
    }

    fn dek(of: u8) -> Dek {
        Dek::from_bytes([of; 32])
    }

    /// A cache with ticket 1 open, at a time.
    fn cache(count: usize) -> (Cache, Instant) {
        let cache = Cache::new(AGE, count);
        cache.open(key(1, 0).0);
        (cache, Instant::now())
    }

    fn found(cache: &Cache, key: CacheKey, at: Instant) -> Option<Dek> {
        cache.get(&key, at).map(|hit| (*hit.dek).clone())
    }

    #[test]
    fn a_dek_is_found_by_its_ticket_and_its_item_and_by_no_other() {
        // rule: AGT-3, AGT-7
        let (cache, now) = cache(10);
        cache.open(key(2, 0).0);
        cache.put(key(1, 1), &dek(1), LONG, now);
        assert_eq!(found(&cache, key(1, 1), now), Some(dek(1)));
        assert_eq!(found(&cache, key(1, 2), now), None);
        assert_eq!(found(&cache, key(2, 1), now), None);
        let counts = cache.counts();
        assert_eq!((counts.kept, counts.hits, counts.misses), (1, 1, 2));
    }

    #[test]
    fn a_dek_is_kept_for_its_age_and_no_longer_than_its_ticket() {
        // rule: AGT-7
        let (cache, now) = cache(10);
        cache.put(key(1, 1), &dek(1), LONG, now);
        cache.put(key(1, 2), &dek(2), Duration::from_secs(60), now);
        let second = Duration::from_secs(1);
        assert!(found(&cache, key(1, 2), now + Duration::from_secs(59)).is_some());
        assert!(found(&cache, key(1, 2), now + Duration::from_secs(60)).is_none());
        assert!(found(&cache, key(1, 1), now + AGE - second).is_some());
        assert!(found(&cache, key(1, 1), now + AGE).is_none());
        assert_eq!(cache.counts().kept, 2);
        cache.sweep(now + Duration::from_secs(60));
        assert_eq!(cache.counts().kept, 1);
        cache.sweep(now + AGE);
        assert_eq!(cache.counts().kept, 0);
        cache.put(key(1, 3), &dek(3), Duration::ZERO, now);
        assert_eq!(cache.counts().kept, 0, "its ticket is over");
    }

    #[test]
    fn in_the_last_quarter_of_its_age_it_is_ripe() {
        // rule: AGT-7
        let (cache, now) = cache(10);
        cache.put(key(1, 1), &dek(1), LONG, now);
        let ripe = |at| cache.get(&key(1, 1), at).map(|hit| hit.ripe);
        assert_eq!(
            ripe(now + AGE / 4 * 3 - Duration::from_secs(1)),
            Some(false)
        );
        assert_eq!(ripe(now + AGE / 4 * 3), Some(true));
        cache.put(key(1, 1), &dek(1), LONG, now + AGE / 4 * 3);
        assert_eq!(ripe(now + AGE), Some(false), "it is kept anew");
        assert_eq!(cache.counts().refreshes, 1);
        cache.sweep(now + AGE);
        assert_eq!(cache.counts().kept, 1, "its old end is forgotten");
    }

    #[test]
    fn the_longest_unused_goes_first() {
        // rule: AGT-7
        let (cache, now) = cache(2);
        cache.put(key(1, 1), &dek(1), LONG, now);
        cache.put(key(1, 2), &dek(2), LONG, now);
        assert!(found(&cache, key(1, 1), now).is_some());
        cache.put(key(1, 3), &dek(3), LONG, now);
        assert!(found(&cache, key(1, 2), now).is_none());
        assert!(found(&cache, key(1, 1), now).is_some());
        let counts = cache.counts();
        assert_eq!((counts.kept, counts.evictions), (2, 1));
    }

    #[test]
    fn a_cache_without_age_or_room_keeps_nothing() {
        // rule: AGT-7
        let now = Instant::now();
        for cache in [Cache::new(Duration::ZERO, 10), Cache::new(AGE, 0)] {
            cache.open(key(1, 0).0);
            cache.put(key(1, 1), &dek(1), LONG, now);
            assert_eq!(cache.counts().kept, 0);
            assert!(cache.get(&key(1, 1), now).is_none());
        }
    }

    #[test]
    fn a_wipe_erases_what_came_by_the_ticket_and_what_comes_later() {
        // rule: AGT-6
        let (cache, now) = cache(10);
        cache.open(key(2, 0).0);
        for item in 1..=3 {
            cache.put(key(1, item), &dek(item), LONG, now);
        }
        cache.put(key(2, 1), &dek(9), LONG, now);
        assert_eq!(cache.wipe(key(1, 0).0), 3);
        cache.put(key(1, 4), &dek(4), LONG, now);
        for item in 1..=4 {
            assert!(found(&cache, key(1, item), now).is_none());
        }
        assert_eq!(found(&cache, key(2, 1), now), Some(dek(9)));
        assert_eq!(cache.wipe(key(1, 0).0), 0);
    }
}
