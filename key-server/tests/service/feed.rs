//! The chain as it reaches this server: liftings, crashes at every step, nodes denied here (DEN).

use std::sync::Arc;
use std::time::Duration;

use key_server::feed::{Happened, News, Received};
use key_server::gate::HERE;
use key_server::service::ApplyError;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::{Denial, Selector, chain_next};
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{ActId, ChainDigest, DenialDigest, NodeId, StatementDigest, StatementId};
use ticket_format::ids::{LaunchId, TicketId};
use ticket_format::keys::AdminSecret;
use ticket_format::messages::feed::Report;
use ticket_format::messages::{Request, Verb};
use ticket_format::statement::{Payload, Undeny};
use ticket_format::time::Timestamp;

use crate::rig::{
    REALM, Rig, World, first_digest, manager, operator, rig, rng, set_of, set_statement, wanted,
};

/// What a broker does in one answer, from where the server stands.
pub(crate) struct Answer {
    pub(crate) after: (u64, ChainDigest),
    pub(crate) at: (u64, ChainDigest),
    pub(crate) now: Timestamp,
    pub(crate) epochs: Vec<Received>,
}

impl Answer {
    pub(crate) fn to(rig: &Rig) -> Self {
        let permit = rig.service.state.gate.permit();
        let after = (permit.epoch().number(), permit.epoch().chain());
        Self {
            after,
            at: after,
            now: rig.now(),
            epochs: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, forget: Timestamp, record: &[u8], happened: Happened) -> u64 {
        let epoch = self.at.0 + 1;
        self.at = (epoch, chain_next(self.at.1, forget, record));
        self.epochs.push(Received { epoch, happened });
        epoch
    }

    /// Denies; gives what a lifting names it by.
    pub(crate) fn deny(&mut self, selector: Selector) -> (u64, DenialDigest) {
        let none = StatementDigest([0; 32]);
        let denial = Denial::new(selector, "test".into(), none, self.now, "ann".into());
        let bytes = denial.to_cbor();
        let (forget, digest) = (denial.forget, DenialDigest::of(&bytes));
        let happened = Happened::Denied {
            denial: Box::new(denial),
            bytes: bytes.clone(),
        };
        (self.add(forget, &bytes, happened), digest)
    }

    fn lift(&mut self, statement: Vec<u8>) {
        let happened = Happened::Lifted(statement.clone());
        self.add(Timestamp::LAST, &statement, happened);
    }

    fn news(self) -> News {
        News {
            after: self.after,
            epoch: self.at.0,
            chain: self.at.1,
            epochs: self.epochs,
            now: self.now,
            admin_set: 1,
            whole: true,
        }
    }

    pub(crate) async fn apply(self, rig: &Rig) {
        let sent = rig.world.clock.monotonic();
        rig.service.apply(self.news(), sent).await.unwrap();
    }
}

trait Monotonic {
    fn monotonic(&self) -> Duration;
}

impl Monotonic for std::sync::Arc<crate::rig::TestClock> {
    fn monotonic(&self) -> Duration {
        key_server::clock::Clock::monotonic(&**self)
    }
}

fn lifting(rig: &Rig, named: &[(u64, DenialDigest)], signers: &[&AdminSecret]) -> Vec<u8> {
    let body = Undeny {
        denials: named.to_vec(),
        reason: "a mistake".into(),
    };
    let id = StatementId::random(&mut rng());
    Payload::record(id, REALM, rig.now(), &body)
        .sign(signers)
        .unwrap()
}

/// As many as must sign.
fn quorum(rig: &Rig, named: &[(u64, DenialDigest)]) -> Vec<u8> {
    lifting(rig, named, &[&manager(0), &manager(1)])
}

/// What the test's job gets.
async fn present(rig: &Rig) -> Result<(), Refusal> {
    let presented = rig.present(&rig.connect(9), &rig.job(|_| {})).await;
    presented.map(drop).map_err(|notice| notice.refusal)
}

const DENIED: Result<(), Refusal> = Err(Refusal::Denied);

fn node(rig: &Rig) -> NodeId {
    rig.job(|_| {}).claims.common.node().clone()
}

fn rollbacks(rig: &Rig) -> usize {
    let entries = rig.entries().into_iter();
    let alarms = entries.filter(|entry| entry.alarm == Some(Alarm::FeedRollback));
    alarms.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifted_denial_lets_in_again_and_stays_lifted() {
    // rule: DEN-9
    let mut rig = rig().await;
    let mut answer = Answer::to(&rig);
    let first = answer.deny(Selector::node(node(&rig)));
    let second = answer.deny(Selector::node(node(&rig)));
    answer.apply(&rig).await;
    assert_eq!(present(&rig).await, DENIED);
    // Of two equal ones the other stays in force.
    let mut answer = Answer::to(&rig);
    answer.lift(quorum(&rig, &[second]));
    answer.apply(&rig).await;
    assert_eq!(present(&rig).await, DENIED);
    rig = rig.restart().await;
    assert_eq!(present(&rig).await, DENIED);
    let mut answer = Answer::to(&rig);
    answer.lift(quorum(&rig, &[first]));
    answer.apply(&rig).await;
    assert_eq!(present(&rig).await, Ok(()));
    rig = rig.restart().await;
    assert_eq!(present(&rig).await, Ok(()));
    assert_eq!(rig.service.ask().epoch, 4);
    assert_eq!(rollbacks(&rig), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_walks_a_history_with_its_liftings_in_one_answer() {
    // rule: DEN-4, DEN-9
    let mut rig = rig().await;
    let mut answer = Answer::to(&rig);
    let one = answer.deny(Selector::node(node(&rig)));
    answer.add(rig.now(), b"gone", Happened::Gone);
    let two = answer.deny(Selector::ticket(TicketId([5; 16])));
    // The second was gone before it came here: there is nothing left to lift.
    answer.lift(quorum(&rig, &[one, (2, DenialDigest::of(b"gone")), two]));
    let (epoch, chain) = answer.at;
    answer.apply(&rig).await;
    for _ in ["at once", "after a restart"] {
        assert_eq!(present(&rig).await, Ok(()));
        let asked = rig.service.ask();
        assert_eq!((asked.epoch, asked.chain), (epoch, chain));
        assert!(rig.service.state.gate.permit().epoch().denials().is_empty());
        rig = rig.restart().await;
    }
    assert_eq!(rollbacks(&rig), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifting_that_admins_did_not_sign_lifts_nothing_and_raises_an_alarm() {
    // rule: DEN-9, SET-2
    let rig = rig().await;
    let (zero, one, operator) = (manager(0), manager(1), operator());
    let stranger = AdminSecret::generate(&mut rng());
    let mut answer = Answer::to(&rig);
    let denied = answer.deny(Selector::node(node(&rig)));
    answer.apply(&rig).await;
    let for_one_server = {
        let body = Undeny {
            denials: vec![denied],
            reason: String::new(),
        };
        rig.statement_by(&body, &[&zero, &one])
    };
    let another_act = {
        let id = StatementId::random(&mut rng());
        let body = set_of(2, first_digest(), &[0, 1]);
        let payload = Payload::record(id, REALM, rig.now(), &body);
        payload.sign(&[&zero, &one]).unwrap()
    };
    let other = (denied.0, DenialDigest([1; 32]));
    let tried = [
        ("by one admin", lifting(&rig, &[denied], &[&zero])),
        (
            "with an operator",
            lifting(&rig, &[denied], &[&zero, &operator]),
        ),
        (
            "with a stranger",
            lifting(&rig, &[denied], &[&zero, &stranger]),
        ),
        ("for this server alone", for_one_server),
        ("of another act", another_act),
        ("of another denial", quorum(&rig, &[other])),
        ("of a later epoch", quorum(&rig, &[denied, (99, denied.1)])),
        ("of no shape", vec![0xa0; 40]),
        ("damaged", {
            let mut statement = quorum(&rig, &[denied]);
            *statement.last_mut().unwrap() ^= 1;
            statement
        }),
    ];
    for (alarms, (what, statement)) in tried.into_iter().enumerate() {
        let mut answer = Answer::to(&rig);
        answer.lift(statement);
        let (epoch, chain) = answer.at;
        answer.apply(&rig).await;
        assert_eq!(present(&rig).await, DENIED, "{what}");
        assert_eq!(rollbacks(&rig), alarms + 1, "{what}");
        // The chain goes on: this server acknowledges that it has seen it.
        let asked = rig.service.ask();
        assert_eq!((asked.epoch, asked.chain), (epoch, chain), "{what}");
    }
    let alarm = rig.entries().into_iter().rev();
    let alarm = { alarm }.find(|entry| entry.kind == Kind::Alarm).unwrap();
    assert_eq!(alarm.epoch, Some(10));
    // Looked at again each minute, they still lift nothing, and raise no more alarms.
    rig.service.each_minute().await;
    let rig = rig.restart().await;
    rig.service.each_minute().await;
    assert_eq!((present(&rig).await, rollbacks(&rig)), (DENIED, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifting_by_admins_of_a_set_that_comes_later_is_looked_at_again() {
    // rule: DEN-9, SET-2
    let rig = rig().await;
    let mut answer = Answer::to(&rig);
    let denied = answer.deny(Selector::node(node(&rig)));
    let (one, three) = (manager(1), manager(3));
    answer.lift(lifting(&rig, &[denied], &[&one, &three]));
    answer.apply(&rig).await;
    assert_eq!((present(&rig).await, rollbacks(&rig)), (DENIED, 1));
    let rig = rig.restart().await;
    let second = set_of(2, first_digest(), &[1, 2, 3]);
    let second = set_statement(&second, &[&manager(0), &manager(1)]);
    rig.send_statement(&second).await.unwrap();
    assert_eq!(present(&rig).await, Ok(()));
    let rig = rig.restart().await;
    assert_eq!(present(&rig).await, Ok(()));
    // Who left the set lifts nothing any more.
    let mut answer = Answer::to(&rig);
    let denied = answer.deny(Selector::node(node(&rig)));
    answer.lift(lifting(&rig, &[denied], &[&manager(0), &manager(1)]));
    answer.apply(&rig).await;
    assert_eq!((present(&rig).await, rollbacks(&rig)), (DENIED, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifting_that_is_verified_while_its_signer_leaves_lifts_nothing() {
    // rule: DEN-9, SET-2
    let rig = rig().await;
    let mut answer = Answer::to(&rig);
    let denied = answer.deny(Selector::node(node(&rig)));
    answer.apply(&rig).await;
    let mut answer = Answer::to(&rig);
    answer.lift(quorum(&rig, &[denied]));
    let news = answer.news();
    // The set without manager 0 comes while the denial is read.
    let second = set_of(2, first_digest(), &[1, 2]);
    let second = set_statement(&second, &[&manager(0), &manager(1)]);
    let (service, connection) = (Arc::clone(&rig.service), rig.connect(8));
    rig.world.cut_off.meanwhile(async move {
        let request = Request::encode_parts(Verb::Administer, &second, &[]);
        service.exchange(&connection, request.into()).await;
    });
    let sent = rig.world.clock.monotonic();
    let refused = rig.service.apply(news.clone(), sent).await;
    assert!(matches!(refused, Err(ApplyError::Admins)), "{refused:?}");
    assert_eq!(rig.service.state.admins.current().version(), 2);
    // The broker sends it again, and now it is by somebody who is no admin.
    rig.service.apply(news, sent).await.unwrap();
    assert_eq!((present(&rig).await, rollbacks(&rig)), (DENIED, 1));
    let rig = rig.restart().await;
    assert_eq!(present(&rig).await, DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_forgets_no_denial_and_no_lifting() {
    // rule: DEN-5, DEN-7
    let mut rig = rig().await;
    let mut answer = Answer::to(&rig);
    let lifted = answer.deny(Selector::launch(LaunchId([7; 16])));
    answer.deny(Selector::node(node(&rig)));
    answer.apply(&rig).await;
    let mut steps = 0;
    loop {
        // More than one commit holds: denials, a lifting of an old one and of a new one.
        let mut answer = Answer::to(&rig);
        let fresh: Vec<_> = (0..250u8)
            .map(|n| answer.deny(Selector::ticket(TicketId([n; 16]))))
            .collect();
        answer.lift(quorum(&rig, &[lifted, fresh[3]]));
        let news = answer.news();
        rig.world.cut_off.die_after(Some(steps));
        let died = rig
            .service
            .apply(news.clone(), Duration::ZERO)
            .await
            .is_err();
        rig.world.cut_off.die_after(None);
        rig = rig.restart().await;
        assert_eq!(present(&rig).await, DENIED, "after {steps} commits");
        let stored = rig.service.ask().epoch;
        if stored == 2 {
            // The broker sends it all again.
            rig.service
                .apply(news.clone(), Duration::ZERO)
                .await
                .unwrap();
            rig = rig.restart().await;
        }
        assert_eq!(rig.service.ask().epoch, news.epoch);
        let permit = rig.service.state.gate.permit();
        assert_eq!(permit.epoch().denials().len(), 250, "after {steps} commits");
        drop(permit);
        if !died {
            break;
        }
        assert!(steps < 20, "it never comes through");
        steps += 1;
        // From the start again.
        let mut other = World::new().start().await;
        other.dataset = Some(other.administer(&wanted("faces")).await.unwrap());
        rig = other;
        let mut answer = Answer::to(&rig);
        let again = answer.deny(Selector::launch(LaunchId([7; 16])));
        assert_eq!(again, lifted);
        answer.deny(Selector::node(node(&rig)));
        answer.apply(&rig).await;
    }
    assert!(steps >= 3, "more than one step was tried: {steps}");
}

#[tokio::test(flavor = "multi_thread")]
async fn news_that_continue_another_point_are_not_applied() {
    // rule: DEN-4
    let rig = rig().await;
    let mut late = Answer::to(&rig);
    late.deny(Selector::launch(LaunchId([1; 16])));
    let mut first = Answer::to(&rig);
    first.deny(Selector::node(node(&rig)));
    first.apply(&rig).await;
    let refused = rig
        .service
        .apply(late.news(), Duration::from_secs(90))
        .await;
    let elsewhere = ApplyError::Elsewhere {
        after: 0,
        applied: 1,
    };
    assert_eq!(refused.unwrap_err().to_string(), elsewhere.to_string());
    assert!(
        rig.service
            .state
            .lease_left(Duration::from_secs(90))
            .is_zero()
    );
    assert_eq!(present(&rig).await, DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dataset_survives_the_brokers_silence_for_its_own_time() {
    // rule: DEN-6
    let mut rig = World::new().start().await;
    let mut create = wanted("faces");
    create.lease = 300;
    rig.dataset = Some(rig.administer(&create).await.unwrap());
    rig.world.clock.set_monotonic(10_000 + 299_999);
    assert_eq!(present(&rig).await, Ok(()));
    rig.world.clock.set_monotonic(10_000 + 300_000);
    assert_eq!(present(&rig).await, Err(Refusal::Lease));
    // The shortest one says how often the broker is asked.
    assert_eq!(
        rig.service.state.datasets.shortest_lease(),
        Duration::from_secs(300)
    );
    create.name = "voices".into();
    create.lease = 2;
    rig.administer(&create).await.unwrap();
    assert_eq!(
        rig.service.state.datasets.shortest_lease(),
        Duration::from_secs(2)
    );
}

fn canary(rig: &Rig, deny: bool) -> Report {
    Report {
        act: ActId::random(&mut rng()),
        alarm: Alarm::Canary,
        node: node(rig),
        dataset: rig.dataset().dataset,
        time: rig.now(),
        deny,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_denied_here_at_once_until_the_broker_denies_it() {
    // rule: DEN-11
    let mut rig = rig().await;
    let told = canary(&rig, true);
    rig.service.report(told.clone()).await;
    for _ in ["at once", "after a restart"] {
        assert_eq!(present(&rig).await, DENIED);
        assert_eq!(rig.service.ask().reports, std::slice::from_ref(&told));
        rig = rig.restart().await;
    }
    let refused = rig.entries().into_iter().rev();
    let refused = { refused }.find(|entry| entry.outcome == DENIED).unwrap();
    assert_eq!(refused.epoch, Some(HERE));
    // A denial of something else takes nothing back.
    let mut answer = Answer::to(&rig);
    let narrow = Selector::node(node(&rig)).issued_before(Timestamp::from_seconds(1));
    answer.deny(narrow);
    answer.deny(Selector::launch(LaunchId([8; 16])));
    answer.apply(&rig).await;
    assert_eq!(present(&rig).await, DENIED);
    assert!(!rig.service.state.gate.permit().epoch().here().is_empty());
    // The broker's own takes over, and from then on admins decide.
    rig.service.told(std::slice::from_ref(&told)).await.unwrap();
    let mut answer = Answer::to(&rig);
    let denied = answer.deny(Selector::node(node(&rig)));
    answer.apply(&rig).await;
    assert!(rig.service.state.gate.permit().epoch().here().is_empty());
    assert_eq!(present(&rig).await, DENIED);
    rig = rig.restart().await;
    assert_eq!(present(&rig).await, DENIED);
    assert!(rig.service.ask().reports.is_empty());
    let mut answer = Answer::to(&rig);
    answer.lift(quorum(&rig, &[denied]));
    answer.apply(&rig).await;
    assert_eq!(present(&rig).await, Ok(()));
    rig = rig.restart().await;
    assert_eq!(present(&rig).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_wait_for_the_broker_within_bounds() {
    // rule: DEN-11
    let rig = rig().await;
    for _ in 0..20 {
        rig.service.report(canary(&rig, false)).await;
    }
    let first = rig.service.ask().reports;
    assert_eq!(first.len(), 16, "as many as one request takes");
    // Those that are to deny a node go first.
    let urgent = canary(&rig, true);
    rig.service.report(urgent.clone()).await;
    assert_eq!(rig.service.ask().reports[0], urgent);
    rig.service.told(&first).await.unwrap();
    assert_eq!(rig.service.ask().reports.len(), 5);
}
