//! The right edge of a Merkle tree (RFC 9162, 2.1), and what a batch of leaves adds to it.
//!
//! A node of level `l` is the root of `2^l` leaves; it is *complete* once they are all there. Complete
//! nodes never change. Of each level at most one complete node waits for its right neighbour; those are
//! the edge, and a batch is appended with them alone.

use ticket_format::tlog::{Hash, merkle};

/// The complete nodes that wait for a right neighbour.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    size: u64,
    /// By level; there is one where the size has that bit.
    waiting: Vec<Option<Hash>>,
}

/// What a batch added: every node that a proof of one of its leaves needs, and more.
#[derive(Debug)]
pub(crate) struct Grown {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) root: Hash,
    /// By level: complete nodes.
    runs: Vec<Run>,
    /// By level: the last node, complete or not.
    last: Vec<Hash>,
}

/// Complete neighbours on one level.
#[derive(Debug)]
struct Run {
    first: u64,
    nodes: Vec<Hash>,
}

impl Edge {
    /// The edge after `leaves`, and what they add. Two blocks of SHA-256 per leaf, and some per level.
    pub(crate) fn grow(&self, leaves: Vec<Hash>) -> (Self, Grown) {
        let from = self.size;
        let to = from + leaves.len() as u64;
        let mut edge = Self {
            size: to,
            waiting: Vec::new(),
        };
        let mut runs = Vec::new();
        let mut new = leaves;
        for level in 0.. {
            if to >> level == 0 {
                break;
            }
            let mut first = from >> level;
            if let Some(Some(waiting)) = self.waiting.get(level) {
                first -= 1;
                new.insert(0, *waiting);
            }
            let above = new
                .chunks_exact(2)
                .map(|pair| merkle::node_hash(&pair[0], &pair[1]))
                .collect();
            let odd = (to >> level) & 1 == 1;
            edge.waiting.push(new.last().copied().filter(|_| odd));
            runs.push(Run { first, nodes: new });
            new = above;
        }
        let mut grown = Grown {
            from,
            to,
            root: merkle::empty_root(),
            runs,
            last: Vec::new(),
        };
        grown.finish();
        (edge, grown)
    }
}

impl Grown {
    /// The last node of each level, up to the root.
    fn finish(&mut self) {
        let Some(mut last) = self.runs.first().and_then(|run| run.nodes.last()).copied() else {
            return;
        };
        for level in 0.. {
            self.last.push(last);
            let index = (self.to - 1) >> level;
            if index == 0 {
                break;
            }
            if index & 1 == 1
                && let Some(left) = self.complete(level, index - 1)
            {
                last = merkle::node_hash(&left, &last);
            }
        }
        self.root = last;
    }

    fn complete(&self, level: usize, index: u64) -> Option<Hash> {
        let run = self.runs.get(level)?;
        let at = usize::try_from(index.checked_sub(run.first)?).ok()?;
        run.nodes.get(at).copied()
    }

    /// The complete nodes of a level that came with this batch.
    pub(crate) fn new_nodes(&self, level: usize) -> &[Hash] {
        let Some(run) = self.runs.get(level) else {
            return &[];
        };
        let old = (self.from >> level) - run.first;
        usize::try_from(old)
            .ok()
            .and_then(|old| run.nodes.get(old..))
            .unwrap_or_default()
    }

    /// The inclusion proof (RFC 9162, 2.1.3) of a leaf of this batch in the tree after it; nothing for
    /// another leaf.
    pub(crate) fn inclusion(&self, index: u64) -> Option<Vec<Hash>> {
        if !(self.from..self.to).contains(&index) {
            return None;
        }
        let mut path = Vec::with_capacity(self.last.len());
        for (level, last_hash) in self.last.iter().enumerate() {
            let (node, last) = (index >> level, (self.to - 1) >> level);
            if last == 0 {
                break;
            }
            if node == last && node & 1 == 0 {
                // It has no neighbour: it moves up as it is.
                continue;
            }
            let neighbour = node ^ 1;
            path.push(if neighbour == last {
                *last_hash
            } else {
                self.complete(level, neighbour)?
            });
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(index: u64) -> Hash {
        merkle::leaf_hash(&index.to_be_bytes())
    }

    fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => merkle::empty_root(),
            [one] => *one,
            more => {
                let left = more.len().next_power_of_two() / 2;
                merkle::node_hash(&root(&more[..left]), &root(&more[left..]))
            }
        }
    }

    #[test]
    fn every_batch_gives_the_root_and_proofs_of_the_definition() {
        for from in 0..70u64 {
            let leaves: Vec<_> = (0..from).map(leaf).collect();
            let (edge, _) = Edge::default().grow(leaves.clone());
            for to in from + 1..from + 40 {
                let (after, grown) = edge.grow((from..to).map(leaf).collect());
                let all: Vec<_> = (0..to).map(leaf).collect();
                assert_eq!((after.size, grown.root), (to, root(&all)));
                for index in from..to {
                    let path = grown.inclusion(index).expect("is in the batch");
                    merkle::verify_inclusion(&leaf(index), index, to, &path, &grown.root)
                        .expect("verifies");
                }
                assert_eq!(grown.inclusion(to), None);
                assert_eq!(
                    from.checked_sub(1).and_then(|old| grown.inclusion(old)),
                    None
                );
            }
        }
    }

    #[test]
    fn growing_in_pieces_is_growing_at_once() {
        let (mut edge, mut grown) = Edge::default().grow(Vec::new());
        assert_eq!(grown.root, merkle::empty_root());
        let mut nodes: Vec<Vec<Hash>> = vec![Vec::new(); 9];
        for step in [1, 1, 3, 250, 1, 255, 256, 2, 77] {
            let leaves = (edge.size..edge.size + step).map(leaf).collect();
            (edge, grown) = edge.grow(leaves);
            for (level, nodes) in nodes.iter_mut().enumerate() {
                nodes.extend_from_slice(grown.new_nodes(level));
            }
        }
        let all: Vec<_> = (0..edge.size).map(leaf).collect();
        assert_eq!(grown.root, root(&all));
        for (level, nodes) in nodes.iter().enumerate() {
            let whole: Vec<_> = all.chunks_exact(1 << level).map(root).collect();
            assert_eq!(nodes, &whole, "level {level}");
        }
    }
}
