//! A shard's tree as its checkpoint fixes it: tiles are taken only where they lead to the signed root, so
//! any entry can be read, and any older size compared, without reading the rest.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use ticket_format::tlog::{Checkpoint, Hash, merkle};

use super::published::{Fault, Finding, Published, WIDTH, What};

/// Levels of the tree between two levels of tiles.
const LEVELS: u32 = 8;
/// Most tiles that are remembered.
const REMEMBERED: usize = 4_096;

/// The complete subtrees that a tree of some size consists of, as they come from the left.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    size: u64,
    waiting: Vec<Hash>,
}

impl Edge {
    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.waiting.pop() {
                node = merkle::node_hash(&left, &node);
            }
        }
        self.waiting.push(node);
        self.size += 1;
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Their root.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.waiting)
    }
}

/// The root over complete subtrees, the largest first.
fn fold(subtrees: &[Hash]) -> Hash {
    let mut from_right = subtrees.iter().rev();
    let Some(last) = from_right.next() else {
        return merkle::empty_root();
    };
    from_right.fold(*last, |root, left| merkle::node_hash(left, &root))
}

/// The root of neighbours on one level, whose number is a power of two.
#[must_use]
pub fn root_of(nodes: &[Hash]) -> Hash {
    let mut level = nodes.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => merkle::node_hash(left, right),
                one => one[0],
            })
            .collect();
    }
    level.first().copied().unwrap_or_else(merkle::empty_root)
}

/// Hashes that were held against the signed root.
type Tile = Rc<Vec<Hash>>;

/// Verified tiles of one shard at one size.
#[derive(Debug)]
pub struct Tree<'a> {
    log: &'a Published,
    shard: u64,
    size: u64,
    tiles: RefCell<HashMap<(u8, u64), Tile>>,
    /// The partial tile of each level: what the root is made of.
    edge: Vec<Tile>,
}

impl<'a> Tree<'a> {
    /// The tree of a checkpoint that was verified: its right edge is read and led to the root.
    ///
    /// # Errors
    /// [`Fault`]; [`What::Root`] where it leads to another.
    pub fn open(log: &'a Published, checkpoint: &Checkpoint) -> Result<Self, Fault> {
        let (shard, size) = (checkpoint.shard.number, checkpoint.size);
        let mut edge = Vec::new();
        let mut level: u8 = 0;
        while level < 8 && size >> (LEVELS * u32::from(level)) > 0 {
            let stored = size >> (LEVELS * u32::from(level));
            let width = usize::try_from(stored % WIDTH).unwrap_or(0);
            edge.push(Rc::new(if width == 0 {
                Vec::new()
            } else {
                log.stored_tile(shard, level, stored / WIDTH, width)?
            }));
            level += 1;
        }
        let mut subtrees = Vec::new();
        for tile in edge.iter().rev() {
            let mut from = 0;
            for bit in (0..LEVELS).rev() {
                let count = 1_usize << bit;
                if tile.len() & count != 0 {
                    subtrees.push(root_of(&tile[from..from + count]));
                    from += count;
                }
            }
        }
        if fold(&subtrees) != checkpoint.root {
            let why = "the tiles lead to another root than the one that was signed";
            return Err(Finding::new(What::Root, shard, why).into());
        }
        Ok(Self {
            log,
            shard,
            size,
            tiles: RefCell::default(),
            edge,
        })
    }

    /// How many entries it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A tile, held against the tile above it.
    fn tile(&self, level: u8, index: u64) -> Result<Tile, Fault> {
        let stored = self
            .size
            .checked_shr(LEVELS * u32::from(level))
            .unwrap_or(0);
        if index >= stored / WIDTH {
            let edge = self.edge.get(usize::from(level)).cloned();
            return edge
                .filter(|_| index == stored / WIDTH)
                .ok_or_else(|| self.beyond().into());
        }
        if let Some(tile) = self.tiles.borrow().get(&(level, index)) {
            return Ok(Rc::clone(tile));
        }
        let tile = Rc::new(self.log.stored_tile(self.shard, level, index, 256)?);
        let above = self.tile(level + 1, index / WIDTH)?;
        let place = usize::try_from(index % WIDTH).unwrap_or(0);
        if above.get(place) != Some(&root_of(&tile)) {
            let why = format!("tile {level}/{index} is not what the signed root fixes");
            return Err(Finding::new(What::Tile, self.shard, why).into());
        }
        let mut tiles = self.tiles.borrow_mut();
        if tiles.len() >= REMEMBERED {
            tiles.clear();
        }
        tiles.insert((level, index), Rc::clone(&tile));
        Ok(tile)
    }

    fn beyond(&self) -> Finding {
        let why = format!("it has only {} entries", self.size);
        Finding::new(What::Truncated, self.shard, why)
    }

    /// The root of the complete subtree of `2^height` leaves with this number.
    fn subtree(&self, height: u32, index: u64) -> Result<Hash, Fault> {
        let (level, up) = (height / LEVELS, height % LEVELS);
        let first = index << up;
        let tile = self.tile(u8::try_from(level).unwrap_or(u8::MAX), first / WIDTH)?;
        let from = usize::try_from(first % WIDTH).unwrap_or(0);
        let nodes = tile.get(from..from + (1 << up));
        nodes.map(root_of).ok_or_else(|| self.beyond().into())
    }

    /// The root that the tree had when it was this large: what consistency is (RFC 9162, 2.1.4).
    ///
    /// # Errors
    /// [`Fault`]; it was never so large.
    pub fn root_at(&self, size: u64) -> Result<Hash, Fault> {
        if size > self.size {
            return Err(self.beyond().into());
        }
        let mut subtrees = Vec::new();
        for height in (0..u64::BITS).rev().filter(|bit| size >> bit & 1 == 1) {
            let start = size >> height & !1;
            subtrees.push(self.subtree(height, start)?);
        }
        Ok(fold(&subtrees))
    }

    /// The inclusion proof of an entry (RFC 9162, 2.1.3).
    ///
    /// # Errors
    /// [`Fault`]; the entry is not in the tree.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>, Fault> {
        if index >= self.size {
            return Err(self.beyond().into());
        }
        let (mut start, mut end) = (0, self.size);
        let mut path = Vec::new();
        while end - start > 1 {
            let middle = start + left(end - start);
            if index < middle {
                path.push(self.range(middle, end)?);
                end = middle;
            } else {
                path.push(self.range(start, middle)?);
                start = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The root of the leaves from `start` to before `end`; `start` is aligned to what is left of it.
    fn range(&self, start: u64, end: u64) -> Result<Hash, Fault> {
        let count = end - start;
        if count.is_power_of_two() {
            return self.subtree(count.trailing_zeros(), start / count);
        }
        let middle = start + left(count);
        Ok(merkle::node_hash(
            &self.range(start, middle)?,
            &self.range(middle, end)?,
        ))
    }

    /// Shows each entry from one index to before another, once it was held against the tree.
    ///
    /// # Errors
    /// [`Fault`] of the log, or what `each` gives.
    pub fn entries<E: From<Fault>>(
        &self,
        from: u64,
        to: u64,
        mut each: impl FnMut(u64, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let to = to.min(self.size);
        let mut bundle = from / WIDTH;
        while bundle * WIDTH < to {
            let first = bundle * WIDTH;
            let width = usize::try_from((self.size - first).min(WIDTH)).unwrap_or(256);
            let leaves = self.tile(0, bundle)?;
            let entries = self
                .log
                .stored_bundle(self.shard, bundle, width)?
                .ok_or_else(|| {
                    let why = format!("the bundle {bundle} is not there");
                    Fault::from(Finding::new(What::Deleted, self.shard, why).at(first))
                })?;
            if entries.len() < width {
                let at = first + entries.len() as u64;
                let why = "the bundle ends before it";
                return Err(
                    Fault::from(Finding::new(What::Deleted, self.shard, why).at(at)).into(),
                );
            }
            for (at, (entry, leaf)) in entries.into_iter().zip(leaves.iter()).enumerate() {
                let index = first + at as u64;
                if merkle::leaf_hash(&entry) != *leaf {
                    let why = "it is not the entry that the signed root fixes";
                    let finding = Finding::new(What::Edited, self.shard, why).at(index);
                    return Err(Fault::from(finding).into());
                }
                if (from..to).contains(&index) {
                    each(index, entry)?;
                }
            }
            bundle += 1;
        }
        Ok(())
    }
}

/// The largest power of two below `count`, which is at least 2.
fn left(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_leads_to_the_root_of_the_definition() {
        fn defined(leaves: &[Hash]) -> Hash {
            match leaves {
                [] => merkle::empty_root(),
                [one] => *one,
                more => {
                    let at = usize::try_from(left(more.len() as u64)).unwrap();
                    merkle::node_hash(&defined(&more[..at]), &defined(&more[at..]))
                }
            }
        }
        let mut edge = Edge::default();
        let mut leaves = Vec::new();
        for number in 0..300_u32 {
            assert_eq!(edge.root(), defined(&leaves), "{number}");
            let leaf = merkle::leaf_hash(&number.to_be_bytes());
            leaves.push(leaf);
            edge.push(leaf);
        }
        assert_eq!(edge.size(), 300);
        assert_eq!(root_of(&leaves[..256]), defined(&leaves[..256]));
    }
}
