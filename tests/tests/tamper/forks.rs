//! Two views of one log, and old copies brought back: whoever knows the other view notices.

use super::*;
use std::fs;
use tests::house::copy_dir;
use tests::wire::Wire;
use ticket_format::Refusal;
use ticket_format::cbor::Encode as _;
use ticket_format::entry::Alarm;
use ticket_format::messages::Verb;
use ticket_format::messages::consistency::ConsistencyBody;
use ticket_format::statement::{LogRecover, LogShow, LogState};
use ticket_format::tlog::Checkpoint;

/// Puts a copy in the place of a server's data.
fn put_back(house: &House, server: &str, copy: &str) {
    let data = house.path(server).join("data");
    fs::remove_dir_all(&data).expect("removed");
    copy_dir(&house.path(copy), &data);
}

fn take(house: &House, server: &str, copy: &str) {
    copy_dir(&house.path(server).join("data"), &house.path(copy));
}

#[test]
fn a_key_server_that_shows_two_views_is_noticed_by_whoever_saw_the_other() {
    // rule: TLOG-6
    let mut house = House::start();
    let (first, second) = (node(&house, "first", 0), node(&house, "second", 1));
    uses_a_key(&first, "a").ok();
    uses_a_key(&second, "a").ok();
    house.key_server.stop();
    take(&house, "key-server", "before");
    house.key_server.start();
    for number in 0..3 {
        uses_a_key(&first, &format!("view one {number}")).ok();
    }
    // The other view: the same server from its copy, with other acts, and more of them.
    house.key_server.stop();
    put_back(&house, "key-server", "before");
    house.key_server.start();
    for number in 0..6 {
        uses_a_key(&second, &format!("view two {number}")).ok();
    }
    let begun = Instant::now();
    let said = uses_a_key(&first, "b");
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    noticed(
        "a second view of the key server's log",
        "a client that saw the first, at once",
        begun,
    );
    println!("{}", said.stderr);
    // It goes on being refused, and the one who saw only one view is served.
    assert_eq!(uses_a_key(&first, "c").code, Some(9));
    uses_a_key(&second, "d").ok();
    eventually("the server records that it was shown another view", || {
        house.alarms("key-server", Alarm::LogRollback) > 0
    });
    // A person may decide to go on.
    let listed = first.run(&["logs"]).ok();
    let origin = house.log_key("key-server").origin.to_string();
    assert!(listed.contains(&origin), "{listed}");
    first.run(&["logs", "forget", &origin, "--yes"]).ok();
    uses_a_key(&first, "e").ok();
}

#[test]
fn an_old_copy_of_the_broker_is_noticed_by_its_nodes_and_stops_the_key_server() {
    // rule: TLOG-6, TLOG-7
    let mut house = House::start();
    let (first, second) = (node(&house, "first", 0), node(&house, "second", 1));
    uses_a_key(&first, "a").ok();
    uses_a_key(&second, "a").ok();
    house.broker.stop();
    take(&house, "broker", "before");
    house.broker.start();
    for number in 0..5 {
        uses_a_key(&first, &number.to_string()).ok();
    }
    // The key server has seen the receipts of these issues; it looks at most once a second.
    std::thread::sleep(Duration::from_millis(1_500));
    house.broker.stop();
    put_back(&house, "broker", "before");
    let begun = Instant::now();
    house.broker.start();
    let said = first.run(&["renew"]);
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    noticed(
        "an old copy of the broker",
        "a node, at its next connection",
        begun,
    );
    eventually("the key server knows", || {
        house.alarms("key-server", Alarm::LogFork) > 0
    });
    noticed("an old copy of the broker", "the key server", begun);
    // From now on no ticket of that broker is taken, also after a restart.
    let said = uses_a_key(&second, "b");
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    assert!(said.stderr.contains("refusal 47"), "{}", said.stderr);
    house.key_server.restart();
    assert_eq!(uses_a_key(&second, "c").code, Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_and_nobody_less_says_where_a_forked_broker_log_goes_on() {
    // rule: TLOG-7
    let mut house = tokio::task::spawn_blocking(|| {
        let mut house = House::start();
        let node = node(&house, "node", 0);
        uses_a_key(&node, "a").ok();
        house.broker.stop();
        take(&house, "broker", "before");
        house.broker.start();
        for number in 0..3 {
            uses_a_key(&node, &number.to_string()).ok();
        }
        std::thread::sleep(Duration::from_millis(1_500));
        house.broker.stop();
        put_back(&house, "broker", "before");
        house.broker.start();
        eventually("the key server knows", || {
            house.alarms("key-server", Alarm::LogFork) > 0
        });
        house
    })
    .await
    .expect("a house");
    let other = house.node(1).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let ticket = other.issue(&broker, DATASET).await.expect("a ticket");
    let refusal = loop {
        match server.present(&ticket).await {
            Err(reply) if reply.refusal() == Some(Refusal::Lease) => {}
            Err(reply) => break reply.refusal(),
            Ok(_) => break None,
        }
    };
    assert_eq!(refusal, Some(Refusal::Receipt));
    let view = server
        .act(&house.admins, &LogShow {})
        .await
        .expect("a view");
    assert_eq!(view.state, LogState::BrokerForked, "{}", view.wrong);
    let now = broker
        .act(&house.admins, &LogShow {})
        .await
        .expect("a view");
    let newest = Checkpoint::of_note_unverified(&now.checkpoint).expect("a checkpoint");
    let recover = LogRecover {
        shard: newest.shard.to_string(),
        size: newest.size,
        root: newest.root,
    };
    // rule: SET-2 — one alone may not.
    let alone = [house.admins.all()[1]];
    let message = tests::admins::statement_by(&alone, &server.channel, &recover);
    assert_eq!(server.send(&message).await.refusal(), Some(Refusal::Quorum));
    server.act(&house.admins, &recover).await.expect("accepted");
    let view = server
        .act(&house.admins, &LogShow {})
        .await
        .expect("a view");
    assert_eq!(view.state, LogState::Good, "{}", view.wrong);
    // What lies behind the place that was named counts again once the broker has proven it.
    let begun = Instant::now();
    let ticket = other.issue(&broker, DATASET).await.expect("a ticket");
    while let Err(reply) = server.present(&ticket).await {
        let refusal = reply.refusal();
        assert!(
            matches!(refusal, Some(Refusal::Receipt | Refusal::Lease)),
            "{reply:?}"
        );
        assert!(begun.elapsed() < SOON, "the broker proves nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    house.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_learns_consistency_and_nothing_by_lying() {
    // rule: TLOG-6
    let mut house = House::start();
    for (wire, role) in [
        (house.to_broker().await, "broker"),
        (house.to_key_server().await, "key-server"),
    ] {
        let ask = async |note: &str| {
            let body = ConsistencyBody::of(note.to_owned()).to_cbor();
            wire.send(&tests::wire::Message::new(
                Verb::Consistency,
                body,
                |_, _| Vec::new(),
            ))
            .await
        };
        let view = wire.act(&house.admins, &LogShow {}).await.expect("a view");
        let note = view.checkpoint;
        let _ = ask(&note).await.done();
        // Its size made larger, its signature damaged, another log's, no note at all.
        let lines: Vec<&str> = note.lines().collect();
        let larger = note.replacen(&format!("\n{}\n", lines[1]), "\n999999\n", 1);
        for lie in [larger.as_str(), "x", "", &note.replace('/', "-")] {
            if lie == note {
                continue;
            }
            let answer = ask(lie).await;
            let refusal = answer.refusal();
            assert!(
                matches!(
                    refusal,
                    Some(Refusal::Malformed | Refusal::NotFound | Refusal::NotAuthenticated)
                ),
                "{answer:?} to {lie}"
            );
        }
        assert_eq!(
            house.alarms(role, Alarm::LogRollback),
            0,
            "no lie is an alarm"
        );
    }
    let _: Option<Wire> = None;
    house.is_sound();
}
