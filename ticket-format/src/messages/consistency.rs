//! Consistency (`spec/protocol.md`, section 10): what a server's log has become since a checkpoint.

use crate::limits;
use crate::tlog::Hash;

use super::Receipt;
use super::shape::{Fixed, List, Text, closed_map, item};

/// Most hashes in a consistency proof (c2sp.org/tlog-witness).
const PATH: usize = 63;

closed_map! {
    /// The checkpoint that the caller remembers (TLOG-6).
    ///
    /// `consistency-body = { 1: note }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ConsistencyBody {
        /// A checkpoint of the server's log, as it once came.
        1 checkpoint: String = Text(1..=limits::NOTE);
    }
}

closed_map! {
    /// How the log continues it.
    ///
    /// `consistency-answer = { 1: [*63 hash], 2: note, 3: [*16 receipt] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ConsistencyAnswer {
        /// From its size to that of the next member (RFC 6962, 2.1.2).
        1 path: Vec<Hash> = List(0..=PATH, Fixed::<32>);
        /// The newest checkpoint of that shard; the last, where the shard is closed.
        2 checkpoint: String = Text(1..=limits::NOTE);
        /// Of the first entry of each shard after it, ascending (TLOG-4).
        3 links: Vec<Receipt> = List(0..=limits::SHARD_LINKS, item());
    }
}
