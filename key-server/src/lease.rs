//! The lease: how long the broker's silence is survived (DEN-6).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The broker has not been heard for the lease, or not at all yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no news of denials from the broker within the lease")]
pub struct NoLease;

/// Until when this server may release keys, on its monotonic clock.
#[derive(Debug)]
pub struct Lease {
    /// Milliseconds; 0: never had one.
    until: AtomicU64,
    length: Duration,
}

impl Lease {
    /// None yet; each good answer will be worth `length`.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        Self {
            until: AtomicU64::new(0),
            length,
        }
    }

    /// How long one good answer is worth.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// A good answer came to the nonce that was sent at `sent`. The lease runs from then, not from
    /// now: an answer that was held back on its way is worth less, and in the end nothing.
    pub fn extend(&self, sent: Duration) {
        // rule: DEN-6
        self.until
            .fetch_max(millis(sent.saturating_add(self.length)), Ordering::AcqRel);
    }

    /// Whether the lease holds at `monotonic`.
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn check(&self, monotonic: Duration) -> Result<(), NoLease> {
        // rule: DEN-6
        if self.left(monotonic).is_zero() {
            Err(NoLease)
        } else {
            Ok(())
        }
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self, monotonic: Duration) -> Duration {
        let until = self.until.load(Ordering::Acquire);
        Duration::from_millis(until.saturating_sub(millis(monotonic)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_from_the_sending_of_the_nonce() {
        // rule: DEN-6
        let lease = Lease::new(Duration::from_secs(5));
        let at = Duration::from_secs;
        assert_eq!(lease.check(at(0)), Err(NoLease));
        lease.extend(at(10));
        assert_eq!(lease.check(at(14)), Ok(()));
        assert_eq!(lease.check(at(15)), Err(NoLease));
        // The answer to an older nonce comes late: nothing is gained, nothing lost.
        lease.extend(at(7));
        assert_eq!(lease.left(at(14)), at(1));
    }
}
