//! Evidence beside a ticket that does not bear it out, and epochs that do not follow each other.

use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::CHAIN_START;
use ticket_format::evidence::{IssueEvidence, LoginEvidence};
use ticket_format::ids::{DenialDigest, EvidenceHash, LaunchId};
use ticket_format::keys::LaunchSecret;
use ticket_format::limits;
use ticket_format::messages::feed::{Epoch, Event, FeedAnswer};
use ticket_format::messages::present::{Evidence, Link};
use ticket_format::ticket::{self, DatasetClaims};

use super::super::admins;
use super::super::case::Case;
use super::super::exchanges;
use super::super::world::{IID_PROOF, LAUNCH, NOW, REALM, World, at};
use super::{malformed, refused};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let mut all = lies(world);
    all.extend(chains(world));
    all.extend(epochs());
    all
}

fn check(
    world: &World,
    (path, about): (&str, &str),
    edit: impl FnOnce(&mut Evidence, &mut DatasetClaims),
) -> Case {
    let (mut evidence, end) = exchanges::evidence(world);
    let mut claims = world.dataset_claims(end, &world.job_sealing);
    edit(&mut evidence, &mut claims);
    let got = exchanges::check_evidence(world, &evidence, &claims)
        .map_err(|error| (Refusal::Evidence, error));
    refused(path, "evidence", about, Refusal::Evidence, got)
        .given("ticket", ticket::sign(&claims, &world.ticket))
        .given("evidence", evidence.to_cbor())
        .input("now", NOW)
}

/// Tickets in which the broker says something else than the evidence.
fn lies(world: &World) -> Vec<Case> {
    vec![
        check(
            world,
            (
                "evidence-image",
                "EVD-1: the ticket names another image than the identity document.",
            ),
            |_, claims| claims.common.attributes.image = "ami-00000000000000000".to_owned(),
        ),
        check(
            world,
            (
                "evidence-launch",
                "EVD-1: the ticket names another launch than the evidence.",
            ),
            |_, claims| claims.common.launch = LaunchId([0x63; 16]),
        ),
        check(
            world,
            (
                "evidence-pairs",
                "EVD-1: the node asked with a required pair; the ticket has none.",
            ),
            |_, claims| claims.required = ticket_format::Context::default(),
        ),
        check(
            world,
            (
                "evidence-expiry",
                "EVD-1: the ticket lives a second longer than the node asked for.",
            ),
            |_, claims| claims.common.expires = at(3_601),
        ),
        check(
            world,
            (
                "evidence-sealing-key",
                "EVD-1: the ticket names another sealing key than the job's.",
            ),
            |_, claims| claims.common.sealing_key = world.node_sealing.public(),
        ),
    ]
}

/// Evidence that does not hold in itself.
fn chains(world: &World) -> Vec<Case> {
    vec![
        check(
            world,
            (
                "evidence-cut",
                "EVD-1: the renewal is left out of the chain.",
            ),
            |evidence, _| evidence.renewals.clear(),
        ),
        check(
            world,
            (
                "evidence-invented",
                "EVD-1: a whole chain that begins with a signature by another key than the launch's.",
            ),
            |evidence, claims| {
                (*evidence, claims.common.evidence) = invented(world);
            },
        ),
        check(
            world,
            (
                "evidence-launch-unsigned",
                "EVD-1, SET-2: the launch is signed by an owner of datasets, not by an operator.",
            ),
            |evidence, _| evidence.launch = admins::signed(&world.launch_payload(), &["owner"]),
        ),
        check(
            world,
            (
                "evidence-document",
                "EVD-1, IID-2: the identity document's last group is missing.",
            ),
            |evidence, _| {
                let text: String = IID_PROOF.chars().filter(|c| !c.is_whitespace()).collect();
                let cut = text.len() - 4;
                evidence.iid_proof = text.as_bytes().get(..cut).unwrap_or_default().to_vec();
            },
        ),
    ]
}

/// What a broker makes that lets in a node of its own: a launch that admins signed, a real identity
/// document, and everything else by keys of its own.
fn invented(world: &World) -> (Evidence, EvidenceHash) {
    let (broker, sealing_key) = (
        world.broker_tls.public(),
        world.node_sealing.public().hash(),
    );
    let login = LoginEvidence {
        launch: LAUNCH,
        launch_digest: world.launch_digest(),
        iid_proof: world.proof_hash,
        node_key: world.node.public(),
        proof_key: world.node_proof.public(),
        sealing_key,
    };
    let other = LaunchSecret::from_seed(&[0x64; 32]);
    let proof = login.sign(&other, REALM, &broker);
    let chain = login.link(None, &proof);
    let required = World::required();
    let issue = IssueEvidence {
        dataset: "faces",
        actions: World::actions(),
        required: &required,
        proof_key: world.job_proof.public(),
        kem: world.job_sealing.kem(),
        sealing_key: world.job_sealing.public().hash(),
        expires: at(3_600),
        chain,
    };
    let issued = issue.sign(&world.node, REALM, &broker);
    let end = issue.link(Some(chain), &issued);
    let evidence = Evidence {
        launch: world.launch_statement(),
        iid_proof: IID_PROOF.as_bytes().to_vec(),
        login: Link {
            node_key: world.node.public(),
            proof_key: world.node_proof.public(),
            sealing_key,
            proof,
        },
        renewals: Vec::new(),
        issue: (at(3_600), issued),
    };
    (evidence, end)
}

/// Feed answers whose epochs have a gap or stand there twice.
fn epochs() -> Vec<Case> {
    let check = |path: &str, about: &str, numbers: [u64; 2]| {
        let epoch = |number| Epoch {
            number,
            event: Event::Gone {
                forget: at(0),
                denial: DenialDigest([0x62; 32]),
            },
        };
        let body = FeedAnswer {
            nonce: [0x61; 32],
            epoch: numbers[1],
            chain: CHAIN_START,
            now: at(0),
            epochs: numbers.map(epoch).to_vec(),
            admin_set: 1,
        }
        .to_cbor();
        let got = FeedAnswer::from_cbor(&body, limits::MESSAGE)
            .map(|_| ())
            .map_err(malformed);
        refused(path, "feed-answer", about, Refusal::Malformed, got).given("body", body)
    };
    vec![
        check("feed-epoch-gap", "DEN-4: epoch 3 after epoch 1.", [1, 3]),
        check("feed-epoch-twice", "DEN-4: epoch 1 twice.", [1, 1]),
        check("feed-epoch-back", "DEN-4: epoch 1 after epoch 2.", [2, 1]),
    ]
}
