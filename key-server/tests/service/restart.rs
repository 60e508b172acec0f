//! What a restart must not forget: budgets, denials, time, KEKs.

use key_server::service::StartError;
use ticket_format::Refusal;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};

use crate::rig::{World, named, refusal, rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_kek_and_no_budget() {
    // rule: RED-4
    let rig = rig().await;
    let (job, opened) = rig.opened(|claims| claims.budget = 3).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 2).await;
    let rig = rig.restart().await;
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let got = rig
        .redeem(&opened, &[(&made[0].0, &context), (&made[1].0, &context)])
        .await
        .unwrap();
    assert_eq!(
        *got.deks,
        made[0]
            .1
            .iter()
            .chain(&made[1].1)
            .copied()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        got.refusals(),
        [None, None],
        "what was generated was had, and is had again for free"
    );
    assert_eq!(
        rig.generate(&opened, &[&context, &context], true)
            .await
            .unwrap()
            .refusals(),
        [None, Some(Refusal::Budget)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2022_41316_a_restart_un_denies_nobody() {
    // rule: DEN-7
    let rig = rig().await;
    let job = rig.job(|_| {});
    rig.deny(Selector::node(job.claims.common.node().clone()))
        .await;
    let head = rig.service.ask();
    let rig = rig.restart().await;
    assert_eq!(
        (rig.service.ask().epoch, rig.service.ask().chain),
        (1, head.chain)
    );
    assert_eq!(
        refusal(rig.present(&rig.connect(1), &job).await.map(drop)),
        Refusal::Denied
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_are_forgotten_when_every_ticket_they_could_hit_has_expired() {
    // rule: DEN-7
    let rig = rig().await;
    rig.deny(Selector::ticket(ticket_format::ids::TicketId([3; 16])))
        .await;
    rig.world.clock.set(24 * 3_600 + 59);
    rig.service.each_minute().await;
    let rig = rig.restart().await;
    assert_eq!(rig.service.state.gate.permit().epoch().denials().len(), 1);
    rig.world.clock.set(24 * 3_600 + 60);
    rig.service.each_minute().await;
    let rig = rig.restart().await;
    assert!(rig.service.state.gate.permit().epoch().denials().is_empty());
    assert_eq!(rig.service.ask().epoch, 1, "the epoch is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_when_the_clock_went_back() {
    // rule: TIM-1
    let rig = rig().await;
    rig.world.clock.set(1_000);
    rig.service.each_minute().await;
    rig.service.close().await;
    drop(rig.service);
    rig.world.clock.set(939);
    assert!(matches!(
        rig.world.try_start().await,
        Err(StartError::Clock(_))
    ));
    rig.world.clock.set(940);
    assert!(rig.world.try_start().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_store_is_noticed() {
    let rig = rig().await;
    rig.service.close().await;
    drop(rig.service);
    let store = rig.world.dir.path().join("store.redb");
    let copy = rig.world.dir.path().join("copy");
    std::fs::copy(&store, &copy).unwrap();
    let rig = rig.world.start().await;
    rig.deny(Selector::launch(ticket_format::ids::LaunchId([8; 16])))
        .await;
    rig.service.close().await;
    drop(rig.service);
    std::fs::copy(&copy, &store).unwrap();
    let rig = rig.world.start().await;
    let alarms: Vec<_> = rig
        .entries()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Alarm)
        .collect();
    assert_eq!(
        (alarms.len(), alarms[0].alarm),
        (1, Some(Alarm::StoreRollback))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_start_is_recorded() {
    // rule: AUD-1
    let rig = World::new().start().await;
    assert_eq!(rig.entries().pop().unwrap().kind, Kind::Start);
}
