//! The tools: `postern-admin` (administration and inspection), `postern-witness` (a witness of
//! transparency logs) and `postern-vectors` (the specification's test vectors); and hostile peers for
//! tests, bench and soak.

pub mod admin;
pub mod floods;
pub mod vectors;
pub mod witness;
