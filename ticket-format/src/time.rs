//! Time as the protocol has it: whole seconds since 1970, and no clock.

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};

/// Seconds since 1970-01-01T00:00:00Z. At most the year 9999, so that it always prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// 9999-12-31T23:59:59Z is 253402300799; jiff's last instant lies a day before the end of that year.
const LATEST: u64 = 253_402_207_200;

impl Timestamp {
    /// The last time there is: what never ends, ends then.
    pub const LAST: Self = Self(LATEST);

    /// This many seconds since 1970, held to what can be printed.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.min(LATEST))
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0
    }

    /// So many seconds later; never past the latest instant.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self::from_seconds(self.0.saturating_add(seconds))
    }

    /// So many seconds earlier; never before 1970.
    #[must_use]
    pub fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// Seconds from `earlier` to here; none when it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// RFC 3339.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_second(seconds) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{}s", self.0),
        }
    }
}

impl Encode for Timestamp {
    fn encode(&self, writer: &mut Writer) {
        writer.uint(self.0);
    }
}

impl Decode for Timestamp {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.uint()? {
            seconds @ ..=LATEST => Ok(Self(seconds)),
            _ => Err(DecodeError::OutOfRange("time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_prints_as_rfc_3339() {
        assert_eq!(
            Timestamp::from_seconds(1_795_372_800).to_string(),
            "2026-11-22T18:40:00Z"
        );
        assert!(
            Timestamp::from_seconds(u64::MAX)
                .to_string()
                .starts_with("9999-12-3")
        );
    }

    #[test]
    fn a_time_past_the_last_one_is_refused() {
        let mut writer = Writer::new();
        writer.uint(LATEST + 1);
        assert!(Timestamp::from_cbor(&writer.into_bytes(), 16).is_err());
    }
}
