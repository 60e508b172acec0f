//! Receipts: without that of its issue a ticket opens nothing (PRE-5), and every answer brings one that
//! proves its entry (TLOG-5).

use ticket_format::Refusal;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::TicketHash;
use ticket_format::messages::Receipt;
use ticket_format::statement::{EntryShow, StatusShow};
use ticket_format::tlog::{Proof, Verifier, proof};

use crate::issuer::Issuer;
use crate::job::Job;
use crate::rig::{Rig, broker_identity, named, refusal, rig};

fn unlogged(rig: &Rig) -> Vec<Entry> {
    let mut entries = rig.entries();
    entries.retain(|entry| entry.alarm == Some(Alarm::UnloggedTicket));
    entries
}

/// Refuses with 47, and raises one alarm.
async fn refused(rig: &Rig, job: &mut Job, receipt: Option<Receipt>, what: &str) {
    job.receipt = receipt;
    rig.service.each_minute().await;
    let before = unlogged(rig).len();
    for connection in [1, 2] {
        let connection = rig.connect(connection);
        let notice = rig.present(&connection, job).await.map(drop).unwrap_err();
        assert_eq!(notice.refusal, Refusal::Receipt, "{what}");
        assert!(connection.is_empty(), "{what}");
    }
    let alarms = unlogged(rig);
    assert_eq!(alarms.len(), before + 1, "{what}");
    let alarm = alarms.last().unwrap();
    assert_eq!(alarm.ticket, Some(job.claims.common.id), "{what}");
    assert_eq!(alarm.dataset, Some(job.claims.dataset), "{what}");
}

/// A proof, taken apart and put together again.
fn bent(receipt: &Receipt, bend: impl FnOnce(&mut Proof)) -> Receipt {
    let mut proof: Proof = receipt.proof.parse().unwrap();
    bend(&mut proof);
    Receipt {
        entry: receipt.entry.clone(),
        proof: proof.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_without_the_receipt_of_its_own_issue_opens_nothing() {
    // rule: PRE-5
    let rig = rig().await;
    let mut job = rig.job(|_| {});
    let good = job.receipt.clone().unwrap();
    refused(&rig, &mut job, None, "no receipt").await;
    let other = rig.job(|_| {}).receipt;
    refused(&rig, &mut job, other, "another ticket's").await;
    let issuer = &rig.world.issuer;
    let (ticket, claims) = (job.ticket.clone(), job.claims.clone());
    let entry = || Issuer::entry(&ticket, &claims);
    let entries = [
        ("refused", entry().refused(Refusal::Policy)),
        ("of another hash", {
            let mut other = entry();
            other.ticket_hash = Some(TicketHash::of(&rig.job(|_| {}).ticket));
            other
        }),
        ("of another id", {
            let mut other = entry();
            other.ticket = Some(rig.job(|_| {}).claims.common.id);
            other
        }),
        ("of another dataset", {
            let mut other = entry();
            other.dataset = None;
            other
        }),
        ("of another kind", {
            let mut other = entry();
            other.kind = Kind::Renew;
            other
        }),
    ];
    for (what, entry) in entries {
        let receipt = issuer.record(&entry);
        refused(&rig, &mut job, Some(receipt), what).await;
    }
    let forger = Issuer::signed_by(&broker_identity(), 0x77);
    let forged = forger.issue(&ticket, &claims);
    refused(&rig, &mut job, Some(forged), "another log's keys").await;
    let without = |line: usize| {
        bent(&good, |proof| {
            let (body, lines) = proof.checkpoint.split_once("\n\n").unwrap();
            let kept = lines.split_inclusive('\n').enumerate();
            let kept: String = kept
                .filter(|(number, _)| *number != line)
                .map(|(_, line)| line)
                .collect();
            proof.checkpoint = format!("{body}\n\n{kept}");
        })
    };
    refused(&rig, &mut job, Some(without(0)), "no Ed25519").await;
    refused(&rig, &mut job, Some(without(1)), "no ML-DSA-44").await;
    // An issue that stands in no log, under a genuine checkpoint.
    let newest = issuer.checkpoint(issuer.size());
    let unlogged = Receipt {
        entry: good.entry.clone(),
        proof: proof::text(issuer.size() as u64 - 1, &[], newest.note()),
    };
    refused(&rig, &mut job, Some(unlogged), "no path").await;
    let fresh = issuer.issue(&ticket, &claims);
    let path = |proof: &mut Proof| proof.path[0][0] ^= 1;
    refused(&rig, &mut job, Some(bent(&fresh, path)), "forged path").await;
    let mut entry = fresh.clone();
    *entry.entry.last_mut().unwrap() ^= 1;
    refused(&rig, &mut job, Some(entry), "bent entry").await;
    for receipt in [fresh, good] {
        job.receipt = Some(receipt);
        assert!(rig.present(&rig.connect(9), &job).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_without_the_tickets_key_raises_no_alarm_about_its_receipt() {
    // rule: PRE-5, PRE-1
    let rig = rig().await;
    let mut job = rig.job(|_| {});
    job.receipt = None;
    job.proof = rig.job(|_| {}).proof;
    let presented = rig.present(&rig.connect(1), &job).await;
    assert_eq!(refusal(presented.map(drop)), Refusal::Possession);
    assert!(unlogged(&rig).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_brings_a_receipt_that_the_logs_keys_bear_out() {
    // rule: RED-6, TLOG-3, TLOG-5
    let rig = rig().await;
    let verifier = Verifier::new(rig.log.key().clone(), None);
    let (_, opened) = rig.opened(|_| {}).await;
    let made = rig.generate(&opened, &[&named("a")], true).await.unwrap();
    let logged = verifier.verify(&made.clear.receipt).unwrap();
    assert_eq!(logged.entry, made.entry);
    // What its checkpoint covers was durable before.
    let newest = rig.log.head();
    assert!(logged.checkpoint.checkpoint().size <= newest.entries);
    let statement = rig.statement(&StatusShow {});
    let (_, receipt) = rig.send_statement(&statement).await.unwrap();
    assert_eq!(
        verifier.verify(&receipt).unwrap().entry.kind,
        Kind::Statement
    );
    // An entry that is shown has one under the newest checkpoint.
    let shown = EntryShow {
        index: logged.index,
    };
    let view = rig.administer(&shown).await.unwrap();
    let again = verifier.verify(&view.receipt).unwrap();
    assert_eq!((again.index, again.entry), (logged.index, logged.entry));
    assert!(again.checkpoint.checkpoint().size > logged.checkpoint.checkpoint().size);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_of_the_brokers_log_outlives_a_restart() {
    // rule: TLOG-7
    let rig = rig().await;
    rig.opened(|_| {}).await;
    let seen = rig.world.issuer.checkpoint(rig.world.issuer.size());
    let rig = rig.restart().await;
    let asked = rig.service.state.broker_log.ask();
    let [known] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!(&known.checkpoint, seen.checkpoint());
    let verified = rig.world.issuer.secret.key().verify(&known.note);
    assert_eq!(verified.unwrap().checkpoint(), seen.checkpoint());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_receipts_of_one_size_and_different_roots_end_the_trust_in_the_broker() {
    // rule: TLOG-7
    let rig = rig().await;
    let fork = rig.world.issuer.fork();
    let (first, mut second) = (rig.job(|_| {}), rig.job(|_| {}));
    second.receipt = Some(fork.issue(&second.ticket, &second.claims));
    let opened = rig.present(&rig.connect(1), &first).await.unwrap();
    let shown = rig.present(&rig.connect(2), &second).await;
    assert_eq!(refusal(shown.map(drop)), Refusal::Receipt);
    let alarms = |rig: &Rig| {
        let mut entries = rig.entries();
        entries.retain(|entry| entry.kind == Kind::Alarm);
        entries
    };
    let [alarm] = alarms(&rig).try_into().unwrap();
    assert_eq!(alarm.alarm, Some(Alarm::LogFork));
    let (ours, theirs) = (alarm.log.unwrap(), alarm.seen.unwrap());
    assert_eq!((ours.size, theirs.size), (1, 1));
    assert_ne!(ours.root, theirs.root);
    // What was presented goes on; nothing else is taken, also after a restart.
    assert!(rig.generate(&opened, &[&named("a")], true).await.is_ok());
    let again = rig.present(&rig.connect(3), &first).await;
    assert_eq!(refusal(again.map(drop)), Refusal::Receipt);
    let rig = rig.restart().await;
    let again = rig.present(&rig.connect(3), &first).await;
    assert_eq!(refusal(again.map(drop)), Refusal::Receipt);
    assert_eq!(alarms(&rig).len(), 1, "nobody came without a receipt");
}
