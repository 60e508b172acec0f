//! Administer (`spec/protocol.md`, section 9), audit and time (section 10).
#![allow(missing_docs)]

mod support;

use support::*;
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Members, Selector};
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{DatasetId, LaunchId, StatementId, TicketId};
use ticket_format::keys::{AdminSecret, LaunchSecret, TlsSecret};
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::statement::policies::PolicyShow;
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::*;

fn payload<B: ActBody>(world: &World, body: &B) -> Payload {
    world.payload(body)
}

#[tokio::test]
async fn a_statement_counts_once_for_its_server_in_its_time_by_its_admin() {
    // rule: ADM-1, ADM-2
    let mut world = World::new().await;
    let status = StatusShow {};
    let good = payload(&world, &status)
        .sign(&[&world.admins.operator])
        .unwrap();
    world.send_statement::<StatusShow>(&good).await.unwrap();
    for _ in 0..2 {
        assert_eq!(
            refusal(world.send_statement::<StatusShow>(&good).await),
            Refusal::StatementReplayed
        );
        world.restart().await;
    }
    assert_eq!(
        world.alarms(),
        [Alarm::StatementReplayed, Alarm::StatementReplayed]
    );
    let stranger = AdminSecret::generate(&mut rng());
    let other = TlsSecret::generate(&mut rng()).public();
    let realm = Payload {
        realm: "elsewhere".to_owned(),
        ..payload(&world, &status)
    };
    let server = Payload::act(
        StatementId::random(&mut rng()),
        REALM,
        other,
        world.now(),
        3_600,
        &status,
    );
    let cases = [
        (
            payload(&world, &status).sign(&[&stranger]).unwrap(),
            Refusal::StatementSignature,
        ),
        (
            payload(&world, &status)
                .sign(&[&world.admins.operator, &stranger])
                .unwrap(),
            Refusal::StatementSignature,
        ),
        (
            realm.sign(&[&world.admins.operator]).unwrap(),
            Refusal::StatementAudience,
        ),
        (
            server.sign(&[&world.admins.operator]).unwrap(),
            Refusal::StatementAudience,
        ),
        (vec![0xa0], Refusal::StatementMalformed),
    ];
    for (statement, expected) in cases {
        assert_eq!(
            refusal(world.send_statement::<StatusShow>(&statement).await),
            expected
        );
    }
    let late = payload(&world, &status)
        .sign(&[&world.admins.operator])
        .unwrap();
    world.clock.advance(3_600);
    assert_eq!(
        refusal(world.send_statement::<StatusShow>(&late).await),
        Refusal::StatementExpired
    );
    let body = payload(&world, &status)
        .sign(&[&world.admins.operator])
        .unwrap();
    let mut changed = body.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(
        refusal(world.send_statement::<StatusShow>(&changed).await),
        Refusal::StatementSignature
    );
}

#[tokio::test]
async fn a_used_id_is_remembered_until_its_statement_expires() {
    // rule: ADM-2
    let world = World::new().await;
    let payload = payload(&world, &StatusShow {});
    let statement = payload.sign(&[&world.admins.operator]).unwrap();
    world
        .send_statement::<StatusShow>(&statement)
        .await
        .unwrap();
    world.clock.advance(3_599);
    world.broker().tick().await.unwrap();
    assert_eq!(
        refusal(world.send_statement::<StatusShow>(&statement).await),
        Refusal::StatementReplayed
    );
    world.clock.advance(1);
    world.broker().tick().await.unwrap();
    assert_eq!(
        refusal(world.send_statement::<StatusShow>(&statement).await),
        Refusal::StatementExpired
    );
    // A clock that is set back within the skew would let it in again.
    let key = broker::state::keys::statement(payload.id);
    world.clock.advance(limits::SKEW - 1);
    world.broker().tick().await.unwrap();
    assert!(world.has(&key).await);
    world.clock.advance(1);
    world.broker().tick().await.unwrap();
    assert!(!world.has(&key).await);
}

#[tokio::test]
async fn of_parallel_copies_of_a_statement_one_is_done() {
    // rule: ADM-2
    let world = std::sync::Arc::new(World::new().await);
    let body = DenyBody {
        selector: Selector::ticket(TicketId([1; 16])),
        reason: String::new(),
    };
    let statement = payload(&world, &body)
        .sign(&[&world.admins.operator])
        .unwrap();
    let copies: Vec<_> = (0..20)
        .map(|_| {
            let (world, statement) = (world.clone(), statement.clone());
            tokio::spawn(
                async move { world.send_statement::<DenyBody>(&statement).await.map(drop) },
            )
        })
        .collect();
    let mut done = 0;
    for copy in copies {
        match copy.await.unwrap() {
            Ok(()) => done += 1,
            Err(notice) => assert_eq!(notice.refusal, Refusal::StatementReplayed),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(
        world
            .act(&DenyList { after: 0, rows: 10 })
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
}

#[tokio::test]
async fn a_launch_that_does_not_hold_is_refused_with_the_reason() {
    // rule: LOG-9, SIG-4
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let terms = || LaunchCreate {
        launch: LaunchId::random(&mut rng()),
        key: LaunchSecret::generate(&mut rng()).public(),
        accounts: vec![SYDNEY.account.to_owned()],
        regions: Vec::new(),
        images: Vec::new(),
        uses: 1,
        group: false,
        from: world.now(),
        until: world.now().plus(60),
        max_age: 900,
        node_life: 3_600,
        comment: String::new(),
    };
    let cases: [(LaunchCreate, Refusal); 5] = [
        (
            LaunchCreate {
                launch: launch.id,
                ..terms()
            },
            Refusal::Exists,
        ),
        (LaunchCreate { uses: 2, ..terms() }, Refusal::Invalid),
        (
            LaunchCreate {
                until: world.now(),
                from: world.now().minus(60),
                ..terms()
            },
            Refusal::Invalid,
        ),
        (
            LaunchCreate {
                accounts: vec!["12345678901x".to_owned()],
                ..terms()
            },
            Refusal::Invalid,
        ),
        (
            LaunchCreate {
                key: launch.secret.public(),
                ..terms()
            },
            Refusal::KeyReused,
        ),
    ];
    for (body, expected) in cases {
        let refused = world.record(&body).await.map(drop).unwrap_err();
        assert_eq!(refused.refusal, expected);
        assert!(refused.detail.is_some());
    }
    let view = world.act(&LaunchShow { launch: launch.id }).await.unwrap();
    assert_eq!(view.digest, launch.digest);
    assert_eq!(
        refusal(
            world
                .act(&LaunchShow {
                    launch: LaunchId([0; 16])
                })
                .await
        ),
        Refusal::NotFound
    );
}

#[tokio::test]
async fn lists_come_in_pages() {
    // rule: ADM-4
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(world.launch(&SYDNEY, |_| {}).await.id);
    }
    made.sort();
    let mut listed = Vec::new();
    let mut ask = LaunchList {
        rows: 2,
        ..LaunchList::first()
    };
    loop {
        let page = world.act(&ask).await.unwrap();
        listed.extend(page.rows.iter().map(|row| row.launch.launch));
        if !page.more {
            break;
        }
        ask = LaunchList {
            after: listed.last().unwrap().to_string(),
            rows: 2,
        };
    }
    assert_eq!(listed, made);
    for instance in [&SYDNEY, &SEOUL] {
        let launch = world.launch(instance, |_| {}).await;
        Node::boot(instance).login(&world, &launch).await.unwrap();
    }
    let first = world
        .act(&NodeList {
            rows: 1,
            ..NodeList::first()
        })
        .await
        .unwrap();
    assert!(first.more);
    let rest = world
        .act(&NodeList::after(first.rows[0].attributes.node.to_string()))
        .await
        .unwrap();
    assert!(!rest.more);
    assert_eq!(
        [
            first.rows[0].attributes.node.clone(),
            rest.rows[0].attributes.node.clone()
        ],
        [SYDNEY.node(), SEOUL.node()]
    );
    world.dataset().await;
    assert_eq!(
        world.act(&DatasetList::first()).await.unwrap().rows[0].name,
        "faces"
    );
    let status = world.act(&StatusShow {}).await.unwrap();
    assert_eq!((status.datasets, status.holders, status.epoch), (1, 2, 0));
}

#[tokio::test]
async fn a_policy_is_validated_before_it_is_accepted_and_kept_over_a_restart() {
    let mut world = World::new().await;
    let bad = world
        .set_policy("@id(\"x\")\npermit (principal, action, resorce);")
        .await
        .unwrap_err();
    assert_eq!(bad.refusal, Refusal::Invalid);
    assert!(bad.detail.unwrap().contains("line 2, column"));
    assert_eq!(world.act(&PolicyShow {}).await.unwrap().text, "");
    // As long as a policy may be: its statement takes two records.
    let rule = "@id(\"all\") permit (principal, action, resource);";
    let text = format!("{rule}\n//{}", "x".repeat(limits::POLICY - rule.len() - 3));
    let set = world.set_policy(&text).await.unwrap();
    let short = world.set_policy(rule).await.unwrap();
    assert_ne!(set.digest, short.digest);
    world.set_policy(&text).await.unwrap();
    for _ in 0..2 {
        let shown = world.act(&PolicyShow {}).await.unwrap();
        assert_eq!((shown.text == text, shown.digest), (true, set.digest));
        world.restart().await;
    }
}

#[tokio::test]
async fn a_dataset_record_that_does_not_hold_is_refused() {
    // rule: SIG-4, SIG-5, ADM-3
    let world = World::new().await;
    let record = world.dataset_record();
    let first = world.record(&record).await;
    first.unwrap();
    let cases: [(DatasetRecord, Refusal); 8] = [
        (
            DatasetRecord {
                dataset: DatasetId([1; 16]),
                ..record.clone()
            },
            Refusal::Exists,
        ),
        (
            DatasetRecord {
                name: "other".to_owned(),
                ..record.clone()
            },
            Refusal::Invalid,
        ),
        (
            DatasetRecord {
                kek_version: 0,
                ..record.clone()
            },
            Refusal::Invalid,
        ),
        (
            DatasetRecord {
                max_life: 0,
                ..record.clone()
            },
            Refusal::Invalid,
        ),
        (
            DatasetRecord {
                max_life: limits::LONGEST_TICKET_LIFE + 1,
                ..record.clone()
            },
            Refusal::Invalid,
        ),
        (
            DatasetRecord {
                max_budget: 0,
                ..record.clone()
            },
            Refusal::Invalid,
        ),
        (
            DatasetRecord {
                tls_key: world.tls.public(),
                ..record.clone()
            },
            Refusal::KeyReused,
        ),
        (
            DatasetRecord {
                server_key: ticket_format::keys::ServerKey::from_bytes(&record.tls_key.to_bytes())
                    .unwrap(),
                ..record.clone()
            },
            Refusal::KeyReused,
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(refusal(world.record(&body).await), expected);
    }
    assert_eq!(
        refusal(world.act(&record).await),
        Refusal::Invalid,
        "a record is for everyone"
    );
    // A newer KEK version replaces the record; a second dataset of the same key server is welcome.
    world
        .record(&DatasetRecord {
            kek_version: 2,
            follows: record.digest(),
            ..record.clone()
        })
        .await
        .unwrap();
    assert_eq!(
        world
            .act(&DatasetShow {
                name: "faces".to_owned()
            })
            .await
            .unwrap()
            .kek_version,
        2
    );
    world
        .record(&DatasetRecord {
            dataset: DatasetId([2; 16]),
            name: "voices".to_owned(),
            ..record
        })
        .await
        .unwrap();
    assert_eq!(
        refusal(
            world
                .act(&DatasetShow {
                    name: "none".to_owned()
                })
                .await
        ),
        Refusal::NotFound
    );
}

#[tokio::test]
async fn an_act_for_a_key_server_is_none_for_a_broker() {
    let world = World::new().await;
    let body = DatasetPolicySet {
        name: "faces".to_owned(),
        text: "x".to_owned(),
        replaces: policy_digest(""),
    };
    assert_eq!(refusal(world.act(&body).await), Refusal::StatementMalformed);
}

#[tokio::test]
async fn a_denial_of_what_is_not_issued_yet_must_not_be_forgotten() {
    // rule: DEN-7
    let world = World::new().await;
    let selector = Selector::new(Members {
        issued_before: Some(world.now().plus(61)),
        ..Members::default()
    })
    .unwrap();
    assert_eq!(
        refusal(
            world
                .act(&DenyBody {
                    selector,
                    reason: String::new()
                })
                .await
        ),
        Refusal::Invalid
    );
}

#[tokio::test]
async fn every_act_leaves_its_entry_and_the_answer_brings_it() {
    // rule: AUD-1
    let world = World::new().await;
    let statement = payload(&world, &StatusShow {})
        .sign(&[&world.admins.operator])
        .unwrap();
    let (answer, _) = world
        .connect()
        .send(Verb::Administer, &statement, &[])
        .await
        .unwrap();
    let answer = AdministerAnswer::from_cbor(&answer, limits::MESSAGE).unwrap();
    let entries = world.entries();
    // rule: TLOG-5
    let logged = world.verify(&answer.receipt);
    let entry = &entries[usize::try_from(logged.index).unwrap()];
    assert_eq!(entry.to_cbor(), answer.receipt.entry);
    assert_eq!(
        (entry.kind, entry.subject.as_deref()),
        (Kind::Statement, Some("operator"))
    );
    assert_eq!(entries[0].kind, Kind::Start);
}

#[tokio::test]
async fn when_the_log_cannot_be_written_nothing_is_released() {
    // rule: AUD-4, AUD-2
    let mut world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    world.close_log().await;
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::AuditUnavailable
    );
    let selector = Selector::node(SYDNEY.node());
    assert_eq!(
        refusal(
            world
                .act(&DenyBody {
                    selector,
                    reason: String::new()
                })
                .await
        ),
        Refusal::AuditUnavailable
    );
    // What was committed is in the outbox, and in the log after the next start; once.
    world.restart().await;
    world.restart().await;
    let denials = world
        .entries()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Denial)
        .count();
    assert_eq!(denials, 1);
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Denied
    );
}

#[tokio::test]
async fn a_clock_that_went_back_decides_nothing_and_starts_nothing() {
    // rule: TIM-1
    let mut world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    world.clock.advance(1_000);
    world.act(&StatusShow {}).await.unwrap();
    let seen = world.now();
    world.clock.set(seen.minus(60));
    assert!(
        Node::boot(&SYDNEY).login(&world, &launch).await.is_ok(),
        "within the skew"
    );
    world.clock.set(seen.minus(61));
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &launch).await),
        Refusal::Clock
    );
    world.stop().await;
    let error = world.start(broker::Limits::default()).await.unwrap_err();
    assert!(matches!(error, broker::StartError::Clock { .. }), "{error}");
    world.clock.set(seen);
    world.start(broker::Limits::default()).await.unwrap();
}

#[tokio::test]
async fn a_store_older_than_the_log_is_noticed() {
    let mut world = World::new().await;
    world.deny(Selector::node(SEOUL.node())).await;
    world.stop().await;
    let old = std::fs::read(world.path("store.redb")).unwrap();
    world.start(broker::Limits::default()).await.unwrap();
    world.deny(Selector::node(SYDNEY.node())).await;
    world.stop().await;
    std::fs::write(world.path("store.redb"), old).unwrap();
    let error = world.start(broker::Limits::default()).await.unwrap_err();
    assert!(
        matches!(
            error,
            broker::StartError::Rollback {
                logged: 2,
                stored: 1
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_store_that_lacks_an_act_of_the_log_raises_an_alarm_and_takes_its_time_from_the_log() {
    // rule: TIM-1
    let mut world = World::new().await;
    world.launch(&SEOUL, |_| {}).await;
    world.stop().await;
    let old = std::fs::read(world.path("store.redb")).unwrap();
    world.clock.advance(1_000);
    world.start(broker::Limits::default()).await.unwrap();
    world.launch(&SYDNEY, |_| {}).await;
    world.restart().await;
    assert_eq!(world.alarms(), [], "the store knows the launch");
    world.stop().await;
    std::fs::write(world.path("store.redb"), &old).unwrap();
    let seen = world.now();
    world.clock.set(seen.minus(61));
    let error = world.start(broker::Limits::default()).await.unwrap_err();
    assert!(matches!(error, broker::StartError::Clock { .. }), "{error}");
    world.clock.set(seen);
    world.start(broker::Limits::default()).await.unwrap();
    assert_eq!(world.alarms(), [Alarm::StoreRollback]);
    world.restart().await;
    assert_eq!(world.alarms(), [Alarm::StoreRollback], "once");
}

#[tokio::test]
async fn any_bytes_get_an_answer_of_the_list() {
    // rule: REF-1, REF-2, REF-3
    let world = World::new().await;
    let connection = world.connect();
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let node = Node::boot(&SYDNEY);
    let key = ticket_format::keys::ProofSecret::generate(&mut rng());
    let body = node
        .login_body(&launch, &key, &world.tls.public())
        .0
        .to_cbor();
    let proofs = node.login_proofs(&connection.channel, &launch, &key, &body);
    let good = ticket_format::messages::Request::encode_parts(Verb::Login, &body, &proofs);
    let mut numbers = std::collections::BTreeSet::new();
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone();
        changed[at] ^= 0x41;
        for bytes in [&changed[..], &good[..at]] {
            match connection.raw(bytes).await {
                ticket_format::messages::Answer::Refused(notice) => {
                    assert!(notice.detail.is_none() || notice.refusal != Refusal::NotAuthenticated);
                    numbers.insert(notice.refusal.number());
                }
                ticket_format::messages::Answer::Done { .. } => panic!("byte {at} does not matter"),
            }
        }
    }
    assert!(numbers.contains(&1) && numbers.contains(&10), "{numbers:?}");
    for verb in [Verb::Present, Verb::Redeem, Verb::Generate, Verb::Rewrap] {
        assert_eq!(
            refusal(connection.send(verb, &[0xa0], &[]).await),
            Refusal::Unsupported
        );
    }
    let huge = vec![0; limits::MESSAGE + 1];
    assert!(
        matches!(connection.raw(&huge).await, ticket_format::messages::Answer::Refused(notice) if notice.refusal == Refusal::TooLarge)
    );
    assert!(
        connection.send(Verb::Login, &body, &proofs).await.is_ok(),
        "and the next caller is served"
    );
}
