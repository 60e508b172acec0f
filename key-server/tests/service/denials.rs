//! Denials, lease, second check: DEN, RED-2.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use key_server::dataset::Dataset;
use key_server::feed::{FeedFault, Happened, News, Received};
use ticket_format::Refusal;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{LaunchId, NodeId, TicketId};

use crate::rig::{POLICY, named, refusal, rig};

#[tokio::test(flavor = "multi_thread")]
async fn rustsec_2026_0049_a_denied_node_gets_nothing_any_more() {
    // rule: DEN-2, RED-2
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0).0;
    rig.deny(Selector::node(
        NodeId::new("123456789012", "eu-west-1", "i-0aaaaaaaaaaaaaaaa").unwrap(),
    ))
    .await;
    assert!(
        rig.redeem(&opened, &[(&wrap, &context)]).await.is_ok(),
        "another node"
    );
    rig.deny(Selector::node(job.claims.common.node().clone()))
        .await;
    assert_eq!(
        refusal(rig.redeem(&opened, &[(&wrap, &context)]).await),
        Refusal::Denied
    );
    assert_eq!(
        refusal(rig.present(&rig.connect(2), &job).await.map(drop)),
        Refusal::Denied
    );
    let entry = rig.entries().pop().unwrap();
    assert_eq!(
        (entry.kind, entry.outcome, entry.epoch),
        (Kind::Present, Err(Refusal::Denied), Some(2))
    );
    assert!(
        rig.entries()
            .iter()
            .any(|entry| entry.kind == Kind::Denial && entry.epoch == Some(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_of_the_node_ticket_hits_the_dataset_tickets_issued_on_it() {
    // rule: DEN-2
    let rig = rig().await;
    let job = rig.job(|_| {});
    rig.deny(Selector::ticket(TicketId([6; 16]))).await;
    assert_eq!(
        refusal(rig.present(&rig.connect(2), &job).await.map(drop)),
        Refusal::Denied
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_expires_while_its_record_is_written_gets_nothing() {
    // rule: RED-2
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0).0;
    let clock = Arc::clone(&rig.world.clock);
    rig.world.clock.before_reading(2, move || clock.set(3_600));
    assert_eq!(
        refusal(rig.redeem(&opened, &[(&wrap, &context)]).await),
        Refusal::TicketExpired
    );
    let entries = rig.entries();
    let [.., decided, withheld] = entries.as_slice() else {
        panic!()
    };
    assert_eq!((decided.kind, decided.outcome), (Kind::Redeem, Ok(())));
    assert_eq!(
        (withheld.kind, withheld.outcome),
        (Kind::Withheld, Err(Refusal::TicketExpired))
    );
    assert_eq!(withheld.follows, Some(decided.act));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_applied_while_the_record_is_written_withholds_the_keys() {
    // rule: RED-2, DEN-5
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0).0;
    let service = Arc::clone(&rig.service);
    let news = rig.news(Selector::launch(LaunchId([3; 16])));
    rig.world.clock.before_reading(2, move || {
        let mut set = ticket_format::denial::DenialSet::new();
        let Happened::Denied { denial, .. } = &news.epochs[0].happened else {
            panic!()
        };
        set.insert(denial, news.epoch).unwrap();
        let applying = pin!(service.state.gate.apply(set, news.epoch, news.chain));
        assert!(
            applying
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready(),
            "no permit is held over the append"
        );
    });
    assert_eq!(
        refusal(rig.redeem(&opened, &[(&wrap, &context)]).await),
        Refusal::Denied
    );
    let withheld = rig.entries().pop().unwrap();
    assert_eq!(
        (withheld.kind, withheld.outcome, withheld.epoch),
        (Kind::Withheld, Err(Refusal::Denied), Some(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_for_a_presentation() {
    // rule: RED-2
    let rig = rig().await;
    let job = rig.job(|_| {});
    let clock = Arc::clone(&rig.world.clock);
    rig.world
        .clock
        .before_reading(4, move || clock.set_monotonic(15_000));
    let connection = rig.connect(1);
    assert_eq!(
        refusal(rig.present(&connection, &job).await.map(drop)),
        Refusal::Lease
    );
    assert!(connection.is_empty());
    assert_eq!(rig.entries().pop().unwrap().kind, Kind::Withheld);
    rig.world.clock.set_monotonic(10_000);
    let clock = Arc::clone(&rig.world.clock);
    rig.world.clock.before_reading(4, move || clock.set(3_600));
    assert_eq!(
        refusal(rig.present(&connection, &job).await.map(drop)),
        Refusal::TicketExpired
    );
    assert!(connection.is_empty());
    assert_eq!(rig.entries().pop().unwrap().kind, Kind::Withheld);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_not_acknowledged_while_an_older_answer_can_still_leave() {
    // rule: DEN-5
    let rig = rig().await;
    let paused = rig.service.state.gate.permit();
    let news = rig.news(Selector::launch(LaunchId([8; 16])));
    let service = Arc::clone(&rig.service);
    let applying = tokio::spawn(async move { service.apply(news, Duration::from_secs(11)).await });
    while rig.service.state.gate.permit().epoch().number() == 0 {
        tokio::task::yield_now().await;
    }
    // In force for everybody else, persisted, and not done.
    assert!(!applying.is_finished());
    assert_eq!(
        rig.service.state.lease_left(Duration::from_secs(11)),
        Duration::from_secs(4)
    );
    drop(paused);
    applying.await.unwrap().unwrap();
    assert_eq!(
        rig.service.state.lease_left(Duration::from_secs(11)),
        Duration::from_secs(5)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_lease_nothing_is_released_and_with_a_new_one_everything_goes_on() {
    // rule: DEN-6
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    rig.world.clock.set_monotonic(14_999);
    assert!(rig.generate(&opened, &[&context], true).await.is_ok());
    rig.world.clock.set_monotonic(15_000);
    let notice = rig.generate(&opened, &[&context], true).await.unwrap_err();
    assert_eq!(notice.refusal, Refusal::Lease);
    assert!(notice.refusal.retry_is_safe());
    assert_eq!(
        refusal(
            rig.present(&rig.connect(5), &rig.job(|_| {}))
                .await
                .map(drop)
        ),
        Refusal::Lease
    );
    let nothing = News {
        epochs: Vec::new(),
        epoch: 0,
        chain: ticket_format::denial::CHAIN_START,
        ..rig.news(Selector::launch(LaunchId([8; 16])))
    };
    rig.service
        .apply(nothing, Duration::from_millis(14_000))
        .await
        .unwrap();
    assert!(rig.generate(&opened, &[&context], true).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_decides_nothing() {
    // rule: TIM-1
    let rig = rig().await;
    rig.world.clock.set(1_000);
    let (_, opened) = rig.opened(|_| {}).await;
    rig.world.clock.set(939);
    assert_eq!(
        refusal(rig.generate(&opened, &[&named("a")], true).await),
        Refusal::Clock
    );
    rig.world.clock.set(940);
    assert!(rig.generate(&opened, &[&named("a")], true).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_went_back_raises_an_alarm() {
    // rule: DEN-4
    let rig = rig().await;
    rig.service
        .alarm(&FeedFault::Rollback {
            offered: 1,
            applied: 2,
        })
        .await;
    let entry = rig.entries().pop().unwrap();
    assert_eq!(
        (entry.kind, entry.alarm, entry.outcome),
        (
            Kind::Alarm,
            Some(Alarm::FeedRollback),
            Err(Refusal::Rollback)
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_answer_is_not_all_the_news_and_gives_no_lease() {
    // rule: DEN-6
    let rig = rig().await;
    let one = rig.news(Selector::launch(LaunchId([8; 16])));
    let received = |epoch| Received {
        epoch,
        ..one.epochs[0].clone()
    };
    let full = News {
        epoch: 1_000,
        epochs: (1..=1_000).map(received).collect(),
        whole: false,
        ..one.clone()
    };
    let later = Duration::from_secs(60);
    rig.service.apply(full, later).await.unwrap();
    assert_eq!(rig.service.ask().epoch, 1_000);
    assert!(rig.service.state.lease_left(later).is_zero());
    let rest = News {
        after: (1_000, one.chain),
        epoch: 1_000,
        epochs: Vec::new(),
        ..one
    };
    rig.service.apply(rest, later).await.unwrap();
    assert!(!rig.service.state.lease_left(later).is_zero());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_set_while_the_record_is_written_withholds_the_answer() {
    // rule: RED-2, PRE-3
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0).0;
    // A presentation reads the time twice more: for its ticket, and before its evidence is looked at.
    let change = |reading| {
        let service = Arc::clone(&rig.service);
        let known = service.state.datasets.named("faces").unwrap();
        let text = "@id(\"none\") forbid (principal, action, resource);";
        let revision = known.revision.next();
        let changed = Dataset::new(known.id, known.state.clone(), text, revision).unwrap();
        rig.world.clock.before_reading(reading, move || {
            service.state.datasets.put(Arc::new(changed));
        });
    };
    change(4);
    let connection = rig.connect(2);
    let mut notices = vec![rig.present(&connection, &job).await.map(drop).unwrap_err()];
    assert!(connection.is_empty());
    let original = {
        let known = rig.service.state.datasets.named("faces").unwrap();
        let revision = known.revision.next();
        Dataset::new(known.id, known.state.clone(), POLICY, revision).unwrap()
    };
    rig.service.state.datasets.put(Arc::new(original));
    change(2);
    notices.push(rig.redeem(&opened, &[(&wrap, &context)]).await.unwrap_err());
    for notice in notices {
        assert_eq!(notice.refusal, Refusal::Busy);
        assert!(notice.refusal.retry_is_safe());
    }
    let entries = rig.entries();
    let [.., decided, withheld] = entries.as_slice() else {
        panic!()
    };
    assert_eq!((decided.kind, decided.outcome), (Kind::Redeem, Ok(())));
    assert_eq!(
        (withheld.kind, withheld.outcome, withheld.follows),
        (Kind::Withheld, Err(Refusal::Busy), Some(decided.act))
    );
    // The next try is decided by the policy that is in force.
    assert_eq!(
        refusal(rig.redeem(&opened, &[(&wrap, &context)]).await),
        Refusal::Policy
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_epoch_is_applied_between_the_release_of_an_answer_and_its_return() {
    // rule: DEN-5
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0).0;
    // An exchange reads monotonic time when it begins, decides, releases, and is about to return;
    // a presentation also for its ticket, and before its evidence is looked at.
    let pending = |reading| {
        let (service, pending) = (Arc::clone(&rig.service), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&pending);
        let news = rig.news(Selector::launch(LaunchId([8; 16])));
        rig.world.clock.before_monotonic(reading, move || {
            let set = ticket_format::denial::DenialSet::new();
            let applying = pin!(service.state.gate.apply(set, news.epoch, news.chain));
            let poll = applying.poll(&mut Context::from_waker(Waker::noop()));
            seen.store(poll.is_pending(), Ordering::SeqCst);
        });
        pending
    };
    let seen = pending(4);
    assert!(rig.redeem(&opened, &[(&wrap, &context)]).await.is_ok());
    assert!(seen.load(Ordering::SeqCst), "the permit is held still");
    let seen = pending(6);
    assert!(rig.present(&rig.connect(2), &job).await.is_ok());
    assert!(seen.load(Ordering::SeqCst), "the permit is held still");
    rig.deny(Selector::launch(LaunchId([8; 16]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_job_that_goes_on_asking_is_counted() {
    // rule: AUD-1
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    rig.deny(Selector::launch(LaunchId([3; 16]))).await;
    let before = rig.entries().len();
    for _ in 0..20 {
        let notice = rig
            .generate(&opened, &[&named("a")], true)
            .await
            .unwrap_err();
        assert_eq!(notice.refusal, Refusal::Denied);
        assert!(notice.detail.is_some());
    }
    assert_eq!(rig.entries().len(), before + 1);
    rig.service.each_minute().await;
    let counted = rig.entries().pop().unwrap();
    assert_eq!(
        (counted.kind, counted.count),
        (Kind::RefusalsCounted, Some(19))
    );
}
