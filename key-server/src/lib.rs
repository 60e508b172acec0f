//! The key server: vault, redeem, generate, rewrap, feed follower.
//!
//! The core decides over values: state in memory, what TLS says of the peer, the time, a random
//! generator. One file per exchange, each reading like its section of `spec/protocol.md`; `vault` is
//! the only room that can reach a KEK. Around it, with feature `net`: `service` records and persists,
//! `follower` listens to the broker, `net` and `main` hold sockets, files and the command line.

pub mod admins;
pub mod batch;
pub mod broker_log;
pub mod budget;
pub mod clock;
pub mod dataset;
pub mod decisions;
pub mod evidence;
pub mod feed;
pub mod gate;
pub mod generate;
pub mod habit;
pub mod imports;
pub mod issued;
pub mod items;
pub mod kek_record;
pub mod lease;
pub mod present;
pub mod records;
pub mod redeem;
pub mod refused;
pub mod rewrap;
pub mod sealed;
pub mod state;
pub mod ticket_keys;
pub mod vault;
pub mod versions;
pub mod watch;

#[cfg(feature = "net")]
pub mod backup;
#[cfg(feature = "net")]
pub mod cli;
#[cfg(feature = "net")]
pub mod config;
#[cfg(feature = "net")]
pub mod confine;
#[cfg(feature = "net")]
pub mod follower;
#[cfg(feature = "net")]
pub mod init;
#[cfg(feature = "net")]
pub mod inventory;
#[cfg(feature = "net")]
pub mod metrics;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "net")]
pub mod prover;
#[cfg(feature = "net")]
pub mod service;
