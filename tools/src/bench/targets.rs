//! What the rows are to reach, on two shared cores with the callers on the same machine and the log on.

use serde::Serialize;

/// What a row is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// The value is this or more.
    AtLeast(f64),
    /// The value is this or less.
    AtMost(f64),
    /// The value divided by the floor is this or more.
    RatioAtLeast(f64),
    /// The value divided by the floor is this or less.
    RatioAtMost(f64),
}

/// The rows that have a target; a name that ends in `*` stands for all that begin so.
const TARGETS: &[(&str, Target)] = &[
    ("login_per_s", Target::AtLeast(750.0)),
    ("login_per_s_of_64", Target::AtLeast(750.0)),
    ("login_per_s_of_1000", Target::AtLeast(750.0)),
    ("login_cpu_broker_us", Target::RatioAtMost(1.25)),
    ("issue_per_s", Target::AtLeast(8_000.0)),
    ("redeem_lone_p50_us", Target::AtMost(120.0)),
    ("redeem_deks_per_s_batch_1_of_64", Target::AtLeast(55_000.0)),
    (
        "redeem_deks_per_s_batch_100_of_16",
        Target::AtLeast(900_000.0),
    ),
    (
        "redeem_deks_per_s_batch_1000_of_8",
        Target::AtLeast(900_000.0),
    ),
    ("redeem_half_load_p99_ms", Target::AtMost(5.0)),
    // Within 1.3 times of what local wraps cost.
    ("redeem_public_one_upload", Target::RatioAtLeast(1.0 / 1.3)),
    ("object_encrypt_mb_per_s", Target::RatioAtLeast(0.8)),
    ("object_decrypt_mb_per_s", Target::RatioAtLeast(0.8)),
    ("object_peak_mib", Target::AtMost(64.0)),
    ("redeem_us_per_dek_of_1m_wraps", Target::RatioAtMost(1.2)),
    ("honest_p99_during_*", Target::RatioAtMost(5.0)),
    ("peer_login_per_s_beside_pkinit", Target::RatioAtLeast(4.0)),
    ("peer_issue_per_s_beside_tgs", Target::RatioAtLeast(2.0)),
    (
        "peer_redeem_deks_per_s_batch_1_beside_tgs",
        Target::RatioAtLeast(13.0),
    ),
];

/// The target of the row of this name, if it has one.
pub(crate) fn of(row: &str) -> Option<Target> {
    let is_it = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => row.starts_with(start),
        None => row == pattern,
    };
    let found = TARGETS.iter().find(|(pattern, _)| is_it(pattern));
    found.map(|(_, target)| *target)
}

/// A target and how near the row came, for the JSON list.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    /// `at least 55000`, `ratio at most 1.25`.
    target: String,
    /// Whether it is met.
    met: bool,
    /// Percent of the target that are missing or too much, where it is missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed_by_percent: Option<f64>,
}

impl Target {
    /// In words.
    pub(crate) fn words(self) -> String {
        let (words, limit) = match self {
            Self::AtLeast(limit) => ("at least", limit),
            Self::AtMost(limit) => ("at most", limit),
            Self::RatioAtLeast(limit) => ("ratio at least", limit),
            Self::RatioAtMost(limit) => ("ratio at most", limit),
        };
        format!(
            "{words} {}",
            super::rows::grouped(super::rows::rounded(limit))
        )
    }

    /// Compares; none when a ratio is asked for and there is none.
    pub(crate) fn judge(self, value: f64, ratio: Option<f64>) -> Option<Judged> {
        let (reached, limit, more_is_better) = match self {
            Self::AtLeast(limit) => (value, limit, true),
            Self::AtMost(limit) => (value, limit, false),
            Self::RatioAtLeast(limit) => (ratio?, limit, true),
            Self::RatioAtMost(limit) => (ratio?, limit, false),
        };
        let met = if more_is_better {
            reached >= limit
        } else {
            reached <= limit
        };
        let missed = (reached - limit).abs() / limit * 100.0;
        Some(Judged {
            target: self.words(),
            met,
            missed_by_percent: (!met).then(|| missed.round()),
        })
    }
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.missed_by_percent {
            None => write!(f, "met ({})", self.target),
            Some(percent) => write!(f, "**missed by {percent} %** ({})", self.target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_of_a_row_that_there_is() {
        let names: Vec<&str> = crate::suites::ALL
            .iter()
            .flat_map(|suite| suite.rows)
            .map(|row| row.name)
            .collect();
        for (pattern, _) in TARGETS {
            let start = pattern.strip_suffix('*');
            let named = names.iter().any(|name| match start {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            });
            assert!(named, "no row is named {pattern}");
        }
    }

    #[test]
    fn a_target_says_whether_it_is_met_and_by_how_much_it_is_missed() {
        let told = |target: Target, value, ratio| {
            let judged = target.judge(value, ratio);
            judged.map(|judged| judged.to_string())
        };
        let fast = Target::AtLeast(55_000.0);
        assert_eq!(told(fast, 55_000.0, None).unwrap(), "met (at least 55,000)");
        assert_eq!(
            told(fast, 44_000.0, None).unwrap(),
            "**missed by 20 %** (at least 55,000)"
        );
        let near = Target::RatioAtMost(1.25);
        assert_eq!(
            told(near, 7.0, Some(1.2)).unwrap(),
            "met (ratio at most 1.25)"
        );
        assert_eq!(
            told(near, 7.0, Some(2.5)).unwrap(),
            "**missed by 100 %** (ratio at most 1.25)"
        );
        assert_eq!(told(near, 7.0, None), None);
    }
}
