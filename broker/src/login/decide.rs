//! Deciding a login on the state: claim, retry, conflict (LOG-4 to LOG-9).

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::iid::{self, AgeRefusal};
use ticket_format::limits;
use ticket_format::ticket;
use ticket_format::time::Timestamp;

use super::Identified;
use crate::Refused;
use crate::freeze::{MadeTicket, NewTicket, freeze, raise};
use crate::realm::{Caller, Realm};
use crate::state::{
    Changes, Claim, FeedHead, Frozen, KeyRole, KeyUse, LaunchRecord, NodeRecord, keys,
};

/// The records that a login is decided on, gathered together.
#[derive(Debug)]
pub struct View {
    /// The launch.
    pub launch: LaunchRecord,
    /// The node, if it was here before.
    pub node: Option<NodeRecord>,
    /// Whether this node has a use of this launch.
    pub used_by_node: bool,
    /// Who has the node key.
    pub node_key: Option<KeyUse>,
    /// Who has the proof key.
    pub proof_key: Option<KeyUse>,
    /// The feed's head; with it the denials that `denied` was looked up in.
    pub head: FeedHead,
    /// The reason of a denial that hits this node.
    pub denied: Option<String>,
}

/// What comes of a request: a node ticket or a refusal, once the changes are durable.
#[derive(Debug)]
pub struct Decision {
    /// What changes; the entries are recorded in any case.
    pub changes: Changes,
    /// The ticket, or why not.
    pub result: Result<Vec<u8>, Refused>,
}

/// Decides on the state (LOG-4 to LOG-9).
pub fn decide(
    login: &Identified,
    view: View,
    realm: &Realm,
    caller: &Caller,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Decision {
    let act = ActId::random(rng);
    let mut changes = Changes::new();
    let result = admit(login, &view, now)
        .and_then(|admission| grant(login, &view, admission, realm, now, act, &mut changes, rng));
    let mut entry = Entry::new(act, Kind::Login, now)
        .subject(login.node())
        .evidence(login.evidence)
        .request(login.request)
        .epoch(view.head.epoch)
        .launch(login.body.launch)
        .proof(login.proof.0)
        .source(caller.address);
    let (result, freezes) = match result {
        Ok((ticket, retry)) => {
            entry = entry
                .ticket_hash(ticket::hash(&ticket.bytes))
                .ticket(ticket.id)
                .expires(ticket.expires);
            if let Some(first) = retry {
                // rule: LOG-7
                entry = entry.follows(first);
            }
            (Ok(ticket.bytes), None)
        }
        Err(Stop { refused, alarm }) => {
            entry = entry.refused(refused.refusal);
            changes = Changes::new();
            (Err(refused.of(login.node())), alarm)
        }
    };
    changes.entries.insert(0, entry);
    match (freezes, &view.node) {
        (Some(Alarm::NodeConflict), Some(node)) => {
            let frozen = Frozen {
                at: now,
                alarm: Alarm::NodeConflict,
                other_key: login.body.node_key,
                other_old: None,
                other_chain: Some(login.evidence),
                other_login: Some((login.body.login, login.body.launch)),
            };
            freeze(node, frozen, view.head, act, &mut changes, rng);
        }
        (Some(alarm), _) => {
            let alarm = raise(alarm, now, act, rng)
                .subject(login.node())
                .launch(login.body.launch)
                .source(caller.address);
            changes.record(alarm);
        }
        (None, _) => {}
    }
    Decision { changes, result }
}

/// How a login is let in.
enum Admission {
    /// A use of the launch is claimed.
    Claim,
    /// The answer of an earlier claim is given again (LOG-7).
    Retry(Box<NodeRecord>),
}

struct Stop {
    refused: Refused,
    alarm: Option<Alarm>,
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self {
            refused,
            alarm: None,
        }
    }
}

fn stop(refusal: Refusal, why: impl ToString) -> Stop {
    Refused::proven(refusal, why).into()
}

fn alarming(refusal: Refusal, why: impl ToString, alarm: Alarm) -> Stop {
    Stop {
        refused: Refused::proven(refusal, why),
        alarm: Some(alarm),
    }
}

/// The checks, in the order in which a person would want to hear of them.
fn admit(login: &Identified, view: &View, now: Timestamp) -> Result<Admission, Stop> {
    let launch = &view.launch;
    let node = login.node();
    // rule: DEN-7
    if let Some(reason) = &view.denied {
        return Err(stop(Refusal::Denied, format!("denied: {reason}")));
    }
    fits(login, launch)?;
    if launch.closed.is_some() {
        let elsewhere = |record: &NodeRecord| record.claim.launch != login.body.launch;
        return Err(Stop {
            refused: Refused::proven(Refusal::LaunchClosed, "an admin closed this launch"),
            alarm: (view.node.as_ref().is_some_and(elsewhere)).then_some(Alarm::LaunchReused),
        });
    }
    if let Some(record) = &view.node {
        if record.frozen.is_some() {
            return Err(stop(
                Refusal::NodeFrozen,
                format!("{node} is frozen until an admin decides"),
            ));
        }
        let claim = &record.claim;
        let same_key = record.current == login.body.node_key;
        let again = claim.launch == login.body.launch
            && claim.login == login.body.login
            && claim.node_key == login.body.node_key;
        if again {
            // rule: LOG-7
            let in_window = now.since(claim.at) <= limits::LOGIN_RETRY_WINDOW;
            if !(same_key && in_window) {
                let why = format!(
                    "this login was answered at {}: renew with the node key",
                    claim.at
                );
                return Err(stop(Refusal::RetryOver, why));
            }
            // rule: SIG-4
            if view.proof_key.is_some() {
                return Err(registered());
            }
            return Ok(Admission::Retry(Box::new(record.clone())));
        }
        // rule: LOG-8
        let restarted = claim.launch != login.body.launch
            && login.attributes.launched_at > record.attributes.launched_at;
        if !restarted && same_key {
            return Err(stop(
                Refusal::RetryOver,
                "this node key is registered already: renew with it",
            ));
        }
        if !restarted {
            // The secret of another launch freezes nobody unless it could let somebody in.
            if claim.launch != login.body.launch {
                in_time(login, launch, now)
                    .and_then(|()| unused(login, view))
                    .map_err(|stop| Stop {
                        alarm: Some(Alarm::LaunchReused),
                        ..stop
                    })?;
            }
            let why =
                format!("{node} logged in before with another node key; its record is now frozen");
            return Err(alarming(Refusal::NodeConflict, why, Alarm::NodeConflict));
        }
    }
    in_time(login, launch, now)?;
    unused(login, view)?;
    // rule: SIG-4
    let ours = |key: &KeyUse| {
        key.role == KeyRole::Node
            && key.owner == node.to_string()
            && view
                .node
                .as_ref()
                .is_some_and(|record| record.current == login.body.node_key)
    };
    if view.node_key.as_ref().is_some_and(|key| !ours(key)) || view.proof_key.is_some() {
        return Err(registered());
    }
    Ok(Admission::Claim)
}

fn registered() -> Stop {
    stop(
        Refusal::KeyReused,
        "a key of this login is registered already: make fresh keys",
    )
}

/// Whether the launch has a use for this node.
fn unused(login: &Identified, view: &View) -> Result<(), Stop> {
    let (launch, node) = (&view.launch, login.node());
    // rule: LOG-6, LOG-9
    if view.used_by_node {
        return Err(alarming(
            Refusal::LaunchUsed,
            format!("{node} has used this launch before"),
            Alarm::LaunchReused,
        ));
    }
    if launch.used >= launch.terms.uses {
        return Err(alarming(
            Refusal::LaunchUsed,
            "all uses of this launch are claimed",
            Alarm::LaunchReused,
        ));
    }
    Ok(())
}

/// Account, region, image (LOG-4).
fn fits(login: &Identified, launch: &LaunchRecord) -> Result<(), Stop> {
    // rule: LOG-4
    let terms = &launch.terms;
    let mismatch = |what: &str, found: &str| {
        stop(
            Refusal::IdentityMismatch,
            format!("{what} {found} is not one of the launch's"),
        )
    };
    let listed =
        |list: &[String], found: &str| list.is_empty() || list.iter().any(|entry| entry == found);
    let node = login.node();
    if !terms
        .accounts
        .iter()
        .any(|account| account == node.account())
    {
        return Err(mismatch("account", node.account()));
    }
    if !listed(&terms.regions, node.region()) {
        return Err(mismatch("region", node.region()));
    }
    if !listed(&terms.images, &login.attributes.image) {
        return Err(mismatch("image", &login.attributes.image));
    }
    Ok(())
}

/// The launch's window and the document's age (LOG-4, LOG-9).
fn in_time(login: &Identified, launch: &LaunchRecord, now: Timestamp) -> Result<(), Stop> {
    // rule: LOG-4
    let terms = &launch.terms;
    let within = |time: Timestamp| time >= terms.from && time < terms.until;
    if !within(now) {
        return Err(stop(
            Refusal::LaunchClosed,
            format!(
                "the launch is open from {} until {}",
                terms.from, terms.until
            ),
        ));
    }
    let launched = login.attributes.launched_at;
    // rule: LOG-9
    if terms.group && !within(launched) {
        let why = format!("the instance was launched at {launched}, outside the launch's window");
        return Err(stop(Refusal::LaunchClosed, why));
    }
    iid::check_age(
        launched.seconds(),
        now.seconds(),
        terms.max_age,
        iid::FUTURE_TOLERANCE_SECONDS,
    )
    .map_err(|error| match error {
        AgeRefusal::TooOld { .. } => stop(Refusal::DocumentTooOld, error),
        AgeRefusal::FromTheFuture { .. } => stop(Refusal::DocumentFromFuture, error),
    })
}

/// Makes the ticket, and with it what changes (LOG-6, LOG-7). Gives also the act that is repeated.
#[allow(clippy::too_many_arguments)] // one call, from the one place that has them all
fn grant(
    login: &Identified,
    view: &View,
    admission: Admission,
    realm: &Realm,
    now: Timestamp,
    act: ActId,
    changes: &mut Changes,
    rng: &mut impl CryptoRng,
) -> Result<(MadeTicket, Option<ActId>), Stop> {
    let body = &login.body;
    let (claim, from, retried) = match &admission {
        Admission::Retry(record) => (record.claim.clone(), record.from, Some(record.claim.act)),
        Admission::Claim => {
            let claim = Claim {
                launch: body.launch,
                login: body.login,
                node_key: body.node_key,
                at: now,
                act,
                proof: login.proof,
                life_ends: now.plus(view.launch.terms.node_life),
            };
            (
                claim,
                view.node
                    .as_ref()
                    .map_or(Timestamp::default(), |node| node.from),
                None,
            )
        }
    };
    let issued = now.max(from);
    let ticket = NewTicket {
        attributes: &login.attributes,
        launch: body.launch,
        node_key: body.node_key,
        proof_key: body.proof_key,
        sealing_key: &body.sealing_key,
        evidence: login.evidence,
        issued,
        until: claim.life_ends,
    };
    let ticket = ticket
        .make(realm, rng)?
        .ok_or_else(|| stop(Refusal::NodeExpired, "the launch's node life is over"))?;
    let mut record = match admission {
        Admission::Retry(record) => *record,
        Admission::Claim => NodeRecord {
            attributes: login.attributes.clone(),
            claim,
            current: body.node_key,
            previous: None,
            chains: Vec::new(),
            previous_chains: Vec::new(),
            frozen: None,
            ticket: (ticket.id, ticket.expires),
            issued,
            from,
        },
    };
    record.add_chain(login.evidence);
    record.ticket = (ticket.id, ticket.expires);
    record.issued = issued;
    changes.put(keys::node(login.node()), &record);
    if retried.is_none() {
        // rule: LOG-6
        let mut launch = view.launch.clone();
        launch.used = launch.used.saturating_add(1);
        changes.put(keys::launch(body.launch), &launch);
        changes
            .puts
            .push((keys::launch_use(body.launch, login.node()), act.0.to_vec()));
        if view.node_key.is_none() {
            let key = keys::key(body.node_key.thumbprint());
            changes.put(
                key,
                &KeyUse {
                    role: KeyRole::Node,
                    owner: login.node().to_string(),
                },
            );
        }
    }
    Ok((ticket, retried))
}
