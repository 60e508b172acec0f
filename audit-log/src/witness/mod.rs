//! Witnesses (C2SP tlog-witness), both ways.
//!
//! A [`Witness`] remembers of every shard of the logs that it follows the newest checkpoint that it
//! cosigned, and cosigns only what continues it; [`serve`] puts it on a socket. A [`Submitter`] shows a
//! log's checkpoints to its witnesses and collects what they sign, so that [`AuditLog::witnessed`]
//! can give receipts that a dataset's witness policy accepts; [`compare_at_start`] asks whether the log is
//! still the one that they saw.
//!
//! [`AuditLog::witnessed`]: crate::AuditLog::witnessed

mod compare;
mod endpoint;
mod hub;
mod judge;
mod request;
mod serve;
mod source;
mod state;
mod submit;
mod submitter;
mod witnessed;

#[cfg(test)]
mod tests;

pub use compare::{Compared, compare_at_start};
pub use endpoint::{Endpoint, EndpointError};
pub(crate) use hub::Hub;
pub use hub::Unwitnessed;
pub use judge::{Answer, Head, MAX_LOGS, MAX_SHARDS, Witness, digest};
pub use request::{AddCheckpoint, MAX_BODY, RequestError};
pub use serve::{ServeLimits, router, serve, system_clock};
pub use state::{Cosigned, StateError, records};
pub use submitter::{SILENCE, State, Status, Submitter};
