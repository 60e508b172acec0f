//! The tools: `postern-admin` (administration and inspection) and `postern-vectors` (the
//! specification's test vectors).

pub mod admin;
pub mod vectors;
