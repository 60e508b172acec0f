//! Present: opens a dataset ticket on one connection (spec/protocol.md, section 7).
//!
//! parse and verify ([`identify`]) -> check the receipt of its issue and the evidence
//! ([`Identified::prove`]) -> check and decide ([`decide`]) -> record it -> keep and answer.

use std::sync::Arc;
use std::time::Duration;

use policy::PairsRead;
use rand_core::CryptoRng;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::TicketFacts;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, RequestHash, SealingKeyHash, TicketHash};
use ticket_format::messages::present::{Evidence, PresentAnswer, PresentBody};
use ticket_format::messages::{Answer, Receipt, RequestView, Verb};
use ticket_format::seal::{self, Session};
use ticket_format::ticket::{self, Action, Attributes, Audience, DatasetClaims, Live, TicketError};
use ticket_format::{labels, limits};

use crate::budget::Budget;
use crate::dataset::Dataset;
use crate::decisions::Prior;
use crate::evidence::ProvenUnder;
use crate::gate::Permit;
use crate::issued::{self, Issued, NotIssued};
use crate::refused::Refused;
use crate::state::{Connection, Moment, State};

/// A ticket that was presented on one connection.
#[derive(Debug)]
pub struct Presented {
    /// The ticket.
    pub ticket: Live<DatasetClaims>,
    /// Seals answers and checks requests, on this connection only.
    pub session: Session,
    /// What the ticket has had.
    pub budget: Arc<Budget>,
    /// The node as policies see it.
    pub node: policy::Node,
    /// The node as records name it.
    pub subject: String,
    /// What was checked beside it.
    pub proven: Proven,
    /// What the policy said of it last.
    pub prior: Prior,
}

/// What was checked beside a ticket.
#[derive(Clone, Copy, Debug)]
pub struct Proven {
    /// That its issue was recorded, and by which witness policy.
    pub issued: Issued,
    /// Whether its evidence was checked, and by which admin set.
    pub evidence: Option<ProvenUnder>,
}

/// A ticket whose signature, audience, life and possession were checked: from here on the caller is
/// known, and refusals are recorded under its name (AUD-1).
#[derive(Debug)]
pub struct Identified {
    ticket: Live<DatasetClaims>,
    request: RequestHash,
    receipt: Option<Receipt>,
    evidence: Option<Box<Evidence>>,
}

/// Checks the ticket and that the caller holds its proof key, on this connection.
///
/// # Errors
/// [`Refused`]; the caller is a stranger still.
pub fn identify(
    state: &State,
    connection: &Connection,
    request: &RequestView<'_>,
    moment: Moment,
) -> Result<Identified, Refused> {
    let body = PresentBody::from_cbor(request.body, limits::PRESENT)?;
    // rule: PRE-1
    let audience = Audience::KeyServer(state.tls_key);
    let verified = ticket::verify::<DatasetClaims>(
        &body.ticket,
        &*state.ticket_keys.get(),
        &state.realm,
        audience,
    );
    let ticket = verified.map_err(|error| unknown_yet(state, error, moment))?;
    // rule: AUD-1 — who held a ticket once is a stranger when it is over, or the keys of every old
    // ticket could fill the log.
    let ticket = ticket.live(moment.now)?;
    // rule: BAK-4
    if state.may_be_spent(ticket.claims().common.issued) {
        return Err(Refused::SpentTicket);
    }
    // rule: SIG-3
    let [proof] = request.proofs.as_slice() else {
        return Err(Refused::Possession);
    };
    let key = ticket.claims().common.proof_key;
    let proven = connection.channel.verify_with(
        &key,
        labels::PRESENT_REQUEST,
        Some(ticket.hash()),
        request.body,
        proof,
    );
    proven.map_err(|_| Refused::Possession)?;
    Ok(Identified {
        ticket,
        request: RequestHash::of(request.body),
        receipt: body.receipt,
        evidence: body.evidence.map(Box::new),
    })
}

/// The refusal of a ticket that does not verify. A server that has not heard the broker for its lease may
/// not know yet of the key that signed it: then another try may cure it.
pub(crate) fn unknown_yet(state: &State, error: TicketError, moment: Moment) -> Refused {
    // rule: KEY-2
    let lease = state.datasets.shortest_lease();
    match state.lease.check(moment.monotonic, lease) {
        Err(no_lease) if error == TicketError::Signature => no_lease.into(),
        _ => error.into(),
    }
}

/// A ticket that may be opened here, and the encapsulation that was made for it.
#[derive(Debug)]
pub struct Opened {
    presented: Presented,
    dataset: Arc<Dataset>,
    enc: Vec<u8>,
    sealing_key: SealingKeyHash,
}

impl Identified {
    /// The entry that this act leaves, as far as it is known yet.
    #[must_use]
    pub fn entry(
        &self,
        state: &State,
        connection: &Connection,
        act: ActId,
        moment: Moment,
        permit: &Permit,
    ) -> Entry {
        let entry = Entry::new(act, Kind::Present, moment.now);
        let entry = describe(
            entry,
            self.ticket.claims(),
            self.ticket.hash(),
            state,
            connection,
        );
        entry.request(self.request).epoch(permit.epoch().number())
    }

    /// Checks the receipt of the issue, and the evidence, where the dataset wants it: nothing else that
    /// the broker says in the ticket is believed before. It takes milliseconds where the node has renewed
    /// often: no permit is held.
    ///
    /// # Errors
    /// [`NotIssued`]; of evidence, [`Refused::NoEvidence`] or [`Refused::Evidence`].
    pub fn prove(&self, state: &State, moment: Moment) -> Result<Proven, NotIssued> {
        // rule: PRE-5
        let issued = issued::check(state, &self.ticket, self.receipt.as_ref())?;
        let evidence = self.prove_evidence(state, moment)?;
        Ok(Proven { issued, evidence })
    }

    fn prove_evidence(
        &self,
        state: &State,
        moment: Moment,
    ) -> Result<Option<ProvenUnder>, Refused> {
        // rule: EVD-1
        let dataset = state.datasets.get(self.ticket.claims().dataset);
        let Some(dataset) = dataset.filter(|dataset| dataset.state.evidence) else {
            return Ok(None);
        };
        let proven = state.evidence.check(
            &self.ticket,
            self.evidence.as_deref(),
            &dataset.state.name,
            &state.realm,
            &state.admins.current(),
            moment.now,
        );
        proven.map(Some)
    }
}

/// Checks all that PRE-1 and PRE-3 demand, and encapsulates to the ticket's sealing key.
///
/// # Errors
/// [`Refused`].
pub fn decide(
    state: &State,
    connection: &Connection,
    identified: Identified,
    proven: Proven,
    moment: Moment,
    permit: &Permit,
    rng: &mut impl CryptoRng,
) -> Result<Opened, Refused> {
    state.latest.see(moment.now)?;
    let ticket = identified.ticket;
    let dataset = usable(state, &ticket, moment, permit)?;
    if !borne_out(state, &dataset, proven) {
        return Err(Refused::Changed);
    }
    let claims = ticket.claims();
    let sealing_key = &claims.common.sealing_key;
    // rule: SEAL-5
    if !dataset.state.kems.contains(&sealing_key.kem()) {
        return Err(Refused::Kem);
    }
    let node = node_facts(claims);
    some_action_may_be_permitted(&dataset, claims, &node, connection, moment)?;
    // rule: PRE-2, SEAL-1
    let info = seal::session_info(
        sealing_key.kem(),
        &state.realm,
        &state.tls_key,
        ticket.hash(),
        connection.hpke,
    );
    let (enc, exports) =
        seal::encapsulate(sealing_key, &info, rng).map_err(|_| Refused::SealingKey)?;
    let sealing_key = sealing_key.hash();
    let presented = Presented {
        session: Session::new(exports, ticket.hash()),
        budget: state.budgets.of(claims.common.id, claims.common.expires),
        subject: claims.common.node().to_string(),
        node,
        ticket,
        proven,
        prior: Prior::default(),
    };
    Ok(Opened {
        presented,
        dataset,
        enc,
        sealing_key,
    })
}

impl Opened {
    /// Completes the entry: by which policy it was decided.
    #[must_use]
    pub fn complete(&self, entry: Entry) -> Entry {
        entry.policy(self.dataset.digest)
    }

    /// Checks again what may have changed while the record was written, keeps the ticket and signs
    /// the answer.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn release(
        self,
        state: &State,
        connection: &Connection,
        moment: Moment,
        permit: &Permit,
    ) -> Result<Answer, Refused> {
        let Self {
            presented,
            dataset,
            enc,
            sealing_key,
        } = self;
        state.latest.see(moment.now)?;
        // rule: TLOG-7
        if state.broker_log.is_forked() {
            return Err(Refused::Forked);
        }
        presented.ticket.still_live(moment.now)?;
        let now = usable(state, &presented.ticket, moment, permit)?;
        unchanged(&dataset, &now)?;
        if !borne_out(state, &now, presented.proven) {
            return Err(Refused::Changed);
        }
        let dataset = dataset.id;
        let ticket = presented.ticket.hash();
        let handle = connection.keep(Arc::new(presented), moment.now)?;
        let body = PresentAnswer {
            handle,
            enc,
            dataset,
            sealing_key,
        }
        .to_cbor();
        // rule: PRE-2
        let proof = connection.channel.sign_with(
            &state.signing,
            labels::PRESENT_ANSWER,
            Some(ticket),
            &body,
        );
        Ok(Answer::Done {
            verb: Verb::Present,
            body,
            proof: Some(proof),
        })
    }
}

/// What is checked of a live ticket before anything is decided and again before anything is
/// released: this server's own log, lease, denials, dataset, and the dataset's longest ticket life.
///
/// # Errors
/// [`Refused`].
pub fn usable(
    state: &State,
    ticket: &Live<DatasetClaims>,
    moment: Moment,
    permit: &Permit,
) -> Result<Arc<Dataset>, Refused> {
    // rule: TLOG-10
    state.standing.check()?;
    // rule: KEY-2 — its key may have been replaced since it was presented.
    ticket.still_signed(&*state.ticket_keys.get(), moment.now)?;
    // rule: PRE-1, RED-2
    let claims = ticket.claims();
    if let Some(hit) = permit.check(&facts(claims)) {
        return Err(Refused::Denied(hit.epoch));
    }
    let dataset = state.datasets.get(claims.dataset).ok_or(Refused::Dataset)?;
    // rule: DEN-6
    let lease = Duration::from_secs(dataset.state.lease);
    state.lease.check(moment.monotonic, lease)?;
    // The broker's word alone opens nothing: the record's longest life holds here too.
    if claims.common.issued.plus(dataset.state.max_life) <= moment.now {
        return Err(Refused::Overlong);
    }
    Ok(dataset)
}

/// Whether the dataset, its policy and its settings, is still what the request was decided by.
///
/// # Errors
/// [`Refused::Changed`]: the decision is not good any more; asking again brings a new one.
pub fn unchanged(decided_by: &Dataset, now: &Dataset) -> Result<(), Refused> {
    // rule: RED-2, PRE-3
    if decided_by.revision == now.revision {
        Ok(())
    } else {
        Err(Refused::Changed)
    }
}

/// Whether a ticket may be used as far as what is beside it goes: its issue was witnessed as the dataset
/// requires now, and the dataset wants no evidence, or it was checked by the admin set in force.
#[must_use]
pub fn borne_out(state: &State, dataset: &Dataset, proven: Proven) -> bool {
    // rule: EVD-1
    let under = |proven: ProvenUnder| proven.is(state.admins.current().version());
    let evidence = !dataset.state.evidence || proven.evidence.is_some_and(under);
    // rule: PRE-5
    evidence && proven.issued.satisfies(dataset)
}

/// What denials may be about (DEN-2).
#[must_use]
pub fn facts(claims: &DatasetClaims) -> TicketFacts<'_> {
    TicketFacts {
        ticket: Some(claims.common.id),
        parent: Some(claims.parent),
        node: claims.common.node(),
        launch: claims.common.launch,
        image: &claims.common.attributes.image,
        dataset: Some(claims.dataset),
        issued: claims.common.issued,
    }
}

/// The node as policies see it: from the attributes in the ticket (PRE-3).
fn node_facts(claims: &DatasetClaims) -> policy::Node {
    let Attributes {
        node,
        availability_zone,
        image,
        instance_type,
        launched_at,
    } = &claims.common.attributes;
    policy::Node {
        account: node.account().to_owned(),
        region: node.region().to_owned(),
        availability_zone: availability_zone.clone(),
        image: image.clone(),
        instance_type: instance_type.clone(),
        instance: node.instance().to_owned(),
        launch: claims.common.launch.to_string(),
        launched_at_unix: launched_at.seconds(),
    }
}

/// The action as policies name it.
#[must_use]
pub fn policy_action(action: Action) -> policy::Action {
    match action {
        Action::Decrypt => policy::Action::Decrypt,
        Action::Encrypt => policy::Action::Encrypt,
        Action::Rewrap => policy::Action::Rewrap,
    }
}

/// Refuses a ticket early of which no action can ever be permitted: the policy reads only pairs that
/// every item must have. Requests are decided one by one anyway.
fn some_action_may_be_permitted(
    dataset: &Dataset,
    claims: &DatasetClaims,
    node: &policy::Node,
    connection: &Connection,
    moment: Moment,
) -> Result<(), Refused> {
    // rule: PRE-3
    let known = match dataset.policy.pairs_read() {
        PairsRead::Keys(keys) => keys.iter().all(|key| claims.required.get(key).is_some()),
        PairsRead::Any => false,
    };
    if !known {
        return Ok(());
    }
    let decide = |action| {
        dataset.policy.decide(&policy::Request {
            node: node.clone(),
            action: policy_action(action),
            dataset: dataset.facts.clone(),
            time_unix: moment.now.seconds(),
            source: connection.source,
            pairs: claims.required.pairs().clone(),
        })
    };
    let mut why = Vec::new();
    for action in claims.actions.iter() {
        let decision = decide(action);
        if decision.allowed {
            return Ok(());
        }
        why = decision.deciding;
    }
    Err(Refused::Policy(by(&why)))
}

/// Which policies refused, for a detail line.
#[must_use]
pub fn by(deciding: &[String]) -> String {
    if deciding.is_empty() {
        "no policy permits it".to_owned()
    } else {
        format!("by {}", deciding.join(", "))
    }
}

/// Fills in what every record about a ticket says.
#[must_use]
pub fn describe(
    entry: Entry,
    claims: &DatasetClaims,
    hash: TicketHash,
    state: &State,
    connection: &Connection,
) -> Entry {
    let common = &claims.common;
    let mut entry = entry
        .subject(common.node())
        .ticket_hash(hash)
        .evidence(common.evidence)
        .dataset(claims.dataset)
        .ticket(common.id)
        .expires(common.expires)
        .launch(common.launch);
    if let Some(dataset) = state.datasets.get(claims.dataset) {
        entry = entry.policy(dataset.digest);
    }
    match connection.source {
        Some(source) => entry.source(source),
        None => entry,
    }
}
