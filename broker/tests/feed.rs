//! Feed and denials (`spec/protocol.md`, section 8).
#![allow(missing_docs)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::state::{FeedHead, StoredEpoch, keys};
use store::Store;
use support::*;
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{CHAIN_START, Denial, Link, Selector, chain_next};
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{ActId, ChainDigest, DatasetId, DenialDigest, StatementDigest, TicketId};
use ticket_format::keys::ServerSecret;
use ticket_format::messages::feed::{Epoch, Event, FeedAnswer, FeedBody, Report};
use ticket_format::messages::{RefusalNotice, Verb};
use ticket_format::statement::{
    Denied, DenyBody, DenyList, FeedShow, FeedView, ReceivedStatement, Undeny,
};
use ticket_format::time::Timestamp;
use ticket_format::{labels, limits};

fn some_ticket() -> Selector {
    Selector::ticket(TicketId::random(&mut rng()))
}

/// The digest that a subscriber reaches by walking these epochs, each one more than the one before.
fn walk(from: (u64, ChainDigest), epochs: &[Epoch]) -> (u64, ChainDigest) {
    epochs.iter().fold(from, |(number, chain), epoch| {
        assert_eq!(epoch.number, number + 1, "no gap");
        let link = Link::of(&epoch.event).expect("an epoch's shape");
        (epoch.number, link.after(chain))
    })
}

const START: (u64, ChainDigest) = (0, CHAIN_START);

/// A subscriber's request that tells of alarms.
async fn telling(
    world: &World,
    key: &ServerSecret,
    at: (u64, ChainDigest),
    hold_ms: u64,
    reports: Vec<Report>,
) -> Result<FeedAnswer, RefusalNotice> {
    let connection = world.connect();
    let body = FeedBody {
        subscriber: key.public(),
        nonce: [9; 32],
        epoch: at.0,
        chain: at.1,
        hold_ms,
        reports,
    }
    .to_cbor();
    let proof = connection
        .channel
        .sign_with(key, labels::FEED_REQUEST, None, &body);
    let (answer, _) = connection.send(Verb::Feed, &body, &[proof]).await?;
    Ok(FeedAnswer::from_cbor(&answer, limits::MESSAGE).expect("a feed answer"))
}

fn lifting(denied: &[&Denied]) -> Undeny {
    let named = denied.iter();
    Undeny {
        denials: named
            .map(|denied| (denied.epoch, DenialDigest::of(&denied.record)))
            .collect(),
        reason: "a mistake".to_owned(),
    }
}

#[tokio::test]
async fn a_subscriber_gets_what_it_lacks_in_one_chain() {
    // rule: DEN-1, DEN-4
    let world = World::new().await;
    world.dataset().await;
    let first = world.deny(some_ticket()).await;
    let second = world.deny(some_ticket()).await;
    assert_eq!((first.before, second.before), (CHAIN_START, first.chain));
    let denial = Denial::from_cbor(&first.record, 2_048).unwrap();
    assert_eq!(denial.author, "operator");
    assert_eq!(
        chain_next(CHAIN_START, denial.forget, &first.record),
        first.chain
    );
    let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    assert_eq!((answer.epoch, answer.chain), (2, second.chain));
    assert_eq!(walk(START, &answer.epochs), (2, second.chain));
    assert_eq!(answer.admin_set, 1);
    let answer = feed(&world, &world.server, 1, first.chain, 0)
        .await
        .unwrap();
    assert_eq!(walk((1, first.chain), &answer.epochs), (2, second.chain));
    assert_eq!(
        world.broker().acknowledgements(),
        [(world.server.public().to_bytes(), 1)]
    );
    let answer = feed(&world, &world.server, 2, second.chain, 0)
        .await
        .unwrap();
    assert_eq!((answer.epochs.len(), answer.epoch), (0, 2));
    assert_eq!(
        world.broker().acknowledgements(),
        [(world.server.public().to_bytes(), 2)]
    );
}

#[tokio::test]
async fn who_has_seen_what_the_broker_does_not_know_of_is_refused_and_alarmed() {
    // rule: DEN-4
    let world = World::new().await;
    world.dataset().await;
    let denied = world.deny(some_ticket()).await;
    for (epoch, chain) in [
        (1, ChainDigest([1; 32])),
        (0, ChainDigest([1; 32])),
        (7, denied.chain),
        (u64::MAX, denied.chain),
    ] {
        let refused = feed(&world, &world.server, epoch, chain, 1_000)
            .await
            .unwrap_err();
        assert_eq!(refused.refusal, Refusal::Rollback);
        assert!(refused.detail.is_some());
    }
    assert!(world.broker().acknowledgements().is_empty());
    // One alarm, however often it asks.
    assert_eq!(world.alarms(), [Alarm::StoreRollback]);
    let alarm = world
        .entries()
        .into_iter()
        .find(|entry| entry.alarm.is_some())
        .unwrap();
    assert_eq!(alarm.subject, Some(world.server.public().to_string()));
    assert_eq!(
        (alarm.epoch, alarm.outcome),
        (Some(1), Err(Refusal::Rollback))
    );
    // Once it is back on the chain, the next time is told of again.
    feed(&world, &world.server, 1, denied.chain, 0)
        .await
        .unwrap();
    assert!(
        feed(&world, &world.server, 2, denied.chain, 0)
            .await
            .is_err()
    );
    assert_eq!(world.alarms().len(), 2);
}

#[tokio::test]
async fn an_old_backup_of_the_broker_is_noticed_by_its_subscribers() {
    // rule: DEN-4
    let mut world = World::new().await;
    world.dataset().await;
    world.deny(some_ticket()).await;
    world.stop().await;
    world.back_up();
    world.start(broker::Limits::default()).await.unwrap();
    let lost = world.deny(Selector::node(SYDNEY.node())).await;
    world.stop().await;
    world.restore();
    world.start(broker::Limits::default()).await.unwrap();
    for at in [(2, lost.chain), (1, lost.before)] {
        let answer = feed(&world, &world.server, at.0, at.1, 0).await;
        assert_eq!(answer.is_err(), at.0 == 2);
    }
    assert_eq!(world.alarms(), [Alarm::StoreRollback]);
    // Another second epoch is another chain.
    let other = world.deny(some_ticket()).await;
    assert_eq!(other.epoch, 2);
    assert_eq!(
        refusal(feed(&world, &world.server, 2, lost.chain, 0).await),
        Refusal::Rollback
    );
}

#[tokio::test]
async fn a_held_request_is_answered_at_once_when_there_is_news() {
    // rule: DEN-3
    let world = Arc::new(World::new().await);
    world.dataset().await;
    let waiting = {
        let world = world.clone();
        tokio::spawn(async move {
            feed(&world, &world.server, 0, CHAIN_START, 30_000)
                .await
                .unwrap()
        })
    };
    // Acknowledged means that the request is there; it waits from then on.
    while world.broker().acknowledgements().is_empty() {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    world.deny(some_ticket()).await;
    assert_eq!(waiting.await.unwrap().epoch, 1);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_held_request_ends_with_its_hold_and_with_the_broker() {
    // rule: DEN-3
    let world = Arc::new(World::new().await);
    world.dataset().await;
    let answer = feed(&world, &world.server, 0, CHAIN_START, 20)
        .await
        .unwrap();
    assert_eq!((answer.epoch, answer.epochs.len()), (0, 0));
    let waiting = {
        let world = world.clone();
        tokio::spawn(async move {
            feed(&world, &world.server, 0, CHAIN_START, 30_000)
                .await
                .unwrap()
        })
    };
    world.broker().stop();
    assert_eq!(waiting.await.unwrap().epoch, 0);
}

#[tokio::test]
async fn only_subscribers_that_a_record_names_are_served() {
    // rule: DEN-8
    let world = World::new().await;
    assert_eq!(
        refusal(feed(&world, &world.server, 0, CHAIN_START, 0).await),
        Refusal::NotSubscriber
    );
    world.dataset().await;
    feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    let stranger = ServerSecret::generate(&mut rng());
    assert_eq!(
        refusal(feed(&world, &stranger, 0, CHAIN_START, 0).await),
        Refusal::NotSubscriber
    );
}

#[tokio::test]
async fn a_signature_of_another_connection_acknowledges_nothing() {
    // rule: DEN-3
    let world = World::new().await;
    world.dataset().await;
    let (mine, theirs) = (world.connect(), world.connect());
    let body = FeedBody {
        subscriber: world.server.public(),
        nonce: [1; 32],
        epoch: 0,
        chain: CHAIN_START,
        hold_ms: 0,
        reports: Vec::new(),
    }
    .to_cbor();
    let proof = mine
        .channel
        .sign_with(&world.server, labels::FEED_REQUEST, None, &body);
    assert_eq!(
        refusal(
            theirs
                .send(Verb::Feed, &body, std::slice::from_ref(&proof))
                .await
        ),
        Refusal::NotAuthenticated
    );
    assert!(world.broker().acknowledgements().is_empty());
    assert!(mine.send(Verb::Feed, &body, &[proof]).await.is_ok());
}

#[tokio::test]
async fn what_is_forgotten_keeps_its_place_and_not_before_no_clock_needs_it() {
    // rule: DEN-7
    let mut world = World::new().await;
    world.dataset().await;
    let ticket = world.deny(some_ticket()).await;
    let node = world.deny(Selector::node(SYDNEY.node())).await;
    // A subscriber's clock may be a skew behind.
    let kept = limits::LONGEST_TICKET_LIFE + 2 * limits::SKEW;
    world.clock.advance(kept - 1);
    world.broker().tick().await.unwrap();
    let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    assert_eq!(answer.epochs[0].event, Event::Denial(ticket.record.clone()));
    world.clock.advance(1);
    world.broker().tick().await.unwrap();
    let forget = Denial::from_cbor(&ticket.record, 2_048).unwrap().forget;
    for pass in ["at once", "after a restart"] {
        let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
            .await
            .unwrap();
        let gone = Event::Gone {
            forget,
            denial: DenialDigest::of(&ticket.record),
        };
        assert_eq!(answer.epochs[0].event, gone, "{pass}");
        // The node's is kept for good.
        assert_eq!(answer.epochs[1].event, Event::Denial(node.record.clone()));
        assert_eq!(walk(START, &answer.epochs), (2, node.chain), "{pass}");
        world.restart().await;
    }
    let page = world
        .act(&DenyList {
            after: 0,
            rows: 100,
        })
        .await
        .unwrap();
    assert_eq!(
        (page.rows.len(), page.rows[0].epoch, page.more),
        (1, 2, false)
    );
    // What is gone cannot be lifted.
    assert_eq!(
        refusal(world.record(&lifting(&[&ticket])).await),
        Refusal::NotFound
    );
    assert_eq!(world.deny(some_ticket()).await.epoch, 3, "epochs go on");
}

#[tokio::test]
async fn parallel_denials_make_one_chain() {
    // rule: DEN-1
    let world = Arc::new(World::new().await);
    world.dataset().await;
    let made: Vec<_> = (0..30)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                world
                    .act(&DenyBody {
                        selector: some_ticket(),
                        reason: String::new(),
                    })
                    .await
                    .unwrap()
                    .epoch
            })
        })
        .collect();
    let mut epochs = Vec::new();
    for made in made {
        epochs.push(made.await.unwrap());
    }
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=30).collect::<Vec<_>>());
    let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    assert_eq!(walk(START, &answer.epochs), (30, answer.chain));
}

/// A chain of so many denials, as a broker would have left it in its store.
async fn fill(world: &mut World, count: u64) -> FeedHead {
    world.stop().await;
    let store =
        store::RedbStore::open(world.path("store.redb"), store::Options::default()).unwrap();
    let mut head = FeedHead::START;
    let mut writes = store::Transaction::new();
    for _ in 0..count {
        let none = StatementDigest([0; 32]);
        let made = world.now();
        let denial = Denial::new(some_ticket(), "many".into(), none, made, String::new());
        let epoch = StoredEpoch::denial(head, denial);
        head = epoch.head();
        writes = writes.put(keys::epoch(epoch.number), epoch.to_cbor());
        if writes.write.len() == 120 {
            store.commit(std::mem::take(&mut writes)).await.unwrap();
        }
    }
    let last = writes.put(keys::FEED_HEAD, head.to_cbor());
    store.commit(last).await.unwrap();
    store.close().await;
    drop(store);
    world.start(broker::Limits::default()).await.unwrap();
    head
}

#[tokio::test]
async fn a_new_subscriber_walks_the_whole_history() {
    // rule: DEN-4
    let mut world = World::new().await;
    world.dataset().await;
    let head = fill(&mut world, 3_100).await;
    let (mut at, mut answers) = (START, 0);
    while at != (head.epoch, head.chain) {
        let answer = feed(&world, &world.server, at.0, at.1, 0).await.unwrap();
        assert!((1..=limits::EPOCHS).contains(&answer.epochs.len()));
        at = walk(at, &answer.epochs);
        assert_eq!(at, (answer.epoch, answer.chain));
        answers += 1;
    }
    assert_eq!(answers, 4);
    // Also of what memory does not hold any more, another chain is refused.
    assert_eq!(
        refusal(feed(&world, &world.server, 7, head.chain, 0).await),
        Refusal::Rollback
    );
}

#[tokio::test]
async fn a_chain_in_the_store_that_does_not_join_is_not_served() {
    // rule: DEN-1
    let mut world = World::new().await;
    fill(&mut world, 5).await;
    let mut other: StoredEpoch = world.stored(&keys::epoch(3)).await;
    other.chain = ChainDigest([3; 32]);
    world.put(&keys::epoch(3), &other).await;
    world.stop().await;
    let refused = world.start(broker::Limits::default()).await;
    assert!(matches!(refused, Err(broker::StartError::State(why)) if why.contains("epoch 3")));
}

#[tokio::test]
async fn a_lifted_denial_lets_in_again_and_stays_lifted() {
    // rule: DEN-9
    let mut world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let selector = Selector::node(SYDNEY.node());
    let first = world.deny(selector.clone()).await;
    let second = world.deny(selector).await;
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Denied
    );
    // Of two equal ones the other stays in force.
    let lifted = world.record(&lifting(&[&first])).await.unwrap();
    assert_eq!((lifted.epoch, lifted.before), (3, second.chain));
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Denied
    );
    let lifted = world.record(&lifting(&[&second])).await.unwrap();
    for _ in ["at once", "after a restart"] {
        node.issue(&world, &held, |_| {}).await.unwrap();
        let page = DenyList { after: 0, rows: 10 };
        assert!(world.act(&page).await.unwrap().rows.is_empty());
        // It travels whole, as the admins signed it.
        let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
            .await
            .unwrap();
        let last = answer.epochs.last().unwrap();
        assert_eq!(last.event, Event::Lifting(lifted.record.clone()));
        assert!(ReceivedStatement::parse(&lifted.record).is_ok());
        assert_eq!(walk(START, &answer.epochs), (4, lifted.chain));
        world.restart().await;
    }
    // And it can be denied again.
    world.deny(Selector::node(SYDNEY.node())).await;
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Denied
    );
    let epochs: Vec<_> = world
        .entries()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Denial)
        .filter_map(|entry| entry.epoch)
        .collect();
    assert_eq!(epochs, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_lifting_names_the_very_denial_once_and_needs_a_quorum() {
    // rule: DEN-9, SET-2
    let world = World::new().await;
    world.dataset().await;
    let denied = world.deny(Selector::node(SYDNEY.node())).await;
    let good = lifting(&[&denied]);
    let [manager, _] = &world.admins.managers;
    assert_eq!(
        refusal(world.record_by(&good, &[manager]).await),
        Refusal::Quorum
    );
    let operator = &world.admins.operator;
    assert_eq!(
        refusal(world.record_by(&good, &[manager, operator]).await),
        Refusal::Quorum,
        "an operator's signature does not count"
    );
    // Key servers could not verify one that is for the broker alone.
    assert_eq!(refusal(world.act(&good).await), Refusal::StatementAudience);
    let named = |denials| Undeny {
        denials,
        reason: String::new(),
    };
    let digest = DenialDigest::of(&denied.record);
    for (bad, expected) in [
        (named(vec![(1, DenialDigest([1; 32]))]), Refusal::Invalid),
        (named(vec![(1, digest), (1, digest)]), Refusal::Invalid),
        (named(vec![(2, digest)]), Refusal::NotFound),
        (named(vec![(1, digest), (9, digest)]), Refusal::NotFound),
    ] {
        assert_eq!(refusal(world.record(&bad).await), expected, "{bad:?}");
    }
    world.record(&good).await.unwrap();
    assert_eq!(refusal(world.record(&good).await), Refusal::Invalid);
    let lifted = named(vec![(2, digest)]);
    assert_eq!(refusal(world.record(&lifted).await), Refusal::Invalid);
}

#[tokio::test]
async fn of_liftings_of_one_denial_at_one_time_one_counts() {
    // rule: DEN-9
    let world = Arc::new(World::new().await);
    let denied = world.deny(some_ticket()).await;
    let made: Vec<_> = (0..8)
        .map(|_| {
            let (world, good) = (world.clone(), lifting(&[&denied]));
            tokio::spawn(async move { world.record(&good).await.is_ok() })
        })
        .collect();
    let mut counted = 0;
    for made in made {
        counted += usize::from(made.await.unwrap());
    }
    assert_eq!(counted, 1);
}

/// The epoch that each subscriber has proven.
fn proven(world: &World, view: &FeedView) -> Vec<Option<u64>> {
    let rows = view.subscribers.iter();
    rows.map(|row| {
        let last = row.last.as_ref()?;
        let server = world.tls.public();
        let body = last
            .verify(REALM, &server, &row.key)
            .expect("its signature");
        Some(body.epoch)
    })
    .collect()
}

#[tokio::test]
async fn who_has_applied_an_epoch_is_proven_by_its_own_signature() {
    // rule: DEN-10
    let world = World::new().await;
    world.dataset().await;
    let show = |epoch, hold_ms| FeedShow { epoch, hold_ms };
    let view = world.act(&show(0, 0)).await.unwrap();
    assert_eq!((view.epoch, proven(&world, &view)), (0, vec![None]));
    let row = &view.subscribers[0];
    assert_eq!((row.silent_ms, row.applied_ms), (None, None));
    // It may live on an answer from before the broker's start.
    assert_eq!(row.lease_ms, Some(row.lease * 1_000));
    feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    let denied = world.deny(some_ticket()).await;
    world.deny(some_ticket()).await;
    world.clock.advance(2);
    let view = world.act(&show(1, 0)).await.unwrap();
    assert_eq!((view.epoch, proven(&world, &view)), (2, vec![Some(0)]));
    let row = &view.subscribers[0];
    assert_eq!((row.silent_ms, row.applied_ms), (Some(2_000), None));
    assert_eq!(row.lease_ms, Some((row.lease - 2) * 1_000));
    assert_eq!(row.datasets, ["faces"]);
    // The links lead from the denial to the head.
    let chain = |from: ChainDigest| {
        view.links
            .iter()
            .fold(from, |chain, link| link.after(chain))
    };
    assert_eq!((view.links.len(), chain(denied.chain)), (1, view.chain));
    feed(&world, &world.server, 1, denied.chain, 0)
        .await
        .unwrap();
    let view = world.act(&show(1, 0)).await.unwrap();
    assert_eq!(proven(&world, &view), [Some(1)]);
    assert_eq!(view.subscribers[0].applied_ms, Some(2_000));
}

#[tokio::test]
async fn a_held_view_comes_when_the_last_subscriber_has_applied_the_epoch() {
    // rule: DEN-10
    let world = Arc::new(World::new().await);
    world.dataset().await;
    feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    let denied = world.deny(some_ticket()).await;
    let view = world
        .act(&FeedShow {
            epoch: 1,
            hold_ms: 20,
        })
        .await
        .unwrap();
    assert_eq!(proven(&world, &view), [Some(0)], "after the hold, as it is");
    let waiting = {
        let world = world.clone();
        tokio::spawn(async move {
            let show = FeedShow {
                epoch: 1,
                hold_ms: 30_000,
            };
            world.act(&show).await.unwrap()
        })
    };
    tokio::task::yield_now().await;
    let began = Instant::now();
    feed(&world, &world.server, 1, denied.chain, 0)
        .await
        .unwrap();
    let view = waiting.await.unwrap();
    assert_eq!(proven(&world, &view), [Some(1)]);
    assert!(began.elapsed() < Duration::from_secs(5));
    // It ends with the broker, too.
    let waiting = {
        let world = world.clone();
        tokio::spawn(async move {
            let show = FeedShow {
                epoch: 9,
                hold_ms: 30_000,
            };
            world.act(&show).await.unwrap()
        })
    };
    world.broker().stop();
    assert_eq!(waiting.await.unwrap().epoch, 1);
}

fn report(world: &World, dataset: DatasetId, deny: bool) -> Report {
    Report {
        act: ActId::random(&mut rng()),
        alarm: Alarm::Canary,
        node: SYDNEY.node(),
        dataset,
        time: world.now(),
        deny,
    }
}

#[tokio::test]
async fn a_subscribers_alarm_is_recorded_once_and_denies_the_node() {
    // rule: DEN-11
    let mut world = World::new().await;
    let dataset = world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let told = report(&world, dataset, true);
    // The answer follows at once, with the denial in it.
    let began = Instant::now();
    let answer = telling(&world, &world.server, START, 30_000, vec![told.clone()])
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    let [
        Epoch {
            number: 1,
            event: Event::Denial(bytes),
        },
    ] = answer.epochs.as_slice()
    else {
        panic!("{answer:?}")
    };
    let denial = Denial::from_cbor(bytes, 2_048).unwrap();
    assert_eq!(denial.selector, Selector::node(SYDNEY.node()));
    assert_eq!(
        (denial.statement, denial.forget),
        (StatementDigest([0; 32]), Timestamp::LAST)
    );
    assert!(denial.author.starts_with("key-server "));
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Denied
    );
    // Told again, also after a restart, it is nothing new.
    for _ in 0..2 {
        let answer = telling(&world, &world.server, START, 0, vec![told.clone()])
            .await
            .unwrap();
        assert_eq!(answer.epoch, 1);
        assert_eq!(world.alarms(), [Alarm::Canary]);
        world.restart().await;
    }
    let alarm = world
        .entries()
        .into_iter()
        .find(|entry| entry.alarm.is_some())
        .unwrap();
    assert_eq!(
        (alarm.follows, alarm.dataset, alarm.subject),
        (
            Some(told.act),
            Some(dataset),
            Some(SYDNEY.node().to_string())
        )
    );
    // The memory of it goes in the end, and an old one is not in the store for good.
    assert!(world.has(&keys::report(told.act)).await);
    world.clock.advance(31 * 86_400);
    world.broker().tick().await.unwrap();
    assert!(!world.has(&keys::report(told.act)).await);
}

#[tokio::test]
async fn a_subscriber_is_heard_about_its_own_datasets_only() {
    // rule: DEN-11
    let world = World::new().await;
    let dataset = world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    Node::boot(&SYDNEY).login(&world, &launch).await.unwrap();
    let other = report(&world, DatasetId::random(&mut rng()), true);
    let quiet = report(&world, dataset, false);
    let answer = telling(&world, &world.server, START, 0, vec![other, quiet])
        .await
        .unwrap();
    assert_eq!((answer.epoch, world.alarms()), (0, vec![Alarm::Canary]));
    // Several in one request make several epochs of one chain, one for each node.
    let burst = Report {
        alarm: Alarm::Burst,
        ..report(&world, dataset, true)
    };
    let stranger = Report {
        node: SEOUL.node(),
        ..report(&world, dataset, true)
    };
    let again = report(&world, dataset, true);
    let told = vec![burst.clone(), burst, again, stranger];
    let answer = telling(&world, &world.server, START, 0, told)
        .await
        .unwrap();
    assert_eq!(walk(START, &answer.epochs), (1, answer.chain));
    assert_eq!(
        world.alarms(),
        [Alarm::Canary, Alarm::Burst, Alarm::Canary, Alarm::Canary]
    );
}

#[tokio::test]
async fn a_subscriber_that_falls_silent_is_told_of_once_until_it_is_heard_again() {
    // rule: DEN-12
    let world = World::new().await;
    world.dataset().await;
    // Who was never heard has not fallen silent.
    world.clock.advance(1_000);
    world.broker().sweep().await;
    assert!(world.alarms().is_empty());
    let lease = world.dataset_record().lease;
    for times in 1..=2 {
        feed(&world, &world.server, 0, CHAIN_START, 0)
            .await
            .unwrap();
        world.clock.advance(lease);
        world.broker().sweep().await;
        assert_eq!(world.alarms().len(), times - 1);
        world.clock.advance(1);
        world.broker().sweep().await;
        world.broker().sweep().await;
        assert_eq!(world.alarms(), vec![Alarm::SubscriberSilent; times]);
    }
    let alarm = world.entries().pop().unwrap();
    assert_eq!(alarm.subject, Some(world.server.public().to_string()));
    let text = world.broker().metrics().render();
    assert!(text.contains("postern_feed_subscribers_silent 1"), "{text}");
}
