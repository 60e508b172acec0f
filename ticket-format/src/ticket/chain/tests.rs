//! Each boundary of a rotation; each check has a test that goes red without it.

use super::*;
use crate::Refusal;
use crate::ids::StatementId;
use crate::keys::{AdminSecret, TicketSecret};
use crate::statement::{Admin, AdminKeyKind, AdminRole, AdminSetBody, Nothing, Payload};
use crate::ticket::tests as tickets;
use crate::ticket::{self, DatasetClaims, TicketError};

const FROM: u64 = 1_800_000_000;
const UNTIL: u64 = FROM + 90_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn secret(seed: u8) -> TicketSecret {
    TicketSecret::from_seed(&[seed; 32])
}

fn key(seed: u8) -> TicketKey {
    secret(seed).public()
}

fn admin(seed: u8) -> AdminSecret {
    AdminSecret::from_seed(&[seed; 32])
}

/// Operators, owners and security; the last two are of these seeds.
fn set(security: [u8; 2]) -> AdminSet {
    let roles = [
        (21, AdminRole::Operator),
        (22, AdminRole::Operator),
        (23, AdminRole::DatasetOwner),
        (24, AdminRole::DatasetOwner),
        (security[0], AdminRole::Security),
        (security[1], AdminRole::Security),
    ];
    let mut admins: Vec<Admin> = roles
        .iter()
        .map(|(seed, role)| Admin {
            name: format!("admin-{seed}"),
            kind: AdminKeyKind::File,
            key: admin(*seed).public(),
            roles: vec![*role],
            application: None,
        })
        .collect();
    admins.sort_by_key(|admin| admin.key);
    let body = AdminSetBody {
        version: 1,
        follows: AdminSetBody::NOTHING,
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    };
    AdminSet::new(body).unwrap()
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
        from: at(FROM + 500),
        until: at(UNTIL + 500),
    }
}

fn signed(body: &TicketKeySet, seeds: &[u8]) -> Vec<u8> {
    let id = StatementId([body.number as u8; 16]);
    let payload = Payload::record(id, "realm", at(FROM - 1_000), body);
    let secrets: Vec<AdminSecret> = seeds.iter().map(|seed| admin(*seed)).collect();
    payload.sign(&secrets.iter().collect::<Vec<_>>()).unwrap()
}

fn follow(keys: &mut TicketKeys, body: &TicketKeySet) -> Result<bool, TicketKeyRefusal> {
    keys.follow(
        &signed(body, &[31, 32]),
        [&set([31, 32])],
        "realm",
        at(FROM),
    )
}

fn rotated() -> TicketKeys {
    let mut keys = TicketKeys::of(key(1));
    assert_eq!(follow(&mut keys, &second()), Ok(true));
    keys
}

/// What becomes of a ticket under a key, issued and presented then.
fn present(keys: &TicketKeys, by: u8, issued: u64, now: u64) -> Result<(), TicketError> {
    let mut claims = tickets::dataset_claims();
    claims.common.issued = at(issued);
    claims.common.expires = at(u64::from(u32::MAX));
    let bytes = ticket::sign(&claims, &secret(by));
    let verified = ticket::verify_for_anyone::<DatasetClaims>(&bytes, keys)?;
    verified.live(at(now)).map(drop)
}

#[test]
fn the_old_key_counts_for_what_was_issued_before_the_new_one_began_and_until_its_end() {
    // rule: KEY-2
    let keys = rotated();
    let refused = Err(TicketError::Signature);
    assert_eq!(present(&keys, 1, FROM - 1, UNTIL - 1), Ok(()));
    assert_eq!(present(&keys, 1, FROM - 1, UNTIL), refused);
    assert_eq!(present(&keys, 1, FROM, FROM + 1), refused);
    assert_eq!(present(&keys, 1, FROM + 1, FROM + 1), refused);
    assert_eq!(Refusal::from(TicketError::Signature).number(), 31);
    // The new one from the moment that it is known, and without an end.
    assert_eq!(present(&keys, 2, FROM - 1, FROM - 1), Ok(()));
    assert_eq!(present(&keys, 2, FROM, UNTIL + 1), Ok(()));
    assert_eq!(present(&keys, 3, FROM, FROM), refused);
    // Who does not know the record yet takes the first key alone.
    let before = TicketKeys::of(key(1));
    assert_eq!(present(&before, 1, FROM + 1, UNTIL + 1), Ok(()));
    assert_eq!(present(&before, 2, FROM, FROM), refused);
}

#[test]
fn a_ticket_that_was_verified_before_the_record_was_known_is_held_to_it_later() {
    // rule: KEY-2
    let live = |issued: u64| {
        let mut claims = tickets::dataset_claims();
        claims.common.issued = at(issued);
        claims.common.expires = at(u64::from(u32::MAX));
        let bytes = ticket::sign(&claims, &secret(1));
        let verified = ticket::verify_for_anyone::<DatasetClaims>(&bytes, &key(1)).unwrap();
        verified.live(at(FROM)).unwrap()
    };
    let keys = rotated();
    assert_eq!(live(FROM - 1).still_signed(&keys, at(UNTIL - 1)), Ok(()));
    let refused = Err(TicketError::Signature);
    assert_eq!(live(FROM - 1).still_signed(&keys, at(UNTIL)), refused);
    assert_eq!(live(FROM).still_signed(&keys, at(FROM)), refused);
    assert_eq!(live(FROM).still_signed(&key(2), at(FROM)), refused);
}

#[test]
fn the_new_key_signs_from_its_time_on_and_not_before() {
    // rule: KEY-2
    let mut keys = rotated();
    assert_eq!(keys.at(at(FROM - 1)), (&key(1), at(UNTIL)));
    assert_eq!(keys.at(at(FROM)), (&key(2), Timestamp::LAST));
    // A third may be named while the first still counts.
    follow(&mut keys, &third()).unwrap();
    assert_eq!(keys.at(at(FROM - 1)), (&key(1), at(UNTIL)));
    assert_eq!(keys.at(at(FROM + 499)), (&key(2), at(UNTIL + 500)));
    assert_eq!(keys.at(at(FROM + 500)), (&key(3), Timestamp::LAST));
    assert_eq!(present(&keys, 1, FROM - 1, UNTIL - 1), Ok(()));
    assert_eq!(present(&keys, 2, FROM + 499, UNTIL + 499), Ok(()));
    assert_eq!(
        present(&keys, 2, FROM + 500, FROM + 500),
        Err(TicketError::Signature)
    );
}

#[test]
fn a_record_follows_the_one_before_and_nothing_else() {
    // rule: KEY-1
    let refused = |edit: &dyn Fn(&mut TicketKeySet)| {
        let (mut keys, mut body) = (rotated(), third());
        edit(&mut body);
        let before = keys.clone();
        let refused = follow(&mut keys, &body).unwrap_err();
        assert_eq!(keys, before, "nothing has changed");
        refused
    };
    let stale = TicketKeyRefusal::Follows(2);
    assert_eq!(refused(&|body| body.number = 4), stale);
    assert_eq!(refused(&|body| body.follows.0[0] ^= 1), stale);
    assert_eq!(refused(&|body| body.old = key(1)), stale);
    let contradiction = TicketKeyRefusal::Contradiction;
    assert_eq!(refused(&|body| body.key = key(2)), contradiction);
    assert_eq!(refused(&|body| body.key = key(1)), contradiction);
    assert_eq!(refused(&|body| body.from = at(FROM)), contradiction);
    assert_eq!(refused(&|body| body.until = body.from), contradiction);
    assert_eq!(refused(&|body| body.until = Timestamp::LAST), contradiction);
    assert_eq!(refused(&|body| body.until = at(UNTIL - 1)), contradiction);
    let mut keys = rotated();
    assert_eq!(follow(&mut keys, &third()), Ok(true));
    assert_eq!((keys.number(), keys.newest()), (3, &key(3)));
    // What is known already says nothing new.
    assert_eq!(follow(&mut keys, &second()), Ok(false));
    let mut first = TicketKeys::of(key(1));
    let body = TicketKeySet {
        follows: TicketKeyDigest([1; 32]),
        ..second()
    };
    let refused = follow(&mut first, &body).unwrap_err();
    assert_eq!(refused, TicketKeyRefusal::Follows(1));
}

#[test]
fn a_record_needs_the_quorum_of_one_of_the_admin_sets() {
    // rule: KEY-1
    let mut keys = TicketKeys::of(key(1));
    let (old, new) = (set([31, 32]), set([41, 42]));
    let mut tried = |seeds: &[u8], sets: &[&AdminSet]| {
        keys.follow(&signed(&second(), seeds), sets.to_vec(), "realm", at(FROM))
    };
    let quorum = StatementRefusal::Quorum { have: 1, need: 2 };
    assert_eq!(tried(&[31], &[&old]), Err(quorum.into()));
    let unknown = StatementRefusal::UnknownSigner;
    assert_eq!(tried(&[31, 32], &[&new]), Err(unknown.into()));
    assert_eq!(tried(&[31, 32], &[]), Err(unknown.into()));
    assert_eq!(tried(&[31, 32], &[&new, &old]), Ok(true));
    let mut keys = TicketKeys::of(key(1));
    let elsewhere = signed(&second(), &[31, 32]);
    let refused = keys.follow(&elsewhere, [&old], "another", at(FROM));
    assert_eq!(refused, Err(StatementRefusal::Realm.into()));
    let server = crate::keys::TlsSecret::from_seed(&[9; 32]).public();
    let id = StatementId([9; 16]);
    let payload = Payload::act(id, "realm", server, at(FROM), 600, &second());
    let one_server = payload.sign(&[&admin(31), &admin(32)]).unwrap();
    let refused = keys.follow(&one_server, [&old], "realm", at(FROM));
    assert_eq!(refused, Err(TicketKeyRefusal::NoRecord));
    let _: Nothing = Nothing {};
}

#[test]
fn a_pinned_key_that_is_not_the_first_finds_its_place_and_goes_on_from_there() {
    // rule: KEY-1
    let mut keys = TicketKeys::of(key(2));
    // Of the records before its own it needs nothing.
    assert_eq!(follow(&mut keys, &second()), Ok(true));
    assert_eq!((keys.number(), keys.newest()), (2, &key(2)));
    assert_eq!(present(&keys, 1, FROM - 1, UNTIL - 1), Ok(()));
    assert_eq!(follow(&mut keys, &third()), Ok(true));
    // One that is not signed by admins that are known is a hint of its number, and of nothing else.
    let mut keys = TicketKeys::of(key(2));
    let strange = signed(&second(), &[31, 32]);
    assert_eq!(
        keys.follow(&strange, [&set([41, 42])], "realm", at(FROM)),
        Ok(true)
    );
    assert_eq!((keys.number(), keys.retired().len()), (2, 0));
    let refused = present(&keys, 1, FROM - 1, FROM);
    assert_eq!(refused, Err(TicketError::Signature));
    assert_eq!(follow(&mut keys, &third()), Ok(true));
    assert_eq!(keys.number(), 3);
    // A wrong hint keeps nobody from a good record, and is not kept.
    let mut keys = TicketKeys::of(key(1));
    let forged = TicketKeySet {
        number: u64::MAX,
        follows: TicketKeyDigest::of(b"none"),
        key: key(1),
        old: key(9),
        ..second()
    };
    let strange = signed(&forged, &[33, 34]);
    let hinted = keys.follow(&strange, [&set([31, 32])], "realm", at(FROM));
    assert_eq!(hinted, Ok(true));
    let kept = TicketKeys::from_cbor(&keys.to_cbor(), 8_192).unwrap();
    assert_eq!(kept, TicketKeys::of(key(1)));
    for mut keys in [keys, kept] {
        assert_eq!(follow(&mut keys, &second()), Ok(true));
        assert_eq!((keys.number(), keys.newest()), (2, &key(2)));
    }
    // The second key's record follows nothing, whoever pins the first.
    let mut keys = TicketKeys::of(key(1));
    let follows = TicketKeySet {
        follows: TicketKeyDigest::of(b"none"),
        ..second()
    };
    assert!(follow(&mut keys, &follows).is_err());
    // Of a later one that does not name it at all it learns nothing.
    let mut keys = TicketKeys::of(key(1));
    assert_eq!(follow(&mut keys, &third()), Ok(false));
    assert_eq!(keys, TicketKeys::of(key(1)));
}

#[test]
fn what_is_kept_of_a_chain_is_the_chain() {
    let mut keys = rotated();
    follow(&mut keys, &third()).unwrap();
    let bytes = keys.to_cbor();
    assert_eq!(TicketKeys::from_cbor(&bytes, 8_192), Ok(keys.clone()));
    let empty = TicketKeySet {
        until: at(FROM),
        ..second()
    };
    let mut first = TicketKeys::first(key(1));
    let refused = follow(&mut first, &empty).unwrap_err();
    assert_eq!(refused, TicketKeyRefusal::Contradiction);
    let skipped = TicketKeySet {
        number: 3,
        ..second()
    };
    let mut first = TicketKeys::first(key(1));
    assert_eq!(
        follow(&mut first, &skipped),
        Err(TicketKeyRefusal::Follows(1))
    );
    let mut taken = TicketKeys::of(key(1));
    taken.take(&second()).unwrap();
    taken.take(&third()).unwrap();
    assert_eq!(taken, keys);
    assert!(keys.knows(&key(1)) && keys.knows(&key(3)) && !keys.knows(&key(4)));
}
