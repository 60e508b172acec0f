//! Issue (`spec/protocol.md`, section 6).
//!
//! ```text
//! request --parse--> Asked --open--> Held --weigh--> Weighed --grant--> ticket
//!          shape          node ticket,      dataset, policy,    budget
//!                         possession,       denials, KEM
//!                         evidence
//! ```

use std::collections::BTreeSet;

use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::denial::TicketFacts;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{
    ActId, DatasetId, EvidenceHash, NodeId, PairsDigest, PolicyDigest, RequestHash,
};
use ticket_format::labels::ISSUE_REQUEST;
use ticket_format::limits;
use ticket_format::messages::RequestView;
use ticket_format::messages::issue::IssueBody;
use ticket_format::secret::PairsKey;
use ticket_format::side::pairs_digest;
use ticket_format::sign::Proof;
use ticket_format::statement::DatasetRecord;
use ticket_format::ticket::{self, Live, NodeClaims, TicketError};
use ticket_format::time::Timestamp;
use ticket_format::tlog::WitnessPolicy;

use crate::Refused;
use crate::question::{Resource, question};
use crate::realm::{Caller, Realm, distinct};
use crate::state::{DatasetEntry, KeyUse};

mod grant;

pub use grant::{Granted, grant, still_allowed};

/// An issue request of the right shape; nothing in it is believed.
#[derive(Debug)]
pub struct Asked<'a> {
    body: IssueBody,
    raw: &'a [u8],
    proofs: [Proof; 2],
}

/// Reads the request.
///
/// # Errors
/// Refusal 1: another shape, or not the two proofs (SIG-3).
pub fn parse<'a>(request: &RequestView<'a>) -> Result<Asked<'a>, Refused> {
    let malformed = |why: String| Refused::stranger(Refusal::Malformed, why);
    let body = IssueBody::from_cbor(request.body, limits::SMALL_MESSAGE)
        .map_err(|error| malformed(error.to_string()))?;
    // rule: SIG-3
    let proofs = <[Proof; 2]>::try_from(request.proofs.clone()).map_err(|_| {
        malformed(
            "an issue request has two proofs: the node ticket's proof key and the job's".to_owned(),
        )
    })?;
    Ok(Asked {
        body,
        raw: request.body,
        proofs,
    })
}

/// A request by the holder of a live node ticket.
#[derive(Debug)]
pub struct Held {
    body: IssueBody,
    request: RequestHash,
    ticket: Live<NodeClaims>,
    evidence: EvidenceHash,
}

impl Held {
    /// Which node.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        self.ticket.claims().common.node()
    }

    /// What it asks for.
    #[must_use]
    pub fn body(&self) -> &IssueBody {
        &self.body
    }

    /// The entry of this act, as far as it is known by now.
    #[must_use]
    pub fn entry(&self, act: ActId, caller: &Caller, now: Timestamp, epoch: u64) -> Entry {
        Entry::new(act, Kind::Issue, now)
            .subject(self.node())
            .evidence(self.evidence)
            .request(self.request)
            .epoch(epoch)
            .launch(self.ticket.claims().common.launch)
            .source(caller.address)
    }

    /// Says in the entry what the policy decided on (ISS-7).
    fn decided_on(&self, entry: Entry, dataset: DatasetId, key: &PairsKey) -> Entry {
        // rule: ISS-7
        entry
            .dataset(dataset)
            .actions(self.body.actions)
            .pairs(self.pairs(key))
    }

    /// How entries name the required pairs (AUD-5).
    #[must_use]
    pub fn pairs(&self, key: &PairsKey) -> PairsDigest {
        pairs_digest(key, &self.body.required)
    }

    /// The facts of the node ticket, for denials.
    #[must_use]
    pub fn facts(&self) -> TicketFacts<'_> {
        let common = &self.ticket.claims().common;
        TicketFacts {
            ticket: Some(common.id),
            parent: None,
            node: common.node(),
            launch: common.launch,
            image: &common.attributes.image,
            dataset: None,
            issued: common.issued,
        }
    }
}

/// Verifies the node ticket, the two possessions and the evidence.
///
/// # Errors
/// Refusals 30 to 36, 10 and 20.
pub fn open(
    asked: Asked<'_>,
    realm: &Realm,
    caller: &Caller,
    now: Timestamp,
) -> Result<Held, Refused> {
    let Asked {
        body,
        raw,
        proofs: [by_node, by_job],
    } = asked;
    // rule: ISS-1
    let refused = |error: TicketError| Refused::stranger(error.into(), error);
    let verified = ticket::verify::<NodeClaims>(
        &body.node_ticket,
        &*realm.tickets.keys(),
        &realm.name,
        realm.audience(),
    );
    let ticket = verified
        .and_then(|ticket| ticket.live(now))
        .map_err(refused)?;
    let claims = ticket.claims();
    let channel = realm.channel(caller);
    let hash = Some(ticket.hash());
    // rule: SIG-3, TKT-7
    let possession = channel
        .verify_with(&claims.common.proof_key, ISSUE_REQUEST, hash, raw, &by_node)
        .and_then(|()| channel.verify_with(&body.proof_key, ISSUE_REQUEST, hash, raw, &by_job));
    possession.map_err(|_| {
        Refused::stranger(
            Refusal::Possession,
            "a proof does not verify on this connection",
        )
    })?;
    let of = |refused: Refused| refused.of(claims.common.node());
    distinct(&[
        claims.common.proof_key.to_bytes(),
        claims.node_key.to_bytes(),
        body.proof_key.to_bytes(),
    ])
    .map_err(of)?;
    if body.sealing_key == claims.common.sealing_key {
        return Err(of(Refused::proven(
            Refusal::KeyReused,
            "the job's sealing key is the node ticket's: make a fresh one",
        )));
    }
    // rule: ISS-2
    let evidence = body.evidence(claims.common.evidence);
    evidence
        .verify(&claims.node_key, &realm.name, &realm.tls, &body.evidence)
        .map_err(|_| {
            of(Refused::proven(
                Refusal::NotAuthenticated,
                "the evidence is not signed by the node key",
            ))
        })?;
    let chain = evidence.link(Some(claims.common.evidence), &body.evidence);
    Ok(Held {
        request: RequestHash::of(raw),
        evidence: chain,
        ticket,
        body,
    })
}

/// What an issue request is decided on.
pub struct View<'a> {
    /// The dataset of that name.
    pub dataset: Option<&'a DatasetEntry>,
    /// Its other names.
    pub aliases: BTreeSet<String>,
    /// The policy in force; none permits nothing.
    pub policy: Option<&'a policy::Policy>,
    /// Who has the job's proof key.
    pub proof_key: Option<KeyUse>,
    /// Gives the reason of a denial that hits these facts.
    pub denied: &'a (dyn Fn(&TicketFacts<'_>) -> Option<String> + Sync),
}

/// A request that is refused. Where the policy was asked, with what it decided on and by (ISS-7).
#[derive(Debug)]
pub struct Unmet {
    /// Why.
    pub refused: Refused,
    decided: Option<Box<Decided>>,
}

#[derive(Debug)]
struct Decided {
    dataset: DatasetId,
    policy: PolicyDigest,
    deciding: Vec<String>,
}

impl From<Refused> for Unmet {
    fn from(refused: Refused) -> Self {
        Self {
            refused,
            decided: None,
        }
    }
}

impl Unmet {
    /// Completes the entry, and says whether the policy decided: then the pairs are kept too.
    #[must_use]
    pub fn complete(&mut self, held: &Held, entry: Entry, key: &PairsKey) -> (Entry, bool) {
        // rule: ISS-7
        let Some(decided) = self.decided.take() else {
            return (entry, false);
        };
        let entry = held
            .decided_on(entry, decided.dataset, key)
            .policy(decided.policy)
            .policies(decided.deciding);
        (entry, true)
    }
}

/// A request that the policy permits. What is left is the budget.
#[derive(Debug)]
pub struct Weighed<'a> {
    held: &'a Held,
    dataset: &'a DatasetEntry,
    expires: Timestamp,
    budget: u64,
    policy: PolicyDigest,
    deciding: Vec<String>,
}

impl Weighed<'_> {
    /// The dataset's record.
    #[must_use]
    pub fn record(&self) -> &DatasetRecord {
        &self.dataset.record
    }

    /// The witnesses that the ticket waits for; none where the dataset requires none.
    ///
    /// # Errors
    /// Refusal 5: the record was not taken so.
    pub fn witnesses(&self) -> Result<Option<WitnessPolicy>, Refused> {
        // rule: TLOG-8
        let required = self.dataset.record.witnessing.required();
        required.map_err(|error| Refused::stranger(Refusal::Internal, error))
    }

    /// The admin-signed statement that the record is (ISS-6).
    #[must_use]
    pub fn statement(&self) -> &[u8] {
        // rule: ISS-6
        &self.dataset.statement
    }

    /// The budget that the request and the dataset record allow.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.budget
    }
}

/// Checks denials, dataset, KEM, policy and life (ISS-1, ISS-3 to ISS-5).
///
/// # Errors
/// Refusals 14, 20, 32, 40, 41, 45 and 77.
pub fn weigh<'a>(
    held: &'a Held,
    view: &View<'a>,
    caller: &Caller,
    now: Timestamp,
) -> Result<Weighed<'a>, Unmet> {
    let proven = |refusal, why: String| Refused::proven(refusal, why).of(held.node());
    let refused = |refusal, why: String| Unmet::from(proven(refusal, why));
    let denied = |facts: &TicketFacts<'_>| match (view.denied)(facts) {
        // rule: ISS-1
        Some(reason) => Err(refused(Refusal::Denied, format!("denied: {reason}"))),
        None => Ok(()),
    };
    denied(&held.facts())?;
    let (body, common) = (&held.body, &held.ticket.claims().common);
    let Some(dataset) = view.dataset else {
        return Err(refused(
            Refusal::DatasetUnknown,
            format!("there is no dataset {:?}", body.dataset),
        ));
    };
    let record = &dataset.record;
    // A ticket that would be denied at the key server is not made.
    denied(&TicketFacts {
        ticket: None,
        parent: Some(common.id),
        dataset: Some(record.dataset),
        issued: now,
        ..held.facts()
    })?;
    if view.proof_key.is_some() {
        return Err(refused(
            Refusal::KeyReused,
            "the job's proof key is registered already: make a fresh one".to_owned(),
        ));
    }
    // rule: ISS-5
    if !record.kems.contains(&body.sealing_key.kem()) {
        return Err(refused(
            Refusal::Kem,
            format!("dataset {:?} does not allow this KEM", record.name),
        ));
    }
    if body.life == 0 || body.budget == 0 {
        return Err(refused(
            Refusal::Invalid,
            "life and budget must be at least 1".to_owned(),
        ));
    }
    // rule: ISS-3
    let Some(policy) = view.policy else {
        return Err(refused(
            Refusal::Policy,
            "no policy is set, so nothing is permitted".to_owned(),
        ));
    };
    let resource = Resource {
        record,
        aliases: &view.aliases,
    };
    let mut deciding = Vec::new();
    for action in body.actions.iter() {
        let explained = policy.explain(&question(
            &common.attributes,
            common.launch,
            resource,
            action,
            Some(caller.address),
            now,
            body.required.pairs(),
        ));
        if !explained.decision.allowed {
            return Err(Unmet {
                refused: proven(Refusal::Policy, explained.reason),
                decided: Some(Box::new(Decided {
                    dataset: record.dataset,
                    policy: PolicyDigest(policy.digest()),
                    deciding: explained.decision.deciding,
                })),
            });
        }
        deciding.extend(explained.decision.deciding);
    }
    deciding.sort();
    deciding.dedup();
    // rule: ISS-4
    let life = body
        .life
        .min(record.max_life)
        .min(limits::LONGEST_TICKET_LIFE);
    let expires = now.plus(life).min(body.expires).min(common.expires);
    if expires <= now {
        return Err(refused(
            Refusal::TicketExpired,
            "the expiry that was asked for is over already".to_owned(),
        ));
    }
    let budget = body.budget.min(record.max_budget);
    Ok(Weighed {
        held,
        dataset,
        expires,
        budget,
        policy: PolicyDigest(policy.digest()),
        deciding,
    })
}
