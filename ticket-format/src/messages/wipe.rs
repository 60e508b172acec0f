//! Wipe (`spec/protocol.md`, section 8): the last thing that a denied ticket's holder says.

use crate::limits;
use crate::time::Timestamp;

use super::Receipt;
use super::shape::{Bytes, UINT, closed_map, item};

closed_map! {
    /// That a denied ticket, its keys and the DEKs held by it were erased, signed by the ticket's
    /// proof key (WIP-2).
    ///
    /// `wipe-body = { 1: bstr .size (1..8192), 2: uint, 3: uint, 4: unix-time }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WipeBody {
        /// The ticket's bytes.
        1 ticket: Vec<u8> = Bytes(1..=limits::TICKET);
        /// The epoch that the watch answer named.
        2 epoch: u64 = UINT;
        /// How many keys were erased: session keys and DEKs.
        3 erased: u64 = UINT;
        /// When, by the holder's clock.
        4 at: Timestamp = item();
    }
}

closed_map! {
    /// The receipt of the record.
    ///
    /// `wipe-answer = { 1: receipt }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WipeAnswer {
        /// The audit log's receipt.
        1 receipt: Receipt = item();
    }
}
