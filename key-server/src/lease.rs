//! The lease: how long the broker's silence is survived (DEN-6). Each dataset has its own length; what
//! they share is when the broker was heard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The broker has not been heard for the dataset's lease, or not at all yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no news of denials from the broker within the lease")]
pub struct NoLease;

/// When the nonce was sent that the last good answer echoed, on the monotonic clock.
#[derive(Debug, Default)]
pub struct Lease {
    /// Milliseconds and one more; 0: there was no good answer yet.
    sent: AtomicU64,
}

impl Lease {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A good answer came to the nonce that was sent at `sent`. Leases run from then, not from now: an
    /// answer that was held back on its way is worth less, and in the end nothing.
    pub fn heard(&self, sent: Duration) {
        // rule: DEN-6
        self.sent
            .fetch_max(millis(sent).saturating_add(1), Ordering::AcqRel);
    }

    /// Whether a lease of this length holds at `monotonic`.
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn check(&self, monotonic: Duration, length: Duration) -> Result<(), NoLease> {
        // rule: DEN-6
        if self.left(monotonic, length).is_zero() {
            Err(NoLease)
        } else {
            Ok(())
        }
    }

    /// What is left of a lease of this length.
    #[must_use]
    pub fn left(&self, monotonic: Duration, length: Duration) -> Duration {
        let Some(sent) = self.sent.load(Ordering::Acquire).checked_sub(1) else {
            return Duration::ZERO;
        };
        let until = sent.saturating_add(millis(length));
        Duration::from_millis(until.saturating_sub(millis(monotonic)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_lease_runs_from_the_sending_of_the_nonce() {
        // rule: DEN-6
        let (lease, five) = (Lease::new(), AT(5));
        assert_eq!(lease.check(AT(0), five), Err(NoLease));
        lease.heard(AT(10));
        assert_eq!(lease.check(AT(14), five), Ok(()));
        assert_eq!(lease.check(AT(15), five), Err(NoLease));
        // The answer to an older nonce comes late: nothing is gained, nothing lost.
        lease.heard(AT(7));
        assert_eq!(lease.left(AT(14), five), AT(1));
    }

    #[test]
    fn each_dataset_survives_the_brokers_silence_for_its_own_time() {
        // rule: DEN-6
        let lease = Lease::new();
        assert_eq!(lease.check(AT(0), AT(300)), Err(NoLease), "never heard");
        lease.heard(AT(0));
        assert_eq!(lease.check(AT(1), AT(1)), Err(NoLease));
        assert_eq!(lease.check(AT(1), AT(2)), Ok(()));
        assert_eq!(lease.check(AT(299), AT(300)), Ok(()));
        assert_eq!(lease.check(AT(300), AT(300)), Err(NoLease));
    }
}
