//! This server's log as others remember it: callers (TLOG-6), witnesses, an admin's recovery (TLOG-10).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit_log::guard::Told;
use audit_log::witness::{Endpoint, ServeLimits, Submitter, Witness, serve, system_clock};
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::StatementDigest;
use ticket_format::limits;
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::messages::{Answer, RefusalNotice, Request, Verb};
use ticket_format::statement::{
    EntryShow, LogRecover, LogShow, LogState, LogView, StatusShow, WitnessState,
};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{
    Checkpoint, LogKey, LogSecret, SignedCheckpoint, Verifier, WitnessSecret, verify_continuation,
    verify_continuations,
};

use crate::rig::{Rig, START, World, manager, named, operator, refusal, rig, wanted};

/// A witness on loopback.
pub(crate) struct Seer {
    pub(crate) endpoint: Endpoint,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) fn witness_secret() -> WitnessSecret {
    WitnessSecret::from_seeds("witness.example/1", &[5; 32], &[6; 32]).unwrap()
}

impl Seer {
    /// Serves a witness whose state is in this directory.
    pub(crate) async fn start(dir: &Path, log: &LogKey) -> Self {
        if !dir.exists() {
            Witness::create(dir).unwrap();
        }
        let witness = Witness::open(dir, witness_secret(), [log.clone()]).unwrap();
        let keys: Vec<_> = witness.vkeys().iter().map(ToString::to_string).collect();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endpoint = Endpoint::new(&url, &keys).unwrap();
        let task = tokio::spawn(async move {
            let (clock, limits) = (system_clock(), ServeLimits::default());
            let never = std::future::pending();
            let served = serve(listener, Arc::new(witness), clock, limits, never).await;
            served.unwrap();
        });
        Self { endpoint, task }
    }
}

impl Drop for Seer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(rig: &Rig, note: &str) -> Result<ConsistencyAnswer, RefusalNotice> {
    ask_with(rig, &ConsistencyBody::of(note)).await
}

async fn ask_with(rig: &Rig, body: &ConsistencyBody) -> Result<ConsistencyAnswer, RefusalNotice> {
    let request = Request::encode_parts(Verb::Consistency, &body.to_cbor(), &[]);
    match rig.exchange(&rig.connect(77), request).await {
        Answer::Done { body, .. } => {
            Ok(ConsistencyAnswer::from_cbor(&body, limits::MESSAGE).unwrap())
        }
        Answer::Refused(notice) => Err(notice),
    }
}

fn alarms(rig: &Rig, alarm: Alarm) -> Vec<Entry> {
    let mut entries = rig.entries();
    entries.retain(|entry| entry.alarm == Some(alarm));
    entries
}

/// A checkpoint of this server's log that its keys signed and that is not in it.
fn elsewhere(rig: &Rig, size: u64) -> SignedCheckpoint {
    let checkpoint = Checkpoint {
        size,
        root: [7; 32],
        ..rig.log.head().checkpoint.checkpoint().clone()
    };
    let at = Timestamp::from_seconds(START);
    rig.world.log_secret().sign(&checkpoint, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_remembers_a_checkpoint_gets_the_proof_that_the_log_goes_on_from_it() {
    // rule: TLOG-6
    let rig = rig().await;
    let verifier = Verifier::new(rig.log.key().clone(), None);
    let before = rig.log.head().checkpoint;
    let empty = ask(&rig, before.note()).await.unwrap();
    assert!(empty.path.is_empty());
    let (_, opened) = rig.opened(|_| {}).await;
    rig.wraps(&opened, &named("a"), 2).await;
    let answer = ask(&rig, before.note()).await.unwrap();
    let continued = verify_continuation(&verifier, before.checkpoint(), &answer).unwrap();
    assert_eq!(continued.checkpoint, rig.log.head().checkpoint);
    // Anybody may ask, and leaves nothing behind.
    assert_eq!(rig.log.head().checkpoint, continued.checkpoint);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sizes_of_the_shard_are_proven_beside_a_checkpoint_and_none_that_it_does_not_have() {
    // rule: TLOG-6
    let rig = rig().await;
    let verifier = Verifier::new(rig.log.key().clone(), None);
    let (_, opened) = rig.opened(|_| {}).await;
    let mut seen = Vec::new();
    for name in ["a", "b", "c", "d"] {
        seen.push(rig.log.head().checkpoint);
        rig.wraps(&opened, &named(name), 1).await;
    }
    let (last, others) = seen.split_last().unwrap();
    let others: Vec<_> = others.iter().map(SignedCheckpoint::checkpoint).collect();
    let sizes: Vec<u64> = others.iter().map(|other| other.size).collect();
    let asked = |others| ConsistencyBody {
        checkpoint: last.note().to_owned(),
        others: Some(others),
    };
    let answer = ask_with(&rig, &asked(sizes.clone())).await.unwrap();
    let led = verify_continuations(&verifier, last.checkpoint(), &others, &answer).unwrap();
    assert!(led.others);
    assert_eq!(led.checkpoint, rig.log.head().checkpoint);
    let beyond = led.checkpoint.checkpoint().size + 1;
    let refused = ask_with(&rig, &asked(vec![sizes[0], beyond])).await;
    assert_eq!(refused.unwrap_err().refusal, Refusal::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_the_log_signed_and_does_not_hold_raises_one_alarm_a_minute() {
    // rule: TLOG-6
    let rig = rig().await;
    let size = rig.log.head().entries;
    for signed in [elsewhere(&rig, size - 1), elsewhere(&rig, size + 1_000)] {
        let notice = ask(&rig, signed.note()).await.unwrap_err();
        assert_eq!((notice.refusal, notice.detail), (Refusal::Rollback, None));
    }
    let [alarm] = alarms(&rig, Alarm::LogRollback).try_into().unwrap();
    assert_eq!(alarm.seen.as_ref().map(|seen| seen.size), Some(size - 1));
    assert_eq!(alarm.log.as_ref().map(|ours| ours.size), Some(size));
    rig.service.each_minute().await;
    assert!(ask(&rig, elsewhere(&rig, 1).note()).await.is_err());
    assert_eq!(alarms(&rig, Alarm::LogRollback).len(), 2);
    // It is the caller's word: the server goes on.
    rig.opened(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_a_checkpoint_that_nobody_signed_raises_no_alarm() {
    // rule: TLOG-6
    let rig = rig().await;
    let ours = rig.log.head().checkpoint;
    let other = LogSecret::from_seeds(ours.checkpoint().shard.origin.clone(), &[8; 32], &[9; 32]);
    let checkpoint = Checkpoint {
        size: 1_000,
        ..ours.checkpoint().clone()
    };
    let forged = other
        .unwrap()
        .sign(&checkpoint, Timestamp::from_seconds(START));
    let unsigned = format!("{}\n\u{2014} x AAAAAAAA\n", checkpoint.text());
    let broker = rig.world.issuer.checkpoint(0);
    for (note, expected) in [
        (forged.note(), Refusal::NotFound),
        (unsigned.as_str(), Refusal::NotFound),
        (broker.note(), Refusal::NotFound),
        ("no note", Refusal::Malformed),
    ] {
        assert_eq!(refusal(ask(&rig, note).await), expected, "{note}");
    }
    assert!(alarms(&rig, Alarm::LogRollback).is_empty());
}

async fn show(rig: &Rig) -> LogView {
    rig.administer_by(&LogShow {}, &[&operator()])
        .await
        .unwrap()
}

fn recover(checkpoint: &Checkpoint) -> LogRecover {
    LogRecover {
        shard: checkpoint.shard.to_string(),
        size: checkpoint.size,
        root: checkpoint.root,
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mode = std::fs::metadata(from).unwrap().permissions();
    std::fs::set_permissions(to, mode).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Completes when a witness has cosigned everything.
async fn cosigned(rig: &Rig) {
    let newest = rig.log.head().checkpoint;
    let mut cosigned = rig.log.cosigned();
    let all = cosigned.wait_for(|cosigned| {
        cosigned
            .as_ref()
            .is_some_and(|cosigned| cosigned.checkpoint() == newest.checkpoint())
    });
    let all = tokio::time::timeout(Duration::from_secs(20), all).await;
    all.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_rolled_back_serves_nothing_until_a_quorum_says_where_it_goes_on() {
    // rule: TLOG-10
    let mut world = World::new();
    let seer_dir = world.dir.path().join("seer");
    let key = world.log_secret().key().clone();
    let seer = Seer::start(&seer_dir, &key).await;
    world.witnesses = vec![("w1".to_owned(), seer.endpoint.clone())];
    let (audit, copied) = (
        world.dir.path().join("audit"),
        world.dir.path().join("audit-copy"),
    );
    let mut rig = world.start().await;
    rig.dataset = Some(rig.administer(&wanted("faces")).await.unwrap());
    rig.service.close().await;
    copy(&audit, &copied);
    let rig = rig.restart().await;
    let submitter = Submitter::start(&rig.log, vec![seer.endpoint.clone()]).unwrap();
    let (job, opened) = rig.opened(|_| {}).await;
    rig.wraps(&opened, &named("a"), 1).await;
    cosigned(&rig).await;
    let lost = rig.log.head().checkpoint;
    drop(submitter);
    rig.service.close().await;
    std::fs::remove_dir_all(&audit).unwrap();
    std::fs::rename(&copied, &audit).unwrap();
    let rig = rig.restart().await;
    // Nothing is appended to it, nor is the alarm; the hook and the metric tell at once.
    assert!(alarms(&rig, Alarm::LogRollback).is_empty());
    assert_eq!(rig.service.metrics.alarms(Alarm::LogRollback), 1);
    let kinds = |rig: &Rig| {
        let entries = rig.entries().into_iter();
        let entries = entries.map(|entry| entry.kind);
        entries.filter(|kind| *kind != Kind::Statement).count()
    };
    let appended = kinds(&rig);
    let nothing = |rig: Rig, job| async move {
        let presented = rig.present(&rig.connect(1), &job).await;
        assert_eq!(refusal(presented.map(drop)), Refusal::Rollback);
        // rule: TLOG-6 — what it asks of the log itself is answered: a refusal would look like a fork.
        assert_eq!(refusal(ask(&rig, "whatever").await), Refusal::Malformed);
        let entry = EntryShow { index: 0 };
        assert_eq!(refusal(rig.administer(&entry).await), Refusal::Rollback);
        rig.administer(&StatusShow {}).await.unwrap();
        let view = show(&rig).await;
        assert_eq!(view.state, LogState::RolledBack);
        assert!(view.wrong.contains("w1"), "{}", view.wrong);
        (rig, job)
    };
    let (rig, job) = nothing(rig, job).await;
    assert_eq!(show(&rig).await.witnesses[0].state, WitnessState::Ahead);
    // Nor after a restart at which no witness says anything.
    drop(seer);
    let mut rig = rig;
    rig.world.witnesses.clear();
    let (rig, job) = nothing(rig.restart().await, job).await;
    rig.service.each_minute().await;
    assert_eq!(kinds(&rig), appended);
    let seen = show(&rig).await;
    let ours = rig.log.key().verify(&seen.checkpoint).unwrap();
    let ours = ours.checkpoint();
    // One admin, or another place, does not do.
    let alone = rig.administer_by(&recover(ours), &[&manager(0)]).await;
    assert_eq!(refusal(alone), Refusal::Quorum);
    let (mut size, mut root) = (ours.clone(), ours.clone());
    size.size += 1;
    root.root[0] ^= 1;
    for wrong in [&size, &root, lost.checkpoint()] {
        let refused = rig.administer(&recover(wrong)).await;
        assert_eq!(refusal(refused), Refusal::Stale);
    }
    let statement = rig.statement(&recover(ours));
    rig.send_statement(&statement).await.unwrap();
    assert_eq!(show(&rig).await.state, LogState::Good);
    let [alarm] = alarms(&rig, Alarm::LogRollback).try_into().unwrap();
    assert_eq!(alarm.subject.as_deref(), Some("w1"));
    assert_eq!(alarm.seen.as_ref(), Some(lost.checkpoint()));
    let shard = rig.log.head().checkpoint.checkpoint().shard.number;
    assert_eq!(shard, 2);
    let mut opened = rig.entries();
    opened.retain(|entry| entry.kind == Kind::ShardOpened);
    let opened = opened.pop().unwrap();
    let digest = StatementDigest::of(&statement);
    assert_eq!(opened.proof, Some(digest.0));
    assert_eq!(opened.seen.as_ref(), Some(lost.checkpoint()));
    assert_eq!(opened.log.as_ref().map(|log| log.shard.number), Some(1));
    rig.present(&rig.connect(2), &job).await.unwrap();
    // It stays so, also with the witness, which cosigns the new shard.
    let mut rig = rig;
    let seer = Seer::start(&seer_dir, &key).await;
    rig.world.witnesses = vec![("w1".to_owned(), seer.endpoint.clone())];
    let rig = rig.restart().await;
    rig.present(&rig.connect(3), &job).await.unwrap();
    let _submitter = Submitter::start(&rig.log, vec![seer.endpoint.clone()]).unwrap();
    cosigned(&rig).await;
    assert_eq!(alarms(&rig, Alarm::LogRollback).len(), 1);
    // Nothing is wrong, so nothing is to be recovered.
    let newest = rig.log.head().checkpoint;
    let again = rig.administer(&recover(newest.checkpoint())).await;
    assert_eq!(refusal(again), Refusal::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_on_their_way_when_a_witness_shows_more_do_not_leave() {
    // rule: TLOG-10, RED-2
    let mut world = World::new();
    let endpoint = Endpoint::new(
        "http://127.0.0.1:1",
        &witness_secret().vkeys().each_ref().map(ToString::to_string),
    );
    world.witnesses = vec![("w1".to_owned(), endpoint.unwrap())];
    let mut rig = world.start().await;
    rig.dataset = Some(rig.administer(&wanted("faces")).await.unwrap());
    let (_, opened) = rig.opened(|_| {}).await;
    let service = Arc::clone(&rig.service);
    let ours = rig.log.head().checkpoint;
    // Before the second reading of a generate's time: decided and recorded, not released.
    rig.world.clock.before_reading(2, move || {
        let told = Told::Contradicts {
            size: 1_000,
            proof: None,
        };
        let event = service.state.standing.told(0, told, ours.checkpoint());
        assert!(event.is_some());
    });
    let asked = rig.generate(&opened, &[&named("a")], true).await;
    assert_eq!(refusal(asked), Refusal::Rollback);
    // Nothing is appended to such a log; what was put aside follows when it is good again.
    let last = rig.entries().pop().unwrap();
    assert_eq!((last.kind, last.outcome), (Kind::Generate, Ok(())));
    rig.service.each_minute().await;
    assert_eq!(rig.entries().pop().unwrap(), last);
    rig.service.witness_told(0, Told::Fits).await;
    let last = rig.entries().pop().unwrap();
    assert_eq!(
        (last.kind, last.outcome),
        (Kind::Withheld, Err(Refusal::Rollback))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_says_nothing_is_told_of_and_holds_nothing_up() {
    // rule: TLOG-8
    let mut world = World::new();
    let endpoint = Endpoint::new(
        "http://127.0.0.1:1",
        &witness_secret().vkeys().each_ref().map(ToString::to_string),
    );
    world.witnesses = vec![("w1".to_owned(), endpoint.unwrap())];
    let rig = world.start().await;
    for _ in 0..2 {
        rig.service.witness_told(0, Told::Silent).await;
    }
    let [alarm] = alarms(&rig, Alarm::WitnessSilent).try_into().unwrap();
    assert_eq!(alarm.subject.as_deref(), Some("w1"));
    let view = show(&rig).await;
    assert_eq!(view.state, LogState::Good);
    assert_eq!(view.witnesses[0].state, WitnessState::Silent);
    assert_eq!(view.key, *rig.log.key());
    // A claim that nothing proves stands for as long as it is made.
    let claim = Told::Contradicts {
        size: 1_000,
        proof: None,
    };
    rig.service.witness_told(0, claim).await;
    assert_eq!(show(&rig).await.state, LogState::RolledBack);
    assert_eq!(refusal(ask(&rig, "x").await), Refusal::Malformed);
    rig.service.witness_told(0, Told::Fits).await;
    assert_eq!(show(&rig).await.state, LogState::Good);
}
