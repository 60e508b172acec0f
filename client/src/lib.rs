//! The client: IMDS, login, wallet, redeem, encrypted objects, the postern command.

pub mod object;
