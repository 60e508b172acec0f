//! How old a verified document may be at first contact.

use jiff::Timestamp;
use thiserror::Error;

/// How far ahead of our clock a launch time may lie, in seconds (clock skew between AWS and us).
pub const FUTURE_TOLERANCE_SECONDS: u64 = crate::limits::SKEW;

/// Why a document's launch time is not acceptable now.
///
/// `TooOld` must stay apart from every "try again" answer: a node that is told to retry with a
/// document that can only get older would loop for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AgeRefusal {
    /// The instance was launched longer ago than the launch allows. Retrying cannot help: start
    /// the instance again, or allow a greater age.
    #[error(
        "document too old, launched at {}, {age_seconds} s ago, allowed are {max_age_seconds} s",
        rfc3339(*.launched_at)
    )]
    TooOld {
        /// Launch time (`pendingTime`), Unix seconds.
        launched_at: u64,
        /// Age when it was checked, seconds.
        age_seconds: u64,
        /// What was allowed, seconds.
        max_age_seconds: u64,
    },
    /// The launch time lies ahead of our clock by more than the tolerance: a clock is wrong.
    #[error("document from the future, launched at {}; check this machine's clock", rfc3339(*.launched_at))]
    FromTheFuture {
        /// Launch time (`pendingTime`), Unix seconds.
        launched_at: u64,
    },
}

impl AgeRefusal {
    /// The stable kebab-case name, for tools, records and tests.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooOld { .. } => "iid-too-old",
            Self::FromTheFuture { .. } => "iid-from-the-future",
        }
    }
}

/// Checks a launch time against the caller's clock. All arguments are (Unix) seconds; an age of
/// exactly `max_age_seconds` and a lead of exactly `future_tolerance` are still accepted.
///
/// # Errors
/// [`AgeRefusal`], both kinds terminal for this document.
pub fn check_age(
    pending_time: u64,
    now: u64,
    max_age_seconds: u64,
    future_tolerance: u64,
) -> Result<(), AgeRefusal> {
    if pending_time > now.saturating_add(future_tolerance) {
        return Err(AgeRefusal::FromTheFuture {
            launched_at: pending_time,
        });
    }
    let age_seconds = now.saturating_sub(pending_time);
    if age_seconds > max_age_seconds {
        return Err(AgeRefusal::TooOld {
            launched_at: pending_time,
            age_seconds,
            max_age_seconds,
        });
    }
    Ok(())
}

/// Unix seconds as RFC 3339, or the bare number where no calendar date exists for it.
fn rfc3339(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAUNCHED: u64 = 1_771_202_307; // 2026-02-16T00:38:27Z

    #[test]
    fn an_age_up_to_the_limit_is_accepted_and_one_second_more_is_too_old() {
        assert_eq!(check_age(LAUNCHED, LAUNCHED + 900, 900, 60), Ok(()));
        let refusal = check_age(LAUNCHED, LAUNCHED + 901, 900, 60).unwrap_err();
        assert_eq!(refusal.name(), "iid-too-old");
        assert_eq!(
            refusal.to_string(),
            "document too old, launched at 2026-02-16T00:38:27Z, 901 s ago, allowed are 900 s"
        );
    }

    #[test]
    fn a_launch_time_ahead_of_the_clock_is_tolerated_for_a_minute_only() {
        assert_eq!(
            check_age(LAUNCHED, LAUNCHED - 60, 900, FUTURE_TOLERANCE_SECONDS),
            Ok(())
        );
        let refusal =
            check_age(LAUNCHED, LAUNCHED - 61, 900, FUTURE_TOLERANCE_SECONDS).unwrap_err();
        assert_eq!(refusal.name(), "iid-from-the-future");
    }

    #[test]
    fn extreme_numbers_neither_overflow_nor_panic() {
        let _ = check_age(0, u64::MAX, 0, u64::MAX).unwrap_err().to_string();
        let _ = check_age(u64::MAX, 0, 0, 0).unwrap_err().to_string();
        assert_eq!(check_age(u64::MAX, u64::MAX, 0, u64::MAX), Ok(()));
    }
}
