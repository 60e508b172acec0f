//! Checks a whole chain of evidence against the dataset ticket that names its end (EVD-1, EVD-2).

use crate::ids::{EvidenceHash, LaunchId, NotANode, ProofHash, StatementDigest};
use crate::iid::{self, IidRefusal, RegionKeys};
use crate::keys::{NodeKey, TlsKey};
use crate::limits;
use crate::messages::present::{Evidence, LINKS};
use crate::statement::{AdminSet, LaunchCreate, ReceivedStatement, StatementRefusal};
use crate::ticket::{Attributes, DatasetClaims};
use crate::time::Timestamp;

use super::{IssueEvidence, LoginEvidence, RenewEvidence};

/// What evidence is checked by: nothing in it comes from the broker.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The realm.
    pub realm: &'a str,
    /// The broker's TLS key, which every signature of the chain names.
    pub broker: TlsKey,
    /// Who may let nodes in.
    pub admins: &'a AdminSet,
    /// Whose identity documents count.
    pub regions: &'a RegionKeys,
    /// The clock, for the launch's statement.
    pub now: Timestamp,
}

/// What a chain proves that bears its ticket out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// What AWS says of the node.
    pub attributes: Attributes,
    /// The launch that let it in.
    pub launch: LaunchId,
    /// SHA-256 of the decoded identity document proof.
    pub proof: ProofHash,
}

/// In what evidence does not bear out a ticket: refusal 46.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// More links than the protocol allows (section 11).
    #[error("the chain has {0} renewals; at most {LINKS} are taken")]
    TooLong(usize),
    /// The ticket is of another realm.
    #[error("the ticket is of another realm")]
    Realm,
    /// The ticket names another dataset than the one it is presented for.
    #[error("the ticket names another dataset than its id")]
    Dataset,
    /// The ticket lives on after the expiry that the node signed.
    #[error("the ticket expires later than the node asked for")]
    Expiry,
    /// What is brought is not the chain that the ticket names.
    #[error("the chain does not end in the ticket's evidence hash")]
    End,
    /// The launch.
    #[error("the launch is not authorised: {0}")]
    Launch(StatementRefusal),
    /// The ticket names another launch.
    #[error("the ticket names another launch")]
    OtherLaunch,
    /// The identity document.
    #[error(transparent)]
    Identity(#[from] IidRefusal),
    /// The document's names make no node's name.
    #[error("the identity document names no node: {0}")]
    Node(#[from] NotANode),
    /// One of the ticket's attributes is not the document's.
    #[error("the ticket's {0} is not the identity document's")]
    Attribute(&'static str),
    /// The launch does not let this node in (EVD-2).
    #[error("the launch does not let this {0} in")]
    NotLetIn(&'static str),
    /// The instance was launched outside the launch's window.
    #[error("the instance was launched outside the launch's window")]
    Window,
    /// The launch's node life was over before the ticket ends.
    #[error("the ticket outlives the launch's node life")]
    NodeLife,
    /// The login's signature.
    #[error("the login is not signed by the launch key")]
    Login,
    /// A renewal's signature, by its number from 1.
    #[error("renewal {0} is not signed by the node key before it")]
    Renewal(usize),
    /// The issue's signature.
    #[error("what the ticket gives is not what the last node key signed")]
    Issue,
}

/// Reads a document's members as attributes (TKT-5).
///
/// # Errors
/// Account, region and instance are no node's name.
pub fn attributes(document: &iid::VerifiedDocument) -> Result<Attributes, NotANode> {
    Ok(Attributes {
        node: crate::ids::NodeId::new(
            document.account_id(),
            document.region(),
            document.instance_id(),
        )?,
        availability_zone: document.availability_zone().to_owned(),
        image: document.image_id().to_owned(),
        instance_type: document.instance_type().to_owned(),
        launched_at: Timestamp::from_seconds(document.pending_time()),
    })
}

/// Checks that `evidence` proves what the ticket says, `claims`; `dataset` is the name that the key
/// server knows the ticket's dataset by. The ticket's signature, audience, life and possession are
/// checked before. Cheap comparisons come first, then at most 131 signatures.
///
/// # Errors
/// [`EvidenceError`]: the first thing that does not fit.
pub fn verify(
    evidence: &Evidence,
    claims: &DatasetClaims,
    dataset: &str,
    trust: &Trust<'_>,
) -> Result<Proven, EvidenceError> {
    // rule: EVD-1
    let common = &claims.common;
    if evidence.renewals.len() > LINKS {
        return Err(EvidenceError::TooLong(evidence.renewals.len()));
    }
    if common.realm != trust.realm {
        return Err(EvidenceError::Realm);
    }
    // The node signed a name, the ticket also has an id: a broker could join one to another.
    if claims.dataset_name != dataset {
        return Err(EvidenceError::Dataset);
    }
    if common.expires > evidence.issue.0 {
        return Err(EvidenceError::Expiry);
    }
    let (launch, digest) = launch(&evidence.launch, trust)?;
    if launch.launch != common.launch {
        return Err(EvidenceError::OtherLaunch);
    }
    let document = iid::verify(&evidence.iid_proof, trust.regions)?;
    let attributes = attributes(&document)?;
    same(&attributes, &common.attributes)?;
    lets_in(&launch, &attributes, common.expires)?;
    let proof = ProofHash(*document.proof_hash());
    let chain = Chain {
        evidence,
        claims,
        trust,
        launch: &launch,
        digest,
        proof,
    };
    chain.walk()?;
    Ok(Proven {
        attributes,
        launch: launch.launch,
        proof,
    })
}

/// The launch, authorised by the admin set in force.
fn launch(
    statement: &[u8],
    trust: &Trust<'_>,
) -> Result<(LaunchCreate, StatementDigest), EvidenceError> {
    let received = ReceivedStatement::parse(statement).map_err(EvidenceError::Launch)?;
    let verified = received
        .verify(trust.admins, trust.realm, None, trust.now)
        .map_err(EvidenceError::Launch)?;
    let launch = verified.body().map_err(EvidenceError::Launch)?;
    Ok((launch, verified.digest()))
}

/// Compares what the ticket says of the node with what AWS says.
fn same(proven: &Attributes, said: &Attributes) -> Result<(), EvidenceError> {
    let Attributes {
        node,
        availability_zone,
        image,
        instance_type,
        launched_at,
    } = said;
    let compared = [
        ("account", proven.node.account() == node.account()),
        ("region", proven.node.region() == node.region()),
        ("instance", proven.node.instance() == node.instance()),
        (
            "availability zone",
            proven.availability_zone == *availability_zone,
        ),
        ("image", proven.image == *image),
        ("instance type", proven.instance_type == *instance_type),
        ("launch time", proven.launched_at == *launched_at),
    ];
    match compared.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(EvidenceError::Attribute(what)),
        None => Ok(()),
    }
}

/// Whether the launch lets the node in, as far as anybody but the broker can know: of a launch that
/// is no group's, a login may come as late as the window's end, and the document be as old as the
/// launch allows (LOG-4, LOG-9).
fn lets_in(
    launch: &LaunchCreate,
    node: &Attributes,
    expires: Timestamp,
) -> Result<(), EvidenceError> {
    // rule: EVD-2
    let listed =
        |list: &[String], found: &str| list.is_empty() || list.iter().any(|entry| entry == found);
    if !launch
        .accounts
        .iter()
        .any(|account| account == node.node.account())
    {
        return Err(EvidenceError::NotLetIn("account"));
    }
    if !listed(&launch.regions, node.node.region()) {
        return Err(EvidenceError::NotLetIn("region"));
    }
    if !listed(&launch.images, &node.image) {
        return Err(EvidenceError::NotLetIn("image"));
    }
    let (from, until) = if launch.group {
        (launch.from, launch.until)
    } else {
        (
            launch.from.minus(launch.max_age),
            launch.until.plus(limits::SKEW),
        )
    };
    if node.launched_at < from || node.launched_at >= until {
        return Err(EvidenceError::Window);
    }
    if expires > launch.until.plus(launch.node_life) {
        return Err(EvidenceError::NodeLife);
    }
    Ok(())
}

/// A chain whose launch and document were checked.
struct Chain<'a> {
    evidence: &'a Evidence,
    claims: &'a DatasetClaims,
    trust: &'a Trust<'a>,
    launch: &'a LaunchCreate,
    digest: StatementDigest,
    proof: ProofHash,
}

impl Chain<'_> {
    fn walk(&self) -> Result<(), EvidenceError> {
        // Hashes first: that what is brought is what the ticket names costs no signature.
        if self.end()? != self.claims.common.evidence {
            return Err(EvidenceError::End);
        }
        self.signatures()
    }

    fn login(&self) -> LoginEvidence {
        let link = &self.evidence.login;
        LoginEvidence {
            launch: self.launch.launch,
            launch_digest: self.digest,
            iid_proof: self.proof,
            node_key: link.node_key,
            proof_key: link.proof_key,
            sealing_key: link.sealing_key,
        }
    }

    fn issue(&self, chain: EvidenceHash) -> IssueEvidence<'_> {
        let common = &self.claims.common;
        IssueEvidence {
            dataset: &self.claims.dataset_name,
            actions: self.claims.actions,
            required: &self.claims.required,
            proof_key: common.proof_key,
            kem: common.sealing_key.kem(),
            sealing_key: common.sealing_key.hash(),
            expires: self.evidence.issue.0,
            chain,
        }
    }

    /// Calls `each` with every renewal, its number from 1 and the key that signs it; gives the last
    /// node key and the end of the chain before the issue.
    fn renewals(
        &self,
        mut each: impl FnMut(usize, &RenewEvidence<'_>, NodeKey) -> Result<(), EvidenceError>,
    ) -> Result<(NodeKey, EvidenceHash), EvidenceError> {
        let login = &self.evidence.login;
        let mut chain = self.login().link(None, &login.proof);
        let mut key = login.node_key;
        for (number, link) in self.evidence.renewals.iter().enumerate() {
            let body = RenewEvidence {
                node: self.claims.common.node(),
                old_key: key,
                new_key: link.node_key,
                proof_key: link.proof_key,
                sealing_key: link.sealing_key,
                chain,
            };
            each(number + 1, &body, key)?;
            chain = body.link(Some(chain), &link.proof);
            key = link.node_key;
        }
        Ok((key, chain))
    }

    /// The end of the chain (TKT-8).
    fn end(&self) -> Result<EvidenceHash, EvidenceError> {
        // rule: TKT-8
        let (_, chain) = self.renewals(|_, _, _| Ok(()))?;
        Ok(self.issue(chain).link(Some(chain), &self.evidence.issue.1))
    }

    fn signatures(&self) -> Result<(), EvidenceError> {
        // rule: EVD-1, LOG-10, REN-6, ISS-2
        let (realm, broker) = (self.trust.realm, &self.trust.broker);
        let login = &self.evidence.login.proof;
        self.login()
            .verify(&self.launch.key, realm, broker, login)
            .map_err(|_| EvidenceError::Login)?;
        let links = &self.evidence.renewals;
        let (key, chain) = self.renewals(|number, body, key| {
            body.verify(&key, realm, broker, &links[number - 1].proof)
                .map_err(|_| EvidenceError::Renewal(number))
        })?;
        self.issue(chain)
            .verify(&key, realm, broker, &self.evidence.issue.1)
            .map_err(|_| EvidenceError::Issue)
    }
}

#[cfg(test)]
mod tests;
