//! Administer: ADM-1 to ADM-4.

use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{StatementDigest, StatementId};
use ticket_format::keys::{AdminSecret, ProducerSecret, TlsSecret};
use ticket_format::limits;
use ticket_format::seal::Kem;
use ticket_format::statement::datasets::{DatasetList, DatasetRecord, policy_digest};
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::{DatasetPolicySet, DatasetShow, Payload, ProducerAdd, Role};

use crate::rig::{POLICY, REALM, Rig, manager, named, owners, refusal, rig, rng, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_made_shown_and_listed() {
    let rig = rig().await;
    let created = rig.administer(&wanted("voices")).await.unwrap();
    assert_eq!(created.kek_version, 1);
    let view = rig
        .administer(&DatasetShow {
            name: "voices".into(),
        })
        .await
        .unwrap();
    assert_eq!(
        (view.row.dataset, view.kek, view.public_key),
        (created.dataset, created.kek, created.public_key)
    );
    assert_eq!(view.policy, Some(wanted("voices").policy));
    let page = rig
        .administer(&DatasetList {
            after: String::new(),
            rows: 1,
        })
        .await
        .unwrap();
    assert_eq!((page.rows[0].name.as_str(), page.more), ("faces", true));
    let page = rig.administer(&DatasetList::after("faces")).await.unwrap();
    assert_eq!(
        (page.rows.len(), page.rows[0].name.as_str(), page.more),
        (1, "voices", false)
    );
    let status = rig.administer(&StatusShow {}).await.unwrap();
    assert_eq!(
        (status.role, status.datasets, status.lease_ms),
        (Role::KeyServer, 2, Some(5_000))
    );
    assert_eq!(
        refusal(
            rig.administer(&DatasetShow {
                name: "none".into()
            })
            .await
        ),
        Refusal::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_is_recorded_before_it_is_answered() {
    // rule: AUD-1, AUD-2
    let rig = rig().await;
    let statement = rig.statement(&wanted("voices"));
    let (_, receipt) = rig.send_statement(&statement).await.unwrap();
    let entry = Entry::from_cbor(&receipt.entry, limits::ENTRY).unwrap();
    assert_eq!((entry.kind, entry.outcome), (Kind::Statement, Ok(())));
    assert_eq!(entry.proof, Some(StatementDigest::of(&statement).0));
    let mut signers = entry.signers.clone().unwrap();
    assert_eq!(entry.subject, signers.first().cloned());
    signers.sort();
    assert_eq!(signers, ["manager-0", "manager-1"]);
    assert_eq!(rig.entries().pop(), Some(entry));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_counts_once() {
    // rule: ADM-2
    let rig = rig().await;
    let statement = rig.statement(&wanted("voices"));
    rig.send_statement(&statement).await.unwrap();
    let other = rig.statement(&DatasetShow {
        name: "faces".into(),
    });
    rig.send_statement(&other).await.unwrap();
    assert_eq!(
        refusal(rig.send_statement(&statement).await),
        Refusal::StatementReplayed
    );
    // rule: ADM-4 — reading is no exception.
    assert_eq!(
        refusal(rig.send_statement(&other).await),
        Refusal::StatementReplayed
    );
    let alarms = |rig: &Rig| {
        rig.entries()
            .iter()
            .filter(|entry| entry.alarm == Some(Alarm::StatementReplayed))
            .count()
    };
    assert_eq!(alarms(&rig), 2);
    // rule: AUD-1 — a statement that was sent on raises one alarm a minute, however often it is sent.
    for _ in 0..20 {
        let notice = rig.send_statement(&statement).await.unwrap_err();
        assert_eq!(
            (notice.refusal, notice.detail),
            (Refusal::StatementReplayed, None)
        );
    }
    assert_eq!(alarms(&rig), 2);
    rig.service.each_minute().await;
    let counted = rig.entries().pop().unwrap();
    assert_eq!(
        (counted.kind, counted.count),
        (Kind::RefusalsCounted, Some(20))
    );
    assert!(rig.send_statement(&statement).await.is_err());
    assert_eq!(alarms(&rig), 3);
    let rig = rig.restart().await;
    assert_eq!(
        refusal(rig.send_statement(&other).await),
        Refusal::StatementReplayed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_not_for_this_server_now_by_an_admin_is_refused() {
    // rule: ADM-1, ADM-2
    let rig = rig().await;
    let body = wanted("voices");
    let sign = |realm: &str, server, at, admin: &AdminSecret| {
        Payload::act(
            StatementId::random(&mut rng()),
            realm,
            server,
            at,
            600,
            &body,
        )
        .sign(&[admin])
        .unwrap()
    };
    let (server, now, admin) = (rig.world.server(), rig.now(), &manager(0));
    let stranger = AdminSecret::generate(&mut rng());
    let other = TlsSecret::generate(&mut rng()).public();
    let record = DatasetRecord {
        recipients: Default::default(),
        class: Default::default(),
        dataset: rig.dataset().dataset,
        name: "faces".into(),
        tags: Default::default(),
        tls_key: server,
        server_key: rig.world.signing.public(),
        addresses: vec!["ks:1".into()],
        kek: rig.dataset().kek,
        kek_version: 1,
        public_key: rig.dataset().public_key.clone(),
        producers: Vec::new(),
        max_life: 3_600,
        max_budget: 100,
        kems: vec![Kem::XWing],
        owners: owners(&[0, 1]),
        lease: 5,
        evidence: false,
        follows: DatasetRecord::FIRST,
        log_key: rig.dataset().log_key.clone(),
        witnessing: wanted("faces").witnessing,
    };
    let id = StatementId::random(&mut rng());
    let record = Payload::record(id, REALM, now, &record)
        .sign(&[admin, &manager(1)])
        .unwrap();
    let before = rig.entries().len();
    let all = [
        (
            sign(REALM, server, now, &stranger),
            Refusal::StatementSignature,
        ),
        (
            sign("other", server, now, admin),
            Refusal::StatementAudience,
        ),
        (sign(REALM, other, now, admin), Refusal::StatementAudience),
        (
            sign(REALM, server, now.minus(600), admin),
            Refusal::StatementExpired,
        ),
        (
            sign(REALM, server, now.plus(61), admin),
            Refusal::StatementExpired,
        ),
        (record, Refusal::StatementMalformed),
    ];
    for (statement, expected) in &all {
        let notice = rig.send_statement(statement).await.unwrap_err();
        assert_eq!(
            (notice.refusal, notice.detail),
            (*expected, None),
            "whoever brings it is a stranger"
        );
    }
    // rule: AUD-1
    rig.service.each_minute().await;
    let entries = rig.entries();
    assert_eq!(entries.len(), before + 1, "counted, not listed");
    assert_eq!(entries[before].count, Some(all.len() as u64));
    let mut bent = sign(REALM, server, now, admin);
    *bent.last_mut().unwrap() ^= 1;
    assert_eq!(
        refusal(rig.send_statement(&bent).await),
        Refusal::StatementSignature
    );
    assert_eq!(rig.service.state.datasets.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_does_not_hold_is_refused_with_the_reason() {
    let rig = rig().await;
    let mut faulty = wanted("voices");
    faulty.policy =
        "@id(\"x\") permit (principal, action, resource) when { principal.acount == \"1\" };"
            .into();
    let notice = rig.administer(&faulty).await.unwrap_err();
    assert_eq!(notice.refusal, Refusal::Invalid);
    assert!(notice.detail.unwrap().contains("line 1"));
    let mut empty = wanted("voices");
    empty.max_budget = 0;
    assert_eq!(refusal(rig.administer(&empty).await), Refusal::Invalid);
    assert_eq!(
        refusal(rig.administer(&wanted("a b")).await),
        Refusal::Invalid
    );
    assert_eq!(
        refusal(rig.administer(&wanted("faces")).await),
        Refusal::Exists
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_decides_the_next_request() {
    // rule: PRE-3
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    assert!(rig.generate(&opened, &[&named("a")], true).await.is_ok());
    let text = "@id(\"none\") forbid (principal, action, resource);".to_owned();
    rig.administer(&DatasetPolicySet {
        name: "faces".into(),
        text,
        replaces: policy_digest(POLICY),
    })
    .await
    .unwrap();
    assert_eq!(
        refusal(rig.generate(&opened, &[&named("a")], true).await),
        Refusal::Policy
    );
    let rig = rig.restart().await;
    let view = rig
        .administer(&DatasetShow {
            name: "faces".into(),
        })
        .await
        .unwrap();
    assert!(view.policy.unwrap().contains("none"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_registered_once() {
    let rig = rig().await;
    let producer = ProducerSecret::generate(&mut rng()).public();
    let add = ProducerAdd {
        name: "faces".into(),
        producer,
    };
    assert_eq!(rig.administer(&add).await.unwrap().producer, producer.id());
    assert_eq!(refusal(rig.administer(&add).await), Refusal::Invalid);
    let rig = rig.restart().await;
    let view = rig
        .administer(&DatasetShow {
            name: "faces".into(),
        })
        .await
        .unwrap();
    assert_eq!(view.producers, [producer]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_refusal_of_an_admin_again_is_counted() {
    // rule: AUD-1
    let rig = rig().await;
    let faulty = rig.statement(&wanted("a b"));
    let before = rig.entries().len();
    for _ in 0..20 {
        let notice = rig.send_statement(&faulty).await.unwrap_err();
        assert_eq!(notice.refusal, Refusal::Invalid);
        assert!(notice.detail.is_some());
    }
    assert_eq!(rig.entries().len(), before + 1);
    rig.service.each_minute().await;
    let counted = rig.entries().pop().unwrap();
    assert_eq!(
        (counted.kind, counted.count),
        (Kind::RefusalsCounted, Some(19))
    );
    assert!(counted.subject.unwrap().starts_with("manager-"));
}
