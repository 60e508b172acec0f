//! What is remembered of one log: checkpoints, each of which all that was seen of the log leads to.

use std::collections::BTreeMap;
use std::sync::Arc;

use ticket_format::tlog::{Checkpoint, NotANote, SignedCheckpoint};

/// Most checkpoints that are kept of one log. There is one, but while receipts of a busy server come in.
pub(super) const MOST: usize = 256;

/// A checkpoint whose log's signatures were verified, and its note without cosignatures: those prove
/// nothing here, and take room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) checkpoint: Checkpoint,
    pub(super) note: Arc<str>,
}

/// Shard and size.
pub(super) type Place = (u64, u64);

impl Known {
    pub(super) fn of(signed: &SignedCheckpoint) -> Self {
        let checkpoint = signed.checkpoint().clone();
        let own = format!("\u{2014} {} ", checkpoint.shard);
        let mut note = checkpoint.text();
        note.push('\n');
        let lines = signed.note().split_inclusive('\n');
        lines
            .filter(|line| line.starts_with(&own))
            .for_each(|line| note.push_str(line));
        Self {
            checkpoint,
            note: note.into(),
        }
    }

    /// Reads a note from a file of ours. Its signatures are verified where it is used.
    pub(super) fn of_file(note: &str) -> Result<Self, NotANote> {
        Ok(Self {
            checkpoint: Checkpoint::of_note_unverified(note)?,
            note: note.into(),
        })
    }

    pub(super) fn place(&self) -> Place {
        (self.checkpoint.shard.number, self.checkpoint.size)
    }
}

/// Two checkpoints of one log, shard and size, with different roots: both are signed, and no log holds
/// both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TwoRoots {
    pub(super) known: Known,
    pub(super) shown: Known,
}

/// The checkpoints that are remembered. Every one that was ever seen is proven to lead to one of them,
/// or is one of them; that there is one log, is proven once one of them is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tips(BTreeMap<Place, Known>);

impl Tips {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Known> {
        self.0.values()
    }

    /// The largest.
    pub(super) fn newest(&self) -> Option<&Known> {
        self.0.values().next_back()
    }

    /// Adds one; true if it was not there.
    pub(super) fn add(&mut self, shown: Known) -> Result<bool, Box<TwoRoots>> {
        // rule: TLOG-5
        match self.0.get(&shown.place()) {
            Some(known) if known.checkpoint.root != shown.checkpoint.root => {
                Err(Box::new(TwoRoots {
                    known: known.clone(),
                    shown,
                }))
            }
            Some(_) => Ok(false),
            None => {
                self.0.insert(shown.place(), shown);
                Ok(true)
            }
        }
    }

    /// Puts what was proven to come of a checkpoint in its place.
    pub(super) fn lead(&mut self, from: &Known, to: Known) -> Result<(), Box<TwoRoots>> {
        self.add(to.clone())?;
        if from.place() != to.place() {
            self.0.remove(&from.place());
        }
        Ok(())
    }

    /// Joins what two have made of the same beginning. What one of them has left out, since it was
    /// proven to lead to another or since a person said so, stays out.
    pub(super) fn join(&self, other: &Self, beginning: &Self) -> Result<Self, Box<TwoRoots>> {
        let mut joined = Self::default();
        for (ours, theirs) in [(self, other), (other, self)] {
            for known in ours.iter() {
                let place = known.place();
                // Compared first: a contradiction is one, whatever becomes of it.
                if let Some(same) = theirs.0.get(&place)
                    && same.checkpoint.root != known.checkpoint.root
                {
                    return Err(Box::new(TwoRoots {
                        known: same.clone(),
                        shown: known.clone(),
                    }));
                }
                let both = theirs.0.contains_key(&place);
                let new = !beginning.0.contains_key(&place);
                if both || new {
                    joined.add(known.clone())?;
                }
            }
        }
        while joined.len() > MOST {
            // So many untied ones are left by many processes that were killed.
            joined.0.pop_first();
        }
        Ok(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(size: u64, root: u8) -> Known {
        let checkpoint = Checkpoint {
            shard: "test/broker/1/1".parse().unwrap(),
            size,
            root: [root; 32],
        };
        Known {
            note: checkpoint.text().into(),
            checkpoint,
        }
    }

    fn tips(known: &[Known]) -> Tips {
        let mut tips = Tips::default();
        for known in known {
            tips.add(known.clone()).unwrap();
        }
        tips
    }

    #[test]
    fn two_roots_of_one_size_are_a_contradiction_and_nothing_is_replaced() {
        // rule: TLOG-5
        let mut one = tips(&[known(3, 1)]);
        assert_eq!(one.add(known(3, 1)), Ok(false));
        let refused = one.add(known(3, 2)).unwrap_err();
        assert_eq!((refused.known, refused.shown), (known(3, 1), known(3, 2)));
        assert_eq!(one, tips(&[known(3, 1)]));
        assert!(one.lead(&known(2, 1), known(3, 2)).is_err());
        let other = tips(&[known(3, 2)]);
        for beginning in [Tips::default(), one.clone(), other.clone()] {
            assert!(one.join(&other, &beginning).is_err());
        }
    }

    #[test]
    fn processes_that_share_a_file_lose_nothing_and_bring_nothing_back() {
        // rule: TLOG-5
        let beginning = tips(&[known(1, 1), known(2, 2)]);
        // One has tied both of them; the other has seen one more.
        let one = tips(&[known(5, 5)]);
        let other = tips(&[known(1, 1), known(2, 2), known(4, 4)]);
        let joined = tips(&[known(4, 4), known(5, 5)]);
        assert_eq!(one.join(&other, &beginning), Ok(joined.clone()));
        assert_eq!(other.join(&one, &beginning), Ok(joined));
        // A person has told this machine to forget them.
        let forgotten = other.join(&Tips::default(), &beginning);
        assert_eq!(forgotten, Ok(tips(&[known(4, 4)])));
        assert_eq!(one.join(&one, &one), Ok(one.clone()));
    }

    #[test]
    fn what_came_of_a_checkpoint_takes_its_place() {
        // rule: TLOG-6
        let mut tips = tips(&[known(1, 1), known(2, 2)]);
        tips.lead(&known(1, 1), known(3, 3)).unwrap();
        tips.lead(&known(2, 2), known(3, 3)).unwrap();
        tips.lead(&known(3, 3), known(3, 3)).unwrap();
        assert_eq!(tips.iter().cloned().collect::<Vec<_>>(), [known(3, 3)]);
        assert_eq!(tips.newest(), Some(&known(3, 3)));
    }
}
