//! EC2 instance identity documents: the verifier that broker, key servers and tools share.
//!
//! Evidence is the `/rsa2048` proof alone: a CMS SignedData that carries the document and an
//! RSA-2048/SHA-256 signature by the key of the instance's region. No other proof kind is taken
//! and the caller has no choice of algorithm. The document comes out of the verified content and
//! from nowhere else. Pure: no I/O, no clock; the age of a document is [`check_age`]'s business,
//! the account allow list and the rest of policy are the broker's.
//!
//! ```text
//! text --cap, base64--> bytes --one CMS shape--> Received --pinned key--> VerifiedContent
//!      --strict JSON--> VerifiedDocument
//! ```

mod age;
mod builtin;
mod document;
mod json;
mod keys;
mod refusal;
mod shape;

pub use age::{AgeRefusal, FUTURE_TOLERANCE_SECONDS, check_age};
pub use document::VerifiedDocument;
pub use keys::{CertificateFault, RegionKey, RegionKeys, RegionKeysError};
pub use refusal::{DocumentFault, IidRefusal};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use shape::Received;

/// Largest proof text in bytes: [`MAX_PROOF_BYTES`] in base64 with white space, and room to spare.
pub const MAX_PROOF_TEXT_BYTES: usize = crate::limits::IID_TEXT;
/// Largest decoded proof in bytes; real ones have about 1,100.
pub const MAX_PROOF_BYTES: usize = 4 * 1024;

/// Verifies a proof: base64 text as the metadata service serves it at
/// `/latest/dynamic/instance-identity/rsa2048`.
///
/// # Errors
/// [`IidRefusal`]; none of them can be cured by sending the same proof again.
pub fn verify(proof: &[u8], keys: &RegionKeys) -> Result<VerifiedDocument, IidRefusal> {
    let blob = decode(proof)?;
    let received = Received::read(&blob)?;
    // rule: IID-3
    let region = received.claimed_region()?;
    let Some(key) = keys.get(&region) else {
        return Err(IidRefusal::UnknownRegion(region));
    };
    let content = received.verify(&region, key)?;
    VerifiedDocument::new(&content, Sha256::digest(&blob).into())
}

/// Base64 to bytes, with both bounds checked before anything is built.
fn decode(proof: &[u8]) -> Result<Vec<u8>, IidRefusal> {
    // rule: IID-1
    if proof.len() > MAX_PROOF_TEXT_BYTES {
        return Err(IidRefusal::TooLarge {
            what: "its text",
            limit: MAX_PROOF_TEXT_BYTES,
        });
    }
    let packed: Vec<u8> = proof
        .iter()
        .copied()
        .filter(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
        .collect();
    let blob = STANDARD.decode(packed).map_err(|_| IidRefusal::NotBase64)?;
    if blob.len() > MAX_PROOF_BYTES {
        return Err(IidRefusal::TooLarge {
            what: "its decoded CMS structure",
            limit: MAX_PROOF_BYTES,
        });
    }
    Ok(blob)
}
