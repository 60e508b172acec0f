//! Denials: who gets nothing any more, in what order it was said, and how a server looks it up
//! (`spec/protocol.md`, section 8).

mod outline;
mod selector;
mod set;

pub use selector::{EmptySelector, Members, Selector};
pub use set::{DenialSet, Hit, LoadError, Loader, TicketFacts, TooMany};

use crate::cbor::{Decode, DecodeError, Writer};
use crate::ids::{ChainDigest, DenialDigest, StatementDigest};
use crate::messages::feed::{DENIAL, Event};
use crate::messages::shape::{Text, closed_map, item};
use crate::time::Timestamp;
use crate::{labels, limits};

/// Longest reason, in bytes.
pub const REASON: usize = 256;

/// Longest author, in bytes.
pub const AUTHOR: usize = 64;

closed_map! {
    /// One denial, as the feed carries it and both sides keep it.
    ///
    /// ```cddl
    /// denial = { 1: selector, 2: tstr .size (0..256), 3: hash, 4: unix-time, 5: unix-time,
    ///            6: tstr .size (0..64) }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Denial {
        /// What it hits.
        1 selector: Selector = item();
        /// Why, for people.
        2 reason: String = Text(0..=REASON);
        /// Digest of the admin's statement; zero when the broker made it itself.
        3 statement: StatementDigest = item();
        /// When it was made.
        4 made: Timestamp = item();
        /// From when on no ticket is left that it could hit.
        5 forget: Timestamp = item();
        /// Who made it, for people: the admin's name.
        6 author: String = Text(0..=AUTHOR);
    }
}

impl Denial {
    /// A denial made now. It is kept until the last ticket that it could hit has expired: for good,
    /// where it hits tickets that are not issued yet.
    #[must_use]
    pub fn new(
        selector: Selector,
        reason: String,
        statement: StatementDigest,
        made: Timestamp,
        author: String,
    ) -> Self {
        let forget = forget_after(&selector, made);
        Self {
            selector,
            reason,
            statement,
            made,
            forget,
            author,
        }
    }
}

/// When a denial of this selector that was made then may be forgotten.
fn forget_after(selector: &Selector, made: Timestamp) -> Timestamp {
    // rule: DEN-7
    if selector.lasts() {
        Timestamp::LAST
    } else {
        made.plus(limits::LONGEST_TICKET_LIFE + limits::SKEW)
    }
}

impl Denial {
    /// Whether it is kept for as long as it must be: who takes a denial from a broker looks, or the
    /// broker could make one that is forgotten at once.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        // rule: DEN-7
        self.forget == forget_after(&self.selector, self.made)
    }
}

/// The chain digest before the first epoch.
pub const CHAIN_START: ChainDigest = ChainDigest([0; 32]);

/// `chain(n) = SHA-256(["postern/1 denial", chain(n-1), forget, SHA-256(record)])` (DEN-1): the record
/// is the denial's bytes, or of a lifting the statement.
#[must_use]
pub fn chain_next(previous: ChainDigest, forget: Timestamp, record: &[u8]) -> ChainDigest {
    Link {
        forget,
        record: DenialDigest::of(record),
    }
    .after(previous)
}

/// What the chain binds of one epoch. It is all that is kept of a denial that can hit no ticket any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// When the denial may be forgotten; of a lifting the last time there is.
    pub forget: Timestamp,
    /// SHA-256 of the denial or the lifting.
    pub record: DenialDigest,
}

impl Link {
    /// The chain digest with it.
    #[must_use]
    pub fn after(&self, previous: ChainDigest) -> ChainDigest {
        // rule: DEN-1
        let mut writer = Writer::with_capacity(96);
        writer
            .array(4)
            .text(labels::DENIAL)
            .bytes(&previous.0)
            .uint(self.forget.seconds())
            .bytes(&self.record.0);
        ChainDigest::of(&writer.into_bytes())
    }

    /// The link of an epoch as the feed brings it.
    ///
    /// # Errors
    /// A denial that does not have its shape.
    pub fn of(event: &Event) -> Result<Self, DecodeError> {
        Ok(match event {
            Event::Denial(bytes) => Self {
                forget: Denial::from_cbor(bytes, DENIAL)?.forget,
                record: DenialDigest::of(bytes),
            },
            Event::Lifting(statement) | Event::TicketKey(statement) => Self {
                forget: Timestamp::LAST,
                record: DenialDigest::of(statement),
            },
            Event::Gone { forget, denial } => Self {
                forget: *forget,
                record: *denial,
            },
        })
    }
}

#[cfg(test)]
mod tests;
