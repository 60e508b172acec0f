//! The broker's ticket-signing keys, one after the other (KEY-1). How a chain of them is followed is in
//! [`crate::ticket::TicketKeys`].

use crate::ids::TicketKeyDigest;
use crate::keys::TicketKey;
use crate::limits;
use crate::messages::issue::TICKET_KEYS;
use crate::messages::shape::{Bool, Bytes, List, OrNull, UINT, Uint, closed_map, item};
use crate::time::Timestamp;

use super::acts::{Nothing, act};

closed_map! {
    /// Has the broker make its next key. It signs nothing before a [`TicketKeySet`] says so.
    ///
    /// `ticket-key-make = {}`
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct TicketKeyMake {}
}
act!(TicketKeyMake, TicketKeyMake, TicketKeyMade);

closed_map! {
    /// `ticket-key-made = { 1: ed-key }`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TicketKeyMade {
        /// The public key.
        1 key: TicketKey = item();
    }
}

closed_map! {
    /// A ticket-key record: from when on the broker signs with a new key, and until when tickets under the
    /// old one count (KEY-1). For everyone.
    ///
    /// ```cddl
    /// ticket-key = { 1: uint .ge 2, 2: hash, 3: ed-key, 4: ed-key, 5: unix-time, 6: unix-time }
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TicketKeySet {
        /// 2, 3, 4, …: the first key has no record.
        1 number: u64 = Uint(2..=u64::MAX);
        /// The record that it follows; zeros for number 2.
        2 follows: TicketKeyDigest = item();
        /// The new key.
        3 key: TicketKey = item();
        /// The key that it replaces.
        4 old: TicketKey = item();
        /// From then on the broker signs with the new key, and no ticket under the old one may be issued.
        5 from: Timestamp = item();
        /// From then on no ticket under the old key counts.
        6 until: Timestamp = item();
    }
}
act!(TicketKeySet, TicketKeySet, Nothing);

impl TicketKeySet {
    /// What number 2 follows.
    pub const NOTHING: TicketKeyDigest = TicketKeyDigest([0; 32]);
}

closed_map! {
    /// `ticket-key-list = {}`
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct TicketKeyList {}
}
act!(TicketKeyList, TicketKeyList, TicketKeyRows);

/// Most keys in one answer.
pub const KEY_ROWS: usize = 64;

closed_map! {
    /// The broker's keys, the newest of them.
    ///
    /// `ticket-key-rows = { 1: [*64 ticket-key-row], 2: [*16 bstr .size (1..16384)], 3: uint }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TicketKeyRows {
        /// By number; those that no record names yet stand last.
        1 rows: Vec<TicketKeyRow> = List(0..=KEY_ROWS, item());
        /// The newest records, ascending: statements.
        2 records: Vec<Vec<u8>> = List(0..=TICKET_KEYS, Bytes(1..=limits::RECORD));
        /// The least that `until` is after `from` now, in seconds: the longest life of a ticket.
        3 overlap: u64 = UINT;
    }
}

closed_map! {
    /// One key.
    ///
    /// ```cddl
    /// ticket-key-row = { 1: uint, 2: ed-key, 3: unix-time / null, 4: unix-time / null,
    ///                    5: unix-time / null, 6: bool, 7: bool }
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TicketKeyRow {
        /// Its number; 0: made, and named by no record.
        1 number: u64 = UINT;
        /// The public key.
        2 key: TicketKey = item();
        /// Since when it signs; null: since ever, or not yet named.
        3 from: Option<Timestamp> = OrNull(item());
        /// When the next one takes over.
        4 to: Option<Timestamp> = OrNull(item());
        /// Until when tickets under it count.
        5 until: Option<Timestamp> = OrNull(item());
        /// Whether it signs now.
        6 signs: bool = Bool;
        /// Whether the broker has the private key.
        7 held: bool = Bool;
    }
}
