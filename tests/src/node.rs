//! Nodes that speak the wire by hand, on real identity documents.

use std::path::{Path, PathBuf};

use client::wallet::{DatasetSession, NodeSession, SessionSecrets};
use ticket_format::bootstrap::Bootstrap;
use ticket_format::cbor::Decode;
use ticket_format::ids::{EvidenceHash, LoginId, NodeId, ProofHash};
use ticket_format::iid::{self, RegionKeys};
use ticket_format::keys::NodeSecret;
use ticket_format::limits;
use ticket_format::messages::issue::IssueAnswer;
use ticket_format::messages::login::LoginAnswer;

use crate::house::House;
use crate::wire::{self, Login, Message, Reply, Wire, again, rng, secrets};

/// The real documents with an rsa2048 proof: four instances in four accounts and three regions.
pub const DOCUMENTS: [&str; 4] = [
    "metaphor-2026",
    "ansible-2022-a",
    "teleport-2021-a",
    "taskcluster-2018",
];

/// A real identity document that AWS signed.
#[derive(Clone, Debug)]
pub struct Iid {
    /// Its directory.
    pub dir: PathBuf,
    /// The proof, base64 text as the metadata service serves it.
    pub proof: String,
    /// Hash of the decoded proof.
    pub hash: ProofHash,
    /// The account.
    pub account: String,
    /// The node that it names.
    pub node: NodeId,
}

impl Iid {
    /// One of [`DOCUMENTS`], by number.
    ///
    /// # Panics
    /// When it does not verify.
    #[must_use]
    pub fn real(number: usize) -> Self {
        let base =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../ticket-format/tests/data/aws/iid");
        let dir = base.join(DOCUMENTS[number]);
        let proof = std::fs::read_to_string(dir.join("rsa2048.b64")).expect("a proof");
        let document =
            iid::verify(proof.as_bytes(), &RegionKeys::built_in()).expect("AWS signed it");
        let node = NodeId::new(
            document.account_id(),
            document.region(),
            document.instance_id(),
        );
        Self {
            hash: ProofHash(*document.proof_hash()),
            account: document.account_id().to_owned(),
            node: node.expect("a node"),
            proof,
            dir,
        }
    }
}

/// A node that logged in, or is about to.
pub struct Node {
    /// Its document.
    pub iid: Iid,
    /// From user-data.
    pub bootstrap: Bootstrap,
    /// Its login id.
    pub login: LoginId,
    /// Its node key.
    pub key: NodeSecret,
    /// Its node ticket, once it has one.
    pub session: Option<NodeSession>,
    /// The end of its evidence chain.
    pub chain: Option<EvidenceHash>,
}

impl Node {
    /// A node that has not logged in yet.
    #[must_use]
    pub fn new(iid: &Iid, bootstrap: &Bootstrap) -> Self {
        Self {
            iid: iid.clone(),
            bootstrap: bootstrap.clone(),
            login: LoginId::random(&mut rng()),
            key: NodeSecret::generate(&mut rng()),
            session: None,
            chain: None,
        }
    }

    /// Its login message for a connection.
    #[must_use]
    pub fn login_message(&self, wire: &Wire, secrets: &SessionSecrets) -> (Message, EvidenceHash) {
        let login = Login {
            bootstrap: &self.bootstrap,
            proof: &self.iid.proof,
            proof_hash: self.iid.hash,
            login: self.login,
            key: &self.key,
            secrets,
        };
        login.message(&wire.channel)
    }

    /// Logs in.
    ///
    /// # Errors
    /// The broker's reply, when it is not done.
    pub async fn log_in(&mut self, wire: &Wire) -> Result<(), Reply> {
        let secrets = secrets();
        let (message, chain) = self.login_message(wire, &secrets);
        match wire.send(&message).await {
            Reply::Done { body, .. } => {
                self.accept(&body, secrets, chain);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Renews with this next key.
    ///
    /// # Errors
    /// The broker's reply, when it is not done.
    ///
    /// # Panics
    /// When the node has not logged in.
    pub async fn renew(&mut self, wire: &Wire, next: &NodeSecret) -> Result<(), Reply> {
        let (secrets, chain) = (secrets(), self.chain.expect("it has logged in"));
        let (message, chain) = wire::renew(
            &wire.channel,
            &self.iid.node,
            &self.key,
            next,
            &secrets,
            chain,
        );
        match wire.send(&message).await {
            Reply::Done { body, .. } => {
                self.key = again(next);
                self.accept(&body, secrets, chain);
                Ok(())
            }
            other => Err(other),
        }
    }

    fn accept(&mut self, body: &[u8], secrets: SessionSecrets, chain: EvidenceHash) {
        let answer = LoginAnswer::from_cbor(body, limits::MESSAGE).expect("its shape");
        self.session = Some(NodeSession {
            ticket: answer.ticket,
            secrets,
        });
        self.chain = Some(chain);
    }

    /// Its node ticket.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn ticket(&self) -> &NodeSession {
        self.session.as_ref().expect("it has logged in")
    }

    /// Gets a dataset ticket for all actions.
    ///
    /// # Errors
    /// The broker's reply, when it is not done.
    pub async fn issue(&self, wire: &Wire, dataset: &str) -> Result<DatasetSession, Reply> {
        let secrets = secrets();
        let message = wire::issue(&wire.channel, self.ticket(), &self.key, dataset, &secrets);
        match wire.send(&message).await {
            Reply::Done { body, .. } => {
                let answer = IssueAnswer::from_cbor(&body, limits::MESSAGE).expect("its shape");
                Ok(DatasetSession {
                    dataset: dataset.to_owned(),
                    ticket: answer.ticket,
                    secrets,
                    receipt: answer.receipt,
                    record: answer.record,
                    evidence: None,
                    alias: None,
                })
            }
            other => Err(other),
        }
    }
}

impl House {
    /// A connection to the broker.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn to_broker(&self) -> Wire {
        Wire::connect(&self.broker_server()).await
    }

    /// A connection to the key server.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn to_key_server(&self) -> Wire {
        Wire::connect(&self.key_server_server()).await
    }

    /// A node that has logged in, on one of the real documents.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn node(&self, document: usize) -> Node {
        let iid = Iid::real(document);
        let mut node = Node::new(&iid, &self.launch(&iid.account));
        let wire = self.to_broker().await;
        if let Err(reply) = node.log_in(&wire).await {
            panic!("{:?}: {reply:?}\n{}", iid.node, self.broker.log());
        }
        node
    }
}
