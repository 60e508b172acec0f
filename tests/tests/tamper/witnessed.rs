//! Witnesses: what waits for them, what does not, and what they notice (TLOG-8, TLOG-10).

use super::*;
use std::fs;
use tests::house::copy_dir;
use tests::wire::{self, Wire};
use tests::witness::{self, Witness};
use ticket_format::Refusal;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::statement::{
    DatasetRecord, DatasetSet, DatasetShow, DenyBody, LogRecover, LogShow, LogState, WitnessMode,
    Witnessing,
};
use ticket_format::tlog::{Checkpoint, Verifier, WitnessPolicy};

/// A house whose dataset requires two of three witnesses.
async fn witnessed_house() -> (House, Vec<Witness>) {
    let mut house = tokio::task::spawn_blocking(House::start)
        .await
        .expect("a house");
    let witnesses: Vec<Witness> = ["w1", "w2", "w3"]
        .iter()
        .map(|name| Witness::start(&house, name))
        .collect();
    for (server, config) in [("broker", "broker.toml"), ("key-server", "key-server.toml")] {
        witness::witnessed_by(&house.path(server).join(config), &witnesses);
    }
    house.broker.restart();
    house.key_server.restart();
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let witnessing = Witnessing {
        mode: WitnessMode::Require,
        policy: witness::policy(2, &witnesses),
    };
    require(&house, &broker, &server, witnessing).await;
    (house, witnesses)
}

/// Sets what the dataset wants of witnesses, at the key server and in its record.
async fn require(house: &House, broker: &Wire, server: &Wire, witnessing: Witnessing) {
    let show = DatasetShow {
        name: DATASET.into(),
    };
    let view = server.act(&house.admins, &show).await.expect("a dataset");
    let change = DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: DATASET.into(),
        max_budget: view.max_budget,
        max_life: view.max_life,
        kems: view.kems,
        lease: view.lease,
        evidence: view.evidence,
        canary: view.canary.expect("a key server says"),
        witnessing: witnessing.clone(),
    };
    server.act(&house.admins, &change).await.expect("set");
    let known = broker.act(&house.admins, &show).await.expect("a dataset");
    let statement = known.record.expect("a record");
    let old = wire::record_of(&statement);
    let record = DatasetRecord {
        follows: old.digest(),
        witnessing,
        ..old
    };
    let statement = wire::record(&house.admins, tests::house::REALM, &record);
    let _ = broker.send(&statement).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_wait_for_witnesses_and_denials_do_not() {
    // rule: TLOG-8
    let (mut house, mut witnesses) = witnessed_house().await;
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let begun = Instant::now();
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    println!("a ticket with two cosignatures after {:?}", begun.elapsed());
    let policy: WitnessPolicy = witness::policy(2, &witnesses).parse().expect("a policy");
    let verifier = Verifier::new(house.log_key("broker"), Some(policy.clone()));
    verifier
        .verify(&ticket.receipt)
        .expect("two of three have cosigned it");
    let presented = server.present_when_leased(&ticket).await;
    let begun = Instant::now();
    let (wrap, _) = server
        .generate(&presented, &named("a"))
        .await
        .expect("a DEK");
    println!("a key with two cosignatures after {:?}", begun.elapsed());

    // One of three may be away.
    witnesses[0].daemon.kill();
    server
        .generate(&presented, &named("b"))
        .await
        .expect("two are enough");
    // Two may not: nothing leaves, and the record says so.
    witnesses[1].daemon.kill();
    let item = named("a");
    let reply = server
        .redeem(&presented, &[(&wrap, &item)])
        .await
        .expect_err("one is too few");
    assert_eq!(reply.refusal(), Some(Refusal::Unwitnessed));
    let withheld =
        |entry: &Entry| entry.kind == Kind::Withheld && entry.outcome == Err(Refusal::Unwitnessed);
    assert!(house.entries("key-server").iter().any(withheld));
    let reply = node
        .issue(&broker, DATASET)
        .await
        .expect_err("one is too few");
    assert_eq!(reply.refusal(), Some(Refusal::Unwitnessed));
    assert!(house.entries("broker").iter().any(withheld));
    eventually("the silence is an alarm", || {
        ["broker", "key-server"]
            .iter()
            .all(|server| house.alarms(server, Alarm::WitnessSilent) >= 2)
    });
    // Denials wait for nobody.
    let begun = Instant::now();
    let deny = DenyBody {
        selector: Selector::ticket(wire::claims(&ticket).common.id),
        reason: "stolen".into(),
    };
    broker.act(&house.admins, &deny).await.expect("denied");
    loop {
        match server.redeem(&presented, &[(&wrap, &item)]).await {
            Err(reply) if reply.refusal() == Some(Refusal::Denied) => break,
            Err(reply) => assert_eq!(reply.refusal(), Some(Refusal::Unwitnessed)),
            Ok(_) => panic!("a key without witnesses"),
        }
        assert!(begun.elapsed() < SOON);
    }
    println!("denied without witnesses after {:?}", begun.elapsed());
    // They come back, and all goes on.
    witnesses[1].daemon.start();
    let ticket = loop {
        match node.issue(&broker, DATASET).await {
            Ok(ticket) => break ticket,
            Err(reply) => assert_eq!(reply.refusal(), Some(Refusal::Unwitnessed)),
        }
        assert!(begun.elapsed() < SOON);
    };
    let presented = server.present_when_leased(&ticket).await;
    server
        .generate(&presented, &named("c"))
        .await
        .expect("a DEK");
    house.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_whose_issue_is_not_witnessed_is_refused_where_witnesses_are_required() {
    // rule: TLOG-8, PRE-5
    let mut house = tokio::task::spawn_blocking(House::start)
        .await
        .expect("a house");
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    // Issued while nothing is required; the key server's owners require it from now on.
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let _ = server.present_when_leased(&ticket).await;
    let witness = Witness::start(&house, "w1");
    let witnessing = Witnessing {
        mode: WitnessMode::Require,
        policy: witness::policy(1, std::slice::from_ref(&witness)),
    };
    require(&house, &broker, &server, witnessing).await;
    let again = house.to_key_server().await;
    let reply = again.present(&ticket).await.expect_err("not cosigned");
    assert_eq!(reply.refusal(), Some(Refusal::Receipt));
    house.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_machine_refuses_to_serve_until_a_quorum_says_where_it_goes_on() {
    // rule: TLOG-10
    for server in ["key-server", "broker"] {
        let (mut house, _witnesses) = witnessed_house().await;
        let node = house.node(0).await;
        let (broker, key_server) = (house.to_broker().await, house.to_key_server().await);
        let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
        let presented = key_server.present_when_leased(&ticket).await;
        key_server
            .generate(&presented, &named("a"))
            .await
            .expect("a DEK");
        drop((broker, key_server));
        let daemon = if server == "broker" {
            &mut house.broker
        } else {
            &mut house.key_server
        };
        daemon.stop();
        copy_dir(&house.path(server).join("data"), &house.path("before"));
        let daemon = if server == "broker" {
            &mut house.broker
        } else {
            &mut house.key_server
        };
        daemon.start();
        let (broker, key_server) = (house.to_broker().await, house.to_key_server().await);
        let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
        let presented = key_server.present_when_leased(&ticket).await;
        key_server
            .generate(&presented, &named("b"))
            .await
            .expect("a DEK");
        drop((broker, key_server));

        // The machine comes back as it was.
        let daemon = if server == "broker" {
            &mut house.broker
        } else {
            &mut house.key_server
        };
        daemon.stop();
        let data = house.path(server).join("data");
        fs::remove_dir_all(&data).expect("removed");
        copy_dir(&house.path("before"), &data);
        let begun = Instant::now();
        let daemon = if server == "broker" {
            &mut house.broker
        } else {
            &mut house.key_server
        };
        daemon.start();
        let wire = if server == "broker" {
            house.to_broker().await
        } else {
            house.to_key_server().await
        };
        let refused = async |wire: &Wire| match server {
            "broker" => node
                .issue(wire, DATASET)
                .await
                .map(drop)
                .expect_err("rolled back")
                .refusal(),
            _ => wire
                .present(&ticket)
                .await
                .map(drop)
                .expect_err("rolled back")
                .refusal(),
        };
        assert_eq!(refused(&wire).await, Some(Refusal::Rollback), "{server}");
        noticed(
            &format!("an old copy of the {server}"),
            "the server itself, by its witnesses",
            begun,
        );
        let view = wire.act(&house.admins, &LogShow {}).await.expect("a view");
        assert_eq!(view.state, LogState::RolledBack, "{}", view.wrong);
        // Also after a restart.
        drop(wire);
        let daemon = if server == "broker" {
            &mut house.broker
        } else {
            &mut house.key_server
        };
        daemon.restart();
        let wire = if server == "broker" {
            house.to_broker().await
        } else {
            house.to_key_server().await
        };
        assert_eq!(refused(&wire).await, Some(Refusal::Rollback), "{server}");
        let ours = Checkpoint::of_note_unverified(&view.checkpoint).expect("a checkpoint");
        let recover = LogRecover {
            shard: ours.shard.to_string(),
            size: ours.size,
            root: ours.root,
        };
        let alone = [house.admins.all()[1]];
        let message = tests::admins::statement_by(&alone, &wire.channel, &recover);
        assert_eq!(wire.send(&message).await.refusal(), Some(Refusal::Quorum));
        let other = LogRecover {
            size: ours.size - 1,
            ..recover.clone()
        };
        let refusal = wire
            .act(&house.admins, &other)
            .await
            .expect_err("another size")
            .refusal();
        assert_eq!(refusal, Some(Refusal::Stale));
        wire.act(&house.admins, &recover).await.expect("recovered");
        let view = wire.act(&house.admins, &LogShow {}).await.expect("a view");
        assert_eq!(view.state, LogState::Good, "{}", view.wrong);
        // What was lost stays on record, in the shard that goes on.
        let entries = house.entries(server);
        let opened = entries
            .iter()
            .find(|entry| entry.kind == Kind::ShardOpened)
            .expect("a new shard");
        // What admins did meanwhile stands before it.
        let end = opened.log.as_ref().expect("where the old shard ended");
        assert!(end.shard == ours.shard && end.size >= ours.size, "{end:?}");
        assert!(
            opened
                .seen
                .as_ref()
                .is_some_and(|seen| seen.size > ours.size || seen.root != ours.root)
        );
        assert!(opened.proof.is_some(), "the statement");
        if server == "key-server" {
            // The witnesses cosign the new shard: keys flow again.
            let broker = house.to_broker().await;
            let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
            let presented = wire.present_when_leased(&ticket).await;
            wire.generate(&presented, &named("c")).await.expect("a DEK");
        }
        house.is_sound();
    }
}
