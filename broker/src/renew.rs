//! Renew (`spec/protocol.md`, section 5).

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, NodeId, RequestHash};
use ticket_format::labels::RENEW_REQUEST;
use ticket_format::limits;
use ticket_format::messages::RequestView;
use ticket_format::messages::renew::RenewBody;
use ticket_format::sign::Proof;
use ticket_format::ticket;
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::freeze::{MadeTicket, NewTicket, freeze};
use crate::login::Decision;
use crate::realm::{Caller, Realm, distinct};
use crate::state::{Changes, FeedHead, Frozen, KeyRole, KeyUse, NodeRecord, keys};

/// A renewal of the right shape; nothing in it is believed.
#[derive(Debug)]
pub struct Asked<'a> {
    body: RenewBody,
    raw: &'a [u8],
    proofs: [Proof; 3],
}

/// Reads the request.
///
/// # Errors
/// Refusal 1: another shape, or not the three proofs (SIG-3).
pub fn parse<'a>(request: &RequestView<'a>) -> Result<Asked<'a>, Refused> {
    let malformed = |why: String| Refused::stranger(Refusal::Malformed, why);
    let body = RenewBody::from_cbor(request.body, limits::SMALL_MESSAGE)
        .map_err(|error| malformed(error.to_string()))?;
    // rule: SIG-3
    let proofs = <[Proof; 3]>::try_from(request.proofs.clone()).map_err(|_| {
        malformed("a renewal has three proofs: old node, new node and proof key".to_owned())
    })?;
    Ok(Asked {
        body,
        raw: request.body,
        proofs,
    })
}

/// A renewal that is signed by every key that it brings. Whether the old key is this node's, the
/// state says.
#[derive(Debug)]
pub struct Signed {
    body: RenewBody,
    request: RequestHash,
}

impl Signed {
    /// What it said.
    #[must_use]
    pub fn body(&self) -> &RenewBody {
        &self.body
    }

    fn node(&self) -> &NodeId {
        &self.body.node
    }
}

/// Verifies the signatures and the evidence.
///
/// # Errors
/// Refusal 10; nothing changes (REN-4).
pub fn verify(asked: Asked<'_>, realm: &Realm, caller: &Caller) -> Result<Signed, Refused> {
    let channel = realm.channel(caller);
    let Asked {
        body,
        raw,
        proofs: [by_old, by_new, by_proof],
    } = asked;
    // rule: SIG-3, REN-1, REN-4, REN-6
    let verified = channel
        .verify_with(&body.old_key, RENEW_REQUEST, None, raw, &by_old)
        .and_then(|()| channel.verify_with(&body.new_key, RENEW_REQUEST, None, raw, &by_new))
        .and_then(|()| channel.verify_with(&body.proof_key, RENEW_REQUEST, None, raw, &by_proof))
        .and_then(|()| {
            body.evidence()
                .verify(&body.old_key, &realm.name, &realm.tls, &body.evidence)
        });
    verified
        .map_err(|_| Refused::stranger(Refusal::NotAuthenticated, "a signature does not verify"))?;
    Ok(Signed {
        request: RequestHash::of(raw),
        body,
    })
}

/// The records that a renewal is decided on, gathered together.
#[derive(Debug)]
pub struct View {
    /// The node.
    pub node: Option<NodeRecord>,
    /// Who has the old key.
    pub old_key: Option<KeyUse>,
    /// Who has the new key.
    pub new_key: Option<KeyUse>,
    /// Who has the proof key.
    pub proof_key: Option<KeyUse>,
    /// The feed's head; with it the denials that `denied` was looked up in.
    pub head: FeedHead,
    /// The reason of a denial that hits this node.
    pub denied: Option<String>,
}

/// What the pair of keys says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From the current key to a fresh one (REN-2).
    Rotate,
    /// The answer to the last rotation was lost (REN-2).
    Retry,
    /// Two holders of one identity (REN-3).
    Fork,
    /// The new key has another role or is another node's (SIG-4).
    Taken,
    /// The old key never was this node's (REN-4).
    Unknown,
}

/// Judges the keys of a renewal whose signatures verified. Registered keys of this node that are
/// neither current nor previous are retired.
#[must_use]
pub fn judge(
    record: &NodeRecord,
    body: &RenewBody,
    old_key: Option<&KeyUse>,
    new_key: Option<&KeyUse>,
) -> Step {
    let name = record.attributes.node.to_string();
    let ours = |key: Option<&KeyUse>| {
        key.is_some_and(|key| key.role == KeyRole::Node && key.owner == name)
    };
    let is_current = body.old_key == record.current;
    let is_previous = record.previous == Some(body.old_key);
    if !ours(old_key) {
        // rule: REN-4
        Step::Unknown
    } else if is_current && new_key.is_none() {
        // rule: REN-2
        Step::Rotate
    } else if is_previous && body.new_key == record.current {
        // rule: REN-2
        Step::Retry
    } else if is_current && !ours(new_key) {
        // rule: SIG-4
        Step::Taken
    } else {
        // rule: REN-3
        Step::Fork
    }
}

/// Decides on the state (REN-2 to REN-5).
///
/// # Errors
/// Refusal 10 for who is not known to be a holder of this node's keys: nothing changes and nothing
/// is listed (REN-4).
pub fn decide(
    renewal: &Signed,
    view: View,
    realm: &Realm,
    caller: &Caller,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<Decision, Refused> {
    let unknown = || {
        Refused::stranger(
            Refusal::NotAuthenticated,
            "unknown node, or a key that never was its",
        )
    };
    let body = &renewal.body;
    let node = view.node.as_ref().ok_or_else(unknown)?;
    let step = match judge(node, body, view.old_key.as_ref(), view.new_key.as_ref()) {
        Step::Unknown => return Err(unknown()),
        step => step,
    };
    let act = ActId::random(rng);
    let mut changes = Changes::new();
    let mut entry = Entry::new(act, Kind::Renew, now)
        .subject(renewal.node())
        .request(renewal.request)
        .epoch(view.head.epoch)
        .launch(node.claim.launch)
        .source(caller.address);
    let mut forked = false;
    let result = match admit(renewal, node, step, &view, now, &mut forked) {
        Ok(()) => grant(renewal, node, step, realm, now, &mut changes, rng),
        Err(refused) => Err(refused),
    };
    let result = match result {
        Ok(ticket) => {
            entry = entry
                .ticket_hash(ticket::hash(&ticket.bytes))
                .ticket(ticket.id)
                .expires(ticket.expires);
            entry = entry.evidence(body.evidence().link(Some(body.chain), &body.evidence));
            Ok(ticket.bytes)
        }
        Err(refused) => {
            entry = entry.refused(refused.refusal);
            changes = Changes::new();
            Err(refused.of(renewal.node()))
        }
    };
    changes.entries.insert(0, entry);
    if forked {
        let frozen = Frozen {
            at: now,
            alarm: Alarm::Fork,
            other_key: body.new_key,
            other_old: Some(body.old_key),
            other_chain: Some(body.chain),
            other_login: None,
        };
        freeze(node, frozen, view.head, act, &mut changes, rng);
    }
    Ok(Decision { changes, result })
}

fn admit(
    renewal: &Signed,
    node: &NodeRecord,
    step: Step,
    view: &View,
    now: Timestamp,
    forked: &mut bool,
) -> Result<(), Refused> {
    let body = &renewal.body;
    let (record, name) = (node, renewal.node());
    distinct(&[
        body.old_key.to_bytes(),
        body.new_key.to_bytes(),
        body.proof_key.to_bytes(),
    ])?;
    // rule: DEN-7
    if let Some(reason) = &view.denied {
        return Err(Refused::proven(
            Refusal::Denied,
            format!("denied: {reason}"),
        ));
    }
    // rule: REN-5
    if record.frozen.is_some() {
        return Err(Refused::proven(
            Refusal::NodeFrozen,
            format!("{name} is frozen until an admin decides"),
        ));
    }
    match step {
        Step::Fork => {
            *forked = true;
            let why = format!("an outdated node key of {name} was used; its record is now frozen");
            return Err(Refused::proven(Refusal::Fork, why));
        }
        Step::Taken => {
            return Err(Refused::proven(
                Refusal::KeyReused,
                "the new node key is registered already: make a fresh one",
            ));
        }
        Step::Rotate | Step::Retry | Step::Unknown => {}
    }
    if view.proof_key.is_some() {
        return Err(Refused::proven(
            Refusal::KeyReused,
            "the proof key is registered already: make a fresh one",
        ));
    }
    // rule: REN-5
    if now >= record.claim.life_ends {
        return Err(Refused::proven(
            Refusal::NodeExpired,
            format!("the node's life ended at {}", record.claim.life_ends),
        ));
    }
    // rule: REN-6
    let chains = if step == Step::Retry {
        &record.previous_chains
    } else {
        &record.chains
    };
    if !chains.contains(&body.chain) {
        let why = "the evidence hash is not that of a ticket given to the old node key";
        return Err(Refused::proven(Refusal::NotAuthenticated, why));
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)] // one call, from the one place that has them all
fn grant(
    renewal: &Signed,
    node: &NodeRecord,
    step: Step,
    realm: &Realm,
    now: Timestamp,
    changes: &mut Changes,
    rng: &mut impl CryptoRng,
) -> Result<MadeTicket, Refused> {
    let body = &renewal.body;
    let mut record = node.clone();
    let evidence = body.evidence().link(Some(body.chain), &body.evidence);
    let issued = now.max(record.from);
    let ticket = NewTicket {
        attributes: &record.attributes,
        launch: record.claim.launch,
        node_key: body.new_key,
        proof_key: body.proof_key,
        sealing_key: &body.sealing_key,
        evidence,
        issued,
        until: record.claim.life_ends,
    };
    let ticket = ticket
        .make(realm, rng)?
        .ok_or_else(|| Refused::proven(Refusal::NodeExpired, "the node's life is over"))?;
    if step == Step::Rotate {
        // rule: REN-2
        record.previous = Some(record.current);
        record.previous_chains = std::mem::take(&mut record.chains);
        record.current = body.new_key;
        let key = keys::key(body.new_key.thumbprint());
        changes.put(
            key,
            &KeyUse {
                role: KeyRole::Node,
                owner: renewal.node().to_string(),
            },
        );
    }
    record.add_chain(evidence);
    record.ticket = (ticket.id, ticket.expires);
    record.issued = issued;
    changes.put(keys::node(renewal.node()), &record);
    Ok(ticket)
}
