//! Acts on a server's log.

use crate::limits;
use crate::messages::shape::{Fixed, List, OrNull, Text, UINT, closed_map, item, numbered};
use crate::tlog::{Checkpoint, Hash, LogKey};

use super::acts::{Nothing, act};

closed_map! {
    /// Says where a log goes on that was rolled back, at its server, or that has forked, at a key
    /// server (TLOG-7, TLOG-10).
    ///
    /// `log-recover = { 1: tstr .size (1..221), 2: uint, 3: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LogRecover {
        /// The shard: of this server's log, or of the broker's.
        1 shard: String = Text(1..=221);
        /// The size at which it goes on.
        2 size: u64 = UINT;
        /// The root at that size.
        3 root: Hash = Fixed::<32>;
    }
}
act!(LogRecover, LogRecover, Nothing);

impl LogRecover {
    /// The checkpoint that it names; none if the shard's name is none.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        Some(Checkpoint {
            shard: self.shard.parse().ok()?,
            size: self.size,
            root: self.root,
        })
    }
}

closed_map! {
    /// `log-show = {}`
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct LogShow {}
}
act!(LogShow, LogShow, LogView);

numbered! {
    /// How a server's log is.
    pub enum LogState("log state") {
        /// All is well.
        Good = 1, "good";
        /// Somebody has seen more of it than it holds: nothing is served before an admin's recovery.
        RolledBack = 2, "rolled-back";
        /// At a key server: the broker's log is not one log; no ticket is taken.
        BrokerForked = 3, "broker-forked";
    }
}

numbered! {
    /// How a witness is.
    pub enum WitnessState("witness state") {
        /// It has cosigned all that there is, or all but the newest.
        Good = 1, "good";
        /// It lags behind.
        Behind = 2, "behind";
        /// It does not answer.
        Silent = 3, "silent";
        /// It has seen more than there is, or something else.
        Ahead = 4, "ahead";
    }
}

closed_map! {
    /// A server's log and its witnesses.
    ///
    /// `log-view = { 1: log-key, 2: note, 3: 1..3, 4: tstr .size (0..256), 5: [*8 witness] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LogView {
        /// Whose signatures its checkpoints bear.
        1 key: LogKey = item();
        /// The newest checkpoint, with the cosignatures that there are.
        2 checkpoint: String = Text(1..=limits::NOTE);
        /// How it is.
        3 state: LogState = item();
        /// What is wrong; empty where nothing is.
        4 wrong: String = Text(0..=256);
        /// Its witnesses.
        5 witnesses: Vec<WitnessRow> = List(0..=limits::WITNESSES, item());
    }
}

closed_map! {
    /// `witness = { 1: name, 2: uint / null, 3: uint / null, 4: 1..4 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WitnessRow {
        /// Its name.
        1 name: String = Text(1..=limits::NAME);
        /// The size of the open shard that it cosigned last.
        2 size: Option<u64> = OrNull(UINT);
        /// Milliseconds since then.
        3 ago_ms: Option<u64> = OrNull(UINT);
        /// How it is.
        4 state: WitnessState = item();
    }
}
