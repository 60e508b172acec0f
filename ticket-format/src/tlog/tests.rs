//! Trees against a plain recursion, and every damaged byte of what is signed.

use super::*;
use crate::cbor::Encode as _;
use crate::entry::{Entry, Kind};
use crate::ids::ActId;
use crate::messages::Receipt;
use crate::messages::samples::{at, checkpoint, log_secret};
use merkle::{leaf_hash, node_hash, verify_consistency, verify_inclusion};

/// RFC 6962, 2.1, word for word.
fn root(leaves: &[Hash]) -> Hash {
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

/// RFC 6962, 2.1.1.
fn inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(half(leaves.len()));
    let (mut path, other) = if index < left.len() {
        (inclusion(index, left), root(right))
    } else {
        (inclusion(index - left.len(), right), root(left))
    };
    path.push(other);
    path
}

/// RFC 6962, 2.1.2: `SUBPROOF(m, D[n], b)`.
fn consistency(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let (left, right) = leaves.split_at(half(leaves.len()));
    let (mut path, other) = if old <= left.len() {
        (consistency(old, left, whole), root(right))
    } else {
        (consistency(old - left.len(), right, false), root(left))
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
fn every_inclusion_proof_of_small_trees_verifies_and_none_that_was_bent() {
    // rule: TLOG-1
    for size in 1..=67 {
        let leaves = leaves(size);
        let root = root(&leaves);
        for (index, leaf) in leaves.iter().enumerate() {
            let path = inclusion(index, &leaves);
            let (at, size) = (index as u64, size as u64);
            assert_eq!(
                verify_inclusion(leaf, at, size, &path, &root),
                Ok(()),
                "{index} of {size}"
            );
            for other in bent(&path) {
                assert!(
                    verify_inclusion(leaf, at, size, &other, &root).is_err(),
                    "{index} of {size}"
                );
            }
            assert!(verify_inclusion(&[0; 32], at, size, &path, &root).is_err());
            assert!(verify_inclusion(leaf, at, size, &path, &[0; 32]).is_err());
            for (index, leaf) in leaves
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
            {
                assert!(verify_inclusion(leaf, at, size, &path, &root).is_err());
                assert!(
                    verify_inclusion(&leaves[at as usize], index as u64, size, &path, &root)
                        .is_err()
                );
            }
            assert!(verify_inclusion(leaf, size, size, &path, &root).is_err());
        }
    }
}

#[test]
fn every_consistency_proof_of_small_trees_verifies_and_none_that_was_bent() {
    // rule: TLOG-1
    let all = leaves(67);
    for new in 0..=all.len() {
        let new_root = root(&all[..new]);
        for old in 0..=new {
            let old_root = root(&all[..old]);
            let path = if old == 0 {
                Vec::new()
            } else {
                consistency(old, &all[..new], true)
            };
            let verify = |old_root: &Hash, new_root: &Hash, path: &[Hash]| {
                verify_consistency(old as u64, old_root, new as u64, new_root, path)
            };
            assert_eq!(
                verify(&old_root, &new_root, &path),
                Ok(()),
                "{old} to {new}"
            );
            for other in bent(&path) {
                assert!(
                    verify(&old_root, &new_root, &other).is_err(),
                    "{old} to {new}"
                );
            }
            assert!(
                verify(&[0; 32], &new_root, &path).is_err(),
                "{old} to {new}"
            );
            if old > 0 {
                assert!(
                    verify(&old_root, &[0; 32], &path).is_err(),
                    "{old} to {new}"
                );
            }
            if old < new {
                let back = verify_consistency(new as u64, &new_root, old as u64, &old_root, &path);
                assert_eq!(back, Err(ProofError::Shrank));
            }
        }
    }
}

#[test]
fn a_log_is_named_by_realm_role_and_key() {
    let key = crate::messages::samples::key(1);
    let origin = Origin::new("a realm+/x", crate::statement::Role::KeyServer, &key);
    assert!(
        origin
            .to_string()
            .starts_with("a%20realm%2B%2Fx/key-server/")
    );
    assert_eq!(origin.to_string().parse(), Ok(origin.clone()));
    let long = Origin::new(&"é".repeat(64), crate::statement::Role::Broker, &key);
    assert_eq!(long.to_string().parse(), Ok(long));
    let shard = origin.shard(12);
    assert_eq!(shard.to_string().parse(), Ok(shard));
    for wrong in ["", "a b", "a+b", "a\n", "é", &"a".repeat(201)] {
        assert!(wrong.parse::<Origin>().is_err(), "{wrong:?}");
    }
    for wrong in [
        "a",
        "a/",
        "a/0",
        "a/01",
        "a/-1",
        "a/x",
        "/1",
        "a/99999999999999999999",
    ] {
        assert!(wrong.parse::<ShardName>().is_err(), "{wrong:?}");
    }
}

#[test]
fn a_checkpoint_needs_both_signatures_of_its_own_log() {
    // rule: TLOG-2
    let secret = log_secret();
    let signed = secret.sign(&checkpoint(7), at(5));
    let verified = secret.key().verify(signed.note()).unwrap();
    assert_eq!(
        (verified.checkpoint(), verified.time()),
        (&checkpoint(7), at(5))
    );
    let (text, lines) = signed.note().split_once("\n\n").unwrap();
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    let (ed25519, ml_dsa) = (lines[0], lines[1]);
    let verify = |note: String| secret.key().verify(&note).map(drop);
    assert_eq!(verify(format!("{text}\n\n{ml_dsa}{ed25519}")), Ok(()));
    assert_eq!(
        verify(format!("{text}\n\n{ed25519}")),
        Err(CheckpointError::Missing("ML-DSA-44"))
    );
    assert_eq!(
        verify(format!("{text}\n\n{ml_dsa}")),
        Err(CheckpointError::Missing("Ed25519"))
    );
    // Lines of strangers do not matter; a line that claims to be the log's does.
    let stranger = "\u{2014} stranger.example AAAAAAE=\n";
    assert_eq!(
        verify(format!("{text}\n\n{ed25519}{stranger}{ml_dsa}")),
        Ok(())
    );
    let other = secret.sign(&checkpoint(8), at(5));
    let foreign = other.note().split_inclusive('\n').nth(4).unwrap();
    assert_eq!(
        verify(format!("{text}\n\n{ed25519}{ml_dsa}{foreign}")),
        Err(CheckpointError::Bad("Ed25519"))
    );
    assert!(matches!(
        verify(format!("{text}\nextension\n\n{ed25519}{ml_dsa}")),
        Err(CheckpointError::Note(_))
    ));
    // The same keys under another name, or another shard's, are another log.
    let renamed =
        LogSecret::from_seeds("other/broker/0".parse().unwrap(), &[21; 32], &[22; 32]).unwrap();
    assert_eq!(
        renamed.key().verify(signed.note()),
        Err(CheckpointError::OtherLog)
    );
    let shard = signed.note().replace("/1\n", "/2\n");
    assert!(secret.key().verify(&shard).is_err());
    let swapped = LogSecret::from_seeds(secret.key().origin.clone(), &[21; 32], &[23; 32]).unwrap();
    assert!(swapped.key().verify(signed.note()).is_err());
}

#[test]
fn every_damaged_byte_of_a_checkpoint_and_of_its_cosignatures_is_noticed() {
    // rule: TLOG-2, TLOG-8
    let (secret, witness) = (log_secret(), witness(1));
    let signed = secret.sign(&checkpoint(7), at(5));
    let lines = witness.cosign(signed.checkpoint(), at(6));
    let policy = policy_of(&[&witness], "all");
    let whole = signed.with_cosignatures(lines.split_inclusive('\n'));
    assert_eq!(policy.check(&whole), Ok(()));
    let good = whole.note();
    for at in 0..good.len() {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] ^= 0x02;
        let Ok(note) = String::from_utf8(bytes) else {
            continue;
        };
        let taken = secret
            .key()
            .verify(&note)
            .is_ok_and(|note| policy.check(&note).is_ok());
        assert!(!taken, "byte {at} of {}", good.len());
    }
}

fn witness(seed: u8) -> WitnessSecret {
    let name = format!("witness.example/w{seed}");
    WitnessSecret::from_seeds(&name, &[seed; 32], &[seed + 100; 32]).unwrap()
}

/// All keys of these witnesses in one group.
fn policy_of(witnesses: &[&WitnessSecret], needed: &str) -> WitnessPolicy {
    let (mut text, mut names) = (String::new(), String::new());
    for (number, vkey) in witnesses
        .iter()
        .flat_map(|witness| witness.vkeys())
        .enumerate()
    {
        text.push_str(&format!("witness k{number} {vkey}\n"));
        names.push_str(&format!(" k{number}"));
    }
    format!("{text}group g {needed}{names}\nquorum g\n")
        .parse()
        .unwrap()
}

#[test]
fn a_policy_counts_each_witness_once_and_only_what_verifies() {
    // rule: TLOG-8
    let secret = log_secret();
    let (one, two, three) = (witness(1), witness(2), witness(3));
    let vkey = |witness: &WitnessSecret| witness.vkeys()[0].to_string();
    let text = format!(
        "# three, of which two\nwitness a {}\n\twitness b {}  http://b.example\nwitness c {}\n\ngroup g 2 a b c\nquorum g",
        vkey(&one),
        vkey(&two),
        vkey(&three)
    );
    let policy: WitnessPolicy = text.parse().unwrap();
    let signed = secret.sign(&checkpoint(7), at(5));
    let with = |witnesses: &[&WitnessSecret]| {
        let lines: Vec<String> = witnesses
            .iter()
            .map(|w| w.cosign(signed.checkpoint(), at(6)))
            .collect();
        signed.with_cosignatures(lines.iter().flat_map(|lines| lines.split_inclusive('\n')))
    };
    assert_eq!(policy.check(&signed), Err(Unwitnessed::TooFew(vec![])));
    let alone = with(&[&one, &one]);
    assert_eq!(
        policy.check(&alone),
        Err(Unwitnessed::TooFew(vec!["witness.example/w1".into()]))
    );
    assert_eq!(policy.check(&with(&[&one, &three])), Ok(()));
    // A cosignature on another tree spoils the note.
    let other = secret.sign(&checkpoint(8), at(5));
    let lines = two.cosign(other.checkpoint(), at(6));
    let spoiled = with(&[&one, &three]).with_cosignatures(lines.split_inclusive('\n'));
    assert_eq!(
        policy.check(&spoiled),
        Err(Unwitnessed::Bad("witness.example/w2".into()))
    );
    let none: WitnessPolicy = "quorum none\n".parse().unwrap();
    assert!(none.needs_none());
    assert_eq!(none.check(&signed), Ok(()));
}

#[test]
fn groups_of_groups_count_as_one_member_each() {
    // rule: TLOG-8
    let secret = log_secret();
    let witnesses = [witness(1), witness(2), witness(3)];
    let keys: Vec<String> = witnesses.iter().map(|w| w.vkeys()[1].to_string()).collect();
    let text = format!(
        "witness a {}\nwitness b {}\nwitness c {}\ngroup x any a b\ngroup y all x c\nquorum y\n",
        keys[0], keys[1], keys[2]
    );
    let policy: WitnessPolicy = text.parse().unwrap();
    let signed = secret.sign(&checkpoint(7), at(5));
    for cosigned in 0..8_usize {
        let chosen = (0..3).filter(|n| cosigned >> n & 1 == 1);
        let lines: Vec<String> = chosen
            .map(|n| witnesses[n].cosign(signed.checkpoint(), at(6)))
            .collect();
        let note =
            signed.with_cosignatures(lines.iter().flat_map(|lines| lines.split_inclusive('\n')));
        let enough = cosigned & 0b011 != 0 && cosigned & 0b100 != 0;
        assert_eq!(policy.check(&note).is_ok(), enough, "{cosigned:03b}");
    }
}

#[test]
fn a_policy_that_does_not_hold_is_refused_by_line() {
    // rule: TLOG-8
    let (one, two) = (witness(1), witness(2));
    let (a, b) = (one.vkeys()[0].to_string(), two.vkeys()[0].to_string());
    let log = log_secret().key().vkeys()[0].to_string();
    let fault = |text: &str| text.parse::<WitnessPolicy>().unwrap_err();
    let is = |text: String, line, expected| {
        assert_eq!(
            fault(&text),
            PolicyError {
                line,
                fault: expected
            },
            "{text}"
        )
    };
    is(String::new(), 0, PolicyFault::Quorum);
    is("quorum none\nquorum none\n".into(), 2, PolicyFault::Quorum);
    is("quorum w\n".into(), 1, PolicyFault::Unknown);
    is(
        format!("group g any a\nwitness a {a}\nquorum g\n"),
        1,
        PolicyFault::Unknown,
    );
    is(
        format!("witness a {a}\nwitness b {a}\nquorum a\n"),
        2,
        PolicyFault::Twice,
    );
    is(
        format!("witness a {a}\nwitness a {b}\nquorum a\n"),
        2,
        PolicyFault::Twice,
    );
    is(
        format!("witness none {a}\nquorum none\n"),
        1,
        PolicyFault::Twice,
    );
    is(
        format!("witness a {a}\ngroup g all a a\nquorum g\n"),
        2,
        PolicyFault::MemberTwice,
    );
    is(
        format!("witness a {a}\ngroup g any a\ngroup h any a\nquorum g\n"),
        3,
        PolicyFault::MemberTwice,
    );
    is(
        format!("witness a {a}\ngroup g 2 a\nquorum g\n"),
        2,
        PolicyFault::Threshold,
    );
    is(
        format!("witness a {a}\ngroup g 0 a\nquorum g\n"),
        2,
        PolicyFault::Threshold,
    );
    is(
        format!("witness a {a}\ngroup g 01 a\nquorum g\n"),
        2,
        PolicyFault::Line,
    );
    is(
        format!("witness a {a}\ngroup g any\nquorum a\n"),
        2,
        PolicyFault::Line,
    );
    is("frobnicate\n".into(), 1, PolicyFault::Line);
    is(format!("witness a {log}\nquorum a\n"), 1, PolicyFault::Kind);
    is(format!("log {a}\nquorum none\n"), 1, PolicyFault::Kind);
    is(
        format!("log {log}\nlog {log}\nquorum none\n"),
        2,
        PolicyFault::Twice,
    );
    is("quorum none\r\n".into(), 0, PolicyFault::Control);
    is("#".repeat(17_000), 0, PolicyFault::TooLong);
    let many: String = (0..33)
        .map(|n| {
            let vkey = WitnessSecret::from_seeds("w", &[n; 32], &[n; 32])
                .unwrap()
                .vkeys()[0]
                .to_string();
            format!("witness w{n} {vkey}\n")
        })
        .collect();
    is(format!("{many}quorum w0\n"), 33, PolicyFault::TooMany);
    assert_eq!(
        format!("log {log}\nquorum none")
            .parse::<WitnessPolicy>()
            .unwrap()
            .logs()
            .len(),
        1
    );
}

/// A log of four entries, and the receipt of one.
fn receipt(secret: &LogSecret, index: usize, witnesses: &[&WitnessSecret]) -> Receipt {
    let entries: Vec<Vec<u8>> = (0..4)
        .map(|n| Entry::new(ActId([n; 16]), Kind::Redeem, at(n.into())).to_cbor())
        .collect();
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let named = Checkpoint {
        root: root(&leaves),
        ..checkpoint(4)
    };
    let mut signed = secret.sign(&named, at(9));
    for witness in witnesses {
        let lines = witness.cosign(&named, at(10));
        signed = signed.with_cosignatures(lines.split_inclusive('\n'));
    }
    Receipt {
        entry: entries[index].clone(),
        proof: proof::text(index as u64, &inclusion(index, &leaves), signed.note()),
    }
}

#[test]
fn a_receipt_proves_its_own_entry_and_no_other() {
    // rule: TLOG-5
    let secret = log_secret();
    let verifier = || Verifier::new(secret.key().clone(), None);
    let good = receipt(&secret, 2, &[]);
    let logged = verifier().verify(&good).unwrap();
    assert_eq!((logged.index, logged.entry.act), (2, ActId([2; 16])));
    assert_eq!(
        (
            logged.checkpoint.checkpoint().size,
            logged.checkpoint.time()
        ),
        (4, at(9))
    );
    let parsed: Proof = good.proof.parse().unwrap();
    assert_eq!(parsed.to_string(), good.proof);
    let other = Receipt {
        entry: receipt(&secret, 1, &[]).entry,
        ..good.clone()
    };
    assert!(matches!(
        verifier().verify(&other),
        Err(ReceiptError::Inclusion(_))
    ));
    let other = Receipt {
        proof: receipt(&secret, 1, &[]).proof,
        ..good.clone()
    };
    assert!(matches!(
        verifier().verify(&other),
        Err(ReceiptError::Inclusion(_))
    ));
    let stranger = LogSecret::from_seeds(secret.key().origin.clone(), &[1; 32], &[2; 32]).unwrap();
    assert!(matches!(
        verifier().verify(&receipt(&stranger, 2, &[])),
        Err(ReceiptError::Checkpoint(_))
    ));
    let mut damaged = 0;
    for at in 0..good.proof.len() {
        let mut bytes = good.proof.clone().into_bytes();
        bytes[at] ^= 0x02;
        let Ok(proof) = String::from_utf8(bytes) else {
            continue;
        };
        assert!(
            verifier()
                .verify(&Receipt {
                    proof,
                    ..good.clone()
                })
                .is_err(),
            "byte {at}"
        );
        damaged += 1;
    }
    assert!(damaged > 3_000);
}

#[test]
fn a_verifier_that_knows_a_checkpoint_still_looks_at_each_entry() {
    // rule: TLOG-5
    let secret = log_secret();
    let verifier = Verifier::new(secret.key().clone(), None);
    let good = receipt(&secret, 2, &[]);
    assert!(verifier.verify(&good).is_ok());
    let other = Receipt {
        entry: vec![1],
        ..good.clone()
    };
    assert!(matches!(
        verifier.verify(&other),
        Err(ReceiptError::Inclusion(_))
    ));
    let shorter = good.proof.replacen("\n4\n", "\n3\n", 1);
    assert!(
        verifier
            .verify(&Receipt {
                proof: shorter,
                ..good
            })
            .is_err()
    );
}

#[test]
fn who_demands_witnesses_takes_no_receipt_without_them() {
    // rule: TLOG-8
    let (secret, one) = (log_secret(), witness(1));
    let verifier = Verifier::new(secret.key().clone(), Some(policy_of(&[&one], "all")));
    assert!(matches!(
        verifier.verify(&receipt(&secret, 2, &[])),
        Err(ReceiptError::Unwitnessed(_))
    ));
    assert!(matches!(
        verifier.verify(&receipt(&secret, 2, &[&witness(2)])),
        Err(ReceiptError::Unwitnessed(_))
    ));
    assert!(verifier.verify(&receipt(&secret, 2, &[&one])).is_ok());
    // What was verified before makes nothing of another note.
    assert!(verifier.verify(&receipt(&secret, 2, &[])).is_err());
}

#[test]
fn a_proof_of_another_form_is_refused() {
    let good = receipt(&log_secret(), 2, &[]).proof;
    let fault = |text: String| text.parse::<Proof>().unwrap_err();
    assert_eq!(fault(good.replace("@v1", "@v2")), NotAProof::Header);
    assert_eq!(
        fault(good.replace("index 2", "extra AAAA\nindex 2")),
        NotAProof::Extra
    );
    for wrong in ["index 02", "index -2", "index", "index 2 ", "INDEX 2"] {
        assert_eq!(
            fault(good.replace("index 2", wrong)),
            NotAProof::Index,
            "{wrong}"
        );
    }
    assert_eq!(
        fault("c2sp.org/tlog-proof@v1\nindex 2\n".into()),
        NotAProof::NoCheckpoint
    );
    assert_eq!(
        fault("c2sp.org/tlog-proof@v1\nindex 2\nAAAA\n\nx".into()),
        NotAProof::Hash
    );
    let hashes = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".repeat(64);
    assert_eq!(
        fault(format!("c2sp.org/tlog-proof@v1\nindex 2\n{hashes}\nx")),
        NotAProof::TooManyHashes
    );
    assert_eq!(fault("x".repeat(40_000)), NotAProof::TooLong);
}

#[test]
fn secrets_of_logs_and_witnesses_print_nothing_of_themselves() {
    let printed = format!("{:?} {:?}", log_secret(), witness(1));
    assert_eq!(
        printed,
        "LogSecret(test/broker/0101010101010101, ..) WitnessSecret(witness.example/w1, ..)"
    );
}
