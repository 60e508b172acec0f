//! Proofs from tiles: in memory (the open shard and the one before it) or on disk (older shards).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ticket_format::tlog::{Hash, merkle};

use crate::tree::Grown;

/// Hashes of a tile, and levels of the tree between two levels of tiles (C2SP tlog-tiles).
pub(crate) const TILE: u64 = 256;
pub(crate) const TILE_LEVELS: usize = 8;

/// Where the hashes of one tree are kept: every eighth level of its complete nodes, in pieces of 256.
pub(crate) trait Tiles {
    type Error;
    /// Tile `index` of a level, with at least `width` hashes.
    fn tile(&self, level: u8, index: u64, width: usize) -> Result<Arc<Vec<Hash>>, Self::Error>;
    /// A tile is too short.
    fn short(&self, level: u8, index: u64) -> Self::Error;
    /// A complete node of any level, where it is kept: else it is made of those of a tile.
    fn node(&self, level: usize, index: u64) -> Option<Hash> {
        let _ = (level, index);
        None
    }
}

/// Hashes of a tree in memory, 64 bytes for each leaf. Locked for moments.
#[derive(Default)]
pub(crate) struct Memory {
    levels: Mutex<Vec<Vec<Arc<Vec<Hash>>>>>,
    /// The complete nodes of the levels between those of tiles, by level. A proof needs some of each, and one
    /// of the seventh level is 127 hashes away from its tile.
    between: Mutex<Vec<Vec<Hash>>>,
}

/// The memory does not hold so large a tree.
#[derive(Debug)]
pub(crate) struct NotThere;

impl Memory {
    /// Adds what a batch added.
    pub(crate) fn extend(&self, grown: &Grown) {
        self.extend_between(grown);
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        for level in 0.. {
            let new = grown.new_nodes(level * TILE_LEVELS);
            if new.is_empty() {
                break;
            }
            if levels.len() <= level {
                levels.push(Vec::new());
            }
            let tiles = &mut levels[level];
            for hash in new {
                match tiles.last_mut() {
                    Some(tile) if (tile.len() as u64) < TILE => Arc::make_mut(tile).push(*hash),
                    _ => {
                        let mut tile = Vec::with_capacity(TILE as usize);
                        tile.push(*hash);
                        tiles.push(Arc::new(tile));
                    }
                }
            }
        }
    }
}

impl Memory {
    fn extend_between(&self, grown: &Grown) {
        let mut between = self.between.lock().unwrap_or_else(PoisonError::into_inner);
        for level in 1.. {
            let new = grown.new_nodes(level);
            if new.is_empty() {
                break;
            }
            if between.len() <= level {
                between.resize(level + 1, Vec::new());
            }
            if level % TILE_LEVELS != 0 {
                between[level].extend_from_slice(new);
            }
        }
    }
}

impl Tiles for Memory {
    type Error = NotThere;

    fn node(&self, level: usize, index: u64) -> Option<Hash> {
        let between = self.between.lock().unwrap_or_else(PoisonError::into_inner);
        between
            .get(level)?
            .get(usize::try_from(index).ok()?)
            .copied()
    }

    fn tile(&self, level: u8, index: u64, width: usize) -> Result<Arc<Vec<Hash>>, NotThere> {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels
            .get(usize::from(level))
            .and_then(|tiles| tiles.get(usize::try_from(index).ok()?))
            .filter(|tile| tile.len() >= width)
            .cloned()
            .ok_or(NotThere)
    }

    fn short(&self, _level: u8, _index: u64) -> NotThere {
        NotThere
    }
}

/// Tiles by level and index.
type Seen = HashMap<(u8, u64), Arc<Vec<Hash>>>;

/// Proves on a tree of at least `size` leaves.
pub(crate) struct Prover<'a, T: Tiles> {
    tiles: &'a T,
    size: u64,
    seen: RefCell<Seen>,
}

impl<'a, T: Tiles> Prover<'a, T> {
    pub(crate) fn new(tiles: &'a T, size: u64) -> Self {
        Self {
            tiles,
            size,
            seen: RefCell::new(HashMap::new()),
        }
    }

    pub(crate) fn root(&self) -> Result<Hash, T::Error> {
        match self.size {
            0 => Ok(merkle::empty_root()),
            size => self.range(0, size),
        }
    }

    pub(crate) fn leaf(&self, index: u64) -> Result<Hash, T::Error> {
        self.range(index, index + 1)
    }

    /// PATH(index, D[size]) of RFC 9162, 2.1.3.1. `index` must be below the size.
    pub(crate) fn inclusion(&self, index: u64) -> Result<Vec<Hash>, T::Error> {
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

    /// PROOF(old, D[size]) of RFC 9162, 2.1.4.1; empty when `old` is 0 or the size. `old` must not
    /// exceed the size.
    pub(crate) fn consistency(&self, old: u64) -> Result<Vec<Hash>, T::Error> {
        let (mut start, mut end) = (0, self.size);
        let (mut path, mut known) = (Vec::new(), true);
        if old == 0 {
            return Ok(path);
        }
        while old != end {
            let middle = start + left(end - start);
            if old <= middle {
                path.push(self.range(middle, end)?);
                end = middle;
            } else {
                path.push(self.range(start, middle)?);
                (start, known) = (middle, false);
            }
        }
        if !known {
            path.push(self.range(start, end)?);
        }
        path.reverse();
        Ok(path)
    }

    /// The root of the leaves from `start` to before `end`, where `start` is a multiple of the smallest
    /// power of two that is not below their number.
    fn range(&self, start: u64, end: u64) -> Result<Hash, T::Error> {
        let count = end - start;
        if count.is_power_of_two() {
            return self.complete(count.trailing_zeros() as usize, start / count);
        }
        let middle = start + left(count);
        Ok(merkle::node_hash(
            &self.range(start, middle)?,
            &self.range(middle, end)?,
        ))
    }

    fn complete(&self, level: usize, index: u64) -> Result<Hash, T::Error> {
        if let Some(node) = self.tiles.node(level, index) {
            return Ok(node);
        }
        let (tile_level, up) = (level / TILE_LEVELS, level % TILE_LEVELS);
        let first = index << up;
        let tile_index = first / TILE;
        let stored = self.size >> (tile_level * TILE_LEVELS);
        let width = (stored - tile_index * TILE).min(TILE) as usize;
        // There are at most 64 levels.
        let tile_level = u8::try_from(tile_level).unwrap_or(u8::MAX);
        let tile = self.tile(tile_level, tile_index, width)?;
        let at = (first % TILE) as usize;
        let mut hashes = tile
            .get(at..at + (1 << up))
            .ok_or_else(|| self.tiles.short(tile_level, tile_index))?
            .to_vec();
        while hashes.len() > 1 {
            hashes = hashes
                .chunks_exact(2)
                .map(|pair| merkle::node_hash(&pair[0], &pair[1]))
                .collect();
        }
        match hashes.first() {
            Some(hash) => Ok(*hash),
            None => Err(self.tiles.short(tile_level, tile_index)),
        }
    }

    fn tile(&self, level: u8, index: u64, width: usize) -> Result<Arc<Vec<Hash>>, T::Error> {
        if let Some(tile) = self.seen.borrow().get(&(level, index)) {
            return Ok(Arc::clone(tile));
        }
        let tile = self.tiles.tile(level, index, width)?;
        self.seen
            .borrow_mut()
            .insert((level, index), Arc::clone(&tile));
        Ok(tile)
    }
}

/// The largest power of two below `count`, which is at least 2.
fn left(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Edge;

    #[test]
    fn proofs_between_any_two_sizes_verify() {
        let leaf = |index: u64| merkle::leaf_hash(&index.to_be_bytes());
        let memory = Memory::default();
        let mut edge = Edge::default();
        let mut roots = vec![merkle::empty_root()];
        for index in 0..700 {
            let (after, grown) = edge.grow(vec![leaf(index)]);
            memory.extend(&grown);
            roots.push(grown.root);
            edge = after;
        }
        for size in (0..=700).filter(|size| size % 37 == 0 || (250..265).contains(size)) {
            let prover = Prover::new(&memory, size);
            let root = roots[size as usize];
            assert_eq!(prover.root().expect("is there"), root);
            for index in (0..size).filter(|index| index % 11 == 0 || *index > size - 4) {
                let path = prover.inclusion(index).expect("is there");
                merkle::verify_inclusion(&leaf(index), index, size, &path, &root)
                    .unwrap_or_else(|error| panic!("{index} in {size}: {error}"));
                assert_eq!(prover.leaf(index).expect("is there"), leaf(index));
            }
            for old in (0..=size).filter(|old| old % 13 == 0 || (250..265).contains(old)) {
                let path = prover.consistency(old).expect("is there");
                merkle::verify_consistency(old, &roots[old as usize], size, &root, &path)
                    .unwrap_or_else(|error| panic!("{old} to {size}: {error}"));
            }
        }
        assert!(Prover::new(&memory, 701).root().is_err());
        // What is kept between the tiles is what they would give.
        for level in (1..9).filter(|level| level % TILE_LEVELS != 0) {
            for index in 0..700 >> level {
                let kept = memory.node(level, index).expect("is kept");
                let at = index << level;
                let made = Edge::default()
                    .grow((at..at + (1 << level)).map(leaf).collect())
                    .1
                    .root;
                assert_eq!(kept, made);
            }
            assert_eq!(memory.node(level, 700 >> level), None);
        }
    }
}
