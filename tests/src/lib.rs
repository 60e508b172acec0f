//! End-to-end, attack and fault tests.

pub mod imds_stub;
