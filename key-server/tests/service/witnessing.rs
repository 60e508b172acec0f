//! Datasets whose keys wait for witnesses (TLOG-8).

use std::time::Duration;

use audit_log::witness::{Endpoint, Submitter};
use ticket_format::Refusal;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::statement::{DatasetSet, DatasetShow, WitnessMode, Witnessing};
use ticket_format::tlog::{Verifier, WitnessPolicy};

use crate::job::Job;
use crate::logs::{Seer, witness_secret};
use crate::rig::{Rig, World, named, refusal, rig, wanted};

fn policy() -> String {
    let secret = witness_secret();
    let [_, ml_dsa] = secret.vkeys();
    format!("witness w1 {ml_dsa}\nquorum w1\n")
}

fn require() -> Witnessing {
    Witnessing {
        mode: WitnessMode::Require,
        policy: policy(),
    }
}

fn options(witnessing: Witnessing) -> DatasetSet {
    let usual = wanted("faces");
    DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: usual.name,
        max_budget: usual.max_budget,
        max_life: usual.max_life,
        kems: usual.kems,
        lease: usual.lease,
        evidence: usual.evidence,
        canary: usual.canary,
        witnessing,
    }
}

/// A server with a dataset that requires a witness.
async fn requiring() -> Rig {
    let mut rig = World::new().start().await;
    let mut wanted = wanted("faces");
    wanted.witnessing = require();
    rig.dataset = Some(rig.administer(&wanted).await.unwrap());
    rig
}

/// A job whose issue the witness cosigned.
fn witnessed_job(rig: &Rig) -> Job {
    let mut job = rig.job(|_| {});
    let (issuer, witness) = (&rig.world.issuer, witness_secret());
    job.receipt = Some(issuer.issue_witnessed(&job.ticket, &job.claims, &witness));
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witnessing_that_does_not_hold_is_refused() {
    // rule: TLOG-8
    let rig = rig().await;
    let vkey = witness_secret().vkeys()[0].to_string();
    let log = rig.log.key().vkeys()[0].to_string();
    let wrong = [
        (WitnessMode::None, policy()),
        (WitnessMode::Require, String::new()),
        (WitnessMode::Require, "quorum none\n".to_owned()),
        (WitnessMode::Watch, "quorum w9\n".to_owned()),
        (
            WitnessMode::Watch,
            format!("witness w1 {vkey}\nlog {log}\nquorum w1\n"),
        ),
    ];
    for (mode, policy) in wrong {
        let witnessing = Witnessing { mode, policy };
        let mut create = wanted("voices");
        create.witnessing = witnessing.clone();
        assert_eq!(refusal(rig.administer(&create).await), Refusal::Invalid);
        let set = options(witnessing);
        assert_eq!(refusal(rig.administer(&set).await), Refusal::Invalid);
    }
    let view = rig.administer(&options(require())).await.unwrap();
    assert_eq!(view.witnessing, require());
    let rig = rig.restart().await;
    let name = "faces".to_owned();
    let view = rig.administer(&DatasetShow { name }).await.unwrap();
    assert_eq!(
        (view.witnessing, view.log_key),
        (require(), rig.log.key().clone())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_wait_for_the_witness_and_their_receipt_carries_its_cosignature() {
    // rule: TLOG-8, RED-6
    let rig = requiring().await;
    let dir = rig.world.dir.path().join("seer");
    let seer = Seer::start(&dir, rig.log.key()).await;
    let submitter = Submitter::start(&rig.log, vec![seer.endpoint.clone()]).unwrap();
    let job = witnessed_job(&rig);
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let context = named("a");
    let made = rig.generate(&opened, &[&context], true).await.unwrap();
    let policy: WitnessPolicy = policy().parse().unwrap();
    let strict = Verifier::new(rig.log.key().clone(), Some(policy));
    let logged = strict.verify(&made.clear.receipt).unwrap();
    assert_eq!(logged.entry, made.entry);
    let wraps = made.clear.wraps.unwrap();
    let wrap = wraps[0].as_deref().unwrap();
    let got = rig.redeem(&opened, &[(wrap, &context)]).await.unwrap();
    assert!(strict.verify(&got.clear.receipt).is_ok());
    let moved = rig
        .rewrap(&opened, &[(wrap, &context, None)])
        .await
        .unwrap();
    assert!(strict.verify(&moved.clear.receipt).is_ok());
    drop(submitter);
    // Nobody submits any more: nothing leaves, and the record says so.
    let asked = rig.redeem(&opened, &[(wrap, &context)]).await;
    assert_eq!(refusal(asked.map(drop)), Refusal::Unwitnessed);
    let [.., redeemed, withheld] = rig.entries().try_into().unwrap_or_else(last_two);
    assert_eq!((redeemed.kind, redeemed.outcome), (Kind::Redeem, Ok(())));
    assert_eq!(withheld.kind, Kind::Withheld);
    assert_eq!(withheld.outcome, Err(Refusal::Unwitnessed));
    assert_eq!(withheld.follows, Some(redeemed.act));
}

fn last_two(entries: Vec<ticket_format::entry::Entry>) -> [ticket_format::entry::Entry; 2] {
    let at = entries.len() - 2;
    entries[at..].to_vec().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_witness_that_does_not_answer_holds_up_no_denial() {
    // rule: TLOG-8, DEN-5
    let rig = requiring().await;
    let vkeys = witness_secret().vkeys().each_ref().map(ToString::to_string);
    // A port that takes connections and never answers.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", deaf.local_addr().unwrap());
    let endpoint = Endpoint::new(&url, &vkeys).unwrap();
    let _submitter = Submitter::start(&rig.log, vec![endpoint]).unwrap();
    let job = witnessed_job(&rig);
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let context = named("a");
    let contexts = [&context];
    let asked = rig.generate(&opened, &contexts, true);
    let deny = async {
        while rig.entries().last().unwrap().kind != Kind::Generate {
            tokio::task::yield_now().await;
        }
        let begun = std::time::Instant::now();
        rig.deny(Selector::node(job.claims.common.node().clone()))
            .await;
        begun.elapsed()
    };
    let begun = std::time::Instant::now();
    let (asked, denied) = tokio::join!(asked, deny);
    assert_eq!(refusal(asked.map(drop)), Refusal::Unwitnessed);
    assert!(denied < Duration::from_secs(3), "{denied:?}");
    assert!(begun.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_whose_issue_was_not_witnessed_opens_no_dataset_that_requires_it() {
    // rule: PRE-5, TLOG-8
    let rig = requiring().await;
    let job = rig.job(|_| {});
    let presented = rig.present(&rig.connect(1), &job).await;
    assert_eq!(refusal(presented.map(drop)), Refusal::Receipt);
    let alarms = rig.entries().into_iter();
    let alarms = alarms.filter(|entry| entry.alarm == Some(Alarm::UnloggedTicket));
    assert_eq!(alarms.count(), 1);
    let job = witnessed_job(&rig);
    assert!(rig.present(&rig.connect(2), &job).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_presented_before_witnesses_were_required_is_presented_again() {
    // rule: PRE-5, RED-2, TLOG-8
    let rig = rig().await;
    let job = rig.job(|_| {});
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let context = named("a");
    assert_eq!(rig.wraps(&opened, &context, 1).await.len(), 1);
    // Who only watches waits for nobody.
    let watch = Witnessing {
        mode: WitnessMode::Watch,
        policy: policy(),
    };
    rig.administer(&options(watch)).await.unwrap();
    assert_eq!(rig.wraps(&opened, &context, 1).await.len(), 1);
    rig.administer(&options(require())).await.unwrap();
    let asked = rig.generate(&opened, &[&context], true).await;
    assert_eq!(refusal(asked), Refusal::HandleUnknown);
    let again = rig.present(&rig.connect(2), &job).await;
    assert_eq!(refusal(again.map(drop)), Refusal::Receipt);
}
