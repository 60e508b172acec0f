//! The broker's handlers, from the bytes of a request to the ticket or the refusal: its pure core on the state of
//! the vectors. Each takes the bytes as a request, and as the body of one that is signed as it must be.

mod administer;
mod held;
mod issue;
mod node;
mod subscribe;

pub use administer::ADMINISTER;
pub use held::WATCH;
pub use issue::ISSUE;
pub use node::{LOGIN, RENEW};
pub use subscribe::SUBSCRIBE;

use broker::Refused;
use broker::state::{Changes, NodeRecord};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Alarm, Entry};
use ticket_format::limits;
use ticket_format::messages::{Request, RequestView, Verb};
use ticket_format::sign::Proof;
use ticket_format::ticket::{self, Audience, NodeClaims};
use ticket_format::time::Timestamp;

use super::{refusal, vectors_bytes};
use crate::world::World;

/// What the broker's core refuses is of the closed list; a stranger is told nothing of why.
fn refused(error: &Refused) {
    refusal(error.refusal, &error.notice(), error.proven);
}

/// What is to be written down fits and is read again as it was.
fn recorded(changes: &Changes) {
    assert!(
        !changes.entries.is_empty(),
        "something was decided, and nothing is recorded"
    );
    changes.entries.iter().for_each(fits);
    for (key, value) in &changes.puts {
        assert!(
            key.len() <= store::MAX_KEY_BYTES && value.len() <= store::MAX_VALUE_BYTES,
            "{key} does not fit the store"
        );
    }
}

fn fits(entry: &Entry) {
    let bytes = entry.to_cbor();
    // rule: AUD-3
    assert!(bytes.len() <= limits::ENTRY, "an entry is too long");
    assert_eq!(
        Entry::from_cbor(&bytes, limits::ENTRY).as_ref(),
        Ok(entry),
        "an entry is not read as it was written"
    );
}

/// The request of these bytes, if it is one of this verb.
fn asked(data: &[u8], verb: Verb) -> Option<RequestView<'_>> {
    RequestView::parse(data)
        .ok()
        .filter(|request| request.verb == verb)
}

fn signed_request(verb: Verb, body: &[u8], proofs: &[Proof]) -> Vec<u8> {
    Request::encode_parts(verb, body, proofs)
}

/// A request that is let in is one that the keys' owner has made.
fn not_forged(data: &[u8], ours: bool) {
    assert!(
        ours || vectors_bytes().contains(data),
        "a request was forged"
    );
}

/// A node ticket that the broker gave: of this realm, no longer than it may live, and read again.
fn node_ticket(bytes: &[u8], world: &World, ends: Timestamp) -> NodeClaims {
    let realm = &world.realm;
    let ticket =
        ticket::verify::<NodeClaims>(bytes, &*realm.tickets.keys(), &realm.name, realm.audience());
    let ticket = ticket
        .expect("a ticket that was given verifies")
        .live(world.now)
        .expect("and lives");
    let common = &ticket.claims().common;
    // rule: TKT-4
    assert!(
        common.expires <= common.issued.plus(limits::NODE_TICKET_LIFE) && common.expires <= ends
    );
    assert_eq!(common.audience, Audience::Broker(realm.tls));
    ticket.claims().clone()
}

/// The node, frozen because another key logged in as it.
fn frozen(world: &World) -> NodeRecord {
    let mut node = world.node.clone();
    node.frozen = Some(broker::state::Frozen {
        at: world.now,
        alarm: Alarm::NodeConflict,
        other_key: world.keys.next_node.public(),
        other_old: None,
        other_chain: None,
        other_login: None,
    });
    node
}
