//! Feed and denials (`spec/protocol.md`, section 8).
#![allow(missing_docs)]

mod support;

use std::sync::Arc;

use support::*;
use ticket_format::Refusal;
use ticket_format::denial::{CHAIN_START, Selector, chain_next};
use ticket_format::ids::{ChainDigest, TicketId};
use ticket_format::keys::ServerSecret;
use ticket_format::limits;
use ticket_format::statement::{DenyBody, DenyList};

fn some_ticket() -> Selector {
    Selector::ticket(TicketId::random(&mut rng()))
}

#[tokio::test]
async fn a_subscriber_gets_what_it_lacks_in_one_chain() {
    // rule: DEN-1, DEN-4
    let world = World::new().await;
    world.dataset().await;
    let first = world.deny(some_ticket()).await;
    let second = world.deny(some_ticket()).await;
    let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    assert_eq!(
        (answer.epoch, answer.chain, answer.snapshot),
        (2, second.chain, false)
    );
    let chain = answer.denials.iter().fold(CHAIN_START, |chain, denial| {
        chain_next(chain, &denial.denial)
    });
    assert_eq!(chain, second.chain);
    let answer = feed(&world, &world.server, 1, first.chain, 0)
        .await
        .unwrap();
    assert_eq!((answer.denials.len(), answer.denials[0].epoch), (1, 2));
    assert_eq!(
        world.broker().acknowledgements(),
        [(world.server.public().to_bytes(), 1)]
    );
    let answer = feed(&world, &world.server, 2, second.chain, 0)
        .await
        .unwrap();
    assert_eq!(
        (answer.denials.len(), answer.epoch, answer.snapshot),
        (0, 2, false)
    );
    assert_eq!(
        world.broker().acknowledgements(),
        [(world.server.public().to_bytes(), 2)]
    );
}

#[tokio::test]
async fn who_is_off_the_chain_gets_a_snapshot_and_acknowledges_nothing() {
    // rule: DEN-4
    let world = World::new().await;
    world.dataset().await;
    let denied = world.deny(some_ticket()).await;
    for (epoch, chain) in [
        (1, ChainDigest([1; 32])),
        (0, ChainDigest([1; 32])),
        (7, denied.chain),
    ] {
        let answer = feed(&world, &world.server, epoch, chain, 1_000)
            .await
            .unwrap();
        assert_eq!(
            (
                answer.epoch,
                answer.chain,
                answer.snapshot,
                answer.denials.len()
            ),
            (1, denied.chain, true, 1)
        );
    }
    assert!(world.broker().acknowledgements().is_empty());
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
    let began = std::time::Instant::now();
    world.deny(some_ticket()).await;
    assert_eq!(waiting.await.unwrap().epoch, 1);
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
}

#[tokio::test]
async fn a_held_request_ends_with_its_hold_and_with_the_broker() {
    // rule: DEN-3
    let world = Arc::new(World::new().await);
    world.dataset().await;
    let answer = feed(&world, &world.server, 0, CHAIN_START, 20)
        .await
        .unwrap();
    assert_eq!((answer.epoch, answer.denials.len()), (0, 0));
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
    use ticket_format::cbor::Encode;
    use ticket_format::messages::{Verb, feed::FeedBody};
    let world = World::new().await;
    world.dataset().await;
    let (mine, theirs) = (world.connect(), world.connect());
    let body = FeedBody {
        subscriber: world.server.public(),
        nonce: [1; 32],
        epoch: 0,
        chain: CHAIN_START,
        hold_ms: 0,
    }
    .to_cbor();
    let proof = mine.channel.sign_with(
        &world.server,
        ticket_format::labels::FEED_REQUEST,
        None,
        &body,
    );
    assert_eq!(
        refusal(
            theirs
                .send(Verb::Feed, &body, std::slice::from_ref(&proof))
                .await
        ),
        Refusal::NotAuthenticated
    );
    assert!(mine.send(Verb::Feed, &body, &[proof]).await.is_ok());
}

#[tokio::test]
async fn denials_are_forgotten_when_no_ticket_is_left_and_not_before() {
    // rule: DEN-7
    let mut world = World::new().await;
    world.dataset().await;
    world.deny(some_ticket()).await;
    let kept = limits::LONGEST_TICKET_LIFE + limits::SKEW;
    world.clock.advance(kept - 1);
    world.broker().tick().await.unwrap();
    let last = world.deny(Selector::node(SYDNEY.node())).await;
    assert_eq!(
        feed(&world, &world.server, 0, CHAIN_START, 0)
            .await
            .unwrap()
            .denials
            .len(),
        2
    );
    world.clock.advance(1);
    world.broker().tick().await.unwrap();
    for pass in ["at once", "after a restart"] {
        let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
            .await
            .unwrap();
        assert!(answer.snapshot, "{pass}: there is a gap now");
        assert_eq!(
            (answer.epoch, answer.chain, answer.denials.len()),
            (2, last.chain, 1),
            "{pass}"
        );
        world.restart().await;
    }
    world.clock.advance(kept);
    world.broker().tick().await.unwrap();
    let answer = feed(&world, &world.server, 0, CHAIN_START, 0)
        .await
        .unwrap();
    assert_eq!(
        (answer.epoch, answer.chain, answer.denials.len()),
        (2, last.chain, 0)
    );
    // The node stays denied, and the list says so.
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
    let chain = answer.denials.iter().fold(CHAIN_START, |chain, denial| {
        chain_next(chain, &denial.denial)
    });
    assert_eq!((chain, answer.epoch), (answer.chain, 30));
}
