//! Time: an injected clock, and the rule that it never goes back (TIM-1).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ticket_format::time::Timestamp;
use ticket_format::{Refusal, limits};

use crate::Refused;

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Now, by the calendar.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment; never set back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_seconds(since.as_secs())
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// A clock that stands until it is set.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Stands at this time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.seconds()))
    }

    /// Sets it, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.seconds(), Ordering::SeqCst);
    }

    /// Moves it on by so many seconds.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// The time that decisions are made at: the clock's, or the latest that was ever seen.
pub(crate) struct Timekeeper {
    clock: Arc<dyn Clock>,
    latest: AtomicU64,
}

impl Timekeeper {
    pub(crate) fn new(clock: Arc<dyn Clock>, latest: Timestamp) -> Self {
        Self {
            clock,
            latest: AtomicU64::new(latest.seconds()),
        }
    }

    /// Now, or refusal 63 when the clock reads more than the skew before the latest time seen.
    pub(crate) fn now(&self) -> Result<Timestamp, Refused> {
        // rule: TIM-1
        let read = self.clock.now();
        let latest =
            Timestamp::from_seconds(self.latest.fetch_max(read.seconds(), Ordering::SeqCst));
        if read.plus(limits::SKEW) < latest {
            let why = format!("the clock reads {read}, but {latest} was seen before");
            return Err(Refused::stranger(Refusal::Clock, why));
        }
        Ok(read.max(latest))
    }

    /// Takes note of a time that was seen before the start.
    pub(crate) fn seen(&self, time: Timestamp) {
        self.latest.fetch_max(time.seconds(), Ordering::SeqCst);
    }

    /// What the clock reads, right or wrong.
    pub(crate) fn read(&self) -> Timestamp {
        self.clock.now()
    }

    /// The latest time seen, to be persisted.
    pub(crate) fn latest(&self) -> Timestamp {
        Timestamp::from_seconds(self.latest.load(Ordering::SeqCst))
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}
