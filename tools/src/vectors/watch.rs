//! Watch and wipe: a holder hears of its ticket's denial and says that it erased its keys.

use ticket_format::cbor::Encode;
use ticket_format::entry::Kind;
use ticket_format::labels;
use ticket_format::messages::watch::{WatchAnswer, WatchBody};
use ticket_format::messages::wipe::{WipeAnswer, WipeBody};
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::ticket;

use super::case::Case;
use super::tickets::EVIDENCE;
use super::world::{AUTHENTICATOR, World, at, ed25519, identity, signed_input};

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![watch(world), wipe(world)]
}

fn ticket(world: &World) -> Vec<u8> {
    let claims = world.dataset_claims(EVIDENCE, &world.job_sealing);
    ticket::sign(&claims, &world.ticket)
}

fn signed(world: &World, label: &str, body: &[u8]) -> Vec<u8> {
    signed_input(
        label,
        &identity(world.server_tls.public()),
        Some(AUTHENTICATOR),
        Some(&ticket::hash(&ticket(world)).0),
        body,
    )
}

/// The request, signed by the ticket's proof key.
fn request(world: &World, case: Case, verb: Verb, rule: &'static str, body: &[u8]) -> Case {
    let label = verb.request_label().unwrap_or_default();
    let hash = ticket::hash(&ticket(world));
    let proof = world
        .to_server()
        .sign_with(&world.job_proof, label, Some(hash), body);
    let input = signed(world, label, body);
    let other_path = ed25519(&world.job_proof.seed(), &input);
    assert_eq!(proof.value, other_path, "over SIG-1's array");
    let request = Request {
        verb,
        body: body.to_vec(),
        proofs: vec![proof],
    };
    case.input("keys", "world.json")
        .given("ticket", ticket(world))
        .expect("label", label)
        .gives_item("body", rule, body)
        .gives_item("signed", "signed", &input)
        .gives_item("request", "request", request.to_bytes())
}

fn watch(world: &World) -> Case {
    let body = WatchBody {
        ticket: ticket(world),
        hold_ms: 30_000,
    }
    .to_cbor();
    let case = Case::new(
        "exchange/watch",
        "WIP-1, WIP-2: a ticket's holder hears from the key server that it is denied.",
    );
    let case = request(world, case, Verb::Watch, "watch-body", &body);
    let answer = WatchAnswer {
        epoch: 1,
        denied: true,
        reason: Some("disk cloned".to_owned()),
    }
    .to_cbor();
    let hash = ticket::hash(&ticket(world));
    let proof =
        world
            .to_server()
            .sign_with(&world.server, labels::WATCH_ANSWER, Some(hash), &answer);
    let input = signed(world, labels::WATCH_ANSWER, &answer);
    assert_eq!(proof.value, ed25519(&world.server.seed(), &input));
    let whole = Answer::Done {
        verb: Verb::Watch,
        body: answer.clone(),
        proof: Some(proof),
    };
    let waiting = WatchAnswer {
        epoch: 0,
        denied: false,
        reason: None,
    };
    case.gives_item("answer_body", "watch-answer", &answer)
        .gives_item("answer_signed", "signed", &input)
        .gives_item("answer", "answer", whole.to_bytes())
        .gives_item("answer_body, not denied", "watch-answer", waiting.to_cbor())
}

fn wipe(world: &World) -> Case {
    let body = WipeBody {
        ticket: ticket(world),
        epoch: 1,
        erased: 12,
        at: at(1),
    }
    .to_cbor();
    let case = Case::new(
        "exchange/wipe",
        "WIP-2: the holder says that it erased its keys, and gets the receipt of that.",
    );
    let case = request(world, case, Verb::Wipe, "wipe-body", &body);
    let entry = world
        .entry(Kind::Wiped)
        .ticket_hash(ticket::hash(&ticket(world)))
        .count(12);
    let answer = WipeAnswer {
        receipt: world.server_log.receipt(&entry),
    };
    case.gives_item("answer_body", "wipe-answer", answer.to_cbor())
        .gives_item(
            "answer",
            "answer",
            Answer::done(Verb::Wipe, &answer).to_bytes(),
        )
}
