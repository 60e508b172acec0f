//! Evidence that outlives the broker's word: what keys sign for others to check later, and the chain
//! of it (LOG-10, REN-6, ISS-2, TKT-8).
//!
//! ```text
//! launch statement --admin set--> launch key --signs--> login --node key--> renewal --...--> issue
//!                                 IID proof --region key--> attributes                         |
//!                                                            ticket's evidence hash = end of the chain
//! ```
//! The bodies are here; who checks a whole chain against a ticket is [`verify`].

mod chain;

pub use chain::{EvidenceError, Proven, Trust, attributes, verify};

use sha2::{Digest, Sha256};

use crate::Context;
use crate::cbor::{Encode, Writer};
use crate::ids::{EvidenceHash, LaunchId, NodeId, ProofHash, SealingKeyHash, StatementDigest};
use crate::keys::{LaunchKey, LaunchSecret, NodeKey, NodeSecret, ProofKey, TlsKey};
use crate::labels;
use crate::seal::Kem;
use crate::sign::{BadProof, Binding, Proof};
use crate::ticket::Actions;
use crate::time::Timestamp;

/// The binding of evidence: to realm and broker, to no connection and no ticket, so that a third
/// party can check it.
fn binding<'a>(
    label: &'static str,
    realm: &'a str,
    identity: &'a [u8; 32],
    body: &'a [u8],
) -> Binding<'a> {
    Binding {
        label,
        realm,
        identity,
        exporter: None,
        ticket: None,
        body,
    }
}

macro_rules! evidence {
    ($name:ty, $label:ident, $secret:ident, $public:ident) => {
        impl $name {
            /// Signs it, for this realm and broker.
            #[must_use]
            pub fn sign(&self, key: &$secret, realm: &str, broker: &TlsKey) -> Proof {
                key.sign(&binding(
                    labels::$label,
                    realm,
                    &broker.to_bytes(),
                    &self.to_cbor(),
                ))
            }

            /// Checks its signature.
            ///
            /// # Errors
            /// [`BadProof`]: other content, another key, realm or broker.
            pub fn verify(
                &self,
                key: &$public,
                realm: &str,
                broker: &TlsKey,
                proof: &Proof,
            ) -> Result<(), BadProof> {
                key.verify(
                    &binding(labels::$label, realm, &broker.to_bytes(), &self.to_cbor()),
                    proof,
                )
            }

            /// The next link of the chain (TKT-8).
            #[must_use]
            pub fn link(&self, previous: Option<EvidenceHash>, proof: &Proof) -> EvidenceHash {
                link(previous, &self.to_cbor(), proof)
            }
        }
    };
}

/// `["postern/1 evidence", link(n-1) or null, SHA-256(evidence body), signature]`, hashed (TKT-8).
#[must_use]
pub fn link(previous: Option<EvidenceHash>, body: &[u8], proof: &Proof) -> EvidenceHash {
    // rule: TKT-8
    let mut writer = Writer::with_capacity(192);
    writer.array(4).text(labels::EVIDENCE);
    writer.optional_bytes(previous.as_ref().map(|hash| &hash.0[..]));
    writer.bytes(&Sha256::digest(body)).bytes(&proof.value);
    EvidenceHash::of(&writer.into_bytes())
}

/// What the launch key signs when a node logs in (LOG-10):
/// `[launch id, launch digest, SHA-256(decoded IID proof), node key, proof key, SHA-256(sealing key)]`.
#[derive(Clone, Copy, Debug)]
pub struct LoginEvidence {
    /// Which launch.
    pub launch: LaunchId,
    /// Its digest, from the bootstrap.
    pub launch_digest: StatementDigest,
    /// Hash of the decoded IID proof.
    pub iid_proof: ProofHash,
    /// The node key.
    pub node_key: NodeKey,
    /// The node ticket's proof key.
    pub proof_key: ProofKey,
    /// Hash of the node ticket's sealing key.
    pub sealing_key: SealingKeyHash,
}

impl Encode for LoginEvidence {
    fn encode(&self, writer: &mut Writer) {
        // rule: LOG-10
        self.launch.encode(writer.array(6));
        self.launch_digest.encode(writer);
        self.iid_proof.encode(writer);
        self.node_key.encode(writer);
        self.proof_key.encode(writer);
        self.sealing_key.encode(writer);
    }
}

evidence!(LoginEvidence, EVIDENCE_LOGIN, LaunchSecret, LaunchKey);

/// What the old node key signs when a node renews (REN-6):
/// `[node, old node key, new node key, proof key, SHA-256(sealing key), evidence hash so far]`.
#[derive(Clone, Copy, Debug)]
pub struct RenewEvidence<'a> {
    /// Which node.
    pub node: &'a NodeId,
    /// The key that signs.
    pub old_key: NodeKey,
    /// The key from now on.
    pub new_key: NodeKey,
    /// The new node ticket's proof key.
    pub proof_key: ProofKey,
    /// Hash of the new node ticket's sealing key.
    pub sealing_key: SealingKeyHash,
    /// The chain so far.
    pub chain: EvidenceHash,
}

impl Encode for RenewEvidence<'_> {
    fn encode(&self, writer: &mut Writer) {
        // rule: REN-6
        self.node.encode(writer.array(6));
        self.old_key.encode(writer);
        self.new_key.encode(writer);
        self.proof_key.encode(writer);
        self.sealing_key.encode(writer);
        self.chain.encode(writer);
    }
}

evidence!(RenewEvidence<'_>, EVIDENCE_RENEW, NodeSecret, NodeKey);

/// What the node key signs when a dataset ticket is issued (ISS-2):
/// `[dataset, actions, context, job's proof key, KEM, SHA-256(job's sealing key), expiry,
/// evidence hash so far]`.
#[derive(Clone, Copy, Debug)]
pub struct IssueEvidence<'a> {
    /// The dataset's name.
    pub dataset: &'a str,
    /// What for.
    pub actions: Actions,
    /// Pairs that every item's context will have to hold.
    pub required: &'a Context,
    /// The job's proof key.
    pub proof_key: ProofKey,
    /// KEM of the job's sealing key.
    pub kem: Kem,
    /// Hash of the job's sealing key.
    pub sealing_key: SealingKeyHash,
    /// When the ticket is to expire at the latest.
    pub expires: Timestamp,
    /// The node ticket's chain.
    pub chain: EvidenceHash,
}

impl Encode for IssueEvidence<'_> {
    fn encode(&self, writer: &mut Writer) {
        // rule: ISS-2
        self.actions.encode(writer.array(8).text(self.dataset));
        self.required.encode(writer);
        self.proof_key.encode(writer);
        self.kem.encode(writer);
        self.sealing_key.encode(writer);
        self.expires.encode(writer);
        self.chain.encode(writer);
    }
}

evidence!(IssueEvidence<'_>, EVIDENCE_ISSUE, NodeSecret, NodeKey);

#[cfg(test)]
mod tests;
