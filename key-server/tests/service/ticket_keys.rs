//! The broker's ticket-signing keys as they reach this server: followed by statement, held to their times.

use key_server::feed::Happened;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::Selector;
use ticket_format::entry::Alarm;
use ticket_format::ids::{StatementId, TicketId, TicketKeyDigest};
use ticket_format::keys::{AdminSecret, TicketSecret};
use ticket_format::statement::{Payload, TicketKeySet};
use ticket_format::ticket;
use ticket_format::time::Timestamp;

use crate::feed::Answer;
use crate::job::Job;
use crate::rig::{
    REALM, Rig, START, first_digest, manager, named, rig, rng, set_of, set_statement,
};

const FROM: u64 = 100;
const UNTIL: u64 = 1_000;

impl Answer {
    fn ticket_key(&mut self, statement: Vec<u8>) {
        let happened = Happened::TicketKey(statement.clone());
        self.add(Timestamp::LAST, &statement, happened);
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(START + seconds)
}

fn next(seed: u8) -> TicketSecret {
    TicketSecret::from_seed(&[seed; 32])
}

fn second(rig: &Rig) -> TicketKeySet {
    TicketKeySet {
        number: 2,
        follows: TicketKeySet::NOTHING,
        key: next(2).public(),
        old: rig.world.broker.public(),
        from: at(FROM),
        until: at(UNTIL),
    }
}

fn third(rig: &Rig) -> TicketKeySet {
    TicketKeySet {
        number: 3,
        follows: TicketKeyDigest::of(&second(rig).to_cbor()),
        key: next(3).public(),
        old: next(2).public(),
        from: at(FROM + 2_000),
        until: at(UNTIL + 2_000),
    }
}

fn signed(rig: &Rig, body: &TicketKeySet, signers: &[&AdminSecret]) -> Vec<u8> {
    let id = StatementId::random(&mut rng());
    let payload = Payload::record(id, REALM, rig.now(), body);
    payload.sign(signers).unwrap()
}

fn quorum(rig: &Rig, body: &TicketKeySet) -> Vec<u8> {
    signed(rig, body, &[&manager(0), &manager(1)])
}

async fn follow(rig: &Rig, statement: Vec<u8>) {
    let mut answer = Answer::to(rig);
    answer.ticket_key(statement);
    answer.apply(rig).await;
}

/// A job whose ticket was issued then, under this key, and recorded in the broker's log.
fn job(rig: &Rig, by: &TicketSecret, issued: u64) -> Job {
    let mut job = rig.job(|claims| {
        claims.common.issued = at(issued);
        claims.common.expires = at(7_000);
    });
    job.ticket = ticket::sign(&job.claims, by);
    job.receipt = Some(rig.world.issuer.issue(&job.ticket, &job.claims));
    job
}

async fn present(rig: &Rig, by: &TicketSecret, issued: u64, now: u64) -> Result<(), Refusal> {
    rig.world.clock.set(now);
    let presented = rig.present(&rig.connect(9), &job(rig, by, issued)).await;
    presented.map(drop).map_err(|notice| notice.refusal)
}

const UNKNOWN: Result<(), Refusal> = Err(Refusal::TicketSignature);

fn first(rig: &Rig) -> TicketSecret {
    TicketSecret::from_seed(&rig.world.broker.seed())
}

fn rollbacks(rig: &Rig) -> usize {
    let entries = rig.entries().into_iter();
    let alarms = entries.filter(|entry| entry.alarm == Some(Alarm::FeedRollback));
    alarms.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_key_opens_what_was_issued_before_and_until_its_end_also_after_a_restart() {
    // rule: KEY-2
    let mut rig = rig().await;
    let old = first(&rig);
    assert_eq!(present(&rig, &next(2), 0, 0).await, UNKNOWN);
    follow(&rig, quorum(&rig, &second(&rig))).await;
    assert_eq!(present(&rig, &next(2), 0, 0).await, Ok(()));
    assert_eq!(present(&rig, &old, FROM - 1, FROM - 1).await, Ok(()));
    assert_eq!(present(&rig, &old, FROM, FROM).await, UNKNOWN);
    assert_eq!(present(&rig, &old, FROM + 1, FROM + 1).await, UNKNOWN);
    for _ in ["at once", "after a restart"] {
        assert_eq!(present(&rig, &old, FROM - 1, UNTIL - 1).await, Ok(()));
        assert_eq!(present(&rig, &old, FROM - 1, UNTIL).await, UNKNOWN);
        assert_eq!(present(&rig, &next(2), FROM, UNTIL).await, Ok(()));
        assert_eq!(present(&rig, &next(3), FROM, UNTIL).await, UNKNOWN);
        rig = rig.restart().await;
    }
    assert_eq!(rollbacks(&rig), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_presented_ticket_is_held_to_a_record_that_comes_later() {
    // rule: KEY-2
    let rig = rig().await;
    let old = first(&rig);
    let connection = rig.connect(9);
    let job = job(&rig, &old, 0);
    let opened = rig.present(&connection, &job).await.unwrap();
    let generate = async || {
        let made = rig.generate(&opened, &[&named("a")], false).await;
        made.map(drop).map_err(|notice| notice.refusal)
    };
    generate().await.unwrap();
    follow(&rig, quorum(&rig, &second(&rig))).await;
    rig.world.clock.set(UNTIL - 1);
    generate().await.unwrap();
    rig.world.clock.set(UNTIL);
    assert_eq!(generate().await, Err(Refusal::TicketSignature));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_off_walks_every_record_in_one_answer() {
    // rule: KEY-2, DEN-4
    let mut rig = rig().await;
    let old = first(&rig);
    let mut answer = Answer::to(&rig);
    answer.ticket_key(quorum(&rig, &second(&rig)));
    answer.deny(Selector::ticket(TicketId([5; 16])));
    answer.ticket_key(quorum(&rig, &third(&rig)));
    let epoch = answer.at.0;
    answer.apply(&rig).await;
    for _ in ["at once", "after a restart"] {
        assert_eq!(rig.service.ask().epoch, epoch);
        let keys = rig.service.state.ticket_keys.get();
        assert_eq!((keys.number(), keys.newest()), (3, &next(3).public()));
        assert_eq!(present(&rig, &next(2), FROM, FROM + 1_999).await, Ok(()));
        let late = present(&rig, &next(2), FROM + 2_000, FROM + 2_000).await;
        assert_eq!(late, UNKNOWN);
        assert_eq!(present(&rig, &old, FROM - 1, FROM + 2_000).await, UNKNOWN);
        rig = rig.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_nothing_proves_changes_nothing_and_alarms() {
    // rule: KEY-1, KEY-2, KEY-3
    let rig = rig().await;
    let old = first(&rig);
    let good = second(&rig);
    let (zero, one) = (manager(0), manager(1));
    let wrong_old = TicketKeySet {
        old: next(7).public(),
        ..good
    };
    let wrong_digest = TicketKeySet {
        follows: TicketKeyDigest([1; 32]),
        ..good
    };
    let tried = [
        ("alone", signed(&rig, &good, &[&zero])),
        ("by a stranger", signed(&rig, &good, &[&zero, &manager(9)])),
        ("for another realm's name", {
            let id = StatementId::random(&mut rng());
            let payload = Payload::record(id, "elsewhere", rig.now(), &good);
            payload.sign(&[&zero, &one]).unwrap()
        }),
        ("after another record", quorum(&rig, &wrong_digest)),
        ("of no shape", vec![0xa0; 40]),
    ];
    for (alarms, (what, statement)) in tried.into_iter().enumerate() {
        follow(&rig, statement).await;
        assert_eq!(rollbacks(&rig), alarms + 1, "{what}");
        assert_eq!(present(&rig, &next(2), FROM, FROM).await, UNKNOWN, "{what}");
        assert_eq!(present(&rig, &old, FROM, FROM).await, Ok(()), "{what}");
    }
    // Of a chain that does not lead to the configured key it learns nothing, and goes on.
    follow(&rig, quorum(&rig, &wrong_old)).await;
    assert_eq!(present(&rig, &next(2), FROM, FROM).await, UNKNOWN);
    follow(&rig, quorum(&rig, &good)).await;
    assert_eq!(present(&rig, &next(2), FROM, FROM).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_by_admins_of_another_set_counts_once_that_set_was_followed() {
    // rule: KEY-3
    let rig = rig().await;
    let old = first(&rig);
    // Manager 3 is of the second set.
    let statement = signed(&rig, &second(&rig), &[&manager(1), &manager(3)]);
    follow(&rig, statement).await;
    assert_eq!(rollbacks(&rig), 1);
    let rig = rig.restart().await;
    assert_eq!(present(&rig, &next(2), 0, 0).await, UNKNOWN);
    let set = set_of(2, first_digest(), &[1, 2, 3]);
    let set = set_statement(&set, &[&manager(0), &manager(1)]);
    rig.send_statement(&set).await.unwrap();
    assert_eq!(present(&rig, &next(2), 0, 0).await, Ok(()));
    // One by the set before, which the broker took before the sets changed, counts as well.
    follow(&rig, quorum(&rig, &third(&rig))).await;
    let rig = rig.restart().await;
    assert_eq!(present(&rig, &next(3), 0, 0).await, Ok(()));
    assert_eq!(present(&rig, &old, FROM - 1, UNTIL - 1).await, Ok(()));
    assert_eq!(rollbacks(&rig), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_lease_says_so_of_a_key_that_it_may_not_know_yet() {
    // rule: KEY-2
    let rig = rig().await;
    assert_eq!(present(&rig, &next(2), 0, 0).await, UNKNOWN);
    let rig = rig.restart().await;
    rig.world.clock.set_monotonic(600_000);
    assert_eq!(present(&rig, &next(2), 0, 0).await, Err(Refusal::Lease));
}
