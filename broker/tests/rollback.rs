//! A log that was rolled back, and what a caller is shown who remembers more of it (TLOG-6, TLOG-10).
#![allow(missing_docs)]

mod support;

use std::time::Duration;

use support::witness::Cosigner;
use support::*;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{CHAIN_START, Selector};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::StatementDigest;
use ticket_format::messages::RefusalNotice;
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::statement::logs::{LogRecover, LogShow, LogState, LogView};
use ticket_format::statement::*;
use ticket_format::tlog::{Checkpoint, SignedCheckpoint, verify_continuation};
use ticket_format::{Refusal, limits};

async fn consistency(world: &World, note: &str) -> Result<ConsistencyAnswer, RefusalNotice> {
    let checkpoint = note.to_owned();
    let body = ConsistencyBody::of(checkpoint).to_cbor();
    let (answer, _) = world.connect().send(Verb::Consistency, &body, &[]).await?;
    Ok(ConsistencyAnswer::from_cbor(&answer, limits::MESSAGE).expect("its shape"))
}

/// The newest checkpoint of an act's receipt.
async fn seen(world: &World) -> SignedCheckpoint {
    let view = world.act(&LogShow {}).await.unwrap();
    world.verifier.checkpoint(&view.checkpoint).unwrap()
}

/// What log-show names, as an admin signs it.
fn recover(world: &World, view: &LogView) -> LogRecover {
    let newest = world.verifier.checkpoint(&view.checkpoint).unwrap();
    let Checkpoint { shard, size, root } = newest.checkpoint();
    LogRecover {
        shard: shard.to_string(),
        size: *size,
        root: *root,
    }
}

#[tokio::test]
async fn who_remembers_a_checkpoint_is_shown_that_the_log_goes_on() {
    // rule: TLOG-6
    let mut world = World::new().await;
    let first = seen(&world).await;
    let same = consistency(&world, first.note()).await.unwrap();
    let newest = verify_continuation(&world.verifier, first.checkpoint(), &same).unwrap();
    assert_eq!(
        newest.checkpoint.checkpoint().size,
        first.checkpoint().size + 1
    );
    world.launch(&SYDNEY, |_| {}).await;
    let answer = consistency(&world, first.note()).await.unwrap();
    verify_continuation(&world.verifier, first.checkpoint(), &answer).unwrap();
    // Over shards.
    world.shard_bytes = 16 * 1024;
    world.restart().await;
    let mut shards = 1;
    while shards < 3 {
        world.act(&StatusShow {}).await.unwrap();
        shards = seen(&world).await.checkpoint().shard.number;
    }
    // The last act may have filled one more.
    let answer = consistency(&world, first.note()).await.unwrap();
    assert!(answer.links.len() >= 2);
    let newest = verify_continuation(&world.verifier, first.checkpoint(), &answer).unwrap();
    assert!(newest.checkpoint.checkpoint().shard.number >= 3);
    // An entry of a closed shard can be shown, and the broker starts over all of them.
    world.restart().await;
    let shown = world.act(&EntryShow { index: 0 }).await.unwrap();
    let logged = world.verify(&shown.receipt);
    assert_eq!(logged.checkpoint.checkpoint().shard.number, 1);
    assert_eq!(logged.entry.kind, Kind::Start);
    let kinds: Vec<_> = world
        .entries()
        .into_iter()
        .map(|entry| entry.kind)
        .collect();
    let count = |kind| kinds.iter().filter(|other| **other == kind).count();
    assert!(count(Kind::ShardClosed) >= 2 && count(Kind::ShardOpened) >= 2);
}

#[tokio::test]
async fn a_checkpoint_that_is_none_of_this_log_is_not_found() {
    // rule: TLOG-6, REF-2
    let world = World::new().await;
    let known = seen(&world).await;
    let other = log_secret(Role::Broker, &world.tls.public(), &[seed(), seed()]);
    let foreign = log_secret(Role::KeyServer, &world.tls.public(), &[seed(), seed()]);
    let mut far = known.checkpoint().clone();
    far.size += 1_000;
    let mut forked = known.checkpoint().clone();
    forked.root[0] ^= 1;
    let mut elsewhere = known.checkpoint().clone();
    elsewhere.shard = foreign.key().origin.shard(1);
    let notes = [
        // Ahead, and of another tree: but not signed by this log's keys.
        other.sign(&far, world.now()),
        other.sign(&forked, world.now()),
        foreign.sign(&elsewhere, world.now()),
    ];
    for note in &notes {
        let refused = consistency(&world, note.note()).await.unwrap_err();
        assert_eq!((refused.refusal, refused.detail), (Refusal::NotFound, None));
    }
    let refused = consistency(&world, "no note").await.unwrap_err();
    assert_eq!(refused.refusal, Refusal::Malformed);
    let body = ConsistencyBody::of(known.note().to_owned());
    let proof = ticket_format::sign::Proof {
        alg: -8,
        value: vec![0; 64],
    };
    let proven = Request::encode_parts(Verb::Consistency, &body.to_cbor(), &[proof]);
    let Answer::Refused(refused) = world.connect().raw(&proven).await else {
        panic!("a proof where there is none")
    };
    assert_eq!(refused.refusal, Refusal::Malformed);
    assert_eq!(world.alarms(), []);
}

#[tokio::test]
async fn a_checkpoint_that_this_log_signed_and_does_not_hold_is_alarmed_once_a_minute() {
    // rule: TLOG-6
    let world = World::new().await;
    let known = seen(&world).await;
    let mut ahead = known.checkpoint().clone();
    ahead.size += 1_000;
    let mut forked = known.checkpoint().clone();
    forked.root[0] ^= 1;
    for shown in [&ahead, &forked] {
        let note = world.log_secret().sign(shown, world.now());
        let refused = consistency(&world, note.note()).await.unwrap_err();
        assert_eq!((refused.refusal, refused.detail), (Refusal::Rollback, None));
    }
    assert_eq!(world.alarms(), [Alarm::LogRollback], "once");
    let alarm = world.entries().pop().unwrap();
    assert_eq!(alarm.seen, Some(ahead));
    let ours = alarm.log.unwrap();
    assert!(ours.shard == known.checkpoint().shard && ours.size >= known.checkpoint().size);
    assert_eq!(alarm.source.as_deref(), Some("192.0.2.7"));
    world.clock.advance(61);
    let note = world.log_secret().sign(&forked, world.now());
    consistency(&world, note.note()).await.unwrap_err();
    assert_eq!(world.alarms(), [Alarm::LogRollback, Alarm::LogRollback]);
    // It is served all the same: a caller's word stops nothing.
    world.launch(&SYDNEY, |_| {}).await;
}

#[tokio::test]
async fn who_asks_for_consistency_too_often_is_told_to_wait() {
    // rule: TR-5
    let limits = broker::Limits {
        login_burst: 3.try_into().unwrap(),
        logins_per_second: 1.try_into().unwrap(),
        ..broker::Limits::default()
    };
    let world = World::with(limits).await;
    let note = seen(&world).await;
    for _ in 0..3 {
        consistency(&world, note.note()).await.unwrap();
    }
    let refused = consistency(&world, note.note()).await;
    assert_eq!(refusal(refused), Refusal::Busy);
}

/// A world whose witness has seen acts that the restored files lack.
struct Restored {
    world: World,
    witness: Cosigner,
    launch: Launch,
    lost: SignedCheckpoint,
}

async fn restored(witness_is_up: bool) -> Restored {
    let mut world = World::new().await;
    let state = world.path("witness");
    let witness = Cosigner::start(&state, world.verifier.key()).await;
    world.witnesses = vec![witness.endpoint()];
    world.restart().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    world.stop().await;
    world.back_up();
    world.start(broker::Limits::default()).await.unwrap();
    world.deny(Selector::node(SEOUL.node())).await;
    // A start compares, and so shows all that there is.
    world.restart().await;
    let lost = seen(&world).await;
    world.stop().await;
    world.restore();
    if !witness_is_up {
        witness.down();
    }
    world.start(broker::Limits::default()).await.unwrap();
    Restored {
        world,
        witness,
        launch,
        lost,
    }
}

#[tokio::test]
async fn a_log_that_was_rolled_back_serves_nothing_until_a_quorum_says_where_it_goes_on() {
    // rule: TLOG-10
    let Restored {
        mut world,
        witness,
        launch,
        lost,
    } = restored(true).await;
    let starts = |world: &World| {
        let entries = world.entries().into_iter();
        entries.filter(|entry| entry.kind == Kind::Start).count()
    };
    for pass in 0..2 {
        // Two of them stand in the copy; that it starts now is not recorded.
        assert_eq!(starts(&world), 2);
        let before = world.entries().len();
        let mut node = Node::boot(&SYDNEY);
        assert_eq!(
            refusal(node.login(&world, &launch).await),
            Refusal::Rollback
        );
        let fed = feed(&world, &world.server, 0, CHAIN_START, 0).await;
        assert_eq!(refusal(fed), Refusal::Rollback);
        let held = consistency(&world, lost.note()).await;
        assert_eq!(refusal(held), Refusal::Rollback);
        for act in [
            world.act(&LaunchShow { launch: launch.id }).await.err(),
            world
                .act(&DenyBody {
                    selector: Selector::node(SEOUL.node()),
                    reason: "lost".to_owned(),
                })
                .await
                .err(),
        ] {
            assert_eq!(act.unwrap().refusal, Refusal::Rollback);
        }
        let stranger = ticket_format::keys::AdminSecret::generate(&mut rng());
        let unknown = world.act_by(&StatusShow {}, &[&stranger]).await;
        assert_eq!(refusal(unknown), Refusal::StatementSignature);
        world.broker().sweep().await;
        world.broker().tick().await.unwrap();
        // Nothing of all this was appended: it would be another history of the shard.
        assert_eq!(world.entries().len(), before);
        assert_eq!(
            world.broker().healthy().await.unwrap_err().refusal,
            Refusal::Rollback
        );
        let text = world.broker().metrics().render();
        assert!(text.contains("postern_alarms_total{alarm=\"log-rollback\"} 1"));
        world.act(&StatusShow {}).await.unwrap();
        let view = world.act(&LogShow {}).await.unwrap();
        assert_eq!(view.state, LogState::RolledBack);
        assert!(view.wrong.starts_with("one "), "{}", view.wrong);
        // Also after a restart, whether the witness answers or not.
        if pass == 0 {
            witness.down();
            world.restart().await;
        }
    }
    witness.up();
    assert_eq!(world.alarms(), []);

    // Who says it, and where it goes on.
    let view = world.act(&LogShow {}).await.unwrap();
    let body = recover(&world, &view);
    let [one, two] = &world.admins.managers;
    let before = world.entries().len();
    assert_eq!(refusal(world.act_by(&body, &[one]).await), Refusal::Quorum);
    let (mut other, mut far, mut shard) = (body.clone(), body.clone(), body.clone());
    other.root[0] ^= 1;
    far.size = lost.checkpoint().size + 100;
    shard.shard = shard.shard.replace("/1", "/2");
    for wrong in [other, far, shard] {
        assert_eq!(refusal(world.act(&wrong).await), Refusal::Stale);
    }
    let nonsense = LogRecover {
        shard: "nonsense".to_owned(),
        ..body.clone()
    };
    assert_eq!(refusal(world.act(&nonsense).await), Refusal::Invalid);
    assert_eq!(world.entries().len(), before, "no refusal is appended");
    let statement = world.payload(&body).sign(&[one, two]).unwrap();
    world
        .send_statement::<LogRecover>(&statement)
        .await
        .unwrap();

    // The next shard says why, and what was lost; the alarm stands in it, and a start.
    let entries = world.entries();
    let at = entries
        .iter()
        .position(|entry| entry.kind == Kind::ShardOpened);
    let (opened, after) = entries[at.unwrap()..].split_first().unwrap();
    assert_eq!(opened.proof, Some(StatementDigest::of(&statement).0));
    assert_eq!(opened.seen.as_ref().unwrap().shard, lost.checkpoint().shard);
    assert!(opened.seen.as_ref().unwrap().size + 1 >= lost.checkpoint().size);
    assert_eq!(opened.log.as_ref().unwrap().shard, lost.checkpoint().shard);
    assert_eq!(starts(&world), 3);
    let kinds: Vec<_> = after.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds[0], Kind::Alarm);
    assert_eq!(after[0].alarm, Some(Alarm::LogRollback));
    assert!(kinds.contains(&Kind::Start) && kinds.contains(&Kind::Statement));
    Node::boot(&SYDNEY).login(&world, &launch).await.unwrap();
    // Once: nothing is left to recover, and a restart starts as ever.
    let again = world.act(&LogShow {}).await.unwrap();
    assert_eq!(again.state, LogState::Good);
    let again = recover(&world, &again);
    assert_eq!(refusal(world.act(&again).await), Refusal::Stale);
    world.restart().await;
    assert_eq!(seen(&world).await.checkpoint().shard.number, 2);
    world.launch(&SEOUL, |_| {}).await;
    // Who remembers what was lost is not told that all is well.
    let lost = consistency(&world, lost.note()).await;
    assert_eq!(refusal(lost), Refusal::Rollback);
}

#[tokio::test]
async fn a_witness_that_comes_late_stops_what_was_rolled_back() {
    // rule: TLOG-10
    let Restored {
        world,
        witness,
        launch,
        ..
    } = restored(false).await;
    // Nobody could tell: it serves.
    Node::boot(&SYDNEY).login(&world, &launch).await.unwrap();
    witness.up();
    let stopped = async {
        while world.broker().healthy().await.is_ok() {
            world.broker().witnesses_told().await;
            world.broker().look_at_witnesses().await;
        }
    };
    let within = Duration::from_secs(60);
    tokio::time::timeout(within, stopped).await.unwrap();
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &launch).await),
        Refusal::Rollback
    );
    assert!(world.has("log/rolled-back").await);
    let view = world.act(&LogShow {}).await.unwrap();
    world.act(&recover(&world, &view)).await.unwrap();
    assert!(!world.has("log/rolled-back").await && !world.has("log/recovery").await);
    world.launch(&SEOUL, |_| {}).await;
    assert_eq!(
        world.alarms(),
        [Alarm::StoreRollback, Alarm::LogRollback][1..]
    );
}

#[tokio::test]
async fn a_claim_without_proof_stops_as_long_as_it_is_made() {
    // rule: TLOG-10
    let mut world = World::new().await;
    let state = world.path("witness");
    let witness = Cosigner::start(&state, world.verifier.key()).await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    world.witnesses = vec![witness.endpoint()];
    witness.claim(1_000_000);
    world.restart().await;
    let before = world.entries().len();
    let mut node = Node::boot(&SYDNEY);
    assert_eq!(
        refusal(node.login(&world, &launch).await),
        Refusal::Rollback
    );
    assert_eq!(world.entries().len(), before);
    assert!(!world.has("log/rolled-back").await, "nobody has proven it");
    witness.up();
    let served = async {
        while world.broker().healthy().await.is_err() {
            world.broker().witnesses_told().await;
            world.broker().look_at_witnesses().await;
        }
    };
    let within = Duration::from_secs(60);
    tokio::time::timeout(within, served).await.unwrap();
    node.login(&world, &launch).await.unwrap();
    // What was told is recorded, and that it serves.
    let entries: Vec<Entry> = world.entries().split_off(before);
    assert_eq!(world.alarms(), [Alarm::LogRollback]);
    assert!(entries.iter().any(|entry| entry.kind == Kind::Start));
}

#[tokio::test]
async fn a_recovery_that_a_crash_interrupted_is_finished_at_the_next_start() {
    // rule: TLOG-10, AUD-2
    let Restored { mut world, .. } = restored(true).await;
    let view = world.act(&LogShow {}).await.unwrap();
    let body = recover(&world, &view);
    world.close_log().await;
    assert_eq!(refusal(world.act(&body).await), Refusal::AuditUnavailable);
    assert!(world.has("log/recovery").await);
    // It is decided: no second statement says otherwise before it is done.
    assert_eq!(refusal(world.act(&body).await), Refusal::Stale);
    world.restart().await;
    assert!(!world.has("log/recovery").await);
    assert_eq!(seen(&world).await.checkpoint().shard.number, 2);
    let entries = world.entries();
    let opened = entries
        .iter()
        .filter(|entry| entry.kind == Kind::ShardOpened);
    assert_eq!(opened.count(), 1);
    world.launch(&SEOUL, |_| {}).await;
}

#[tokio::test]
async fn an_empty_directory_in_the_place_of_a_log_that_was_seen_serves_nothing() {
    // rule: TLOG-10
    let Restored {
        mut world,
        lost,
        witness,
        ..
    } = restored(true).await;
    world.stop().await;
    world.remove();
    world.start(broker::Limits::default()).await.unwrap();
    let mut node = Node::boot(&SYDNEY);
    let unknown = Launch {
        id: ticket_format::ids::LaunchId([1; 16]),
        secret: ticket_format::keys::LaunchSecret::generate(&mut rng()),
        digest: StatementDigest([1; 32]),
    };
    assert_eq!(
        refusal(node.login(&world, &unknown).await),
        Refusal::Rollback
    );
    assert!(world.entries().is_empty());
    let view = world.act(&LogShow {}).await.unwrap();
    assert_eq!(view.state, LogState::RolledBack);
    world.act(&recover(&world, &view)).await.unwrap();
    let mut entries = world.entries().into_iter().rev();
    let opened = entries.find(|entry| entry.kind == Kind::ShardOpened);
    let opened = opened.unwrap();
    assert_eq!(opened.seen.unwrap().shard, lost.checkpoint().shard);
    world.launch(&SYDNEY, |_| {}).await;
    drop(witness);
}
