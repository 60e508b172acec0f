//! Why a policy text is refused, and where.

use std::fmt;

use cedar_policy::{ParseErrors, ValidationResult};
use miette::Diagnostic;

use crate::parse::{MAX_DEPTH, MAX_ID_LEN, MAX_NESTING, MAX_OPERATORS, MAX_TEXT_LEN};

/// A place in the policy text, as editors count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The position of a byte offset; offsets outside the text count as its end.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = text.get(..end).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The first fault of a text, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it is.
    pub at: Position,
    /// What is wrong, naming the word that is wrong.
    pub message: String,
    /// What was expected there, where that is known.
    pub expected: Option<String>,
    /// What to do about it, such as the nearest known name.
    pub hint: Option<String>,
    /// How many faults there are beside this one.
    pub others: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        match self.others {
            0 => Ok(()),
            1 => write!(f, " (and one more fault)"),
            n => write!(f, " (and {n} more faults)"),
        }
    }
}

/// Why a policy text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is larger than [`MAX_TEXT_LEN`]; it was not looked at.
    #[error(
        "the policy is {len} bytes long, at most {MAX_TEXT_LEN} are allowed; split the dataset's rules or shorten it"
    )]
    TooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// Brackets or `if` are nested more deeply than [`MAX_NESTING`], or the conditions of a
    /// policy more deeply than [`MAX_DEPTH`].
    #[error(
        "{at}: nested more than {MAX_NESTING} brackets or {MAX_DEPTH} operators deep; \
         split this into several policies, or ask whether a set contains the value"
    )]
    TooDeep {
        /// Where the limit was passed, or where the policy begins that passes it.
        at: Position,
    },
    /// One policy has more than [`MAX_OPERATORS`] characters of operators.
    #[error(
        "{at}: more than {MAX_OPERATORS} operators in one policy; \
         split it into several, or ask whether a set contains the value"
    )]
    TooLong {
        /// Where the limit was passed.
        at: Position,
    },
    /// The text is not Cedar.
    #[error("{0}")]
    Syntax(Fault),
    /// The text is Cedar, and means nothing, or something suspicious, under the schema.
    #[error("{0}")]
    Invalid(Fault),
    /// The text holds a template (`?principal`, `?resource`).
    #[error(
        "{at}: templates are not allowed; write the principal or resource out instead of the slot"
    )]
    Template {
        /// Where the template begins.
        at: Position,
    },
    /// A policy has no `@id("...")` annotation.
    #[error("{at}: this policy has no name; put @id(\"some-name\") before its effect")]
    MissingId {
        /// Where the policy begins.
        at: Position,
    },
    /// A policy's `@id` is empty, too long, or has characters that do not belong in a record.
    #[error(
        "{at}: {id:?} cannot name a policy; expected 1 to {MAX_ID_LEN} of a-z, A-Z, 0-9, '.', '_' and '-'"
    )]
    BadId {
        /// Where the policy begins.
        at: Position,
        /// What the annotation says, cut to a printable length.
        id: String,
    },
    /// Two policies have the same `@id`.
    #[error("{at}: a second policy is named {id:?}; give each policy its own @id")]
    DuplicateId {
        /// Where the second one begins.
        at: Position,
        /// The name.
        id: String,
    },
}

impl PolicyError {
    /// Where in the text the fault is; `None` when the text was not looked at.
    #[must_use]
    pub fn at(&self) -> Option<Position> {
        match self {
            Self::TooLarge { .. } => None,
            Self::Syntax(fault) | Self::Invalid(fault) => Some(fault.at),
            Self::TooDeep { at }
            | Self::TooLong { at }
            | Self::Template { at }
            | Self::MissingId { at }
            | Self::BadId { at, .. }
            | Self::DuplicateId { at, .. } => Some(*at),
        }
    }

    /// A fault that Cedar tells without a place.
    pub(crate) fn other(at: Position, error: &dyn std::error::Error) -> Self {
        let message = one_line(&error.to_string());
        Self::Invalid(Fault {
            at,
            message,
            expected: None,
            hint: None,
            others: 0,
        })
    }

    pub(crate) fn from_parse(text: &str, errors: &ParseErrors) -> Self {
        Self::Syntax(first_fault(text, errors.iter()))
    }

    /// `None` when the text passed without an error or a warning.
    ///
    /// Warnings refuse as errors do (POL-3): they tell of a policy that can never apply, and of text
    /// that does not read as it is meant (mixed scripts, direction marks), and what k admins sign
    /// must be what they read.
    pub(crate) fn from_validation(text: &str, result: &ValidationResult) -> Option<Self> {
        if result.validation_passed_without_warnings() {
            return None;
        }
        // What is wrong comes before what looks odd, as it is often the cause of it.
        let others = result.validation_warnings().count();
        if result.validation_passed() {
            return Some(Self::Invalid(first_fault(
                text,
                result.validation_warnings(),
            )));
        }
        let fault = first_fault(text, result.validation_errors());
        Some(Self::Invalid(Fault {
            others: fault.others + others,
            ..fault
        }))
    }
}

fn first_fault<'a, D>(text: &str, diagnostics: impl Iterator<Item = &'a D>) -> Fault
where
    D: Diagnostic + 'a,
{
    let mut faults: Vec<(usize, Fault)> = diagnostics
        .map(|diagnostic| {
            let label = diagnostic.labels().and_then(|mut labels| labels.next());
            let offset = label.as_ref().map_or(text.len(), |label| label.offset());
            let fault = Fault {
                at: Position::of(text, offset),
                message: one_line(&diagnostic.to_string()),
                expected: label.and_then(|label| label.label().map(one_line)),
                hint: diagnostic.help().map(|help| one_line(&help.to_string())),
                others: 0,
            };
            (offset, fault)
        })
        .collect();
    let others = faults.len().saturating_sub(1);
    faults.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.message.cmp(&y.message)));
    match faults.into_iter().next() {
        Some((_, fault)) => Fault { others, ..fault },
        // Cedar never fails without a diagnostic; should it ever, the text is still refused.
        None => Fault {
            at: Position::of(text, text.len()),
            message: "not a valid policy".to_owned(),
            expected: None,
            hint: None,
            others,
        },
    }
}

/// Messages quote the text: keep them to one line and a bounded length, whatever stood there.
pub(crate) fn one_line(message: &str) -> String {
    const MAX_CHARS: usize = 400;
    let mut line: String = message
        .chars()
        .take(MAX_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if message.chars().nth(MAX_CHARS).is_some() {
        line.push_str("...");
    }
    line
}
