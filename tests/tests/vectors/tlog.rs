//! Merkle proofs, signed notes and ML-DSA-44 as the logs use them (TLOG-1, TLOG-2).

use aws_lc_rs::signature::{ML_DSA_44, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ticket_format::tlog::{Vkey, VkeyKind, merkle, note};

use crate::support::{Hex, Tally, Verdict, read, wycheproof};

#[derive(Deserialize)]
struct Proofs {
    inclusion: Vec<Inclusion>,
    consistency: Vec<Consistency>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
    case: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: Option<String>,
    root2: Option<String>,
    proof: Option<Vec<String>>,
    want_err: bool,
    case: String,
}

/// A hash; none where it has not 32 bytes, which no type of ours can hold.
fn hash(text: &str) -> Option<merkle::Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn path(proof: Option<&Vec<String>>) -> Option<Vec<merkle::Hash>> {
    proof.map_or(Some(Vec::new()), |hashes| {
        hashes.iter().map(|text| hash(text)).collect()
    })
}

#[test]
fn merkle_proofs_verify_exactly_if_they_are_right() {
    // rule: TLOG-1
    let proofs: Proofs = read("merkle/rfc6962_proofs.json");
    let mut tally = Tally::default();
    for case in &proofs.inclusion {
        let holds = || {
            let (leaf, root) = (hash(&case.leaf_hash)?, hash(&case.root)?);
            let path = path(case.proof.as_ref())?;
            merkle::verify_inclusion(&leaf, case.leaf_idx, case.tree_size, &path, &root).ok()
        };
        let holds = holds().is_some();
        assert_eq!(holds, !case.want_err, "{}", case.case);
        tally.count(holds);
    }
    assert_eq!(
        tally,
        Tally {
            accepted: 3,
            refused: 59
        }
    );
    let mut tally = Tally::default();
    for case in &proofs.consistency {
        let holds = || {
            let (old, new) = (hash(case.root1.as_ref()?)?, hash(case.root2.as_ref()?)?);
            let path = path(case.proof.as_ref())?;
            merkle::verify_consistency(case.size1, &old, case.size2, &new, &path).ok()
        };
        let holds = holds().is_some();
        assert_eq!(holds, !case.want_err, "{}", case.case);
        tally.count(holds);
    }
    assert_eq!(
        tally,
        Tally {
            accepted: 4,
            refused: 64
        }
    );
}

#[derive(Deserialize)]
struct Example {
    vkey: String,
    note: String,
}

#[test]
fn the_example_of_the_signed_note_verifies() {
    // rule: TLOG-2
    let example: Example = read("signed-note/c2sp_example.json");
    let vkey: Vkey = example.vkey.parse().expect("a key");
    assert_eq!(
        (vkey.name(), vkey.kind()),
        ("example.com/foo", VkeyKind::Ed25519)
    );
    assert_eq!(vkey.to_string(), example.vkey);
    let (text, lines) = note::split(&example.note).expect("a note");
    assert!(lines[0].is_of(&vkey));
    assert!(vkey.verify_text(text, &lines[0].signature).is_ok());
    assert!(
        vkey.verify_text(&text.replace('n', "m"), &lines[0].signature)
            .is_err()
    );
    for at in 0..example.vkey.len() {
        let mut other = example.vkey.clone().into_bytes();
        other[at] ^= 1;
        let parsed = String::from_utf8(other)
            .ok()
            .and_then(|text| text.parse::<Vkey>().ok());
        assert!(parsed.is_none(), "byte {at}");
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    public_key: Hex,
}

#[derive(Deserialize)]
struct Signed {
    msg: Option<Hex>,
    sig: Hex,
    ctx: Option<Hex>,
}

#[test]
fn wycheproof_ml_dsa_signatures_verify_exactly_if_they_are_valid() {
    // rule: TLOG-2
    let mut tally = Tally::default();
    for group in wycheproof::<Common, Signed>("mldsa_44_verify_test.json", 121) {
        for case in group.tests {
            let key = UnparsedPublicKey::new(&ML_DSA_44, &group.common.public_key[..]);
            let accepted = case
                .data
                .msg
                .as_deref()
                .is_some_and(|msg| key.verify(msg, &case.data.sig).is_ok());
            // A signature with a context is none of ours: the context is always empty.
            let ours = case.data.ctx.as_ref().is_none_or(|ctx| ctx.is_empty());
            assert_eq!(
                accepted,
                case.result == Verdict::Valid && ours,
                "{}",
                case.name()
            );
            tally.count(accepted);
        }
    }
    assert_eq!(
        tally,
        Tally {
            accepted: 53,
            refused: 68
        }
    );
}
