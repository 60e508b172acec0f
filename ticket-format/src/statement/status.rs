//! How a server is.

use crate::ids::ChainDigest;
use crate::messages::shape::{OrNull, Text, UINT, closed_map, item, numbered};
use crate::time::Timestamp;

use super::acts::act;

numbered! {
    /// Which server it is.
    pub enum Role("server role") {
        /// The broker.
        Broker = 1, "broker";
        /// A key server.
        KeyServer = 2, "key-server";
    }
}

closed_map! {
    /// `status = {}`
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StatusShow {}
}
act!(StatusShow, Status, Status);

closed_map! {
    /// How the server is.
    ///
    /// ```cddl
    /// status-result = { 1: 1..2, 2: tstr .size (1..64), 3: unix-time, 4: unix-time, 5: uint, 6: hash, 7: uint,
    ///                   8: uint / null, 9: uint, 10: uint }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Status {
        /// Which server.
        1 role: Role = item();
        /// Its version.
        2 version: String = Text(1..=64);
        /// When it started.
        3 started: Timestamp = item();
        /// Its clock.
        4 now: Timestamp = item();
        /// Denial epoch.
        5 epoch: u64 = UINT;
        /// Chain digest at that epoch.
        6 chain: ChainDigest = item();
        /// Entries in its audit log.
        7 entries: u64 = UINT;
        /// A key server's lease: milliseconds left. None at a broker.
        8 lease_ms: Option<u64> = OrNull(UINT);
        /// Datasets it knows.
        9 datasets: u64 = UINT;
        /// Nodes a broker knows; tickets presented now at a key server.
        10 holders: u64 = UINT;
    }
}
