//! Present (`spec/protocol.md`, section 7): opens a dataset ticket on this connection.

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{DatasetId, SealingKeyHash};
use crate::keys::{NodeKey, ProofKey};
use crate::limits;
use crate::sign::Proof;
use crate::time::Timestamp;

use super::Receipt;
use super::shape::{Bytes, List, OrNull, Pair, UINT, closed_map, item};

closed_map! {
    /// What a job says to present its ticket.
    ///
    /// `present-body = { 1: bstr .size (1..8192), 2: receipt / null, 3: evidence / null }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PresentBody {
        /// The dataset ticket's bytes.
        1 ticket: Vec<u8> = Bytes(1..=limits::TICKET);
        /// The receipt of its issue.
        2 receipt: Option<Receipt> = OrNull(item());
        /// Where the dataset wants it (EVD-1).
        3 evidence: Option<Evidence> = OrNull(item());
    }
}

/// Most links of renewals.
pub const LINKS: usize = 128;

closed_map! {
    /// What the ticket does not hold itself of the chain that its evidence hash names (EVD-1).
    ///
    /// ```cddl
    /// evidence = { 1: bstr .size (1..16384), 2: bstr .size (1..8192), 3: link, 4: [*128 link],
    ///              5: [unix-time, proof] }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Evidence {
        /// The launch: an admins' statement.
        1 launch: Vec<u8> = Bytes(1..=limits::RECORD);
        /// The IID proof: base64 text, as in the login.
        2 iid_proof: Vec<u8> = Bytes(1..=limits::IID_TEXT);
        /// The login, signed by the launch key.
        3 login: Link = item();
        /// The renewals in order, each signed by the node key before it.
        4 renewals: Vec<Link> = List(0..=LINKS, item());
        /// The issue: the expiry wanted, and the last node key's signature.
        5 issue: (Timestamp, Proof) = Pair(item(), item());
    }
}

/// One link: the keys that it brought, and the signature over its evidence body.
///
/// `link = [ed-key, ed-key, hash, proof]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The node key from now on.
    pub node_key: NodeKey,
    /// The proof key of the node ticket that came of it.
    pub proof_key: ProofKey,
    /// SHA-256 of that ticket's sealing key.
    pub sealing_key: SealingKeyHash,
    /// The signature.
    pub proof: Proof,
}

impl Encode for Link {
    fn encode(&self, writer: &mut Writer) {
        self.node_key.encode(writer.array(4));
        self.proof_key.encode(writer);
        self.sealing_key.encode(writer);
        self.proof.encode(writer);
    }
}

impl Decode for Link {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(4..=4)?;
        Ok(Self {
            node_key: NodeKey::decode(reader)?,
            proof_key: ProofKey::decode(reader)?,
            sealing_key: SealingKeyHash::decode(reader)?,
            proof: Proof::decode(reader)?,
        })
    }
}

closed_map! {
    /// The key server's encapsulation to the ticket's sealing key. The answer's proof is by the key
    /// server's signing key: without it, `enc` comes from anybody (PRE-4).
    ///
    /// `present-answer = { 1: uint, 2: bstr .size (32..1120), 3: id16, 4: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PresentAnswer {
        /// Names the presented ticket in later requests on this connection.
        1 handle: u64 = UINT;
        /// The HPKE encapsulation.
        2 enc: Vec<u8> = Bytes(32..=1_120);
        /// The ticket's dataset.
        3 dataset: DatasetId = item();
        /// Hash of the sealing key that it is to.
        4 sealing_key: SealingKeyHash = item();
    }
}
