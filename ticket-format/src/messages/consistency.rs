//! Consistency (`spec/protocol.md`, section 10): what a server's log has become since a checkpoint.

use crate::limits;
use crate::tlog::Hash;

use super::Receipt;
use super::shape::{Fixed, List, Maybe, Text, UINT, closed_map, item};

/// Most hashes in a consistency proof (c2sp.org/tlog-witness).
const PATH: usize = 63;

closed_map! {
    /// The checkpoint that the caller remembers (TLOG-6).
    ///
    /// `consistency-body = { 1: note, ? 2: [1*64 uint] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ConsistencyBody {
        /// A checkpoint of the server's log, as it once came.
        1 checkpoint: String = Text(1..=limits::NOTE);
        /// Sizes at which it remembers the same shard too.
        2 others: Option<Vec<u64>> = Maybe(List(1..=limits::OTHERS, UINT));
    }
}

impl ConsistencyBody {
    /// Asks about one checkpoint.
    #[must_use]
    pub fn of(checkpoint: impl Into<String>) -> Self {
        Self {
            checkpoint: checkpoint.into(),
            others: None,
        }
    }
}

closed_map! {
    /// How the log continues it.
    ///
    /// `consistency-answer = { 1: [*63 hash], 2: note, 3: [*16 receipt], ? 4: [1*64 [*63 hash]] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ConsistencyAnswer {
        /// From its size to that of the next member (RFC 6962, 2.1.2).
        1 path: Vec<Hash> = List(0..=PATH, Fixed::<32>);
        /// The newest checkpoint of that shard; the last, where the shard is closed.
        2 checkpoint: String = Text(1..=limits::NOTE);
        /// Of the first entry of each shard after it, ascending (TLOG-4).
        3 links: Vec<Receipt> = List(0..=limits::SHARD_LINKS, item());
        /// From each of the other sizes to that of the second member, in the order in which they were asked about.
        /// Left out where they were not, or where that shard is not written any more.
        4 paths: Option<Vec<Vec<Hash>>> = Maybe(List(1..=limits::OTHERS, List(0..=PATH, Fixed::<32>)));
    }
}
