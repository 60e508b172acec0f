//! One stream per exchange (TR-3): what is answered, what is refused, and that refusing one harms no other.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn::{ReadError, ReadToEndError, VarInt, WriteError};
use tokio::time::timeout;
use transport::{ClientEndpoint, ClientLimits, Code, ExchangeError, Limit, Outcome, ServerLimits};

use crate::raw;
use crate::rig::{
    A_WHILE, ADDRESS, CLOSE, ECHO, LONG, PANIC, PATIENCE, Rig, WAIT, happened, loopback, until,
};

fn code(code: Code) -> VarInt {
    VarInt::from_u32(code.number())
}

#[tokio::test]
async fn many_exchanges_share_a_connection_and_are_answered_in_any_order() {
    let rig = Rig::start(ServerLimits::default());
    let connection = rig.connect().await;
    let slow = tokio::spawn({
        let connection = connection.clone();
        async move { connection.exchange(&[WAIT]).await }
    });
    happened(&rig.script.started, 1).await;
    for number in 0..100 {
        let answer = connection
            .exchange(&[ECHO, number])
            .await
            .expect("an answer");
        assert_eq!(answer.as_ref(), [ECHO, number]);
    }
    assert!(!slow.is_finished());
    rig.script.gate.add_permits(1);
    slow.await.expect("no panic").expect("an answer");
}

#[tokio::test]
async fn a_request_of_exactly_the_limit_is_served() {
    let rig = Rig::start(ServerLimits::default());
    let connection = rig.connect().await;
    let message = vec![ECHO; ServerLimits::default().message_bytes];
    let answer = connection.exchange(&message).await.expect("an answer");
    assert!(answer.as_ref() == message);
}

#[tokio::test]
async fn an_oversize_request_is_refused_and_the_next_is_served() {
    let rig = Rig::start(ServerLimits {
        message_bytes: 1000,
        ..ServerLimits::default()
    });
    let connection = rig.connect().await;
    for length in [1001, 100_000, 2 << 20] {
        let error = connection
            .exchange(&vec![ECHO; length])
            .await
            .expect_err("refused");
        assert!(
            matches!(
                error,
                ExchangeError::Refused {
                    code: Code::TooLarge
                }
            ),
            "{error}"
        );
        assert_eq!(error.outcome(), Outcome::NotProcessed);
        assert!(!error.safe_to_retry(), "it would be too large again");
    }
    assert_eq!(
        rig.script.exchanges.load(Ordering::SeqCst),
        0,
        "no handler saw any of them"
    );
    connection.exchange(&[ECHO; 1000]).await.expect("an answer");
    assert_eq!(rig.metrics.limited_total(Limit::MessageBytes), 3);
}

#[tokio::test]
async fn a_refusal_is_heard_even_when_the_connection_s_window_is_used_up() {
    let rig = Rig::start(ServerLimits {
        message_bytes: 1000,
        stream_window: 64 * 1024,
        connection_window: 64 * 1024,
        ..ServerLimits::default()
    });
    let connection = rig.connect().await;
    // Longer than the window, and short enough to be handed to QUIC whole before the refusal.
    for length in [1 << 20, 40_000, 5_000] {
        let mut exchanges = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let connection = connection.clone();
            exchanges.spawn(async move { connection.exchange(&vec![ECHO; length]).await });
        }
        let all = timeout(PATIENCE, exchanges.join_all())
            .await
            .expect("none waits for its deadline");
        for answer in all {
            let error = answer.expect_err("refused");
            assert!(
                matches!(
                    error,
                    ExchangeError::Refused {
                        code: Code::TooLarge
                    }
                ),
                "{error}"
            );
        }
        connection
            .exchange(&[ECHO; 1000])
            .await
            .expect("the window is whole again");
    }
}

#[tokio::test]
async fn our_client_sends_no_request_that_is_too_large() {
    let rig = Rig::start(ServerLimits::default());
    let connection = rig.connect().await;
    let error = connection
        .exchange(&vec![ECHO; (2 << 20) + 1])
        .await
        .expect_err("refused");
    assert!(
        matches!(error, ExchangeError::RequestTooLarge { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_and_the_next_is_served() {
    let limits = ServerLimits {
        read_timeout: Duration::from_millis(50),
        ..ServerLimits::default()
    };
    let rig = Rig::start(limits);
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&[ECHO]).await.expect("sent");
    let error = recv.read_to_end(10).await.expect_err("cut off");
    assert_eq!(
        error,
        ReadToEndError::Read(ReadError::Reset(code(Code::TooSlow)))
    );
    assert_eq!(send.stopped().await, Ok(Some(code(Code::TooSlow))));
    assert_eq!(rig.metrics.limited_total(Limit::ReadTimeout), 1);
    assert_eq!(rig.script.exchanges.load(Ordering::SeqCst), 0);
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&[ECHO]).await.expect("sent");
    send.finish().expect("finished");
    assert_eq!(recv.read_to_end(10).await.expect("an answer"), [ECHO]);
}

#[tokio::test]
async fn a_request_that_is_taken_back_reaches_no_handler_and_is_answered_by_silence() {
    let rig = Rig::start(ServerLimits::default());
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&[ECHO]).await.expect("sent");
    until(|| rig.metrics.exchanges() == 1).await;
    send.reset(VarInt::from_u32(99)).expect("reset");
    assert_eq!(
        recv.read_to_end(10).await,
        Ok(Vec::new()),
        "no error answers an error"
    );
    assert_eq!(rig.script.exchanges.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let limits = ServerLimits {
        write_timeout: Duration::from_millis(50),
        ..ServerLimits::default()
    };
    let rig = Rig::start(limits);
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    send.write_all(&[LONG]).await.expect("sent");
    send.finish().expect("finished");
    until(|| rig.metrics.limited_total(Limit::WriteTimeout) == 1).await;
    let error = recv.read_to_end(2 << 20).await.expect_err("given up");
    assert_eq!(
        error,
        ReadToEndError::Read(ReadError::Reset(code(Code::Unfinished)))
    );
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_own_exchange_only() {
    let rig = Rig::start(ServerLimits::default());
    let connection = rig.connect().await;
    let error = connection.exchange(&[PANIC]).await.expect_err("no answer");
    assert!(
        matches!(
            error,
            ExchangeError::Refused {
                code: Code::Unfinished
            }
        ),
        "{error}"
    );
    assert_eq!(error.outcome(), Outcome::Unknown);
    connection.exchange(&[ECHO]).await.expect("an answer");
}

#[tokio::test]
async fn an_answer_that_is_too_large_for_the_client_is_refused_by_it() {
    let rig = Rig::start(ServerLimits::default());
    let limits = ClientLimits {
        answer_bytes: 1000,
        ..ClientLimits::default()
    };
    let endpoint = ClientEndpoint::bind(loopback(1), limits).expect("an endpoint");
    let connection = endpoint
        .connect(rig.address, rig.pin, PATIENCE)
        .await
        .expect("a connection");
    let error = connection.exchange(&[LONG]).await.expect_err("refused");
    assert!(
        matches!(error, ExchangeError::AnswerTooLarge { limit: 1000 }),
        "{error}"
    );
    connection.exchange(&[ECHO; 1000]).await.expect("an answer");
}

#[tokio::test]
async fn a_client_that_tires_of_waiting_keeps_its_connection() {
    let rig = Rig::start(ServerLimits::default());
    let connection = rig.connect().await;
    let error = connection
        .exchange_within(&[WAIT], Duration::from_millis(50))
        .await
        .expect_err("no answer");
    assert!(
        matches!(error, ExchangeError::TimedOut { sent: true, .. }),
        "{error}"
    );
    assert!(!error.safe_to_retry());
    connection.exchange(&[ECHO]).await.expect("an answer");
    rig.script.gate.add_permits(1);
}

#[tokio::test]
async fn an_empty_answer_is_no_answer() {
    let rig = Rig::start(ServerLimits::default());
    let error = rig
        .connect()
        .await
        .exchange(&[])
        .await
        .expect_err("no answer");
    assert!(matches!(error, ExchangeError::Empty), "{error}");
}

#[tokio::test]
async fn a_handler_finishes_even_when_its_caller_leaves() {
    let rig = Rig::start(ServerLimits::default());
    let connection = rig.connect().await;
    let leaving = connection.exchange_within(&[WAIT], PATIENCE);
    assert!(
        timeout(A_WHILE, async {
            tokio::join!(leaving, happened(&rig.script.started, 1)).0
        })
        .await
        .is_err()
    );
    connection.close();
    connection.endpoint().close().await;
    rig.script.gate.add_permits(1);
    happened(&rig.script.finished, 1).await;
    happened(&rig.script.closed, 1).await;
    until(|| rig.metrics.connections() == 0).await;
}

#[tokio::test]
async fn a_server_can_end_a_connection_for_misuse() {
    let rig = Rig::start(ServerLimits::default());
    let connection = rig.connect().await;
    let error = connection.exchange(&[CLOSE]).await.expect_err("closed");
    assert!(error.needs_new_connection(), "{error}");
    assert_eq!(connection.closed().await, Some(Code::Misuse));
    let error = connection.exchange(&[ECHO]).await.expect_err("closed");
    assert!(matches!(error, ExchangeError::Closed { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotProcessed);
}

#[tokio::test]
async fn there_are_no_one_way_streams_and_no_datagrams() {
    let rig = Rig::start(ServerLimits::default());
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    assert!(
        timeout(A_WHILE, connection.open_uni()).await.is_err(),
        "never granted"
    );
    connection
        .send_datagram(vec![0].into())
        .expect_err("not supported by the peer");
}

#[tokio::test]
async fn writing_on_after_a_refusal_gets_the_reason() {
    let rig = Rig::start(ServerLimits {
        message_bytes: 10,
        ..ServerLimits::default()
    });
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let (mut send, _recv) = connection.open_bi().await.expect("a stream");
    let error = loop {
        if let Err(error) = send.write_all(&[0; 4096]).await {
            break error;
        }
    };
    assert_eq!(error, WriteError::Stopped(code(Code::TooLarge)));
}

#[tokio::test]
async fn the_handler_sees_where_the_peer_comes_from() {
    let rig = Rig::start(ServerLimits::default());
    let connection = rig.connect_from(3).await.expect("a connection");
    assert_eq!(connection.address(), rig.address);
    let answer = connection.exchange(&[ADDRESS]).await.expect("an answer");
    assert!(answer.starts_with(b"127.0.0.3:"), "{answer:?}");
    assert!(connection.is_open());
}

#[tokio::test]
async fn an_ipv4_peer_of_a_dual_stack_server_shows_its_ipv4_address() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let mut rig = Rig::start_on(any, ServerLimits::default());
    rig.address = SocketAddr::new(loopback(1).ip(), rig.address.port());
    let connection = rig.connect_from(3).await.expect("a connection");
    let answer = connection.exchange(&[ADDRESS]).await.expect("an answer");
    assert!(answer.starts_with(b"127.0.0.3:"), "{answer:?}");
}
