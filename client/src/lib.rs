//! The client: IMDS, login, wallet, redeem, encrypted objects, the postern command.

pub mod imds;
pub mod object;
pub mod s3;
