//! End-to-end, attack and fault tests.

pub mod admins;
pub mod bend;
pub mod daemon;
pub mod foreign;
pub mod home;
pub mod house;
pub mod imds_stub;
pub mod journal;
pub mod node;
pub mod relay;
pub mod softhsm;
pub mod wire;
pub mod witness;
