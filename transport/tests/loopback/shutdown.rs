//! Stopping finishes what was accepted, takes nothing new, and ends in bounded time.

use std::time::Duration;

use transport::{Code, ConnectError, ExchangeError, Outcome, ServerLimits};

use crate::rig::{ECHO, Rig, WAIT, happened};

#[tokio::test]
async fn a_server_finishes_what_it_accepted_and_takes_nothing_new() {
    let mut rig = Rig::start(ServerLimits::default());
    let connection = rig.connect().await;
    let accepted = tokio::spawn({
        let connection = connection.clone();
        async move { connection.exchange(&[WAIT, 7]).await }
    });
    happened(&rig.script.started, 1).await;
    rig.ask_to_stop();
    // From some moment on each new exchange is told that it was not taken.
    let error = loop {
        match connection.exchange(&[ECHO]).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            ExchangeError::Refused {
                code: Code::GoingAway
            }
        ),
        "{error}"
    );
    assert!(error.safe_to_retry() && error.needs_new_connection());
    let error = rig.try_connect().await.expect_err("no new connection");
    assert!(matches!(error, ConnectError::Busy { .. }), "{error}");
    assert!(!accepted.is_finished());
    rig.script.gate.add_permits(1);
    let answer = accepted
        .await
        .expect("no panic")
        .expect("the accepted exchange is answered");
    assert_eq!(answer.as_ref(), [WAIT, 7]);
    assert_eq!(connection.closed().await, Some(Code::GoingAway));
    happened(&rig.script.closed, 1).await;
    assert_eq!(rig.stopped().await.unfinished, 0);
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_time_is_cut_off_and_counted() {
    let limits = ServerLimits {
        grace: Duration::from_millis(50),
        ..ServerLimits::default()
    };
    let mut rig = Rig::start(limits);
    let connection = rig.connect().await;
    let accepted = tokio::spawn(async move { connection.exchange(&[WAIT]).await });
    happened(&rig.script.started, 1).await;
    rig.ask_to_stop();
    assert_eq!(rig.stopped().await.unfinished, 1);
    let error = accepted.await.expect("no panic").expect_err("cut off");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let limits = ServerLimits {
        grace: Duration::from_secs(3600),
        ..ServerLimits::default()
    };
    let mut rig = Rig::start(limits);
    let connection = rig.connect().await;
    connection.exchange(&[ECHO]).await.expect("an answer");
    rig.ask_to_stop();
    assert_eq!(rig.stopped().await.unfinished, 0);
    assert_eq!(connection.closed().await, Some(Code::GoingAway));
}
