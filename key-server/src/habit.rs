//! Bursts: whether a node reads far more of a dataset than it used to (EXP-3).

use dashmap::DashMap;
use ticket_format::ids::DatasetId;
use ticket_format::time::Timestamp;

/// Nodes and datasets that are watched at a time; the least lately active make room once a minute.
const WATCHED: usize = 65_536;
/// Minutes without a release after which a habit is forgotten.
const FORGET: u64 = 24 * 60;

/// When a burst is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurstLimits {
    /// By how much a minute must pass the habit.
    pub factor: u64,
    /// Below this many DEKs a minute is never a burst.
    pub least: u64,
}

impl Default for BurstLimits {
    fn default() -> Self {
        Self {
            factor: 10,
            least: 10_000,
        }
    }
}

/// What a node had of one dataset, minute by minute.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    /// The minute that is counted, since 1970.
    minute: u64,
    /// DEKs in it.
    count: u64,
    /// What a minute used to be, in sixteenths of a DEK: each minute weighs in with an eighth.
    usual: u64,
    /// Whether this minute was told of.
    told: bool,
}

impl Habit {
    /// Begins the minute, if it is another one.
    fn at(&mut self, minute: u64) {
        let passed = minute.saturating_sub(self.minute);
        if passed == 0 {
            return;
        }
        self.usual = self.usual - self.usual / 8 + self.count.saturating_mul(2);
        // The minutes between were empty. Beyond a few hundred of them nothing is left.
        for _ in 1..passed.min(512) {
            self.usual -= self.usual.div_ceil(8);
        }
        (self.minute, self.count, self.told) = (minute, 0, false);
    }
}

/// Everybody's habits.
#[derive(Debug, Default)]
pub struct Habits {
    limits: BurstLimits,
    watched: DashMap<(String, DatasetId), Habit>,
}

impl Habits {
    /// None yet.
    #[must_use]
    pub fn new(limits: BurstLimits) -> Self {
        Self {
            limits,
            watched: DashMap::new(),
        }
    }

    /// A node is about to have `deks` of a dataset. Says how many it had in this minute, where that is a
    /// burst that was not told of yet.
    #[must_use]
    pub fn count(&self, node: &str, dataset: DatasetId, deks: u64, now: Timestamp) -> Option<u64> {
        // rule: EXP-3
        let key = (node.to_owned(), dataset);
        if self.watched.len() >= WATCHED && !self.watched.contains_key(&key) {
            return None;
        }
        let minute = now.seconds() / 60;
        let mut habit = self.watched.entry(key).or_insert(Habit {
            minute,
            ..Habit::default()
        });
        habit.at(minute);
        habit.count = habit.count.saturating_add(deks);
        let usual = habit.usual.saturating_mul(self.limits.factor) / 16;
        let burst = habit.count >= self.limits.least && habit.count > usual;
        if !burst || habit.told {
            return None;
        }
        habit.told = true;
        Some(habit.count)
    }

    /// Forgets who has had nothing for a day, and where there is no room, for an hour, or five minutes.
    pub fn sweep(&self, now: Timestamp) {
        let minute = now.seconds() / 60;
        for idle in [FORGET, 60, 5] {
            self.watched
                .retain(|_, habit| minute.saturating_sub(habit.minute) < idle);
            if self.watched.len() < WATCHED / 8 * 7 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BurstLimits = BurstLimits {
        factor: 10,
        least: 100,
    };

    fn at(minute: u64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + minute * 60)
    }

    const D: DatasetId = DatasetId([1; 16]);

    #[test]
    fn a_minute_far_beyond_the_habit_is_told_of_once() {
        // rule: EXP-3
        let habits = Habits::new(LIMITS);
        for minute in 0..60 {
            assert_eq!(
                habits.count("n", D, 90, at(minute)),
                None,
                "below the least"
            );
        }
        assert_eq!(habits.count("n", D, 600, at(60)), None, "within the factor");
        for minute in 61..120 {
            assert_eq!(habits.count("n", D, 90, at(minute)), None);
        }
        assert_eq!(habits.count("n", D, 600, at(120)), None);
        assert_eq!(habits.count("n", D, 600, at(120)), Some(1_200));
        assert_eq!(habits.count("n", D, 600, at(120)), None, "told once");
        assert_eq!(
            habits.count("other", D, 100, at(120)),
            Some(100),
            "no habit"
        );
        assert_eq!(habits.count("other", DatasetId([2; 16]), 99, at(120)), None);
    }

    #[test]
    fn who_always_reads_much_is_no_burst_and_a_long_pause_ends_the_habit() {
        // rule: EXP-3
        let habits = Habits::new(LIMITS);
        let told: Vec<_> = (0..60)
            .filter(|minute| habits.count("n", D, 5_000, at(*minute)).is_some())
            .collect();
        assert_eq!(told, [0], "the first minute alone");
        assert_eq!(habits.count("n", D, 40_000, at(60)), None);
        assert!(habits.count("n", D, 5_000, at(60 + 12 * 60)).is_some());
    }

    #[test]
    fn habits_are_bounded() {
        let habits = Habits::new(LIMITS);
        for n in 0..WATCHED + 100 {
            let _ = habits.count(&n.to_string(), D, 1, at(0));
        }
        assert!(habits.watched.len() <= WATCHED);
        habits.sweep(at(6));
        assert!(habits.watched.is_empty());
    }
}
