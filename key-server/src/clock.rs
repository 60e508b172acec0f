//! Time as the core gets it: from outside, as two clocks, and never going back (TIM-1).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ticket_format::limits::SKEW;
use ticket_format::time::Timestamp;

/// The two clocks of a server.
pub trait Clock: Send + Sync {
    /// Civil time, for tickets, statements and records.
    fn now(&self) -> Timestamp;

    /// Time since some fixed instant, which nobody can set; leases run on it (DEN-6).
    fn monotonic(&self) -> Duration;
}

/// The clock reads earlier than a time already seen, by more than two honest clocks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the clock reads {now}, but {latest} was seen before: set the clock")]
pub struct WentBack {
    /// What the clock reads.
    pub now: Timestamp,
    /// The latest time seen.
    pub latest: Timestamp,
}

/// The latest time that this server has seen, over restarts.
#[derive(Debug, Default)]
pub struct Latest(AtomicU64);

impl Latest {
    /// Goes on from what was persisted.
    #[must_use]
    pub fn from(persisted: Timestamp) -> Self {
        Self(AtomicU64::new(persisted.seconds()))
    }

    /// Takes note of the time.
    ///
    /// # Errors
    /// [`WentBack`]: no decision may be taken at this time.
    pub fn see(&self, now: Timestamp) -> Result<(), WentBack> {
        // rule: TIM-1
        let latest = self.0.fetch_max(now.seconds(), Ordering::Relaxed);
        if now.seconds().saturating_add(SKEW) < latest {
            return Err(WentBack {
                now,
                latest: Timestamp::from_seconds(latest),
            });
        }
        Ok(())
    }

    /// The latest time seen, for persisting.
    #[must_use]
    pub fn get(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_step_back_by_the_skew_and_no_more() {
        // rule: TIM-1
        let at = Timestamp::from_seconds;
        let latest = Latest::from(at(1_000));
        assert_eq!(latest.see(at(940)), Ok(()));
        assert_eq!(
            latest.see(at(939)),
            Err(WentBack {
                now: at(939),
                latest: at(1_000)
            })
        );
        assert_eq!(latest.see(at(2_000)), Ok(()));
        assert!(latest.see(at(1_500)).is_err());
        assert_eq!(latest.get(), at(2_000));
    }
}
