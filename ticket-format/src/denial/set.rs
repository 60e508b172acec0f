//! The denials in force, as a broker or key server asks them before every answer.
//!
//! A question hashes each member of the ticket once and then reads one word of a filter for each
//! *kind* of denial in force (which members it names; there are at most 128, in practice a handful),
//! however many denials there are, and without allocation. What passes the filter is looked up.
//!
//! The denials lie in shards of a tree with two levels, each behind an `Arc`: a clone costs nothing,
//! and a change of a clone copies one shard and the two branches above it. A denial takes 32 bytes
//! there, a quarter more at most for the slack of its shard, and 4 to 8 bytes of the filter: a
//! million take some 40 MB.

mod entry;
mod filter;
mod hash;
mod tree;

use crate::cbor::DecodeError;
use crate::ids::{DatasetId, LaunchId, NodeId, TicketId};
use crate::time::Timestamp;

use super::Denial;
use super::outline::Outline;
use entry::Entry;
use filter::Filter;
use hash::{DATASET, Hasher, Kind, TICKET};
use tree::Tree;

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

/// An epoch beyond what a set can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch from 2^45 on cannot be held in memory")]
pub struct TooMany;

/// Why a stored denial cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is not a denial.
    #[error("not a denial: {0}")]
    Malformed(#[from] DecodeError),
    /// Its epoch.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// The denials in force. Cloning is cheap, and so is a change of a clone.
#[derive(Clone, Debug, Default)]
pub struct DenialSet {
    hasher: Hasher,
    /// The kinds in force, and how many denials each has.
    kinds: Vec<(Kind, usize)>,
    filter: Filter,
    tree: Tree,
}

/// Many denials on their way into a set. One at a time they would each be put into a shard of their
/// own somewhere in memory; together they are sorted once.
#[derive(Debug)]
pub struct Loader {
    hasher: Hasher,
    entries: Vec<Entry>,
}

impl DenialSet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty set whose hashes nobody can foretell who does not know the seed: a server draws one
    /// when it starts.
    #[must_use]
    pub fn seeded(seed: &[u8; 16]) -> Self {
        Self {
            hasher: Hasher::new(seed),
            ..Self::default()
        }
    }

    /// How many denials there are. Two of one selector are two.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.iter().map(|(_, count)| count).sum()
    }

    /// Whether nothing is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Adds a denial under its epoch. A second time it changes nothing.
    ///
    /// # Errors
    /// [`TooMany`]; the set is unchanged.
    pub fn insert(&mut self, denial: &Denial, epoch: u64) -> Result<(), TooMany> {
        let entry = entry(&self.hasher, denial, epoch)?;
        if self.tree.insert(entry) {
            self.count(entry.kind());
            if self.filter.is_full() {
                self.refilter();
            } else {
                self.filter.add(entry.key());
            }
        }
        Ok(())
    }

    fn count(&mut self, kind: Kind) {
        match self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => self.kinds.push((kind, 1)),
        }
    }

    fn refilter(&mut self) {
        let keys = self.tree.entries().map(Entry::key);
        self.filter = Filter::of(self.len(), keys);
    }

    /// The denial that these facts meet, if any: of several by one selector the widest.
    #[must_use]
    pub fn check(&self, facts: &TicketFacts<'_>) -> Option<Hit> {
        // rule: DEN-2
        let wanted = self.kinds.iter().fold(0, |all, (kind, _)| all | kind);
        let hashes = self.hasher.facts(facts, wanted);
        let probe = |key| {
            if !self.filter.may_have(key) {
                return None;
            }
            let entry = self.tree.widest(key)?;
            let hit = entry.hits(facts.issued);
            hit.then_some(Hit {
                epoch: entry.epoch(),
            })
        };
        self.kinds.iter().find_map(|(kind, _)| {
            if kind & DATASET != 0 && facts.dataset.is_none() {
                return None;
            }
            let rest = hashes.without_ticket(*kind);
            if kind & TICKET == 0 {
                return probe(rest);
            }
            // A node ticket's id hits the dataset tickets that were issued on it.
            let of = |ticket: Option<u128>| ticket.and_then(|ticket| probe(rest ^ ticket));
            of(hashes.ticket).or_else(|| of(hashes.parent))
        })
    }

    /// Removes exactly the denials of these epochs (DEN-9); others with equal selectors stay. Epochs
    /// that the set does not have are passed over. It reads the whole set once.
    pub fn lift(&mut self, epochs: &[u64]) {
        // rule: DEN-9
        let mut epochs = epochs.to_vec();
        epochs.sort_unstable();
        if epochs.is_empty() {
            return;
        }
        let gone = self
            .tree
            .remove(None, |entry| epochs.binary_search(&entry.epoch()).is_ok());
        self.forget(&gone);
    }

    /// Forgets what can hit no ticket any more (DEN-7). Where nothing is due it costs nothing, and
    /// else a look at the shards where something is.
    pub fn prune(&mut self, now: Timestamp) {
        // rule: DEN-7
        let gone = self.tree.remove(Some(now), |entry| entry.is_over(now));
        self.forget(&gone);
    }

    fn forget(&mut self, gone: &[Kind]) {
        for kind in gone {
            if let Some((_, count)) = self.kinds.iter_mut().find(|(known, _)| known == kind) {
                *count = count.saturating_sub(1);
            }
        }
        self.kinds.retain(|(_, count)| *count > 0);
    }
}

impl Loader {
    /// A loader of a set with this seed; see [`DenialSet::seeded`].
    #[must_use]
    pub fn new(seed: &[u8; 16]) -> Self {
        Self {
            hasher: Hasher::new(seed),
            entries: Vec::new(),
        }
    }

    /// Adds a denial under its epoch.
    ///
    /// # Errors
    /// [`TooMany`]; what was added before stays.
    pub fn insert(&mut self, denial: &Denial, epoch: u64) -> Result<(), TooMany> {
        self.entries.push(entry(&self.hasher, denial, epoch)?);
        Ok(())
    }

    /// Adds a denial as it is stored: its members are read in place, and nothing is copied.
    ///
    /// # Errors
    /// [`LoadError`]; what was added before stays.
    pub fn read(&mut self, denial: &[u8], epoch: u64) -> Result<(), LoadError> {
        let outline = Outline::read(denial)?;
        let (kind, key) = self.hasher.outline(&outline);
        let entry = Entry::new(key, kind, outline.issued_before, epoch, outline.forget)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Puts what was added in order, which [`Loader::finish`] does not have to do then: several loaders
    /// can do it at the same time.
    pub fn sort(&mut self) {
        self.entries.sort_unstable();
    }

    /// Adds what another loader of the same seed took.
    pub fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// The set of all of them.
    #[must_use]
    pub fn finish(self) -> DenialSet {
        let mut set = DenialSet {
            hasher: self.hasher,
            tree: Tree::of(self.entries),
            ..DenialSet::default()
        };
        let tree = set.tree.clone();
        tree.entries().for_each(|entry| set.count(entry.kind()));
        set.refilter();
        set
    }
}

fn entry(hasher: &Hasher, denial: &Denial, epoch: u64) -> Result<Entry, TooMany> {
    let members = denial.selector.members();
    let (kind, key) = hasher.selector(members);
    Entry::new(key, kind, members.issued_before, epoch, denial.forget)
}

#[cfg(test)]
mod tests;
