//! Alias (`spec/protocol.md`, section 6): which dataset an alias names, by the word of the datasets' owners.

use crate::limits;

use super::shape::{Bytes, Text, closed_map};

closed_map! {
    /// What a node asks, signed by its ticket's proof key.
    ///
    /// `alias-body = { 1: bstr .size (1..8192), 2: name }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AliasBody {
        /// The node ticket's bytes.
        1 ticket: Vec<u8> = Bytes(1..=limits::TICKET);
        /// The alias.
        2 alias: String = Text(1..=limits::NAME);
    }
}

closed_map! {
    /// `alias-answer = { 1: bstr .size (1..16384) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AliasAnswer {
        /// The statement of the act alias-set that stands (ALI-2).
        1 statement: Vec<u8> = Bytes(1..=limits::RECORD);
    }
}
