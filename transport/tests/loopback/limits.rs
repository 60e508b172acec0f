//! What a stranger can cost is bounded, and others are served meanwhile (TR-5, promise 11).

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn::VarInt;
use tokio::time::timeout;
use transport::{
    Code, ConnectError, Connection, ExchangeError, HandshakeResult, Limit, Outcome, ServerLimits,
};

use crate::raw;
use crate::rig::{A_WHILE, ECHO, PATIENCE, Rig, WAIT, happened, until};

/// Sends a message and leaves the stream open for its answer.
async fn ask(connection: &quinn::Connection, message: &[u8]) -> quinn::RecvStream {
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    send.write_all(message).await.expect("sent");
    send.finish().expect("finished");
    recv
}

#[tokio::test]
async fn a_connection_gets_so_many_exchanges_at_a_time_and_the_next_waits() {
    let rig = Rig::start(ServerLimits {
        exchanges_per_connection: 2,
        ..ServerLimits::default()
    });
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let mut first = ask(&connection, &[WAIT]).await;
    let mut second = ask(&connection, &[WAIT]).await;
    happened(&rig.script.started, 2).await;
    assert!(
        timeout(A_WHILE, connection.open_bi()).await.is_err(),
        "no third"
    );
    rig.script.gate.add_permits(2);
    first.read_to_end(10).await.expect("an answer");
    second.read_to_end(10).await.expect("an answer");
    let mut third = ask(&connection, &[ECHO]).await;
    third.read_to_end(10).await.expect("an answer");
}

#[tokio::test]
async fn resetting_streams_does_not_get_a_peer_more_handlers() {
    let rig = Rig::start(ServerLimits {
        exchanges_per_connection: 2,
        ..ServerLimits::default()
    });
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    for _ in 0..2 {
        let mut recv = ask(&connection, &[WAIT]).await;
        recv.stop(VarInt::from_u32(0)).expect("stopped");
    }
    happened(&rig.script.started, 2).await;
    assert!(
        timeout(A_WHILE, connection.open_bi()).await.is_err(),
        "no third while two run"
    );
    assert_eq!(rig.script.exchanges.load(Ordering::SeqCst), 2);
    rig.script.gate.add_permits(2);
    let mut third = ask(&connection, &[ECHO]).await;
    third.read_to_end(10).await.expect("an answer");
}

#[tokio::test]
async fn leaving_and_coming_again_does_not_get_a_peer_more_handlers() {
    let rig = Rig::start(ServerLimits {
        connections: 1,
        connections_per_source: 1,
        ..ServerLimits::default()
    });
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let _recv = ask(&connection, &[WAIT]).await;
    happened(&rig.script.started, 1).await;
    connection.close(VarInt::from_u32(0), b"");
    let error = rig
        .try_connect()
        .await
        .expect_err("the place is taken by the running handler");
    assert!(matches!(error, ConnectError::Busy { .. }), "{error}");
    rig.script.gate.add_permits(1);
    until(|| rig.metrics.connections() == 0).await;
    rig.assert_serving().await;
}

#[tokio::test]
async fn exchanges_are_bounded_in_all() {
    let rig = Rig::start(ServerLimits {
        exchanges: 1,
        ..ServerLimits::default()
    });
    let holder = rig.connect_from(1).await.expect("a connection");
    let other = rig.connect_from(2).await.expect("a connection");
    let held = tokio::spawn(async move { holder.exchange(&[WAIT]).await });
    happened(&rig.script.started, 1).await;
    let error = other.exchange(&[ECHO]).await.expect_err("refused");
    assert!(
        matches!(error, ExchangeError::Refused { code: Code::Busy }),
        "{error}"
    );
    assert!(error.safe_to_retry() && !error.needs_new_connection());
    assert_eq!(rig.metrics.limited_total(Limit::Exchanges), 1);
    rig.script.gate.add_permits(1);
    held.await.expect("no panic").expect("an answer");
    until(|| rig.metrics.exchanges() == 0).await;
    other.exchange(&[ECHO]).await.expect("an answer");
}

#[tokio::test]
async fn a_source_that_has_all_its_exchanges_is_refused_and_another_is_served() {
    let rig = Rig::start(ServerLimits {
        exchanges: 8,
        ..ServerLimits::default()
    });
    // Two streams that drip, over two connections, as one source's quarter of all.
    let mut dripping = Vec::new();
    for _ in 0..2 {
        let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
            .await
            .expect("a connection");
        let (mut send, recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&[ECHO]).await.expect("sent");
        dripping.push((connection, send, recv));
    }
    until(|| rig.metrics.exchanges() == 2).await;
    let same = rig.connect_from(1).await.expect("a connection");
    let error = same.exchange(&[ECHO]).await.expect_err("refused");
    assert!(
        matches!(error, ExchangeError::Refused { code: Code::Busy }),
        "{error}"
    );
    assert_eq!(rig.metrics.limited_total(Limit::ExchangesPerSource), 1);
    let other = rig.connect_from(2).await.expect("another source");
    other.exchange(&[ECHO]).await.expect("an answer");
    let (_connection, mut send, mut recv) = dripping.remove(0);
    send.finish().expect("finished");
    recv.read_to_end(10).await.expect("an answer");
    until(|| rig.metrics.exchanges() == 1).await;
    same.exchange(&[ECHO]).await.expect("a place again");
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed_and_a_held_exchange_is_not() {
    let rig = Rig::start(ServerLimits {
        first_exchange_timeout: Duration::from_secs(2),
        ..ServerLimits::default()
    });
    let holder = rig.connect().await;
    let held = tokio::spawn({
        let holder = holder.clone();
        async move { holder.exchange(&[WAIT]).await }
    });
    happened(&rig.script.started, 1).await;
    // Both came later than the holder: when they are closed, its time is over as well.
    let silent = rig.connect().await;
    let dripping = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let (mut send, _recv) = dripping.open_bi().await.expect("a stream");
    send.write_all(&[ECHO]).await.expect("sent");
    let closed = timeout(PATIENCE, silent.closed()).await;
    assert_eq!(closed.expect("closed"), Some(Code::TooSlow));
    let closed = timeout(PATIENCE, dripping.closed()).await;
    assert!(
        matches!(
            closed.expect("closed"),
            quinn::ConnectionError::ApplicationClosed(close)
                if close.error_code == VarInt::from_u32(Code::TooSlow.number())
        ),
        "a request that never becomes whole is none"
    );
    assert_eq!(rig.metrics.limited_total(Limit::FirstExchangeTimeout), 2);
    until(|| rig.metrics.connections() == 1).await;
    assert!(holder.is_open() && !held.is_finished());
    rig.script.gate.add_permits(1);
    held.await.expect("no panic").expect("an answer");
    // Having asked once it may be silent.
    holder.exchange(&[ECHO]).await.expect("an answer");
}

/// Refused at the handshake or right after it, by what the server knew of the address then.
async fn assert_busy(attempt: Result<Connection, ConnectError>) {
    match attempt {
        Err(error) => assert!(matches!(error, ConnectError::Busy { .. }), "{error}"),
        Ok(connection) => {
            let error = connection.exchange(&[ECHO]).await.expect_err("refused");
            assert_eq!(error.outcome(), Outcome::NotProcessed, "{error}");
            assert_eq!(connection.closed().await, Some(Code::Busy));
        }
    }
}

#[tokio::test]
async fn connections_are_bounded_in_all() {
    let rig = Rig::start(ServerLimits {
        connections: 1,
        connections_per_source: 1,
        ..ServerLimits::default()
    });
    let first = rig.connect().await;
    assert_busy(rig.try_connect().await).await;
    assert_eq!(rig.metrics.limited_total(Limit::Connections), 1);
    assert_eq!(rig.metrics.handshakes_total(HandshakeResult::Refused), 1);
    first.close();
    first.endpoint().close().await;
    until(|| rig.metrics.connections() == 0).await;
    rig.assert_serving().await;
}

#[tokio::test]
async fn connections_are_bounded_per_source_whether_or_not_the_address_was_proven_first() {
    for retry_above in [0, 64] {
        let rig = Rig::start(ServerLimits {
            connections_per_source: 1,
            retry_above,
            ..ServerLimits::default()
        });
        let _first = rig.connect_from(1).await.expect("a connection");
        assert_busy(rig.connect_from(1).await).await;
        let other = rig.connect_from(2).await.expect("another source");
        other.exchange(&[ECHO]).await.expect("an answer");
        assert_eq!(rig.metrics.limited_total(Limit::ConnectionsPerSource), 1);
    }
}

#[tokio::test]
async fn new_connections_of_one_source_are_rate_limited_and_others_are_not() {
    let rig = Rig::start(ServerLimits {
        new_connections_per_second: NonZeroU32::MIN,
        new_connections_burst: NonZeroU32::MIN,
        ..ServerLimits::default()
    });
    let first = rig.connect_from(1).await.expect("a connection");
    first.exchange(&[ECHO]).await.expect("an answer");
    assert_busy(rig.connect_from(1).await).await;
    assert_eq!(rig.metrics.limited_total(Limit::NewConnections), 1);
    let other = rig.connect_from(2).await.expect("another source");
    other.exchange(&[ECHO]).await.expect("an answer");
}

#[tokio::test]
async fn request_bytes_are_bounded_per_source_and_others_are_served_meanwhile() {
    let rig = Rig::start(ServerLimits {
        message_bytes: 100_000,
        buffered_bytes: 200_000,
        buffered_bytes_per_source: 100_000,
        ..ServerLimits::default()
    });
    let hog = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let mut message = vec![0; 100_000];
    message[0] = WAIT;
    let mut held = ask(&hog, &message).await;
    happened(&rig.script.started, 1).await;
    let same = rig.connect_from(1).await.expect("a connection");
    let error = same
        .exchange_within(&[ECHO], A_WHILE)
        .await
        .expect_err("no memory yet");
    assert!(matches!(error, ExchangeError::TimedOut { .. }), "{error}");
    let other = rig.connect_from(2).await.expect("another source");
    other
        .exchange(&vec![ECHO; 100_000])
        .await
        .expect("an answer");
    rig.script.gate.add_permits(1);
    held.read_to_end(100_000).await.expect("an answer");
    same.exchange(&[ECHO]).await.expect("memory again");
}

#[tokio::test]
async fn a_request_that_gets_no_memory_before_its_deadline_is_told_busy() {
    let rig = Rig::start(ServerLimits {
        message_bytes: 1000,
        buffered_bytes: 1000,
        buffered_bytes_per_source: 1000,
        read_timeout: Duration::from_millis(100),
        ..ServerLimits::default()
    });
    let holder = rig.connect().await;
    let mut message = vec![0; 1000];
    message[0] = WAIT;
    let held = tokio::spawn(async move { holder.exchange(&message).await });
    happened(&rig.script.started, 1).await;
    let error = rig
        .connect()
        .await
        .exchange(&[ECHO])
        .await
        .expect_err("refused");
    assert!(
        matches!(error, ExchangeError::Refused { code: Code::Busy }),
        "{error}"
    );
    assert_eq!(rig.metrics.limited_total(Limit::BufferedBytes), 1);
    rig.script.gate.add_permits(1);
    held.await.expect("no panic").expect("an answer");
}

#[tokio::test]
async fn a_request_that_is_given_up_half_way_reaches_no_handler() {
    let rig = Rig::start(ServerLimits {
        message_bytes: 100_000,
        buffered_bytes: 100_000,
        buffered_bytes_per_source: 100_000,
        stream_window: 10_000,
        connection_window: 20_000,
        ..ServerLimits::default()
    });
    let holder = rig.connect().await;
    let mut message = vec![0; 100_000];
    message[0] = WAIT;
    let held = tokio::spawn(async move { holder.exchange(&message).await });
    happened(&rig.script.started, 1).await;
    let connection = rig.connect().await;
    let error = connection
        .exchange_within(&vec![ECHO; 100_000], A_WHILE)
        .await
        .expect_err("stuck");
    assert!(
        matches!(error, ExchangeError::TimedOut { sent: false, .. }),
        "{error}"
    );
    assert!(error.safe_to_retry());
    rig.script.gate.add_permits(1);
    held.await.expect("no panic").expect("an answer");
    connection.exchange(&[ECHO]).await.expect("an answer");
    until(|| rig.metrics.exchanges() == 0).await;
    assert_eq!(
        rig.script.exchanges.load(Ordering::SeqCst),
        2,
        "the held one and the echo"
    );
}
