//! Objects of the Amazon S3 Encryption Client (`spec/s3ec.md`): what it writes, and what it reads.
//!
//! ```text
//! body = AES-256-GCM ciphertext, as long as the plaintext || tag (16)
//! ```
//!
//! Everything here is a pure function of its arguments: the caller draws the message id, and does the reading and
//! writing.

mod body;
mod context;
mod gcm;
mod metadata;

pub use body::{Decryptor, Encryptor, plaintext_len};
pub use gcm::MAX_LEN;
pub use metadata::{
    COMMITMENT_LEN, MESSAGE_ID_LEN, NotThisOne, S3ecError, S3ecMetadata, Version, new_context,
};
