//! The COSE_Sign envelope: one shape, checked member by member.

use coset::cbor::Value;
use coset::{
    CborSerializable, CoseSign, CoseSignBuilder, CoseSignature, CoseSignatureBuilder, Header,
    HeaderBuilder, ProtectedHeader, TaggedCborSerializable, iana,
};

use crate::cbor::{self, Decode, DecodeError, Encode};
use crate::ids::{StatementDigest, Thumbprint};
use crate::keys::{AdminKey, AdminSecret, TlsKey};
use crate::limits;
use crate::time::Timestamp;

use super::{Audience, Payload, StatementRefusal, VerifiedStatement};

/// COSE header parameter `typ` (RFC 9596).
const TYP: i64 = 16;
const KIND: &str = "postern-statement";
/// Most signatures on one statement: as many as there are admins.
const SIGNATURES: usize = 16;

fn body_header() -> Header {
    HeaderBuilder::new()
        .value(TYP, Value::Text(KIND.to_owned()))
        .build()
}

fn signer_header(signer: Thumbprint) -> Header {
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(signer.0.to_vec())
        .build()
}

/// Whether a protected header, as received, is exactly this one. Its members are compared as bytes:
/// another order, another length or another member is another header.
fn is_exactly(received: &ProtectedHeader, expected: Header) -> bool {
    match (&received.original_data, expected.to_vec()) {
        (Some(received), Ok(expected)) => *received == expected,
        _ => false,
    }
}

/// A statement of the one shape, not believed yet.
#[derive(Clone, Debug)]
pub struct ReceivedStatement {
    sign: CoseSign,
    payload: Payload,
    signers: Vec<Thumbprint>,
    digest: StatementDigest,
}

impl ReceivedStatement {
    /// Reads the envelope and the payload. Nothing of it is to be believed before
    /// [`ReceivedStatement::verify`].
    ///
    /// # Errors
    /// `Malformed`, `Header` or `Span`.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementRefusal> {
        // rule: ENC-1, ENC-2 — COSE's own reader is lax, so this one was strict before it.
        cbor::validate(bytes, limits::STATEMENT)?;
        let other = StatementRefusal::Malformed(DecodeError::Expected("a COSE_Sign"));
        let sign = CoseSign::from_tagged_slice(bytes).map_err(|_| other)?;
        if !is_exactly(&sign.protected, body_header()) || !sign.unprotected.is_empty() {
            return Err(StatementRefusal::Header);
        }
        if !(1..=SIGNATURES).contains(&sign.signatures.len()) {
            return Err(StatementRefusal::Malformed(DecodeError::OutOfRange(
                "signature count",
            )));
        }
        let signers = sign
            .signatures
            .iter()
            .map(signer)
            .collect::<Result<Vec<_>, _>>()?;
        let payload = Payload::from_cbor(sign.payload.as_deref().ok_or(other)?, limits::STATEMENT)?;
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

    /// Believes it, if every signature on it is by another one of `admins`, it is of this realm, for
    /// this server or for everyone, and `now` lies in its span. `server` is none for who only reads
    /// records: a node, a producer.
    ///
    /// # Errors
    /// What does not hold; the signatures are checked first.
    pub fn verify(
        self,
        admins: &[AdminKey],
        realm: &str,
        server: Option<&TlsKey>,
        now: Timestamp,
    ) -> Result<VerifiedStatement, StatementRefusal> {
        let mut signers: Vec<AdminKey> = Vec::with_capacity(self.signers.len());
        for (which, thumbprint) in self.signers.iter().enumerate() {
            let key = admins.iter().find(|key| key.thumbprint() == *thumbprint);
            let key = key.ok_or(StatementRefusal::UnknownSigner)?;
            if signers.contains(key) {
                return Err(StatementRefusal::SignedTwice);
            }
            // rule: ENC-4, SIG-2
            let verified = self.sign.verify_signature(which, &[], |signature, input| {
                key.verify_raw(input, signature)
            });
            verified.map_err(|_| StatementRefusal::BadSignature)?;
            signers.push(*key);
        }
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
        Ok(VerifiedStatement {
            payload,
            signers,
            digest: self.digest,
        })
    }
}

/// Whose signature it says it is.
fn signer(signature: &CoseSignature) -> Result<Thumbprint, StatementRefusal> {
    let kid = <[u8; 32]>::try_from(signature.protected.header.key_id.as_slice())
        .map_err(|_| StatementRefusal::Header)?;
    let thumbprint = Thumbprint(kid);
    // rule: SIG-2
    if is_exactly(&signature.protected, signer_header(thumbprint))
        && signature.unprotected.is_empty()
    {
        Ok(thumbprint)
    } else {
        Err(StatementRefusal::Header)
    }
}

impl Payload {
    /// The statement's bytes, signed by each of `admins`.
    ///
    /// # Errors
    /// [`StatementRefusal`]: the result would not be accepted: no or too many signers, one twice, a
    /// span that is too long, a body that is too large.
    pub fn sign(&self, admins: &[&AdminSecret]) -> Result<Vec<u8>, StatementRefusal> {
        let mut builder = CoseSignBuilder::new()
            .protected(body_header())
            .payload(self.to_cbor());
        for admin in admins {
            let header = signer_header(admin.public().thumbprint());
            let signature = CoseSignatureBuilder::new().protected(header).build();
            builder = builder.add_created_signature(signature, &[], |input| admin.sign_raw(input));
        }
        let other = |_| StatementRefusal::Malformed(DecodeError::Expected("a COSE_Sign"));
        let bytes = builder.build().to_tagged_vec().map_err(other)?;
        let keys: Vec<AdminKey> = admins.iter().map(|admin| admin.public()).collect();
        let server = match &self.audience {
            Audience::Server(key) => Some(key),
            Audience::Everyone => None,
        };
        ReceivedStatement::parse(&bytes)?.verify(&keys, &self.realm, server, self.not_before)?;
        Ok(bytes)
    }
}
