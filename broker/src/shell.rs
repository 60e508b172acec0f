//! The shell around the core: store, audit log, clock, memory, and the exchanges that tie them.

mod acts;
mod admin_sets;
mod alarms;
mod audit;
mod budget;
mod chores;
mod clock;
mod consistency;
mod denials;
mod directory;
mod exchanges;
mod feeding;
mod inbox;
mod limits;
mod memory;
mod metrics;
mod service;
mod shows;
mod standing;
mod start;
mod subscribers;
mod ticket_keys;
mod trying;
mod watching;
mod witnessing;

pub mod cli;
pub mod config;
mod confine;
pub mod http;
pub mod init;
pub mod net;
pub mod secrets;
pub mod ticket_store;

pub use alarms::Hooks;
pub use clock::{Clock, ManualClock, SystemClock};
pub use limits::Limits;
pub use metrics::Metrics;
pub use service::Broker;
pub use standing::Witnesses;
pub use start::{Files, StartError};
