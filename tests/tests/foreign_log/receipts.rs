//! Receipts and cosignatures.

use super::*;
use ticket_format::tlog::WitnessSecret;

/// A receipt's two files.
fn files(made: &Made, (entry, proof): &(Vec<u8>, String)) -> (PathBuf, PathBuf) {
    (
        made.write("entry.cbor", entry),
        made.write("entry.tlog-proof", proof),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn three_programs_take_our_receipts_and_no_bent_one() {
    let made = Made::new(150_000);
    made.fill(1_000).await;
    let keys = text(&made.keys);
    let entries = made.log.head().entries;
    for index in [0, 1, 255, 256, 511, entries / 2, entries - 1] {
        let receipt = made.log.receipt(index).expect("a receipt");
        let proof: Proof = receipt.1.parse().expect("a proof");
        let (shard, local) = made.log.place(index).expect("it is there");
        let checkpoint = Checkpoint::of_note_unverified(&proof.checkpoint).expect("a checkpoint");
        let mut expected = shown(&checkpoint);
        expected["index"] = local.into();
        let (entry_file, proof_file) = files(&made, &receipt);
        let (entry_file, proof_file) = (text(&entry_file), text(&proof_file));
        let dir = made.dir().join(shard.to_string());
        let go = ["verify_log.go", "receipt", entry_file, proof_file, keys];
        let python = [
            "verify_log.py",
            "receipt",
            text(&dir),
            entry_file,
            proof_file,
        ];
        let npm = ["verify_log.mjs", "receipt", entry_file, proof_file, keys];
        assert_eq!(said(&go), expected, "{index}");
        assert_eq!(said(&python), expected, "{index}");
        let mut by_npm = said(&npm);
        let signed = by_npm
            .as_object_mut()
            .and_then(|said| said.remove("signed"));
        assert_eq!(by_npm, expected, "{index}");
        let name = checkpoint.shard.to_string();
        assert_eq!(
            signed,
            Some(json!([[name, 1], [name, 6]])),
            "both signatures"
        );
        // A process each: not for every index.
        if index != 255 && index != entries - 1 {
            continue;
        }
        let rewritten = |proof: &Proof| proof::text(proof.index, &proof.path, &proof.checkpoint);
        let bend = |bend: &dyn Fn(&mut Vec<u8>, &mut Proof)| {
            let (mut entry, mut bent) = (receipt.0.clone(), proof.clone());
            bend(&mut entry, &mut bent);
            (entry, rewritten(&bent))
        };
        let neighbour = made.log.receipt(index - 1).expect("a receipt").0;
        let bents = [
            (
                "another entry",
                bend(&|entry, _| *entry = neighbour.clone()),
            ),
            ("a bit of the entry", bend(&|entry, _| entry[5] ^= 1)),
            ("another index", bend(&|_, proof| proof.index ^= 1)),
            ("a bit of the path", bend(&|_, proof| proof.path[1][3] ^= 1)),
            ("a shorter path", bend(&|_, proof| proof.path.truncate(2))),
            ("a longer path", bend(&|_, proof| proof.path.push([7; 32]))),
        ];
        for (what, bent) in bents {
            files(&made, &bent);
            for program in [&go[..], &python, &npm] {
                refuses(&format!("{what}, {}", program[0]), program);
            }
        }
        // pymerkle looks at no signature.
        let forged = secret(2).sign(&checkpoint, now());
        let bent = bend(&|_, proof| proof.checkpoint = forged.note().to_owned());
        files(&made, &bent);
        for program in [&go[..], &npm] {
            refuses(&format!("another key, {}", program[0]), program);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_verifies_both_signatures_of_the_log_and_of_each_witness() {
    let made = Made::new(u64::MAX);
    made.fill(300).await;
    let witnesses = [1, 2].map(|n: u8| {
        WitnessSecret::from_seeds(&format!("witness.example/{n}"), &[n; 32], &[n + 10; 32])
            .expect("a witness")
    });
    let keys: Vec<PathBuf> = (1..)
        .zip(&witnesses)
        .map(|(n, witness)| made.write(&format!("witness-{n}"), vkeys(witness.vkeys())))
        .collect();
    let (log_keys, keys) = (text(&made.keys), [text(&keys[0]), text(&keys[1])]);
    let head = made.log.head().checkpoint;
    let lines: String = witnesses
        .iter()
        .map(|witness| witness.cosign(head.checkpoint(), now()))
        .collect();
    let cosigned = head.with_cosignatures(lines.split_inclusive('\n'));
    let proof = made.log.prove_under(7, &cosigned).expect("a proof");
    let (entry, proof_file) = files(
        &made,
        &(made.log.receipt(7).expect("a receipt").0, proof.clone()),
    );
    let program = [
        "verify_log.mjs",
        "receipt",
        text(&entry),
        text(&proof_file),
        log_keys,
        keys[0],
        keys[1],
    ];
    let shard = head.checkpoint().shard.to_string();
    assert_eq!(
        said(&program)["signed"],
        json!([
            [shard, 1],
            [shard, 6],
            ["witness.example/1", 4],
            ["witness.example/1", 6],
            ["witness.example/2", 4],
            ["witness.example/2", 6],
        ])
    );
    // Each of the six lines is needed, and holds as it is only.
    let at = proof.find("\u{2014} ").expect("signatures");
    let (before, signatures) = proof.split_at(at);
    let signatures: Vec<&str> = signatures.split_inclusive('\n').collect();
    assert_eq!(signatures.len(), 6);
    for (number, line) in signatures.iter().enumerate() {
        let with = |replaced: &str| {
            let mut lines = signatures.clone();
            lines[number] = replaced;
            made.write("entry.tlog-proof", format!("{before}{}", lines.concat()))
        };
        with("");
        refuses(&format!("without line {number}"), &program);
        // A letter within the signature's base64, well behind the key's id.
        let (start, end) = line.split_at(line.len() - 20);
        let letter = if end.starts_with('A') { "B" } else { "A" };
        with(&format!("{start}{letter}{}", &end[1..]));
        refuses(&format!("line {number} bent"), &program);
    }
}
