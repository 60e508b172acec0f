//! `public` wraps: HPKE X-Wing to the dataset's public key (WRAP-3, WRAP-4).
//!
//! Objects of one upload share one encapsulation; the DEK of each comes out of the HPKE exporter
//! with the DEK id as salt, so a batch costs the key server one decapsulation.

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Header, PUBLIC, ProducerClaim, VERSION, WrapError};
use crate::cbor::{Encode, Writer};
use crate::ids::{DatasetId, DekId, KekId};
use crate::keys::{ProducerKey, ProducerSecret};
use crate::labels;
use crate::seal::{self, Exports, Kem, SealError, SealingKey, SealingSecret};
use crate::secret::Dek;
use crate::sign::Binding;

fn info(realm: &str, dataset: DatasetId, kek: KekId) -> Vec<u8> {
    // rule: WRAP-3
    let mut writer = Writer::with_capacity(128);
    writer.array(5).text(labels::PUBLIC);
    seal::suite(&mut writer, Kem::XWing);
    writer.text(realm).bytes(&dataset.0).bytes(&kek.0);
    writer.into_bytes()
}

fn derive(exports: &Exports, realm: &str, header: &Header, raw_context: &[u8]) -> (Dek, [u8; 32]) {
    // rule: WRAP-3
    let mut writer = Writer::with_capacity(160 + raw_context.len());
    writer.array(7).text(labels::PUBLIC_WRAP).text(realm);
    header.encode(&mut writer);
    writer.raw(raw_context);
    let both: Zeroizing<[u8; 64]> = exports.export(&writer.into_bytes());
    let (mut dek, mut commitment) = (Zeroizing::new([0; 32]), [0; 32]);
    dek.copy_from_slice(&both[..32]);
    commitment.copy_from_slice(&both[32..]);
    (Dek::from_bytes(*dek), commitment)
}

fn signed_body(
    header: &Header,
    enc: &[u8],
    commitment: &[u8; 32],
    raw_context: &[u8],
    body_commitment: &[u8; 32],
) -> Vec<u8> {
    // rule: WRAP-4
    let mut writer = Writer::with_capacity(256 + raw_context.len());
    writer.array(8);
    header.encode(&mut writer);
    writer
        .bytes(&Sha256::digest(enc))
        .bytes(commitment)
        .raw(raw_context)
        .bytes(body_commitment);
    writer.into_bytes()
}

fn binding<'a>(realm: &'a str, header: &'a Header, body: &'a [u8]) -> Binding<'a> {
    Binding {
        label: labels::PRODUCER,
        realm,
        identity: &header.dataset.0,
        exporter: None,
        ticket: None,
        body,
    }
}

/// One upload of a producer: one encapsulation, many objects.
pub struct Upload {
    realm: String,
    dataset: DatasetId,
    kek: KekId,
    kek_version: u64,
    enc: Vec<u8>,
    exports: Exports,
}

/// One object of an upload, between its DEK and its wrap.
#[derive(Debug)]
pub struct PendingWrap {
    header: Header,
    raw_context: Vec<u8>,
    commitment: [u8; 32],
}

impl Upload {
    /// Encapsulates to the dataset's public key, which the producer has from an admin-signed
    /// dataset record.
    ///
    /// # Errors
    /// The key is not an X-Wing key.
    pub fn begin(
        realm: &str,
        dataset: DatasetId,
        kek: KekId,
        kek_version: u64,
        public: &SealingKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, SealError> {
        if public.kem() != Kem::XWing {
            return Err(SealError::Encapsulation);
        }
        let (enc, exports) = seal::encapsulate(public, &info(realm, dataset, kek), rng)?;
        Ok(Self {
            realm: realm.to_owned(),
            dataset,
            kek,
            kek_version,
            enc,
            exports,
        })
    }

    /// A fresh DEK for an object with this context.
    #[must_use]
    pub fn object(&self, raw_context: Vec<u8>, rng: &mut impl CryptoRng) -> (Dek, PendingWrap) {
        let header = Header {
            dataset: self.dataset,
            kek: self.kek,
            kek_version: self.kek_version,
            dek: DekId::random(rng),
        };
        let (dek, commitment) = derive(&self.exports, &self.realm, &header, &raw_context);
        (
            dek,
            PendingWrap {
                header,
                raw_context,
                commitment,
            },
        )
    }

    /// The wrap, signed when there is a producer's key; `body_commitment` is bytes 24..56 of the
    /// object's body.
    #[must_use]
    pub fn finish(
        &self,
        pending: &PendingWrap,
        body_commitment: [u8; 32],
        producer: Option<&ProducerSecret>,
    ) -> Vec<u8> {
        let PendingWrap {
            header,
            raw_context,
            commitment,
        } = pending;
        let mut writer = Writer::with_capacity(crate::limits::PUBLIC_WRAP);
        writer.array(9).uint(VERSION).uint(PUBLIC);
        header.encode(&mut writer);
        writer.bytes(&self.enc).bytes(commitment);
        match producer {
            Some(secret) => {
                let body =
                    signed_body(header, &self.enc, commitment, raw_context, &body_commitment);
                writer
                    .array(3)
                    .bytes(&secret.public().id().0)
                    .bytes(&body_commitment);
                secret
                    .sign(&binding(&self.realm, header, &body))
                    .encode(&mut writer);
            }
            None => {
                writer.null();
            }
        }
        writer.into_bytes()
    }
}

impl PendingWrap {
    /// What the wrap will say in the clear.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }
}

/// The exports of one received encapsulation: costs one decapsulation, serves all wraps of its upload.
///
/// # Errors
/// Not an encapsulation of X-Wing.
pub fn open_upload(
    secret: &SealingSecret,
    realm: &str,
    header: &Header,
    enc: &[u8],
) -> Result<Exports, SealError> {
    secret.decapsulate(enc, &info(realm, header.dataset, header.kek))
}

/// The DEK of a wrap, once its commitment matches.
///
/// # Errors
/// [`WrapError::Commitment`].
pub fn unwrap(
    exports: &Exports,
    realm: &str,
    header: &Header,
    raw_context: &[u8],
    commitment: &[u8; 32],
) -> Result<Dek, WrapError> {
    let (dek, derived) = derive(exports, realm, header, raw_context);
    // rule: WRAP-3
    if bool::from(derived.ct_eq(commitment)) {
        Ok(dek)
    } else {
        Err(WrapError::Commitment)
    }
}

/// Checks a producer's signature against the registered producers.
///
/// # Errors
/// [`WrapError::Producer`].
pub fn verify_producer(
    producers: &[ProducerKey],
    realm: &str,
    header: &Header,
    enc: &[u8],
    commitment: &[u8; 32],
    raw_context: &[u8],
    claim: &ProducerClaim,
) -> Result<(), WrapError> {
    // rule: WRAP-4
    let key = producers
        .iter()
        .find(|key| key.id() == claim.producer)
        .ok_or(WrapError::Producer)?;
    let body = signed_body(header, enc, commitment, raw_context, &claim.body_commitment);
    key.verify(&binding(realm, header, &body), &claim.signature)
        .map_err(|_| WrapError::Producer)
}
