//! What time it is, and when something is due.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use getrandom::SysRng;
use rand_core::{Rng as _, UnwrapErr};
use ticket_format::time::Timestamp;

/// So often the clock is looked at: one that was set, or an instance that was suspended, is noticed.
const LOOK: Duration = Duration::from_secs(1);

/// A clock; clones are the same.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// One that reads by this.
    pub fn new(read: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// Waits until then.
    pub(super) async fn until(&self, at: Timestamp) {
        self.wait_for(|now| now >= at).await;
    }

    /// Waits until something is so; it is looked at by the second.
    pub(super) async fn wait_for(&self, so: impl Fn(Timestamp) -> bool) {
        while !so(self.now()) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The system's.
impl Default for Clock {
    fn default() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            Timestamp::from_seconds(since.unwrap_or_default().as_secs())
        })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock(..)")
    }
}

/// When half of a life is over, less or more by up to a tenth, so that a fleet does not come at once.
pub(super) fn half(issued: Timestamp, expires: Timestamp) -> Timestamp {
    // rule: AGT-5
    half_by(issued, expires, UnwrapErr(SysRng).next_u64())
}

fn half_by(issued: Timestamp, expires: Timestamp, chance: u64) -> Timestamp {
    let half = expires.since(issued) / 2;
    let tenth = half / 10;
    issued.plus(half - tenth + chance % (2 * tenth + 1))
}

/// Growing pauses, from 1 to 60 s (AGT-5).
pub(super) fn pauses() -> impl Iterator<Item = Duration> + Send {
    // rule: AGT-5
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(1))
        .with_max_delay(MOST)
        .without_max_times()
        .build()
}

/// The longest pause.
pub(super) const MOST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_life_is_less_or_more_by_a_tenth_at_most() {
        // rule: AGT-5
        let at = Timestamp::from_seconds;
        let due = |chance| half_by(at(1_000), at(1_200), chance).seconds();
        assert_eq!(
            (due(0), due(10), due(20), due(21)),
            (1_090, 1_100, 1_110, 1_090)
        );
        assert_eq!(half_by(at(1_000), at(1_000), 7), at(1_000));
    }

    #[test]
    fn pauses_grow_from_a_second_to_a_minute_and_do_not_end() {
        // rule: AGT-5
        let pauses: Vec<u64> = pauses().take(10).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_is_noticed() {
        // rule: AGT-5
        let (set, read) = tokio::sync::watch::channel(0);
        let clock = Clock::new(move || Timestamp::from_seconds(*read.borrow()));
        let mut due = std::pin::pin!(clock.until(Timestamp::from_seconds(4_000)));
        assert!(futures::poll!(&mut due).is_pending());
        set.send(5_000).unwrap();
        let noticed = tokio::time::timeout(Duration::from_secs(30), due).await;
        noticed.expect("the clock that was set is noticed");
    }
}
