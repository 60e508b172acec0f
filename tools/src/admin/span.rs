//! Lengths of time and instants, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ticket_format::statement::DatasetClass;
use ticket_format::time::Timestamp;

/// A length of time in whole seconds, written `90s`, `15m`, `1h30m`, `7d`, `2w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

/// Text that is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a length of time such as 90s, 15m, 1h30m, 7d")]
pub struct NotASpan;

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let (mut total, mut number) = (0_u64, None::<u64>);
        for c in text.chars() {
            if let Some(digit) = c.to_digit(10) {
                let so_far = number.unwrap_or(0).checked_mul(10).ok_or(NotASpan)?;
                number = Some(so_far.checked_add(digit.into()).ok_or(NotASpan)?);
                continue;
            }
            let unit = match c {
                's' => 1,
                'm' => 60,
                'h' => 3_600,
                'd' => 86_400,
                'w' => 7 * 86_400,
                _ => return Err(NotASpan),
            };
            let part = number
                .take()
                .ok_or(NotASpan)?
                .checked_mul(unit)
                .ok_or(NotASpan)?;
            total = total.checked_add(part).ok_or(NotASpan)?;
        }
        if text.is_empty() || number.is_some() {
            Err(NotASpan)
        } else {
            Ok(Self(total))
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
            if left >= seconds {
                write!(f, "{}{unit}", left / seconds)?;
                left %= seconds;
            }
        }
        Ok(())
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_secs(span.0)
    }
}

/// An instant in RFC 3339, to the second, from 1970 on.
///
/// # Errors
/// One line that says what was expected.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    let expected = || format!("expected a time such as 2026-11-22T18:40:00Z, not {text:?}");
    let time: jiff::Timestamp = text.parse().map_err(|_| expected())?;
    u64::try_from(time.as_second())
        .map(Timestamp::from_seconds)
        .map_err(|_| expected())
}

/// An instant: in RFC 3339, or how long ago it was.
///
/// # Errors
/// It is neither.
pub fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = text.parse::<Span>() {
        return Ok(super::now().minus(span.0));
    }
    instant(text).map_err(|error| format!("{error}, or how long ago: 24h"))
}

/// `KEY=VALUE`.
///
/// # Errors
/// There is no `=`, or nothing before it.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("expected KEY=VALUE, not {text:?}")),
    }
}

/// How sensitive a dataset is.
///
/// # Errors
/// Another word.
pub fn class(text: &str) -> Result<DatasetClass, String> {
    let class = DatasetClass::ALL.iter().find(|class| class.name() == text);
    class
        .copied()
        .ok_or_else(|| "expected public, internal, confidential or restricted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_back_as_it_is_written() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("1h30m", 5_400),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Span(seconds)), "{text}");
            assert_eq!(Span(seconds).to_string().parse(), Ok(Span(seconds)));
        }
        assert_eq!(Span(5_461).to_string(), "1h31m1s");
    }

    #[test]
    fn a_number_without_a_unit_is_no_span() {
        for bad in [
            "",
            "5",
            "h",
            "1x",
            "-1h",
            "1.5h",
            "1h 30m",
            "99999999999999999999s",
            "999999999999999999w",
        ] {
            assert_eq!(bad.parse::<Span>(), Err(NotASpan), "{bad}");
        }
    }

    #[test]
    fn an_instant_is_rfc_3339() {
        assert_eq!(
            instant("2026-11-22T18:40:00Z").unwrap().seconds(),
            1_795_372_800
        );
        assert!(instant("yesterday").is_err() && instant("1969-12-31T23:59:59Z").is_err());
    }
}
