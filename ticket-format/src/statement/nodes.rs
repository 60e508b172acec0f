//! Nodes and tickets as the broker has them.

use crate::ids::{DatasetId, LaunchId, NodeId, TicketId};
use crate::keys::NodeKey;
use crate::messages::shape::{Bool, List, OrNull, Text, UINT, closed_map, item, numbered};
use crate::ticket::Attributes;
use crate::time::Timestamp;

use super::acts::{ROWS, act, listing};

numbered! {
    /// How a node's record stands.
    pub enum NodeState("node state") {
        /// It may renew and issue.
        Live = 1, "live";
        /// Two holders of one identity: refused until an admin decides (REN-5).
        Frozen = 2, "frozen";
        /// Denied for good (DEN-7).
        Denied = 3, "denied";
        /// Its launch's node life is over (REN-5).
        Expired = 4, "expired";
    }
}

listing! {
    /// Lists nodes by name.
    NodeList, NodeList, NodePage
}

closed_map! {
    /// `node-page = { 1: [*100 node-view], 2: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NodePage {
        /// Nodes.
        1 rows: Vec<NodeView> = List(0..=ROWS, item());
        /// Whether there are more.
        2 more: bool = Bool;
    }
}

closed_map! {
    /// `node-show = { 1: node }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NodeShow {
        /// Which one.
        1 node: NodeId = item();
    }
}
act!(NodeShow, NodeShow, NodeView);

closed_map! {
    /// A node as the broker has it.
    ///
    /// ```cddl
    /// node-view = { 1: attributes, 2: id16, 3: 1..4, 4: ed-key, 5: unix-time, 6: unix-time, 7: unix-time,
    ///               8: tstr .size (0..256) }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NodeView {
        /// What its identity document said.
        1 attributes: Attributes = item();
        /// The launch that let it in.
        2 launch: LaunchId = item();
        /// How it stands.
        3 state: NodeState = item();
        /// Its current node key.
        4 node_key: NodeKey = item();
        /// When it logged in.
        5 logged_in: Timestamp = item();
        /// When its last node ticket was issued.
        6 renewed: Timestamp = item();
        /// When renewals stop.
        7 until: Timestamp = item();
        /// Why it is frozen or denied, for people; else empty.
        8 reason: String = Text(0..=256);
    }
}

closed_map! {
    /// Decides which key a frozen node goes on with: the one that the admin knows to be on the
    /// instance.
    ///
    /// `node-unfreeze = { 1: node, 2: ed-key }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NodeUnfreeze {
        /// Which node.
        1 node: NodeId = item();
        /// The key that is current from now on.
        2 node_key: NodeKey = item();
    }
}
act!(NodeUnfreeze, NodeUnfreeze, NodeView);

closed_map! {
    /// `ticket-show = { 1: id16 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TicketShow {
        /// Which one.
        1 ticket: TicketId = item();
    }
}
act!(TicketShow, TicketShow, TicketView);

closed_map! {
    /// A ticket that the broker issued.
    ///
    /// ```cddl
    /// ticket-view = { 1: id16, 2: node, 3: id16, 4: id16 / null, 5: id16 / null, 6: unix-time, 7: unix-time,
    ///                 8: uint, 9: bool }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TicketView {
        /// The ticket.
        1 ticket: TicketId = item();
        /// Its node.
        2 node: NodeId = item();
        /// Its launch.
        3 launch: LaunchId = item();
        /// A dataset ticket's dataset.
        4 dataset: Option<DatasetId> = OrNull(item());
        /// The node ticket that a dataset ticket was issued on.
        5 parent: Option<TicketId> = OrNull(item());
        /// When it was issued.
        6 issued: Timestamp = item();
        /// When it expires.
        7 expires: Timestamp = item();
        /// A dataset ticket's budget; 0 for a node ticket.
        8 budget: u64 = UINT;
        /// Whether a denial hits it.
        9 denied: bool = Bool;
    }
}
