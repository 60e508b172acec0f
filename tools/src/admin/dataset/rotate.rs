//! When a dataset's KEK is rotated by itself, on the command line (KEK-3).

use std::str::FromStr;

use clap::Args;
use ticket_format::report::{Report, exit};
use ticket_format::statement::Rotation;
use ticket_format::statement::keks::{FEWEST_WRAPS, SHORTEST_AGE};

use crate::admin::span::Span;

/// A limit, or the word `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrNever<T> {
    /// None.
    Never,
    /// This one.
    At(T),
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for OrNever<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let limit = text.parse().map(Self::At);
        limit.map_err(|error| format!("{error}, or the word never"))
    }
}

impl<T> OrNever<T> {
    fn limit(self) -> Option<T> {
        match self {
            Self::Never => None,
            Self::At(limit) => Some(limit),
        }
    }
}

/// When the key server makes the next KEK version by itself; what is not said stays as it stands.
#[derive(Clone, Debug, Args)]
pub(super) struct Rotate {
    /// Make the next KEK version when the one in use is so old: 1d at least, or `never`
    #[arg(long, value_name = "TIME")]
    rotate_after: Option<OrNever<Span>>,
    /// Make it after so many wraps: 1000 at least, or `never`
    #[arg(long, value_name = "N")]
    rotate_wraps: Option<OrNever<u64>>,
    /// Make it when a denial is applied that can hit a ticket for the dataset; once a day at most
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    rotate_on_denial: Option<bool>,
}

impl Rotate {
    /// What is wanted, given what stands.
    ///
    /// # Errors
    /// It would rotate too often.
    pub(super) fn wanted(&self, standing: &Rotation) -> Result<Rotation, Report> {
        // rule: KEK-3
        let age = self
            .rotate_after
            .map_or(standing.age, |age| age.limit().map(|span| span.0));
        let wraps = self.rotate_wraps.map_or(standing.wraps, OrNever::limit);
        let wrong = age.is_some_and(|age| age < SHORTEST_AGE)
            || wraps.is_some_and(|wraps| wraps < FEWEST_WRAPS);
        if wrong {
            return Err(
                Report::new(exit::USAGE, "the KEK would be rotated too often")
                    .why("--rotate-after is 1d at least, --rotate-wraps 1000"),
            );
        }
        Ok(Rotation {
            age,
            wraps,
            on_denial: self.rotate_on_denial.unwrap_or(standing.on_denial),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Rotate = Rotate {
        rotate_after: None,
        rotate_wraps: None,
        rotate_on_denial: None,
    };

    #[test]
    fn what_is_not_said_of_rotation_stays_and_never_takes_a_limit_away() {
        // rule: KEK-3
        let standing = Rotation {
            age: Some(172_800),
            wraps: Some(5_000),
            on_denial: true,
        };
        assert_eq!(NOTHING.wanted(&standing).unwrap(), standing);
        let never = Rotate {
            rotate_after: Some("never".parse().unwrap()),
            rotate_wraps: Some("never".parse().unwrap()),
            rotate_on_denial: Some(false),
        };
        assert_eq!(never.wanted(&standing).unwrap(), Rotation::default());
        assert!("90".parse::<OrNever<Span>>().is_err());
        let other = Rotate {
            rotate_after: Some("90d".parse().unwrap()),
            ..NOTHING
        };
        let wanted = other.wanted(&Rotation::default()).unwrap();
        assert_eq!(wanted.age, Some(90 * 86_400));
    }

    #[test]
    fn a_rotation_that_would_be_too_often_is_refused_before_it_is_signed() {
        // rule: KEK-3
        let often = Rotate {
            rotate_after: Some(OrNever::At(Span(SHORTEST_AGE - 1))),
            ..NOTHING
        };
        let few = Rotate {
            rotate_wraps: Some(OrNever::At(999)),
            ..NOTHING
        };
        for rotate in [often, few] {
            let refused = rotate.wanted(&Rotation::default()).unwrap_err();
            assert_eq!(refused.exit, exit::USAGE);
        }
    }
}
