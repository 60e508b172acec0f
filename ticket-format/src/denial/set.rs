//! The denials in force, as a broker or key server asks them before every answer.
//!
//! A question costs one hash for each *kind* of denial in force (which members it names; there are
//! at most 128, in practice a handful), however many denials there are.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::cbor::{Encode, Writer};
use crate::ids::{DatasetId, LaunchId, NodeId, TicketId};
use crate::time::Timestamp;

use super::Denial;
use super::selector::Members;

/// What a denial may be about, of one ticket or of a node that asks for one.
#[derive(Clone, Copy, Debug)]
pub struct TicketFacts<'a> {
    /// The ticket's id; none at login and renew.
    pub ticket: Option<TicketId>,
    /// The node ticket that a dataset ticket was issued on.
    pub parent: Option<TicketId>,
    /// The node.
    pub node: &'a NodeId,
    /// Its launch.
    pub launch: LaunchId,
    /// Its image.
    pub image: &'a str,
    /// A dataset ticket's dataset.
    pub dataset: Option<DatasetId>,
    /// When the ticket was issued; at login and renew, now.
    pub issued: Timestamp,
}

/// The denial that was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its epoch, by which the store knows its reason.
    pub epoch: u64,
}

/// Which members a selector names, one bit for each. `issued_before` is not among them: it is
/// compared, not looked up.
type Kind = u8;

/// SHA-256 of the selector's members, cut to 128 bits. Equal members give equal keys, so no denied
/// ticket is missed. Two different selectors with one key would deny somebody innocent: for a
/// million denials and any one ticket the odds are 2^-108. Who searches for two that collide
/// (2^64 work) only wins a denial of his own.
type Key = [u32; 4];

/// In 24 bytes, what a denial says beyond its key. Kept apart from the map, so that the map that
/// misses are looked up in stays small: 21 bytes for each slot.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// `u64::MAX`: whenever it was issued.
    issued_before: u64,
    epoch: u64,
    forget: Timestamp,
}

/// The denials in force. One million take some 70 MiB at most.
#[derive(Clone, Debug, Default)]
pub struct DenialSet {
    kinds: HashMap<Kind, HashMap<Key, u32>>,
    terms: Vec<Terms>,
}

/// More denials than an index of 32 bits counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than four thousand million denials are in force: prune them")]
pub struct TooMany;

impl DenialSet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many different selectors there are, not counting their times.
    #[must_use]
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether nothing is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Adds a denial. One for the same selector is merged: the later time wins, and what was denied
    /// stays denied until both may be forgotten.
    ///
    /// # Errors
    /// [`TooMany`]; the set is unchanged.
    pub fn insert(&mut self, denial: &Denial, epoch: u64) -> Result<(), TooMany> {
        let members = denial.selector.members();
        let issued_before = members.issued_before.map_or(u64::MAX, Timestamp::seconds);
        let terms = Terms {
            issued_before,
            epoch,
            forget: denial.forget,
        };
        let next = u32::try_from(self.terms.len()).map_err(|_| TooMany)?;
        let index = *self
            .kinds
            .entry(kind(members))
            .or_default()
            .entry(key(members))
            .or_insert(next);
        match self.terms.get_mut(index as usize) {
            None => self.terms.push(terms),
            Some(old) => {
                if terms.issued_before > old.issued_before {
                    (old.issued_before, old.epoch) = (terms.issued_before, terms.epoch);
                }
                old.forget = old.forget.max(terms.forget);
            }
        }
        Ok(())
    }

    /// The denial that these facts meet, if any.
    #[must_use]
    pub fn check(&self, facts: &TicketFacts<'_>) -> Option<Hit> {
        // rule: DEN-2
        self.kinds.iter().find_map(|(kind, denials)| {
            // A node ticket's id hits the dataset tickets that were issued on it.
            let tickets = [facts.ticket, facts.parent];
            let candidates = if kind & TICKET == 0 {
                &[None][..]
            } else {
                &tickets[..]
            };
            candidates.iter().find_map(|ticket| {
                let members = project(*kind, facts, *ticket)?;
                let terms = self.terms.get(*denials.get(&key(&members))? as usize)?;
                (facts.issued.seconds() < terms.issued_before).then_some(Hit { epoch: terms.epoch })
            })
        })
    }

    /// Forgets what can hit no ticket any more (DEN-7).
    pub fn prune(&mut self, now: Timestamp) {
        // rule: DEN-7
        let mut kept = Vec::with_capacity(self.terms.len());
        for denials in self.kinds.values_mut() {
            denials.retain(|_, index| match self.terms.get(*index as usize) {
                Some(terms) if terms.forget > now => {
                    // Not more than before, and those had indices of 32 bits.
                    *index = kept.len() as u32;
                    kept.push(*terms);
                    true
                }
                _ => false,
            });
            denials.shrink_to_fit();
        }
        self.kinds.retain(|_, denials| !denials.is_empty());
        kept.shrink_to_fit();
        self.terms = kept;
    }
}

const TICKET: Kind = 1;
const NODE: Kind = 2;
const LAUNCH: Kind = 4;
const ACCOUNT: Kind = 8;
const REGION: Kind = 16;
const IMAGE: Kind = 32;
const DATASET: Kind = 64;

fn kind(members: &Members) -> Kind {
    let bit = |present: bool, bit: Kind| if present { bit } else { 0 };
    bit(members.ticket.is_some(), TICKET)
        | bit(members.node.is_some(), NODE)
        | bit(members.launch.is_some(), LAUNCH)
        | bit(members.account.is_some(), ACCOUNT)
        | bit(members.region.is_some(), REGION)
        | bit(members.image.is_some(), IMAGE)
        | bit(members.dataset.is_some(), DATASET)
}

/// The selector of this kind that these facts meet; none when they lack a member.
fn project(kind: Kind, facts: &TicketFacts<'_>, ticket: Option<TicketId>) -> Option<Members> {
    let mut members = Members::default();
    if kind & TICKET != 0 {
        members.ticket = Some(ticket?);
    }
    if kind & NODE != 0 {
        members.node = Some(facts.node.clone());
    }
    if kind & LAUNCH != 0 {
        members.launch = Some(facts.launch);
    }
    if kind & ACCOUNT != 0 {
        members.account = Some(facts.node.account().to_owned());
    }
    if kind & REGION != 0 {
        members.region = Some(facts.node.region().to_owned());
    }
    if kind & IMAGE != 0 {
        members.image = Some(facts.image.to_owned());
    }
    if kind & DATASET != 0 {
        members.dataset = Some(facts.dataset?);
    }
    Some(members)
}

fn key(members: &Members) -> Key {
    let mut members = members.clone();
    members.issued_before = None;
    let mut writer = Writer::with_capacity(256);
    members.encode(&mut writer);
    let digest = Sha256::digest(writer.into_bytes());
    std::array::from_fn(|word| {
        let at = word * 4;
        u32::from_be_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]])
    })
}
