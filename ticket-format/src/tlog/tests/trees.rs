//! Trees against the plain recursion of RFC 6962.

use std::cell::RefCell;
use std::collections::HashMap;

use proptest::prelude::*;

use super::merkle::{leaf_hash, node_hash, verify_consistency, verify_inclusion};
use super::*;

/// RFC 6962, 2.1, word for word.
pub(super) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => merkle::empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(half(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The largest power of two below `n`.
fn half(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// A function that gives the root of a part of one array, and remembers it.
fn remembering() -> impl Fn(&[Hash]) -> Hash {
    let known = RefCell::new(HashMap::new());
    move |leaves| {
        let part = (leaves.as_ptr(), leaves.len());
        *known
            .borrow_mut()
            .entry(part)
            .or_insert_with(|| root(leaves))
    }
}

/// RFC 6962, 2.1.1.
pub(super) fn inclusion(
    index: usize,
    leaves: &[Hash],
    root: &dyn Fn(&[Hash]) -> Hash,
) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(half(leaves.len()));
    let (mut path, other) = if index < left.len() {
        (inclusion(index, left, root), root(right))
    } else {
        (inclusion(index - left.len(), right, root), root(left))
    };
    path.push(other);
    path
}

/// RFC 6962, 2.1.2: `SUBPROOF(m, D[n], b)`.
fn consistency(
    old: usize,
    leaves: &[Hash],
    whole: bool,
    root: &dyn Fn(&[Hash]) -> Hash,
) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let (left, right) = leaves.split_at(half(leaves.len()));
    let (mut path, other) = if old <= left.len() {
        (consistency(old, left, whole, root), root(right))
    } else {
        (
            consistency(old - left.len(), right, false, root),
            root(left),
        )
    };
    path.push(other);
    path
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

/// What a path can be turned into by whoever carries it.
fn bent(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for at in 0..path.len() {
        let mut other = path.to_vec();
        other[at][0] ^= 1;
        all.push(other);
        let mut other = path.to_vec();
        other.remove(at);
        all.push(other);
        if at > 0 {
            let mut other = path.to_vec();
            other.swap(at - 1, at);
            all.push(other);
        }
    }
    for extra in [[0; 32], path.first().copied().unwrap_or([1; 32])] {
        all.push([path, &[extra]].concat());
        all.push([&[extra], path].concat());
    }
    all
}

#[test]
fn the_reference_trees_have_their_known_roots() {
    // rule: TLOG-1
    // The leaves behind the proofs of tests/vectors/merkle, and the roots that stand in them.
    let entries: [&[u8]; 8] = [
        &[],
        &[0],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        b"@ABC",
        b"PQRSTUVW",
        b"`abcdefghijklmno",
    ];
    let leaves = entries.map(leaf_hash);
    for (size, known) in [
        (0, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        (1, "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0="),
        (2, "+sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU="),
        (5, "Tju7H3tHjc/nH7YxYxUZo7yhLJrvyhYSv85ME6hiZNQ="),
        (6, "duZ9rbzfHhDht03cYIq9L5jfsW+851J3tSMqEn8gh+8="),
        (7, "3bib5AOAnjJXUNPSY814kpwpQreUKjS3fhIslZSnTIw="),
        (8, "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg="),
    ] {
        assert_eq!(super::note::base64(&root(&leaves[..size])), known, "{size}");
    }
}

/// All proofs of the smaller trees are bent, and of the larger ones some at every place and size.
fn bends(place: usize, size: usize) -> bool {
    size <= 40 || (place + size).is_multiple_of(11)
}

#[test]
fn every_inclusion_proof_of_small_trees_verifies_and_none_that_was_bent() {
    // rule: TLOG-1
    let (all, root_of) = (leaves(200), remembering());
    for size in 1..=all.len() {
        let leaves = &all[..size];
        let root = root_of(leaves);
        for (index, leaf) in leaves.iter().enumerate() {
            let path = inclusion(index, leaves, &root_of);
            let verify = |leaf: &Hash, index: usize, path: &[Hash], root: &Hash| {
                verify_inclusion(leaf, index as u64, size as u64, path, root)
            };
            let place = format_args!("{index} of {size}");
            assert_eq!(verify(leaf, index, &path, &root), Ok(()), "{place}");
            if !bends(index, size) {
                continue;
            }
            for other in bent(&path) {
                assert!(verify(leaf, index, &other, &root).is_err(), "{place}");
            }
            assert!(verify(&[0; 32], index, &path, &root).is_err());
            assert!(verify(leaf, index, &path, &[0; 32]).is_err());
            for other in (0..size).step_by(1 + size / 40) {
                if other != index {
                    assert!(verify(&leaves[other], index, &path, &root).is_err());
                    assert!(verify(leaf, other, &path, &root).is_err());
                }
            }
            let outside = verify(leaf, size, &path, &root);
            assert_eq!(outside, Err(ProofError::OutOfTree));
        }
    }
    let nothing = verify_inclusion(&[0; 32], 0, 0, &[], &merkle::empty_root());
    assert_eq!(nothing, Err(ProofError::OutOfTree));
}

#[test]
fn every_consistency_proof_of_small_trees_verifies_and_none_that_was_bent() {
    // rule: TLOG-1
    let (all, root_of) = (leaves(200), remembering());
    let roots: Vec<Hash> = (0..=all.len()).map(|size| root(&all[..size])).collect();
    for (new, new_root) in roots.iter().enumerate() {
        for (old, old_root) in roots.iter().enumerate().take(new + 1) {
            let path = match old {
                0 => Vec::new(),
                _ => consistency(old, &all[..new], true, &root_of),
            };
            let verify = |old: usize, old_root: &Hash, new_root: &Hash, path: &[Hash]| {
                verify_consistency(old as u64, old_root, new as u64, new_root, path)
            };
            let place = format_args!("{old} to {new}");
            assert_eq!(verify(old, old_root, new_root, &path), Ok(()), "{place}");
            let bends = bends(old, new);
            for other in bent(&path).iter().filter(|_| bends) {
                let verified = verify(old, old_root, new_root, other);
                assert!(verified.is_err(), "{place}");
            }
            let verified = verify(old, &[0; 32], new_root, &path);
            assert_eq!(verified, Err(ProofError::Root), "{place}");
            if old > 0 {
                let verified = verify(old, old_root, &[0; 32], &path);
                assert_eq!(verified, Err(ProofError::Root), "{place}");
            }
            if old < new {
                let back = verify_consistency(new as u64, new_root, old as u64, old_root, &path);
                assert_eq!(back, Err(ProofError::Shrank));
                // A tree is not the one with one entry less or more.
                let verified = verify(old + 1, old_root, new_root, &path);
                assert!(verified.is_err(), "{place}");
            }
        }
    }
}

proptest! {
    #[test]
    fn a_proof_in_a_tree_of_any_size_has_the_length_of_its_place(
        size in 1..=u64::MAX,
        at: u64,
        hash: Hash,
    ) {
        // rule: TLOG-1
        let index = at % size;
        // One hash for each level at which the place has a neighbour.
        let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
        let border = if inner == u64::BITS { 0 } else { (index >> inner).count_ones() };
        let length = (inner + border) as usize;
        for given in 0..=70 {
            let path = vec![hash; given];
            let root = merkle::root_of_inclusion(&hash, index, size, &path);
            prop_assert_eq!(root.is_ok(), given == length, "{} of {}", given, length);
        }
    }

    #[test]
    fn sizes_of_any_magnitude_upset_no_consistency_proof(
        old: u64,
        new: u64,
        hash: Hash,
        length in 0..130_usize,
    ) {
        let path = vec![hash; length];
        let verified = verify_consistency(old, &hash, new, &[0; 32], &path);
        prop_assert!(verified.is_err());
    }
}
