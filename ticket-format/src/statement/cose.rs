//! The COSE_Sign envelope: one shape, checked member by member.

use coset::cbor::Value;
use coset::{
    CborSerializable, CoseSign, CoseSignBuilder, CoseSignature, CoseSignatureBuilder, Header,
    HeaderBuilder, ProtectedHeader, RegisteredLabelWithPrivate, TaggedCborSerializable, iana,
};

use crate::cbor::{self, Decode, DecodeError, Encode};
use crate::ids::{StatementDigest, Thumbprint};
use crate::keys::TlsKey;
use crate::limits;
use crate::time::Timestamp;

use super::acts::ActBody;
use super::admin_set::AdminSet;
use super::admins::{Admin, AdminKeyKind};
use super::{Audience, BODY, Payload, StatementRefusal, VerifiedStatement};

/// COSE header parameter `typ` (RFC 9596).
const TYP: i64 = 16;
const KIND: &str = "postern-statement";
/// Bytes of a signature: Ed25519's, and of a security key flags and counter after it.
const SIGNATURE: std::ops::RangeInclusive<usize> = 64..=69;

fn body_header() -> Header {
    HeaderBuilder::new()
        .value(TYP, Value::Text(KIND.to_owned()))
        .build()
}

fn signer_header(signer: Thumbprint, kind: AdminKeyKind) -> Header {
    Header {
        alg: Some(match kind {
            AdminKeyKind::File => RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA),
            private => RegisteredLabelWithPrivate::PrivateUse(private.alg()),
        }),
        key_id: signer.0.to_vec(),
        ..Header::default()
    }
}

/// Whether a protected header, as received, is exactly this one. Its members are compared as bytes:
/// another order, another length or another member is another header.
fn is_exactly(received: &ProtectedHeader, expected: Header) -> bool {
    match (&received.original_data, expected.to_vec()) {
        (Some(received), Ok(expected)) => *received == expected,
        _ => false,
    }
}

/// A statement without a signature, which is none yet.
pub(super) fn unsigned(payload: &Payload) -> CoseSign {
    CoseSignBuilder::new()
        .protected(body_header())
        .payload(payload.to_cbor())
        .build()
}

/// One signature with its header.
pub(super) fn signature_of(
    signer: Thumbprint,
    kind: AdminKeyKind,
    value: Vec<u8>,
) -> CoseSignature {
    CoseSignatureBuilder::new()
        .protected(signer_header(signer, kind))
        .signature(value)
        .build()
}

/// The bytes of a statement that was signed here, held to the shape that others hold it to.
pub(super) fn bytes_of(sign: CoseSign) -> Result<Vec<u8>, StatementRefusal> {
    let bytes = sign.to_tagged_vec().map_err(|_| NOT_COSE)?;
    ReceivedStatement::parse(&bytes)?;
    Ok(bytes)
}

const NOT_COSE: StatementRefusal =
    StatementRefusal::Malformed(DecodeError::Expected("a COSE_Sign"));

/// A statement of the one shape, not believed yet.
#[derive(Clone, Debug)]
pub struct ReceivedStatement {
    sign: CoseSign,
    payload: Payload,
    signers: Vec<(Thumbprint, AdminKeyKind)>,
    digest: StatementDigest,
}

impl ReceivedStatement {
    /// Reads the envelope and the payload. Nothing of it is to be believed before
    /// [`ReceivedStatement::verify`].
    ///
    /// # Errors
    /// `Malformed`, `Header`, `SignedTwice` or `Span`.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementRefusal> {
        // rule: ENC-1, ENC-2 — COSE's own reader is lax, so this one was strict before it.
        cbor::validate(bytes, limits::STATEMENT)?;
        let sign = CoseSign::from_tagged_slice(bytes).map_err(|_| NOT_COSE)?;
        if !is_exactly(&sign.protected, body_header()) || !sign.unprotected.is_empty() {
            return Err(StatementRefusal::Header);
        }
        if !(1..=limits::ADMINS).contains(&sign.signatures.len()) {
            return Err(StatementRefusal::Malformed(DecodeError::OutOfRange(
                "signature count",
            )));
        }
        let mut signers = Vec::with_capacity(sign.signatures.len());
        for signature in &sign.signatures {
            let signer = signer(signature)?;
            // rule: ADM-2
            if signers.iter().any(|(known, _)| *known == signer.0) {
                return Err(StatementRefusal::SignedTwice);
            }
            signers.push(signer);
        }
        let payload =
            Payload::from_cbor(sign.payload.as_deref().ok_or(NOT_COSE)?, limits::STATEMENT)?;
        if !payload.span_holds() {
            return Err(StatementRefusal::Span);
        }
        Ok(Self {
            sign,
            payload,
            signers,
            digest: StatementDigest::of(bytes),
        })
    }

    /// What it says, not believed yet: for those who are to sign it, and to find out who may.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// SHA-256 of the statement's bytes.
    #[must_use]
    pub fn digest(&self) -> StatementDigest {
        self.digest
    }

    /// The keys that it says it is signed by, by thumbprint, and in which form; not believed yet.
    #[must_use]
    pub fn claimed_signers(&self) -> &[(Thumbprint, AdminKeyKind)] {
        &self.signers
    }

    /// The act's body, not believed yet.
    ///
    /// # Errors
    /// Another act, or not the act's shape.
    pub fn body<B: ActBody>(&self) -> Result<B, StatementRefusal> {
        self.payload.body_of()
    }

    pub(super) fn cose(&self) -> &CoseSign {
        &self.sign
    }

    /// The admins of `set` who signed it. Every signature is looked at: one by anybody else spoils
    /// the statement (SET-2). Whether they are enough, realm, audience and time are not looked at.
    ///
    /// # Errors
    /// `UnknownSigner`, `Form` or `BadSignature`.
    pub fn signed_by(&self, set: &AdminSet) -> Result<Vec<Admin>, StatementRefusal> {
        let all = 0..self.signers.len();
        all.map(|which| self.signer_of(which, set)).collect()
    }

    /// The statement with those signatures only that verify by `set`, and whose they are: what is left
    /// of a proposal when an admin has left. None when no signature is left.
    #[must_use]
    pub fn retained(&self, set: &AdminSet) -> Option<(Vec<u8>, Vec<Admin>)> {
        // rule: SET-2, PRO-2
        let mut kept = self.sign.clone();
        kept.signatures.clear();
        let mut signers = Vec::new();
        for (which, signature) in self.sign.signatures.iter().enumerate() {
            if let Ok(admin) = self.signer_of(which, set) {
                kept.signatures.push(signature.clone());
                signers.push(admin);
            }
        }
        let bytes = Some(kept).filter(|_| !signers.is_empty())?;
        Some((bytes_of(bytes).ok()?, signers))
    }

    /// The admin of `set` who made the signature at this place.
    fn signer_of(&self, which: usize, set: &AdminSet) -> Result<Admin, StatementRefusal> {
        let (thumbprint, kind) = self
            .signers
            .get(which)
            .ok_or(StatementRefusal::BadSignature)?;
        // rule: SET-2
        let admin = set
            .admins()
            .iter()
            .find(|admin| admin.key.thumbprint() == *thumbprint)
            .ok_or(StatementRefusal::UnknownSigner)?;
        // rule: SET-7, SIG-2
        if admin.kind != *kind {
            return Err(StatementRefusal::Form);
        }
        // rule: ENC-4
        let verified = self.sign.verify_signature(which, &[], |value, structure| {
            admin.signer().verify(structure, value)
        });
        verified.map_err(|_| StatementRefusal::BadSignature)?;
        Ok(admin.clone())
    }

    /// Believes it, if every signature on it is by another admin of `set`, it is of this realm, for
    /// this server or for everyone, `now` lies in its span, and as many admins of the act's role
    /// signed it as the set demands. `server` is none for who only reads records: a node, a producer.
    ///
    /// # Errors
    /// What does not hold: the signatures are checked first, the quorum last.
    pub fn verify(
        self,
        set: &AdminSet,
        realm: &str,
        server: Option<&TlsKey>,
        now: Timestamp,
    ) -> Result<VerifiedStatement, StatementRefusal> {
        let signers = self.signed_by(set)?;
        let payload = self.payload;
        if payload.realm != realm {
            return Err(StatementRefusal::Realm);
        }
        // rule: ADM-2
        match payload.audience {
            Audience::Everyone => {}
            Audience::Server(key) if Some(&key) == server => {}
            Audience::Server(_) => return Err(StatementRefusal::Audience),
        }
        // rule: ADM-2, TIM-1
        if now.plus(limits::SKEW) < payload.not_before || now >= payload.expires {
            return Err(StatementRefusal::Expired);
        }
        // rule: SET-2
        let need = set
            .quorum(payload.act)
            .ok_or(StatementRefusal::NoQuorum(payload.act))?;
        let have = set.counting(payload.act, &signers);
        if have < need {
            return Err(StatementRefusal::Quorum { have, need });
        }
        Ok(VerifiedStatement {
            payload,
            signers,
            digest: self.digest,
        })
    }
}

impl Payload {
    pub(crate) fn body_of<B: ActBody>(&self) -> Result<B, StatementRefusal> {
        if self.act != B::ACT {
            return Err(StatementRefusal::OtherAct);
        }
        Ok(B::from_cbor(&self.body, BODY)?)
    }
}

/// Whose signature it says it is, and in which form it says it is made.
fn signer(signature: &CoseSignature) -> Result<(Thumbprint, AdminKeyKind), StatementRefusal> {
    let kid = <[u8; 32]>::try_from(signature.protected.header.key_id.as_slice())
        .map_err(|_| StatementRefusal::Header)?;
    let thumbprint = Thumbprint(kid);
    // rule: SIG-2, SET-7
    let kind = AdminKeyKind::ALL
        .iter()
        .find(|kind| is_exactly(&signature.protected, signer_header(thumbprint, **kind)))
        .filter(|_| signature.unprotected.is_empty())
        .ok_or(StatementRefusal::Header)?;
    if !SIGNATURE.contains(&signature.signature.len()) {
        return Err(StatementRefusal::Malformed(DecodeError::OutOfRange(
            "signature length",
        )));
    }
    Ok((thumbprint, *kind))
}
