//! The broker: login, renew, issue, feed and administer (`spec/protocol.md`, sections 4, 5, 6, 8, 9).
//!
//! A pure core and a shell around it. The core is functions of the request, facts of the peer, the
//! time, a generator and records of the state: [`login`], [`renew`], [`issue`], [`feed`],
//! [`mod@watch`], [`administer`] read like their sections of the spec, and the value that one check
//! gives is what the next step demands. It decides [`state::Changes`], which the shell commits whole
//! or not at all.
//!
//! The shell (feature `net`) owns the store, the audit log, the clock, the sockets and the program.

pub mod administer;
pub mod admins;
pub mod alias;
pub mod feed;
pub mod issue;
pub mod login;
pub mod realm;
pub mod renew;
pub mod state;
pub mod tickets;
pub mod watch;

mod freeze;
mod question;
mod refused;

pub use refused::Refused;

#[cfg(feature = "net")]
mod shell;
#[cfg(feature = "net")]
pub use shell::*;
