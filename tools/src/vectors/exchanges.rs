//! Login, renew and issue with the evidence that they leave, and the feed.

use ticket_format::cbor::Encode;
use ticket_format::denial::{CHAIN_START, Denial, Selector, chain_next};
use ticket_format::entry::Kind;
use ticket_format::evidence::{IssueEvidence, LoginEvidence, RenewEvidence};
use ticket_format::ids::{EvidenceHash, StatementDigest};
use ticket_format::labels;
use ticket_format::messages::feed::{FeedAnswer, FeedBody, Numbered};
use ticket_format::messages::issue::{IssueAnswer, IssueBody};
use ticket_format::messages::login::{LoginAnswer, LoginBody};
use ticket_format::messages::renew::RenewBody;
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::sign::{ALG_EDDSA, Proof};
use ticket_format::ticket;

use super::case::Case;
use super::world::{
    AUTHENTICATOR, IID_PROOF, LAUNCH, LOGIN, World, at, ed25519, identity, signed_input,
};

pub(super) fn cases(world: &World) -> Vec<Case> {
    let (login, first) = login(world);
    let (renew, second) = renew(world, first);
    vec![login, renew, issue(world, second), feed(world), refusal()]
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
        let proof = evidence.sign($key, super::world::REALM, &broker);
        let input = signed_input($label, &identity(broker), None, None, &evidence.to_cbor());
        assert_eq!(proof.value, ed25519(&$key.seed(), &input));
        (evidence.to_cbor(), input, proof)
    }};
}

fn exchange(case: Case, verb: Verb, rule: &'static str, body: &[u8], proofs: Vec<Proof>) -> Case {
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

fn answer(case: Case, verb: Verb, rule: &'static str, body: &impl Encode) -> Case {
    case.gives_item("answer_body", rule, body.to_cbor())
        .gives_item("answer", "answer", Answer::done(verb, body).to_bytes())
}

fn login(world: &World) -> (Case, EvidenceHash) {
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
    let receipt = World::receipt(
        &world
            .entry(Kind::Login)
            .evidence(link)
            .ticket_hash(ticket::hash(&ticket)),
    );
    (
        answer(
            case,
            Verb::Login,
            "login-answer",
            &LoginAnswer { ticket, receipt },
        ),
        link,
    )
}

fn renew(world: &World, chain: EvidenceHash) -> (Case, EvidenceHash) {
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
    let receipt = World::receipt(
        &world
            .entry(Kind::Renew)
            .evidence(link)
            .ticket_hash(ticket::hash(&ticket)),
    );
    (
        answer(
            case,
            Verb::Renew,
            "renew-answer",
            &LoginAnswer { ticket, receipt },
        ),
        link,
    )
}

fn issue(world: &World, chain: EvidenceHash) -> Case {
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
    let receipt = World::receipt(
        &world
            .entry(Kind::Issue)
            .evidence(link)
            .ticket_hash(ticket::hash(&ticket)),
    );
    answer(
        case,
        Verb::Issue,
        "issue-answer",
        &IssueAnswer {
            ticket,
            receipt,
            record: world.record_statement(),
        },
    )
}

fn feed(world: &World) -> Case {
    let denial = Denial::new(
        Selector::launch(LAUNCH),
        "fork".to_owned(),
        StatementDigest([0; 32]),
        at(0),
    )
    .to_cbor();
    let body = FeedBody {
        subscriber: world.server.public(),
        nonce: [0x61; 32],
        epoch: 0,
        chain: CHAIN_START,
        hold_ms: 30_000,
    }
    .to_cbor();
    let proof = proof!(world, &world.server, labels::FEED_REQUEST, &body);
    let case = Case::new(
        "exchange/feed",
        "DEN-3, DEN-4: a key server asks for news and gets one denial, signed by the feed key.",
    )
    .input("keys", "world.json")
    .given("nonce", [0x61; 32])
    .given("denial", &denial);
    let case = exchange(case, Verb::Feed, "feed-body", &body, vec![proof]);
    let answer = FeedAnswer {
        nonce: [0x61; 32],
        epoch: 1,
        chain: chain_next(CHAIN_START, &denial),
        now: at(0),
        snapshot: false,
        denials: vec![Numbered { epoch: 1, denial }],
    }
    .to_cbor();
    let proof = proof!(world, &world.feed, labels::FEED_ANSWER, &answer);
    let whole = Answer::Done {
        verb: Verb::Feed,
        body: answer.clone(),
        proof: Some(proof),
    };
    case.gives_item("answer_body", "feed-answer", &answer)
        .gives_item("answer", "answer", whole.to_bytes())
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
