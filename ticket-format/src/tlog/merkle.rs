//! Merkle trees (RFC 6962, section 2.1; RFC 9162, sections 2.1.3.2 and 2.1.4.2).

use sha2::{Digest, Sha256};

/// A SHA-256 hash of a tree.
pub type Hash = [u8; 32];

/// A proof that does not prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// An entry that the tree does not have.
    #[error("the index is not in the tree")]
    OutOfTree,
    /// The tree became smaller.
    #[error("the tree shrank")]
    Shrank,
    /// More or fewer hashes than a proof between these sizes has.
    #[error("the proof has another length")]
    Length,
    /// Another root comes out.
    #[error("the proof leads to another root")]
    Root,
}

/// Hash of an entry as a leaf.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    // rule: TLOG-1
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

/// Hash of two subtrees.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // rule: TLOG-1
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// Root of the empty tree.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root that an inclusion proof leads to.
///
/// # Errors
/// [`ProofError`]: index and size do not go with it.
pub fn root_of_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError::OutOfTree);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut root = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            root = node_hash(sibling, &root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = node_hash(&root, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 {
        Ok(root)
    } else {
        Err(ProofError::Length)
    }
}

/// Whether a leaf stands at an index of the tree with this size and root.
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if root_of_inclusion(leaf, index, size, path)? == *root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// Whether the tree of the new size begins with the tree of the old one.
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    if new_size < old_size {
        return Err(ProofError::Shrank);
    }
    if old_size == 0 {
        // Every tree begins with the empty one.
        let known = *old_root == empty_root() && (new_size != 0 || *new_root == empty_root());
        return match (path.is_empty(), known) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    if old_size == new_size {
        return match (path.is_empty(), old_root == new_root) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    // The old root itself stands first where the old tree is one whole subtree of the new one.
    let whole = old_size.is_power_of_two();
    let (first, rest) = if whole {
        (old_root, path)
    } else {
        path.split_first().ok_or(ProofError::Length)?
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if old == *old_root && new == *new_root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}
