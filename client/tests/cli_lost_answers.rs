//! What stands on disk before anything is sent, so that a lost answer locks nobody out.

mod cli_support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cli_support::{Home, Refusing, broker_log, chain, evidence, now, rng, server, tls_key};
use client::Error;
use client::login::{login, prepare};
use client::logs::{LoggedLink, Logs};
use client::renew::renew;
use client::state::NodeState;
use ticket_format::Refusal;
use ticket_format::ids::{EvidenceHash, LaunchId};
use ticket_format::limits;
use ticket_format::messages::login::LoginBody;
use ticket_format::messages::renew::RenewBody;
use ticket_format::messages::{RequestView, Verb};

const WAIT: Duration = Duration::from_secs(20);

fn body<B: ticket_format::cbor::Decode>(message: &[u8], verb: Verb) -> B {
    let request = RequestView::parse(message).unwrap();
    assert_eq!(request.verb, verb);
    B::from_cbor(request.body, limits::SMALL_MESSAGE).unwrap()
}

async fn link(home: &Home, address: std::net::SocketAddr) -> LoggedLink {
    let (key, logs) = (broker_log(&tls_key()).key(), Logs::of_state(&home.state()));
    LoggedLink::connect(&server(address), &key, &logs, WAIT)
        .await
        .unwrap()
}

type Seen<T> = Arc<Mutex<Vec<T>>>;

#[tokio::test(flavor = "multi_thread")]
async fn node_key_login_id_and_chain_are_on_disk_before_a_login_is_sent() {
    // rule: LOG-1
    let home = Home::new();
    let dir = home.state();
    let seen: Seen<(LoginBody, NodeState)> = Arc::default();
    let (sink, state_dir) = (Arc::clone(&seen), dir.clone());
    let broker = Refusing::start(move |message| {
        let stored = NodeState::load(&state_dir).unwrap().unwrap();
        sink.lock()
            .unwrap()
            .push((body(message, Verb::Login), stored));
    });
    for _ in 0..2 {
        // As after a crash: everything comes from the disk.
        let evidence = evidence(&broker.address.to_string(), tls_key());
        let mut state = prepare(&dir, &evidence, &mut rng()).unwrap();
        let link = link(&home, broker.address).await;
        let error = login(&link, &dir, &mut state, &evidence, now(), &mut rng())
            .await
            .unwrap_err();
        link.close().await.unwrap();
        assert_eq!(error.refusal(), Some(Refusal::Internal));
        assert!(error.worth_retrying());
    }
    let seen = seen.lock().unwrap();
    let [(first, before_first), (second, before_second)] = &seen[..] else {
        panic!("two logins were sent");
    };
    assert_eq!(
        (first.node_key, first.login),
        (second.node_key, second.login)
    );
    assert_eq!(before_first.key.public(), first.node_key);
    assert_eq!(before_first.login, first.login);
    // Session keys are fresh with each try, and so is the chain; both chains are kept.
    assert_ne!(first.proof_key, second.proof_key);
    assert_eq!(before_first.chains.len(), 1);
    assert_eq!(before_second.chains.len(), 2);
    // rule: EVD-3
    for (sent, stored) in [(first, before_first), (second, before_second)] {
        let parts = stored.chains.last().unwrap().parts.as_ref().unwrap();
        assert_eq!(parts.login.proof_key, sent.proof_key);
        assert_eq!(parts.login.sealing_key, sent.sealing_key.hash());
        assert_eq!(parts.login.proof, sent.evidence);
        assert_eq!(parts.iid_proof, sent.iid_proof);
    }
    assert!(!before_second.known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_under_another_launch_loses_neither_node_key_nor_wallet() {
    // rule: LOG-1
    let home = Home::new();
    let dir = home.state();
    let seen: Seen<(LoginBody, NodeState)> = Arc::default();
    let (sink, state_dir) = (Arc::clone(&seen), dir.clone());
    let broker = Refusing::start(move |message| {
        let waiting = NodeState::load_waiting(&state_dir).unwrap().unwrap();
        sink.lock()
            .unwrap()
            .push((body(message, Verb::Login), waiting));
    });
    let address = broker.address.to_string();
    let (old, _) = home.logged_in(&address, tls_key(), 3_600);
    for _ in 0..2 {
        let mut evidence = evidence(&address, tls_key());
        evidence.bootstrap.launch = LaunchId([0x44; 16]);
        let mut state = prepare(&dir, &evidence, &mut rng()).unwrap();
        let link = link(&home, broker.address).await;
        assert!(
            login(&link, &dir, &mut state, &evidence, now(), &mut rng())
                .await
                .is_err()
        );
        link.close().await.unwrap();
        let in_force = NodeState::load(&dir).unwrap().unwrap();
        assert_eq!(in_force.key.public(), old.key.public());
        assert!(in_force.known && in_force.launch == old.launch);
        let wallet = home.wallet().load(&in_force.wallet_key).unwrap();
        assert!(wallet.node.is_some());
    }
    let seen = seen.lock().unwrap();
    let [(first, before_first), (second, before_second)] = &seen[..] else {
        panic!("two logins were sent");
    };
    // A retry after a crash is the same login, and stands on the disk before it is sent.
    assert_eq!(
        (first.node_key, first.login),
        (second.node_key, second.login)
    );
    assert_ne!(first.node_key, old.key.public());
    assert_eq!(before_first.key.public(), first.node_key);
    assert_eq!(
        (before_first.chains.len(), before_second.chains.len()),
        (1, 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_node_key_is_on_disk_before_a_renewal_is_sent_and_stays_the_same() {
    // rule: REN-1, REN-2
    let home = Home::new();
    let dir = home.state();
    let seen: Seen<(RenewBody, NodeState)> = Arc::default();
    let (sink, state_dir) = (Arc::clone(&seen), dir.clone());
    let broker = Refusing::start(move |message| {
        let stored = NodeState::load(&state_dir).unwrap().unwrap();
        sink.lock()
            .unwrap()
            .push((body(message, Verb::Renew), stored));
    });
    home.logged_in(&broker.address.to_string(), tls_key(), 3_600);
    for _ in 0..2 {
        let mut state = NodeState::load(&dir).unwrap().unwrap();
        let link = link(&home, broker.address).await;
        assert!(
            renew(&link, &dir, &mut state, now(), &mut rng())
                .await
                .is_err()
        );
        link.close().await.unwrap();
    }
    let seen = seen.lock().unwrap();
    let [(first, before_first), (second, _)] = &seen[..] else {
        panic!("two renewals were sent");
    };
    assert_eq!(
        (first.old_key, first.new_key),
        (second.old_key, second.new_key)
    );
    assert_eq!(first.chain, second.chain);
    let next = before_first.next.as_ref().unwrap().public();
    assert_eq!(next, first.new_key);
    assert_eq!(before_first.key.public(), first.old_key);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_logins_without_answer_a_renewal_tries_the_chain_of_each() {
    let home = Home::new();
    let dir = home.state();
    let seen: Seen<RenewBody> = Arc::default();
    let sink = Arc::clone(&seen);
    let broker =
        Refusing::start(move |message| sink.lock().unwrap().push(body(message, Verb::Renew)));
    *broker.refusal.lock().unwrap() = Refusal::NotAuthenticated;
    let (mut state, _) = home.logged_in(&broker.address.to_string(), tls_key(), 3_600);
    state.chains = vec![chain(1), chain(2)];
    let link = link(&home, broker.address).await;
    let error = renew(&link, &dir, &mut state, now(), &mut rng())
        .await
        .unwrap_err();
    link.close().await.unwrap();
    assert_eq!(error.refusal(), Some(Refusal::NotAuthenticated));
    let chains: Vec<_> = seen.lock().unwrap().iter().map(|body| body.chain).collect();
    assert_eq!(chains, [EvidenceHash([2; 32]), EvidenceHash([1; 32])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_logged_in_renews_nothing() {
    let home = Home::new();
    let broker = Refusing::start(|_| panic!("nothing is sent"));
    let evidence = evidence(&broker.address.to_string(), tls_key());
    let mut state = prepare(&home.state(), &evidence, &mut rng()).unwrap();
    let link = link(&home, broker.address).await;
    let error = renew(&link, &home.state(), &mut state, now(), &mut rng())
        .await
        .unwrap_err();
    link.close().await.unwrap();
    assert!(matches!(error, Error::NoTicket(_)));
}
