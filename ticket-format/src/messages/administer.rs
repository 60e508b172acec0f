//! Administer (`spec/protocol.md`, section 9). The request's body is the statement itself
//! ([`crate::statement`]); it carries no proofs, for it is signed already.

use crate::limits;

use super::Receipt;
use super::shape::{Bytes, closed_map, item};

closed_map! {
    /// What an act came to, and the receipt of its entry.
    ///
    /// `administer-answer = { 1: bstr, 2: receipt }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AdministerAnswer {
        /// The act's result, of the act's own shape ([`crate::statement::ActBody::Result`]).
        1 result: Vec<u8> = Bytes(1..=limits::MESSAGE - limits::ENTRY - 256);
        /// The audit log's receipt.
        2 receipt: Receipt = item();
    }
}

closed_map! {
    /// What an act came to at a server that is sealed: it has no log, so there is no receipt. It is
    /// believed because the door key answered, and of nobody else (ROOT-4).
    ///
    /// `sealed-answer = { 1: bstr }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SealedAnswer {
        /// The act's result, of the act's own shape ([`crate::statement::ActBody::Result`]).
        1 result: Vec<u8> = Bytes(1..=limits::MESSAGE - limits::ENTRY - 256);
    }
}
