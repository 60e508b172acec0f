//! The tree against a second Rust crate's.

use super::*;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::Sha256;
use ticket_format::tlog::merkle;

type Second = MemoryBackedTree<Sha256, Vec<u8>>;

/// Trees of several sizes with entries of several lengths: always the same ones.
fn sizes() -> Vec<u64> {
    let mut sizes: Vec<u64> = (1..=33).collect();
    sizes.extend([63, 64, 65, 127, 200, 255, 256, 257, 300, 511, 513]);
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_merkle_and_we_have_the_same_trees_and_take_each_others_proofs() {
    let made = Made::new(u64::MAX);
    let mut theirs = Second::new();
    let largest = sizes().into_iter().max().unwrap_or_default();
    let mut roots: Vec<RootHash<Sha256>> = vec![theirs.root()];
    // In order: one tree is compared with the other at every size.
    for n in 0..largest {
        made.log.append(entry(n)).await.expect("appended");
        theirs.push(entry(n));
        roots.push(theirs.root());
        let ours = made.log.root_of(1, n + 1).expect("a root");
        assert_eq!(ours[..], theirs.root().as_bytes()[..], "{} entries", n + 1);
    }
    let mut checked = 0;
    for size in sizes() {
        let second = {
            let mut tree = Second::new();
            (0..size).for_each(|n| tree.push(entry(n)));
            tree
        };
        let root = &roots[size as usize];
        let our_root: Hash = made.log.root_of(1, size).expect("a root");
        let checkpoint = Checkpoint {
            shard: made.log.key().origin.shard(1),
            size,
            root: our_root,
        };
        let signed = secret(1).sign(&checkpoint, now());
        for index in (0..size).step_by(1 + size as usize / 16) {
            // Theirs, by us.
            let proof = second.prove_inclusion(index as usize);
            let path: Vec<Hash> = proof
                .as_bytes()
                .chunks(32)
                .map(|hash| hash.try_into().expect("a hash"))
                .collect();
            let leaf = merkle::leaf_hash(&entry(index));
            assert_eq!(
                merkle::verify_inclusion(&leaf, index, size, &path, &our_root),
                Ok(())
            );
            // Ours, by them.
            let ours = made.log.prove_under(index, &signed).expect("a proof");
            let ours: Proof = ours.parse().expect("a proof");
            let proof =
                InclusionProof::<Sha256>::try_from_bytes(ours.path.concat()).expect("its form");
            root.verify_inclusion(&entry(index), index, &proof)
                .expect("it proves");
            let other = entry(index + 1);
            assert!(root.verify_inclusion(&other, index, &proof).is_err());
            assert_eq!(ours.path, path);
            checked += 1;
        }
        for old in (1..=size).step_by(1 + size as usize / 16) {
            let (old_root, before) = (
                made.log.root_of(1, old).expect("a root"),
                &roots[old as usize],
            );
            let proof = second.prove_consistency((size - old) as usize);
            let path: Vec<Hash> = proof
                .as_bytes()
                .chunks(32)
                .map(|hash| hash.try_into().expect("a hash"))
                .collect();
            let ours = made.log.consistency_path(1, old, size).expect("a path");
            assert_eq!(
                merkle::verify_consistency(old, &old_root, size, &our_root, &path),
                Ok(()),
                "{old} of {size}"
            );
            let proof =
                ConsistencyProof::<Sha256>::try_from_bytes(ours.concat()).expect("its form");
            root.verify_consistency(before, &proof).expect("it proves");
            assert_eq!(ours, path);
            checked += 1;
        }
    }
    assert!(checked > 500, "{checked}");
}
