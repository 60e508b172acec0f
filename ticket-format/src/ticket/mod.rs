//! Tickets: CWT in COSE_Sign1, by degree of trust (`spec/ticket.md`, section 1).
//!
//! ```text
//! bytes --verify--> Verified<C> --live--> Live<C>
//!        signature,              now,
//!        kind, realm, audience   no grace after expiry
//! ```
//! Claims can be read from the second on, and servers act on the third only.

mod action;
mod chain;
mod claims;
mod signer;

use std::convert::Infallible;

use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, Label, TaggedCborSerializable, iana};

pub use action::{Action, Actions};
pub use chain::{RETIRED, Retired, Signer, TicketKeyRefusal, TicketKeys, TicketSigners};
pub use claims::{Attributes, Audience, Claims, Common, DatasetClaims, NodeClaims};
pub use signer::{NotSigned, TicketSigner};

use crate::Refusal;
use crate::cbor::{self, Reader, Writer};
use crate::ids::{Thumbprint, TicketHash};
use crate::keys::{TicketKey, TicketSecret};
use crate::labels;
use crate::limits;
use crate::time::Timestamp;

/// COSE header parameter `typ` (RFC 9596).
const TYP: i64 = 16;

/// Why a ticket is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not the one shape (TKT-1, TKT-2, TKT-5).
    #[error("the ticket does not have the one accepted shape")]
    Malformed,
    /// Another kind of ticket (TKT-3).
    #[error("the ticket is of the other kind")]
    Kind,
    /// Unknown key or bad signature (TKT-4).
    #[error("the ticket is not signed by the known key")]
    Signature,
    /// Another realm or another server (TKT-6).
    #[error("the ticket is for another server")]
    Audience,
    /// Its life has not begun.
    #[error("the ticket begins in the future")]
    NotYetValid,
    /// Its life is over.
    #[error("the ticket has expired")]
    Expired,
}

impl From<TicketError> for Refusal {
    fn from(error: TicketError) -> Self {
        match error {
            TicketError::Malformed => Self::TicketMalformed,
            TicketError::Kind => Self::TicketKind,
            TicketError::Signature => Self::TicketSignature,
            TicketError::Audience => Self::TicketAudience,
            TicketError::NotYetValid => Self::TicketNotYetValid,
            TicketError::Expired => Self::TicketExpired,
        }
    }
}

/// A ticket whose signature, kind, realm and audience were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<C> {
    claims: C,
    hash: TicketHash,
    signer: Thumbprint,
    /// From then on no ticket under this key counts; the last time there is: no such time is known.
    until: Timestamp,
}

/// A verified ticket that is live at the time it was checked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live<C>(Verified<C>);

/// A verified node ticket.
pub type VerifiedNodeTicket = Verified<NodeClaims>;
/// A verified dataset ticket.
pub type VerifiedDatasetTicket = Verified<DatasetClaims>;

/// SHA-256 of a ticket's bytes.
#[must_use]
pub fn hash(ticket: &[u8]) -> TicketHash {
    TicketHash::of(ticket)
}

/// Signs a ticket with a key in memory.
#[must_use]
pub fn sign<C: Claims>(claims: &C, key: &TicketSecret) -> Vec<u8> {
    let by = |input: &[u8]| Ok::<_, Infallible>(key.sign_raw(input));
    match signed(claims, &key.public(), by) {
        Ok(ticket) => ticket,
        Err(never) => match never {},
    }
}

/// Signs a ticket with a key wherever it is, and verifies the signature before anybody sees it: one that
/// a fault has spoiled can give an Ed25519 key away, since its nonces do not change, and a key under
/// another's name would make tickets that nobody takes.
///
/// # Errors
/// [`NotSigned`].
pub fn sign_by<C: Claims>(claims: &C, signer: &dyn TicketSigner) -> Result<Vec<u8>, NotSigned> {
    let public = signer.public();
    signed(claims, &public, |input| verified(&public, signer, input))
}

/// Lets a key sign something that is no ticket, to see that it can: `["postern/1 ticket key proof"]`.
///
/// # Errors
/// [`NotSigned`].
pub fn prove(signer: &dyn TicketSigner) -> Result<(), NotSigned> {
    let mut input = Writer::new();
    input.array(1).text(labels::TICKET_KEY_PROOF);
    verified(&signer.public(), signer, &input.into_bytes()).map(drop)
}

fn verified(
    public: &TicketKey,
    signer: &dyn TicketSigner,
    input: &[u8],
) -> Result<Vec<u8>, NotSigned> {
    let signature = signer.sign(input).map_err(NotSigned::Signer)?;
    // rule: KEY-4
    match public.verify_raw(input, &signature) {
        Ok(()) => Ok(signature),
        Err(_) => Err(NotSigned::Signature(Box::new(*public))),
    }
}

fn signed<C: Claims, E>(
    claims: &C,
    key: &TicketKey,
    by: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let mut payload = Writer::with_capacity(2_048);
    claims.encode(&mut payload);
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(key.thumbprint().0.to_vec())
        .value(TYP, coset::cbor::Value::Text(C::TYP.to_owned()))
        .build();
    let signed = CoseSign1Builder::new()
        .protected(protected)
        .payload(payload.into_bytes())
        .try_create_signature(&[], by)?
        .build();
    // Serialising to memory what was just built has no way to fail.
    Ok(signed.to_tagged_vec().unwrap_or_default())
}

/// Checks shape, kind, signature, realm and audience of a received ticket.
///
/// # Errors
/// The first check that fails, in that order.
pub fn verify<C: Claims>(
    ticket: &[u8],
    keys: &impl TicketSigners,
    realm: &str,
    audience: Audience,
) -> Result<Verified<C>, TicketError> {
    let verified: Verified<C> = verify_for_anyone(ticket, keys)?;
    // rule: TKT-6
    if verified.claims.common().realm != realm || verified.claims.common().audience != audience {
        return Err(TicketError::Audience);
    }
    Ok(verified)
}

/// As [`verify`], for a reader who is not the audience: the node that holds the ticket, an inspector.
///
/// # Errors
/// As [`verify`].
pub fn verify_for_anyone<C: Claims>(
    ticket: &[u8],
    keys: &impl TicketSigners,
) -> Result<Verified<C>, TicketError> {
    let sign1 = parse(ticket)?;
    let header = &sign1.protected.header;
    // rule: TKT-3
    match header.rest.as_slice() {
        [(Label::Int(TYP), coset::cbor::Value::Text(typ))] if typ == C::TYP => {}
        [(Label::Int(TYP), coset::cbor::Value::Text(typ))]
            if [NodeClaims::TYP, DatasetClaims::TYP].contains(&typ.as_str()) =>
        {
            return Err(TicketError::Kind);
        }
        _ => return Err(TicketError::Malformed),
    }
    // rule: TKT-4
    let eddsa = coset::Algorithm::Assigned(iana::Algorithm::EdDSA);
    if header.alg.as_ref() != Some(&eddsa) {
        return Err(TicketError::Signature);
    }
    let signer = keys.signer(&header.key_id).ok_or(TicketError::Signature)?;
    sign1
        .verify_signature(&[], |signature, input| {
            signer.key.verify_raw(input, signature)
        })
        .map_err(|_| TicketError::Signature)?;
    let claims: C = decode(&sign1)?;
    // rule: KEY-2
    if !signer.may_have_issued(claims.common().issued) {
        return Err(TicketError::Signature);
    }
    Ok(Verified {
        claims,
        hash: hash(ticket),
        signer: signer.key.thumbprint(),
        until: signer.until,
    })
}

/// Reads a ticket's claims without any check of its signature: for an inspector that has no key,
/// which must say so.
///
/// # Errors
/// [`TicketError::Malformed`] or [`TicketError::Kind`].
pub fn read_unverified<C: Claims>(ticket: &[u8]) -> Result<C, TicketError> {
    let sign1 = parse(ticket)?;
    match sign1.protected.header.rest.as_slice() {
        [(Label::Int(TYP), coset::cbor::Value::Text(typ))] if typ == C::TYP => decode(&sign1),
        [(Label::Int(TYP), _)] => Err(TicketError::Kind),
        _ => Err(TicketError::Malformed),
    }
}

fn parse(ticket: &[u8]) -> Result<CoseSign1, TicketError> {
    let malformed = |_| TicketError::Malformed;
    // rule: TKT-1
    cbor::validate(ticket, limits::TICKET).map_err(malformed)?;
    let sign1 = CoseSign1::from_tagged_slice(ticket).map_err(|_| TicketError::Malformed)?;
    let protected = sign1
        .protected
        .original_data
        .as_deref()
        .ok_or(TicketError::Malformed)?;
    cbor::validate(protected, limits::TICKET).map_err(malformed)?;
    // rule: TKT-2
    let header = &sign1.protected.header;
    let only_ours = header.crit.is_empty()
        && header.content_type.is_none()
        && header.iv.is_empty()
        && header.partial_iv.is_empty()
        && header.counter_signatures.is_empty()
        && header.rest.len() == 1
        && sign1.unprotected.is_empty();
    if !only_ours {
        return Err(TicketError::Malformed);
    }
    // Whatever a lax decoder dropped or folded would not come back: the bytes must be the one
    // encoding of what was understood.
    match sign1.clone().to_tagged_vec() {
        Ok(again) if again == ticket => Ok(sign1),
        _ => Err(TicketError::Malformed),
    }
}

fn decode<C: Claims>(sign1: &CoseSign1) -> Result<C, TicketError> {
    let payload = sign1.payload.as_deref().ok_or(TicketError::Malformed)?;
    let mut reader = Reader::new(payload);
    let claims = C::decode(&mut reader).map_err(|_| TicketError::Malformed)?;
    reader.finish().map_err(|_| TicketError::Malformed)?;
    Ok(claims)
}

impl<C: Claims> Verified<C> {
    /// What the ticket says.
    #[must_use]
    pub fn claims(&self) -> &C {
        &self.claims
    }

    /// SHA-256 of its bytes.
    #[must_use]
    pub fn hash(&self) -> TicketHash {
        self.hash
    }

    /// Checks that its life has begun (give or take the skew) and is not over (no grace).
    ///
    /// # Errors
    /// [`TicketError::NotYetValid`], [`TicketError::Expired`], or [`TicketError::Signature`] of one under a
    /// key that counts no more.
    pub fn live(self, now: Timestamp) -> Result<Live<C>, TicketError> {
        self.check_life(now)?;
        Ok(Live(self))
    }
}

fn check_life(common: &Common, now: Timestamp) -> Result<(), TicketError> {
    // rule: TKT-5
    if now >= common.expires {
        Err(TicketError::Expired)
    } else if now.plus(limits::SKEW) < common.issued {
        Err(TicketError::NotYetValid)
    } else {
        Ok(())
    }
}

impl<C: Claims> Verified<C> {
    fn check_life(&self, now: Timestamp) -> Result<(), TicketError> {
        check_life(self.claims.common(), now)?;
        // rule: KEY-2
        match chain::counts(self.until, now) {
            true => Ok(()),
            false => Err(TicketError::Signature),
        }
    }
}

impl<C: Claims> Live<C> {
    /// What the ticket says.
    #[must_use]
    pub fn claims(&self) -> &C {
        &self.0.claims
    }

    /// SHA-256 of its bytes.
    #[must_use]
    pub fn hash(&self) -> TicketHash {
        self.0.hash
    }

    /// Whether a ticket under its key still counts by the keys as they stand later on: a key may have been
    /// replaced since it was verified (KEY-2).
    ///
    /// # Errors
    /// [`TicketError::Signature`].
    pub fn still_signed(
        &self,
        keys: &impl TicketSigners,
        now: Timestamp,
    ) -> Result<(), TicketError> {
        // rule: KEY-2
        let signer = keys.signer(&self.0.signer.0);
        let issued = self.0.claims.common().issued;
        match signer {
            Some(signer) if signer.may_have_issued(issued) && signer.counts(now) => Ok(()),
            _ => Err(TicketError::Signature),
        }
    }

    /// Whether it is still live later on (RED-2).
    ///
    /// # Errors
    /// As [`Verified::live`].
    pub fn still_live(&self, now: Timestamp) -> Result<(), TicketError> {
        self.0.check_life(now)
    }
}

#[cfg(test)]
mod tests;
