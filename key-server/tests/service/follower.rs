//! The follower against a broker on loopback that says what the test wants.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use key_server::follower::{self, Broker};
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{CHAIN_START, Denial, Link, Selector};
use ticket_format::entry::{Alarm, Entry};
use ticket_format::ids::{ActId, ChainDigest, StatementDigest};
use ticket_format::keys::{FeedSecret, TlsKey, TlsSecret};
use ticket_format::messages::consistency::ConsistencyBody;
use ticket_format::messages::feed::{Epoch, Event, FeedAnswer, FeedBody, Report};
use ticket_format::messages::{Answer, RefusalNotice, RequestView, Verb};
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{LogRecover, LogShow, LogState};
use ticket_format::time::Timestamp;
use ticket_format::{labels, limits};
use tokio::sync::{Mutex, mpsc};
use transport::{ExporterUse, Handler, Peer, Server, ServerIdentity, ServerLimits};

use crate::issuer::Issuer;
use crate::rig::{REALM, Rig, manager, named, operator, refusal, rig, rng};

/// What the broker says to one request.
enum Says {
    News {
        epoch: u64,
        chain: ChainDigest,
        epochs: Vec<Epoch>,
    },
    No(Refusal),
}

/// Shows the test each request whose signature verifies, and waits to be told the answer.
struct FakeBroker {
    tls: TlsKey,
    feed: FeedSecret,
    asked: mpsc::UnboundedSender<FeedBody>,
    says: Mutex<mpsc::UnboundedReceiver<Says>>,
    /// The log that it shows.
    log: Shown,
}

type Shown = Arc<std::sync::Mutex<Arc<Issuer>>>;

impl Handler for FakeBroker {
    type Connection = Peer;

    fn connected(&self, peer: Peer) -> Peer {
        peer
    }

    async fn exchange(&self, peer: &Peer, message: Bytes) -> Bytes {
        let request = RequestView::parse(&message).unwrap();
        if request.verb == Verb::Consistency {
            let body = ConsistencyBody::from_cbor(request.body, limits::PRESENT).unwrap();
            let log = Arc::clone(&self.log.lock().unwrap());
            let answer = match log.prove(&body.checkpoint) {
                Some(answer) => Answer::done(Verb::Consistency, &answer),
                None => Answer::from(RefusalNotice::bare(Refusal::Rollback)),
            };
            return Bytes::from(answer.to_bytes());
        }
        let body = FeedBody::from_cbor(request.body, limits::SMALL_MESSAGE).unwrap();
        let exporter = Exporter(peer.exporter(ExporterUse::Authenticator).unwrap());
        let channel = Channel {
            realm: REALM.into(),
            server: self.tls,
            exporter,
        };
        // rule: DEN-3
        channel
            .verify_with(
                &body.subscriber,
                labels::FEED_REQUEST,
                None,
                request.body,
                &request.proofs[0],
            )
            .unwrap();
        let nonce = body.nonce;
        let _ = self.asked.send(body);
        let Some(says) = self.says.lock().await.recv().await else {
            std::future::pending().await
        };
        let answer = match says {
            Says::No(refusal) => Answer::from(RefusalNotice::bare(refusal)),
            Says::News {
                epoch,
                chain,
                epochs,
            } => {
                let now = Timestamp::from_seconds(1);
                let body = FeedAnswer {
                    nonce,
                    epoch,
                    chain,
                    now,
                    epochs,
                    admin_set: 1,
                }
                .to_cbor();
                let proof = channel.sign_with(&self.feed, labels::FEED_ANSWER, None, &body);
                Answer::Done {
                    verb: Verb::Feed,
                    body,
                    proof: Some(proof),
                }
            }
        };
        Bytes::from(answer.to_bytes())
    }
}

struct Scene {
    rig: Rig,
    asked: mpsc::UnboundedReceiver<FeedBody>,
    say: mpsc::UnboundedSender<Says>,
    log: Shown,
}

/// A key server without a lease, following.
async fn scene() -> Scene {
    let rig = rig().await;
    rig.world.clock.set_monotonic(100_000);
    let (tls, feed) = (
        TlsSecret::generate(&mut rng()),
        FeedSecret::generate(&mut rng()),
    );
    let identity =
        ServerIdentity::new(&ed25519_dalek::SigningKey::from_bytes(&tls.seed())).unwrap();
    let server = Server::bind(
        "127.0.0.1:0".parse().unwrap(),
        &identity,
        ServerLimits::default(),
    )
    .unwrap();
    let addresses = vec![server.local_addr().to_string()];
    let ((asked_by, asked), (say, says)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let broker = Broker {
        addresses,
        tls_key: tls.public(),
        feed_key: feed.public(),
    };
    let fake = FakeBroker {
        tls: tls.public(),
        feed,
        asked: asked_by,
        says: Mutex::new(says),
        log: Arc::new(std::sync::Mutex::new(Arc::clone(&rig.world.issuer))),
    };
    let log = Arc::clone(&fake.log);
    tokio::spawn(async move {
        server
            .run(Arc::new(fake), std::future::pending())
            .await
            .map(drop)
    });
    tokio::spawn(follower::run(Arc::clone(&rig.service), broker));
    Scene {
        rig,
        asked,
        say,
        log,
    }
}

/// The first epoch: a denial.
fn denial_of(selector: Selector, made: Timestamp) -> Epoch {
    let none = StatementDigest([0; 32]);
    let denial = Denial::new(selector, String::new(), none, made, String::new());
    Epoch {
        number: 1,
        event: Event::Denial(denial.to_cbor()),
    }
}

impl Scene {
    fn left(&self, millis: u64) -> Duration {
        let monotonic = Duration::from_millis(millis);
        self.rig.service.state.lease_left(monotonic)
    }

    async fn asked(&mut self) -> FeedBody {
        tokio::time::timeout(Duration::from_secs(20), self.asked.recv())
            .await
            .unwrap()
            .unwrap()
    }

    fn nothing_new(&self, epoch: u64, chain: ChainDigest) {
        let _ = self.say.send(Says::News {
            epoch,
            chain,
            epochs: Vec::new(),
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_comes_with_the_first_answer_and_a_denial_is_acknowledged_by_the_next_request() {
    // rule: DEN-3, DEN-5, DEN-6
    let mut scene = scene().await;
    let job = scene.rig.job(|_| {});
    let first = scene.asked().await;
    assert_eq!(
        (first.epoch, first.chain, first.hold_ms),
        (0, CHAIN_START, 0)
    );
    let refused = scene
        .rig
        .present(&scene.rig.connect(1), &job)
        .await
        .map(drop);
    assert_eq!(refusal(refused), Refusal::Lease);
    scene.nothing_new(0, CHAIN_START);
    let second = scene.asked().await;
    assert_eq!(second.hold_ms, 5_000 / 3);
    assert_ne!(second.nonce, first.nonce);
    let opened = scene
        .rig
        .present(&scene.rig.connect(1), &job)
        .await
        .unwrap();
    let selector = Selector::node(job.claims.common.node().clone());
    let epoch = denial_of(selector, scene.rig.now());
    let chain = Link::of(&epoch.event).unwrap().after(CHAIN_START);
    let _ = scene.say.send(Says::News {
        epoch: 1,
        chain,
        epochs: vec![epoch],
    });
    let third = scene.asked().await;
    assert_eq!((third.epoch, third.chain), (1, chain));
    assert_eq!(
        refusal(scene.rig.generate(&opened, &[&named("a")], true).await),
        Refusal::Denied
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_is_worth_what_is_left_since_its_nonce_was_sent() {
    // rule: DEN-6
    let mut scene = scene().await;
    scene.asked().await;
    scene.rig.world.clock.set_monotonic(104_000);
    scene.nothing_new(0, CHAIN_START);
    scene.asked().await;
    assert_eq!(
        scene
            .rig
            .service
            .state
            .lease_left(Duration::from_millis(104_000)),
        Duration::from_secs(1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_went_back_gets_no_lease_and_an_alarm() {
    // rule: DEN-4
    let mut scene = scene().await;
    scene.asked().await;
    scene
        .rig
        .deny(Selector::launch(ticket_format::ids::LaunchId([8; 16])))
        .await;
    scene.rig.world.clock.set_monotonic(200_000);
    // The open request named epoch 0; the next one names epoch 1, and the broker is behind it.
    let _ = scene.say.send(Says::No(Refusal::Internal));
    assert_eq!(scene.asked().await.epoch, 1);
    scene.nothing_new(0, CHAIN_START);
    scene.asked().await;
    assert!(scene.left(200_000).is_zero());
    let alarms = scene
        .rig
        .entries()
        .into_iter()
        .filter(|entry| entry.alarm == Some(Alarm::FeedRollback));
    assert_eq!(alarms.count(), 1);
    // And once it is back where it was, everything goes on.
    let head = scene.rig.service.ask();
    scene.nothing_new(head.epoch, head.chain);
    scene.asked().await;
    assert!(!scene.left(200_000).is_zero());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_server_that_is_not_recorded_yet_asks_again() {
    // rule: DEN-8
    let mut scene = scene().await;
    for _ in 0..3 {
        scene.asked().await;
        let _ = scene.say.send(Says::No(Refusal::NotSubscriber));
    }
    scene.asked().await;
    scene.nothing_new(0, CHAIN_START);
    scene.asked().await;
    assert!(!scene.left(100_000).is_zero());
}

fn report(scene: &Scene, deny: bool) -> Report {
    let job = scene.rig.job(|_| {});
    Report {
        act: ActId::random(&mut rng()),
        alarm: Alarm::Canary,
        node: job.claims.common.node().clone(),
        dataset: scene.rig.dataset().dataset,
        time: scene.rig.now(),
        deny,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_told_at_once_and_again_until_the_broker_takes_it() {
    // rule: DEN-11
    let mut scene = scene().await;
    scene.asked().await;
    scene.nothing_new(0, CHAIN_START);
    // This one is held by the broker.
    assert!(scene.asked().await.reports.is_empty());
    let told = report(&scene, false);
    scene.rig.service.report(told.clone()).await;
    // The held one is given up; what is said to it is heard by nobody.
    scene.nothing_new(0, CHAIN_START);
    let telling = scene.asked().await;
    assert_eq!((telling.reports, telling.hold_ms), (vec![told.clone()], 0));
    let _ = scene.say.send(Says::No(Refusal::StoreUnavailable));
    // What cannot be taken must not cost the lease: it is left out once.
    assert!(scene.asked().await.reports.is_empty());
    scene.rig.world.clock.set_monotonic(200_000);
    assert!(scene.left(200_000).is_zero());
    scene.nothing_new(0, CHAIN_START);
    let telling = scene.asked().await;
    assert!(!scene.left(100_000).is_zero());
    assert_eq!(telling.reports, [told]);
    scene.nothing_new(0, CHAIN_START);
    assert!(scene.asked().await.reports.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knows_less_than_this_server_raises_an_alarm() {
    // rule: DEN-4
    let mut scene = scene().await;
    scene.asked().await;
    let _ = scene.say.send(Says::No(Refusal::Rollback));
    scene.asked().await;
    let alarms = scene.rig.entries().into_iter();
    let alarms = alarms.filter(|entry| entry.alarm == Some(Alarm::FeedRollback));
    assert_eq!(alarms.count(), 1);
    assert!(scene.left(100_000).is_zero());
}

/// Completes when this holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let all = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(20), all).await;
    assert!(done.is_ok(), "{what}");
}

fn forks(rig: &Rig) -> Vec<Entry> {
    let mut entries = rig.entries();
    entries.retain(|entry| entry.alarm == Some(Alarm::LogFork));
    entries
}

/// Presents until it is taken: what lies behind the place that admins named counts again once the broker
/// has proven it.
async fn believed(rig: &Rig, job: &crate::job::Job) {
    let begun = std::time::Instant::now();
    while let Err(notice) = rig.present(&rig.connect(4), job).await {
        assert_eq!(notice.refusal, Refusal::Receipt);
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(60),
            "never"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_receipts_are_of_two_logs_is_found_out_and_believed_again_when_a_quorum_says_where()
 {
    // rule: TLOG-7
    let mut scene = scene().await;
    let other = scene.rig.world.issuer.fork();
    scene.asked().await;
    scene.nothing_new(0, CHAIN_START);
    scene.asked().await;
    let (first, mut second) = (scene.rig.job(|_| {}), scene.rig.job(|_| {}));
    let rig = &scene.rig;
    let log = &rig.service.state.broker_log;
    assert!(rig.present(&rig.connect(1), &first).await.is_ok());
    until("the first is proven", || {
        log.head().is_some_and(|head| head.size == 2)
    })
    .await;
    assert!(!log.is_forked() && log.waiting() == 0);
    // Signed by the same keys, and not of that log.
    for _ in 0..2 {
        other.issue(&second.ticket, &second.claims);
    }
    second.receipt = Some(other.issue(&second.ticket, &second.claims));
    assert!(rig.present(&rig.connect(2), &second).await.is_ok());
    until("the fork is found", || log.is_forked()).await;
    until("it is recorded", || !forks(rig).is_empty()).await;
    let [alarm] = forks(rig).try_into().unwrap();
    assert_eq!(alarm.log.map(|ours| ours.size), Some(3));
    let again = rig.present(&rig.connect(3), &first).await;
    assert_eq!(refusal(again.map(drop)), Refusal::Receipt);
    let view = rig
        .administer_by(&LogShow {}, &[&operator()])
        .await
        .unwrap();
    assert_eq!(view.state, LogState::BrokerForked);
    let recover = |issuer: &Issuer| {
        let checkpoint = issuer.checkpoint(2);
        let checkpoint = checkpoint.checkpoint();
        LogRecover {
            shard: checkpoint.shard.to_string(),
            size: checkpoint.size,
            root: checkpoint.root,
        }
    };
    let alone = rig.administer_by(&recover(&other), &[&manager(0)]).await;
    assert_eq!(refusal(alone), Refusal::Quorum);
    // Where the broker's log does not go on, it is found out again.
    rig.administer(&recover(&other)).await.unwrap();
    until("it does not go on there", || log.is_forked()).await;
    until("it is recorded", || forks(rig).len() == 2).await;
    rig.administer(&recover(&rig.world.issuer)).await.unwrap();
    believed(rig, &first).await;
    rig.world.issuer.issue(&first.ticket, &first.claims);
    let next = rig.job(|_| {});
    believed(rig, &next).await;
    until("it goes on", || {
        log.head().is_some_and(|head| head.size == 4)
    })
    .await;
    assert!(!log.is_forked());
    let nothing = rig.administer(&recover(&rig.world.issuer)).await;
    assert_eq!(refusal(nothing), Refusal::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_rolled_back_is_found_out_by_what_is_remembered() {
    // rule: TLOG-7
    let mut scene = scene().await;
    let older = scene.rig.world.issuer.fork();
    scene.asked().await;
    scene.nothing_new(0, CHAIN_START);
    scene.asked().await;
    let rig = &scene.rig;
    let log = &rig.service.state.broker_log;
    let job = rig.job(|_| {});
    assert!(rig.present(&rig.connect(1), &job).await.is_ok());
    until("it is proven", || {
        log.waiting() == 0 && log.head().is_some()
    })
    .await;
    *scene.log.lock().unwrap() = Arc::new(older);
    // At the next look something new is seen, or the connection is made anew.
    let next = rig.job(|_| {});
    assert!(rig.present(&rig.connect(2), &next).await.is_ok());
    until("it is found out", || log.is_forked()).await;
    until("it is recorded", || forks(rig).len() == 1).await;
}
