//! Login (`spec/protocol.md`, section 4).
//!
//! ```text
//! request --parse--> Asked --authenticate--> Proven --identify--> Identified --decide--> Decision
//!          shape           all signatures            document,             state
//!                                                    evidence
//! ```

mod decide;

pub use decide::{Decision, View, decide};

use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::evidence;
use ticket_format::ids::{EvidenceHash, LaunchId, NodeId, ProofHash, RequestHash};
use ticket_format::iid;
use ticket_format::labels::LOGIN_REQUEST;
use ticket_format::limits;
use ticket_format::messages::RequestView;
use ticket_format::messages::login::LoginBody;
use ticket_format::sign::Proof;
use ticket_format::ticket::Attributes;

use crate::Refused;
use crate::realm::{Caller, Realm, distinct};
use crate::state::LaunchRecord;

/// A login of the right shape; nothing in it is believed.
#[derive(Debug)]
pub struct Asked<'a> {
    body: LoginBody,
    raw: &'a [u8],
    proofs: [Proof; 3],
}

impl Asked<'_> {
    /// The launch to look up.
    #[must_use]
    pub fn launch(&self) -> LaunchId {
        self.body.launch
    }
}

/// Reads the request.
///
/// # Errors
/// Refusal 1: another shape, or not the three proofs (SIG-3).
pub fn parse<'a>(request: &RequestView<'a>) -> Result<Asked<'a>, Refused> {
    let malformed = |why: String| Refused::stranger(Refusal::Malformed, why);
    let body = LoginBody::from_cbor(request.body, limits::SMALL_MESSAGE)
        .map_err(|error| malformed(error.to_string()))?;
    // rule: SIG-3
    let proofs = <[Proof; 3]>::try_from(request.proofs.clone()).map_err(|_| {
        malformed("a login has three proofs: launch, node and proof key".to_owned())
    })?;
    Ok(Asked {
        body,
        raw: request.body,
        proofs,
    })
}

/// A login that is signed by the launch key and by every key that it brings.
#[derive(Debug)]
pub struct Proven {
    body: LoginBody,
    request: RequestHash,
    launch: LaunchRecord,
}

/// Verifies the signatures, the launch's first.
///
/// # Errors
/// Refusal 10, the same and with the same work for an unknown launch and a wrong secret (LOG-2); 20.
pub fn authenticate(
    asked: Asked<'_>,
    launch: Option<&LaunchRecord>,
    realm: &Realm,
    caller: &Caller,
) -> Result<Proven, Refused> {
    let stranger = |why: &str| Refused::stranger(Refusal::NotAuthenticated, why);
    let channel = realm.channel(caller);
    let Asked {
        body,
        raw,
        proofs: [by_launch, by_node, by_proof],
    } = asked;
    // rule: LOG-2
    let launch_key = launch.map_or(realm.nobody, |launch| launch.terms.key);
    let signed = channel.verify_with(&launch_key, LOGIN_REQUEST, None, raw, &by_launch);
    let (Some(launch), Ok(())) = (launch, signed) else {
        return Err(stranger("unknown launch, or not signed by its key"));
    };
    // rule: SIG-3
    let verified = channel
        .verify_with(&body.node_key, LOGIN_REQUEST, None, raw, &by_node)
        .and_then(|()| channel.verify_with(&body.proof_key, LOGIN_REQUEST, None, raw, &by_proof));
    verified.map_err(|_| stranger("not signed by the keys that it brings"))?;
    distinct(&[
        launch_key.to_bytes(),
        body.node_key.to_bytes(),
        body.proof_key.to_bytes(),
    ])
    .map_err(|refused| refused.of(format!("launch {}", body.launch)))?;
    Ok(Proven {
        request: RequestHash::of(raw),
        launch: launch.clone(),
        body,
    })
}

/// A login by a node whose identity document and evidence verified.
#[derive(Debug)]
pub struct Identified {
    body: LoginBody,
    request: RequestHash,
    attributes: Attributes,
    proof: ProofHash,
    evidence: EvidenceHash,
}

impl Identified {
    /// Which node.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.attributes.node
    }

    /// What its identity document said.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// What it said itself.
    #[must_use]
    pub fn body(&self) -> &LoginBody {
        &self.body
    }
}

/// Verifies the identity document and the evidence over it. Uses nothing up (LOG-5).
///
/// # Errors
/// Refusals 10 and 13.
pub fn identify(proven: Proven, realm: &Realm) -> Result<Identified, Refused> {
    let Proven {
        body,
        request,
        launch,
    } = proven;
    let who = format!("launch {}", body.launch);
    let refused = |refusal, why: String| Refused::proven(refusal, why).of(&who);
    // rule: LOG-3
    let document = iid::verify(&body.iid_proof, &realm.regions).map_err(|error| {
        refused(
            Refusal::IdentityRefused,
            format!("{}: {error}", error.name()),
        )
    })?;
    let attributes = evidence::attributes(&document)
        .map_err(|error| refused(Refusal::IdentityRefused, error.to_string()))?;
    // rule: LOG-10
    if body.launch_digest != launch.digest {
        let why = "the launch digest is not the one that was registered: use the user-data made with this launch";
        return Err(refused(Refusal::NotAuthenticated, why.to_owned()));
    }
    let proof = ProofHash(*document.proof_hash());
    let signed = body.evidence(proof);
    signed
        .verify(&launch.terms.key, &realm.name, &realm.tls, &body.evidence)
        .map_err(|_| {
            refused(
                Refusal::NotAuthenticated,
                "the evidence is not signed by the launch key".to_owned(),
            )
        })?;
    let chain = signed.link(None, &body.evidence);
    Ok(Identified {
        body,
        request,
        attributes,
        proof,
        evidence: chain,
    })
}
