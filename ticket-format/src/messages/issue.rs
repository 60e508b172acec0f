//! Issue (`spec/protocol.md`, section 6): a node ticket in, a dataset ticket for a job out.

use crate::Context;
use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::evidence::IssueEvidence;
use crate::ids::EvidenceHash;
use crate::keys::ProofKey;
use crate::limits;
use crate::seal::{Kem, SealingKey};
use crate::sign::Proof;
use crate::ticket::Actions;
use crate::time::Timestamp;

use super::Receipt;
use super::shape::{Bytes, List, Shape, Text, UINT, closed_map, item};

/// What a job's node says to get a dataset ticket.
///
/// ```cddl
/// issue-body = { 1: bstr .size (1..8192), 2: name, 3: [1*3 action], 4: pairs, 5: ed-key, 6: kem,
///                7: sealing-key, 8: uint, 9: uint, 10: unix-time, 11: proof, 12: uint,
///                13: uint }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueBody {
    /// The node ticket's bytes.
    pub node_ticket: Vec<u8>,
    /// The dataset's name.
    pub dataset: String,
    /// What for.
    pub actions: Actions,
    /// Pairs that every item's context will have to hold.
    pub required: Context,
    /// The job's proof key.
    pub proof_key: ProofKey,
    /// The job's sealing key; on the wire its KEM stands before it.
    pub sealing_key: SealingKey,
    /// Life wanted, in seconds.
    pub life: u64,
    /// Most DEKs wanted.
    pub budget: u64,
    /// Expiry wanted, as in the evidence.
    pub expires: Timestamp,
    /// The node key's signature over [`IssueBody::evidence`].
    pub evidence: Proof,
    /// Version of the admin set that the node knows (ISS-6).
    pub admin_set: u64,
    /// Number of the ticket-key record that the node knows (KEY-3); 1 before the first.
    pub ticket_key: u64,
}

/// Most ticket-key records that one answer brings.
pub const TICKET_KEYS: usize = 16;

/// Most admin sets that one answer brings.
pub const ADMIN_SETS: usize = 64;

const TICKET: Bytes = Bytes(1..=limits::TICKET);
const NAME: Text = Text(1..=limits::NAME);

impl Encode for IssueBody {
    fn encode(&self, writer: &mut Writer) {
        writer.map(13);
        writer
            .uint(1)
            .bytes(&self.node_ticket)
            .uint(2)
            .text(&self.dataset);
        self.actions.encode(writer.uint(3));
        self.required.encode(writer.uint(4));
        self.proof_key.encode(writer.uint(5));
        self.sealing_key.kem().encode(writer.uint(6));
        self.sealing_key.encode(writer.uint(7));
        writer.uint(8).uint(self.life).uint(9).uint(self.budget);
        self.expires.encode(writer.uint(10));
        self.evidence.encode(writer.uint(11));
        writer
            .uint(12)
            .uint(self.admin_set)
            .uint(13)
            .uint(self.ticket_key);
    }
}

impl Decode for IssueBody {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(13)?;
        let node_ticket = TICKET.member(&mut map, 1)?;
        let dataset = NAME.member(&mut map, 2)?;
        let actions = map.required(3, Actions::decode)?;
        let required = map.required(4, Context::decode)?;
        let proof_key = map.required(5, ProofKey::decode)?;
        // rule: ISS-5
        let kem = map.required(6, Kem::decode)?;
        let sealing_key = map.required(7, |reader| SealingKey::decode_as(kem, reader))?;
        let life = UINT.member(&mut map, 8)?;
        let budget = UINT.member(&mut map, 9)?;
        let expires = map.required(10, Timestamp::decode)?;
        let evidence = map.required(11, Proof::decode)?;
        let admin_set = UINT.member(&mut map, 12)?;
        let ticket_key = UINT.member(&mut map, 13)?;
        map.end()?;
        Ok(Self {
            node_ticket,
            dataset,
            actions,
            required,
            proof_key,
            sealing_key,
            life,
            budget,
            expires,
            evidence,
            admin_set,
            ticket_key,
        })
    }
}

impl IssueBody {
    /// What the node key signs for others to check later (ISS-2), on top of the node ticket's
    /// evidence hash.
    #[must_use]
    pub fn evidence(&self, chain: EvidenceHash) -> IssueEvidence<'_> {
        IssueEvidence {
            dataset: &self.dataset,
            actions: self.actions,
            required: &self.required,
            proof_key: self.proof_key,
            kem: self.sealing_key.kem(),
            sealing_key: self.sealing_key.hash(),
            expires: self.expires,
            chain,
        }
    }
}

closed_map! {
    /// A dataset ticket, the receipt of its entry, and what is needed to believe the key server.
    ///
    /// ```cddl
    /// issue-answer = { 1: bstr .size (1..8192), 2: receipt, 3: bstr .size (1..98304),
    ///                  4: [*64 bstr .size (1..16384)], 6: [*16 bstr .size (1..16384)] }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct IssueAnswer {
        /// The dataset ticket's bytes.
        1 ticket: Vec<u8> = TICKET;
        /// The audit log's receipt.
        2 receipt: Receipt = item();
        /// The dataset record: an admin-signed statement (ISS-6).
        3 record: Vec<u8> = Bytes(1..=limits::STATEMENT);
        /// The admin sets after the version that the node knows, ascending: statements (SET-3).
        4 admin_sets: Vec<Vec<u8>> = List(0..=ADMIN_SETS, Bytes(1..=limits::RECORD));
        /// The ticket-key records after the number that the node knows, ascending: statements (KEY-3).
        6 ticket_keys: Vec<Vec<u8>> = List(0..=TICKET_KEYS, Bytes(1..=limits::RECORD));
    }
}
