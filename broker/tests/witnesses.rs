//! Issue waits for the witnesses that the dataset requires, and for nobody else (TLOG-8).
#![allow(missing_docs)]

mod support;

use std::time::Duration;

use support::witness::Cosigner;
use support::*;
use ticket_format::Refusal;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::statement::logs::{LogShow, LogState, WitnessState};
use ticket_format::statement::witnessing::{WitnessMode, Witnessing};
use ticket_format::statement::*;
use ticket_format::tlog::Verifier;

/// A broker with a witness, a dataset that wants it so, and a node that is logged in.
struct Ready {
    world: World,
    witness: Cosigner,
    node: Node,
    held: Held,
}

async fn ready(mode: WitnessMode, configured: bool) -> Ready {
    let mut world = World::new().await;
    let state = world.path("witness");
    let witness = Cosigner::start(&state, world.verifier.key()).await;
    if configured {
        world.witnesses = vec![witness.endpoint()];
        world.restart().await;
    }
    let mut record = world.dataset_record();
    record.witnessing = witness.witnessing(mode);
    world.record(&record).await.unwrap();
    let text = r#"@id("all") permit (principal, action == Postern::Action::"decrypt", resource);"#;
    world.set_policy(text).await.unwrap();
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    Ready {
        world,
        witness,
        node,
        held,
    }
}

fn kinds(world: &World, kind: Kind) -> Vec<ticket_format::entry::Entry> {
    let mut entries = world.entries();
    entries.retain(|entry| entry.kind == kind);
    entries
}

#[tokio::test]
async fn a_ticket_that_nobody_witnessed_does_not_leave() {
    // rule: TLOG-8
    for configured in [false, true] {
        let Ready {
            world,
            witness,
            node,
            held,
        } = ready(WitnessMode::Require, configured).await;
        witness.down();
        let all = |body: &mut ticket_format::messages::issue::IssueBody| body.budget = 1_000;
        let answer = node.issue(&world, &held, all).await;
        assert_eq!(refusal(answer), Refusal::Unwitnessed);
        let issued = kinds(&world, Kind::Issue).pop().unwrap();
        let withheld = kinds(&world, Kind::Withheld).pop().unwrap();
        assert_eq!(withheld.follows, Some(issued.act));
        assert_eq!(withheld.outcome, Err(Refusal::Unwitnessed));
        // It has cost no budget: as often as it is asked.
        witness.up();
        if configured {
            for _ in 0..24 {
                let answer = node.issue(&world, &held, all).await.unwrap();
                let claims = dataset_claims(&world, &answer.ticket);
                assert_eq!(claims.budget, 1_000);
            }
        }
    }
}

#[tokio::test]
async fn a_ticket_that_was_witnessed_brings_the_cosignatures() {
    // rule: TLOG-8, TLOG-5
    let Ready {
        world,
        witness,
        node,
        held,
    } = ready(WitnessMode::Require, true).await;
    let answer = node.issue(&world, &held, |_| {}).await.unwrap();
    let verifier = Verifier::new(world.verifier.key().clone(), Some(witness.policy()));
    let logged = verifier.verify(&answer.receipt).unwrap();
    assert_eq!(logged.entry.kind, Kind::Issue);
    // That of a login has none: it was not waited for.
    assert!(verifier.verify(&held.answer.receipt).is_err());
    world.broker().look_at_witnesses().await;
    let view = world.act(&LogShow {}).await.unwrap();
    assert_eq!((view.state, view.wrong.as_str()), (LogState::Good, ""));
    assert_eq!(view.key, *world.verifier.key());
    world.verifier.checkpoint(&view.checkpoint).unwrap();
    let [row] = view.witnesses.as_slice() else {
        panic!("{view:?}")
    };
    assert_eq!((row.name.as_str(), row.state), ("one", WitnessState::Good));
    assert!(row.size.is_some() && row.ago_ms.is_some());
}

#[tokio::test]
async fn nothing_but_issue_waits_and_no_ticket_of_a_dataset_that_only_watches() {
    // rule: TLOG-8
    let Ready {
        world,
        witness,
        mut node,
        held,
    } = ready(WitnessMode::Watch, true).await;
    witness.down();
    // None of these would be answered at all.
    node.issue(&world, &held, |_| {}).await.unwrap();
    let mut record = world.dataset_record();
    record.name = "voices".to_owned();
    record.witnessing = witness.witnessing(WitnessMode::Require);
    world.record(&record).await.unwrap();
    let held = node.renew(&world).await.unwrap();
    world.deny(Selector::node(SYDNEY.node())).await;
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Denied
    );
}

#[tokio::test]
async fn a_denial_that_comes_while_the_witnesses_are_waited_for_counts() {
    // rule: ISS-1, TLOG-8
    let Ready {
        world,
        witness,
        node,
        held,
    } = ready(WitnessMode::Require, true).await;
    witness.down();
    let denied = async {
        while kinds(&world, Kind::Issue).is_empty() {
            tokio::task::yield_now().await;
        }
        world.deny(Selector::node(SYDNEY.node())).await;
        witness.up();
    };
    let (answer, ()) = tokio::join!(node.issue(&world, &held, |_| {}), denied);
    assert_eq!(refusal(answer), Refusal::Denied);
    let withheld = kinds(&world, Kind::Withheld).pop().unwrap();
    assert_eq!(withheld.outcome, Err(Refusal::Denied));
}

#[tokio::test]
async fn a_witness_that_falls_silent_is_alarmed() {
    // rule: TLOG-8
    let Ready { world, witness, .. } = ready(WitnessMode::Watch, true).await;
    witness.down();
    let launch = world.launch(&SEOUL, |_| {}).await;
    drop(launch);
    let alarmed = async {
        while !world.alarms().contains(&Alarm::WitnessSilent) {
            world.broker().witnesses_told().await;
            world.broker().look_at_witnesses().await;
        }
    };
    let within = Duration::from_secs(60);
    tokio::time::timeout(within, alarmed).await.unwrap();
    let alarm = kinds(&world, Kind::Alarm).pop().unwrap();
    assert_eq!(alarm.subject.as_deref(), Some("one"));
    // It holds up nothing.
    world.act(&StatusShow {}).await.unwrap();
    let text = {
        world.broker().sweep().await;
        world.broker().tick().await.unwrap();
        world.broker().metrics().render()
    };
    for line in [
        "postern_audit_witnesses{state=\"silent\"} 1",
        "postern_alarms_total{alarm=\"witness-silent\"} 1",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_record_whose_witnessing_or_log_does_not_hold_is_refused() {
    // rule: TLOG-8, SIG-4, SIG-5
    let world = World::new().await;
    let state = world.path("witness");
    let witness = Cosigner::start(&state, world.verifier.key()).await;
    let good = world.dataset_record();
    let policy = witness.witnessing(WitnessMode::Watch).policy;
    for (mode, policy) in [
        (WitnessMode::None, policy.as_str()),
        (WitnessMode::Watch, ""),
        (WitnessMode::Require, "quorum none\n"),
        (WitnessMode::Require, "witness a nonsense\nquorum a\n"),
    ] {
        let mut record = good.clone();
        record.witnessing = Witnessing {
            mode,
            policy: policy.to_owned(),
        };
        assert_eq!(refusal(world.record(&record).await), Refusal::Invalid);
    }
    // The keys of the broker's own log, of one key in two roles, and of another server's log.
    let key = |tls: &ticket_format::keys::TlsKey, seeds: &[[u8; 32]; 2]| {
        let secret = log_secret(Role::KeyServer, tls, seeds);
        secret.key().clone()
    };
    let (own, mut taken) = (world.verifier.key(), good.clone());
    taken.log_key = ticket_format::tlog::LogKey::new(
        good.log_key.origin.clone(),
        *own.ed25519(),
        *good.log_key.ml_dsa(),
    )
    .unwrap();
    assert_eq!(refusal(world.record(&taken).await), Refusal::KeyReused);
    taken.log_key = ticket_format::tlog::LogKey::new(
        good.log_key.origin.clone(),
        *good.log_key.ed25519(),
        *own.ml_dsa(),
    )
    .unwrap();
    assert_eq!(refusal(world.record(&taken).await), Refusal::KeyReused);
    taken.log_key = key(&good.tls_key, &[*world.server_tls.seed(), seed()]);
    assert_eq!(refusal(world.record(&taken).await), Refusal::KeyReused);
    taken.log_key = key(&world.tls.public(), &[seed(), seed()]);
    assert_eq!(refusal(world.record(&taken).await), Refusal::Invalid);
    // A log key that stands in a record is nobody's node key.
    world.record(&good).await.unwrap();
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let held = Node::boot(&SYDNEY).login(&world, &launch).await;
    assert!(held.is_ok());
    let view = world.act(&DatasetShow { name: good.name }).await.unwrap();
    assert_eq!(
        (view.log_key, view.witnessing),
        (good.log_key, good.witnessing)
    );
}
