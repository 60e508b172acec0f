//! Login (`spec/protocol.md`, section 4): first evidence in, a node ticket out.

use crate::evidence::LoginEvidence;
use crate::ids::{LaunchId, LoginId, ProofHash, StatementDigest};
use crate::keys::{NodeKey, ProofKey};
use crate::limits;
use crate::seal::SealingKey;
use crate::sign::Proof;

use super::Receipt;
use super::issue::TICKET_KEYS;
use super::shape::{Bytes, List, XWING_KEY, closed_map, item};

closed_map! {
    /// What a node says to log in.
    ///
    /// ```cddl
    /// login-body = { 1: id16, 2: id16, 3: bstr .size (1..8192), 4: ed-key, 5: ed-key,
    ///                6: xwing-key, 7: hash, 8: proof }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LoginBody {
        /// Which launch.
        1 launch: LaunchId = item();
        /// Drawn once by the node and sent again with every retry (LOG-1).
        2 login: LoginId = item();
        /// The IID proof: base64 text as the metadata service serves it.
        3 iid_proof: Vec<u8> = Bytes(1..=limits::IID_TEXT);
        /// The node key.
        4 node_key: NodeKey = item();
        /// The node ticket's proof key.
        5 proof_key: ProofKey = item();
        /// The node ticket's sealing key, X-Wing.
        6 sealing_key: SealingKey = XWING_KEY;
        /// The launch's digest, from the bootstrap.
        7 launch_digest: StatementDigest = item();
        /// The launch key's signature over [`LoginBody::evidence`].
        8 evidence: Proof = item();
    }
}

impl LoginBody {
    /// What the launch key signs for others to check later (LOG-10). `proof` is the hash of the
    /// decoded IID proof.
    #[must_use]
    pub fn evidence(&self, proof: ProofHash) -> LoginEvidence {
        LoginEvidence {
            launch: self.launch,
            launch_digest: self.launch_digest,
            iid_proof: proof,
            node_key: self.node_key,
            proof_key: self.proof_key,
            sealing_key: self.sealing_key.hash(),
        }
    }
}

closed_map! {
    /// A node ticket, the receipt of its entry, and the launch for evidence (EVD-1).
    ///
    /// ```cddl
    /// login-answer = { 1: bstr .size (1..8192), 2: receipt, 3: bstr .size (1..16384),
    ///                  4: [*32 bstr .size (1..16384)] }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LoginAnswer {
        /// The node ticket's bytes.
        1 ticket: Vec<u8> = Bytes(1..=limits::TICKET);
        /// The audit log's receipt.
        2 receipt: Receipt = item();
        /// The launch: an admins' statement.
        3 launch: Vec<u8> = Bytes(1..=limits::RECORD);
        /// Where the ticket key was ever replaced: the newest admin sets, then the newest ticket-key
        /// records, both ascending: statements (KEY-3).
        4 records: Vec<Vec<u8>> = List(0..=2 * TICKET_KEYS, Bytes(1..=limits::RECORD));
    }
}
