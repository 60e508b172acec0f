//! Peers that finish their handshake and mean no good.

use std::sync::Arc;
use std::time::Duration;

use tests::house::{DATASET, House};
use tests::node::{Iid, Node};
use tests::wire::{self, Reply, secrets};
use ticket_format::Refusal;
use ticket_format::secret::BootstrapSecret;
use tools::floods::{Flood, Force};
use transport::{Code, ExchangeError};

use crate::honest::Honest;
use crate::{Bound, DESCRIPTORS, TURN, until, withstand};

/// So many connections, each with what it may have unread.
const fn connections(count: u64) -> Bound {
    Bound {
        // The connection itself and its streams, a window of 512 KiB, and the pieces' bookkeeping.
        memory: 24 * 1_024 + count * 1_536,
        descriptors: DESCRIPTORS,
    }
}

fn force(peers: usize, per_second: u32) -> Force {
    Force {
        span: Duration::ZERO,
        peers,
        sources: 8,
        per_second,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_held_for_nothing_are_bounded_and_a_denial_comes_through() {
    // rule: TR-5, TR-8
    let _turn = TURN.lock().await;
    let house = House::start();
    let mut honest = Honest::new(&house, 0).await;
    let mut doomed = Honest::new(&house, 1).await;
    let bound = connections(32);
    for flood in [Flood::Silent, Flood::SlowWriters, Flood::SlowReaders] {
        let floods = [flood.clone(), flood];
        withstand(
            &house,
            &mut honest,
            (&floods, force(8, 8)),
            bound,
            async |_| {},
        )
        .await;
    }
    let floods = [Flood::Silent, Flood::SlowWriters];
    withstand(
        &house,
        &mut doomed,
        (&floods, force(8, 8)),
        bound,
        async |doomed| {
            assert!(!doomed.is_denied().await);
            let node = doomed.node.iid.node.to_string();
            let deny = ["deny", "--node", &node, "--reason", "flooded", "--yes"];
            house.admin_does(&deny).ok();
            until("the denial is applied", async || doomed.is_denied().await).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rustsec_2026_0037_gaps_in_streams_many_streams_and_long_messages_grow_no_memory() {
    // rule: TR-5, TR-8
    let _turn = TURN.lock().await;
    let house = House::start();
    let mut honest = Honest::new(&house, 0).await;
    for (flood, peers, per_second, held) in [
        (Flood::Gaps, 1, 1, 16),
        (Flood::Streams, 4, 200, 8),
        (Flood::Messages, 4, 10, 16),
    ] {
        let floods = [flood.clone(), flood];
        let force = force(peers, per_second);
        withstand(
            &house,
            &mut honest,
            (&floods, force),
            connections(held),
            async |_| {},
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2025_6203_storms_of_logins_and_presents_cost_bounded_memory_and_a_denial_comes_through()
 {
    // rule: TR-5, TR-8, TR-9
    let _turn = TURN.lock().await;
    let house = House::start();
    let mut honest = Honest::new(&house, 0).await;
    let iid = Iid::real(2);
    let mut guessed = house.launch(&iid.account);
    guessed.secret = BootstrapSecret::random(&mut wire::rng());
    let guesser = Node::new(&iid, &guessed);
    let to_broker = house.to_broker().await;
    let (login, _) = guesser.login_message(&to_broker, &secrets());
    let login = login.on(&to_broker.channel);
    assert_eq!(
        to_broker.raw(&login).await.refusal(),
        Some(Refusal::NotAuthenticated)
    );
    // A good ticket, without the connection that its proof is for.
    let session = honest.node.issue(&to_broker, DATASET).await;
    let present = wire::present(&session.expect("a ticket")).on(&to_broker.channel);
    let to_key_server = house.to_key_server().await;
    let refused = to_key_server.raw(&present).await;
    assert_eq!(refused.refusal(), Some(Refusal::Possession));
    let storm = |request: Vec<u8>| Flood::Storm {
        request: Arc::from(request),
        each: 16,
    };
    let floods = [storm(login), storm(present)];
    let log = house.broker.log().len();
    let tallies = withstand(
        &house,
        &mut honest,
        (&floods, force(8, 32)),
        connections(16),
        async |honest| {
            let node = honest.node.iid.node.to_string();
            let deny = ["deny", "--node", &node, "--reason", "stormed", "--yes"];
            house.admin_does(&deny).ok();
            until("the denial is applied", async || honest.is_denied().await).await;
        },
    )
    .await;
    assert!(tallies.iter().all(|tally| tally.served > 0), "{tallies:?}");
    // Strangers are counted, and fill no disk with lines of their own.
    let lines = house.broker.log()[log..]
        .matches("NotAuthenticated")
        .count();
    let refused = house.broker.log()[log..]
        .lines()
        .filter(|line| line.contains("refused"))
        .count();
    assert!(lines + refused < 16, "{}", house.broker.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_servers_hold_strangers_to_short_requests_and_nobody_who_has_proven_who_he_is() {
    // rule: TR-8
    let _turn = TURN.lock().await;
    let house = House::start();
    let honest = Honest::new(&house, 0).await;
    let long = vec![0x81; 200 * 1_024];
    let cut = |reply: Reply| {
        matches!(
            reply,
            Reply::Transport(ExchangeError::Refused {
                code: Code::TooLarge
            })
        )
    };
    let answered = |reply: Reply| matches!(reply, Reply::Refused { .. });
    let node = house.to_broker().await;
    assert!(cut(node.raw(&long).await));
    let session = honest.node.issue(&node, DATASET).await.expect("a ticket");
    assert!(answered(node.raw(&long).await));
    let subscriber = house.to_broker().await;
    assert!(cut(subscriber.raw(&long).await));
    let fed = subscriber.send(&wire::feed(house.signing_secret())).await;
    assert!(matches!(fed, Reply::Done { .. }), "{fed:?}");
    assert!(answered(subscriber.raw(&long).await));
    let job = house.to_key_server().await;
    assert!(cut(job.raw(&long).await));
    job.present_when_leased(&session).await;
    assert!(answered(job.raw(&long).await));
}
