//! Launches: who may log in, how often and when.

use crate::ids::{LaunchId, NodeId, StatementDigest};
use crate::keys::LaunchKey;
use crate::messages::shape::{Bool, List, Text, UINT, Uint, closed_map, item};
use crate::time::Timestamp;

use super::acts::{ROWS, act, listing};
use super::denials::Denied;

closed_map! {
    /// Lets nodes log in; the statement itself is the launch's record (ADM-3).
    ///
    /// ```cddl
    /// launch-create = { 1: id16, 2: ed-key, 3: [1*16 account], 4: [*64 region], 5: [*64 image], 6: uint .ge 1,
    ///                   7: bool, 8: unix-time, 9: unix-time, 10: uint, 11: uint, 12: tstr .size (0..128) }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LaunchCreate {
        /// The launch.
        1 launch: LaunchId = item();
        /// Its key: the broker never has the secret (BOOT-2).
        2 key: LaunchKey = item();
        /// AWS accounts that may use it.
        3 accounts: Vec<String> = List(1..=16, Text(12..=12));
        /// Regions that may; empty means any.
        4 regions: Vec<String> = List(0..=64, Text(1..=32));
        /// Images that may; empty means any.
        5 images: Vec<String> = List(0..=64, Text(1..=32));
        /// How many nodes.
        6 uses: u64 = Uint(1..=u64::MAX);
        /// Whether it is meant for several nodes (LOG-9).
        7 group: bool = Bool;
        /// From when on the instance may have been launched and may log in.
        8 from: Timestamp = item();
        /// Until when.
        9 until: Timestamp = item();
        /// Maximum age of the identity document, in seconds.
        10 max_age: u64 = UINT;
        /// For how long the node may renew, in seconds.
        11 node_life: u64 = UINT;
        /// For people.
        12 comment: String = Text(0..=128);
    }
}

impl LaunchCreate {
    /// Whether its members go together.
    ///
    /// # Errors
    /// What does not, in one line: the detail of refusal 77.
    pub fn check(&self) -> Result<(), &'static str> {
        // rule: LOG-9
        if self.uses > 1 && !self.group {
            return Err("more than one use needs the group flag");
        }
        if self.from >= self.until {
            return Err("the window ends before it begins");
        }
        if self.node_life == 0 {
            return Err("the node life is zero");
        }
        if self
            .accounts
            .iter()
            .any(|account| !account.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err("an account is 12 digits");
        }
        Ok(())
    }
}

act!(LaunchCreate, LaunchCreate, LaunchView);

closed_map! {
    /// A launch as the broker has it.
    ///
    /// `launch-view = { 1: launch-create, 2: hash, 3: uint, 4: [*64 node], 5: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LaunchView {
        /// What was said.
        1 launch: LaunchCreate = item();
        /// Digest of the statement: the launch digest of bootstraps.
        2 digest: StatementDigest = item();
        /// How many uses were claimed.
        3 used: u64 = UINT;
        /// The first 64 nodes that claimed one.
        4 nodes: Vec<NodeId> = List(0..=64, item());
        /// Whether it was closed.
        5 closed: bool = Bool;
    }
}

listing! {
    /// Lists launches by id.
    LaunchList, LaunchList, LaunchPage
}

closed_map! {
    /// `launch-page = { 1: [*100 launch-view], 2: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LaunchPage {
        /// Launches.
        1 rows: Vec<LaunchView> = List(0..=ROWS, item());
        /// Whether there are more.
        2 more: bool = Bool;
    }
}

closed_map! {
    /// `launch-show = { 1: id16 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LaunchShow {
        /// Which one.
        1 launch: LaunchId = item();
    }
}
act!(LaunchShow, LaunchShow, LaunchView);

closed_map! {
    /// Ends a launch: nobody logs in with it any more. With a denial, nodes that did are out too.
    ///
    /// `launch-close = { 1: id16, 2: bool, 3: tstr .size (0..256) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LaunchClose {
        /// Which one.
        1 launch: LaunchId = item();
        /// Whether its nodes are denied as well.
        2 deny: bool = Bool;
        /// Why, for people.
        3 reason: String = Text(0..=crate::denial::REASON);
    }
}
act!(LaunchClose, LaunchClose, Denied);
