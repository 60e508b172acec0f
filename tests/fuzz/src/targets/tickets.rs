//! Tickets, wrapped DEKs and denials.

use ticket_format::denial::{Denial, DenialSet, Link, Loader, Members, Selector, TicketFacts};
use ticket_format::ids::{DatasetId, TicketId};
use ticket_format::messages::feed::{Epoch, Event};
use ticket_format::ticket::{
    self, Audience, Claims, DatasetClaims, NodeClaims, TicketError, TicketKeys, TicketSigner,
    Verified,
};
use ticket_format::wrapped::{Wrapped, public};
use ticket_format::{Refusal, limits};

use super::{READS, Target, all_have_one_encoding, members, one_encoding, refusal, vectors_bytes};
use crate::mutate::Form;
use crate::tree::Item;
use crate::vectors;
use crate::world::world;

/// Tickets: as they come, and as the broker would sign the claims that come.
pub const TICKET: Target = Target {
    name: "ticket",
    form: Form::Cbor,
    runs: 5_000,
    room: READS,
    seeds: || members(&["ticket", "node_ticket", "payload"]),
    run: ticket,
};

fn audiences() -> (Audience, Audience) {
    let keys = &world().keys;
    (
        Audience::Broker(keys.broker_tls.public()),
        Audience::KeyServer(keys.server_tls.public()),
    )
}

fn ticket(data: &[u8]) {
    let (broker, server) = audiences();
    let node = judged(verify::<NodeClaims>(data, broker));
    let dataset = judged(verify::<DatasetClaims>(data, server));
    // rule: TKT-1
    if node.is_some() || dataset.is_some() {
        assert!(vectors_bytes().contains(data), "a ticket was forged");
    }
    // Of one kind it is never the other.
    assert!(node.is_none() || dataset.is_none());
    let _ = ticket::read_unverified::<NodeClaims>(data);
    let _ = ticket::read_unverified::<DatasetClaims>(data);
    // The claims that come, in the envelope of each kind.
    for kind in ["ticket/node", "ticket/dataset"] {
        if let Some(made) = signed(kind, data) {
            let node = judged(verify::<NodeClaims>(&made, broker));
            let dataset = judged(verify::<DatasetClaims>(&made, server));
            // rule: ENC-1
            if let Some(ticket) = &node {
                assert!(
                    ticket::sign(ticket.claims(), &world().keys.ticket) == made,
                    "a ticket has two encodings"
                );
            }
            if let Some(ticket) = &dataset {
                assert!(
                    ticket::sign(ticket.claims(), &world().keys.ticket) == made,
                    "a ticket has two encodings"
                );
            }
        }
    }
}

fn verify<C: Claims>(data: &[u8], audience: Audience) -> Result<Verified<C>, TicketError> {
    let keys = TicketKeys::first(world().keys.ticket.public());
    ticket::verify::<C>(data, &keys, &world().realm.name, audience)
}

fn judged<C: Claims>(verified: Result<Verified<C>, TicketError>) -> Option<Verified<C>> {
    match verified {
        Ok(ticket) => Some(ticket),
        Err(error) => {
            let told = Refusal::from(error);
            refusal(told, &told.into(), false);
            None
        }
    }
}

/// A ticket whose payload is whatever it is, signed by the broker's key (RFC 9052, 4.4).
fn signed(kind: &str, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > limits::TICKET {
        return None;
    }
    let protected = vectors::bytes(kind, "protected");
    let input = Item::Array(vec![
        Item::Text(b"Signature1".to_vec()),
        Item::Bytes(protected.clone()),
        Item::Bytes(Vec::new()),
        Item::Bytes(payload.to_vec()),
    ]);
    let signature = TicketSigner::sign(&world().keys.ticket, &input.to_bytes()).ok()?;
    let parts = vec![
        Item::Bytes(protected),
        Item::Map(Vec::new()),
        Item::Bytes(payload.to_vec()),
        Item::Bytes(signature),
    ];
    Some(Item::Tag(18, Box::new(Item::Array(parts))).to_bytes())
}

/// Wrapped DEKs, as a key server and an inspector read them.
pub const WRAPPED: Target = Target {
    name: "wrapped",
    form: Form::Cbor,
    runs: 80_000,
    room: READS,
    seeds: || members(&["wrapped", "damaged"]),
    run: wrapped,
};

fn wrapped(data: &[u8]) {
    let Ok(wrapped) = Wrapped::parse(data) else {
        return;
    };
    // rule: ENC-1
    assert!(
        crate::tree::deterministic(data),
        "a wrap is not deterministic"
    );
    assert!(data.len() <= limits::WRAPPED, "a wrap is larger than any");
    let producer = vectors::array("world", "producer.public");
    let producer = ticket_format::keys::ProducerKey::from_bytes(&producer).expect("a key");
    let context = vectors::bytes("wrapped/local", "context");
    if let Wrapped::Public {
        header,
        enc,
        commitment,
        producer: Some(claim),
        ..
    } = &wrapped
    {
        let realm = &world().realm.name;
        let verified =
            public::verify_producer(&[producer], realm, header, enc, commitment, &context, claim);
        // rule: WRAP-4
        assert!(
            verified.is_err() || vectors_bytes().contains(data),
            "a producer's signature was forged"
        );
    }
}

/// Denials and what selects by them, against a set that looks at each of them in turn.
pub const DENIAL: Target = Target {
    name: "denial",
    form: Form::Cbor,
    runs: 40_000,
    room: READS,
    seeds: || {
        let mut seeds = members(&[
            "denial",
            "denial_1",
            "denial_2",
            "denial_3",
            "lifting_4",
            "selector",
            "epoch_1",
            "bytes",
        ]);
        seeds.extend(vectors::all_bytes(|file, _, bytes| {
            file.starts_with("denial/") && bytes.len() > 32
        }));
        seeds
    },
    run: denial,
};

fn denial(data: &[u8]) {
    all_have_one_encoding!(data; Selector, Epoch);
    let Some(denial) = one_encoding::<Denial>(data) else {
        return;
    };
    let event = Event::Denial(data.to_vec());
    assert_eq!(Link::of(&event).map(|link| link.forget), Ok(denial.forget));
    let again = Denial::new(
        denial.selector.clone(),
        String::new(),
        denial.statement,
        denial.made,
        String::new(),
    );
    // rule: DEN-7
    assert_eq!(denial.is_kept(), again.forget == denial.forget);
    let mut one = DenialSet::seeded(&[1; 16]);
    one.insert(&denial, 7).expect("there is room for one");
    let mut loader = Loader::new(&[2; 16]);
    loader.read(data, 7).expect("what was read is read again");
    loader.sort();
    let loaded = loader.finish();
    for facts in tickets(&denial.selector) {
        // rule: DEN-2
        let hit = hits(denial.selector.members(), &facts);
        assert_eq!(
            one.check(&facts).is_some(),
            hit,
            "{facts:?} by {:?}",
            denial.selector
        );
        assert_eq!(loaded.check(&facts).is_some(), hit);
    }
    one.lift(&[7]);
    assert!(one.is_empty(), "a lifted denial is still there");
}

/// The node's ticket and, of what the selector names, one that has all of it and one that has none.
fn tickets(selector: &Selector) -> Vec<TicketFacts<'_>> {
    let world = world();
    let members = selector.members();
    let attributes = &world.node.attributes;
    let plain = TicketFacts {
        ticket: Some(TicketId([1; 16])),
        parent: Some(TicketId([2; 16])),
        node: &attributes.node,
        launch: world.launch.terms.launch,
        image: &attributes.image,
        dataset: Some(DatasetId([3; 16])),
        issued: world.now,
    };
    let named = TicketFacts {
        ticket: members.ticket.or(plain.ticket),
        node: members.node.as_ref().unwrap_or(plain.node),
        launch: members.launch.unwrap_or(plain.launch),
        dataset: members.dataset.or(plain.dataset),
        ..plain
    };
    vec![plain, named]
}

/// What the protocol says of a selector, member by member (DEN-2).
fn hits(members: &Members, facts: &TicketFacts<'_>) -> bool {
    let ticket = members
        .ticket
        .is_none_or(|ticket| facts.ticket == Some(ticket) || facts.parent == Some(ticket));
    let node = members.node.as_ref().is_none_or(|node| node == facts.node);
    let launch = members.launch.is_none_or(|launch| launch == facts.launch);
    let image = members
        .image
        .as_ref()
        .is_none_or(|image| image == facts.image);
    let account = members
        .account
        .as_ref()
        .is_none_or(|account| account == facts.node.account());
    let region = members
        .region
        .as_ref()
        .is_none_or(|region| region == facts.node.region());
    let dataset = members
        .dataset
        .is_none_or(|dataset| facts.dataset == Some(dataset));
    let before = members
        .issued_before
        .is_none_or(|before| facts.issued < before);
    ticket && node && launch && image && account && region && dataset && before
}
