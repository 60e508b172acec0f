//! No single admin can widen policy, lift a denial or change who decides (promise 9).

use tests::admins::{self, Admins, admin};
use ticket_format::cbor::Decode;
use ticket_format::denial::Denial;
use ticket_format::ids::DenialDigest;
use ticket_format::keys::{AdminSecret, ProducerSecret};
use ticket_format::seal::Kem;
use ticket_format::statement::{
    Act, ActBody, AdminRole, AdminSet, AdminSetBody, AdminSetShow, Canary, DatasetOwnersSet,
    DatasetPolicySet, DatasetSet, PolicySet, ProducerAdd, Propose, Undeny, Witnessing,
    policy_digest,
};

use super::*;

/// Sends an act signed by each admin alone, and by the operator with one owner: never enough.
async fn nobody_alone<B: ActBody>(house: &House, wire: &Wire, body: &B, everyone: bool) {
    let Admins { operator, owners } = &house.admins;
    for signers in [
        vec![operator],
        vec![&owners[0]],
        vec![&owners[1]],
        vec![operator, &owners[0]],
    ] {
        let message = if everyone {
            admins::record_by(&signers, &wire.channel.realm, body)
        } else {
            admins::statement_by(&signers, &wire.channel, body)
        };
        let names: Vec<String> = signers.iter().map(|key| key.public().to_string()).collect();
        // rule: SET-2
        assert_eq!(
            wire.send(&message).await.refusal(),
            Some(Refusal::Quorum),
            "{} by {names:?}",
            B::ACT
        );
    }
}

/// The set that follows the standing one, with something changed.
fn next(house: &House, change: impl FnOnce(&mut AdminSetBody)) -> AdminSetBody {
    let standing = house.admins.first_set();
    let mut body = standing.body().clone();
    body.version += 1;
    body.follows = standing.digest();
    change(&mut body);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_9_no_single_admin_can_widen_policy_or_lift_a_denial() {
    let mut house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let presented = server.present_when_leased(&ticket).await;
    let open = "@id(\"wide\")\npermit(principal, action, resource);\n";
    let standing = policy_digest(tests::house::OPEN_POLICY);

    let wide = PolicySet {
        text: open.to_owned(),
        replaces: Some(standing),
    };
    nobody_alone(&house, &broker, &wide, false).await;
    let wide = DatasetPolicySet {
        name: DATASET.to_owned(),
        text: open.to_owned(),
        replaces: standing,
    };
    nobody_alone(&house, &server, &wide, false).await;
    let options = DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: DATASET.to_owned(),
        max_budget: 1_000_000_000,
        max_life: 86_400,
        kems: vec![Kem::X25519, Kem::XWing],
        lease: 300,
        evidence: false,
        canary: Canary::No,
        witnessing: Witnessing::none(),
    };
    nobody_alone(&house, &server, &options, false).await;
    let owners = DatasetOwnersSet {
        name: DATASET.to_owned(),
        owners: vec![house.admins.owners[0].public()],
    };
    nobody_alone(&house, &server, &owners, false).await;
    let producer = ProducerAdd {
        name: DATASET.to_owned(),
        producer: ProducerSecret::generate(&mut rng()).public(),
    };
    nobody_alone(&house, &server, &producer, false).await;

    // A denial, which takes one, and its lifting, which takes two.
    let deny = DenyBody {
        selector: Selector::ticket(wire::claims(&ticket).common.id),
        reason: "promise 9".to_owned(),
    };
    let denied = broker.act(&house.admins, &deny).await.expect("denied");
    Denial::from_cbor(&denied.record, denied.record.len()).expect("the denial");
    let undeny = Undeny {
        denials: vec![(denied.epoch, DenialDigest::of(&denied.record))],
        reason: "promise 9".to_owned(),
    };
    nobody_alone(&house, &broker, &undeny, true).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while refused(server.generate(&presented, &named("a")).await) != Some(Refusal::Denied) {
        assert!(Instant::now() < deadline, "the denial is not applied");
    }

    // Who decides: one admin cannot lower the number, add a friend, or drop the other.
    let friend = AdminSecret::generate(&mut rng());
    let added = next(&house, |set| {
        set.admins
            .push(admin("friend", friend.public(), &admins::MANAGERS));
        set.admins.sort_by_key(|admin| admin.key.to_bytes());
    });
    for wire in [&broker, &server] {
        nobody_alone(&house, wire, &added, true).await;
        // rule: SET-4 — and two cannot lower it below what keeps the promise.
        for (act, number) in [(Act::PolicySet, 1), (Act::AdminSet, 1), (Act::Undeny, 1)] {
            let low = next(&house, |set| {
                set.quorums.insert(act, number);
            });
            assert!(AdminSet::new(low.clone()).is_err());
            let message = admins::record_by(&house.admins.all(), &wire.channel.realm, &low);
            assert!(wire.send(&message).await.refusal().is_some(), "{act}");
        }
        let both = next(&house, |set| {
            for admin in &mut set.admins {
                admin.roles = AdminRole::ALL.to_vec();
            }
        });
        let message = admins::record_by(&house.admins.all(), &wire.channel.realm, &both);
        assert_eq!(wire.send(&message).await.refusal(), Some(Refusal::Invalid));
    }

    // Two lift it, and everybody hears of that as of the denial.
    let lift = wire::record(&house.admins, &broker.channel.realm, &undeny);
    let _ = broker.send(&lift).await.done();
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.generate(&presented, &named("a")).await.is_err() {
        assert!(Instant::now() < deadline, "the lifting is not applied");
    }
    house.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_admins_signature_counts_nowhere_from_then_on() {
    let mut house = House::start();
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let [first, second] = &house.admins.owners;
    let third = AdminSecret::generate(&mut rng());

    // Proposed by the first, in the broker's inbox.
    let policy = PolicySet {
        text: tests::house::OPEN_POLICY.to_owned(),
        replaces: Some(policy_digest(tests::house::OPEN_POLICY)),
    };
    let proposed = admins::statement_by(&[first], &broker.channel, &policy).body;
    let row = broker
        .act(
            &house.admins,
            &Propose {
                statement: proposed.clone(),
            },
        )
        .await
        .expect("proposed");
    assert_eq!((row.counting, row.needed), (1, 2));

    // Then a third takes the first's place.
    let changed = next(&house, |set| {
        for one in &mut set.admins {
            if one.key == first.public() {
                *one = admin("owner-3", third.public(), &admins::MANAGERS);
            }
        }
        set.admins.sort_by_key(|admin| admin.key.to_bytes());
    });
    for wire in [&broker, &server] {
        let message = admins::record_by(&[first, second], &wire.channel.realm, &changed);
        let _ = wire.send(&message).await.done();
        // rule: SET-3
        let page = wire
            .act(&house.admins, &AdminSetShow { after: 1 })
            .await
            .expect("the history");
        assert_eq!(page.statements.len(), 1);
        // Sent again it is not even a replay: one of its signers is nobody any more.
        assert_eq!(
            wire.send(&message).await.refusal(),
            Some(Refusal::StatementSignature)
        );
    }
    // rule: SET-6
    for place in ["broker", "key-server"] {
        assert_eq!(house.alarms(place, Alarm::AdminSet), 1, "{place}");
    }

    // rule: SET-2 — approved by the second, it has one signature that counts and one of nobody's.
    let received =
        ticket_format::statement::ReceivedStatement::parse(&proposed).expect("a statement");
    let approved = received.add_by(second).expect("two signatures");
    let sent = broker
        .raw(&ticket_format::messages::Request::encode_parts(
            Verb::Administer,
            &approved,
            &[],
        ))
        .await;
    assert_eq!(sent.refusal(), Some(Refusal::StatementSignature));
    let remade = admins::statement_by(&[second, &third], &broker.channel, &policy);
    let _ = broker.send(&remade).await.done();
    // The owners of a dataset are named by key: the third is none until security says so.
    let policy = DatasetPolicySet {
        name: DATASET.to_owned(),
        text: tests::house::OPEN_POLICY.to_owned(),
        replaces: policy_digest(tests::house::OPEN_POLICY),
    };
    // rule: SET-5
    let by_both = admins::statement_by(&[second, &third], &server.channel, &policy);
    assert_eq!(server.send(&by_both).await.refusal(), Some(Refusal::Quorum));
    let mut owners = vec![second.public(), third.public()];
    owners.sort_by_key(|owner| owner.to_bytes());
    let replaced = DatasetOwnersSet {
        name: DATASET.to_owned(),
        owners,
    };
    let message = admins::statement_by(&[second, &third], &server.channel, &replaced);
    let _ = server.send(&message).await.done();
    let message = admins::statement_by(&[second, &third], &server.channel, &policy);
    let _ = server.send(&message).await.done();

    // And a restart forgets none of it.
    house.broker.restart();
    house.key_server.restart();
    for wire in [house.to_broker().await, house.to_key_server().await] {
        let old = admins::statement_by(&[first], &wire.channel, &AdminSetShow { after: 0 });
        assert_eq!(
            wire.send(&old).await.refusal(),
            Some(Refusal::StatementSignature)
        );
    }
    house.is_sound();
}
