//! The body of an object of the S3 Encryption Client: one AES-256-GCM message.

use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::gcm::{Gcm, NONCE_LEN};
use super::metadata::{COMMITMENT_LEN, MESSAGE_ID_LEN, Version};
use crate::object::BodyError;
use crate::object::layout::TAG_LEN;

/// The algorithm's number, 115: in front of what keys are derived for, and authenticated with each body.
const SUITE: [u8; 2] = [0x00, 0x73];
const NONCE: [u8; NONCE_LEN] = [1; NONCE_LEN];

/// Length of the object in a body of `body_len` bytes. It is the store's claim until the tag has been verified.
///
/// # Errors
/// [`BodyError::Truncated`] for a length that no body has.
pub fn plaintext_len(body_len: u64) -> Result<u64, BodyError> {
    body_len
        .checked_sub(TAG_LEN as u64)
        .ok_or(BodyError::Truncated { have: body_len })
}

/// Encrypts one object, piece by piece, in constant memory.
pub struct Encryptor(Gcm);

impl Encryptor {
    /// Starts a body of version 3; gives the commitment, which stands in its metadata. `message_id` must come fresh
    /// from a random source.
    ///
    /// # Errors
    /// [`BodyError::Library`] only.
    // rule: AMZ-2
    pub fn start(
        dek: &[u8; 32],
        message_id: &[u8; MESSAGE_ID_LEN],
    ) -> Result<(Self, [u8; COMMITMENT_LEN]), BodyError> {
        let (key, commitment) = derive(dek, message_id)?;
        Ok((Self(Gcm::new(&key, &NONCE, &SUITE)?), commitment))
    }

    /// Appends the ciphertext of the next bytes to `out`.
    ///
    /// # Errors
    /// [`BodyError::WholeTooLong`].
    pub fn update(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.0.seal(plaintext, out)
    }

    /// Appends the tag.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.tag());
    }
}

/// Decrypts one body, piece by piece, in constant memory. **What it gives is not authentic** before
/// [`Decryptor::verify`] says so.
pub struct Decryptor {
    gcm: Gcm,
    /// The last bytes so far: perhaps the tag.
    held: Vec<u8>,
}

impl Decryptor {
    /// Starts a body.
    ///
    /// # Errors
    /// [`BodyError::WrongCommitment`] unless this very DEK made the commitment of a version 3.
    // rule: AMZ-2
    pub fn new(dek: &[u8; 32], version: &Version) -> Result<Self, BodyError> {
        let gcm = match version {
            Version::V3 {
                message_id,
                commitment,
            } => {
                let (key, derived) = derive(dek, message_id)?;
                if !bool::from(derived.ct_eq(commitment)) {
                    return Err(BodyError::WrongCommitment);
                }
                Gcm::new(&key, &NONCE, &SUITE)?
            }
            // rule: AMZ-3
            Version::V2 { nonce } => Gcm::new(dek, nonce, &[])?,
        };
        Ok(Self {
            gcm,
            held: Vec::with_capacity(2 * TAG_LEN),
        })
    }

    /// Takes the next bytes of the body and appends to `out` plaintext that **is not verified yet**.
    ///
    /// # Errors
    /// [`BodyError::WholeTooLong`].
    pub fn update_unverified(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        // Of `held` and `body` together all but the last 16 bytes are ciphertext for sure.
        let ready = (self.held.len() + body.len()).saturating_sub(TAG_LEN);
        let from_held = ready.min(self.held.len());
        self.gcm.open_unverified(&self.held[..from_held], out)?;
        self.held.drain(..from_held);
        let (ciphertext, rest) = body.split_at(ready - from_held);
        self.gcm.open_unverified(ciphertext, out)?;
        self.held.extend_from_slice(rest);
        Ok(())
    }

    /// Verifies the tag at the end of the body. Only now all that was given is authentic. Returns the length of the object.
    ///
    /// # Errors
    /// [`BodyError::Truncated`], [`BodyError::WholeRefused`].
    // rule: AMZ-8
    pub fn verify(&self) -> Result<u64, BodyError> {
        let len = self.gcm.len();
        let Ok(tag) = <[u8; TAG_LEN]>::try_from(self.held.as_slice()) else {
            let have = len + self.held.len() as u64;
            return Err(BodyError::Truncated { have });
        };
        self.gcm.verify(&tag)?;
        Ok(len)
    }
}

type Derived = (Zeroizing<[u8; 32]>, [u8; COMMITMENT_LEN]);

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// The key of a body and its commitment, by HKDF-SHA-512 (RFC 5869).
// rule: AMZ-2
fn derive(dek: &[u8; 32], message_id: &[u8; MESSAGE_ID_LEN]) -> Result<Derived, BodyError> {
    let prk = Salt::new(HKDF_SHA512, message_id).extract(dek);
    let expand = |label: &[u8], out: &mut [u8]| {
        prk.expand(&[&SUITE, label], Len(out.len()))
            .and_then(|okm| okm.fill(out))
            .map_err(|_| BodyError::Library)
    };
    let mut key = Zeroizing::new([0; 32]);
    let mut commitment = [0; COMMITMENT_LEN];
    expand(b"DERIVEKEY", &mut key[..])?;
    expand(b"COMMITKEY", &mut commitment)?;
    Ok((key, commitment))
}

impl std::fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryptor").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decryptor").finish_non_exhaustive()
    }
}
