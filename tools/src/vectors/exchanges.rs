//! Login, renew and issue with the evidence that they leave, and that evidence beside a ticket.

use ticket_format::cbor::Encode;
use ticket_format::entry::Kind;
use ticket_format::evidence::{self, IssueEvidence, LoginEvidence, RenewEvidence, Trust};
use ticket_format::ids::EvidenceHash;
use ticket_format::iid::RegionKeys;
use ticket_format::labels;
use ticket_format::messages::issue::{IssueAnswer, IssueBody};
use ticket_format::messages::login::{LoginAnswer, LoginBody};
use ticket_format::messages::present::{Evidence, Link, PresentBody};
use ticket_format::messages::renew::{RenewAnswer, RenewBody};
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::sign::{ALG_EDDSA, Proof};
use ticket_format::ticket::{self, DatasetClaims};

use super::admins;
use super::case::Case;
use super::world::{
    AUTHENTICATOR, IID_PROOF, LAUNCH, LOGIN, REALM, World, at, ed25519, identity, signed_input,
};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let (login, first, _) = login(world);
    let (renew, second, _) = renew(world, first);
    let (issue, _, _) = issue(world, second);
    vec![login, renew, issue, beside(world), refusal()]
}

/// The chain of these exchanges, and its end.
pub(super) fn evidence(world: &World) -> (Evidence, EvidenceHash) {
    let (_, first, login) = login(world);
    let (_, second, renewal) = renew(world, first);
    let (_, third, issued) = issue(world, second);
    let evidence = Evidence {
        launch: world.launch_statement(),
        iid_proof: IID_PROOF.as_bytes().to_vec(),
        login,
        renewals: vec![renewal],
        issue: (at(3_600), issued),
    };
    (evidence, third)
}

/// Checks evidence as the key server of the vectors does.
pub(super) fn check_evidence(
    world: &World,
    evidence: &Evidence,
    claims: &DatasetClaims,
) -> Result<(), String> {
    let (regions, admins) = (RegionKeys::built_in(), admins::set());
    let trust = Trust {
        realm: REALM,
        broker: world.broker_tls.public(),
        admins: &admins,
        regions: &regions,
        now: at(0),
    };
    evidence::verify(evidence, claims, "faces", &trust)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Signs for the connection to the broker, and holds the code's signature against plain Ed25519 over
/// the array of SIG-1.
macro_rules! proof {
    ($world:ident, $key:expr, $label:expr, $body:expr) => {{
        let input = signed_input(
            $label,
            &identity($world.broker_tls.public()),
            Some(AUTHENTICATOR),
            None,
            $body,
        );
        let proof = $world.to_broker().sign_with($key, $label, None, $body);
        assert_eq!(
            proof,
            Proof {
                alg: ALG_EDDSA,
                value: ed25519(&$key.seed(), &input)
            }
        );
        proof
    }};
}

/// The same for evidence, which is bound to no connection (LOG-10).
macro_rules! evidence {
    ($world:ident, $evidence:expr, $key:expr, $label:expr) => {{
        let (evidence, broker) = ($evidence, $world.broker_tls.public());
        let proof = evidence.sign($key, REALM, &broker);
        let input = signed_input($label, &identity(broker), None, None, &evidence.to_cbor());
        assert_eq!(proof.value, ed25519(&$key.seed(), &input));
        (evidence.to_cbor(), input, proof)
    }};
}

/// A request to the broker.
pub(super) fn exchange(
    case: Case,
    verb: Verb,
    rule: &'static str,
    body: &[u8],
    proofs: Vec<Proof>,
) -> Case {
    let signed = verb.request_label().map(|label| label.to_owned());
    let request = Request {
        verb,
        body: body.to_vec(),
        proofs,
    };
    case.expect("label", signed)
        .gives_item("body", rule, body)
        .gives_item("request", "request", request.to_bytes())
}

/// Its answer.
pub(super) fn answer(case: Case, verb: Verb, rule: &'static str, body: &impl Encode) -> Case {
    case.gives_item("answer_body", rule, body.to_cbor())
        .gives_item("answer", "answer", Answer::done(verb, body).to_bytes())
}

fn login(world: &World) -> (Case, EvidenceHash, Link) {
    let sealing_key = world.node_sealing.public();
    let evidence = LoginEvidence {
        launch: LAUNCH,
        launch_digest: world.launch_digest(),
        iid_proof: world.proof_hash,
        node_key: world.node.public(),
        proof_key: world.node_proof.public(),
        sealing_key: sealing_key.hash(),
    };
    let (evidence_body, evidence_input, evidence_proof) =
        evidence!(world, evidence, &world.launch, labels::EVIDENCE_LOGIN);
    let link = evidence.link(None, &evidence_proof);
    let body = LoginBody {
        launch: LAUNCH,
        login: LOGIN,
        iid_proof: IID_PROOF.as_bytes().to_vec(),
        node_key: world.node.public(),
        proof_key: world.node_proof.public(),
        sealing_key: sealing_key.clone(),
        launch_digest: world.launch_digest(),
        evidence: evidence_proof.clone(),
    }
    .to_cbor();
    let label = labels::LOGIN_REQUEST;
    let proofs = vec![
        proof!(world, &world.launch, label, &body),
        proof!(world, &world.node, label, &body),
        proof!(world, &world.node_proof, label, &body),
    ];
    let signed = signed_input(
        label,
        &identity(world.broker_tls.public()),
        Some(AUTHENTICATOR),
        None,
        &body,
    );
    let case = Case::new(
        "exchange/login",
        "SIG-3, LOG-10: a login, signed by launch, node and proof key, and its answer.",
    )
    .input("keys", "world.json")
    .given("launch_digest", world.launch_digest().0)
    .given("iid_proof_hash", world.proof_hash.0)
    .gives("evidence_body", &evidence_body)
    .gives_item("evidence_signed", "signed", &evidence_input)
    .gives("evidence_signature", &evidence_proof.value)
    .gives("evidence_hash", link.0)
    .gives_item("signed", "signed", &signed);
    let case = exchange(case, Verb::Login, "login-body", &body, proofs);
    let ticket = ticket::sign(&world.node_claims(link), &world.ticket);
    let receipt = world.broker_log.receipt(
        &world
            .entry(Kind::Login)
            .evidence(link)
            .ticket_hash(ticket::hash(&ticket)),
    );
    let body = LoginAnswer {
        ticket,
        receipt,
        launch: world.launch_statement(),
        records: Vec::new(),
    };
    let made = Link {
        node_key: world.node.public(),
        proof_key: world.node_proof.public(),
        sealing_key: sealing_key.hash(),
        proof: evidence_proof,
    };
    (answer(case, Verb::Login, "login-answer", &body), link, made)
}

fn renew(world: &World, chain: EvidenceHash) -> (Case, EvidenceHash, Link) {
    let sealing_key = world.node_sealing.public();
    let evidence = RenewEvidence {
        node: &world.attributes.node,
        old_key: world.node.public(),
        new_key: world.next_node.public(),
        proof_key: world.node_proof.public(),
        sealing_key: sealing_key.hash(),
        chain,
    };
    let (evidence_body, evidence_input, evidence_proof) =
        evidence!(world, evidence, &world.node, labels::EVIDENCE_RENEW);
    let link = evidence.link(Some(chain), &evidence_proof);
    let body = RenewBody {
        node: world.attributes.node.clone(),
        old_key: world.node.public(),
        new_key: world.next_node.public(),
        proof_key: world.node_proof.public(),
        sealing_key: sealing_key.clone(),
        chain,
        evidence: evidence_proof.clone(),
    }
    .to_cbor();
    let label = labels::RENEW_REQUEST;
    let proofs = vec![
        proof!(world, &world.node, label, &body),
        proof!(world, &world.next_node, label, &body),
        proof!(world, &world.node_proof, label, &body),
    ];
    let case = Case::new(
        "exchange/renew",
        "SIG-3, REN-6: a renewal, signed by old node, new node and proof key.",
    )
    .input("keys", "world.json")
    .given("evidence_hash_so_far", chain.0)
    .gives("evidence_body", &evidence_body)
    .gives_item("evidence_signed", "signed", &evidence_input)
    .gives("evidence_signature", &evidence_proof.value)
    .gives("evidence_hash", link.0);
    let case = exchange(case, Verb::Renew, "renew-body", &body, proofs);
    let mut claims = world.node_claims(link);
    claims.node_key = world.next_node.public();
    let ticket = ticket::sign(&claims, &world.ticket);
    let receipt = world.broker_log.receipt(
        &world
            .entry(Kind::Renew)
            .evidence(link)
            .ticket_hash(ticket::hash(&ticket)),
    );
    let body = RenewAnswer {
        ticket,
        receipt,
        launch: world.launch_statement(),
        records: Vec::new(),
    };
    let made = Link {
        node_key: world.next_node.public(),
        proof_key: world.node_proof.public(),
        sealing_key: sealing_key.hash(),
        proof: evidence_proof,
    };
    (answer(case, Verb::Renew, "renew-answer", &body), link, made)
}

fn issue(world: &World, chain: EvidenceHash) -> (Case, EvidenceHash, Proof) {
    let mut claims = world.node_claims(chain);
    claims.node_key = world.next_node.public();
    let node_ticket = ticket::sign(&claims, &world.ticket);
    let (sealing_key, required) = (world.job_sealing.public(), World::required());
    let evidence = IssueEvidence {
        dataset: "faces",
        actions: World::actions(),
        required: &required,
        proof_key: world.job_proof.public(),
        kem: sealing_key.kem(),
        sealing_key: sealing_key.hash(),
        expires: at(3_600),
        chain,
    };
    let (evidence_body, evidence_input, evidence_proof) =
        evidence!(world, evidence, &world.next_node, labels::EVIDENCE_ISSUE);
    let link = evidence.link(Some(chain), &evidence_proof);
    let body = IssueBody {
        node_ticket: node_ticket.clone(),
        dataset: "faces".to_owned(),
        actions: World::actions(),
        required: required.clone(),
        proof_key: world.job_proof.public(),
        sealing_key: sealing_key.clone(),
        life: 3_600,
        budget: 1_000,
        expires: at(3_600),
        evidence: evidence_proof.clone(),
        admin_set: 1,
        ticket_key: 1,
    }
    .to_cbor();
    let (label, hash) = (labels::ISSUE_REQUEST, ticket::hash(&node_ticket));
    let input = signed_input(
        label,
        &identity(world.broker_tls.public()),
        Some(AUTHENTICATOR),
        Some(&hash.0),
        &body,
    );
    let channel = world.to_broker();
    let proofs: Vec<Proof> = [&world.node_proof, &world.job_proof]
        .into_iter()
        .map(|key| {
            let proof = channel.sign_with(key, label, Some(hash), &body);
            assert_eq!(
                proof.value,
                ed25519(&key.seed(), &input),
                "issue is signed over SIG-1's array"
            );
            proof
        })
        .collect();
    let case = Case::new(
        "exchange/issue",
        "SIG-3, ISS-2: an issue, signed by the node ticket's and the job's proof key.",
    )
    .input("keys", "world.json")
    .given("evidence_hash_so_far", chain.0)
    .given("node_ticket", &node_ticket)
    .gives("evidence_body", &evidence_body)
    .gives_item("evidence_signed", "signed", &evidence_input)
    .gives("evidence_signature", &evidence_proof.value)
    .gives("evidence_hash", link.0)
    .gives_item("signed", "signed", &input);
    let case = exchange(case, Verb::Issue, "issue-body", &body, proofs);
    let ticket = ticket::sign(
        &world.dataset_claims(link, &world.job_sealing),
        &world.ticket,
    );
    let receipt = world
        .broker_log
        .witnessed(&world.issued(&ticket).evidence(link));
    let body = IssueAnswer {
        ticket,
        receipt,
        record: world.record_statement(),
        admin_sets: vec![admins::signed(&admins::next_payload(), admins::SECURITY)],
        ticket_keys: Vec::new(),
    };
    let case = answer(case, Verb::Issue, "issue-answer", &body);
    (case, link, evidence_proof)
}

/// The chain of these exchanges, beside the ticket that names its end (EVD-1).
fn beside(world: &World) -> Case {
    let (evidence, end) = evidence(world);
    let claims = world.dataset_claims(end, &world.job_sealing);
    assert_eq!(check_evidence(world, &evidence, &claims), Ok(()));
    let ticket = ticket::sign(&claims, &world.ticket);
    let body = PresentBody {
        ticket: ticket.clone(),
        receipt: Some(
            world
                .broker_log
                .witnessed(&world.issued(&ticket).evidence(end)),
        ),
        evidence: Some(evidence.clone()),
    }
    .to_cbor();
    let (hash, label) = (ticket::hash(&ticket), labels::PRESENT_REQUEST);
    let proof = world
        .to_server()
        .sign_with(&world.job_proof, label, Some(hash), &body);
    let case = Case::new(
        "exchange/present-evidence",
        "EVD-1: a ticket presented with the chain of login, renewal and issue that its evidence hash ends.",
    )
    .input("keys", "world.json")
    .given("ticket", &ticket)
    .given("evidence_hash", end.0)
    .gives_item("evidence", "evidence", evidence.to_cbor());
    exchange(case, Verb::Present, "present-body", &body, vec![proof])
}

fn refusal() -> Case {
    use ticket_format::Refusal;
    use ticket_format::messages::RefusalNotice;
    let bytes = |notice: RefusalNotice| Answer::from(notice).to_bytes();
    Case::new(
        "exchange/refusal",
        "REF-1, REF-2: a refusal as a stranger gets it, and with a detail.",
    )
    .input("number", Refusal::Denied.number())
    .input("detail", "disk cloned")
    .gives_item(
        "bare",
        "answer",
        bytes(RefusalNotice::bare(Refusal::Denied)),
    )
    .gives_item(
        "detailed",
        "answer",
        bytes(RefusalNotice::detailed(Refusal::Denied, "disk cloned")),
    )
}
