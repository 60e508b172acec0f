//! What a denial hits.

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{DatasetId, LaunchId, NodeId, TicketId};
use crate::messages::shape::{Maybe, Text, closed_map, item};
use crate::time::Timestamp;

closed_map! {
    /// The members that a selector may have; see [`Selector`].
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Members {
        /// The ticket's own id, or its node ticket's.
        1 ticket: Option<TicketId> = Maybe(item());
        /// The node.
        2 node: Option<NodeId> = Maybe(item());
        /// The launch.
        3 launch: Option<LaunchId> = Maybe(item());
        /// The AWS account, 12 digits.
        4 account: Option<String> = Maybe(Text(12..=12));
        /// The AWS region.
        5 region: Option<String> = Maybe(Text(1..=32));
        /// The image id.
        6 image: Option<String> = Maybe(Text(1..=32));
        /// The dataset.
        7 dataset: Option<DatasetId> = Maybe(item());
        /// Issued before this time.
        8 issued_before: Option<Timestamp> = Maybe(item());
    }
}

/// What a denial hits: all members that are present must match (DEN-2), and one at least is.
///
/// ```cddl
/// selector = { ? 1: id16, ? 2: node, ? 3: id16, ? 4: tstr .size 12, ? 5: tstr .size (1..32),
///              ? 6: tstr .size (1..32), ? 7: id16, ? 8: unix-time }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Members);

/// A selector without a member would hit everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a denial needs at least one of ticket, node, launch, account, region, image, dataset, issued-before"
)]
pub struct EmptySelector;

impl Selector {
    /// Takes these members.
    ///
    /// # Errors
    /// [`EmptySelector`].
    pub fn new(members: Members) -> Result<Self, EmptySelector> {
        // rule: DEN-2
        if members == Members::default() {
            Err(EmptySelector)
        } else {
            Ok(Self(members))
        }
    }

    /// A ticket; a node ticket's id hits the dataset tickets issued on it too.
    #[must_use]
    pub fn ticket(ticket: TicketId) -> Self {
        Self(Members {
            ticket: Some(ticket),
            ..Members::default()
        })
    }

    /// A node.
    #[must_use]
    pub fn node(node: NodeId) -> Self {
        Self(Members {
            node: Some(node),
            ..Members::default()
        })
    }

    /// A launch, and every node that it let in.
    #[must_use]
    pub fn launch(launch: LaunchId) -> Self {
        Self(Members {
            launch: Some(launch),
            ..Members::default()
        })
    }

    /// A dataset.
    #[must_use]
    pub fn dataset(dataset: DatasetId) -> Self {
        Self(Members {
            dataset: Some(dataset),
            ..Members::default()
        })
    }

    /// The same, for what was issued before this time only.
    #[must_use]
    pub fn issued_before(mut self, time: Timestamp) -> Self {
        self.0.issued_before = Some(time);
        self
    }

    /// Whether it hits also tickets that are not issued yet: of a node, a launch, an account, an image,
    /// a dataset. A denial of it stops login, renew or issue, and is kept for good: forgotten, it would
    /// let in again what it shut out (DEN-7).
    #[must_use]
    pub fn lasts(&self) -> bool {
        // rule: DEN-7
        self.0.ticket.is_none() && self.0.issued_before.is_none()
    }

    /// Its members.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.0
    }
}

impl Encode for Selector {
    fn encode(&self, writer: &mut Writer) {
        self.0.encode(writer);
    }
}

impl Decode for Selector {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(Members::decode(reader)?)
            .map_err(|EmptySelector| DecodeError::OutOfRange("selector"))
    }
}
