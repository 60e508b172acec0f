//! Login: from user-data and identity proof to a node ticket (`spec/protocol.md`, section 4).

use std::path::Path;

use rand_core::CryptoRng;
use ticket_format::bootstrap::Bootstrap;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Kind;
use ticket_format::ids::{EvidenceHash, NodeId, ProofHash, StatementDigest, TicketHash};
use ticket_format::iid::{self, RegionKeys};
use ticket_format::keys::NodeKey;
use ticket_format::labels;
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::messages::login::{LoginAnswer, LoginBody};
use ticket_format::messages::present::Link as EvidenceLink;
use ticket_format::seal::Kem;
use ticket_format::sign::{ALG_EDDSA, Proof};
use ticket_format::statement::AdminSet;
use ticket_format::ticket::{self, Audience, NodeClaims, TicketKeys};
use ticket_format::time::Timestamp;

use crate::chain::Chain;
use crate::error::Error;
use crate::issue::follow_records;
use crate::link::Server;
use crate::logs::LoggedLink;
use crate::receipt;
use crate::state::{NodeState, Pins};
use crate::wallet::{NodeSession, SessionSecrets};

/// What a node has at launch.
pub struct Evidence {
    /// From user-data.
    pub bootstrap: Bootstrap,
    /// The identity proof, as the metadata service serves it.
    pub proof: String,
    /// The node that the proof names.
    pub node: NodeId,
    /// Hash of the decoded proof.
    pub proof_hash: ProofHash,
    /// The admin set that the bootstrap pins.
    pub admins: AdminSet,
}

impl Evidence {
    /// Reads user-data and identity proof.
    ///
    /// # Errors
    /// No bootstrap in user-data, or the proof is not one of AWS's for any known region.
    pub fn read(user_data: &[u8], proof: String, keys: &RegionKeys) -> Result<Self, Error> {
        let bootstrap =
            Bootstrap::find(user_data).map_err(|error| Error::Bootstrap(error.to_string()))?;
        let admins = AdminSet::pinned(&bootstrap.admin_set)
            .map_err(|error| Error::Bootstrap(format!("its admin set cannot be used: {error}")))?;
        let document = iid::verify(proof.as_bytes(), keys)
            .map_err(|error| Error::Identity(error.to_string()))?;
        let node = NodeId::new(
            document.account_id(),
            document.region(),
            document.instance_id(),
        );
        let node = node.map_err(|error| Error::Identity(error.to_string()))?;
        let proof_hash = ProofHash(*document.proof_hash());
        Ok(Self {
            bootstrap,
            proof,
            node,
            proof_hash,
            admins,
        })
    }

    /// The broker that the bootstrap pins.
    #[must_use]
    pub fn broker(&self) -> Server {
        Server {
            word: "broker",
            realm: self.bootstrap.realm.clone(),
            addresses: self.bootstrap.brokers.clone(),
            tls_key: self.bootstrap.broker_key,
        }
    }

    fn pins(&self) -> Pins {
        Pins {
            broker: self.broker(),
            ticket_keys: TicketKeys::of(self.bootstrap.ticket_key),
            log_key: self.bootstrap.log_key.clone(),
            admins: self.admins.clone(),
            aliases: Default::default(),
        }
    }
}

/// The state to log in with: the one on disk if it is of this node and this launch, else a fresh
/// one, written before anything is sent. A state of another instance came along with a cloned disk
/// or image and is thrown away. One of this node and another launch stays in force until the broker
/// has answered the new login, which waits beside it: were it refused, the old node key would be
/// lost, and a login under the old launch with another key would freeze the node (LOG-8).
///
/// # Errors
/// The state cannot be read or written.
pub fn prepare(
    dir: &Path,
    evidence: &Evidence,
    rng: &mut impl CryptoRng,
) -> Result<NodeState, Error> {
    let launch = evidence.bootstrap.launch;
    let ours = |state: &NodeState| state.node == evidence.node && state.launch == launch;
    let in_force = NodeState::load(dir)?;
    let beside = match in_force {
        Some(state) if ours(&state) => {
            // A crash came between putting it in force and removing where it waited.
            if matches!(NodeState::load_waiting(dir), Ok(Some(waiting)) if ours(&waiting)) {
                NodeState::remove_waiting(dir)?;
            }
            return Ok(state);
        }
        Some(state) if state.node == evidence.node => {
            if let Some(waiting) = NodeState::load_waiting(dir)?
                && ours(&waiting)
            {
                return Ok(waiting);
            }
            tracing::warn!(node = %state.node, "stored state is of another launch; it stays until the new login is answered");
            true
        }
        Some(state) => {
            tracing::warn!(stored = %state.node, found = %evidence.node, "stored state is of another node; starting anew");
            false
        }
        None => false,
    };
    let mut state = NodeState::new(
        evidence.pins(),
        launch,
        evidence.bootstrap.launch_digest,
        evidence.node.clone(),
        rng,
    );
    if beside {
        state = state.waiting();
    }
    // rule: LOG-1
    state.save(dir)?;
    if !beside {
        // What waited beside a state that is gone or another instance's.
        NodeState::remove_waiting(dir)?;
    }
    Ok(state)
}

/// Logs in over an open connection. May be called again with the same state after a lost answer.
/// The evidence chain is written down before anything is sent: the broker may know it although no
/// answer came, and a renewal after the retry window has to name it.
///
/// # Errors
/// The exchange failed, the broker refused, its answer does not hold, or the state cannot be written.
pub async fn login(
    logged: &LoggedLink,
    dir: &Path,
    state: &mut NodeState,
    evidence: &Evidence,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<NodeSession, Error> {
    // Before the server is told anything: identity proof and signatures are for no other one.
    logged.is_of(&state.pins.log_key)?;
    logged.proven().await?;
    let link = logged.link();
    let secrets = SessionSecrets::generate(Kem::XWing, rng);
    let launch = evidence.bootstrap.launch_secret();
    let mut body = LoginBody {
        launch: evidence.bootstrap.launch,
        login: state.login,
        iid_proof: evidence.proof.clone().into_bytes(),
        node_key: state.key.public(),
        proof_key: secrets.proof.public(),
        sealing_key: secrets.sealing.public(),
        launch_digest: evidence.bootstrap.launch_digest,
        evidence: Proof {
            alg: ALG_EDDSA,
            value: vec![0],
        },
    };
    // rule: LOG-10
    let signed = body.evidence(evidence.proof_hash);
    let signature = signed.sign(&launch, &link.channel().realm, &link.channel().server);
    let chain = signed.link(None, &signature);
    let begun = Chain::begin(
        chain,
        body.iid_proof.clone(),
        EvidenceLink {
            node_key: signed.node_key,
            proof_key: signed.proof_key,
            sealing_key: signed.sealing_key,
            proof: signature.clone(),
        },
    );
    body.evidence = signature;
    state.add_chain(begun.clone());
    // rule: LOG-1, EVD-3
    state.save(dir)?;
    let bytes = body.to_cbor();
    // rule: SIG-3
    let channel = link.channel();
    let proofs = [
        channel.sign_with(&launch, labels::LOGIN_REQUEST, None, &bytes),
        channel.sign_with(&state.key, labels::LOGIN_REQUEST, None, &bytes),
        channel.sign_with(&secrets.proof, labels::LOGIN_REQUEST, None, &bytes),
    ];
    let (answer, _) = link.call(Verb::Login, &bytes, &proofs).await?;
    let sent = Sent {
        secrets,
        node_key: state.key.public(),
        chain,
        kind: Kind::Login,
    };
    let (session, launch) = accept(logged, state, &answer, sent, now).await?;
    state.chains = vec![begun];
    state.launch_statement = Some(launch);
    // From here on this state is the one in force, and another launch's is gone.
    state.known = true;
    state.save(dir)?;
    Ok(session)
}

/// What was sent with a login or a renewal.
pub(crate) struct Sent {
    pub secrets: SessionSecrets,
    pub node_key: NodeKey,
    pub chain: EvidenceHash,
    pub kind: Kind,
}

/// Checks the answer of login or renew: the ticket is the broker's, for this node, with the keys
/// that were sent and the evidence that was signed, its receipt is of it, and the launch that comes
/// with it is the bootstrap's.
pub(crate) async fn accept(
    logged: &LoggedLink,
    state: &mut NodeState,
    answer: &[u8],
    sent: Sent,
    now: Timestamp,
) -> Result<(NodeSession, Vec<u8>), Error> {
    let broker = logged.link().word();
    let Sent {
        secrets,
        node_key,
        chain,
        kind,
    } = sent;
    let answer =
        LoginAnswer::from_cbor(answer, limits::MESSAGE).map_err(Error::malformed(broker))?;
    follow_records(&mut state.pins, &answer.records, now)?;
    let audience = Audience::Broker(state.pins.broker.tls_key);
    let verified = ticket::verify::<NodeClaims>(
        &answer.ticket,
        &state.pins.ticket_keys,
        &state.pins.broker.realm,
        audience,
    );
    let verified = verified.map_err(Error::ticket(broker))?;
    let claims = verified.claims();
    let common = &claims.common;
    let ours = *common.node() == state.node
        && claims.node_key == node_key
        && common.proof_key == secrets.proof.public()
        && common.sealing_key == secrets.sealing.public()
        && common.launch == state.launch;
    if !ours {
        return Err(Error::answer(
            broker,
            "its ticket is of another node or other keys",
        ));
    }
    // rule: TKT-8
    if common.evidence != chain {
        return Err(Error::answer(
            broker,
            "its ticket carries other evidence than was signed",
        ));
    }
    let ticket = TicketHash::of(&answer.ticket);
    receipt::check(logged, &answer.receipt, None, kind, ticket).await?;
    // rule: EVD-3
    if StatementDigest::of(&answer.launch) != state.launch_digest {
        return Err(Error::answer(
            broker,
            "the launch that it brings is not the bootstrap's",
        ));
    }
    let session = NodeSession {
        ticket: answer.ticket,
        secrets,
    };
    Ok((session, answer.launch))
}
