//! A draft policy tried on what was decided (ISS-7).

use crate::ids::NodeId;
use crate::limits;
use crate::messages::shape::{Bool, List, OrNull, Text, UINT, closed_map, item};
use crate::ticket::Action;
use crate::time::Timestamp;

use super::acts::act;

/// Most changes in one page.
pub const CHANGED: usize = 500;
/// Most policies that are named of one decision.
const POLICIES: usize = 64;

closed_map! {
    /// Asks who would gain and lose.
    ///
    /// `what-if = { 1: tstr .size (1..65536), 2: name / null, 3: unix-time, 4: uint }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WhatIf {
        /// The draft: Cedar text.
        1 draft: String = Text(1..=limits::POLICY);
        /// The dataset whose policy it would be; none for the broker's.
        2 dataset: Option<String> = OrNull(Text(1..=limits::NAME));
        /// From when on.
        3 since: Timestamp = item();
        /// From which entry on: 0, or where the page before says.
        4 from: u64 = UINT;
    }
}
act!(WhatIf, WhatIf, WhatIfPage);

closed_map! {
    /// `what-if-page = { 1: uint, 2: [*500 changed], 3: uint / null }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WhatIfPage {
        /// How many decisions were looked at.
        1 decisions: u64 = UINT;
        /// What would change.
        2 changed: Vec<Changed> = List(0..=CHANGED, item());
        /// Where the next page begins; none when this was the last.
        3 next: Option<u64> = OrNull(UINT);
    }
}

closed_map! {
    /// A node's action on a dataset that the draft decides otherwise.
    ///
    /// `changed = { 1: node, 2: name, 3: action, 4: bool, 5: uint, 6: [*64 name], 7: [*64 name] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Changed {
        /// The node.
        1 node: NodeId = item();
        /// The dataset.
        2 dataset: String = Text(1..=limits::NAME);
        /// What it asked for.
        3 action: Action = item();
        /// Whether it gains; else it loses.
        4 gains: bool = Bool;
        /// How often it was decided.
        5 times: u64 = UINT;
        /// The policies that decided then.
        6 recorded: Vec<String> = List(0..=POLICIES, Text(1..=limits::NAME));
        /// The policies of the draft that would decide.
        7 drafted: Vec<String> = List(0..=POLICIES, Text(1..=limits::NAME));
    }
}
