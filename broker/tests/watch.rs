//! Watch and wipe at the broker (`spec/protocol.md`, section 8).
#![allow(missing_docs)]

mod support;

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use support::*;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::Selector;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::TicketId;
use ticket_format::keys::ProofSecret;
use ticket_format::messages::watch::{WatchAnswer, WatchBody};
use ticket_format::messages::wipe::{WipeAnswer, WipeBody};
use ticket_format::messages::{Receipt, RefusalNotice, Request, Verb};
use ticket_format::{Refusal, labels, limits, ticket};

/// Longer than any test waits.
const HOLD: u64 = 30_000;

async fn ready() -> (World, Held) {
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let held = Node::boot(&SYDNEY).login(&world, &launch).await.unwrap();
    (world, held)
}

fn watch_body(held: &Held, hold_ms: u64) -> Vec<u8> {
    let ticket = held.bytes.clone();
    WatchBody { ticket, hold_ms }.to_cbor()
}

async fn watch(world: &World, held: &Held, hold_ms: u64) -> Result<WatchAnswer, RefusalNotice> {
    let connection = world.connect();
    let body = watch_body(held, hold_ms);
    let hash = Some(ticket::hash(&held.bytes));
    let channel = &connection.channel;
    let proof = channel.sign_with(&held.proof_key, labels::WATCH_REQUEST, hash, &body);
    let (answer, proof) = connection.send(Verb::Watch, &body, &[proof]).await?;
    // rule: WIP-2
    assert!(proof.is_none(), "the broker's word is its TLS key's");
    Ok(WatchAnswer::from_cbor(&answer, limits::SMALL_MESSAGE).unwrap())
}

async fn wipe(world: &World, held: &Held, key: &ProofSecret) -> Result<Receipt, RefusalNotice> {
    let connection = world.connect();
    let body = WipeBody {
        ticket: held.bytes.clone(),
        epoch: 1,
        erased: 2,
        at: world.now(),
    }
    .to_cbor();
    let hash = Some(ticket::hash(&held.bytes));
    let channel = &connection.channel;
    let proof = channel.sign_with(key, labels::WIPE_REQUEST, hash, &body);
    let (answer, _) = connection.send(Verb::Wipe, &body, &[proof]).await?;
    let answer = WipeAnswer::from_cbor(&answer, limits::MESSAGE).unwrap();
    Ok(answer.receipt)
}

fn is_held<T>(future: Pin<&mut impl Future<Output = T>>) -> bool {
    future
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

#[tokio::test]
async fn a_node_that_watches_hears_of_its_denial_at_once_and_of_no_other() {
    // rule: WIP-1
    let (world, held) = ready().await;
    let begun = Instant::now();
    let mut watching = pin!(watch(&world, &held, HOLD));
    assert!(is_held(watching.as_mut()));
    world.deny(Selector::node(SEOUL.node())).await;
    assert!(is_held(watching.as_mut()), "another node was denied");
    world.deny(Selector::node(SYDNEY.node())).await;
    let answer = watching.await.unwrap();
    assert_eq!((answer.epoch, answer.denied), (2, true));
    assert_eq!(answer.reason.as_deref(), Some("disk cloned"));
    assert!(watch(&world, &held, HOLD).await.unwrap().denied);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_watch_ends_with_its_hold_with_the_broker_and_with_its_caller() {
    // rule: WIP-1
    let (world, held) = ready().await;
    assert!(!watch(&world, &held, 5).await.unwrap().denied);
    let begun = Instant::now();
    let connection = world.connect();
    let body = watch_body(&held, HOLD);
    let hash = Some(ticket::hash(&held.bytes));
    let channel = &connection.channel;
    let proof = channel.sign_with(&held.proof_key, labels::WATCH_REQUEST, hash, &body);
    let request = Request::encode_parts(Verb::Watch, &body, &[proof]);
    let broker = world.broker();
    broker.answer(&connection.caller, &request, async {}).await;
    let mut held_one = pin!(broker.answer(&connection.caller, &request, pending()));
    assert!(is_held(held_one.as_mut()));
    broker.stop();
    held_one.await;
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn only_the_holder_of_a_live_ticket_watches_and_wipes() {
    // rule: WIP-1, WIP-2
    let (world, held) = ready().await;
    world.deny(Selector::node(SYDNEY.node())).await;
    let stranger = ProofSecret::generate(&mut rng());
    let thief = Held {
        bytes: held.bytes.clone(),
        proof_key: stranger,
        answer: held.answer.clone(),
    };
    assert_eq!(refusal(watch(&world, &thief, 0).await), Refusal::Possession);
    assert_eq!(
        refusal(wipe(&world, &held, &thief.proof_key).await),
        Refusal::Possession
    );
    let life = {
        let claims = held.claims(&world);
        claims.common.expires.since(claims.common.issued)
    };
    world.clock.advance(life);
    assert_eq!(
        refusal(watch(&world, &held, 0).await),
        Refusal::TicketExpired
    );
    assert_eq!(
        refusal(wipe(&world, &held, &held.proof_key).await),
        Refusal::TicketExpired
    );
}

#[tokio::test]
async fn a_wipe_of_a_denied_ticket_is_recorded_once_a_minute_and_answered_always() {
    // rule: WIP-2
    let (world, held) = ready().await;
    world
        .deny(Selector::ticket(TicketId::random(&mut rng())))
        .await;
    assert_eq!(
        refusal(wipe(&world, &held, &held.proof_key).await),
        Refusal::Invalid
    );
    let id = held.claims(&world).common.id;
    world.deny(Selector::ticket(id)).await;
    let receipt = wipe(&world, &held, &held.proof_key).await.unwrap();
    let entry = Entry::from_cbor(&receipt.entry, limits::ENTRY).unwrap();
    assert_eq!(
        (entry.kind, entry.outcome, entry.count, entry.epoch),
        (Kind::Wiped, Ok(()), Some(2), Some(2))
    );
    assert_eq!(
        (entry.ticket, entry.subject),
        (Some(id), Some(SYDNEY.node().to_string()))
    );
    for _ in 0..20 {
        let again = wipe(&world, &held, &held.proof_key).await.unwrap();
        assert_eq!(again, receipt);
    }
    world.clock.advance(60);
    wipe(&world, &held, &held.proof_key).await.unwrap();
    let wiped = |entry: &Entry| entry.kind == Kind::Wiped && entry.outcome.is_ok();
    let entries = world.entries();
    assert_eq!(entries.iter().filter(|entry| wiped(entry)).count(), 2);
}
