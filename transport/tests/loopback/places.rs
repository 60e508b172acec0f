//! What strangers are held to, and who gives way when places run short.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use transport::{
    Code, ConnectError, Connection, ExchangeError, Limit, ServerLimits, StrangerLimits,
};

use crate::rig::{ECHO, KNOW, PATIENCE, Rig, WAIT, happened, until};

/// A little longer than the time in which nobody is asked to give way.
const SETTLED: Duration = Duration::from_millis(1_050);

fn with_strangers(strangers: StrangerLimits) -> ServerLimits {
    ServerLimits {
        strangers: Some(strangers),
        ..ServerLimits::default()
    }
}

fn busy(error: &ExchangeError) -> bool {
    matches!(error, ExchangeError::Refused { code: Code::Busy }) && error.safe_to_retry()
}

#[tokio::test]
async fn a_stranger_is_held_to_short_messages_and_who_is_known_is_not() {
    // rule: TR-8
    let rig = Rig::start(with_strangers(StrangerLimits {
        message_bytes: 1_000,
        ..StrangerLimits::default()
    }));
    let connection = rig.connect().await;
    let long = [ECHO; 1_001];
    let error = connection.exchange(&long).await.expect_err("too large");
    assert!(
        matches!(
            error,
            ExchangeError::Refused {
                code: Code::TooLarge
            }
        ),
        "{error}"
    );
    connection
        .exchange(&long[..1_000])
        .await
        .expect("an answer");
    connection.exchange(&[KNOW]).await.expect("an answer");
    connection.exchange(&long).await.expect("an answer");
}

#[tokio::test]
async fn requests_of_one_sources_strangers_are_counted_before_they_are_read_and_of_others_apart() {
    // rule: TR-8
    // cve_2025_6203, cve_2024_8185: the limiter comes before the decoder.
    let rig = Rig::start(with_strangers(StrangerLimits {
        requests_per_second: NonZeroU32::MIN,
        requests_burst: NonZeroU32::new(3).expect("not zero"),
        ..StrangerLimits::default()
    }));
    let known = rig.connect_from(1).await.expect("a connection");
    known.exchange(&[KNOW]).await.expect("an answer");
    // The source's, not the connection's.
    for _ in 0..2 {
        let stranger = rig.connect_from(1).await.expect("a connection");
        stranger.exchange(&[ECHO]).await.expect("an answer");
    }
    let stranger = rig.connect_from(1).await.expect("a connection");
    let error = stranger.exchange(&[ECHO]).await.expect_err("too many");
    assert!(busy(&error), "{error}");
    assert_eq!(rig.metrics.limited_total(Limit::StrangerRequests), 1);
    known.exchange(&[ECHO]).await.expect("known: not counted");
    let other = rig.connect_from(2).await.expect("a connection");
    other.exchange(&[ECHO]).await.expect("another source");
}

/// Room for 8 connections: 2 of one source, and from 3 free places down somebody gives way.
fn eight() -> ServerLimits {
    ServerLimits {
        connections: 8,
        connections_per_source: 2,
        first_exchange_timeout: PATIENCE,
        ..with_strangers(StrangerLimits::default())
    }
}

async fn connect(rig: &Rig, last: u8) -> Result<Connection, ConnectError> {
    rig.connect_from(last).await
}

#[tokio::test]
async fn when_connections_run_short_the_oldest_stranger_gives_way_to_whoever_comes() {
    // rule: TR-8
    let rig = Rig::start(eight());
    let known = connect(&rig, 1).await.expect("a connection");
    known.exchange(&[KNOW]).await.expect("an answer");
    let mut strangers = Vec::new();
    for last in 2..8 {
        let stranger = connect(&rig, last).await.expect("a connection");
        stranger.exchange(&[ECHO]).await.expect("an answer");
        strangers.push(stranger);
    }
    // What is tested is that time passes.
    sleep(SETTLED).await;
    for last in 8..14 {
        let newcomer = connect(&rig, last).await.expect("there is always a place");
        newcomer.exchange(&[ECHO]).await.expect("an answer");
        let oldest = strangers.remove(0);
        let closed = timeout(PATIENCE, oldest.closed()).await;
        assert_eq!(closed.expect("gives way"), Some(Code::Busy));
        strangers.push(newcomer);
        until(|| rig.metrics.connections() <= 7).await;
    }
    assert_eq!(rig.metrics.limited_total(Limit::GaveWay), 6);
    known.exchange(&[ECHO]).await.expect("who is known stays");
}

#[tokio::test]
async fn when_exchanges_run_short_the_oldest_stranger_gives_way() {
    // rule: TR-8
    let rig = Rig::start(ServerLimits {
        exchanges: 8,
        exchanges_per_source: Some(4),
        ..with_strangers(StrangerLimits::default())
    });
    let mut held = Vec::new();
    for last in [1, 1, 1, 1, 2, 2, 2] {
        let stranger = connect(&rig, last).await.expect("a connection");
        let waiting = stranger.clone();
        held.push((
            stranger,
            tokio::spawn(async move { waiting.exchange(&[WAIT]).await }),
        ));
    }
    happened(&rig.script.started, 7).await;
    sleep(SETTLED).await;
    let newcomer = connect(&rig, 3).await.expect("a connection");
    newcomer.exchange(&[ECHO]).await.expect("an answer");
    let (oldest, waiting) = held.remove(0);
    let closed = timeout(PATIENCE, oldest.closed()).await;
    assert_eq!(closed.expect("gives way"), Some(Code::Busy));
    waiting
        .await
        .expect("no panic")
        .expect_err("no answer came");
    assert!(held.iter().all(|(connection, _)| connection.is_open()));
    rig.script.gate.add_permits(7);
}
