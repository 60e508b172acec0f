//! A selector as 128 bits: the exclusive or of a keyed hash of each member that it names.
//!
//! Equal members give equal keys, so no denied ticket is missed. Two different selectors with one
//! key would deny somebody innocent: for a million denials, any one ticket and a handful of kinds
//! the odds are below 2^-100, because SipHash under a key that nobody knows is a pseudorandom
//! function, and the members that two selectors do not share are hashed independently. Who knew the
//! key and could choose members freely might find two that collide; that would deny somebody, and
//! still let nobody through.

use std::sync::Arc;

use siphasher::sip128::SipHasher13;

use super::TicketFacts;
use crate::denial::outline::Outline;
use crate::denial::selector::Members;
use crate::ids::{NodeId, TicketId};

/// Which members a selector names, one bit for each. `issued_before` is not among them: it is
/// compared, not looked up.
pub(super) type Kind = u8;

pub(super) const TICKET: Kind = 1;
const NODE: Kind = 2;
const LAUNCH: Kind = 4;
const ACCOUNT: Kind = 8;
const REGION: Kind = 16;
const IMAGE: Kind = 32;
pub(super) const DATASET: Kind = 64;

/// The key of the hash, where none was given. It is public: see above for what that costs.
const UNSEEDED: &[u8; 16] = b"postern/1 denial";

/// The longest node: 12 digits, a region of 32, `i-` and 17 digits, two slashes.
const ROOM: usize = 65;

/// Hashes members, each kind of member under a key of its own, so that an account is never taken for
/// an image of the same name.
#[derive(Clone)]
pub(super) struct Hasher(Arc<[SipHasher13; 7]>);

impl Default for Hasher {
    fn default() -> Self {
        Self::new(UNSEEDED)
    }
}

/// The key stays out of logs.
impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

/// The hash of each member that a ticket has; zero of one that was not asked for.
pub(super) struct Hashes {
    pub(super) ticket: Option<u128>,
    pub(super) parent: Option<u128>,
    /// Of the bits above [`TICKET`], in their order.
    others: [u128; 6],
}

impl Hasher {
    pub(super) fn new(seed: &[u8; 16]) -> Self {
        let seed = SipHasher13::new_with_key(seed);
        let key = |bit| seed.hash(&[1_u8 << bit]).as_bytes();
        Self(Arc::new(std::array::from_fn(|bit| {
            SipHasher13::new_with_key(&key(bit))
        })))
    }

    fn bytes(&self, bit: Kind, bytes: &[u8]) -> u128 {
        // One bit of seven.
        self.0[bit.trailing_zeros() as usize].hash(bytes).as_u128()
    }

    fn id(&self, bit: Kind, id: &[u8; 16]) -> u128 {
        self.bytes(bit, id)
    }

    fn text(&self, bit: Kind, text: &str) -> u128 {
        self.bytes(bit, text.as_bytes())
    }

    /// As the node is written: no part of its name has a slash, and none is longer than there is
    /// room for, which [`NodeId::new`] sees to.
    fn node(&self, node: &NodeId) -> u128 {
        let mut buffer = [0; ROOM];
        let mut length = 0;
        for part in [node.account(), "/", node.region(), "/", node.instance()] {
            let end = length + part.len();
            if let Some(place) = buffer.get_mut(length..end) {
                place.copy_from_slice(part.as_bytes());
            }
            length = end;
        }
        self.bytes(NODE, buffer.get(..length).unwrap_or(&buffer))
    }

    /// A selector's kind and key.
    pub(super) fn selector(&self, members: &Members) -> (Kind, u128) {
        let text = |bit, text: &Option<String>| {
            let text = text.as_deref()?;
            Some((bit, self.text(bit, text)))
        };
        [
            members.ticket.map(|id| (TICKET, self.id(TICKET, &id.0))),
            members.node.as_ref().map(|node| (NODE, self.node(node))),
            members.launch.map(|id| (LAUNCH, self.id(LAUNCH, &id.0))),
            text(ACCOUNT, &members.account),
            text(REGION, &members.region),
            text(IMAGE, &members.image),
            members.dataset.map(|id| (DATASET, self.id(DATASET, &id.0))),
        ]
        .into_iter()
        .flatten()
        .fold((0, 0), |(kind, key), (bit, hash)| (kind | bit, key ^ hash))
    }

    /// The same of a selector that was read in place.
    pub(super) fn outline(&self, outline: &Outline<'_>) -> (Kind, u128) {
        // A name is hashed without its beginning, which all have.
        let node = outline
            .node
            .map(|node| node.strip_prefix("ec2/").unwrap_or(node));
        let id = |bit, id: Option<&[u8; 16]>| Some((bit, self.id(bit, id?)));
        let text = |bit, text: Option<&str>| Some((bit, self.text(bit, text?)));
        [
            id(TICKET, outline.ticket),
            text(NODE, node),
            id(LAUNCH, outline.launch),
            text(ACCOUNT, outline.account),
            text(REGION, outline.region),
            text(IMAGE, outline.image),
            id(DATASET, outline.dataset),
        ]
        .into_iter()
        .flatten()
        .fold((0, 0), |(kind, key), (bit, hash)| (kind | bit, key ^ hash))
    }

    /// The hashes of a ticket's members, as far as they are wanted.
    pub(super) fn facts(&self, facts: &TicketFacts<'_>, wanted: Kind) -> Hashes {
        let wants = |bit| wanted & bit != 0;
        let ticket = |id: Option<TicketId>| {
            let id = id.filter(|_| wants(TICKET))?;
            Some(self.id(TICKET, &id.0))
        };
        let mut others = [0; 6];
        if wants(NODE) {
            others[0] = self.node(facts.node);
        }
        if wants(LAUNCH) {
            others[1] = self.id(LAUNCH, &facts.launch.0);
        }
        if wants(ACCOUNT) {
            others[2] = self.text(ACCOUNT, facts.node.account());
        }
        if wants(REGION) {
            others[3] = self.text(REGION, facts.node.region());
        }
        if wants(IMAGE) {
            others[4] = self.text(IMAGE, facts.image);
        }
        if let Some(id) = facts.dataset.filter(|_| wants(DATASET)) {
            others[5] = self.id(DATASET, &id.0);
        }
        Hashes {
            ticket: ticket(facts.ticket),
            parent: ticket(facts.parent),
            others,
        }
    }
}

impl Hashes {
    /// The key of what these facts have of a kind, less the ticket's id.
    pub(super) fn without_ticket(&self, kind: Kind) -> u128 {
        let mut key = 0;
        for (index, hash) in self.others.iter().enumerate() {
            // All ones or all zeros: a branch for each bit of each kind would be guessed wrong often.
            let mask = u128::from(kind >> (index + 1) & 1).wrapping_neg();
            key ^= hash & mask;
        }
        key
    }
}
