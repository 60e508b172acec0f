//! The entries between two shards, as servers write them (TLOG-4).

use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::tlog::Checkpoint;

use crate::options::{Clock, ShardEntries};

/// Writes kinds 16 and 15 with the time of a clock.
#[derive(Clone)]
pub struct Shards {
    /// Tells the time.
    pub clock: Clock,
}

impl Shards {
    fn entry(&self, kind: Kind) -> Entry {
        let mut act = [0; 16];
        // An act of its own; nothing depends on it being hard to guess.
        if getrandom::fill(&mut act).is_err() {
            tracing::error!("the system gives no random bytes: a shard's entry has act 0");
        }
        Entry::new(ActId(act), kind, (self.clock)())
    }
}

impl ShardEntries for Shards {
    fn closed(&self, last: &Checkpoint) -> Vec<u8> {
        // rule: TLOG-4
        let entry = self.entry(Kind::ShardClosed);
        entry.log(last.clone()).to_cbor()
    }

    fn opened(&self, previous: &Checkpoint, before: u64) -> Vec<u8> {
        // rule: TLOG-4
        let entry = self.entry(Kind::ShardOpened);
        entry.log(previous.clone()).count(before).to_cbor()
    }
}
