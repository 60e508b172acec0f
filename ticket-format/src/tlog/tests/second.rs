//! The log's ML-DSA-44 against a second implementation of FIPS 204, and against a signature that another
//! project's log made: the same keys from the same seeds, and each takes what the other signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ml_dsa::signature::Keypair as _;
use ml_dsa::{ExpandedSigningKey, MlDsa44, Signature, SigningKey};
use serde::Deserialize;

use super::note::{ML_DSA_SIGNATURE, cosigned_message, split};
use super::*;

fn second(seed: u8) -> SigningKey<MlDsa44> {
    SigningKey::from_seed(&[seed; 32].into())
}

fn log_of(seed: u8) -> LogSecret {
    let origin = log_secret().key().origin.clone();
    LogSecret::from_seeds(origin, &[seed; 32], &[seed; 32]).unwrap()
}

/// `cosigned_message` of c2sp.org/tlog-cosignature, written down once more from its text.
fn message(cosigner: &str, time: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let origin = checkpoint.shard.to_string();
    let name = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [
        b"subtree/v1\n\0".as_slice(),
        &name(cosigner),
        &time.to_be_bytes(),
        &name(&origin),
        &[0; 8],
        &checkpoint.size.to_be_bytes(),
        &checkpoint.root,
    ]
    .concat()
}

#[test]
fn a_seed_makes_the_same_key_in_a_second_implementation() {
    // rule: TLOG-2
    for seed in 0..32 {
        let ours = log_of(seed);
        let theirs = second(seed).verifying_key().encode();
        assert_eq!(ours.key().ml_dsa()[..], theirs[..], "seed {seed}");
    }
}

#[test]
fn a_second_implementation_takes_what_a_log_and_a_witness_sign() {
    // rule: TLOG-2, TLOG-9
    for seed in 1..16 {
        let (log, checkpoint) = (log_of(seed), checkpoint(seed.into()));
        let signed = log.sign(&checkpoint, at(seed.into()));
        let witness = WitnessSecret::from_seeds("w.example", &[seed; 32], &[seed; 32]).unwrap();
        let note = signed.with_cosignatures(
            witness
                .cosign(&checkpoint, at(seed.into()))
                .split_inclusive('\n'),
        );
        let (_, lines) = split(note.note()).unwrap();
        let key = second(seed).verifying_key();
        let shard = checkpoint.shard.to_string();
        for (line, name) in [(&lines[1], shard.as_str()), (&lines[3], "w.example")] {
            let (time, signature) = line.signature.split_first_chunk::<8>().unwrap();
            assert_eq!(u64::from_be_bytes(*time), at(seed.into()).seconds());
            let signature = Signature::<MlDsa44>::try_from(signature).unwrap();
            let message = message(name, at(seed.into()).seconds(), &checkpoint);
            assert!(key.verify_with_context(&message, b"", &signature));
            // The context is empty, and the message is signed as it is, not hashed before.
            assert!(!key.verify_with_context(&message, b"x", &signature));
        }
    }
}

#[test]
fn a_log_s_key_takes_what_a_second_implementation_signs() {
    // rule: TLOG-2
    for seed in 1..16 {
        let (log, checkpoint) = (log_of(seed), checkpoint(seed.into()));
        let signed = log.sign(&checkpoint, at(0));
        let (text, lines) = split(signed.note()).unwrap();
        let [_, vkey] = log.key().shard_vkeys(1);
        let (time, shard) = (at(7).seconds(), checkpoint.shard.to_string());
        let with = |name: &str, context: &[u8]| {
            let message = message(name, time, &checkpoint);
            let key: &ExpandedSigningKey<MlDsa44> = &second(seed).expanded_key().clone();
            let signature = key.sign_deterministic(&message, context).unwrap().encode();
            let bytes = [&vkey.key_id()[..], &time.to_be_bytes()[..], &signature[..]].concat();
            let line = format!("\u{2014} {shard} {}\n", BASE64.encode(bytes));
            log.key()
                .verify(&format!("{text}\n{}{line}", lines[0].line))
                .map(|note| note.time())
        };
        assert_eq!(with(&shard, b""), Ok(at(7)));
        let bad = Err(CheckpointError::Bad("ML-DSA-44"));
        assert_eq!(with(&shard, b"x"), bad);
        assert_eq!(with("other/1", b""), bad);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    seed: String,
    name: String,
    key_id: String,
    entry: String,
    note: String,
}

#[test]
fn a_signature_that_another_project_s_log_made_verifies() {
    // rule: TLOG-2
    let text = include_str!("../../../../tests/vectors/signed-note/torchwood_mldsa44.json");
    let published: Published = serde_json::from_str(text).unwrap();
    let seed: crate::ids::Thumbprint = published.seed.parse().unwrap();
    let witness = WitnessSecret::from_seeds(&published.name, &[1; 32], &seed.0).unwrap();
    let [_, vkey] = witness.vkeys();
    assert!(
        vkey.to_string()
            .starts_with(&format!("{}+{}+Bu", published.name, published.key_id))
    );
    let (body, lines) = split(&published.note).unwrap();
    let root = merkle::leaf_hash(published.entry.as_bytes());
    assert_eq!(
        body,
        format!("{}\n1\n{}\n", published.name, BASE64.encode(root))
    );
    let [line] = lines.as_slice() else {
        panic!("one line")
    };
    assert!(line.is_of(vkey));
    assert_eq!(line.signature.len(), 8 + ML_DSA_SIGNATURE);
    let (time, signature) = line.signature.split_at(8);
    assert_eq!(time, [0; 8]);
    let verify = |cosigner: &str, time, origin: &str, size, root: &Hash| {
        let message = cosigned_message(cosigner, time, origin, size, root);
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ML_DSA_44,
            vkey.key(),
        );
        key.verify(&message, signature).is_ok()
    };
    let name = published.name.as_str();
    assert!(verify(name, 0, name, 1, &root));
    // Everything in the message counts.
    assert!(!verify("other", 0, name, 1, &root));
    assert!(!verify(name, 1, name, 1, &root));
    assert!(!verify(name, 0, "other", 1, &root));
    assert!(!verify(name, 0, name, 2, &root));
    assert!(!verify(name, 0, name, 1, &[0; 32]));
}
