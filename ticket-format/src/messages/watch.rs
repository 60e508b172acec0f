//! Watch (`spec/protocol.md`, section 8): who holds a ticket hears of its denial at once.

use crate::denial::REASON;
use crate::limits;

use super::shape::{Bool, Bytes, OrNull, Text, UINT, Uint, closed_map};

closed_map! {
    /// What the holder says, signed by the ticket's proof key (WIP-1).
    ///
    /// `watch-body = { 1: bstr .size (1..8192), 2: 0..30000 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WatchBody {
        /// The ticket's bytes.
        1 ticket: Vec<u8> = Bytes(1..=limits::TICKET);
        /// How long the server may wait, in milliseconds.
        2 hold_ms: u64 = Uint(0..=limits::FEED_HOLD_MS);
    }
}

closed_map! {
    /// What the server says: signed by a key server's signing key, or over the broker's own TLS (WIP-2).
    ///
    /// `watch-answer = { 1: uint, 2: bool, 3: tstr .size (0..256) / null }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WatchAnswer {
        /// The epoch that it was decided under.
        1 epoch: u64 = UINT;
        /// Whether the ticket is denied.
        2 denied: bool = Bool;
        /// Why, for people.
        3 reason: Option<String> = OrNull(Text(0..=REASON));
    }
}
