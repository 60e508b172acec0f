//! Key derivation: from the data key and the context to the key of one body.

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, NONCE_LEN, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Prk};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::error::BodyError;
use super::layout::{COMMITMENT_LEN, HEADER_LEN, SALT_LEN};

// rule: OBJ-1
/// First part of the HKDF info; the name of the AEAD and a zero byte end it.
const INFO_PREFIX: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";
const KEY_LEN: usize = 32;
const DERIVED_LEN: usize = KEY_LEN + NONCE_LEN + COMMITMENT_LEN;

/// What a body is bound to beside its data key: realm, dataset, data key id and encryption
/// context, as deterministic CBOR (`OBJ-4`). Opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectContext(Vec<u8>);

impl ObjectContext {
    /// Takes the encoded context.
    #[must_use]
    pub fn new(encoded: Vec<u8>) -> Self {
        Self(encoded)
    }

    /// The encoded context.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The first 56 bytes of a body. Public; a producer signs the commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyHeader {
    /// Random, never used twice with one data key.
    pub salt: [u8; SALT_LEN],
    /// Binds the body to one data key, salt and context.
    pub commitment: [u8; COMMITMENT_LEN],
}

impl BodyHeader {
    /// Splits the first bytes of a body.
    ///
    /// # Errors
    /// [`BodyError::HeaderTruncated`] if there are fewer than [`HEADER_LEN`] bytes; more are left
    /// alone.
    pub fn from_bytes(body: &[u8]) -> Result<Self, BodyError> {
        let (salt, rest) = body
            .split_first_chunk::<SALT_LEN>()
            .ok_or(truncated(body))?;
        let commitment = rest
            .first_chunk::<COMMITMENT_LEN>()
            .ok_or(truncated(body))?;
        Ok(Self {
            salt: *salt,
            commitment: *commitment,
        })
    }

    /// The header that a body under this data key, context and salt will have: a producer signs
    /// its commitment before the body exists.
    ///
    /// # Errors
    /// [`BodyError::Library`] only.
    pub fn derive(
        dek: &[u8; 32],
        context: &ObjectContext,
        salt: [u8; SALT_LEN],
    ) -> Result<Self, BodyError> {
        BodyKey::create(dek, context, salt).map(|(_, header)| header)
    }

    /// The header as it stands at the start of a body.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..SALT_LEN].copy_from_slice(&self.salt);
        bytes[SALT_LEN..].copy_from_slice(&self.commitment);
        bytes
    }
}

fn truncated(body: &[u8]) -> BodyError {
    BodyError::HeaderTruncated {
        have: body.len() as u64,
    }
}

/// The key of one body. To read, it can only be had by passing the commitment check.
pub(super) struct BodyKey {
    pub(super) aead: LessSafeKey,
    pub(super) base_nonce: [u8; NONCE_LEN],
}

impl BodyKey {
    /// The key and header of a new body.
    // rule: OBJ-3
    // rule: OBJ-4
    pub(super) fn create(
        dek: &[u8; 32],
        context: &ObjectContext,
        salt: [u8; SALT_LEN],
    ) -> Result<(Self, BodyHeader), BodyError> {
        let derived = derive(dek, &salt, context)?;
        let (key, rest) = derived.split_at(KEY_LEN);
        let (nonce, commitment) = rest.split_at(NONCE_LEN);
        let aead = UnboundKey::new(&AES_256_GCM, key).map_err(|_| BodyError::Library)?;
        let mut base_nonce = [0; NONCE_LEN];
        base_nonce.copy_from_slice(nonce);
        let mut header = BodyHeader {
            salt,
            commitment: [0; COMMITMENT_LEN],
        };
        header.commitment.copy_from_slice(commitment);
        Ok((
            Self {
                aead: LessSafeKey::new(aead),
                base_nonce,
            },
            header,
        ))
    }

    /// The key of the body that starts with `header`.
    ///
    /// # Errors
    /// [`BodyError::WrongCommitment`] unless this very data key and context made the header.
    // rule: OBJ-5
    pub(super) fn open(
        dek: &[u8; 32],
        context: &ObjectContext,
        header: &BodyHeader,
    ) -> Result<Self, BodyError> {
        let (key, expected) = Self::create(dek, context, header.salt)?;
        if bool::from(expected.commitment.ct_eq(&header.commitment)) {
            Ok(key)
        } else {
            Err(BodyError::WrongCommitment)
        }
    }
}

struct DerivedLen;

impl KeyType for DerivedLen {
    fn len(&self) -> usize {
        DERIVED_LEN
    }
}

/// HKDF-Expand alone (RFC 5869 section 2.3): the data key is uniformly random already. It is
/// shorter than a SHA-512 output, which C2SP wants so and RFC 5869 merely advises against.
fn derive(
    dek: &[u8; 32],
    salt: &[u8; SALT_LEN],
    context: &ObjectContext,
) -> Result<Zeroizing<[u8; DERIVED_LEN]>, BodyError> {
    let mut derived = Zeroizing::new([0; DERIVED_LEN]);
    Prk::new_less_safe(HKDF_SHA512, dek)
        .expand(&[INFO_PREFIX, salt, context.as_bytes()], DerivedLen)
        .and_then(|okm| okm.fill(&mut derived[..]))
        .map_err(|_| BodyError::Library)?;
    Ok(derived)
}
