//! Canaries, bursts and hooks: EXP-2 to EXP-4.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use key_server::habit::BurstLimits;
use ticket_format::Refusal;
use ticket_format::denial::{Members, Selector};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::DekId;
use ticket_format::statement::{Canary, CanarySet, DatasetSet, ExposureShow};
use ticket_format::time::Timestamp;
use ticket_format::wrapped::Wrapped;

use crate::rig::{Rig, World, named, refusal, rig, wanted};

fn alarms(rig: &Rig) -> Vec<Entry> {
    let entries = rig.entries().into_iter();
    entries.filter(|entry| entry.kind == Kind::Alarm).collect()
}

fn dek(wrap: &[u8]) -> DekId {
    Wrapped::parse(wrap).unwrap().header().dek
}

async fn mark(rig: &Rig, dek: DekId, canary: Canary) {
    let set = CanarySet {
        name: "faces".into(),
        dek,
        canary,
    };
    rig.administer(&set).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_alarms_is_redeemed_like_any_other_and_told_of() {
    // rule: EXP-2
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 2).await;
    mark(&rig, dek(&made[1].0), Canary::Alarm).await;
    let (other, canary) = (
        (made[0].0.as_slice(), &context),
        (made[1].0.as_slice(), &context),
    );
    assert_eq!(rig.redeem(&opened, &[other]).await.unwrap().deks.len(), 32);
    assert!(alarms(&rig).is_empty());
    let got = rig.redeem(&opened, &[other, canary]).await.unwrap();
    assert_eq!(got.deks.len(), 64);
    let raised = alarms(&rig);
    let [alarm] = raised.as_slice() else {
        panic!("{} alarms", raised.len())
    };
    assert_eq!(
        (alarm.alarm, alarm.follows),
        (Some(Alarm::Canary), Some(got.entry.act))
    );
    assert_eq!(alarm.subject, Some(job.claims.common.node().to_string()));
    assert_eq!(
        (alarm.dataset, alarm.ticket),
        (Some(rig.dataset().dataset), Some(job.claims.common.id))
    );
    assert_eq!(rig.service.metrics.alarms(Alarm::Canary), 1);
    let [report] = rig.service.ask().reports.try_into().unwrap();
    assert_eq!(
        (report.act, report.alarm, report.deny),
        (alarm.act, Alarm::Canary, false)
    );
    // A rewrap brings it out too; within the minute one line is enough.
    rig.rewrap(&opened, &[(canary.0, canary.1, None)])
        .await
        .unwrap();
    assert_eq!(alarms(&rig).len(), 1);
    rig.service.each_minute().await;
    rig.rewrap(&opened, &[(canary.0, canary.1, None)])
        .await
        .unwrap();
    assert_eq!(alarms(&rig).len(), 2);
    // After a restart it is one still, until the mark is taken away.
    let rig = rig.restart().await;
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    rig.redeem(&opened, &[canary]).await.unwrap();
    assert_eq!(alarms(&rig).len(), 3);
    mark(&rig, dek(&made[1].0), Canary::No).await;
    rig.service.each_minute().await;
    rig.redeem(&opened, &[canary]).await.unwrap();
    assert_eq!(alarms(&rig).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_denies_releases_nothing() {
    // rule: EXP-2, RED-2
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 2).await;
    mark(&rig, dek(&made[1].0), Canary::Deny).await;
    let (other, canary) = (
        (made[0].0.as_slice(), &context),
        (made[1].0.as_slice(), &context),
    );
    let refused = rig.redeem(&opened, &[other, canary]).await;
    assert_eq!(refusal(refused.map(drop)), Refusal::Denied);
    let entries = rig.entries();
    let [.., batch, alarm, withheld] = entries.as_slice() else {
        panic!()
    };
    assert_eq!(
        (batch.kind, alarm.alarm),
        (Kind::Redeem, Some(Alarm::Canary))
    );
    assert_eq!(
        (withheld.kind, withheld.follows),
        (Kind::Withheld, Some(batch.act))
    );
    // It is in nobody's exposure but as withheld.
    let node = job.claims.common.node().clone();
    let page = rig
        .administer(&ExposureShow {
            selector: Selector::new(Members {
                node: Some(node),
                ..Members::default()
            })
            .unwrap(),
            since: Timestamp::default(),
            from: 0,
            rows: 500,
        })
        .await
        .unwrap();
    assert!(page.rows.iter().all(|row| row.kind == Kind::Generate));
    assert_eq!(page.withheld, [batch.act]);
    // The node gets no further, here and after a restart; and the broker is to deny it.
    assert_eq!(
        refusal(rig.redeem(&opened, &[other]).await.map(drop)),
        Refusal::Denied
    );
    let rig = rig.restart().await;
    let refused = rig.present(&rig.connect(1), &job).await;
    assert_eq!(refusal(refused.map(drop)), Refusal::Denied);
    let reports = rig.service.ask().reports;
    assert!(
        reports
            .iter()
            .any(|report| report.deny && report.alarm == Alarm::Canary)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_can_be_a_canary_whole_but_who_makes_keys_in_it_is_none() {
    // rule: EXP-2
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let usual = wanted("faces");
    let set = DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: usual.name,
        max_budget: usual.max_budget,
        max_life: usual.max_life,
        kems: usual.kems,
        lease: usual.lease,
        evidence: usual.evidence,
        canary: Canary::Deny,
        witnessing: usual.witnessing,
    };
    rig.administer(&set).await.unwrap();
    let made = rig.wraps(&opened, &context, 1).await;
    assert!(alarms(&rig).is_empty());
    // What is refused for its own sake brings nothing out.
    let wrong = named("b");
    assert!(rig.redeem(&opened, &[(&made[0].0, &wrong)]).await.is_ok());
    assert!(alarms(&rig).is_empty());
    let refused = rig.redeem(&opened, &[(&made[0].0, &context)]).await;
    assert_eq!(refusal(refused.map(drop)), Refusal::Denied);
    assert_eq!(alarms(&rig).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_budget_is_told_of_once_for_each_ticket() {
    // rule: EXP-3
    let rig = rig().await;
    let (_, writer) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&writer, &context, 3).await;
    let items: Vec<_> = made
        .iter()
        .map(|(wrap, _)| (wrap.as_slice(), &context))
        .collect();
    let (job, opened) = rig.opened(|claims| claims.budget = 2).await;
    rig.redeem(&opened, &items[..2]).await.unwrap();
    assert!(alarms(&rig).is_empty());
    rig.redeem(&opened, &items).await.unwrap();
    let raised = alarms(&rig);
    assert_eq!(raised.len(), 1);
    assert_eq!(
        (raised[0].alarm, raised[0].ticket),
        (Some(Alarm::Burst), Some(job.claims.common.id))
    );
    assert!(!rig.service.ask().reports[0].deny);
    rig.service.each_minute().await;
    rig.redeem(&opened, &items).await.unwrap();
    assert_eq!(alarms(&rig).len(), 1);
    // Nor again after a restart.
    let rig = rig.restart().await;
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    rig.redeem(&opened, &items).await.unwrap();
    assert_eq!(alarms(&rig).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_over_the_habit_is_told_of_once_a_minute() {
    // rule: EXP-3
    let mut world = World::new();
    world.bursts = BurstLimits {
        factor: 10,
        least: 100,
    };
    let mut rig = world.start().await;
    rig.dataset = Some(rig.administer(&wanted("faces")).await.unwrap());
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    rig.wraps(&opened, &context, 99).await;
    assert!(alarms(&rig).is_empty());
    rig.wraps(&opened, &context, 1).await;
    rig.wraps(&opened, &context, 100).await;
    let raised = alarms(&rig);
    assert_eq!(raised.len(), 1);
    assert_eq!(
        (raised[0].alarm, raised[0].count),
        (Some(Alarm::Burst), Some(100))
    );
    assert_eq!(
        raised[0].subject,
        Some(job.claims.common.node().to_string())
    );
}

/// A program that does this with the line it is told, in `$line`.
fn program(dir: &Path, what: &str) -> PathBuf {
    let path = dir.join("hook");
    std::fs::write(&path, format!("#!/bin/sh\nread -r line\n{what}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn with_canary(world: World) -> (Rig, Vec<u8>) {
    let mut rig = world.start().await;
    rig.dataset = Some(rig.administer(&wanted("faces")).await.unwrap());
    let (_, opened) = rig.opened(|_| {}).await;
    let made = rig.wraps(&opened, &named("a"), 1).await;
    mark(&rig, dek(&made[0].0), Canary::Alarm).await;
    let wrap = made[0].0.clone();
    (rig, wrap)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_told_of_an_alarm_as_one_json_line() {
    // rule: EXP-4
    let mut world = World::new();
    let told = world.dir.path().join("told");
    let path = program(
        world.dir.path(),
        "printf '%s\\n' \"$line\" > \"$1.new\" && mv \"$1.new\" \"$1\"",
    );
    world.hook = vec![path.display().to_string(), told.display().to_string()];
    let (rig, wrap) = with_canary(world).await;
    let (_, opened) = rig.opened(|_| {}).await;
    rig.redeem(&opened, &[(&wrap, &named("a"))]).await.unwrap();
    let begun = Instant::now();
    while rig.service.hook_counts().run == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::task::yield_now().await;
    }
    let line = std::fs::read_to_string(told).unwrap();
    assert!(
        line.ends_with("}\n") && line.contains("\"alarm\":\"canary\""),
        "{line}"
    );
    assert!(
        line.contains(&format!("\"act\":\"{}\"", alarms(&rig)[0].act)),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_hangs_or_is_dead_delays_no_redemption() {
    // rule: EXP-4
    for what in ["sleep 600", "exit 1"] {
        let mut world = World::new();
        let path = program(world.dir.path(), what);
        world.hook = vec![path.display().to_string()];
        let (rig, wrap) = with_canary(world).await;
        let (_, opened) = rig.opened(|_| {}).await;
        let begun = Instant::now();
        for _ in 0..20 {
            let got = rig.redeem(&opened, &[(&wrap, &named("a"))]).await.unwrap();
            assert_eq!(got.deks.len(), 32);
            rig.service.each_minute().await;
        }
        // A run may take ten seconds: had each of these waited for its own, this would take 200.
        assert!(begun.elapsed() < Duration::from_secs(100), "{what}");
        assert_eq!(alarms(&rig).len(), 20);
        rig.service.close().await;
    }
}
