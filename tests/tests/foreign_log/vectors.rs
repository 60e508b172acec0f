//! The specification's vectors of the log, by other programs.

use super::*;

/// A vector of the specification.
fn vector(name: &str) -> Value {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors");
    let text = fs::read_to_string(format!("{directory}/{name}.json")).expect("a vector");
    serde_json::from_str(&text).expect("JSON")
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hexadecimal");
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn the_vectors_of_the_log_hold_by_programs_that_did_not_make_them() {
    let home = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let world = vector("world");
    let vkeys = |keys: &Value| {
        let lines = keys.as_array().expect("keys").iter();
        let lines: Vec<&str> = lines.map(|key| key.as_str().expect("a key")).collect();
        lines.join("\n")
    };
    let log = write(
        "log",
        vkeys(&world["input"]["broker_log"]["vkeys"]).as_bytes(),
    );
    let witnesses = [0, 1].map(|n: usize| {
        let keys = vkeys(&world["input"]["witnesses"][n]["vkeys"]);
        write(&format!("witness-{n}"), keys.as_bytes())
    });
    let (log, witnesses) = (text(&log), witnesses.each_ref().map(|path| text(path)));
    let receipt = vector("log/receipt");
    let entry = write("entry", &bytes(&receipt["input"]["entries"][7]));
    let proof = receipt["expect"]["proof"].as_str().expect("a proof");
    let proof = write("proof", proof.as_bytes());
    for program in ["verify_log.go", "verify_log.mjs"] {
        let said = said(&[program, "receipt", text(&entry), text(&proof), log]);
        assert_eq!(said["index"], 7, "{program}");
        assert_eq!(said["root"], receipt["expect"]["root"], "{program}");
    }
    let cosigned = vector("log/cosignatures");
    let note = cosigned["expect"]["note"].as_str().expect("a note");
    let note = write("note", note.as_bytes());
    let said = said(&[
        "verify_log.mjs",
        "checkpoint",
        text(&note),
        log,
        witnesses[0],
        witnesses[1],
    ]);
    assert_eq!(said["signed"].as_array().map(Vec::len), Some(6));
    // What ours refuses, they refuse. pycddl and policies apart: those know no quorum.
    for name in [
        "receipt-inclusion",
        "receipt-path-short",
        "receipt-path-long",
        "receipt-index",
        "receipt-index-outside",
        "receipt-entry",
        "receipt-no-ed25519",
        "receipt-bad-ed25519",
        "receipt-shard",
        "receipt-other-log",
        "receipt-other-keys",
        "receipt-unsigned",
        "receipt-extension",
        "receipt-no-ml-dsa",
        "receipt-bad-ml-dsa",
        "receipt-doubled",
    ] {
        let receipt = bytes(&vector(&format!("refused/{name}"))["input"]["receipt"]);
        let receipt: ciborium::Value = ciborium::from_reader(&receipt[..]).expect("CBOR");
        let parts = receipt.as_array().expect("two parts");
        fs::write(&entry, parts[0].as_bytes().expect("an entry")).expect("written");
        fs::write(&proof, parts[1].as_text().expect("a proof")).expect("written");
        // Go's code knows nothing of ML-DSA-44, and of a key's two lines looks at the first.
        let by_go = !name.ends_with("ml-dsa") && name != "receipt-doubled";
        let programs: &[_] = if by_go {
            &["verify_log.go", "verify_log.mjs"]
        } else {
            &["verify_log.mjs"]
        };
        for program in programs {
            refuses(name, &[program, "receipt", text(&entry), text(&proof), log]);
        }
    }
}

#[test]
fn pycddl_finds_the_vectors_of_the_log_to_be_what_the_cddl_says() {
    let home = tempfile::tempdir().expect("a directory");
    let cddl = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/wire.cddl");
    let mut wrong = Vec::new();
    for (name, member, rule) in [
        ("log/receipt", "receipt", "receipt"),
        ("log/checkpoint", "checkpoint", "checkpoint"),
        ("log/cosignatures", "witnessing", "witnessing"),
        ("exchange/consistency", "body", "consistency-body"),
        ("exchange/consistency", "answer_body", "consistency-answer"),
        ("exchange/login", "answer_body", "login-answer"),
        ("exchange/issue", "answer_body", "issue-answer"),
        ("exchange/wipe", "answer_body", "wipe-answer"),
        ("bootstrap/line", "bootstrap", "bootstrap"),
        ("bootstrap/line", "log_key", "log-key"),
        ("audit/entry", "opened", "entry"),
        ("audit/entry", "opened_by_recovery", "entry"),
        ("audit/entry", "closed", "entry"),
        ("audit/entry", "alarm_log_fork", "entry"),
        ("statement/bodies", "log-recover", "log-recover"),
        ("statement/bodies", "log-view", "log-view"),
        ("statement/bodies", "log-view, rolled back", "log-view"),
        ("statement/bodies", "dataset-created", "dataset-created"),
        ("statement/bodies", "dataset-set", "dataset-set"),
        ("statement/bodies", "entry-view", "entry-view"),
    ] {
        let path = home.path().join(format!("{rule}.cbor"));
        fs::write(&path, bytes(&vector(name)["expect"][member])).expect("written");
        let said = run(&["check_cddl.py", cddl, rule, text(&path)]);
        if said.code != Some(0) {
            wrong.push(format!("{name}, {member}: {}", said.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
