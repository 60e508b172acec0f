//! Administer: ADM-1 to ADM-4.

use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{StatementDigest, StatementId};
use ticket_format::keys::{AdminSecret, ProducerSecret, TlsSecret};
use ticket_format::limits;
use ticket_format::statement::datasets::DatasetList;
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::{DatasetPolicySet, DatasetShow, Payload, ProducerAdd, Role};

use crate::rig::{REALM, named, refusal, rig, rng, wanted};

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
    assert_eq!(entry.subject, Some(rig.world.admin.public().to_string()));
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
    let entry = rig.entries().pop().unwrap();
    assert_eq!(
        (entry.kind, entry.alarm),
        (Kind::Alarm, Some(Alarm::StatementReplayed))
    );
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
    let (server, now, admin) = (rig.world.server(), rig.now(), &rig.world.admin);
    let stranger = AdminSecret::generate(&mut rng());
    let other = TlsSecret::generate(&mut rng()).public();
    for (statement, expected, detailed) in [
        (
            sign(REALM, server, now, &stranger),
            Refusal::StatementSignature,
            false,
        ),
        (
            sign("other", server, now, admin),
            Refusal::StatementAudience,
            true,
        ),
        (
            sign(REALM, other, now, admin),
            Refusal::StatementAudience,
            true,
        ),
        (
            sign(REALM, server, now.minus(600), admin),
            Refusal::StatementExpired,
            true,
        ),
        (
            sign(REALM, server, now.plus(61), admin),
            Refusal::StatementExpired,
            true,
        ),
    ] {
        let notice = rig.send_statement(&statement).await.unwrap_err();
        assert_eq!(
            (notice.refusal, notice.detail.is_some()),
            (expected, detailed)
        );
    }
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
