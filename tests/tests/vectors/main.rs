//! Public test vectors through the libraries and types that Postern uses them with.
//!
//! Where each file comes from: `tests/vectors/SOURCES.md`. Every test asserts how many cases it ran,
//! so that a file that is empty, or cut, or read by the wrong member names, fails.
#![allow(missing_docs)]

mod aead;
mod cose;
mod cose_example;
mod cose_sealed;
mod ed25519;
mod hpke;
mod kdf;
mod kem;
mod rsa;
mod support;
mod tlog;
mod x25519;
