//! Denials: who gets nothing any more, in what order it was said, and how a server looks it up
//! (`spec/protocol.md`, section 8).

mod selector;
mod set;

pub use selector::{EmptySelector, Members, Selector};
pub use set::{DenialSet, Hit, TicketFacts, TooMany};

use sha2::{Digest, Sha256};

use crate::cbor::Writer;
use crate::ids::{ChainDigest, StatementDigest};
use crate::messages::shape::{Text, closed_map, item};
use crate::time::Timestamp;
use crate::{labels, limits};

/// Longest reason, in bytes.
pub const REASON: usize = 256;

closed_map! {
    /// One denial, as the feed carries it and both sides keep it.
    ///
    /// `denial = { 1: selector, 2: tstr .size (0..256), 3: hash, 4: unix-time, 5: unix-time }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Denial {
        /// What it hits.
        1 selector: Selector = item();
        /// Why, for people.
        2 reason: String = Text(0..=REASON);
        /// Digest of the admin's statement; zero when the broker made it itself, on a fork.
        3 statement: StatementDigest = item();
        /// When it was made.
        4 made: Timestamp = item();
        /// From when on no ticket is left that it could hit.
        5 forget: Timestamp = item();
    }
}

impl Denial {
    /// A denial made now. It is kept until the last ticket that it could hit has expired.
    #[must_use]
    pub fn new(
        selector: Selector,
        reason: String,
        statement: StatementDigest,
        made: Timestamp,
    ) -> Self {
        // rule: DEN-7
        let forget = made.plus(limits::LONGEST_TICKET_LIFE + limits::SKEW);
        Self {
            selector,
            reason,
            statement,
            made,
            forget,
        }
    }
}

/// The chain digest before the first denial.
pub const CHAIN_START: ChainDigest = ChainDigest([0; 32]);

/// `chain(n) = SHA-256(["postern/1 denial", chain(n-1), SHA-256(denial)])` over the denial's bytes (DEN-1).
#[must_use]
pub fn chain_next(previous: ChainDigest, denial: &[u8]) -> ChainDigest {
    // rule: DEN-1
    let mut writer = Writer::with_capacity(96);
    writer
        .array(3)
        .text(labels::DENIAL)
        .bytes(&previous.0)
        .bytes(&Sha256::digest(denial));
    ChainDigest::of(&writer.into_bytes())
}

#[cfg(test)]
mod tests;
