//! `node/<account>/<region>/<instance>`: one instance, its keys and how it stands.

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::entry::Alarm;
use ticket_format::ids::{ActId, EvidenceHash, LaunchId, LoginId, ProofHash, TicketId};
use ticket_format::keys::NodeKey;
use ticket_format::ticket::Attributes;
use ticket_format::time::Timestamp;

/// Most evidence hashes kept for one node key: the first answer and its newest retries.
const CHAINS: usize = 8;

/// The login by which a node came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The launch that it used.
    pub launch: LaunchId,
    /// The login's id: a retry repeats it (LOG-7).
    pub login: LoginId,
    /// The node key of that login.
    pub node_key: NodeKey,
    /// When it was claimed; age and life count from here.
    pub at: Timestamp,
    /// The act, which retries follow up.
    pub act: ActId,
    /// Hash of the identity document's proof.
    pub proof: ProofHash,
    /// From when on it can renew no more (REN-5).
    pub life_ends: Timestamp,
}

/// Why and when a record was frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// When.
    pub at: Timestamp,
    /// What was noticed.
    pub alarm: Alarm,
    /// The key that the other holder wants to go on with.
    pub other_key: NodeKey,
    /// The outdated key by which it signed, on a fork.
    pub other_old: Option<NodeKey>,
    /// The evidence chain that it came with, on a fork.
    pub other_chain: Option<EvidenceHash>,
    /// Its login and launch, when it logged in.
    pub other_login: Option<(LoginId, LaunchId)>,
}

/// A node. Retired keys stand in the key registry under the node's name (REN-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// What the identity document said.
    pub attributes: Attributes,
    /// How it came in.
    pub claim: Claim,
    /// The node key in force.
    pub current: NodeKey,
    /// The one before it, by which a lost answer may be asked for again (REN-2).
    pub previous: Option<NodeKey>,
    /// Evidence hashes of the tickets given to the current key.
    pub chains: Vec<EvidenceHash>,
    /// Evidence hashes of the tickets given to the previous key.
    pub previous_chains: Vec<EvidenceHash>,
    /// Set when two holders were noticed.
    pub frozen: Option<Frozen>,
    /// The newest node ticket and its expiry, for people.
    pub ticket: (TicketId, Timestamp),
    /// When that ticket was issued.
    pub issued: Timestamp,
    /// Tickets issued before this time are denied since a freeze; none begins earlier.
    pub from: Timestamp,
}

impl NodeRecord {
    /// Remembers the evidence hash of one more ticket for the current key.
    pub fn add_chain(&mut self, chain: EvidenceHash) {
        if !self.chains.contains(&chain) {
            if self.chains.len() >= CHAINS {
                // The first stays: it is what the holder has whose answer did arrive.
                self.chains.remove(1);
            }
            self.chains.push(chain);
        }
    }
}

fn write_chains(chains: &[EvidenceHash], writer: &mut Writer) {
    writer.array(chains.len());
    chains.iter().for_each(|chain| chain.encode(writer));
}

impl Encode for Frozen {
    fn encode(&self, writer: &mut Writer) {
        self.at.encode(writer.array(7));
        self.alarm.encode(writer);
        self.other_key.encode(writer);
        writer.optional_bytes(
            self.other_old
                .map(|key| key.to_bytes())
                .as_ref()
                .map(|key| &key[..]),
        );
        writer.optional_bytes(self.other_chain.as_ref().map(|chain| &chain.0[..]));
        writer.optional_bytes(self.other_login.as_ref().map(|(login, _)| &login.0[..]));
        writer.optional_bytes(self.other_login.as_ref().map(|(_, launch)| &launch.0[..]));
    }
}

impl Decode for Frozen {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(7..=7)?;
        let at = Timestamp::decode(reader)?;
        let alarm = Alarm::decode(reader)?;
        let other_key = NodeKey::decode(reader)?;
        let other_old = reader.optional(NodeKey::decode)?;
        let other_chain = reader.optional(EvidenceHash::decode)?;
        let login = reader.optional(LoginId::decode)?;
        let launch = reader.optional(LaunchId::decode)?;
        Ok(Self {
            at,
            alarm,
            other_key,
            other_old,
            other_chain,
            other_login: login.zip(launch),
        })
    }
}

impl Encode for NodeRecord {
    fn encode(&self, writer: &mut Writer) {
        let optional = usize::from(self.previous.is_some()) + usize::from(self.frozen.is_some());
        writer.map(15 + optional);
        self.attributes.encode(writer.uint(1));
        self.claim.launch.encode(writer.uint(2));
        self.claim.login.encode(writer.uint(3));
        self.claim.node_key.encode(writer.uint(4));
        self.claim.at.encode(writer.uint(5));
        self.claim.act.encode(writer.uint(6));
        self.claim.proof.encode(writer.uint(7));
        self.claim.life_ends.encode(writer.uint(8));
        self.current.encode(writer.uint(9));
        if let Some(previous) = &self.previous {
            previous.encode(writer.uint(10));
        }
        write_chains(&self.chains, writer.uint(11));
        write_chains(&self.previous_chains, writer.uint(12));
        if let Some(frozen) = &self.frozen {
            frozen.encode(writer.uint(13));
        }
        self.ticket.0.encode(writer.uint(14));
        self.ticket.1.encode(writer.uint(15));
        self.issued.encode(writer.uint(16));
        self.from.encode(writer.uint(17));
    }
}

impl Decode for NodeRecord {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(17)?;
        let attributes = map.required(1, Attributes::decode)?;
        let claim = Claim {
            launch: map.required(2, LaunchId::decode)?,
            login: map.required(3, LoginId::decode)?,
            node_key: map.required(4, NodeKey::decode)?,
            at: map.required(5, Timestamp::decode)?,
            act: map.required(6, ActId::decode)?,
            proof: map.required(7, ProofHash::decode)?,
            life_ends: map.required(8, Timestamp::decode)?,
        };
        let current = map.required(9, NodeKey::decode)?;
        let previous = map.optional(10, NodeKey::decode)?;
        let chains = map.required(11, |r| r.list(0..=CHAINS, EvidenceHash::decode))?;
        let previous_chains = map.required(12, |r| r.list(0..=CHAINS, EvidenceHash::decode))?;
        let frozen = map.optional(13, Frozen::decode)?;
        let ticket = (
            map.required(14, TicketId::decode)?,
            map.required(15, Timestamp::decode)?,
        );
        let issued = map.required(16, Timestamp::decode)?;
        let from = map.required(17, Timestamp::decode)?;
        map.end()?;
        Ok(Self {
            attributes,
            claim,
            current,
            previous,
            chains,
            previous_chains,
            frozen,
            ticket,
            issued,
            from,
        })
    }
}
