//! The ticket-signing key, replaced: by statement, at its time, on a real store and real key files.
#![allow(missing_docs)]

mod support;

use broker::secrets::Secrets;
use support::*;
use ticket_format::Refusal;
use ticket_format::denial::CHAIN_START;
use ticket_format::entry::Kind;
use ticket_format::ids::TicketKeyDigest;
use ticket_format::keys::{TicketKey, TicketSecret};
use ticket_format::limits;
use ticket_format::messages::feed::Event;
use ticket_format::statement::{TicketKeyList, TicketKeyMake, TicketKeyRow, TicketKeySet};
use ticket_format::ticket::{self, DatasetClaims, NodeClaims};
use ticket_format::time::Timestamp;

const LIFE: u64 = limits::NODE_TICKET_LIFE;

async fn rows(world: &World) -> Vec<TicketKeyRow> {
    world.act(&TicketKeyList {}).await.unwrap().rows
}

/// The record of the next key, ten seconds ahead.
async fn next(world: &World) -> TicketKeySet {
    let made = world.act(&TicketKeyMake {}).await.unwrap().key;
    let keys = world.broker().realm().tickets.keys();
    let from = world.now().plus(10);
    TicketKeySet {
        number: keys.number() + 1,
        follows: keys.digest(),
        key: made,
        old: *keys.newest(),
        from,
        until: from.plus(LIFE),
    }
}

fn signed_by<'a>(ticket: &[u8], keys: &'a [TicketKey]) -> &'a TicketKey {
    let by = |key: &&TicketKey| {
        ticket::verify_for_anyone::<DatasetClaims>(ticket, *key).is_ok()
            || ticket::verify_for_anyone::<NodeClaims>(ticket, *key).is_ok()
    };
    keys.iter().find(by).expect("by one of them")
}

/// What entries say of ticket keys: what, and its number.
fn told(world: &World) -> Vec<(String, u64)> {
    let entries = world.entries().into_iter();
    let ours = entries.filter(|entry| entry.kind == Kind::TicketKey);
    ours.map(|entry| (entry.subject.unwrap(), entry.count.unwrap()))
        .collect()
}

fn files(world: &World) -> Vec<String> {
    let dir = std::fs::read_dir(world.path("data/keys")).unwrap();
    let names = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| name.starts_with("ticket") && name.ends_with(".sealed"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_key_is_replaced_at_its_time_and_no_request_fails_for_it() {
    // rule: KEY-1, KEY-2, KEY-3
    let mut world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    assert!(held.answer.records.is_empty(), "the first key stands");
    let record = next(&world).await;
    let keys = [record.old, record.key];
    // It is made, and signs nothing.
    let issued = node.issue(&world, &held, |_| {}).await.unwrap();
    assert_eq!(signed_by(&issued.ticket, &keys), &record.old);
    assert!(issued.ticket_keys.is_empty());
    world.record(&record).await.unwrap();
    let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    let Event::TicketKey(statement) = &answer.epochs[0].event else {
        panic!("the feed brings the record");
    };
    // Up to its time the old one signs, and what it signs ends with it.
    world.clock.set(record.from.minus(1));
    let before = node.issue(&world, &held, |_| {}).await.unwrap();
    assert_eq!(signed_by(&before.ticket, &keys), &record.old);
    assert_eq!(before.ticket_keys, std::slice::from_ref(statement));
    world.clock.set(record.from);
    let after = node.issue(&world, &held, |_| {}).await.unwrap();
    assert_eq!(signed_by(&after.ticket, &keys), &record.key);
    let known = node.issue(&world, &held, |body| body.ticket_key = 2).await;
    assert!(known.unwrap().ticket_keys.is_empty());
    // The node ticket of before is good as long as it lives.
    world.clock.set(record.from.plus(LIFE - 20));
    assert_eq!(
        held.claims(&world).common.expires,
        record.from.plus(LIFE - 10)
    );
    node.issue(&world, &held, |_| {}).await.unwrap();
    let renewed = node.renew(&world).await.unwrap();
    assert_eq!(signed_by(&renewed.bytes, &keys), &record.key);
    assert_eq!(renewed.answer.records.last(), Some(statement));
    assert_eq!(
        renewed.answer.records.len(),
        2,
        "the admin set, and the record"
    );
    // Then the old key is erased, and both turns stand in the log once.
    assert_eq!(files(&world).len(), 2);
    for (now, left) in [(record.until.minus(1), 2), (record.until, 1)] {
        world.clock.set(now);
        world.broker().sweep().await;
        world.broker().sweep().await;
        assert_eq!(files(&world).len(), left);
    }
    assert!(!files(&world).contains(&"ticket.sealed".to_owned()));
    let both = [("signs".to_owned(), 2), ("erased".to_owned(), 1)];
    assert_eq!(told(&world), both);
    world.restart().await;
    world.broker().sweep().await;
    assert_eq!(told(&world), both);
    let listed = rows(&world).await;
    let state: Vec<_> = listed
        .iter()
        .map(|row| (row.number, row.signs, row.held))
        .collect();
    assert_eq!(state, [(1, false, false), (2, true, true)]);
    let refused = node.issue(&world, &held, |_| {}).await;
    assert_eq!(refusal(refused), Refusal::TicketExpired);
}

#[tokio::test]
async fn a_broker_that_was_off_makes_up_for_both_turns() {
    // rule: KEY-2
    let mut world = World::new().await;
    let record = next(&world).await;
    world.record(&record).await.unwrap();
    world.stop().await;
    world.clock.set(record.until);
    world.start(broker::Limits::default()).await.unwrap();
    world.broker().sweep().await;
    let both = [("signs".to_owned(), 2), ("erased".to_owned(), 1)];
    assert_eq!(told(&world), both);
    assert_eq!(files(&world).len(), 1);
    // The one after it, whose first key file is gone.
    let record = next(&world).await;
    assert_eq!(record.number, 3);
    world.record(&record).await.unwrap();
    world.restart().await;
    world.clock.set(record.until);
    world.broker().sweep().await;
    assert_eq!(
        told(&world)[2..],
        [("signs".to_owned(), 3), ("erased".to_owned(), 2)]
    );
    assert_eq!(files(&world).len(), 1);
    // What a power loss left half erased is erased, and the key that is not there is recorded as erased
    // only where it was seen to go.
    world.stop().await;
    let (keys, sealed) = (world.path("data/keys"), files(&world)[0].clone());
    let marked = format!("ticket-{}", record.old.thumbprint());
    let half = keys.join(format!("{marked}.sealed"));
    store::files::create_private(&half, &[0; 89]).unwrap();
    assert!(keys.join(format!("{marked}.erased")).exists());
    world.start(broker::Limits::default()).await.unwrap();
    assert_eq!(files(&world), [sealed]);
    let elsewhere = world.broker().realm().tickets.keeper();
    let (gone, unknown) = (record.old, TicketSecret::from_seed(&[9; 32]).public());
    elsewhere.erase(&gone, false).unwrap();
    let error = elsewhere.erase(&unknown, false).unwrap_err();
    assert!(error.contains("[ticket-key.pkcs11]"), "{error}");
    // Without the key that its records name it does not start.
    world.stop().await;
    std::fs::remove_file(world.path("data/keys").join(&files(&world)[0])).unwrap();
    let gone = Secrets::open(
        &world.path("data"),
        &world.root().open(&world.path("data")).unwrap(),
    );
    assert!(gone.unwrap().tickets.ring(None).is_err());
}

#[tokio::test]
async fn a_record_is_taken_for_a_made_key_with_room_on_both_sides_and_by_a_quorum() {
    // rule: KEY-1, SET-2, ADM-5
    let world = World::new().await;
    world.dataset().await;
    let good = next(&world).await;
    let refused = async |edit: &dyn Fn(&mut TicketKeySet)| {
        let mut body = good;
        edit(&mut body);
        refusal(world.record(&body).await)
    };
    let now = world.now();
    let foreign = TicketSecret::from_seed(&[9; 32]).public();
    assert_eq!(refused(&|body| body.key = foreign).await, Refusal::NotFound);
    assert_eq!(refused(&|body| body.number = 3).await, Refusal::Stale);
    let other = TicketKeyDigest([1; 32]);
    assert_eq!(refused(&|body| body.follows = other).await, Refusal::Stale);
    assert_eq!(refused(&|body| body.old = foreign).await, Refusal::Stale);
    let times = |from: Timestamp, until: Timestamp| {
        move |body: &mut TicketKeySet| (body.from, body.until) = (from, until)
    };
    let soon = now.plus(4);
    for (from, until) in [
        (soon, soon.plus(LIFE)),
        (good.from, good.from.plus(LIFE - 1)),
        (good.from, good.from.plus(LIFE + 86_401)),
    ] {
        assert_eq!(refused(&times(from, until)).await, Refusal::Invalid);
    }
    let manager = &world.admins.managers[0];
    let alone = world.record_by(&good, &[manager]).await;
    assert_eq!(refusal(alone), Refusal::Quorum);
    let here = world.act(&good).await;
    assert_eq!(refusal(here), Refusal::StatementAudience);
    world.record(&good).await.unwrap();
    assert_eq!(refusal(world.record(&good).await), Refusal::Stale);
    assert_eq!(rows(&world).await.len(), 2);
}

#[tokio::test]
async fn only_some_keys_are_made_ahead() {
    // rule: KEY-1
    let mut world = World::new().await;
    for _ in 0..broker::tickets::UNNAMED {
        world.act(&TicketKeyMake {}).await.unwrap();
    }
    let refused = world.act(&TicketKeyMake {}).await;
    assert_eq!(refusal(refused), Refusal::Exists);
    world.restart().await;
    let listed = rows(&world).await;
    assert_eq!(listed.len(), 1 + broker::tickets::UNNAMED);
    assert!(listed[1..].iter().all(|row| row.number == 0 && row.held));
}

#[tokio::test]
async fn no_key_that_still_counts_is_pushed_out_of_the_chain() {
    // rule: KEY-1
    let world = World::new().await;
    let first = next(&world).await;
    world.record(&first).await.unwrap();
    for _ in 1..ticket::RETIRED {
        world.clock.set(world.now().plus(11));
        world.record(&next(&world).await).await.unwrap();
    }
    world.clock.set(world.now().plus(11));
    let more = next(&world).await;
    assert_eq!(refusal(world.record(&more).await), Refusal::Busy);
    world.clock.set(first.until);
    world.broker().sweep().await;
    let from = world.now().plus(10);
    let more = TicketKeySet {
        from,
        until: from.plus(LIFE),
        ..more
    };
    world.record(&more).await.unwrap();
}
