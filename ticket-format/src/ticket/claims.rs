//! The claims of both kinds of ticket (`spec/ticket.md`, section 1).

use crate::cbor::{Decode, DecodeError, Encode, MapReader, Reader, Writer};
use crate::ids::{DatasetId, EvidenceHash, LaunchId, NodeId, PolicyDigest, TicketId};
use crate::keys::{NodeKey, ProofKey, TlsKey};
use crate::limits::NAME;
use crate::pairs::Context;
use crate::seal::{Kem, SealingKey};
use crate::ticket::Actions;
use crate::time::Timestamp;

/// What the identity document said of the node. CDDL `attributes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// The node's name: account, region, instance id.
    pub node: NodeId,
    /// Availability zone.
    pub availability_zone: String,
    /// Image id.
    pub image: String,
    /// Instance type.
    pub instance_type: String,
    /// pendingTime: when the instance was launched.
    pub launched_at: Timestamp,
}

impl Encode for Attributes {
    fn encode(&self, writer: &mut Writer) {
        writer
            .map(7)
            .int(1)
            .text(self.node.account())
            .int(2)
            .text(self.node.region());
        writer
            .int(3)
            .text(&self.availability_zone)
            .int(4)
            .text(&self.image)
            .int(5)
            .text(&self.instance_type);
        writer
            .int(6)
            .text(self.node.instance())
            .int(7)
            .uint(self.launched_at.seconds());
    }
}

impl Decode for Attributes {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(7)?;
        let account = map.required(1, |r| r.text(12..=12))?;
        let region = map.required(2, |r| r.text(1..=32))?;
        let mut short = |key| map.required(key, |r| r.text(1..=64)).map(str::to_owned);
        let (availability_zone, image, instance_type) = (short(3)?, short(4)?, short(5)?);
        let instance = map.required(6, |r| r.text(1..=32))?;
        let launched_at = map.required(7, Timestamp::decode)?;
        map.end()?;
        let node =
            NodeId::new(account, region, instance).map_err(|_| DecodeError::OutOfRange("node"))?;
        Ok(Self {
            node,
            availability_zone,
            image,
            instance_type,
            launched_at,
        })
    }
}

/// The one server that a ticket is for (TKT-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The broker with this TLS key.
    Broker(TlsKey),
    /// The key server with this TLS key.
    KeyServer(TlsKey),
}

impl std::fmt::Display for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broker(key) => write!(f, "broker:{key}"),
            Self::KeyServer(key) => write!(f, "key-server:{key}"),
        }
    }
}

impl std::str::FromStr for Audience {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let key = |hex: &str| hex.parse().map_err(|_| DecodeError::OutOfRange("audience"));
        let audience = match text.split_once(':') {
            Some(("broker", hex)) => Self::Broker(key(hex)?),
            Some(("key-server", hex)) => Self::KeyServer(key(hex)?),
            _ => return Err(DecodeError::OutOfRange("audience")),
        };
        // Upper-case digits would be a second spelling of the same key.
        if audience.to_string() == text {
            Ok(audience)
        } else {
            Err(DecodeError::OutOfRange("audience"))
        }
    }
}

/// What both kinds of ticket say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The realm whose broker issued it (`iss` is `postern:<realm>`).
    pub realm: String,
    /// The one server that it is for.
    pub audience: Audience,
    /// When its life ends; from this second on it is expired.
    pub expires: Timestamp,
    /// When it was issued; its life begins here.
    pub issued: Timestamp,
    /// `cti`.
    pub id: TicketId,
    /// `cnf`: without the secret of this key the ticket opens nothing (TKT-7).
    pub proof_key: ProofKey,
    /// To which answers are sealed.
    pub sealing_key: SealingKey,
    /// The launch that the node logged in with.
    pub launch: LaunchId,
    /// What the identity document said.
    pub attributes: Attributes,
    /// The evidence chain so far (TKT-8).
    pub evidence: EvidenceHash,
}

impl Common {
    /// The node (`sub`).
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.attributes.node
    }
}

/// A node ticket: for the broker itself. CDDL `node-claims`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeClaims {
    /// What both kinds say.
    pub common: Common,
    /// The node key that signs evidence of issues on this ticket.
    pub node_key: NodeKey,
}

/// A dataset ticket: for one dataset at its key server. CDDL `dataset-claims`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetClaims {
    /// What both kinds say.
    pub common: Common,
    /// The dataset.
    pub dataset: DatasetId,
    /// Its name, for people.
    pub dataset_name: String,
    /// What may be asked for.
    pub actions: Actions,
    /// Pairs that every item's context must hold (RED-3).
    pub required: Context,
    /// Most distinct DEKs (RED-4).
    pub budget: u64,
    /// Digest of the policy that decided.
    pub policy: PolicyDigest,
    /// The node ticket that it was issued on.
    pub parent: TicketId,
}

/// A kind of ticket: its `typ` and its claims. Sealed: there are two.
pub trait Claims: Sized + private::Sealed {
    /// The `typ` header (TKT-3).
    const TYP: &'static str;

    /// What both kinds say.
    fn common(&self) -> &Common;

    /// Appends the claims map.
    fn encode(&self, writer: &mut Writer);

    /// Reads the claims map.
    ///
    /// # Errors
    /// A claim is missing, unknown, or not of its shape (TKT-5).
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

mod private {
    pub trait Sealed {}
    impl Sealed for super::NodeClaims {}
    impl Sealed for super::DatasetClaims {}
}

const SEALING_KEY: i64 = -70_001;
const KEM: i64 = -70_002;
const LAUNCH: i64 = -70_003;
const ATTRIBUTES: i64 = -70_004;
const EVIDENCE: i64 = -70_005;
const NODE_KEY: i64 = -70_006;
const DATASET: i64 = -70_007;
const DATASET_NAME: i64 = -70_008;
const ACTIONS: i64 = -70_009;
const REQUIRED: i64 = -70_010;
const BUDGET: i64 = -70_011;
const POLICY: i64 = -70_012;
const PARENT: i64 = -70_013;

impl Common {
    fn encode(&self, writer: &mut Writer) {
        writer
            .int(1)
            .text(&format!("postern:{}", self.realm))
            .int(2)
            .text(&self.node().to_string());
        writer
            .int(3)
            .text(&self.audience.to_string())
            .int(4)
            .uint(self.expires.seconds());
        writer
            .int(5)
            .uint(self.issued.seconds())
            .int(6)
            .uint(self.issued.seconds())
            .int(7)
            .bytes(&self.id.0);
        writer
            .int(8)
            .map(1)
            .int(1)
            .raw(&self.proof_key.to_cose_key());
        writer.int(SEALING_KEY).bytes(self.sealing_key.as_bytes());
        writer.int(KEM);
        self.sealing_key.kem().encode(writer);
        writer.int(LAUNCH).bytes(&self.launch.0).int(ATTRIBUTES);
        self.attributes.encode(writer);
        writer.int(EVIDENCE).bytes(&self.evidence.0);
    }

    fn decode(map: &mut MapReader<'_, '_>) -> Result<Self, DecodeError> {
        // rule: TKT-5
        let issuer = map.required(1, |r| r.text(1..=NAME + 8))?;
        let realm = issuer
            .strip_prefix("postern:")
            .ok_or(DecodeError::OutOfRange("issuer"))?
            .to_owned();
        let subject = map.required(2, NodeId::decode)?;
        let audience = map.required(3, |r| r.text(1..=NAME)?.parse())?;
        let expires = map.required(4, Timestamp::decode)?;
        let not_before = map.required(5, Timestamp::decode)?;
        let issued = map.required(6, Timestamp::decode)?;
        let id = map.required(7, TicketId::decode)?;
        let proof_key = map.required(8, |r| {
            let mut confirmation = r.map(1)?;
            let key = confirmation.required(1, ProofKey::decode_cose_key)?;
            confirmation.end()?;
            Ok(key)
        })?;
        let sealing_bytes = map.required(SEALING_KEY, |r| r.bytes(32..=crate::seal::XWING_KEY))?;
        let kem = map.required(KEM, Kem::decode)?;
        let sealing_key = SealingKey::from_bytes(kem, sealing_bytes)
            .map_err(|_| DecodeError::OutOfRange("sealing key"))?;
        let launch = map.required(LAUNCH, LaunchId::decode)?;
        let attributes = map.required(ATTRIBUTES, Attributes::decode)?;
        let evidence = map.required(EVIDENCE, EvidenceHash::decode)?;
        if not_before != issued || expires <= issued {
            return Err(DecodeError::OutOfRange("life"));
        }
        if subject != attributes.node {
            return Err(DecodeError::OutOfRange("subject"));
        }
        Ok(Self {
            realm,
            audience,
            expires,
            issued,
            id,
            proof_key,
            sealing_key,
            launch,
            attributes,
            evidence,
        })
    }
}

impl Claims for NodeClaims {
    const TYP: &'static str = "postern-node-ticket";

    fn common(&self) -> &Common {
        &self.common
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(14);
        self.common.encode(writer);
        writer.int(NODE_KEY).bytes(&self.node_key.to_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(14)?;
        let common = Common::decode(&mut map)?;
        let node_key = map.required(NODE_KEY, NodeKey::decode)?;
        map.end()?;
        Ok(Self { common, node_key })
    }
}

impl Claims for DatasetClaims {
    const TYP: &'static str = "postern-dataset-ticket";

    fn common(&self) -> &Common {
        &self.common
    }

    fn encode(&self, writer: &mut Writer) {
        writer.map(20);
        self.common.encode(writer);
        writer
            .int(DATASET)
            .bytes(&self.dataset.0)
            .int(DATASET_NAME)
            .text(&self.dataset_name)
            .int(ACTIONS);
        self.actions.encode(writer);
        writer.int(REQUIRED);
        self.required.encode(writer);
        writer
            .int(BUDGET)
            .uint(self.budget)
            .int(POLICY)
            .bytes(&self.policy.0)
            .int(PARENT)
            .bytes(&self.parent.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(20)?;
        let common = Common::decode(&mut map)?;
        let claims = Self {
            common,
            dataset: map.required(DATASET, DatasetId::decode)?,
            dataset_name: map.required(DATASET_NAME, |r| r.text(1..=NAME))?.to_owned(),
            actions: map.required(ACTIONS, Actions::decode)?,
            required: map.required(REQUIRED, Context::decode)?,
            budget: map.required(BUDGET, Reader::uint)?,
            policy: map.required(POLICY, PolicyDigest::decode)?,
            parent: map.required(PARENT, TicketId::decode)?,
        };
        map.end()?;
        Ok(claims)
    }
}
