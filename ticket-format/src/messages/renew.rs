//! Renew (`spec/protocol.md`, section 5): the next node ticket, by the node key, which rotates.

use crate::evidence::RenewEvidence;
use crate::ids::{EvidenceHash, NodeId};
use crate::keys::{NodeKey, ProofKey};
use crate::seal::SealingKey;
use crate::sign::Proof;

use super::shape::{XWING_KEY, closed_map, item};

closed_map! {
    /// What a node says to renew.
    ///
    /// ```cddl
    /// renew-body = { 1: node, 2: ed-key, 3: ed-key, 4: ed-key, 5: xwing-key, 6: hash, 7: proof }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RenewBody {
        /// Which node.
        1 node: NodeId = item();
        /// The node key in force; in a retry, the one before it (REN-2).
        2 old_key: NodeKey = item();
        /// The node key from now on.
        3 new_key: NodeKey = item();
        /// The new node ticket's proof key.
        4 proof_key: ProofKey = item();
        /// The new node ticket's sealing key, X-Wing.
        5 sealing_key: SealingKey = XWING_KEY;
        /// The evidence chain so far (TKT-8).
        6 chain: EvidenceHash = item();
        /// The old node key's signature over [`RenewBody::evidence`].
        7 evidence: Proof = item();
    }
}

impl RenewBody {
    /// What the old node key signs for others to check later (REN-6).
    #[must_use]
    pub fn evidence(&self) -> RenewEvidence<'_> {
        RenewEvidence {
            node: &self.node,
            old_key: self.old_key,
            new_key: self.new_key,
            proof_key: self.proof_key,
            sealing_key: self.sealing_key.hash(),
            chain: self.chain,
        }
    }
}

/// A node ticket and the receipt of its entry: the same shape as login's.
pub type RenewAnswer = super::login::LoginAnswer;
