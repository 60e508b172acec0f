//! Logs that the audit-log crate writes, checked by programs and crates that none of us wrote
//! (`tests/foreign`): Go's checksum database code, PyPI `pymerkle`, npm `@noble/*`, Rust's `ct-merkle`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit_log::guard::Shards;
use audit_log::{AuditLog, Options};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use serde_json::{Value, json};
use sha2::Sha256;
use tests::foreign::run;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::keys::TlsSecret;
use ticket_format::statement::Role;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{
    Checkpoint, Hash, LogSecret, Origin, Proof, WitnessSecret, merkle, proof,
};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

fn secret(seed: u8) -> LogSecret {
    let server = TlsSecret::from_seed(&[9; 32]).public();
    let origin = Origin::new("a realm", Role::KeyServer, &server);
    LogSecret::from_seeds(origin, &[seed; 32], &[seed; 32]).expect("seeds")
}

/// A log in a directory, and beside it the files that the programs are given.
struct Made {
    home: tempfile::TempDir,
    log: AuditLog,
    keys: PathBuf,
}

impl Made {
    fn new(shard_bytes: u64) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let clock: audit_log::Clock = Arc::new(now);
        let options = Options {
            publish_every: None,
            shard_bytes,
            shard_entries: Some(Arc::new(Shards {
                clock: clock.clone(),
            })),
            clock,
            ..Options::default()
        };
        let (log, torn) =
            AuditLog::open(home.path().join("audit"), secret(1), &options).expect("a log");
        assert!(torn.is_none());
        let keys = home.path().join("keys");
        fs::write(&keys, vkeys(&log.key().vkeys())).expect("written");
        Self { home, log, keys }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("audit")
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }

    /// Appends entries of several lengths, many at a time.
    async fn fill(&self, entries: u64) {
        for from in (0..entries).step_by(100) {
            let appends = (from..entries.min(from + 100)).map(|n| self.log.append(entry(n)));
            for appended in futures::future::join_all(appends).await {
                appended.expect("appended");
            }
        }
        // A full shard ends behind the answers; this one is answered after that.
        self.log.append(entry(entries)).await.expect("appended");
        self.log.publish_now().await.expect("published");
    }

    /// What the programs say of the whole log when it is as it should be.
    fn shards(&self) -> Vec<Value> {
        (1..)
            .map_while(|number| self.log.checkpoint_of(number))
            .map(|checkpoint| {
                let mut said = shown(checkpoint.checkpoint());
                said["entries"] = checkpoint.checkpoint().size.into();
                said
            })
            .collect()
    }
}

fn vkeys(keys: &[ticket_format::tlog::Vkey]) -> String {
    keys.iter().map(|key| format!("{key}\n")).collect()
}

fn entry(n: u64) -> Vec<u8> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let entry = Entry::new(ActId(id), Kind::Start, now());
    entry.source("x".repeat((n % 200) as usize)).to_cbor()
}

fn shown(checkpoint: &Checkpoint) -> Value {
    json!({
        "shard": checkpoint.shard.to_string(),
        "size": checkpoint.size,
        "root": hex(&checkpoint.root),
    })
}

/// What a program that found all well said.
fn said(arguments: &[&str]) -> Value {
    serde_json::from_str(&run(arguments).ok()).expect("JSON")
}

/// Holds that a program refuses, and that it says so.
fn refuses(what: &str, arguments: &[&str]) {
    let said = run(arguments);
    assert_eq!(said.code, Some(1), "{what}: {}", said.stderr);
    assert!(said.stderr.contains("refused"), "{what}: {}", said.stderr);
}

/// The first file below a directory, by name.
fn first_file(directory: &Path) -> PathBuf {
    let listed = fs::read_dir(directory).expect("a directory");
    let mut paths: Vec<PathBuf> = listed.map(|item| item.expect("an item").path()).collect();
    paths.sort();
    match paths.first().expect("something") {
        path if path.is_dir() => first_file(path),
        path => path.clone(),
    }
}

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

fn flipped(path: &Path, at: usize) -> Vec<u8> {
    let good = fs::read(path).expect("a file");
    let mut bent = good.clone();
    bent[at] ^= 1;
    fs::write(path, bent).expect("written");
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn go_and_pymerkle_find_every_shard_as_we_published_it() {
    let made = Made::new(150_000);
    made.fill(2_100).await;
    let (dir, keys) = (made.dir(), text(&made.keys));
    let shards = made.shards();
    assert!(shards.len() >= 3, "{} shards", shards.len());
    assert!(shards[0]["size"].as_u64() > Some(256), "{}", shards[0]);
    let go = ["verify_log.go", "log", text(&dir), keys];
    let python = ["verify_log.py", "log", text(&dir)];
    assert_eq!(said(&go), json!(shards));
    assert_eq!(said(&python), json!(shards));
    for (number, shard) in (1..).zip(&shards) {
        let note = dir.join(format!("{number}/checkpoint"));
        let signed = said(&["verify_log.mjs", "checkpoint", text(&note), keys]);
        assert_eq!(
            (&signed["shard"], &signed["root"]),
            (&shard["shard"], &shard["root"])
        );
    }
    // Whatever a root user edits, they notice.
    for (what, below, at) in [
        ("an entry", "1/tile/entries", 9),
        ("a hash of a tile", "1/tile/0", 40),
        ("an inner tile", "1/tile/1", 40),
    ] {
        let file = first_file(&dir.join(below));
        let good = flipped(&file, at);
        refuses(what, &go);
        if below.ends_with("entries") {
            refuses(what, &python);
        }
        fs::write(&file, good).expect("written");
    }
    let checkpoint = dir.join("1/checkpoint");
    let good = fs::read(&checkpoint).expect("a checkpoint");
    let other = made.log.checkpoint_of(2).expect("a shard");
    for (what, bent) in [
        ("the next shard's checkpoint", other.note().to_owned()),
        (
            "another key's checkpoint",
            secret(2)
                .sign(
                    made.log.checkpoint_of(1).expect("a shard").checkpoint(),
                    now(),
                )
                .note()
                .to_owned(),
        ),
    ] {
        fs::write(&checkpoint, bent).expect("written");
        refuses(what, &go);
    }
    fs::write(&checkpoint, good).expect("written");
    assert_eq!(said(&go), json!(shards), "all is well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn go_walks_a_tree_of_three_levels_whose_tiles_have_long_names() {
    let made = Made::new(u64::MAX);
    // A thousand tiles and one: `tile/0/x001/000`; 256 of them make a tile of level 2.
    let entries: u64 = 1_001 * 256 + 3;
    for from in (0..entries).step_by(8_192) {
        let appends =
            (from..entries.min(from + 8_192)).map(|n| made.log.append(n.to_be_bytes().into()));
        for appended in futures::future::join_all(appends).await {
            appended.expect("appended");
        }
    }
    made.log.publish_now().await.expect("published");
    assert!(made.dir().join("1/tile/0/x001/000").exists());
    assert!(made.dir().join("1/tile/entries/x001/000").exists());
    assert!(made.dir().join("1/tile/2/000.p/3").exists());
    let keys = text(&made.keys);
    assert_eq!(
        said(&["verify_log.go", "log", text(&made.dir()), keys]),
        json!(made.shards())
    );
    assert_eq!(
        said(&["verify_log.py", "log", text(&made.dir())]),
        json!(made.shards())
    );
}

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

#[tokio::test(flavor = "multi_thread")]
async fn go_takes_our_consistency_proofs_and_pymerkle_finds_the_old_roots() {
    let made = Made::new(u64::MAX);
    made.fill(700).await;
    let keys = text(&made.keys);
    let head = made.log.head().checkpoint;
    let size = head.checkpoint().size;
    let new = made.write("new", head.note());
    let dir = made.dir().join("1");
    for old in [1, 2, 255, 256, 257, 512, 699] {
        let root = made.log.root_of(1, old).expect("a root");
        let shard = head.checkpoint().shard.clone();
        let older = secret(1).sign(
            &Checkpoint {
                shard,
                size: old,
                root,
            },
            now(),
        );
        let path = made.log.consistency_path(1, old, size).expect("a path");
        let write = |path: &[Hash]| {
            let note = proof::text(0, path, "");
            let lines: Vec<&str> = note.lines().skip(2).collect();
            made.write("path", lines.join("\n"))
        };
        let (old_file, path_file) = (made.write("old", older.note()), write(&path));
        let go = [
            "verify_log.go",
            "consistency",
            text(&old_file),
            text(&new),
            text(&path_file),
            keys,
        ];
        let python = ["verify_log.py", "consistency", text(&dir), text(&old_file)];
        for program in [&go[..], &python] {
            assert_eq!(
                said(program),
                shown(head.checkpoint()),
                "{} from {old}",
                program[0]
            );
        }
        if old != 257 {
            continue;
        }
        let mut bent = path.clone();
        bent[1][0] ^= 1;
        for (what, path) in [("a bit", bent), ("one less", path[1..].to_vec())] {
            write(&path);
            refuses(what, &go);
        }
        write(&path);
        let mut root = root;
        root[0] ^= 1;
        let shard = head.checkpoint().shard.clone();
        let forked = secret(1).sign(
            &Checkpoint {
                shard,
                size: old,
                root,
            },
            now(),
        );
        made.write("old", forked.note());
        for program in [&go[..], &python] {
            refuses(&format!("another old root, {}", program[0]), program);
        }
    }
}

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
