//! What went wrong, told in three parts (CONVENTIONS: what, why, next), with its exit code.

use std::fmt;

use crate::Refusal;

/// Exit codes of every command.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// A failure on this machine.
    pub const LOCAL: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// No ticket, or expired: log in.
    pub const NO_TICKET: u8 = 3;
    /// Refused by policy.
    pub const REFUSED: u8 = 4;
    /// Denied: ticket, node or launch.
    pub const DENIED: u8 = 5;
    /// Not found.
    pub const NOT_FOUND: u8 = 6;
    /// Conflict: exists, already used.
    pub const CONFLICT: u8 = 7;
    /// Unreachable or busy: safe to retry.
    pub const RETRY: u8 = 8;
    /// Integrity failure: do not use the output.
    pub const INTEGRITY: u8 = 9;
    /// Configuration.
    pub const CONFIG: u8 = 10;
}

/// An error as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What did not happen, one clause.
    pub what: String,
    /// Why, if known.
    pub why: Option<String>,
    /// What to do next.
    pub next: Option<String>,
    /// The exit code.
    pub exit: u8,
    /// The refusal behind it, if a server refused.
    pub refusal: Option<Refusal>,
}

impl Report {
    /// An error that ends with this exit code.
    #[must_use]
    pub fn new(exit: u8, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: None,
            next: None,
            exit,
            refusal: None,
        }
    }

    /// Says why.
    #[must_use]
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// A server's refusal, with the detail that it gave.
    #[must_use]
    pub fn refused(by: &str, refusal: Refusal, detail: Option<&str>) -> Self {
        Self {
            what: format!("{by} refused ({refusal})"),
            why: Some(detail.unwrap_or(refusal.meaning()).to_owned()),
            next: Some(refusal.next_step().to_owned()),
            exit: refusal.exit_code(),
            refusal: Some(refusal),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", Printable(&self.what))?;
        if let Some(why) = &self.why {
            write!(f, "\n  why:  {}", Printable(why))?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next: {}", Printable(next))?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Whether a character does not show as itself, or makes others show out of place: controls, marks of
/// direction, and what has no width. A text that somebody is to agree to must not hide anything.
#[must_use]
pub fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text from outside, on one line: a peer's detail cannot move the cursor or forge a line, and what
/// does not show as itself ([`hides`]) is shown by its number.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() {
                write!(f, "\u{fffd}")
            } else if hides(c) {
                write!(f, "{}", c.escape_unicode())
            } else {
                write!(f, "{c}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_three_parts() {
        let report = Report::refused("broker", Refusal::Denied, Some("disk cloned"));
        assert_eq!(
            report.to_string(),
            "error: broker refused (refusal 14: denied)\n  why:  disk cloned\n  next: ask an admin"
        );
        assert_eq!(report.exit, exit::DENIED);
    }

    #[test]
    fn a_peers_detail_cannot_forge_a_line() {
        let report = Report::refused("broker", Refusal::Denied, Some("x\nerror: \u{1b}[2J"));
        assert!(!report.to_string().contains("\nerror") && !report.to_string().contains('\u{1b}'));
    }

    #[test]
    fn what_hides_in_a_text_is_shown_by_its_number() {
        // rule: PRO-3
        let shown = Printable("permit \u{202e}when\u{2066} ops\u{200b} tag\u{e0041}").to_string();
        assert_eq!(
            shown,
            "permit \\u{202e}when\\u{2066} ops\\u{200b} tag\\u{e0041}"
        );
        let plain = "Grüße, 中文 (a-b_c) \"x\"";
        assert_eq!(Printable(plain).to_string(), plain);
    }
}
