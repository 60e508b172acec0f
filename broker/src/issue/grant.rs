//! The ticket, and the last look before it leaves.

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::denial::TicketFacts;
use ticket_format::entry::Entry;
use ticket_format::ids::{DatasetId, TicketId};
use ticket_format::ticket::{self, Audience, Common, DatasetClaims};
use ticket_format::time::Timestamp;

use super::{Held, Weighed};
use crate::Refused;
use crate::realm::Realm;
use crate::state::NodeRecord;

/// A dataset ticket with its audit entry.
#[derive(Debug)]
pub struct Granted {
    /// The ticket's bytes.
    pub ticket: Vec<u8>,
    /// When it expires.
    pub expires: Timestamp,
    /// The entry, to be durable before the ticket leaves.
    pub entry: Entry,
    id: TicketId,
    dataset: DatasetId,
    issued: Timestamp,
}

/// Checks again, just before the answer leaves: that the node ticket is live, that neither ticket is
/// denied, and that the node's record as it stands by now allows both (ISS-1).
///
/// # Errors
/// Refusals 14 and 32.
pub fn still_allowed(
    held: &Held,
    granted: &Granted,
    node: Option<&NodeRecord>,
    denied: &(dyn Fn(&TicketFacts<'_>) -> Option<String> + Sync),
    now: Timestamp,
) -> Result<(), Refused> {
    // rule: ISS-1
    held.ticket
        .still_live(now)
        .map_err(|error| Refused::proven(error.into(), error).of(held.node()))?;
    let refused =
        |why: &str| Err(Refused::proven(Refusal::Denied, format!("denied: {why}")).of(held.node()));
    let given = held.facts();
    let made = TicketFacts {
        ticket: Some(granted.id),
        parent: given.ticket,
        dataset: Some(granted.dataset),
        issued: granted.issued,
        ..held.facts()
    };
    // rule: LOG-8, REN-3
    match node {
        None => return refused("the node has no record any more"),
        Some(record) if record.frozen.is_some() => {
            return refused("the node is frozen until an admin decides");
        }
        Some(record) if given.issued.min(made.issued) < record.from => {
            return refused("the node was frozen since");
        }
        Some(_) => {}
    }
    match denied(&given).or_else(|| denied(&made)) {
        Some(reason) => refused(&reason),
        None => Ok(()),
    }
}

/// Makes the ticket for the budget that could be reserved.
///
/// # Errors
/// Refusal 5: it cannot be signed.
pub fn grant(
    weighed: &Weighed<'_>,
    budget: u64,
    entry: Entry,
    realm: &Realm,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<Granted, Refused> {
    let Weighed {
        held,
        dataset,
        expires,
        policy,
        ..
    } = weighed;
    // rule: KEY-2
    let expires = (*expires).min(realm.tickets.end(now));
    let (body, node) = (&held.body, &held.ticket.claims().common);
    let record = &dataset.record;
    let id = TicketId::random(rng);
    let common = Common {
        realm: realm.name.clone(),
        audience: Audience::KeyServer(record.tls_key),
        expires,
        issued: now,
        id,
        proof_key: body.proof_key,
        sealing_key: body.sealing_key.clone(),
        launch: node.launch,
        attributes: node.attributes.clone(),
        evidence: held.evidence,
    };
    let claims = DatasetClaims {
        common,
        dataset: record.dataset,
        dataset_name: record.name.clone(),
        actions: body.actions,
        required: body.required.clone(),
        budget,
        policy: *policy,
        parent: node.id,
    };
    let ticket = realm.tickets.sign(&claims)?;
    let entry = held
        .decided_on(entry, record.dataset, &realm.pairs)
        .ticket_hash(ticket::hash(&ticket))
        .ticket(id)
        .expires(expires)
        .policy(*policy)
        .policies(weighed.deciding.iter().cloned())
        .count(budget);
    Ok(Granted {
        ticket,
        expires,
        entry,
        id,
        dataset: record.dataset,
        issued: now,
    })
}
