//! Acts on ticket keys, member by member.

use super::*;
use crate::ids::TicketKeyDigest;
use crate::statement::{
    TicketKeyList, TicketKeyMade, TicketKeyMake, TicketKeyRow, TicketKeyRows, TicketKeySet,
};

#[test]
fn the_acts_on_ticket_keys_hold_to_their_shapes() {
    // rule: KEY-1, ENC-3
    strict(&TicketKeyMake {}, &[], &[]);
    strict(&TicketKeyList {}, &[], &[]);
    strict(&TicketKeyMade { key: key(1) }, &[], &[]);
    let set = TicketKeySet {
        number: 2,
        follows: TicketKeyDigest([3; 32]),
        key: key(2),
        old: key(1),
        from: at(10),
        until: at(20),
    };
    strict(&set, &[], &[]);
    let first = TicketKeySet { number: 1, ..set };
    assert!(
        TicketKeySet::from_cbor(&first.to_cbor(), 1_024).is_err(),
        "the first key has no record"
    );
    let row = TicketKeyRow {
        number: 1,
        key: key(1),
        from: Some(at(5)),
        to: Some(at(10)),
        until: Some(at(20)),
        signs: true,
        held: true,
    };
    strict(&row, &[], &[]);
    let rows = TicketKeyRows {
        rows: vec![row],
        records: vec![vec![1; 60]],
        overlap: 28_800,
    };
    strict(&rows, &[], &[1, 2]);
    // rule: ADM-1 — a record for everyone, or it would not be verified again.
    assert!(Act::TicketKeySet.is_record() && !Act::TicketKeyMake.is_record());
}
