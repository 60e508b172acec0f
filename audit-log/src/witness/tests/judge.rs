//! Every answer of a witness, on the state it keeps.

use std::sync::{Arc, Barrier};

use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, LogKey};

use super::super::request::AddCheckpoint;
use super::super::{Answer, StateError, Witness};
use super::{Tree, assert_cosigned, now, open, witness, witness_secret};

fn note_with(text: &str, signed: &str) -> String {
    let (_, lines) = signed.split_once("\n\n").unwrap();
    format!("{text}\n{lines}")
}

fn body(old: u64, note: &str) -> Vec<u8> {
    let asked = AddCheckpoint {
        old,
        proof: Vec::new(),
        note,
    };
    asked.to_body().into_bytes()
}

#[test]
fn a_log_that_only_grows_is_cosigned_at_every_step() {
    // rule: TLOG-9
    let log = Tree::new("grows");
    let (_dir, witness) = witness(&[&log]);
    let mut old = 0;
    for size in [0, 1, 1, 2, 3, 7, 8, 64, 65, 200] {
        let answer = witness.add_checkpoint(&log.request(old, size), now());
        assert_cosigned(&answer, &log.checkpoint(size));
        old = size;
    }
    let heads = witness.heads();
    assert_eq!(heads.len(), 1);
    assert_eq!(
        (heads[0].size, heads[0].root),
        (200, log.checkpoint(200).root)
    );
}

#[test]
fn a_checkpoint_of_an_unknown_origin_is_not_found() {
    let (log, other) = (Tree::new("known"), Tree::new("other"));
    let (_dir, witness) = witness(&[&log]);
    let answer = witness.add_checkpoint(&other.request(0, 1), now());
    assert_eq!(answer, Answer::UnknownLog);
    assert_eq!(answer.status(), 404);
    // Known log, but no shard; no origin at all.
    for text in [
        "realm/broker/known\n1\n",
        "realm/broker/known/0\n1\n",
        "\n",
        "x\n",
    ] {
        let answer = witness.add_checkpoint(&body(0, &format!("{text}\n— a b\n")), now());
        assert_eq!(answer.status(), 404, "{text:?}");
    }
}

#[test]
fn a_checkpoint_that_its_log_did_not_sign_twice_is_forbidden() {
    // rule: TLOG-2
    let log = Tree::new("signed");
    let (_dir, witness) = witness(&[&log]);
    let signed = log.signed(3);
    let (text, lines) = signed.note().split_once("\n\n").unwrap();
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    let [first, second] = lines[..] else { panic!() };
    let mut stranger = Tree::new("stranger");
    let theirs = stranger.signed(3);
    let named = theirs.note().replace("stranger", "signed");
    stranger.secret = super::log_secret("signed");
    let other_size = log.signed(4);
    let cases = [
        format!("{text}\n\n{first}"),
        format!("{text}\n\n{second}"),
        named,
        // Signatures of another checkpoint of the same log.
        note_with(&format!("{text}\n"), other_size.note()),
        format!("{text}\n\n— somebody.example/else AAAAAAAAAAAA\n"),
    ];
    for note in cases {
        let answer = witness.add_checkpoint(&body(0, &note), now());
        assert_eq!(answer.status(), 403, "{note}");
    }
    // Lines of unknown keys beside the log's own are passed over.
    let more = format!("{}— somebody.example/else AAAAAAAAAAAA\n", signed.note());
    assert_cosigned(
        &witness.add_checkpoint(&body(0, &more), now()),
        &log.checkpoint(3),
    );
    // Nor are they kept.
    assert_eq!(witness.heads()[0].note, signed.note());
}

#[test]
fn what_is_no_request_or_no_checkpoint_is_a_bad_request() {
    let log = Tree::new("form");
    let (_dir, witness) = witness(&[&log]);
    let good = log.request(0, 3);
    let text = String::from_utf8(good.clone()).unwrap();
    let cases = [
        Vec::new(),
        text.replace("old 0", "old 00").into_bytes(),
        text.replace('\n', "\r\n").into_bytes(),
        text.replace("/1\n3\n", "/1\n03\n").into_bytes(),
        // An extension line: none of this log's checkpoints has one.
        text.replacen("\n\n— ", "\nextension\n\n— ", 1).into_bytes(),
        [&good[..], b"no signature"].concat(),
        text.trim_end().as_bytes().to_vec(),
    ];
    for body in cases {
        let answer = witness.add_checkpoint(&body, now());
        let shown = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(answer.status(), 400, "{answer:?} to {shown}");
    }
    // Old size beyond the checkpoint's.
    let answer = witness.add_checkpoint(&log.request(4, 3), now());
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert!(witness.heads().is_empty());
    assert_cosigned(&witness.add_checkpoint(&good, now()), &log.checkpoint(3));
    let long = [&good[..], &vec![b'x'; 64 * 1024]].concat();
    assert_eq!(witness.add_checkpoint(&long, now()).status(), 413);
}

#[test]
fn an_old_size_that_is_not_the_cosigned_one_is_a_conflict_that_names_it() {
    let log = Tree::new("conflict");
    let (_dir, witness) = witness(&[&log]);
    let first = witness.add_checkpoint(&log.request(5, 9), now());
    assert_eq!(first, Answer::Conflict { size: 0 });
    witness.add_checkpoint(&log.request(0, 6), now());
    for (old, new) in [(0, 6), (0, 9), (5, 9), (7, 9), (0, 3), (3, 3)] {
        let answer = witness.add_checkpoint(&log.request(old, new), now());
        assert_eq!(answer, Answer::Conflict { size: 6 }, "{old} to {new}");
        assert_eq!(answer.content_type(), "text/x.tlog.size");
        assert_eq!(answer.body(), "6\n");
    }
    // From the right size backwards: an old size beyond the checkpoint's.
    assert_eq!(
        witness.add_checkpoint(&log.request(6, 5), now()).status(),
        400
    );
}

#[test]
fn a_second_root_of_one_size_is_a_conflict_and_never_cosigned() {
    let log = Tree::new("two-roots");
    let fork = Tree::forked("two-roots", 2, "b");
    let (dir, witness) = witness(&[&log]);
    witness.add_checkpoint(&log.request(0, 6), now());
    for proof in [Vec::new(), log.proof(3, 6)] {
        let answer = witness.add_checkpoint(&fork.request_with(6, proof, 6), now());
        assert_eq!(answer, Answer::Conflict { size: 6 });
    }
    drop(witness);
    let witness = open(&dir, &[&log]);
    let answer = witness.add_checkpoint(&fork.request(6, 6), now());
    assert_eq!(answer.status(), 409);
    assert_cosigned(
        &witness.add_checkpoint(&log.request(6, 6), now()),
        &log.checkpoint(6),
    );
    // The empty tree has one root only.
    let fresh = Tree::new("two-roots-empty");
    let (_dir, witness) = super::witness(&[&fresh]);
    let odd = Checkpoint {
        root: [9; 32],
        ..fresh.checkpoint(0)
    };
    let odd = fresh.secret.sign(&odd, now());
    let answer = witness.add_checkpoint(&body(0, odd.note()), now());
    assert_eq!(answer, Answer::Conflict { size: 0 });
}

#[test]
fn a_proof_that_does_not_lead_from_what_was_cosigned_is_unprocessable() {
    let log = Tree::new("proof");
    let fork = Tree::forked("proof", 2, "b");
    let (_dir, witness) = witness(&[&log]);
    let with_proof_from_nothing = log.request_with(0, log.proof(1, 6), 6);
    assert_eq!(
        witness.add_checkpoint(&with_proof_from_nothing, now()),
        Answer::Inconsistent
    );
    witness.add_checkpoint(&log.request(0, 6), now());
    let mut bent = log.proof(6, 11);
    bent[0][0] ^= 1;
    let mut longer = log.proof(6, 11);
    longer.push([0; 32]);
    let mut shorter = log.proof(6, 11);
    shorter.pop();
    let cases = [
        log.request_with(6, Vec::new(), 11),
        log.request_with(6, bent, 11),
        log.request_with(6, longer, 11),
        log.request_with(6, shorter, 11),
        log.request_with(6, log.proof(5, 11), 11),
        // Another branch, with its own valid proof.
        fork.request(6, 11),
        // To itself there is nothing to prove.
        log.request_with(6, log.proof(5, 6), 6),
    ];
    for body in cases {
        let answer = witness.add_checkpoint(&body, now());
        assert_eq!(answer.status(), 422, "{answer:?}");
    }
    assert_eq!(witness.heads()[0].size, 6);
    assert_cosigned(
        &witness.add_checkpoint(&log.request(6, 11), now()),
        &log.checkpoint(11),
    );
}

#[test]
fn what_was_cosigned_is_known_after_a_restart_and_its_record_is_verified_again() {
    let (log, other) = (Tree::new("restart"), Tree::new("elsewhere"));
    let (dir, witness) = witness(&[&log, &other]);
    witness.add_checkpoint(&log.request(0, 6), now());
    witness.add_checkpoint(&other.request(0, 2), now());
    let before = witness.heads();
    drop(witness);
    let again = open(&dir, &[&log, &other]);
    assert_eq!(again.heads(), before);
    assert_eq!(
        again.add_checkpoint(&log.request(0, 9), now()),
        Answer::Conflict { size: 6 }
    );
    drop(again);
    // A log that is no longer followed keeps its record.
    let fewer = open(&dir, &[&other]);
    assert_eq!(
        fewer.add_checkpoint(&log.request(6, 9), now()).status(),
        404
    );
    drop(fewer);
    assert_eq!(open(&dir, &[&log, &other]).heads(), before);
    // Keys other than those that signed the record.
    let mut impostor = Tree::new("elsewhere");
    let origin = log.secret.key().origin.clone();
    impostor.secret =
        ticket_format::tlog::LogSecret::from_seeds(origin, &[3; 32], &[3; 32]).unwrap();
    let opened = Witness::open(
        &dir.path().join("state"),
        witness_secret("witness.example/w1"),
        [impostor.secret.key().clone()],
    );
    assert!(matches!(opened, Err(StateError::Damaged { .. })));
}

#[test]
fn a_checkpoint_that_cannot_be_kept_is_not_cosigned() {
    // rule: TLOG-9
    let log = Tree::new("unkept");
    let (dir, witness) = witness(&[&log]);
    witness.add_checkpoint(&log.request(0, 2), now());
    let state = dir.path().join("state");
    let away = dir.path().join("away");
    std::fs::rename(&state, &away).unwrap();
    let answer = witness.add_checkpoint(&log.request(2, 5), now());
    assert_eq!(answer.status(), 500, "{answer:?}");
    assert!(!answer.body().contains('\u{2014}'));
    assert_eq!(witness.heads()[0].size, 2);
    std::fs::rename(&away, &state).unwrap();
    assert_cosigned(
        &witness.add_checkpoint(&log.request(2, 5), now()),
        &log.checkpoint(5),
    );
}

#[test]
fn every_shard_of_a_known_log_has_a_record_of_its_own() {
    let mut log = Tree::new("shards");
    let (_dir, witness) = witness(&[&log]);
    for (shard, size) in [(1, 6), (2, 1), (40, 3)] {
        log.shard = shard;
        let answer = witness.add_checkpoint(&log.request(0, size), now());
        assert_cosigned(&answer, &log.checkpoint(size));
    }
    log.shard = 1;
    assert_eq!(
        witness.add_checkpoint(&log.request(0, 6), now()),
        Answer::Conflict { size: 6 }
    );
    let sizes: Vec<(u64, u64)> = witness
        .heads()
        .iter()
        .map(|head| (head.shard.number, head.size))
        .collect();
    assert_eq!(sizes, [(1, 6), (2, 1), (40, 3)]);
    let digest = super::super::digest(&log.checkpoint(0).shard.to_string());
    assert_eq!(witness.head_by_digest(&digest).unwrap().size, 6);
    // By the log's own origin: of its newest shard.
    let digest = super::super::digest(log.secret.key().origin.as_str());
    assert_eq!(witness.head_by_digest(&digest).unwrap().shard.number, 40);
}

#[test]
fn the_times_of_cosignatures_do_not_go_back_with_the_clock() {
    let log = Tree::new("clock");
    let (dir, witness) = witness(&[&log]);
    let late = Timestamp::from_seconds(now().seconds() + 50);
    witness.add_checkpoint(&log.request(0, 1), late);
    witness.add_checkpoint(&log.request(1, 2), now());
    assert_eq!(witness.heads()[0].time, late);
    drop(witness);
    let witness = open(&dir, &[&log]);
    witness.add_checkpoint(&log.request(2, 3), now());
    assert_eq!(witness.heads()[0].time, late);
}

/// The race of the protocol's text: whatever the order in which growing and stale requests
/// come, what is cosigned last is the largest that was cosigned, and of two branches only one ever is.
#[test]
fn concurrent_requests_of_growing_and_stale_sizes_never_take_the_record_back() {
    // rule: TLOG-9
    let log = Tree::new("race");
    let fork = Tree::forked("race", 20, "b");
    let (dir, witness) = witness(&[&log]);
    let witness = Arc::new(witness);
    let mut old = 0;
    for round in 0..25_u64 {
        let sizes: Vec<u64> = (1..=4).map(|step| old + step).collect();
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = sizes
            .iter()
            .flat_map(|size| {
                [
                    (log.request(old, *size), *size),
                    (fork.request(old, *size), *size),
                ]
            })
            .map(|(body, size)| {
                let (witness, barrier) = (Arc::clone(&witness), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    (size, witness.add_checkpoint(&body, now()))
                })
            })
            .collect();
        let answers: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        let cosigned: Vec<u64> = answers
            .iter()
            .filter(|(_, answer)| answer.status() == 200)
            .map(|(size, _)| *size)
            .collect();
        // All began from the same size, so the first took it and the others came too late; before the
        // fork both branches are one.
        assert!(!cosigned.is_empty(), "round {round}: {answers:?}");
        assert!(
            cosigned.iter().all(|size| *size == cosigned[0]),
            "{answers:?}"
        );
        for (size, answer) in &answers {
            let allowed = [200, 409, 422].contains(&answer.status());
            assert!(allowed, "round {round}, size {size}: {answer:?}");
        }
        let head = witness.heads()[0].clone();
        assert_eq!(head.size, cosigned[0]);
        old = head.size;
        let ours = head.root == log.checkpoint(old).root;
        if !ours {
            assert_eq!(head.root, fork.checkpoint(old).root);
            // From here on the other branch is the log.
            let answer = witness.add_checkpoint(&log.request(old, old + 1), now());
            assert_eq!(answer.status(), 422);
            break;
        }
    }
    let witness = Arc::into_inner(witness).unwrap();
    let head = witness.heads();
    drop(witness);
    assert_eq!(open(&dir, &[&log]).heads(), head);
}

#[test]
fn two_logs_of_one_origin_and_a_directory_that_was_lost_are_refused() {
    let log = Tree::new("twice");
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    Witness::create(&state).unwrap();
    let key = log.secret.key();
    let opened = Witness::open(&state, witness_secret("w"), [key.clone(), key.clone()]);
    assert!(matches!(opened, Err(StateError::Twice { .. })));
    std::fs::remove_dir(&state).unwrap();
    let opened = Witness::open(&state, witness_secret("w"), [key.clone()]);
    assert!(matches!(opened, Err(StateError::Missing { .. })));
}

#[test]
fn a_log_cannot_fill_the_disk_with_shards_nor_a_configuration_with_logs() {
    let mut log = Tree::new("many");
    let (_dir, mut witness) = witness(&[&log]);
    witness.most_shards = 2;
    for (shard, status) in [(1, 200), (9, 200), (10, 403)] {
        log.shard = shard;
        let answer = witness.add_checkpoint(&log.request(0, 3), now());
        assert_eq!(answer.status(), status, "{shard}: {answer:?}");
    }
    log.shard = 9;
    let answer = witness.add_checkpoint(&log.request(3, 4), now());
    assert_cosigned(&answer, &log.checkpoint(4));
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    Witness::create(&state).unwrap();
    let keys = (0..=super::super::MAX_LOGS).map(|number| {
        let key = log.secret.key();
        let origin = format!("realm/broker/{number}").parse().unwrap();
        LogKey::new(origin, *key.ed25519(), *key.ml_dsa()).unwrap()
    });
    let opened = Witness::open(&state, witness_secret("w"), keys);
    assert!(matches!(opened, Err(StateError::TooMany { .. })));
}
