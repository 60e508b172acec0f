//! What logs say and what is believed of them: entries, notes, receipts, proofs, policies, witnesses' requests.

use std::cell::RefCell;
use std::sync::LazyLock;

use audit_log::witness::{AddCheckpoint, Answer, MAX_BODY, Witness};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::Entry;
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::messages::consistency::ConsistencyAnswer;
use ticket_format::side::SideRecord;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{
    Checkpoint, LogKey, Origin, Proof, ShardName, SignedCheckpoint, Verifier, Vkey, WitnessPolicy,
    WitnessSecret, merkle, note, proof, verify_continuation,
};

use super::{DECIDES, READS, Target, all_have_one_encoding, members, one_encoding, vectors_bytes};
use crate::mutate::Form;
use crate::vectors;
use crate::world::world;

/// Entries of audit logs, and what stands beside them.
pub const ENTRY: Target = Target {
    name: "entry",
    form: Form::Cbor,
    runs: 80_000,
    room: READS,
    seeds: || {
        let mut seeds = members(&["entry", "entries", "side"]);
        seeds.extend(vectors::all_bytes(|file, _, _| file.starts_with("audit/")));
        seeds
    },
    run: entry,
};

fn entry(data: &[u8]) {
    all_have_one_encoding!(data; SideRecord);
    if let Some(entry) = one_encoding::<Entry>(data) {
        let _ = entry.fits();
        // What people are shown of it is bounded by it.
        assert!(format!("{entry:?}").len() <= 4_096 + 64 * data.len());
    }
}

/// Signed notes, checkpoints, verifier keys, witness policies and proofs, as text.
pub const NOTE: Target = Target {
    name: "note",
    form: Form::Text,
    runs: 3_000,
    room: DECIDES,
    seeds: || {
        vectors::all_texts(|file, _, _| {
            file.starts_with("log/") || file.starts_with("exchange/consistency") || file == "world"
        })
    },
    run: text,
};

fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok((body, lines)) = note::split(text) {
        assert!(text.starts_with(body) && lines.len() <= text.len());
    }
    if let Ok(checkpoint) = Checkpoint::from_text(text) {
        assert_eq!(checkpoint.text(), text, "a checkpoint has two texts");
        assert_eq!(
            Checkpoint::from_cbor(&checkpoint.to_cbor(), 4_096),
            Ok(checkpoint)
        );
    }
    let _ = Checkpoint::of_note_unverified(text);
    if let Ok(key) = text.parse::<Vkey>() {
        assert_eq!(key.to_string(), text, "a verifier key has two texts");
    }
    if let Ok(origin) = text.parse::<Origin>() {
        assert_eq!(origin.to_string(), text);
    }
    if let Ok(shard) = text.parse::<ShardName>() {
        assert_eq!(shard.to_string(), text);
    }
    if let Ok(read) = text.parse::<Proof>() {
        assert_eq!(
            proof::text(read.index, &read.path, &read.checkpoint),
            text,
            "a proof has two texts"
        );
    }
    if let Ok(policy) = text.parse::<WitnessPolicy>() {
        assert_eq!(policy.as_str(), text);
        assert!(
            text.len() <= limits::WITNESS_POLICY && policy.witnesses().len() <= limits::WITNESSES
        );
        // Nobody has cosigned this: only a policy that needs nobody is content.
        let needs_none = policy.needs_none() && policy.logs().is_empty();
        assert!(
            needs_none || policy.check(bare()).is_err(),
            "a policy was satisfied by nobody"
        );
    }
    for key in [world().keys.broker_log.key(), world().keys.server_log.key()] {
        if let Ok(signed) = key.verify(text) {
            // rule: TLOG-2
            assert_eq!(signed.note(), text);
            assert!(
                known_notes().any(|known| says_the_same(known, signed.checkpoint())),
                "a checkpoint was forged"
            );
            assert!(signed_by_its_log(text), "a log's signature was forged");
        }
    }
    witnessed(text);
}

/// A checkpoint with no cosignature.
fn bare() -> &'static SignedCheckpoint {
    static BARE: LazyLock<SignedCheckpoint> = LazyLock::new(|| {
        let log = &world().keys.broker_log;
        let checkpoint = Checkpoint {
            shard: log.key().origin.shard(3),
            size: 5,
            root: [1; 32],
        };
        log.sign(&checkpoint, world().now)
    });
    &BARE
}

/// A note without the lines of others than its log: those anybody may add or take away.
fn own_lines(note: &str) -> Vec<&str> {
    let origin = note.split('\n').next().unwrap_or_default();
    let others = |line: &&str| {
        let name = line.strip_prefix("\u{2014} ");
        name.is_none_or(|name| name.split(' ').next() == Some(origin))
    };
    note.split('\n').filter(others).collect()
}

/// Whether the log's signatures on a note are those on one of the vectors' notes.
fn signed_by_its_log(note: &str) -> bool {
    known_texts()
        .iter()
        .any(|known| own_lines(known) == own_lines(note))
}

/// The notes of the vectors, which the logs' keys have signed.
fn known_notes() -> impl Iterator<Item = &'static Checkpoint> {
    static NOTES: LazyLock<Vec<Checkpoint>> = LazyLock::new(|| {
        let read = |note: &String| Checkpoint::of_note_unverified(note).ok();
        known_texts().iter().filter_map(read).collect()
    });
    NOTES.iter()
}

fn known_texts() -> &'static [String] {
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let note = |text: &str| match text.parse::<Proof>() {
            Ok(proof) => proof.checkpoint,
            Err(_) => text.to_owned(),
        };
        let texts = vectors::all_texts(|_, _, text| text.contains('\u{2014}'));
        let texts = texts
            .iter()
            .filter_map(|text| std::str::from_utf8(text).ok());
        let within = vectors_bytes().iter().flat_map(|bytes| notes_within(bytes));
        texts.map(note).chain(within).collect()
    });
    &TEXTS
}

/// Notes that stand somewhere in an item: in receipts and answers.
fn notes_within(bytes: &[u8]) -> Vec<String> {
    let Some(mut item) = crate::tree::Item::read(bytes) else {
        return Vec::new();
    };
    let count = item.count();
    let mut out = Vec::new();
    for number in 0..count {
        if let Some(crate::tree::Item::Text(text)) = item.at(number) {
            let text = String::from_utf8_lossy(text).into_owned();
            match text.parse::<Proof>() {
                Ok(proof) => out.push(proof.checkpoint),
                Err(_) if text.contains('\u{2014}') => out.push(text),
                Err(_) => {}
            }
        }
    }
    out
}

fn says_the_same(one: &Checkpoint, other: &Checkpoint) -> bool {
    (&one.shard, one.size, one.root) == (&other.shard, other.size, other.root)
}

/// What a cosignature's line says, by the policy of the vectors.
fn witnessed(text: &str) {
    let Ok(lines) = note::signature_lines(text) else {
        return;
    };
    let with = bare().with_cosignatures(text.split_inclusive('\n'));
    assert_eq!(with.checkpoint(), bare().checkpoint());
    assert!(lines.len() <= text.len());
    let policy: WitnessPolicy = vectors::text("log/cosignatures", "policy")
        .parse()
        .expect("a policy");
    // The vectors' witnesses have never seen this checkpoint.
    assert!(policy.check(&with).is_err(), "a cosignature was forged");
}

/// Receipts and answers of consistency.
pub const RECEIPT: Target = Target {
    name: "receipt",
    form: Form::Cbor,
    runs: 6_000,
    room: DECIDES,
    seeds: || {
        let mut seeds = members(&["receipt", "answer_body", "links"]);
        seeds.extend(vectors::all_bytes(|file, _, bytes| {
            file.contains("consistency")
                || (file.contains("receipt") && Receipt::from_cbor(bytes, limits::MESSAGE).is_ok())
        }));
        seeds
    },
    run: receipt,
};

fn receipt(data: &[u8]) {
    let keys = &world().keys;
    for key in [keys.broker_log.key(), keys.server_log.key()] {
        if let Some(receipt) = one_encoding::<Receipt>(data) {
            believed(key, &receipt);
        }
        if let Some(answer) = one_encoding::<ConsistencyAnswer>(data) {
            continued(key, &answer);
        }
    }
}

/// A receipt that verifies is of a tree that the log's keys signed, and of an entry that stands in it: one of ours.
fn believed(key: &LogKey, receipt: &Receipt) {
    let Ok(logged) = Verifier::new(key.clone(), None).verify(receipt) else {
        return;
    };
    // rule: TLOG-5
    assert!(
        known_notes().any(|known| says_the_same(known, logged.checkpoint.checkpoint())),
        "a checkpoint was forged"
    );
    assert!(
        signed_by_its_log(logged.checkpoint.note()),
        "a log's signature was forged"
    );
    assert!(logged.index < logged.checkpoint.checkpoint().size);
    assert_eq!(logged.entry.to_cbor(), receipt.entry);
    let known = || {
        vectors_bytes()
            .iter()
            .any(|bytes| contains(bytes, &receipt.entry))
    };
    assert!(known(), "an entry was forged into a log");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes
        .windows(part.len().max(1))
        .any(|window| window == part)
}

fn continued(key: &LogKey, answer: &ConsistencyAnswer) {
    let verifier = Verifier::new(key.clone(), None);
    let empty = Checkpoint {
        shard: key.origin.shard(1),
        size: 0,
        root: merkle::empty_root(),
    };
    for from in known_notes().cloned().chain([empty]) {
        if let Ok(continued) = verify_continuation(&verifier, &from, answer) {
            let to = continued.checkpoint.checkpoint();
            // rule: TLOG-6
            assert!(
                known_notes().any(|known| says_the_same(known, to)),
                "a checkpoint was forged"
            );
            assert!(
                signed_by_its_log(continued.checkpoint.note()),
                "a log's signature was forged"
            );
            assert!(
                to.shard.number > from.shard.number || to.size >= from.size,
                "a log went back"
            );
        }
    }
}

/// What is posted to a witness.
pub const WITNESS: Target = Target {
    name: "witness",
    form: Form::Text,
    runs: 3_000,
    room: DECIDES,
    seeds: || requests().to_vec(),
    run: witness,
};

/// A log of three sizes, each continuing the one before, as it submits them.
fn requests() -> &'static [Vec<u8>] {
    static REQUESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(submitted);
    &REQUESTS
}

fn submitted() -> Vec<Vec<u8>> {
    let log = &world().keys.server_log;
    let leaves: Vec<_> = (0..4u8).map(|n| merkle::leaf_hash(&[n])).collect();
    let pair = merkle::node_hash(&leaves[0], &leaves[1]);
    let right = merkle::node_hash(&leaves[2], &leaves[3]);
    let four = merkle::node_hash(&pair, &right);
    let steps = [
        (0, vec![], 1, leaves[0]),
        (1, vec![leaves[1]], 2, pair),
        (2, vec![right], 4, four),
        // All that continues anything: what else is cosigned has been forged.
        (1, vec![leaves[1], right], 4, four),
        (0, vec![], 4, four),
        (0, vec![], 0, merkle::empty_root()),
    ];
    let asked = steps.map(|(old, proof, size, root)| {
        let checkpoint = Checkpoint {
            shard: log.key().origin.shard(1),
            size,
            root,
        };
        let signed = log.sign(&checkpoint, world().now);
        AddCheckpoint {
            old,
            proof,
            note: signed.note(),
        }
        .to_body()
        .into_bytes()
    });
    asked.to_vec()
}

/// A witness on a directory of its own, made anew when it has cosigned the last of the sizes.
struct Judge {
    witness: Witness,
    _directory: tempfile::TempDir,
}

fn judge() -> Judge {
    let directory = super::scratch();
    let state = directory.path().join("state");
    Witness::create(&state).expect("a witness's state");
    let secret =
        WitnessSecret::from_seeds("witness.example/fuzz", &[0x71; 32], &[0x72; 32]).expect("keys");
    let witness =
        Witness::open(&state, secret, [world().keys.server_log.key().clone()]).expect("a witness");
    Judge {
        witness,
        _directory: directory,
    }
}

fn witness(data: &[u8]) {
    if let Ok(asked) = AddCheckpoint::parse(data) {
        assert!(data.len() <= MAX_BODY);
        assert!(
            asked.to_body().into_bytes() == data,
            "a witness's request has two encodings"
        );
    }
    thread_local! {
        static JUDGE: RefCell<Option<Judge>> = const { RefCell::new(None) };
    }
    JUDGE.with_borrow_mut(|kept| {
        let judge = kept.get_or_insert_with(judge);
        let before = judge.witness.heads();
        let answer = judge
            .witness
            .add_checkpoint(data, Timestamp::from_seconds(world().now.seconds() + 1));
        assert!(answer.body().len() <= 64 * 1024 && (200..=599).contains(&answer.status()));
        let after = judge.witness.heads();
        if matches!(answer, Answer::Cosigned(_)) {
            // rule: TLOG-9 — only what its log signed, and never back.
            let asked = AddCheckpoint::parse(data).expect("what is cosigned was read");
            let signed = world()
                .keys
                .server_log
                .key()
                .verify(asked.note)
                .expect("only what its log signed is cosigned");
            let continues = |known: &Vec<u8>| {
                let known = AddCheckpoint::parse(known).expect("our own request");
                // By what it says: a corpus that was kept has other signatures of the same log.
                let same = Checkpoint::of_note_unverified(known.note)
                    .is_ok_and(|known| says_the_same(&known, signed.checkpoint()));
                // What begins at nothing, or repeats what is cosigned, continues it without a proof.
                let plain = asked.old == 0 || asked.old == signed.checkpoint().size;
                same && (plain || (known.old, &known.proof) == (asked.old, &asked.proof))
            };
            assert!(
                requests().iter().any(continues),
                "what does not continue was cosigned"
            );
            let sizes = |heads: &[audit_log::witness::Head]| {
                heads.iter().map(|head| head.size).max().unwrap_or(0)
            };
            assert!(sizes(&after) >= sizes(&before), "a witness went back");
            if sizes(&after) == 4 {
                *kept = None;
            }
        } else {
            assert_eq!(
                before, after,
                "a request that was not cosigned left something"
            );
        }
    });
}
