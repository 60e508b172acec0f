//! One denial in 32 bytes.

use super::TooMany;
use super::hash::Kind;
use crate::time::Timestamp;

/// A time takes 38 bits: [`Timestamp::LAST`] is below 2^38.
const TIME_BITS: u32 = 38;
/// Later than every time: no limit.
const NEVER: u64 = (1 << TIME_BITS) - 1;
const KIND_BITS: u32 = 7;
const EPOCH_BITS: u32 = 45;
const KIND_AT: u32 = TIME_BITS;
const EPOCH_AT: u32 = KIND_AT + KIND_BITS;
const BEFORE_AT: u32 = EPOCH_AT + EPOCH_BITS;
const _: () = assert!(BEFORE_AT + TIME_BITS == 128);

/// A denial's key and terms. Entries are ordered by key; those of one key begin with the one that
/// hits most: whoever looks a key up reads the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    key: u128,
    /// From the top: issued-before's complement, epoch, kind, forget time.
    terms: u128,
}

fn field(terms: u128, at: u32, bits: u32) -> u64 {
    // Masked to at most 45 bits.
    (terms >> at) as u64 & ((1 << bits) - 1)
}

impl Entry {
    pub(super) fn new(
        key: u128,
        kind: Kind,
        issued_before: Option<Timestamp>,
        epoch: u64,
        forget: Timestamp,
    ) -> Result<Self, TooMany> {
        if epoch >> EPOCH_BITS != 0 {
            return Err(TooMany);
        }
        let before = issued_before.map_or(NEVER, Timestamp::seconds);
        let forget = if forget < Timestamp::LAST {
            forget.seconds()
        } else {
            NEVER
        };
        let terms = u128::from(NEVER - before) << BEFORE_AT
            | u128::from(epoch) << EPOCH_AT
            | u128::from(kind) << KIND_AT
            | u128::from(forget);
        Ok(Self { key, terms })
    }

    pub(super) fn key(&self) -> u128 {
        self.key
    }

    pub(super) fn epoch(&self) -> u64 {
        field(self.terms, EPOCH_AT, EPOCH_BITS)
    }

    pub(super) fn kind(&self) -> Kind {
        field(self.terms, KIND_AT, KIND_BITS) as Kind
    }

    /// Seconds; for what is kept for good, later than every time.
    pub(super) fn forget(&self) -> u64 {
        field(self.terms, 0, TIME_BITS)
    }

    /// Whether no ticket is left that it could hit.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.forget() <= now.seconds()
    }

    /// Whether it hits what was issued at this time.
    pub(super) fn hits(&self, issued: Timestamp) -> bool {
        issued.seconds() < NEVER - field(self.terms, BEFORE_AT, TIME_BITS)
    }
}
