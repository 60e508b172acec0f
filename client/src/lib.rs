//! The client: metadata service, login, wallet, redeem, encrypted objects, the `postern` command.

pub mod agent;
pub mod chain;
pub mod cli;
pub mod door;
pub mod imds;
pub mod issue;
pub mod keys;
pub mod link;
pub mod login;
pub mod logs;
pub mod object;
pub mod producer;
pub mod redeem;
pub mod renew;
pub mod s3;
pub mod state;
pub mod wallet;
pub mod watch;

mod error;
mod lock;
mod receipt;

pub use error::Error;
pub use lock::Lock;
