//! Login (`spec/protocol.md`, section 4): each rule, with real identity documents.
#![allow(missing_docs)]

mod support;

use broker::state::{LaunchRecord, keys};
use support::*;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::LoginId;
use ticket_format::keys::{LaunchSecret, NodeSecret, ProofSecret};
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::statement::{LaunchClose, LaunchShow};
use ticket_format::time::Timestamp;

#[tokio::test]
async fn a_node_logs_in_and_its_ticket_says_what_its_document_said() {
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let claims = held.claims(&world);
    assert_eq!(claims.common.node(), &SYDNEY.node());
    assert_eq!(claims.common.attributes.image, SYDNEY.image);
    assert_eq!(claims.common.launch, launch.id);
    assert_eq!(claims.common.evidence, node.chain);
    assert_eq!(claims.node_key, node.key.public());
    assert_eq!(
        claims.common.expires.since(claims.common.issued),
        limits::NODE_TICKET_LIFE
    );
    let entry = world
        .entries()
        .into_iter()
        .find(|entry| entry.kind == Kind::Login)
        .unwrap();
    assert_eq!(entry.to_cbor(), held.answer.receipt.entry);
    assert_eq!(entry.ticket, Some(claims.common.id));
}

#[tokio::test]
async fn a_failed_check_uses_nothing_up() {
    // rule: LOG-3, LOG-4, LOG-5
    let world = World::new().await;
    type Change = fn(&mut ticket_format::statement::LaunchCreate);
    let cases: [(&str, Refusal, Change); 7] = [
        ("account", Refusal::IdentityMismatch, |terms| {
            terms.accounts = vec!["123456789012".to_owned()]
        }),
        ("region", Refusal::IdentityMismatch, |terms| {
            terms.regions = vec!["eu-west-1".to_owned()]
        }),
        ("image", Refusal::IdentityMismatch, |terms| {
            terms.images = vec!["ami-00000000".to_owned()]
        }),
        ("too early", Refusal::LaunchClosed, |terms| {
            terms.from = terms.from.plus(1_000)
        }),
        ("too old", Refusal::DocumentTooOld, |terms| {
            terms.max_age = 900
        }),
        (
            "group launched before the window",
            Refusal::LaunchClosed,
            |terms| (terms.uses, terms.group) = (3, true),
        ),
        ("no refusal", Refusal::Internal, |_| {}),
    ];
    for (what, expected, change) in cases {
        let launch = world.launch(&SYDNEY, change).await;
        let mut node = Node::boot(&SYDNEY);
        if expected == Refusal::Internal {
            node.login(&world, &launch).await.unwrap();
            continue;
        }
        let refused = node.login(&world, &launch).await.map(drop).unwrap_err();
        assert_eq!(refused.refusal, expected, "{what}");
        assert!(
            refused.detail.is_some(),
            "{what}: an authenticated caller is told why"
        );
        let view = world.act(&LaunchShow { launch: launch.id }).await.unwrap();
        assert_eq!((view.used, view.nodes.len()), (0, 0), "{what}");
    }
}

#[tokio::test]
async fn each_refusal_on_one_launch_leaves_it_whole_for_the_node_it_is_for() {
    // rule: LOG-5
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    // Another instance's document with the stolen secret.
    assert_eq!(
        refusal(Node::boot(&SEOUL).login(&world, &launch).await),
        Refusal::IdentityMismatch
    );
    // A document that was changed.
    let mut forged = Node::boot(&SYDNEY);
    let middle = forged.proof.len() / 2;
    forged.proof[middle] = if forged.proof[middle] == b'A' {
        b'B'
    } else {
        b'A'
    };
    assert_eq!(
        refusal(forged.login(&world, &launch).await),
        Refusal::IdentityRefused
    );
    // A document without the secret.
    let guessed = Launch {
        id: launch.id,
        secret: LaunchSecret::generate(&mut rng()),
        digest: launch.digest,
    };
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &guessed).await),
        Refusal::NotAuthenticated
    );
    // Another launch's digest.
    let other = Launch {
        id: launch.id,
        secret: LaunchSecret::from_seed(&launch.secret.seed()),
        digest: ticket_format::ids::StatementDigest([1; 32]),
    };
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &other).await),
        Refusal::NotAuthenticated
    );
    // The clock before pendingTime.
    assert!(Node::boot(&SYDNEY).login(&world, &launch).await.is_ok());
}

#[tokio::test]
async fn cve_2020_35177_an_unknown_launch_and_a_wrong_secret_are_the_same_refusal_without_detail() {
    // rule: LOG-2, REF-2
    let world = World::new().await;
    let known = world.launch(&SYDNEY, |_| {}).await;
    let wrong = Launch {
        id: known.id,
        secret: LaunchSecret::generate(&mut rng()),
        digest: known.digest,
    };
    let unknown = Launch {
        id: ticket_format::ids::LaunchId([9; 16]),
        secret: LaunchSecret::generate(&mut rng()),
        digest: known.digest,
    };
    let mut answers = Vec::new();
    for launch in [&wrong, &unknown] {
        answers.push(
            Node::boot(&SYDNEY)
                .login(&world, launch)
                .await
                .map(drop)
                .unwrap_err(),
        );
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        (answers[0].refusal, answers[0].detail.clone()),
        (Refusal::NotAuthenticated, None)
    );
    // Counted, not listed.
    assert!(
        world
            .entries()
            .iter()
            .all(|entry| entry.kind != Kind::Login)
    );
    world.clock.advance(60);
    world.broker().tick().await.unwrap();
    let counted = world
        .entries()
        .into_iter()
        .find(|entry| entry.kind == Kind::RefusalsCounted)
        .unwrap();
    assert_eq!(
        (counted.count, counted.source.as_deref()),
        (Some(2), Some("192.0.2.7"))
    );
}

#[tokio::test]
async fn a_document_from_the_future_is_refused() {
    // rule: LOG-4
    let world = World::new().await;
    let document =
        ticket_format::iid::verify(&SYDNEY.proof(), &ticket_format::iid::RegionKeys::built_in())
            .unwrap();
    let mut world = world;
    world.stop().await;
    world.remove();
    world
        .clock
        .set(Timestamp::from_seconds(document.pending_time() - 61));
    world.start(broker::Limits::default()).await.unwrap();
    let launch = world.launch(&SYDNEY, |_| {}).await;
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &launch).await),
        Refusal::DocumentFromFuture
    );
    world.clock.advance(1);
    assert!(Node::boot(&SYDNEY).login(&world, &launch).await.is_ok());
}

#[tokio::test]
async fn a_login_copied_to_another_connection_is_worthless() {
    // rule: SIG-1, TR-4
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let node = Node::boot(&SYDNEY);
    let (mine, theirs) = (world.connect(), world.connect());
    let proof_key = ProofSecret::generate(&mut rng());
    let body = node
        .login_body(&launch, &proof_key, &world.tls.public())
        .0
        .to_cbor();
    let proofs = node.login_proofs(&mine.channel, &launch, &proof_key, &body);
    assert_eq!(
        refusal(theirs.send(Verb::Login, &body, &proofs).await),
        Refusal::NotAuthenticated
    );
    assert!(mine.send(Verb::Login, &body, &proofs).await.is_ok());
}

#[tokio::test]
async fn cve_2015_2694_a_login_needs_exactly_its_three_signatures() {
    // rule: SIG-3
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let node = Node::boot(&SYDNEY);
    let connection = world.connect();
    let proof_key = ProofSecret::generate(&mut rng());
    let body = node
        .login_body(&launch, &proof_key, &world.tls.public())
        .0
        .to_cbor();
    let proofs = node.login_proofs(&connection.channel, &launch, &proof_key, &body);
    let four = [proofs.clone(), vec![proofs[0].clone()]].concat();
    for wrong in [&proofs[..2], &four[..], &[]] {
        assert_eq!(
            refusal(connection.send(Verb::Login, &body, wrong).await),
            Refusal::Malformed
        );
    }
    for at in 0..3 {
        let mut wrong = proofs.clone();
        wrong[at] = proofs[(at + 1) % 3].clone();
        assert_eq!(
            refusal(connection.send(Verb::Login, &body, &wrong).await),
            Refusal::NotAuthenticated,
            "proof {at}"
        );
    }
    assert!(connection.send(Verb::Login, &body, &proofs).await.is_ok());
}

#[tokio::test]
async fn one_key_in_two_roles_is_refused() {
    // rule: SIG-4
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let node = Node::boot(&SYDNEY);
    let connection = world.connect();
    let same = ProofSecret::from_seed(&node.key.seed());
    let body = node
        .login_body(&launch, &same, &world.tls.public())
        .0
        .to_cbor();
    let proofs = node.login_proofs(&connection.channel, &launch, &same, &body);
    assert_eq!(
        refusal(connection.send(Verb::Login, &body, &proofs).await),
        Refusal::KeyReused
    );
    // An admin's key as node key.
    let mut thief = Node::boot(&SYDNEY);
    thief.key = NodeSecret::from_seed(&world.admins.operator.seed());
    assert_eq!(
        refusal(thief.login(&world, &launch).await),
        Refusal::KeyReused
    );
    // Another node's key.
    let mut first = Node::boot(&SYDNEY);
    first.login(&world, &launch).await.unwrap();
    let elsewhere = world.launch(&SEOUL, |_| {}).await;
    let mut second = Node::boot(&SEOUL);
    second.key = NodeSecret::from_seed(&first.key.seed());
    assert_eq!(
        refusal(second.login(&world, &elsewhere).await),
        Refusal::KeyReused
    );
}

#[tokio::test]
async fn a_lost_answer_is_given_again_within_the_window_and_uses_nothing() {
    // rule: LOG-7
    let world = World::new().await;
    // The age is that of the first claim: the document grows too old meanwhile.
    let document =
        ticket_format::iid::verify(&SYDNEY.proof(), &ticket_format::iid::RegionKeys::built_in())
            .unwrap();
    let age = NOW - document.pending_time();
    let launch = world
        .launch(&SYDNEY, |terms| {
            (terms.max_age, terms.until) = (age, terms.until.minus(3_590))
        })
        .await;
    let mut node = Node::boot(&SYDNEY);
    let first = node.login(&world, &launch).await.unwrap();
    world.clock.advance(limits::LOGIN_RETRY_WINDOW);
    let again = node.login(&world, &launch).await.unwrap();
    assert_ne!(
        first.claims(&world).common.id,
        again.claims(&world).common.id
    );
    assert_eq!(
        world
            .act(&LaunchShow { launch: launch.id })
            .await
            .unwrap()
            .used,
        1
    );
    let logins: Vec<_> = world
        .entries()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Login)
        .collect();
    assert_eq!(
        logins[1].follows,
        Some(logins[0].act),
        "the record says that it was a retry"
    );
    // Both answers' tickets renew: the node goes on with what it received.
    node.renew(&world).await.unwrap();
    // After the window, or another login id: renew instead.
    let mut late = node.clone_disk();
    world.clock.advance(1);
    assert_eq!(
        refusal(late.login(&world, &launch).await),
        Refusal::RetryOver
    );
    late.login = LoginId::random(&mut rng());
    assert_eq!(
        refusal(late.login(&world, &launch).await),
        Refusal::RetryOver
    );
}

#[tokio::test]
async fn a_retry_after_a_restart_of_the_broker_is_answered_too() {
    // rule: LOG-7, AUD-2
    let mut world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    world.restart().await;
    node.login(&world, &launch).await.unwrap();
    node.renew(&world).await.unwrap();
}

#[tokio::test]
async fn cve_2025_6014_of_a_hundred_parallel_claims_of_one_use_exactly_one_succeeds() {
    // rule: LOG-6
    let world = std::sync::Arc::new(World::new().await);
    let launch = std::sync::Arc::new(
        world
            .launch(&SYDNEY, |terms| {
                terms.accounts.push(SEOUL.account.to_owned())
            })
            .await,
    );
    let claims: Vec<_> = (0..100)
        .map(|_| {
            let (world, launch) = (world.clone(), launch.clone());
            tokio::spawn(async move { Node::boot(&SYDNEY).login(&world, &launch).await.map(drop) })
        })
        .collect();
    let mut won = 0;
    for claim in claims {
        match claim.await.unwrap() {
            Ok(()) => won += 1,
            // The same instance with another key each: the first one after the claim freezes the record.
            Err(notice) => assert!(
                matches!(notice.refusal, Refusal::NodeConflict | Refusal::NodeFrozen),
                "{notice}"
            ),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(
        world
            .act(&LaunchShow { launch: launch.id })
            .await
            .unwrap()
            .used,
        1
    );
}

#[tokio::test]
async fn two_nodes_race_for_the_last_use_and_one_gets_it() {
    // rule: LOG-6, LOG-8
    let world = std::sync::Arc::new(World::new().await);
    let any = |terms: &mut ticket_format::statement::LaunchCreate| {
        terms.accounts = [SYDNEY.account, SEOUL.account, OREGON.account]
            .map(str::to_owned)
            .to_vec();
        (terms.regions, terms.images) = (Vec::new(), Vec::new());
    };
    let launch = std::sync::Arc::new(world.launch(&SYDNEY, any).await);
    let race = [&SYDNEY, &SEOUL, &OREGON].map(|instance| {
        let (world, launch) = (world.clone(), launch.clone());
        tokio::spawn(async move { Node::boot(instance).login(&world, &launch).await.map(drop) })
    });
    let mut won = 0;
    for claim in race {
        match claim.await.unwrap() {
            Ok(()) => won += 1,
            Err(notice) => assert_eq!(notice.refusal, Refusal::LaunchUsed),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(world.alarms(), [Alarm::LaunchReused, Alarm::LaunchReused]);
}

#[tokio::test]
async fn the_same_node_with_another_key_freezes_the_record_and_denies_its_tickets() {
    // rule: LOG-8
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    node.issue(&world, &held, |_| {}).await.unwrap();
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &launch).await),
        Refusal::NodeConflict
    );
    assert_eq!(world.alarms(), [Alarm::NodeConflict]);
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Denied
    );
    assert_eq!(refusal(node.renew(&world).await), Refusal::NodeFrozen);
    assert_eq!(
        refusal(node.login(&world, &launch).await),
        Refusal::NodeFrozen
    );
    let answer = feed(
        &world,
        &world.server,
        0,
        ticket_format::denial::CHAIN_START,
        0,
    )
    .await
    .unwrap();
    assert_eq!(answer.epochs.len(), 1, "key servers hear of it");
}

#[tokio::test]
async fn a_conflict_needs_the_launchs_signature() {
    // rule: LOG-8
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let guessed = Launch {
        id: launch.id,
        secret: LaunchSecret::generate(&mut rng()),
        digest: launch.digest,
    };
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &guessed).await),
        Refusal::NotAuthenticated
    );
    node.renew(&world).await.unwrap();
}

#[tokio::test]
async fn the_same_start_of_an_instance_with_another_launch_is_a_conflict() {
    // rule: LOG-8
    let world = World::new().await;
    let (first, second) = (
        world.launch(&SYDNEY, |_| {}).await,
        world.launch(&SYDNEY, |_| {}).await,
    );
    Node::boot(&SYDNEY).login(&world, &first).await.unwrap();
    // pendingTime is the same, not newer.
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &second).await),
        Refusal::NodeConflict
    );
}

#[tokio::test]
async fn a_group_launch_lets_each_node_in_once() {
    // rule: LOG-9
    let world = World::new().await;
    let all = |terms: &mut ticket_format::statement::LaunchCreate| {
        terms.accounts = [SYDNEY.account, SEOUL.account, OREGON.account]
            .map(str::to_owned)
            .to_vec();
        (terms.regions, terms.images) = (Vec::new(), Vec::new());
        (terms.uses, terms.group, terms.from) = (2, true, Timestamp::from_seconds(0));
    };
    let launch = world.launch(&SYDNEY, all).await;
    Node::boot(&SYDNEY).login(&world, &launch).await.unwrap();
    Node::boot(&SEOUL).login(&world, &launch).await.unwrap();
    assert_eq!(
        refusal(Node::boot(&OREGON).login(&world, &launch).await),
        Refusal::LaunchUsed
    );
    let view = world.act(&LaunchShow { launch: launch.id }).await.unwrap();
    assert_eq!(view.used, 2);
    let mut nodes = view.nodes;
    nodes.sort();
    assert_eq!(nodes, [SYDNEY.node(), SEOUL.node()]);
}

#[tokio::test]
async fn a_denied_launch_node_or_account_lets_nobody_in_for_good() {
    // rule: DEN-7
    let mut world = World::new().await;
    let launch = world
        .launch(&SYDNEY, |terms| terms.until = terms.until.plus(10 * 86_400))
        .await;
    let other = world
        .launch(&SEOUL, |terms| terms.until = terms.until.plus(10 * 86_400))
        .await;
    world.deny(Selector::launch(launch.id)).await;
    world.deny(Selector::node(SEOUL.node())).await;
    for pass in ["at once", "after a restart", "after the feed forgot it"] {
        let refused = Node::boot(&SYDNEY)
            .login(&world, &launch)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(refused.refusal, Refusal::Denied, "{pass}");
        assert!(refused.detail.unwrap().contains("disk cloned"));
        assert_eq!(
            refusal(Node::boot(&SEOUL).login(&world, &other).await),
            Refusal::Denied,
            "{pass}"
        );
        if pass == "at once" {
            world.restart().await;
        } else {
            world.clock.advance(3 * 86_400);
            world.broker().tick().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_closed_launch_lets_nobody_in() {
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    world
        .act(&LaunchClose {
            launch: launch.id,
            deny: false,
            reason: String::new(),
        })
        .await
        .unwrap();
    assert_eq!(
        refusal(Node::boot(&SYDNEY).login(&world, &launch).await),
        Refusal::LaunchClosed
    );
}

#[tokio::test]
async fn cve_2021_32923_a_ticket_never_outlives_the_nodes_life() {
    // rule: REN-5
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |terms| terms.node_life = 1_000).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    assert_eq!(held.claims(&world).common.expires, world.now().plus(1_000));
    world.clock.advance(999);
    assert_eq!(
        node.renew(&world)
            .await
            .unwrap()
            .claims(&world)
            .common
            .expires,
        world.now().plus(1)
    );
    world.clock.advance(1);
    assert_eq!(refusal(node.renew(&world).await), Refusal::NodeExpired);
}

#[tokio::test]
async fn evidence_that_is_not_the_launch_keys_over_this_login_is_refused() {
    // rule: LOG-10
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let node = Node::boot(&SYDNEY);
    let connection = world.connect();
    let key = ProofSecret::generate(&mut rng());
    let (good, _) = node.login_body(&launch, &key, &world.tls.public());
    // Evidence of another proof key, and evidence for another broker.
    let other = node
        .login_body(
            &launch,
            &ProofSecret::generate(&mut rng()),
            &world.tls.public(),
        )
        .0;
    let elsewhere = node.login_body(&launch, &key, &world.server_tls.public()).0;
    for evidence in [other.evidence, elsewhere.evidence] {
        let body = ticket_format::messages::login::LoginBody {
            evidence,
            ..good.clone()
        }
        .to_cbor();
        let proofs = node.login_proofs(&connection.channel, &launch, &key, &body);
        assert_eq!(
            refusal(connection.send(Verb::Login, &body, &proofs).await),
            Refusal::NotAuthenticated
        );
    }
    let body = good.to_cbor();
    let proofs = node.login_proofs(&connection.channel, &launch, &key, &body);
    assert!(connection.send(Verb::Login, &body, &proofs).await.is_ok());
}

#[tokio::test]
async fn a_registered_key_is_no_proof_key() {
    // rule: SIG-4
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let node = Node::boot(&SYDNEY);
    let connection = world.connect();
    let taken = ProofSecret::from_seed(&world.admins.operator.seed());
    let body = node
        .login_body(&launch, &taken, &world.tls.public())
        .0
        .to_cbor();
    let proofs = node.login_proofs(&connection.channel, &launch, &taken, &body);
    assert_eq!(
        refusal(connection.send(Verb::Login, &body, &proofs).await),
        Refusal::KeyReused
    );
}

#[tokio::test]
async fn a_source_that_logs_in_too_often_is_told_to_wait() {
    let one = std::num::NonZeroU32::MIN;
    let limits = broker::Limits {
        logins_per_second: one,
        login_burst: one,
        ..broker::Limits::default()
    };
    let world = World::with(limits).await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let guessed = Launch {
        id: launch.id,
        secret: LaunchSecret::generate(&mut rng()),
        digest: launch.digest,
    };
    let mut refusals = Vec::new();
    for _ in 0..3 {
        refusals.push(refusal(Node::boot(&SYDNEY).login(&world, &guessed).await));
    }
    assert_eq!(refusals[0], Refusal::NotAuthenticated);
    assert!(refusals.contains(&Refusal::Busy), "{refusals:?}");
}

#[tokio::test]
async fn a_retry_is_refused_once_the_node_is_denied_or_the_launch_closed() {
    // rule: LOG-7
    for close in [true, false] {
        let world = World::new().await;
        let launch = world.launch(&SYDNEY, |_| {}).await;
        let mut node = Node::boot(&SYDNEY);
        node.login(&world, &launch).await.unwrap();
        if close {
            world
                .act(&LaunchClose {
                    launch: launch.id,
                    deny: true,
                    reason: "leaked".to_owned(),
                })
                .await
                .unwrap();
        } else {
            world.deny(Selector::node(SYDNEY.node())).await;
        }
        assert_eq!(refusal(node.login(&world, &launch).await), Refusal::Denied);
        assert_eq!(refusal(node.renew(&world).await), Refusal::Denied);
    }
}

#[tokio::test]
async fn the_secret_of_a_launch_that_lets_nobody_in_freezes_nobody() {
    // rule: LOG-4, LOG-8
    let world = World::new().await;
    let mut launches = Vec::new();
    for until in [86_400, 3_600, 86_400, 86_400] {
        let until = world.now().plus(until);
        launches.push(world.launch(&SYDNEY, |terms| terms.until = until).await);
    }
    let [mine, over, closed, used] = &launches[..] else {
        unreachable!("four launches");
    };
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, mine).await.unwrap();
    let close = LaunchClose {
        launch: closed.id,
        deny: false,
        reason: String::new(),
    };
    world.act(&close).await.unwrap();
    let key = keys::launch(used.id);
    let mut record: LaunchRecord = world.stored(&key).await;
    record.used = record.terms.uses;
    world.put(&key, &record).await;
    world.clock.advance(7_200);
    // The identity document is readable by every local process, and secrets leak.
    for (count, (leaked, expected)) in [
        (over, Refusal::LaunchClosed),
        (closed, Refusal::LaunchClosed),
        (used, Refusal::LaunchUsed),
    ]
    .into_iter()
    .enumerate()
    {
        let other = Node::boot(&SYDNEY).login(&world, leaked).await;
        assert_eq!(refusal(other), expected);
        assert_eq!(world.alarms(), vec![Alarm::LaunchReused; count + 1]);
        node.renew(&world).await.unwrap();
    }
}

#[tokio::test]
async fn a_retry_brings_no_registered_proof_key() {
    // rule: LOG-7, SIG-4
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let retry = async |seed: &[u8; 32]| {
        let proof_key = ProofSecret::from_seed(seed);
        let connection = world.connect();
        let (body, _) = node.login_body(&launch, &proof_key, &world.tls.public());
        let body = body.to_cbor();
        let proofs = node.login_proofs(&connection.channel, &launch, &proof_key, &body);
        connection.send(Verb::Login, &body, &proofs).await
    };
    assert_eq!(
        refusal(retry(&world.admins.operator.seed()).await),
        Refusal::KeyReused
    );
    retry(&[7; 32]).await.unwrap();
}

#[tokio::test]
async fn the_secret_of_a_launch_that_is_over_freezes_nobody() {
    // rule: LOG-4, LOG-8
    let world = World::new().await;
    let (first, leaked) = (
        world.launch(&SYDNEY, |_| {}).await,
        world.launch(&SYDNEY, |_| {}).await,
    );
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &first).await.unwrap();
    world.clock.advance(7_200);
    // Both windows ended an hour ago; the identity document is readable by every local process.
    let _ = Node::boot(&SYDNEY).login(&world, &leaked).await;
    node.renew(&world).await.unwrap();
}
