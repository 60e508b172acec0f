//! The encrypted object: its body, its metadata, and ranges of it (`spec/object.md`).
//!
//! The body is C2SP chunked-encryption (<https://c2sp.org/chunked-encryption>) with SHA-512 and
//! AES-256-GCM, also known as Cobblestone-256:
//!
//! ```text
//! body = salt (24) || commitment (32) || chunk 0 || chunk 1 || ... || last chunk
//! chunk = AES-256-GCM ciphertext of 16 KiB || tag (16); the last one is always shorter
//! ```
//!
//! Everything here is a pure function of its arguments: the caller draws the salt, and does the
//! reading and writing.

mod chunk;
pub mod container;
mod decrypt;
mod encrypt;
mod error;
mod key;
pub mod keys;
mod layout;
pub mod metadata;
mod range;
pub mod recovery;
pub mod s3ec;

pub use decrypt::Decryptor;
pub use encrypt::Encryptor;
pub use error::BodyError;
pub use key::{BodyHeader, ObjectContext};
pub use layout::{
    CHUNK_LEN, HEADER_LEN, MAX_CHUNKS, MAX_PLAINTEXT_LEN, SEALED_CHUNK_LEN, TAG_LEN,
    ciphertext_len, plaintext_len,
};
pub use range::{RangeDecryptor, RangePlan};
