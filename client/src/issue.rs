//! Issue: a dataset ticket for a job (`spec/protocol.md`, section 6).

use rand_core::CryptoRng;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Kind;
use ticket_format::ids::{EvidenceHash, TicketHash};
use ticket_format::messages::Verb;
use ticket_format::messages::issue::{IssueAnswer, IssueBody};
use ticket_format::messages::present::Evidence;
use ticket_format::seal::Kem;
use ticket_format::sign::{ALG_EDDSA, Proof};
use ticket_format::statement::{Act, AdminSet, DatasetRecord, ReceivedStatement, StatementRefusal};
use ticket_format::ticket::{self, Actions, Audience, DatasetClaims, NodeClaims};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogKey, Verifier, WitnessPolicy};
use ticket_format::{Context, Refusal, labels, limits};

use crate::error::Error;
use crate::link::Server;
use crate::logs::LoggedLink;
use crate::producer::checked;
use crate::receipt;
use crate::state::{NodeState, Pins};
use crate::wallet::{DatasetSession, NodeSession, SessionSecrets};

use alias::Alias;

/// What a job asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The dataset's name.
    pub dataset: String,
    /// What for.
    pub actions: Actions,
    /// Pairs that every item's context will have to hold.
    pub required: Context,
    /// Life, in seconds.
    pub life: u64,
    /// Most distinct DEKs.
    pub budget: u64,
    /// KEM of the job's sealing key.
    pub kem: Kem,
}

/// Asks for a dataset ticket over an open connection to the broker.
///
/// The admin sets that the answer brings are followed in `state`, whatever else comes of it: the caller
/// keeps them ([`NodeState::keep_followed`]).
///
/// # Errors
/// The node ticket has expired, the exchange failed, the broker refused, its answer does not hold, or
/// the dataset wants evidence that this node has too much of.
pub async fn issue(
    logged: &LoggedLink,
    state: &mut NodeState,
    node: &NodeSession,
    wanted: &Wanted,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<DatasetSession, Error> {
    match ask(logged, state, node, wanted, None, now, rng).await {
        // rule: ALI-2 — no dataset is of that name: it may be an alias.
        Err(error) if error.refusal() == Some(Refusal::DatasetUnknown) => {
            let named = alias::ask(logged, node, &wanted.dataset).await?;
            ask(logged, state, node, wanted, Some(named), now, rng).await
        }
        other => other,
    }
}

/// Asks for a ticket, to the dataset of the name that is wanted or that the alias names.
async fn ask(
    logged: &LoggedLink,
    state: &mut NodeState,
    node: &NodeSession,
    wanted: &Wanted,
    alias: Option<Alias>,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<DatasetSession, Error> {
    let (alias, dataset) = match alias {
        Some(alias) => (Some(alias.statement), alias.dataset),
        None => (None, wanted.dataset.clone()),
    };
    let link = logged.link();
    let broker = link.word();
    let verified = ticket::verify_for_anyone::<NodeClaims>(&node.ticket, &state.pins.ticket_keys);
    let live = verified
        .and_then(|ticket| ticket.live(now))
        .map_err(|_| Error::NoTicket("the node ticket is not live"))?;
    if live.claims().node_key != state.key.public() {
        // A renewal was cut short between its two files: the broker knows the new key already.
        return Err(Error::NoTicket(
            "the node ticket is of an earlier node key; run `postern renew`",
        ));
    }
    let chain = live.claims().common.evidence;
    let secrets = SessionSecrets::generate(wanted.kem, rng);
    let mut body = IssueBody {
        node_ticket: node.ticket.clone(),
        dataset,
        actions: wanted.actions,
        required: wanted.required.clone(),
        proof_key: secrets.proof.public(),
        sealing_key: secrets.sealing.public(),
        life: wanted.life,
        budget: wanted.budget,
        expires: now.plus(wanted.life),
        evidence: Proof {
            alg: ALG_EDDSA,
            value: vec![0],
        },
        admin_set: state.pins.admins.version(),
        ticket_key: state.pins.ticket_keys.number(),
    };
    // rule: ISS-2
    let signed = body.evidence(chain);
    let signature = signed.sign(&state.key, &link.channel().realm, &link.channel().server);
    let linked = signed.link(Some(chain), &signature);
    let issued = (body.expires, signature.clone());
    body.evidence = signature;
    let bytes = body.to_cbor();
    // rule: SIG-3
    let channel = link.channel();
    let ticket = Some(live.hash());
    let proofs = [
        channel.sign_with(&node.secrets.proof, labels::ISSUE_REQUEST, ticket, &bytes),
        channel.sign_with(&secrets.proof, labels::ISSUE_REQUEST, ticket, &bytes),
    ];
    logged.is_of(&state.pins.log_key)?;
    logged.proven().await?;
    let (answer, _) = link.call(Verb::Issue, &bytes, &proofs).await?;
    let answer =
        IssueAnswer::from_cbor(&answer, limits::MESSAGE).map_err(Error::malformed(broker))?;
    let hash = TicketHash::of(&answer.ticket);
    receipt::check(logged, &answer.receipt, None, Kind::Issue, hash).await?;
    let before = state.pins.admins.clone();
    follow(state, &answer.admin_sets, now)?;
    let sets = sets_between(before, &answer.admin_sets, &state.pins.broker.realm, now);
    follow_keys(&mut state.pins, &sets, &answer.ticket_keys, now)?;
    let mut session = DatasetSession {
        dataset: wanted.dataset.clone(),
        ticket: answer.ticket,
        secrets,
        receipt: answer.receipt,
        record: answer.record,
        evidence: None,
        alias,
    };
    let opened = Opened::check(&session, &state.pins, now)?;
    if let Some(statement) = &session.alias {
        let name = &session.dataset;
        alias::latest(statement, name, &opened.record, &mut state.pins, now)?;
    }
    let claims = &opened.claims;
    let common = &claims.common;
    let ours = *common.node() == state.node
        && common.proof_key == session.secrets.proof.public()
        && common.sealing_key == session.secrets.sealing.public()
        && claims.required == wanted.required
        && claims.actions == wanted.actions;
    if !ours {
        return Err(Error::answer(
            broker,
            "its ticket is not what was asked for",
        ));
    }
    // rule: TKT-8
    if common.evidence != linked {
        return Err(Error::answer(
            broker,
            "its ticket carries other evidence than was signed",
        ));
    }
    if let Some(policy) = opened.witnesses()? {
        // rule: TLOG-8
        let key = logged.log().key().clone();
        let cosigned = Verifier::new(key, Some(policy));
        receipt::check(logged, &session.receipt, Some(&cosigned), Kind::Issue, hash).await?;
    }
    if opened.record.evidence {
        session.evidence = Some(evidence(state, chain, issued)?);
    }
    Ok(session)
}

/// Takes the admin sets that come after the one that the node knows.
fn follow(state: &mut NodeState, sets: &[Vec<u8>], now: Timestamp) -> Result<(), Error> {
    // rule: ISS-6, SET-3
    if sets.is_empty() {
        return Ok(());
    }
    let pins = &mut state.pins;
    let followed = pins.admins.follow(sets, &pins.broker.realm, now);
    pins.admins = followed.map_err(|error| {
        tracing::warn!(%error, "admin sets");
        Error::answer(
            "broker",
            "an admin set that it brings does not follow the one that is pinned",
        )
    })?;
    Ok(())
}

/// The admin sets from the first on, as far as the statements follow it; the newest first.
fn sets_between(
    first: AdminSet,
    statements: &[Vec<u8>],
    realm: &str,
    now: Timestamp,
) -> Vec<AdminSet> {
    let mut sets = vec![first];
    for statement in statements {
        let next = sets.first().map(|set| set.next(statement, realm, now));
        if let Some(Ok(next)) = next {
            sets.insert(0, next);
        }
    }
    sets
}

/// Follows the ticket-key records that an answer brings. Any of the admin sets may have authorised each.
fn follow_keys(
    pins: &mut Pins,
    sets: &[AdminSet],
    records: &[Vec<u8>],
    now: Timestamp,
) -> Result<(), Error> {
    // rule: KEY-3
    let mut keys = pins.ticket_keys.clone();
    for record in records {
        keys.follow(record, sets, &pins.broker.realm, now)
            .map_err(|error| {
                tracing::warn!(%error, "ticket keys");
                Error::answer(
                    "broker",
                    "a ticket key's record that it brings does not follow the one that is pinned",
                )
            })?;
    }
    pins.ticket_keys = keys;
    Ok(())
}

/// Follows what login and renew bring: admin sets, then ticket-key records. The admin set that is pinned
/// stays: sets are an issue's to replace (ISS-6).
pub(crate) fn follow_records(
    pins: &mut Pins,
    statements: &[Vec<u8>],
    now: Timestamp,
) -> Result<(), Error> {
    // rule: KEY-3
    let is_set = |statement: &&Vec<u8>| {
        ReceivedStatement::parse(statement)
            .is_ok_and(|received| received.payload().act == Act::AdminSet)
    };
    let (sets, records): (Vec<&Vec<u8>>, Vec<&Vec<u8>>) = statements.iter().partition(is_set);
    let owned = |all: Vec<&Vec<u8>>| all.into_iter().cloned().collect::<Vec<_>>();
    let realm = pins.broker.realm.clone();
    let sets = sets_between(pins.admins.clone(), &owned(sets), &realm, now);
    follow_keys(pins, &sets, &owned(records), now)
}

/// What the key server of a dataset that wants evidence is shown (EVD-3).
fn evidence(
    state: &NodeState,
    chain: EvidenceHash,
    issued: (Timestamp, Proof),
) -> Result<Evidence, Error> {
    // rule: EVD-3
    let missing = Error::NoTicket(
        "the dataset wants evidence, and its parts are not kept here; run `postern renew`",
    );
    let (Some(chain), Some(launch)) = (state.chain(chain), &state.launch_statement) else {
        return Err(missing);
    };
    chain.evidence(launch, issued).ok_or(Error::TooLong)
}

/// A dataset session whose ticket and dataset record were checked against the pins.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The ticket's claims.
    pub claims: DatasetClaims,
    /// The ticket's hash.
    pub hash: TicketHash,
    /// The dataset record.
    pub record: DatasetRecord,
}

impl Opened {
    /// Checks ticket and record: the ticket by the broker's pinned key, the record by the pinned
    /// admins, and that both speak of the same dataset and key server. The broker's word alone
    /// names no key server (ISS-6).
    ///
    /// # Errors
    /// Expired, or one of them does not hold.
    pub fn check(session: &DatasetSession, pins: &Pins, now: Timestamp) -> Result<Self, Error> {
        let verified =
            ticket::verify_for_anyone::<DatasetClaims>(&session.ticket, &pins.ticket_keys)
                .map_err(Error::ticket("broker"))?;
        let live = verified.live(now).map_err(|_| {
            Error::NoTicket("the dataset ticket has expired; run `postern issue` again")
        })?;
        // rule: ISS-6
        let record = verify_record(&session.record, pins, now)?;
        let claims = live.claims();
        let fits = claims.common.realm == pins.broker.realm
            && claims.common.audience == Audience::KeyServer(record.tls_key)
            && claims.dataset == record.dataset
            && claims.dataset_name == record.name;
        let named = match &session.alias {
            None => record.name == session.dataset,
            Some(statement) => {
                alias::names(statement, &session.dataset, &record, pins, now).is_some()
            }
        };
        if !named {
            return Err(Error::answer(
                "broker",
                "it names another dataset than the one asked for, and that dataset's owners have signed no such alias",
            ));
        }
        if !fits {
            return Err(Error::answer(
                "broker",
                "ticket and dataset record speak of different datasets",
            ));
        }
        Ok(Self {
            claims: claims.clone(),
            hash: live.hash(),
            record,
        })
    }

    /// The witnesses that receipts of both logs must satisfy, where the dataset requires them (TLOG-8).
    ///
    /// # Errors
    /// The record's policy does not hold.
    pub fn witnesses(&self) -> Result<Option<WitnessPolicy>, Error> {
        self.record.witnessing.required().map_err(|error| {
            tracing::warn!(%error, "dataset record");
            Error::answer(
                "broker",
                "its dataset record has no witness policy that holds",
            )
        })
    }

    /// The key server's log, as the record has it.
    #[must_use]
    pub fn log_key(&self) -> &LogKey {
        &self.record.log_key
    }

    /// The key server, as the record has it.
    #[must_use]
    pub fn server(&self) -> Server {
        Server {
            word: "key server",
            realm: self.claims.common.realm.clone(),
            addresses: self.record.addresses.clone(),
            tls_key: self.record.tls_key,
        }
    }
}

/// Believes a dataset record if as many of the dataset's owners have signed it as the admin set that
/// the node knows demands (ISS-6, SET-5).
///
/// # Errors
/// It does not hold.
pub fn verify_record(record: &[u8], pins: &Pins, now: Timestamp) -> Result<DatasetRecord, Error> {
    let refused = |error: StatementRefusal| {
        tracing::warn!(%error, "dataset record");
        Error::answer(
            "broker",
            "its dataset record is not signed as the admin set demands",
        )
    };
    let statement = ReceivedStatement::parse(record).map_err(refused)?;
    let verified = statement
        .verify(&pins.admins, &pins.broker.realm, None, now)
        .map_err(refused)?;
    checked(&verified, &pins.admins).map_err(refused)
}

mod alias;
#[cfg(test)]
mod tests;
