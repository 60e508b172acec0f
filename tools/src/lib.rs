//! The tools: `postern-admin` (administration and inspection), `postern-witness` (a witness of
//! transparency logs) and `postern-vectors` (the specification's test vectors).

pub mod admin;
pub mod vectors;
pub mod witness;
