//! Which key signs when, what a record's times are held to, and when a key is erased.

use super::*;
use ticket_format::cbor::Encode;
use ticket_format::ids::{StatementId, TicketKeyDigest};
use ticket_format::keys::{AdminSecret, TicketSecret};
use ticket_format::statement::Payload;

const FROM: u64 = 1_800_000_000;
const UNTIL: u64 = FROM + limits::NODE_TICKET_LIFE;

#[derive(Debug)]
struct Nowhere;

impl KeyKeeper for Nowhere {
    fn make(&self) -> Result<Arc<dyn TicketSigner>, String> {
        Err("nothing is kept".to_owned())
    }

    fn erase(&self, _: &TicketKey, _: bool) -> Result<(), String> {
        Ok(())
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn secret(seed: u8) -> Arc<dyn TicketSigner> {
    Arc::new(TicketSecret::from_seed(&[seed; 32]))
}

fn key(seed: u8) -> TicketKey {
    secret(seed).public()
}

fn second() -> TicketKeySet {
    TicketKeySet {
        number: 2,
        follows: TicketKeySet::NOTHING,
        key: key(2),
        old: key(1),
        from: at(FROM),
        until: at(UNTIL),
    }
}

fn third() -> TicketKeySet {
    TicketKeySet {
        number: 3,
        follows: TicketKeyDigest::of(&second().to_cbor()),
        key: key(3),
        old: key(2),
        from: at(FROM + 100),
        until: at(UNTIL + 100),
    }
}

/// As the store holds it: it was verified when it was taken.
fn statement(body: &TicketKeySet) -> Vec<u8> {
    let id = StatementId([body.number as u8; 16]);
    let payload = Payload::record(id, "realm", at(FROM - 1_000), body);
    payload.sign(&[&AdminSecret::from_seed(&[9; 32])]).unwrap()
}

fn ring(first: Option<u8>, others: &[u8]) -> TicketRing {
    let others = others.iter().map(|seed| secret(*seed)).collect();
    TicketRing::new(first.map(secret), others, Arc::new(Nowhere)).unwrap()
}

#[test]
fn the_key_turns_at_its_time_and_the_old_one_is_over_at_its_end() {
    // rule: KEY-2
    let ring = ring(Some(1), &[2, 3]);
    ring.load(vec![statement(&second()), statement(&third())])
        .unwrap();
    let signing = |now| ring.signing(at(now));
    assert_eq!(signing(FROM - 1), (1, key(1)));
    assert_eq!(signing(FROM), (2, key(2)));
    assert_eq!(signing(FROM + 99), (2, key(2)));
    assert_eq!(signing(FROM + 100), (3, key(3)));
    // No ticket outlives the key that it is signed by.
    assert_eq!(ring.end(at(FROM - 1)), at(UNTIL));
    assert_eq!(ring.end(at(FROM)), at(UNTIL + 100));
    assert_eq!(ring.end(at(FROM + 100)), Timestamp::LAST);
    let over = |after, now| -> Vec<u64> {
        let over = ring.over(after, at(now));
        over.iter().map(|over| over.number).collect()
    };
    assert!(over(0, UNTIL - 1).is_empty());
    assert_eq!(over(0, UNTIL), [1]);
    assert_eq!(over(0, UNTIL + 100), [1, 2]);
    assert_eq!(over(1, UNTIL + 100), [2]);
    assert!(over(2, UNTIL + 100).is_empty());
}

#[test]
fn a_broker_without_the_key_that_signs_now_or_next_says_so() {
    // rule: KEY-2
    let records = || vec![statement(&second()), statement(&third())];
    let check = |ring: &TicketRing, now| ring.check(at(now)).is_ok();
    let whole = ring(Some(1), &[2, 3]);
    assert!(check(&whole, FROM));
    whole.load(records()).unwrap();
    assert!(check(&whole, FROM - 1) && check(&whole, FROM + 100));
    let erased = ring(None, &[2, 3]);
    assert!(!check(&erased, FROM), "no record says which key stands");
    erased.load(records()).unwrap();
    assert!(!check(&erased, FROM - 1) && check(&erased, FROM));
    assert_eq!(erased.keys().origin(), &key(1));
    let behind = ring(Some(1), &[2]);
    behind.load(records()).unwrap();
    assert!(!check(&behind, FROM), "the newest is not held");
    let nothing = TicketRing::new(None, Vec::new(), Arc::new(Nowhere));
    assert!(nothing.is_err());
    // Records that do not join are no chain.
    let turned = vec![statement(&third()), statement(&second())];
    assert!(whole.load(turned).is_err());
}

#[test]
fn what_is_made_signs_nothing_and_is_listed_until_a_record_names_it() {
    // rule: KEY-1
    let ring = ring(Some(1), &[]);
    ring.add(secret(2));
    assert_eq!(ring.unnamed(), [key(2)]);
    assert_eq!(ring.signing(Timestamp::LAST), (1, key(1)));
    assert_eq!(ring.rows(at(FROM)).len(), 2);
    ring.load(vec![statement(&second())]).unwrap();
    assert!(ring.unnamed().is_empty());
    let rows = ring.rows(at(FROM));
    let numbers: Vec<_> = rows.iter().map(|row| (row.number, row.signs)).collect();
    assert_eq!(numbers, [(1, false), (2, true)]);
    assert_eq!((rows[0].from, rows[0].to), (None, Some(at(FROM))));
    assert_eq!(
        (rows[1].from, rows[0].until),
        (Some(at(FROM)), Some(at(UNTIL)))
    );
    ring.forget(&key(1));
    assert!(!ring.rows(at(FROM))[0].held);
    // Who knows of none is brought all, who knows of all none.
    assert_eq!(ring.after(1), [statement(&second())]);
    assert!(ring.after(2).is_empty());
    assert_eq!(ring.newest(), ring.after(0));
}

#[test]
fn a_records_times_leave_room_for_the_feed_and_for_the_last_ticket() {
    // rule: KEY-1
    let bounds = Bounds::of([(30, 3_600), (10, 50_000)].into_iter());
    assert_eq!((bounds.lease, bounds.life), (30, 50_000));
    let now = at(FROM - 30);
    let check = |from: u64, until: u64| {
        let body = TicketKeySet {
            from: at(from),
            until: at(until),
            ..second()
        };
        bounds.check(&body, now).is_ok()
    };
    assert!(check(FROM, FROM + 50_000));
    assert!(!check(FROM - 1, FROM - 1 + 50_000));
    assert!(!check(FROM, FROM + 49_999));
    assert!(check(FROM, FROM + 50_000 + SPARE));
    assert!(!check(FROM, FROM + 50_001 + SPARE));
    // A node ticket's life counts where no dataset's is longer, and no life is longer than the longest.
    let least = Bounds::of([(1, 60)].into_iter());
    assert_eq!((least.lease, least.life), (5, limits::NODE_TICKET_LIFE));
    let most = Bounds::of([(1, u64::MAX)].into_iter());
    assert_eq!(most.life, limits::LONGEST_TICKET_LIFE);
}
