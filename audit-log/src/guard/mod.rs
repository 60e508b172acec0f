//! What a server has around its log: the entries between shards, the answer to who remembers a checkpoint
//! (TLOG-6), the state of a log that was rolled back (TLOG-10), and how all this is configured. Pure but
//! for [`consistency`], which reads the log.

mod asked;
mod config;
mod recovery;
mod shards;
mod standing;

pub use asked::{NotConsistent, consistency, reads};
pub use config::{LogSection, SectionError, WitnessEntry, WitnessSection, WitnessedLog};
pub use recovery::{NotRecovered, Recovery};
pub use shards::Shards;
pub use standing::{Contradiction, Event, NotGood, Standing, Told};

use crate::AuditLog;

impl AuditLog {
    /// The index of the first entry that the retention has left. To be read from there on.
    #[must_use]
    pub fn first_kept(&self) -> u64 {
        let shards = self.shared.shards();
        let kept = shards.iter().rev().take_while(|shard| !shard.live().pruned);
        kept.last().map_or(0, |shard| shard.before)
    }
}
