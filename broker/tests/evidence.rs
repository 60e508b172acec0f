//! What the broker gives a node so that others can check the broker's tickets (EVD-1, ISS-6, ISS-7).
#![allow(missing_docs)]

mod support;

use broker::state::{LaunchRecord, keys};
use support::admins::{admin, set_of};
use support::*;
use ticket_format::entry::{Entry, Kind};
use ticket_format::evidence::{
    self, EvidenceError, IssueEvidence, LoginEvidence, RenewEvidence, Trust,
};
use ticket_format::ids::{EvidenceHash, ProofHash, StatementDigest};
use ticket_format::iid::{self, RegionKeys};
use ticket_format::keys::{AdminSecret, NodeSecret};
use ticket_format::messages::present::{Evidence, Link};
use ticket_format::side::pairs_digest;
use ticket_format::sign::Proof;
use ticket_format::statement::{AdminSet, AdminSetBody};
use ticket_format::ticket::{Action, Actions, DatasetClaims};
use ticket_format::{Context, Refusal};

/// What a node keeps of its chain.
struct Kept {
    launch: Vec<u8>,
    login: Link,
    renewals: Vec<Link>,
}

fn link_of(world: &World, held: &Held, proof: Proof) -> Link {
    let claims = held.claims(world);
    Link {
        node_key: claims.node_key,
        proof_key: claims.common.proof_key,
        sealing_key: claims.common.sealing_key.hash(),
        proof,
    }
}

/// The login's link; the signature is made again, as it depends on nothing else.
fn login_link(world: &World, launch: &Launch, node: &Node, held: &Held) -> Link {
    let claims = held.claims(world);
    let document = iid::verify(&node.proof, &RegionKeys::built_in()).unwrap();
    let body = LoginEvidence {
        launch: launch.id,
        launch_digest: launch.digest,
        iid_proof: ProofHash(*document.proof_hash()),
        node_key: claims.node_key,
        proof_key: claims.common.proof_key,
        sealing_key: claims.common.sealing_key.hash(),
    };
    let proof = body.sign(&launch.secret, REALM, &world.tls.public());
    link_of(world, held, proof)
}

async fn renew(world: &World, node: &mut Node, kept: &mut Kept) -> Held {
    let old = NodeSecret::from_seed(&node.key.seed());
    let chain: EvidenceHash = node.chain;
    let held = node.renew(world).await.unwrap();
    let claims = held.claims(world);
    let body = RenewEvidence {
        node: &node.name,
        old_key: old.public(),
        new_key: claims.node_key,
        proof_key: claims.common.proof_key,
        sealing_key: claims.common.sealing_key.hash(),
        chain,
    };
    let proof = body.sign(&old, REALM, &world.tls.public());
    kept.renewals.push(link_of(world, &held, proof));
    held
}

fn shown(world: &World, node: &Node, kept: &Kept, claims: &DatasetClaims) -> Evidence {
    let expires = world.now().plus(3_600);
    let body = IssueEvidence {
        dataset: &claims.dataset_name,
        actions: claims.actions,
        required: &claims.required,
        proof_key: claims.common.proof_key,
        kem: claims.common.sealing_key.kem(),
        sealing_key: claims.common.sealing_key.hash(),
        expires,
        chain: node.chain,
    };
    Evidence {
        launch: kept.launch.clone(),
        iid_proof: node.proof.clone(),
        login: kept.login.clone(),
        renewals: kept.renewals.clone(),
        issue: (expires, body.sign(&node.key, REALM, &world.tls.public())),
    }
}

fn check(world: &World, evidence: &Evidence, claims: &DatasetClaims) -> Result<(), EvidenceError> {
    let regions = RegionKeys::built_in();
    let trust = Trust {
        realm: REALM,
        broker: world.tls.public(),
        admins: &world.admins.set(),
        regions: &regions,
        now: world.now(),
    };
    evidence::verify(evidence, claims, "faces", &trust).map(drop)
}

#[tokio::test]
async fn login_and_renewals_bring_all_that_proves_a_dataset_ticket() {
    // rule: LOG-10, REN-6, EVD-1
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let record: LaunchRecord = world.stored(&keys::launch(launch.id)).await;
    assert_eq!(held.answer.launch, record.statement);
    assert_eq!(StatementDigest::of(&held.answer.launch), launch.digest);
    let mut kept = Kept {
        launch: held.answer.launch.clone(),
        login: login_link(&world, &launch, &node, &held),
        renewals: Vec::new(),
    };
    let mut ticket = held;
    for renewals in 0..3 {
        let answer = node.issue(&world, &ticket, |_| {}).await.unwrap();
        let claims = dataset_claims(&world, &answer.ticket);
        let evidence = shown(&world, &node, &kept, &claims);
        assert_eq!(check(&world, &evidence, &claims), Ok(()), "{renewals}");
        // A broker that says something else of the node is caught.
        let mut lie = claims.clone();
        lie.common.attributes.image = "ami-0123456789abcdef0".to_owned();
        assert_eq!(
            check(&world, &evidence, &lie),
            Err(EvidenceError::Attribute("image"))
        );
        ticket = renew(&world, &mut node, &mut kept).await;
        // rule: REN-6 — also the renewal brings the launch.
        assert_eq!(ticket.answer.launch, kept.launch);
    }
}

#[tokio::test]
async fn an_issue_brings_the_admin_sets_that_the_node_does_not_know() {
    // rule: ISS-6
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let answer = node.issue(&world, &held, |_| {}).await.unwrap();
    assert!(answer.admin_sets.is_empty());
    let mut set: AdminSet = world.admins.set();
    for version in 2..=4 {
        let more = AdminSecret::generate(&mut rng());
        let mut admins = world.admins.all();
        admins.push(admin(
            &format!("operator-{version}"),
            &more,
            &[ticket_format::statement::AdminRole::Operator],
        ));
        let next: AdminSetBody = set_of(version, set.digest(), admins);
        world.record(&next).await.unwrap();
        set = AdminSet::new(next).unwrap();
    }
    for known in 1..=5 {
        let answer = node
            .issue(&world, &held, |body| body.admin_set = known)
            .await
            .unwrap();
        assert_eq!(
            answer.admin_sets.len(),
            usize::try_from(4u64.saturating_sub(known)).unwrap()
        );
        if known == 1 {
            let first = world.admins.set();
            let followed = first.follow(&answer.admin_sets, REALM, world.now());
            assert_eq!(followed.unwrap(), set);
        }
    }
}

fn issues(world: &World) -> Vec<Entry> {
    let mut entries = world.entries();
    entries.retain(|entry| entry.kind == Kind::Issue);
    entries
}

#[tokio::test]
async fn what_the_policy_decided_on_stands_in_the_entry_and_beside_it() {
    // rule: ISS-7, AUD-5
    let mut world = World::new().await;
    let dataset = world.dataset().await;
    let text = r#"@id("study-a") permit (principal, action == Postern::Action::"decrypt", resource)
        when { context.pairs.hasTag("study") && context.pairs.getTag("study") == "a" };
        @id("not-b") forbid (principal, action, resource)
        when { context.pairs.hasTag("study") && context.pairs.getTag("study") == "b" };"#;
    world.set_policy(text).await.unwrap();
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    let study = |value: &str| {
        Context::new(
            [("study".to_owned(), value.to_owned())]
                .into_iter()
                .collect(),
        )
        .unwrap()
    };
    let actions = Actions::new(&[Action::Decrypt]).unwrap();
    let allowed = node
        .issue(&world, &held, |body| body.required = study("a"))
        .await;
    assert!(allowed.is_ok());
    let refused = node
        .issue(&world, &held, |body| body.required = study("b"))
        .await;
    assert_eq!(refusal(refused), Refusal::Policy);
    let entries = issues(&world);
    let said = |entry: &Entry| (entry.dataset, entry.actions, entry.pairs);
    for (entry, pairs, outcome, policy) in [
        (&entries[0], study("a"), Ok(()), "study-a"),
        (&entries[1], study("b"), Err(Refusal::Policy), "not-b"),
    ] {
        let expected = (
            Some(dataset),
            Some(actions),
            Some(pairs_digest(&world.pairs, &pairs)),
        );
        assert_eq!(said(entry), expected);
        // rule: AUD-5 — whoever can guess the pairs learns nothing from the entry.
        let guessed =
            ticket_format::ids::RequestHash::of(&ticket_format::cbor::Encode::to_cbor(&pairs));
        assert_ne!(entry.pairs.map(|digest| digest.0), Some(guessed.0));
        assert_eq!(entry.outcome, outcome);
        assert_eq!(entry.policies, Some(vec![policy.to_owned()]));
        assert!(entry.policy.is_some());
    }
    // A refusal that no policy made says nothing of one.
    let unknown = node
        .issue(&world, &held, |body| body.dataset = "voices".to_owned())
        .await;
    assert_eq!(refusal(unknown), Refusal::DatasetUnknown);
    assert_eq!(said(&issues(&world)[2]), (None, None, None));
    world.stop().await;
    let (side, _) =
        audit_log::SideFile::open(world.path("audit.side"), &audit_log::SideOptions::default())
            .unwrap();
    for pairs in [study("a"), study("b")] {
        let record = side
            .get(&pairs_digest(&world.pairs, &pairs).0)
            .unwrap()
            .unwrap();
        let record: ticket_format::side::SideRecord =
            ticket_format::cbor::Decode::from_cbor(&record, record.len()).unwrap();
        assert_eq!((record.dek, record.pairs), (None, pairs));
    }
    side.close().await;
}
