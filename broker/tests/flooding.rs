//! Who cannot fill the audit log, and who is told to wait.
#![allow(missing_docs)]

mod support;

use support::*;
use ticket_format::Refusal;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::StatementId;
use ticket_format::keys::TlsSecret;
use ticket_format::messages::issue::IssueBody;
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::*;

fn payload<B: ActBody>(world: &World, body: &B) -> Payload {
    let id = StatementId::random(&mut rng());
    Payload::act(id, REALM, world.tls.public(), world.now(), 3_600, body)
}

struct Ready {
    world: World,
    node: Node,
    held: Held,
}

async fn ready() -> Ready {
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    Ready { world, node, held }
}

#[tokio::test]
async fn who_replays_a_public_record_does_not_fill_the_log() {
    // rule: AUD-1
    let world = World::new().await;
    let record = world.dataset_record();
    let payload = Payload::record(StatementId::random(&mut rng()), REALM, world.now(), &record);
    // Every node is handed these bytes with each dataset ticket.
    let bytes = payload.sign(&world.admins.of(payload.act)).unwrap();
    world
        .send_statement::<ticket_format::statement::DatasetRecord>(&bytes)
        .await
        .unwrap();
    let before = world.entries().len();
    for _ in 0..50 {
        let again = world
            .send_statement::<ticket_format::statement::DatasetRecord>(&bytes)
            .await;
        assert_eq!(refusal(again), Refusal::StatementReplayed);
    }
    let grown = world.entries().len() - before;
    assert!(grown <= 4, "{grown} entries for 50 replays by a stranger");
}

#[tokio::test]
async fn who_sends_what_an_admin_signed_for_others_is_a_stranger() {
    // rule: ADM-2, AUD-1, REF-2
    let world = World::new().await;
    let status = StatusShow {};
    let used = payload(&world, &status)
        .sign(&[&world.admins.operator])
        .unwrap();
    world.send_statement::<StatusShow>(&used).await.unwrap();
    let late = payload(&world, &status);
    let elsewhere = Payload {
        realm: "elsewhere".to_owned(),
        ..late.clone()
    };
    let server = TlsSecret::generate(&mut rng()).public();
    let id = StatementId::random(&mut rng());
    let other = Payload::act(id, REALM, server, world.now(), 7_200, &status);
    let create = DatasetPolicySet {
        replaces: policy_digest(""),
        name: "faces".to_owned(),
        text: String::new(),
    };
    let act = payload(&world, &create);
    let before = world.entries().len();
    let send = async |statement: &[u8], expected: Refusal| {
        let sent = world.send_statement::<StatusShow>(statement).await;
        let notice = sent.unwrap_err();
        assert_eq!((notice.refusal, notice.detail), (expected, None));
    };
    for (payload, expected) in [
        (&elsewhere, Refusal::StatementAudience),
        (&other, Refusal::StatementAudience),
        (&act, Refusal::StatementMalformed),
    ] {
        let by = world.admins.of(payload.act);
        send(&payload.sign(&by).unwrap(), expected).await;
    }
    send(&used, Refusal::StatementReplayed).await;
    world.clock.advance(3_600);
    send(
        &late.sign(&[&world.admins.operator]).unwrap(),
        Refusal::StatementExpired,
    )
    .await;
    let alarm = &world.entries()[before..];
    assert_eq!(alarm.len(), 1, "the replay's alarm and nothing else");
    assert_eq!(alarm[0].alarm, Some(Alarm::StatementReplayed));
    world.broker().tick().await.unwrap();
    let counted = &world.entries()[before + 1..];
    assert_eq!(counted.len(), 1);
    assert_eq!(counted[0].kind, Kind::RefusalsCounted);
    assert_eq!(counted[0].count, Some(5));
}

#[tokio::test]
async fn a_replay_raises_one_alarm_a_minute() {
    // rule: ADM-2
    let world = World::new().await;
    let statement = payload(&world, &StatusShow {});
    let statement = statement.sign(&[&world.admins.operator]).unwrap();
    let replay = async || world.send_statement::<StatusShow>(&statement).await;
    replay().await.unwrap();
    for minute in 1..=2 {
        for _ in 0..3 {
            assert_eq!(refusal(replay().await), Refusal::StatementReplayed);
        }
        assert_eq!(world.alarms(), vec![Alarm::StatementReplayed; minute]);
        world.broker().tick().await.unwrap();
    }
}

#[tokio::test]
async fn a_source_that_sends_too_many_statements_is_told_to_wait() {
    let limits = broker::Limits {
        statements_per_second: 1.try_into().unwrap(),
        statement_burst: 2.try_into().unwrap(),
        ..broker::Limits::default()
    };
    let world = World::with(limits).await;
    for _ in 0..2 {
        world.act(&StatusShow {}).await.unwrap();
    }
    assert_eq!(refusal(world.act(&StatusShow {}).await), Refusal::Busy);
}

#[tokio::test]
async fn a_known_caller_that_is_refused_again_and_again_does_not_fill_the_log() {
    // rule: AUD-1
    let Ready { world, node, held } = ready().await;
    let ask = async |dataset: &str| {
        let asked = |body: &mut IssueBody| body.dataset = dataset.to_owned();
        refusal(node.issue(&world, &held, asked).await)
    };
    let kem = async || {
        let other = |body: &mut IssueBody| body.life = 0;
        refusal(node.issue(&world, &held, other).await)
    };
    for minute in 0..2 {
        let before = world.entries().len();
        for _ in 0..30 {
            assert_eq!(ask("none").await, Refusal::DatasetUnknown);
        }
        assert_eq!(kem().await, Refusal::Invalid);
        let listed = world.entries()[before..].to_vec();
        let numbers: Vec<_> = listed.iter().map(|entry| entry.outcome).collect();
        assert_eq!(
            numbers,
            [Err(Refusal::DatasetUnknown), Err(Refusal::Invalid)],
            "minute {minute}"
        );
        world.broker().tick().await.unwrap();
        let counted = &world.entries()[before + 2..];
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].kind, Kind::RefusalsCounted);
        assert_eq!(counted[0].outcome, Err(Refusal::DatasetUnknown));
        assert_eq!(counted[0].count, Some(29));
        assert_eq!(counted[0].subject, Some(node.name.to_string()));
    }
}

#[tokio::test]
async fn a_node_that_asks_too_often_is_told_to_wait() {
    let limits = broker::Limits {
        issues_per_second: 1.try_into().unwrap(),
        issue_burst: 2.try_into().unwrap(),
        ..broker::Limits::default()
    };
    let world = World::with(limits).await;
    world.dataset().await;
    let launches = [
        world.launch(&SYDNEY, |_| {}).await,
        world.launch(&SEOUL, |_| {}).await,
    ];
    for (instance, launch) in [&SYDNEY, &SEOUL].into_iter().zip(&launches) {
        let mut node = Node::boot(instance);
        let held = node.login(&world, launch).await.unwrap();
        for _ in 0..2 {
            node.issue(&world, &held, |_| {}).await.unwrap();
        }
        let third = node.issue(&world, &held, |_| {}).await;
        assert_eq!(refusal(third), Refusal::Busy);
    }
}

#[tokio::test]
async fn a_dataset_that_is_asked_for_too_often_keeps_nobody_from_the_others() {
    // rule: TR-9
    let limits = broker::Limits {
        dataset_issues_per_second: 1.try_into().unwrap(),
        dataset_issue_burst: 2.try_into().unwrap(),
        ..broker::Limits::default()
    };
    let world = World::with(limits).await;
    world.dataset().await;
    let launches = [
        world.launch(&SYDNEY, |_| {}).await,
        world.launch(&SEOUL, |_| {}).await,
    ];
    let mut nodes = Vec::new();
    for (instance, launch) in [&SYDNEY, &SEOUL].into_iter().zip(&launches) {
        let mut node = Node::boot(instance);
        let held = node.login(&world, launch).await.unwrap();
        nodes.push((node, held));
    }
    for (node, held) in &nodes {
        node.issue(&world, held, |_| {}).await.unwrap();
    }
    for (node, held) in &nodes {
        let third = node.issue(&world, held, |_| {}).await;
        assert_eq!(refusal(third), Refusal::Busy);
    }
    let entries = world.entries();
    let listed = entries.last().unwrap();
    assert_eq!(
        (listed.kind, listed.outcome),
        (Kind::Issue, Err(Refusal::Busy))
    );
    assert!(listed.subject.is_some(), "who asked is known");
}

#[tokio::test]
async fn new_logins_are_shed_and_renewals_issues_and_statements_are_not() {
    // rule: TR-9
    let limits = broker::Limits {
        logins_per_second: 1.try_into().unwrap(),
        login_burst: 1.try_into().unwrap(),
        ..broker::Limits::default()
    };
    let world = World::with(limits).await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let other = world.launch(&SEOUL, |_| {}).await;
    let shed = Node::boot(&SEOUL).login(&world, &other).await;
    assert_eq!(refusal(shed), Refusal::Busy);
    world.act(&StatusShow {}).await.unwrap();
    node.issue(&world, &held, |_| {}).await.unwrap();
    node.renew(&world).await.unwrap();
}
