//! The feed: what a key server asks and tells, and what it gets.

use ticket_format::cbor::Encode;
use ticket_format::denial::{CHAIN_START, Link};
use ticket_format::entry::Alarm;
use ticket_format::ids::{ChainDigest, DenialDigest};
use ticket_format::labels;
use ticket_format::messages::feed::{Epoch, Event, FeedAnswer, FeedBody, Report};
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::sign::Proof;

use super::admins;
use super::case::Case;
use super::statements::{denial, ticket_key_payload, undeny_payload};
use super::world::{ACT, AUTHENTICATOR, DATASET, World, at, ed25519, identity, signed_input};

const NONCE: [u8; 32] = [0x61; 32];

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![denied(world), lifted(world)]
}

/// What the key server says, having applied nothing, and its signature.
pub(super) fn feed_request(world: &World, reports: Vec<Report>) -> (Vec<u8>, Proof) {
    let body = FeedBody {
        subscriber: world.server.public(),
        nonce: NONCE,
        epoch: 0,
        chain: CHAIN_START,
        hold_ms: 30_000,
        reports,
    }
    .to_cbor();
    let input = signed(world, labels::FEED_REQUEST, &body);
    let proof = world
        .to_broker()
        .sign_with(&world.server, labels::FEED_REQUEST, None, &body);
    let other_path = ed25519(&world.server.seed(), &input);
    assert_eq!(proof.value, other_path, "over SIG-1's array");
    (body, proof)
}

fn signed(world: &World, label: &str, body: &[u8]) -> Vec<u8> {
    let broker = identity(world.broker_tls.public());
    signed_input(label, &broker, Some(AUTHENTICATOR), None, body)
}

/// The request, and the answer that brings these epochs, signed by the feed key.
fn feed(world: &World, case: Case, reports: Vec<Report>, events: Vec<Event>) -> Case {
    let (body, proof) = feed_request(world, reports);
    let request = Request {
        verb: Verb::Feed,
        body: body.clone(),
        proofs: vec![proof],
    };
    let chain = events
        .iter()
        .fold(CHAIN_START, |chain: ChainDigest, event| {
            // Events of constants, which are read again as they were written.
            Link::of(event).map_or(chain, |link| link.after(chain))
        });
    let epochs: Vec<Epoch> = events
        .into_iter()
        .zip(1..)
        .map(|(event, number)| Epoch { number, event })
        .collect();
    let case = epochs.iter().fold(case, |case, epoch| {
        case.gives_item(&format!("epoch_{}", epoch.number), "epoch", epoch.to_cbor())
    });
    let answer = FeedAnswer {
        nonce: NONCE,
        epoch: epochs.len() as u64,
        chain,
        now: at(0),
        epochs,
        admin_set: 1,
    }
    .to_cbor();
    let proof = world
        .to_broker()
        .sign_with(&world.feed, labels::FEED_ANSWER, None, &answer);
    let input = signed(world, labels::FEED_ANSWER, &answer);
    assert_eq!(proof.value, ed25519(&world.feed.seed(), &input));
    let whole = Answer::Done {
        verb: Verb::Feed,
        body: answer.clone(),
        proof: Some(proof),
    };
    case.input("keys", "world.json")
        .given("nonce", NONCE)
        .expect("label", labels::FEED_REQUEST)
        .gives_item(
            "signed",
            "signed",
            signed(world, labels::FEED_REQUEST, &body),
        )
        .gives_item("body", "feed-body", &body)
        .gives_item("request", "request", request.to_bytes())
        .gives_item("answer_signed", "signed", &input)
        .gives_item("answer_body", "feed-answer", &answer)
        .gives_item("answer", "answer", whole.to_bytes())
}

fn denied(world: &World) -> Case {
    let case = Case::new(
        "exchange/feed",
        "DEN-3, DEN-4: a key server asks for news and gets one denial, signed by the feed key.",
    );
    feed(world, case, Vec::new(), vec![Event::Denial(denial(world))])
}

fn lifted(world: &World) -> Case {
    let report = Report {
        act: ACT,
        alarm: Alarm::Canary,
        node: world.attributes.node.clone(),
        dataset: DATASET,
        time: at(0),
        deny: true,
    };
    let case = Case::new(
        "exchange/feed-lifting",
        "DEN-4, DEN-9, DEN-11: a key server tells of a canary and gets a denial, its lifting, one that is gone, and a ticket key.",
    )
    .gives_item("report", "report", report.to_cbor());
    let events = vec![
        Event::Denial(denial(world)),
        Event::Lifting(admins::signed(&undeny_payload(world), admins::SECURITY)),
        Event::Gone {
            forget: at(0).minus(60),
            denial: DenialDigest([0x62; 32]),
        },
        Event::TicketKey(admins::signed(&ticket_key_payload(world), admins::SECURITY)),
    ];
    feed(world, case, vec![report], events)
}
