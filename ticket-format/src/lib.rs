//! Postern's bytes and their meaning: ids, keys, proofs, tickets, sealing, wrapped DEKs, messages,
//! refusals. No I/O, no clock, no random generator: callers pass the time and the generator in.
//!
//! The normative text is `spec/protocol.md`, `spec/ticket.md` and `spec/wire.cddl`. Comments of the
//! form `rule: SIG-1` mark where a rule is kept.

pub mod backup;
pub mod bootstrap;
pub mod cbor;
pub mod denial;
pub mod entry;
pub mod evidence;
pub mod ids;
pub mod iid;
pub mod key_pair;
pub mod keys;
pub mod labels;
pub mod limits;
pub mod messages;
pub mod recovery;
pub mod report;
pub mod seal;
pub mod secret;
pub mod share_key;
pub mod side;
pub mod sign;
pub mod statement;
pub mod ticket;
pub mod time;
pub mod tlog;
pub mod transfer;
pub mod wiped;
pub mod wrapped;

mod aead;
mod pairs;
mod refusal;

pub use pairs::{Context, NotPairs};
pub use refusal::Refusal;
