//! Receipts and their proofs.

use super::merkle::leaf_hash;
use super::trees::{inclusion, root};
use super::*;
use crate::cbor::Encode as _;
use crate::entry::{Entry, Kind};
use crate::ids::ActId;
use crate::messages::Receipt;

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
        proof: proof::text(
            index as u64,
            &inclusion(index, &leaves, &root),
            signed.note(),
        ),
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
        bytes[at] ^= 1 << (at % 7);
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
    assert_eq!(
        fault("x".repeat(crate::limits::NOTE + 1)),
        NotAProof::TooLong
    );
}

#[test]
fn the_example_of_the_document_is_a_proof_but_for_its_extra_data() {
    // c2sp.org/tlog-proof, the example; a checkpoint of ours stands for its elided one.
    let note = log_secret().sign(&checkpoint(109_482), at(5));
    let example = format!(
        "c2sp.org/tlog-proof@v1
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

{}",
        note.note()
    );
    let proof: Proof = example.parse().unwrap();
    assert_eq!((proof.index, proof.path.len()), (73_894, 5));
    assert_eq!(proof.path[4][..3], [0, 0x70, 0xa2]);
    assert_eq!(proof.checkpoint, note.note());
    assert_eq!(proof.to_string(), example);
    let none = Proof {
        path: Vec::new(),
        ..proof
    };
    assert_eq!(none.to_string().parse(), Ok(none));
}

#[test]
fn one_signature_check_serves_all_receipts_under_one_note_and_no_other_note() {
    // rule: TLOG-5
    let (secret, one) = (log_secret(), witness(1));
    let verifier = Verifier::new(secret.key().clone(), None);
    let first = receipt(&secret, 2, &[]);
    let known = verifier.verify(&first).unwrap().checkpoint;
    // Under the same note, another entry: the very note that is known.
    let note = first.proof.split_once("\n\n").unwrap().1;
    let head = receipt(&secret, 3, &[]).proof;
    let head = head.split_once("\n\n").unwrap().0;
    let second = Receipt {
        entry: receipt(&secret, 3, &[]).entry,
        proof: format!("{head}\n\n{note}"),
    };
    let again = verifier.verify(&second).unwrap().checkpoint;
    assert!(std::ptr::eq(known.note(), again.note()));
    // Notes that differ in a line are verified anew, whatever stood before.
    let cosigned = verifier.verify(&receipt(&secret, 2, &[&one])).unwrap();
    assert!(!std::ptr::eq(known.note(), cosigned.checkpoint.note()));
    let spoiled = first.proof.replacen("\n4\n", "\n5\n", 1);
    let spoiled = Receipt {
        proof: spoiled,
        ..first
    };
    assert!(verifier.verify(&spoiled).is_err());
}
