//! Watch and wipe: WIP-1, WIP-2.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use key_server::state::Connection;
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::Selector;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{NodeId, TicketHash, TicketId};
use ticket_format::messages::watch::{WatchAnswer, WatchBody};
use ticket_format::messages::wipe::{WipeAnswer, WipeBody};
use ticket_format::messages::{Answer, Receipt, RefusalNotice, Request, Verb};
use ticket_format::sign::Channel;
use ticket_format::{labels, limits};

use crate::job::Job;
use crate::rig::{Rig, other_channel, place, refusal, rig};

/// Longer than any test waits.
const HOLD: u64 = 30_000;

fn watch_request(channel: &Channel, job: &Job, hold_ms: u64) -> Vec<u8> {
    let body = WatchBody {
        ticket: job.ticket.clone(),
        hold_ms,
    }
    .to_cbor();
    let hash = Some(TicketHash::of(&job.ticket));
    let proof = channel.sign_with(&job.proof, labels::WATCH_REQUEST, hash, &body);
    Request::encode_parts(Verb::Watch, &body, &[proof])
}

/// The answer, after the check that a client makes of it.
fn watched(
    rig: &Rig,
    connection: &Connection,
    job: &Job,
    answer: Answer,
) -> Result<WatchAnswer, RefusalNotice> {
    match answer {
        Answer::Refused(notice) => Err(notice),
        Answer::Done { body, proof, .. } => {
            // rule: WIP-2
            let (key, hash) = (rig.world.signing.public(), TicketHash::of(&job.ticket));
            let proof = proof.expect("the answer is signed");
            connection
                .channel
                .verify_with(&key, labels::WATCH_ANSWER, Some(hash), &body, &proof)
                .expect("by the key server's signing key");
            Ok(WatchAnswer::from_cbor(&body, limits::SMALL_MESSAGE).unwrap())
        }
    }
}

async fn watch(rig: &Rig, job: &Job, hold_ms: u64) -> Result<WatchAnswer, RefusalNotice> {
    let connection = rig.connect(7);
    let request = watch_request(&connection.channel, job, hold_ms);
    let answer = rig.exchange(&connection, request).await;
    watched(rig, &connection, job, answer)
}

fn is_held<T>(future: Pin<&mut impl Future<Output = T>>) -> bool {
    future
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

async fn wipe_on(
    rig: &Rig,
    connection: &Arc<Connection>,
    channel: &Channel,
    job: &Job,
    erased: u64,
) -> Result<Receipt, RefusalNotice> {
    let body = WipeBody {
        ticket: job.ticket.clone(),
        epoch: 1,
        erased,
        at: rig.now(),
    }
    .to_cbor();
    let hash = Some(TicketHash::of(&job.ticket));
    let proof = channel.sign_with(&job.proof, labels::WIPE_REQUEST, hash, &body);
    let request = Request::encode_parts(Verb::Wipe, &body, &[proof]);
    match rig.exchange(connection, request).await {
        Answer::Refused(notice) => Err(notice),
        Answer::Done { body, .. } => {
            let answer = WipeAnswer::from_cbor(&body, limits::MESSAGE).unwrap();
            Ok(answer.receipt)
        }
    }
}

async fn wipe(rig: &Rig, job: &Job, erased: u64) -> Result<Receipt, RefusalNotice> {
    let connection = rig.connect(8);
    wipe_on(rig, &connection, &connection.channel, job, erased).await
}

fn other_node() -> Selector {
    Selector::node(NodeId::new("123456789012", "eu-west-1", "i-0aaaaaaaaaaaaaaaa").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_ticket_hears_of_its_denial_at_once_and_of_no_other() {
    // rule: WIP-1, WIP-2
    let rig = rig().await;
    let job = rig.job(|_| {});
    let begun = Instant::now();
    let mut watching = pin!(watch(&rig, &job, HOLD));
    assert!(is_held(watching.as_mut()));
    rig.deny(other_node()).await;
    assert!(is_held(watching.as_mut()), "another node was denied");
    rig.deny(Selector::node(job.claims.common.node().clone()))
        .await;
    let answer = watching.await.unwrap();
    assert_eq!((answer.epoch, answer.denied), (2, true));
    assert_eq!(answer.reason.as_deref(), Some("test"));
    // A ticket that is denied already is not held at all.
    assert!(watch(&rig, &job, HOLD).await.unwrap().denied);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(
        rig.entries()
            .iter()
            .all(|entry| entry.kind != Kind::Wiped && entry.kind != Kind::Present),
        "a watch leaves no entry"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_hold_with_the_server_and_with_its_caller() {
    // rule: WIP-1
    let rig = rig().await;
    let job = rig.job(|_| {});
    assert!(!watch(&rig, &job, 5).await.unwrap().denied);
    let begun = Instant::now();
    let connection = rig.connect(7);
    let (left, gone) = tokio::sync::oneshot::channel::<()>();
    let request = Bytes::from(watch_request(&connection.channel, &job, HOLD));
    let gone = async { drop(gone.await) };
    let mut held = pin!(rig.service.exchange_until(&connection, request, gone));
    assert!(is_held(held.as_mut()));
    drop(left);
    held.await;
    let mut held = pin!(watch(&rig, &job, HOLD));
    assert!(is_held(held.as_mut()));
    rig.service.stop();
    assert!(!held.await.unwrap().denied);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_tickets_are_watched_at_one_time_than_there_are_places() {
    // rule: WIP-1
    let rig = rig().await;
    let job = rig.job(|_| {});
    rig.service.hold_at_most(1);
    let mut first = pin!(watch(&rig, &job, HOLD));
    assert!(is_held(first.as_mut()));
    assert_eq!(refusal(watch(&rig, &job, 0).await), Refusal::Busy);
    rig.service.stop();
    first.await.unwrap();
    assert!(!watch(&rig, &job, 0).await.unwrap().denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_of_a_live_ticket_watches_and_wipes_on_its_own_connection() {
    // rule: WIP-1, WIP-2
    let rig = rig().await;
    let job = rig.job(|_| {});
    rig.deny(Selector::node(job.claims.common.node().clone()))
        .await;
    let connection = rig.connect(7);
    let elsewhere = other_channel(&connection.channel);
    let request = watch_request(&elsewhere, &job, 0);
    let answer = rig.exchange(&connection, request).await;
    assert_eq!(
        refusal(watched(&rig, &connection, &job, answer)),
        Refusal::Possession
    );
    assert_eq!(
        refusal(wipe_on(&rig, &connection, &elsewhere, &job, 1).await),
        Refusal::Possession
    );
    // A watch's proof wipes nothing, and somebody else's ticket is not theirs to watch.
    let thief = Job {
        ticket: job.ticket.clone(),
        ..rig.job(|_| {})
    };
    assert_eq!(refusal(watch(&rig, &thief, 0).await), Refusal::Possession);
    assert_eq!(refusal(wipe(&rig, &thief, 1).await), Refusal::Possession);
    let broker = ticket_format::keys::TicketSecret::generate(&mut crate::rig::rng());
    let forged = Job {
        ticket: ticket_format::ticket::sign(&job.claims, &broker),
        ..rig.job(|_| {})
    };
    assert_eq!(
        refusal(watch(&rig, &forged, 0).await),
        Refusal::TicketSignature
    );
    rig.world.clock.set(3_600);
    assert_eq!(refusal(watch(&rig, &job, 0).await), Refusal::TicketExpired);
    assert_eq!(refusal(wipe(&rig, &job, 1).await), Refusal::TicketExpired);
    assert!(rig.entries().iter().all(|entry| entry.kind != Kind::Wiped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wipe_of_a_denied_ticket_is_recorded_and_answered_with_the_receipt() {
    // rule: WIP-2
    let rig = rig().await;
    let job = rig.job(|_| {});
    assert_eq!(refusal(wipe(&rig, &job, 3).await), Refusal::Invalid);
    rig.deny(Selector::ticket(job.claims.common.id)).await;
    let receipt = wipe(&rig, &job, 3).await.unwrap();
    let entry = Entry::from_cbor(&receipt.entry, limits::ENTRY).unwrap();
    assert_eq!(
        (entry.kind, entry.outcome, entry.count, entry.epoch),
        (Kind::Wiped, Ok(()), Some(3), Some(1))
    );
    assert_eq!(entry.ticket, Some(job.claims.common.id));
    assert_eq!(
        entry.subject.as_deref(),
        Some(job.claims.common.node().to_string().as_str())
    );
    let recorded = rig.log.read(place(&receipt)).next().unwrap().unwrap();
    assert_eq!(recorded.entry, receipt.entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wipe_that_is_said_again_and_again_leaves_one_entry_a_minute() {
    // rule: WIP-2
    let rig = rig().await;
    let job = rig.job(|_| {});
    rig.deny(Selector::ticket(job.claims.common.id)).await;
    let first = wipe(&rig, &job, 3).await.unwrap();
    for _ in 0..20 {
        assert_eq!(wipe(&rig, &job, 3).await.unwrap(), first);
    }
    let wiped = |rig: &Rig| {
        let entries = rig.entries().into_iter();
        entries.filter(|entry| entry.kind == Kind::Wiped).count()
    };
    assert_eq!(wiped(&rig), 1);
    rig.world.clock.set_monotonic(10_000 + 60_000);
    wipe(&rig, &job, 3).await.unwrap();
    assert_eq!(wiped(&rig), 2);
    // Another ticket of the same node has its own.
    let other = rig.job(|claims| claims.common.id = TicketId([0xaa; 16]));
    rig.deny(Selector::ticket(other.claims.common.id)).await;
    wipe(&rig, &other, 1).await.unwrap();
    assert_eq!(wiped(&rig), 3);
}
