//! Denials by admins.

use crate::denial::{REASON, Selector};
use crate::ids::{ChainDigest, DenialDigest};
use crate::limits;
use crate::messages::feed::Numbered;
use crate::messages::shape::{Bool, Bytes, List, Pair, Text, UINT, Uint, closed_map, item};

use super::acts::act;

closed_map! {
    /// Denies (DEN-1).
    ///
    /// `deny-body = { 1: selector, 2: tstr .size (0..256) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DenyBody {
        /// Whom.
        1 selector: Selector = item();
        /// Why, for people.
        2 reason: String = Text(0..=REASON);
    }
}
act!(DenyBody, Deny, Denied);

closed_map! {
    /// Where the denials stand after the act.
    ///
    /// `denied = { 1: uint, 2: hash, 3: hash, 4: bstr .size (0..16384) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Denied {
        /// The epoch.
        1 epoch: u64 = UINT;
        /// The chain digest at that epoch.
        2 chain: ChainDigest = item();
        /// The chain digest before it.
        3 before: ChainDigest = item();
        /// The denial's bytes, or the lifting: its statement. Empty when a launch was closed and
        /// nobody denied; then `before` is `chain`.
        4 record: Vec<u8> = Bytes(0..=limits::RECORD);
    }
}

/// Most denials that one statement lifts.
pub const LIFTED: usize = 64;

closed_map! {
    /// Lifts denials: the statement itself is the lifting that the feed carries (DEN-9).
    ///
    /// `undeny = { 1: [1*64 [uint, hash]], 2: tstr .size (0..256) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Undeny {
        /// Each one's epoch, and SHA-256 of the denial at that epoch.
        1 denials: Vec<(u64, DenialDigest)> = List(1..=LIFTED, Pair(UINT, item()));
        /// Why, for people.
        2 reason: String = Text(0..=REASON);
    }
}
act!(Undeny, Undeny, Denied);

closed_map! {
    /// Lists the denials after an epoch.
    ///
    /// `deny-list = { 1: uint, 2: 1..500 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DenyList {
        /// The last epoch of the page before; 0 for the first page.
        1 after: u64 = UINT;
        /// Most rows wanted.
        2 rows: u64 = Uint(1..=DENIAL_ROWS as u64);
    }
}
act!(DenyList, DenyList, DenialPage);

/// Most denials in one page.
pub const DENIAL_ROWS: usize = 500;

closed_map! {
    /// `denial-page = { 1: [*500 [epoch: uint, bstr .size (1..2048)]], 2: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DenialPage {
        /// Denials by epoch.
        1 rows: Vec<Numbered> = List(0..=DENIAL_ROWS, item());
        /// Whether there are more.
        2 more: bool = Bool;
    }
}
