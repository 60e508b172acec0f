//! Issue (`spec/protocol.md`, section 6).
#![allow(missing_docs)]

mod support;

use std::collections::BTreeMap;

use broker::issue;
use broker::state::{DatasetEntry, Frozen, NodeRecord, keys};
use support::*;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Denial, DenialSet, Members, Selector, TicketFacts};
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{ActId, DatasetId, StatementDigest, TicketId};
use ticket_format::keys::{NodeSecret, ProofSecret};
use ticket_format::messages::issue::{IssueAnswer, IssueBody};
use ticket_format::messages::{Request, RequestView, Verb};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::sign::Proof;
use ticket_format::statement::TicketShow;
use ticket_format::ticket::{self, Action, Actions, Audience};
use ticket_format::{Context, Refusal, labels, limits};

struct Ready {
    world: World,
    node: Node,
    held: Held,
}

async fn ready() -> Ready {
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    Ready { world, node, held }
}

#[tokio::test]
async fn a_dataset_ticket_says_what_was_asked_and_allowed() {
    // rule: ISS-4, ISS-6, TKT-8
    let Ready { world, node, held } = ready().await;
    let answer = node
        .issue(&world, &held, |body| {
            (body.life, body.budget) = (600, 5_000)
        })
        .await
        .unwrap();
    let claims = dataset_claims(&world, &answer.ticket);
    assert_eq!(
        claims.common.audience,
        Audience::KeyServer(world.server_tls.public())
    );
    assert_eq!(claims.common.expires.since(claims.common.issued), 600);
    assert_eq!(claims.budget, 1_000, "the dataset record's cap");
    assert_eq!(claims.parent, held.claims(&world).common.id);
    assert_ne!(claims.common.evidence, node.chain);
    let entries = world.entries();
    let entry = entries
        .iter()
        .find(|entry| entry.kind == Kind::Issue)
        .unwrap();
    assert_eq!(entry.to_cbor(), answer.receipt.entry);
    assert_eq!(entry.policies.as_deref(), Some(&["all".to_owned()][..]));
    let view = world
        .act(&TicketShow {
            ticket: claims.common.id,
        })
        .await
        .unwrap();
    assert_eq!(
        (view.node, view.budget, view.denied),
        (SYDNEY.node(), 1_000, false)
    );
    // The record is an admin's statement that anyone can verify.
    let record = ticket_format::statement::ReceivedStatement::parse(&answer.record).unwrap();
    record
        .verify(&world.admins.set(), REALM, None, world.now())
        .unwrap();
}

#[tokio::test]
async fn a_life_is_the_least_of_what_all_allow() {
    // rule: ISS-4
    let Ready { world, node, held } = ready().await;
    let life = async |life: u64, expires: u64| {
        let answer = node
            .issue(&world, &held, |body| {
                (body.life, body.expires) = (life, world.now().plus(expires))
            })
            .await?;
        let claims = dataset_claims(&world, &answer.ticket).common;
        Ok::<_, ticket_format::messages::RefusalNotice>(claims.expires.since(claims.issued))
    };
    assert_eq!(
        life(u64::MAX, 100_000).await.unwrap(),
        3_600,
        "the dataset record's most"
    );
    assert_eq!(life(100, 100_000).await.unwrap(), 100, "what was wanted");
    assert_eq!(life(100, 50).await.unwrap(), 50, "what the evidence says");
    assert_eq!(refusal(life(100, 0).await), Refusal::TicketExpired);
    assert_eq!(refusal(life(0, 50).await), Refusal::Invalid);
    world.clock.advance(8 * 3_600 - 10);
    assert_eq!(
        life(u64::MAX, 100_000).await.unwrap(),
        10,
        "the node ticket's expiry"
    );
}

#[tokio::test]
async fn each_thing_that_does_not_hold_is_its_own_refusal() {
    // rule: ISS-1, ISS-2, ISS-3, ISS-5
    let Ready { world, node, held } = ready().await;
    assert_eq!(
        refusal(
            node.issue(&world, &held, |body| body.dataset = "faecs".to_owned())
                .await
        ),
        Refusal::DatasetUnknown
    );
    let both = Actions::new(&[Action::Decrypt, Action::Encrypt]).unwrap();
    let refused = node
        .issue(&world, &held, |body| body.actions = both)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(refused.refusal, Refusal::Policy);
    assert!(refused.detail.unwrap().contains("encrypt"));
    let x25519 = SealingSecret::generate(Kem::X25519, &mut rng()).public();
    assert_eq!(
        refusal(
            node.issue(&world, &held, |body| body.sealing_key = x25519)
                .await
        ),
        Refusal::Kem
    );
    // Evidence by another key than the ticket's node key.
    let mut thief = node.clone_disk();
    thief.key = NodeSecret::generate(&mut rng());
    assert_eq!(
        refusal(thief.issue(&world, &held, |_| {}).await),
        Refusal::NotAuthenticated
    );
    // A stolen ticket file without its proof key.
    let stolen = Held {
        bytes: held.bytes.clone(),
        proof_key: ProofSecret::generate(&mut rng()),
        answer: held.answer.clone(),
    };
    assert_eq!(
        refusal(node.issue(&world, &stolen, |_| {}).await),
        Refusal::Possession
    );
    // Not a ticket at all, and a changed one.
    assert_eq!(
        refusal(
            node.issue(&world, &held, |body| body.node_ticket = vec![1, 2, 3])
                .await
        ),
        Refusal::TicketMalformed
    );
    let mut changed = held.bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(
        refusal(
            node.issue(&world, &held, |body| body.node_ticket = changed)
                .await
        ),
        Refusal::TicketSignature
    );
    // A dataset ticket where a node ticket is wanted.
    let answer = node.issue(&world, &held, |_| {}).await.unwrap();
    assert_eq!(
        refusal(
            node.issue(&world, &held, |body| body.node_ticket = answer.ticket)
                .await
        ),
        Refusal::TicketKind
    );
    // The key of an admin as the job's.
    let listed = world
        .entries()
        .into_iter()
        .filter(|entry| entry.kind == Kind::Issue && entry.outcome.is_err())
        .count();
    assert_eq!(
        listed, 4,
        "refusals after proof are listed, those of strangers are not"
    );
}

#[tokio::test]
async fn both_keys_sign_on_this_connection() {
    // rule: SIG-1, SIG-3, SIG-4
    let Ready { world, node, held } = ready().await;
    let (mine, theirs) = (world.connect(), world.connect());
    let job = ProofSecret::generate(&mut rng());
    let body = node.issue_body(&world, &held, &job, |_| {}).to_cbor();
    let hash = Some(ticket::hash(&held.bytes));
    let by = |key: &ProofSecret, hash| {
        mine.channel
            .sign_with(key, labels::ISSUE_REQUEST, hash, &body)
    };
    let good = [by(&held.proof_key, hash), by(&job, hash)];
    let cases: [(&[Proof], Refusal); 5] = [
        (&good[..1], Refusal::Malformed),
        (&[], Refusal::Malformed),
        (&[good[1].clone(), good[0].clone()], Refusal::Possession),
        (&[good[0].clone(), good[0].clone()], Refusal::Possession),
        (
            &[by(&held.proof_key, None), by(&job, None)],
            Refusal::Possession,
        ),
    ];
    for (proofs, expected) in cases {
        assert_eq!(
            refusal(mine.send(Verb::Issue, &body, proofs).await),
            expected
        );
    }
    assert_eq!(
        refusal(theirs.send(Verb::Issue, &body, &good).await),
        Refusal::Possession
    );
    assert!(mine.send(Verb::Issue, &body, &good).await.is_ok());
    // The job's key is the node ticket's own.
    let same = ProofSecret::from_seed(&held.proof_key.seed());
    let body = node.issue_body(&world, &held, &same, |_| {}).to_cbor();
    let proof = mine
        .channel
        .sign_with(&same, labels::ISSUE_REQUEST, hash, &body);
    assert_eq!(
        refusal(mine.send(Verb::Issue, &body, &[proof.clone(), proof]).await),
        Refusal::KeyReused
    );
}

#[tokio::test]
async fn cve_2015_2694_no_early_exit_of_an_issue_leaves_anything() {
    // rule: ISS-1, ISS-2, SIG-3
    let limits = broker::Limits {
        budget_tickets: 1,
        ..broker::Limits::default()
    };
    let world = World::with(limits).await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let connection = world.connect();
    let job = ProofSecret::generate(&mut rng());
    let hash = Some(ticket::hash(&held.bytes));
    let sign = |body: &[u8]| {
        let label = labels::ISSUE_REQUEST;
        let by = |key: &ProofSecret| connection.channel.sign_with(key, label, hash, body);
        vec![by(&held.proof_key), by(&job)]
    };
    let whole = |body: &mut IssueBody| body.budget = 1_000;
    let mut cases = Vec::new();
    // Whoever signs is asked for as the first thing: with each signature bent or another's.
    let body = node.issue_body(&world, &held, &job, whole).to_cbor();
    for at in 0..2 {
        let (mut bent, mut other) = (sign(&body), sign(&body));
        bent[at].value[40] ^= 1;
        other[at] = other[1 - at].clone();
        for wrong in [bent, other] {
            cases.push((body.clone(), wrong, Refusal::Possession));
        }
    }
    // And after that each thing that does not hold, all else being as it has to be.
    let x25519 = SealingSecret::generate(Kem::X25519, &mut rng()).public();
    let both = Actions::new(&[Action::Decrypt, Action::Encrypt]).unwrap();
    let mut changed = held.bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    type Change = Box<dyn Fn(&mut IssueBody)>;
    let changes: Vec<(Refusal, Change)> = vec![
        (
            Refusal::DatasetUnknown,
            Box::new(|body| body.dataset = "faecs".to_owned()),
        ),
        (Refusal::Policy, Box::new(move |body| body.actions = both)),
        (
            Refusal::Kem,
            Box::new(move |body| body.sealing_key = x25519.clone()),
        ),
        (
            Refusal::TicketMalformed,
            Box::new(|body| body.node_ticket = vec![1, 2, 3]),
        ),
        (
            Refusal::TicketSignature,
            Box::new(move |body| body.node_ticket = changed.clone()),
        ),
    ];
    for (expected, change) in changes {
        let body = node.issue_body(&world, &held, &job, |body| {
            whole(body);
            change(body);
        });
        let body = body.to_cbor();
        let proofs = sign(&body);
        cases.push((body, proofs, expected));
    }
    let mut thief = node.clone_disk();
    thief.key = NodeSecret::generate(&mut rng());
    let mut bent = node.issue_body(&world, &held, &job, whole);
    bent.evidence.value[40] ^= 1;
    for body in [thief.issue_body(&world, &held, &job, whole), bent] {
        let body = body.to_cbor();
        let proofs = sign(&body);
        cases.push((body, proofs, Refusal::NotAuthenticated));
    }

    for (number, (body, proofs, expected)) in cases.into_iter().enumerate() {
        let answer = connection.send(Verb::Issue, &body, &proofs).await;
        assert_eq!(refusal(answer), expected, "case {number}");
    }
    let issued = |world: &World| {
        let entries = world.entries();
        let issued = entries
            .iter()
            .filter(|entry| entry.kind == Kind::Issue && entry.outcome.is_ok());
        issued.count()
    };
    assert_eq!(issued(&world), 0);
    // The job's key is free, and all of the node's budget is there: any use of it would show.
    let proofs = sign(&body);
    let (answer, _) = connection.send(Verb::Issue, &body, &proofs).await.unwrap();
    let answer = IssueAnswer::from_cbor(&answer, limits::MESSAGE).unwrap();
    assert_eq!(dataset_claims(&world, &answer.ticket).budget, 1_000);
    assert_eq!(issued(&world), 1);
    let more = node.issue(&world, &held, |body| body.budget = 1).await;
    assert_eq!(refusal(more), Refusal::Budget);
}

#[tokio::test]
async fn the_policy_decides_on_the_pairs_that_the_ticket_will_require() {
    // rule: ISS-3
    let Ready { world, node, held } = ready().await;
    let text = r#"@id("one-study") permit (principal, action, resource)
        when { context.pairs.hasTag("study") && context.pairs.getTag("study") == "a" };"#;
    world.set_policy(text).await.unwrap();
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Policy
    );
    let study = Context::new(BTreeMap::from([("study".to_owned(), "a".to_owned())])).unwrap();
    let answer = node
        .issue(&world, &held, |body| body.required = study.clone())
        .await
        .unwrap();
    assert_eq!(dataset_claims(&world, &answer.ticket).required, study);
}

#[tokio::test]
async fn without_a_policy_nothing_is_permitted() {
    // rule: ISS-3
    let world = World::new().await;
    world.record(&world.dataset_record()).await.unwrap();
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Policy
    );
}

#[tokio::test]
async fn a_denial_of_any_kind_stops_issue_at_once_and_after_a_restart() {
    // rule: ISS-1, DEN-2
    let of = |members: Members| Selector::new(members).unwrap();
    let kinds: [fn(&ticket_format::ticket::NodeClaims, ticket_format::ids::DatasetId) -> Members;
        7] = [
        |claims, _| Members {
            ticket: Some(claims.common.id),
            ..Members::default()
        },
        |claims, _| Members {
            node: Some(claims.common.node().clone()),
            ..Members::default()
        },
        |claims, _| Members {
            launch: Some(claims.common.launch),
            ..Members::default()
        },
        |claims, _| Members {
            account: Some(claims.common.node().account().to_owned()),
            ..Members::default()
        },
        |claims, _| Members {
            image: Some(claims.common.attributes.image.clone()),
            ..Members::default()
        },
        |claims, _| Members {
            issued_before: Some(claims.common.issued.plus(1)),
            ..Members::default()
        },
        |_, dataset| Members {
            dataset: Some(dataset),
            ..Members::default()
        },
    ];
    for (which, kind) in kinds.into_iter().enumerate() {
        let Ready {
            mut world,
            node,
            held,
        } = ready().await;
        let dataset = dataset_claims(
            &world,
            &node.issue(&world, &held, |_| {}).await.unwrap().ticket,
        )
        .dataset;
        world.deny(of(kind(&held.claims(&world), dataset))).await;
        assert_eq!(
            refusal(node.issue(&world, &held, |_| {}).await),
            Refusal::Denied,
            "kind {which}"
        );
        let withheld = world
            .entries()
            .into_iter()
            .any(|entry| entry.kind == Kind::Withheld);
        assert!(!withheld, "kind {which}: refused before a ticket is made");
        world.restart().await;
        assert_eq!(
            refusal(node.issue(&world, &held, |_| {}).await),
            Refusal::Denied,
            "kind {which} after a restart"
        );
    }
}

#[tokio::test]
async fn a_nodes_budget_for_a_dataset_is_summed_and_survives_a_restart() {
    // rule: ISS-4
    let limits = broker::Limits {
        budget_tickets: 2,
        ..broker::Limits::default()
    };
    let mut world = World::with(limits).await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let budget = async |world: &World, wanted: u64| {
        let answer = node
            .issue(world, &held, |body| body.budget = wanted)
            .await?;
        Ok::<_, ticket_format::messages::RefusalNotice>(
            dataset_claims(world, &answer.ticket).budget,
        )
    };
    assert_eq!(budget(&world, 1_000).await.unwrap(), 1_000);
    assert_eq!(budget(&world, 900).await.unwrap(), 900);
    world.stop().await;
    world.start(limits).await.unwrap();
    assert_eq!(
        budget(&world, 1_000).await.unwrap(),
        100,
        "what is left of two full tickets"
    );
    assert_eq!(refusal(budget(&world, 1).await), Refusal::Budget);
}

#[tokio::test]
async fn a_freeze_that_is_committed_withholds_a_ticket_before_memory_knows_it() {
    // rule: ISS-1, REN-3
    let Ready { world, node, held } = ready().await;
    let key = keys::node(&node.name);
    let record: NodeRecord = world.stored(&key).await;
    let frozen = NodeRecord {
        frozen: Some(Frozen {
            at: world.now(),
            alarm: Alarm::Fork,
            other_key: node.key.public(),
            other_old: None,
            other_chain: None,
            other_login: None,
        }),
        ..record.clone()
    };
    let unfrozen_since = NodeRecord {
        from: world.now().plus(1),
        ..record.clone()
    };
    for stored in [&frozen, &unfrozen_since] {
        world.put(&key, stored).await;
        assert_eq!(
            refusal(node.issue(&world, &held, |_| {}).await),
            Refusal::Denied
        );
    }
    let entries = world.entries();
    let withheld = entries.iter().filter(|entry| entry.kind == Kind::Withheld);
    assert_eq!(withheld.count(), 2);
    world.put(&key, &record).await;
    node.issue(&world, &held, |_| {}).await.unwrap();
}

async fn dataset_named_faces(world: &World) -> DatasetId {
    world.stored(&keys::dataset_name("faces")).await
}

#[tokio::test]
async fn what_is_denied_while_the_entry_is_written_does_not_leave() {
    // rule: ISS-1
    let Ready { world, node, held } = ready().await;
    let (connection, job) = (world.connect(), ProofSecret::generate(&mut rng()));
    let body = node.issue_body(&world, &held, &job, |_| {}).to_cbor();
    let hash = Some(ticket::hash(&held.bytes));
    let sign = |key: &ProofSecret| {
        let channel = &connection.channel;
        channel.sign_with(key, labels::ISSUE_REQUEST, hash, &body)
    };
    let proofs = [sign(&held.proof_key), sign(&job)];
    let message = Request::encode_parts(Verb::Issue, &body, &proofs);
    let request = RequestView::parse(&message).unwrap();
    let (broker, now) = (world.broker(), world.now());
    let (realm, caller) = (broker.realm(), &connection.caller);
    let asked = issue::parse(&request).unwrap();
    let opened = issue::open(asked, realm, caller, now).unwrap();
    let named = dataset_named_faces(&world).await;
    let dataset: DatasetEntry = world.stored(&keys::dataset(named)).await;
    let text = r#"@id("all") permit (principal, action, resource);"#;
    let policy = policy::Policy::parse(text).unwrap();
    let view = issue::View {
        dataset: Some(&dataset),
        aliases: Default::default(),
        policy: Some(&policy),
        proof_key: None,
        denied: &|_| None,
    };
    let weighed = issue::weigh(&opened, &view, caller, now).unwrap();
    let entry = opened.entry(ActId::random(&mut rng()), caller, now, 0);
    let granted = issue::grant(&weighed, 1, entry, realm, now, &mut rng()).unwrap();
    let record: NodeRecord = world.stored(&keys::node(&node.name)).await;
    let check = |denied: Selector| {
        let denial = Denial::new(
            denied,
            String::new(),
            StatementDigest([0; 32]),
            now,
            String::new(),
        );
        let mut set = DenialSet::new();
        set.insert(&denial, 1).unwrap();
        let denied = |facts: &TicketFacts<'_>| set.check(facts).map(|_| "denied".to_owned());
        issue::still_allowed(&opened, &granted, Some(&record), &denied, now)
    };
    check(Selector::ticket(TicketId([9; 16]))).unwrap();
    let made = dataset_claims(&world, &granted.ticket).common.id;
    for denied in [
        Selector::node(node.name.clone()),
        Selector::dataset(named),
        Selector::ticket(made),
    ] {
        assert_eq!(check(denied).unwrap_err().refusal, Refusal::Denied);
    }
    let gone = issue::still_allowed(&opened, &granted, None, &|_| None, now);
    assert_eq!(gone.unwrap_err().refusal, Refusal::Denied);
}
