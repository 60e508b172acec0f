//! Renew (`spec/protocol.md`, section 5): every pair of keys, and what survives.
#![allow(missing_docs)]

mod support;

use support::*;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::keys::{NodeSecret, ProofSecret};
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::messages::renew::RenewBody;
use ticket_format::statement::{NodeShow, NodeState, NodeUnfreeze};

/// A node whose key went first -> second -> third: retired, previous, current.
struct Rotated {
    world: World,
    node: Node,
    held: Held,
    keys: [NodeSecret; 3],
    /// The evidence chain that the holder of each key has.
    chains: [ticket_format::ids::EvidenceHash; 3],
}

async fn rotated() -> Rotated {
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let mut keys = vec![NodeSecret::from_seed(&node.key.seed())];
    let mut chains = vec![node.chain];
    let mut held = None;
    for _ in 0..2 {
        held = Some(node.renew(&world).await.unwrap());
        keys.push(NodeSecret::from_seed(&node.key.seed()));
        chains.push(node.chain);
    }
    let keys: [NodeSecret; 3] = keys.try_into().unwrap_or_else(|_| panic!("three"));
    Rotated {
        world,
        node,
        held: held.unwrap(),
        keys,
        chains: chains.try_into().unwrap(),
    }
}

#[tokio::test]
async fn cve_2024_2048_every_pair_of_keys_is_judged_as_the_rules_say() {
    // rule: REN-2, REN-3, REN-4, SIG-4
    let names = ["retired", "previous", "current", "unknown"];
    // Rows: old key. Columns: new key fresh, the same, retired, previous, current, another node's.
    use Refusal::{Fork, KeyReused, NotAuthenticated};
    let table: [[Option<Refusal>; 6]; 4] = [
        [
            Some(Fork),
            Some(KeyReused),
            Some(KeyReused),
            Some(Fork),
            Some(Fork),
            Some(Fork),
        ],
        [
            Some(Fork),
            Some(KeyReused),
            Some(Fork),
            Some(KeyReused),
            None,
            Some(Fork),
        ],
        [
            None,
            Some(KeyReused),
            Some(Fork),
            Some(Fork),
            Some(KeyReused),
            Some(KeyReused),
        ],
        [Some(NotAuthenticated); 6],
    ];
    for (old, row) in table.iter().enumerate() {
        for (new, expected) in row.iter().enumerate() {
            let Rotated {
                world,
                mut node,
                held,
                keys,
                chains,
            } = rotated().await;
            let elsewhere = world.launch(&SEOUL, |_| {}).await;
            let mut other = Node::boot(&SEOUL);
            other.login(&world, &elsewhere).await.unwrap();
            let stranger = NodeSecret::generate(&mut rng());
            let old_key = keys.get(old).unwrap_or(&stranger);
            let fresh = NodeSecret::generate(&mut rng());
            let new_key = [&fresh, old_key, &keys[0], &keys[1], &keys[2], &other.key][new];
            node.chain = chains[old.min(2)];
            let what = format!("old {}, new {new}", names[old]);
            let result = node.renew_with(&world, old_key, new_key).await;
            assert_eq!(
                result.as_ref().err().map(|notice| notice.refusal),
                *expected,
                "{what}"
            );
            // Only a fork changes anything.
            let view = world
                .act(&NodeShow {
                    node: node.name.clone(),
                })
                .await
                .unwrap();
            let forked = *expected == Some(Fork);
            assert_eq!(view.state == NodeState::Frozen, forked, "{what}");
            assert_eq!(world.alarms().contains(&Alarm::Fork), forked, "{what}");
            (node.key, node.chain) = (NodeSecret::from_seed(&keys[2].seed()), chains[2]);
            let issued = node.issue(&world, &held, |_| {}).await;
            assert_eq!(
                issued.is_err(),
                forked,
                "{what}: the node's tickets are denied on a fork"
            );
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_the_node_goes_on() {
    // rule: REN-2
    let mut world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    for restarts in [false, true] {
        let next = NodeSecret::generate(&mut rng());
        // The node sends, the broker commits, the answer is lost, the node sends again and again.
        drop(node.renew_with(&world, &node.key, &next).await.unwrap());
        if restarts {
            world.restart().await;
        }
        drop(node.renew_with(&world, &node.key, &next).await.unwrap());
        let (held, chain) = node.renew_with(&world, &node.key, &next).await.unwrap();
        assert_eq!(held.claims(&world).node_key, next.public());
        assert_eq!(held.claims(&world).common.evidence, chain);
        (node.key, node.chain) = (next, chain);
        node.renew(&world).await.unwrap();
    }
    assert!(world.alarms().is_empty());
}

#[tokio::test]
async fn of_two_holders_of_one_disk_the_second_freezes_the_node() {
    // rule: REN-3
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let mut clone = node.clone_disk();
    clone.renew(&world).await.unwrap();
    let refused = node.renew(&world).await.map(drop).unwrap_err();
    assert_eq!(refused.refusal, Refusal::Fork);
    assert_eq!(refusal(clone.renew(&world).await), Refusal::NodeFrozen);
    assert_eq!(refusal(node.renew(&world).await), Refusal::NodeFrozen);
    assert_eq!(world.alarms(), [Alarm::Fork]);
    let denial = world
        .entries()
        .into_iter()
        .find(|entry| entry.kind == Kind::Denial)
        .unwrap();
    assert_eq!(denial.subject, Some(SYDNEY.node().to_string()));
}

#[tokio::test]
async fn a_race_of_two_holders_ends_with_one_key_and_a_frozen_node() {
    // rule: REN-3
    let world = std::sync::Arc::new(World::new().await);
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let races: Vec<_> = (0..20)
        .map(|_| {
            let (world, mut holder) = (world.clone(), node.clone_disk());
            tokio::spawn(async move { holder.renew(&world).await.map(drop) })
        })
        .collect();
    let mut won = 0;
    for race in races {
        match race.await.unwrap() {
            Ok(()) => won += 1,
            Err(notice) => assert!(
                matches!(notice.refusal, Refusal::Fork | Refusal::NodeFrozen),
                "{notice}"
            ),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(world.alarms(), [Alarm::Fork]);
}

#[tokio::test]
async fn a_stranger_freezes_nobody() {
    // rule: REN-4
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let mut stranger = Node::boot(&SYDNEY);
    assert_eq!(
        refusal(stranger.renew(&world).await),
        Refusal::NotAuthenticated
    );
    let mut nowhere = Node::boot(&SEOUL);
    assert_eq!(
        refusal(nowhere.renew(&world).await),
        Refusal::NotAuthenticated
    );
    // The node key of another node, under this node's name.
    let elsewhere = world.launch(&SEOUL, |_| {}).await;
    nowhere.login(&world, &elsewhere).await.unwrap();
    nowhere.name = SYDNEY.node();
    assert_eq!(
        refusal(nowhere.renew(&world).await),
        Refusal::NotAuthenticated
    );
    assert!(world.alarms().is_empty());
    node.renew(&world).await.unwrap();
}

#[tokio::test]
async fn cve_2015_2694_a_renewal_needs_all_its_signatures_and_leaves_nothing_at_any_early_exit() {
    // rule: SIG-3, REN-4, REN-6
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let (mine, theirs) = (world.connect(), world.connect());
    let (next, proof_key) = (
        NodeSecret::generate(&mut rng()),
        ProofSecret::generate(&mut rng()),
    );
    let (good, proofs, _) = node.renewal(&mine.channel, &node.key, &next, &proof_key);
    let sign = |body: &RenewBody| {
        Node::renewal_proofs(&mine.channel, &node.key, &next, &proof_key, &body.to_cbor()).to_vec()
    };

    let mut cases = Vec::new();
    let four = [&proofs[..], &proofs[..1]].concat();
    for wrong in [&proofs[..2], &four[..], &[]] {
        cases.push((good.clone(), wrong.to_vec(), Refusal::Malformed));
    }
    for at in 0..3 {
        let (mut other, mut bent) = (proofs.to_vec(), proofs.to_vec());
        other[at] = proofs[(at + 1) % 3].clone();
        bent[at].value[40] ^= 1;
        for wrong in [other, bent] {
            cases.push((good.clone(), wrong, Refusal::NotAuthenticated));
        }
    }
    // Each signature is there, over something else than the evidence, and by somebody else.
    let by_next = node.renewal(&mine.channel, &next, &next, &proof_key).0;
    let changes: [fn(&mut RenewBody); 2] = [
        |body| body.chain.0[0] ^= 1,
        |body| body.evidence.value[40] ^= 1,
    ];
    for change in changes {
        let mut body = good.clone();
        change(&mut body);
        let proofs = sign(&body);
        cases.push((body, proofs, Refusal::NotAuthenticated));
    }
    let body = RenewBody {
        evidence: by_next.evidence,
        ..good.clone()
    };
    let resigned = sign(&body);
    cases.push((body, resigned, Refusal::NotAuthenticated));
    // All is signed by whom it has to be, over a chain that is not the node's.
    let mut astray = node.clone_disk();
    astray.chain.0[0] ^= 1;
    let (body, signed, _) = astray.renewal(&mine.channel, &node.key, &next, &proof_key);
    cases.push((body, signed.to_vec(), Refusal::NotAuthenticated));

    let show = NodeShow {
        node: node.name.clone(),
    };
    let before = world.act(&show).await.unwrap();
    for (number, (body, proofs, expected)) in cases.into_iter().enumerate() {
        let answer = mine.send(Verb::Renew, &body.to_cbor(), &proofs).await;
        assert_eq!(refusal(answer), expected, "case {number}");
        assert_eq!(
            world.act(&show).await.unwrap(),
            before,
            "case {number}: nothing is of it"
        );
    }
    let body = good.to_cbor();
    assert_eq!(
        refusal(theirs.send(Verb::Renew, &body, &proofs).await),
        Refusal::NotAuthenticated
    );
    assert!(
        world
            .entries()
            .iter()
            .all(|entry| entry.kind != Kind::Renew || entry.outcome.is_err())
    );
    assert!(world.alarms().is_empty());
    // Neither is a key of it registered: they are all free for the honest one.
    let renewed = mine.send(Verb::Renew, &body, &proofs).await;
    assert!(renewed.is_ok(), "{renewed:?}");
    assert_ne!(world.act(&show).await.unwrap(), before);
}

#[tokio::test]
async fn the_evidence_chain_must_be_the_nodes_own() {
    // rule: REN-6
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let mut wrong = node.clone_disk();
    wrong.chain.0[0] ^= 1;
    assert_eq!(
        refusal(wrong.renew(&world).await),
        Refusal::NotAuthenticated
    );
    node.renew(&world).await.unwrap();
}

#[tokio::test]
async fn a_denied_node_renews_no_more() {
    // rule: DEN-7
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    world.deny(Selector::launch(launch.id)).await;
    assert_eq!(refusal(node.renew(&world).await), Refusal::Denied);
    let view = world
        .act(&NodeShow {
            node: node.name.clone(),
        })
        .await
        .unwrap();
    assert_eq!(
        (view.state, view.reason.as_str()),
        (NodeState::Denied, "disk cloned")
    );
}

#[tokio::test]
async fn an_admin_decides_which_holder_goes_on() {
    // rule: REN-5
    for honest_is_recorded in [true, false] {
        let world = World::new().await;
        world.dataset().await;
        let launch = world.launch(&SYDNEY, |_| {}).await;
        let mut node = Node::boot(&SYDNEY);
        node.login(&world, &launch).await.unwrap();
        let mut clone = node.clone_disk();
        let next = NodeSecret::generate(&mut rng());
        if honest_is_recorded {
            node.renew(&world).await.unwrap();
            assert_eq!(refusal(clone.renew(&world).await), Refusal::Fork);
        } else {
            clone.renew(&world).await.unwrap();
            assert_eq!(
                refusal(node.renew_with(&world, &node.key, &next).await),
                Refusal::Fork
            );
        }
        let name = node.name.clone();
        let foreign = NodeSecret::generate(&mut rng()).public();
        assert_eq!(
            refusal(
                world
                    .act(&NodeUnfreeze {
                        node: name.clone(),
                        node_key: foreign
                    })
                    .await
            ),
            Refusal::Invalid
        );
        let key = if honest_is_recorded {
            node.key.public()
        } else {
            next.public()
        };
        let view = world
            .act(&NodeUnfreeze {
                node: name,
                node_key: key,
            })
            .await
            .unwrap();
        assert_eq!((view.state, view.node_key), (NodeState::Live, key));
        let held = if honest_is_recorded {
            node.renew(&world).await.unwrap()
        } else {
            let (held, chain) = node.renew_with(&world, &node.key, &next).await.unwrap();
            (node.key, node.chain) = (next, chain);
            held
        };
        // Tickets that were under way at the freeze are denied too.
        world.clock.advance(3);
        node.issue(&world, &held, |_| {}).await.unwrap();
        assert!(matches!(refusal(clone.renew(&world).await), Refusal::Fork));
    }
}

#[tokio::test]
async fn a_node_ticket_lives_eight_hours_and_no_longer() {
    let Rotated {
        world, node, held, ..
    } = rotated().await;
    world.clock.advance(limits::NODE_TICKET_LIFE - 1);
    node.issue(&world, &held, |_| {}).await.unwrap();
    world.clock.advance(1);
    assert_eq!(
        refusal(
            node.issue(&world, &held, |body| body.expires = body.expires.plus(1))
                .await
        ),
        Refusal::TicketExpired
    );
}

#[tokio::test]
async fn a_freeze_denies_every_node_ticket_that_was_given_before_it() {
    // rule: REN-3
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    let old = NodeSecret::from_seed(&node.key.seed());
    node.renew(&world).await.unwrap();
    let fork = async |node: &Node| {
        let fresh = NodeSecret::generate(&mut rng());
        refusal(node.renew_with(&world, &old, &fresh).await)
    };
    assert_eq!(fork(&node).await, Refusal::Fork);
    world
        .act(&NodeUnfreeze {
            node: node.name.clone(),
            node_key: node.key.public(),
        })
        .await
        .unwrap();
    // Begins ahead of the clock: with the first freeze's margin.
    let mut node = node;
    let held = node.renew(&world).await.unwrap();
    let fresh = NodeSecret::generate(&mut rng());
    assert_eq!(
        refusal(node.renew_with(&world, &old, &fresh).await),
        Refusal::Fork
    );
    world.clock.advance(5);
    assert_eq!(
        refusal(node.issue(&world, &held, |_| {}).await),
        Refusal::Denied
    );
}
