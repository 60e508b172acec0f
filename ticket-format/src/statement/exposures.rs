//! What could have been read, from the audit records (EXP-1), and the records themselves.

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::denial::Selector;
use crate::entry::Kind;
use crate::ids::{ActId, DatasetId, DekId, ItemDigest, LaunchId, NodeId, TicketId};
use crate::limits;
use crate::messages::Receipt;
use crate::messages::shape::{List, OrNull, Shape, Text, UINT, Uint, closed_map, item};
use crate::pairs::Context;
use crate::time::Timestamp;

use super::acts::act;

/// Most rows in one page.
pub const EXPOSED: usize = 500;

closed_map! {
    /// Lists what a node, ticket or launch could have read.
    ///
    /// `exposure = { 1: selector, 2: unix-time, 3: uint, 4: 1..500 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ExposureShow {
        /// Whose: a ticket, a node or a launch.
        1 selector: Selector = item();
        /// From when on.
        2 since: Timestamp = item();
        /// From which place on: 0, or where the page before says. A place is 1,024 times an entry's index,
        /// plus an item's place in the entry.
        3 from: u64 = UINT;
        /// Most rows wanted.
        4 rows: u64 = Uint(1..=EXPOSED as u64);
    }
}
act!(ExposureShow, Exposure, ExposurePage);

closed_map! {
    /// `exposure-page = { 1: [*500 exposed], 2: [*500 id16], 3: uint / null }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ExposurePage {
        /// What was released, by entry.
        1 rows: Vec<Exposed> = List(0..=EXPOSED, item());
        /// Acts whose keys were withheld after all: their rows, on this page or one before, do not count.
        2 withheld: Vec<ActId> = List(0..=EXPOSED, item());
        /// The place where the next page begins; none when this was the last.
        3 next: Option<u64> = OrNull(UINT);
    }
}

closed_map! {
    /// One key that was released.
    ///
    /// ```cddl
    /// exposed = { 1: uint, 2: id16, 3: unix-time, 4: 5..7, 5: node, 6: id16, 7: id16 / null, 8: id16, 9: name,
    ///             10: hash, 11: id16 / null, 12: pairs / null }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Exposed {
        /// The entry's index.
        1 entry: u64 = UINT;
        /// The act.
        2 act: ActId = item();
        /// When.
        3 time: Timestamp = item();
        /// Redeem, generate or rewrap.
        4 kind: Kind = OfABatch;
        /// The node.
        5 node: NodeId = item();
        /// The ticket.
        6 ticket: TicketId = item();
        /// Its launch.
        7 launch: Option<LaunchId> = OrNull(item());
        /// The dataset.
        8 dataset: DatasetId = item();
        /// Its name.
        9 name: String = Text(1..=limits::NAME);
        /// The wrapped DEK with its context.
        10 item: ItemDigest = item();
        /// The DEK, through all its wraps; none when it is not known any more.
        11 dek: Option<DekId> = OrNull(item());
        /// The context; none when it is not known any more.
        12 context: Option<Context> = OrNull(item());
    }
}

/// The kinds that release keys: 5 to 7.
struct OfABatch;

impl Shape for OfABatch {
    type Value = Kind;

    fn write(&self, value: &Kind, writer: &mut Writer) {
        value.encode(writer);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Kind, DecodeError> {
        match Kind::decode(reader)? {
            kind @ (Kind::Redeem | Kind::Generate | Kind::Rewrap) => Ok(kind),
            _ => Err(DecodeError::OutOfRange("kind")),
        }
    }
}

closed_map! {
    /// Shows one entry of the audit log.
    ///
    /// `entry-show = { 1: uint }`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryShow {
        /// Its index.
        1 index: u64 = UINT;
    }
}
act!(EntryShow, EntryShow, EntryView);

closed_map! {
    /// `entry-view = { 1: receipt }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EntryView {
        /// The entry and its proof, under the newest checkpoint.
        1 receipt: Receipt = item();
    }
}
