//! Receipts, checkpoints and answers about consistency that prove nothing. A key server that gets such a
//! receipt with a ticket answers with the refusal; a client or key server that gets such an answer uses
//! nothing of that server.

use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::messages::Receipt;
use ticket_format::messages::consistency::ConsistencyAnswer;
use ticket_format::tlog::{Checkpoint, verify_continuation};

use super::super::case::Case;
use super::super::log::{self, Log, Shard, issue_entry};
use super::super::logged::continued;
use super::super::world::{NOW, World};
use super::refused;

pub(super) fn cases(world: &World) -> Vec<Case> {
    let mut all = proofs(world);
    all.extend(notes(world));
    all.extend(witnessed(world));
    all.extend(consistency(world));
    all
}

/// Takes a receipt by the broker's log key and, where the policy is given, by the witnesses.
fn check(world: &World, (path, about): (&str, &str), policy: bool, receipt: &Receipt) -> Case {
    let witnesses = policy.then(log::read_policy);
    let got = world.broker_log.verifier(witnesses).verify(receipt);
    let got = got
        .map(|_| ())
        .map_err(|error| (Refusal::Receipt, error.to_string()));
    let case = refused(path, "receipt", about, Refusal::Receipt, got)
        .input("log", "broker")
        .given("receipt", receipt.to_cbor());
    if policy {
        case.input("policy", log::policy())
    } else {
        case
    }
}

fn proofs(world: &World) -> Vec<Case> {
    let shard = world.broker_log.with(&issue_entry(world));
    let (good, head) = (shard.receipt(7), shard.head());
    let note = world.broker_log.note(&head, NOW);
    let with = |path: &str, about: &str, proof: String| {
        let receipt = Receipt {
            entry: good.entry.clone(),
            proof,
        };
        check(world, (path, about), false, &receipt)
    };
    let mut bent = shard.path(7);
    if let Some(first) = bent.first_mut() {
        first[0] ^= 1;
    }
    let short = shard.path(7).split_off(1);
    let mut long = shard.path(7);
    long.push([0; 32]);
    let other = Receipt {
        entry: shard.entries.first().cloned().unwrap_or_default(),
        proof: good.proof.clone(),
    };
    let cut = good.proof.trim_end_matches('\n').len() - 4;
    vec![
        with(
            "receipt-inclusion",
            "TLOG-5: one bit of the inclusion proof is another.",
            log::proof(7, &bent, &note),
        ),
        with(
            "receipt-path-short",
            "TLOG-5: the inclusion proof's first hash is missing.",
            log::proof(7, &short, &note),
        ),
        with(
            "receipt-path-long",
            "TLOG-5: the inclusion proof has a hash more than there are.",
            log::proof(7, &long, &note),
        ),
        with(
            "receipt-index",
            "TLOG-5: the entry's neighbour's index.",
            log::proof(6, &shard.path(7), &note),
        ),
        with(
            "receipt-index-outside",
            "TLOG-5: an index that the tree does not have.",
            log::proof(head.size, &shard.path(7), &note),
        ),
        with(
            "receipt-extra",
            "TLOG-5: a proof with extra data.",
            good.proof.replacen("index 7", "extra AAAA\nindex 7", 1),
        ),
        with(
            "receipt-version",
            "TLOG-5: another version of the proof's form.",
            good.proof.replacen("@v1", "@v2", 1),
        ),
        with(
            "receipt-cut",
            "TLOG-5: the last signature line is not whole.",
            good.proof.get(..cut).unwrap_or_default().to_owned(),
        ),
        check(
            world,
            (
                "receipt-entry",
                "TLOG-5: another entry of the same tree beside the proof.",
            ),
            false,
            &other,
        ),
    ]
}

fn notes(world: &World) -> Vec<Case> {
    let log = &world.broker_log;
    let shard = log.with(&issue_entry(world));
    let (head, path) = (shard.head(), shard.path(7));
    let name = head.shard.to_string();
    let [ed25519, ml_dsa] = log.lines(&head, &name, NOW);
    let text = log::text(&head);
    let with = |path_name: &str, about: &str, note: String| {
        let receipt = shard.receipt_under(7, &note);
        check(world, (path_name, about), false, &receipt)
    };
    // A root of another tree, with the proof that leads to it: only the signatures tell.
    let [other_ed25519, other_ml_dsa] = log.lines(&shard.at(12), &name, NOW);
    let second = Checkpoint {
        shard: log.key.origin.shard(2),
        ..head.clone()
    };
    let by_other = world.server_log.note(
        &Checkpoint {
            shard: world.server_log.key.origin.shard(1),
            ..head.clone()
        },
        NOW,
    );
    let impostor = {
        let other = Log::new(
            ticket_format::statement::Role::Broker,
            &world.broker_tls.public(),
            40,
        );
        other.note(&head, NOW)
    };
    let extended = format!("{text}extension\n");
    assert_eq!(path.len(), 4);
    vec![
        with(
            "receipt-no-ed25519",
            "TLOG-2: the checkpoint lacks the log's Ed25519 signature.",
            format!("{text}\n{ml_dsa}"),
        ),
        with(
            "receipt-no-ml-dsa",
            "TLOG-2: the checkpoint lacks the log's ML-DSA-44 signature.",
            format!("{text}\n{ed25519}"),
        ),
        with(
            "receipt-bad-ed25519",
            "TLOG-2: the Ed25519 signature is of another checkpoint.",
            format!("{text}\n{other_ed25519}{ml_dsa}"),
        ),
        with(
            "receipt-bad-ml-dsa",
            "TLOG-2: the ML-DSA-44 signature is of another checkpoint.",
            format!("{text}\n{ed25519}{other_ml_dsa}"),
        ),
        with(
            "receipt-doubled",
            "TLOG-2: a second line of the log's Ed25519 key, which does not verify.",
            format!("{text}\n{ed25519}{ml_dsa}{other_ed25519}"),
        ),
        with(
            "receipt-shard",
            "TLOG-2: the text names shard 2, the signatures are of shard 1.",
            format!("{}\n{ed25519}{ml_dsa}", log::text(&second)),
        ),
        with(
            "receipt-other-log",
            "TLOG-2: the checkpoint is of the key server's log, not of the broker's.",
            by_other,
        ),
        with(
            "receipt-other-keys",
            "TLOG-2: a checkpoint under the broker's name by keys that are not its log's.",
            impostor,
        ),
        with(
            "receipt-unsigned",
            "TLOG-2: the note's text without signatures.",
            text.clone(),
        ),
        with(
            "receipt-extension",
            "TLOG-2: a checkpoint with an extension line.",
            format!("{extended}\n{ed25519}{ml_dsa}"),
        ),
    ]
}

fn witnessed(world: &World) -> Vec<Case> {
    let log = &world.broker_log;
    let shard = log.with(&issue_entry(world));
    let head = shard.head();
    let note = log.note(&head, NOW);
    let [first, second] = log::witnesses();
    let [one, _] = first.lines(&head, NOW + 1);
    // Of the second witness, but of an older tree.
    let [old, _] = second.lines(&shard.at(12), NOW + 1);
    let with = |path: &str, about: &str, lines: &[String]| {
        let receipt = shard.receipt_under(7, &format!("{note}{}", lines.concat()));
        check(world, (path, about), true, &receipt)
    };
    vec![
        with(
            "receipt-unwitnessed",
            "TLOG-8: nobody has cosigned the checkpoint.",
            &[],
        ),
        with(
            "receipt-one-witness",
            "TLOG-8: one of two witnesses has cosigned the checkpoint, with both its keys.",
            &first.lines(&head, NOW + 1),
        ),
        with(
            "receipt-old-cosignature",
            "TLOG-8: the second witness's line is of an older checkpoint.",
            &[one, old],
        ),
    ]
}

fn consistency(world: &World) -> Vec<Case> {
    let log = &world.broker_log;
    let (remembered, note, good) = continued(world);
    let shard = log.with(&issue_entry(world));
    let check = |path: &str, about: &str, bend: &dyn Fn(&mut ConsistencyAnswer)| {
        let mut answer = good.clone();
        bend(&mut answer);
        let got = verify_continuation(&log.verifier(None), &remembered, &answer);
        let got = got
            .map(|_| ())
            .map_err(|error| (Refusal::Receipt, error.to_string()));
        refused(path, "consistency", about, Refusal::Receipt, got)
            .input("log", "broker")
            .input("remembered", note.as_str())
            .given("answer_body", answer.to_cbor())
    };
    // The same size, another entry among the first five.
    let forked = {
        let mut entries = shard.entries.clone();
        entries.swap(0, 1);
        Shard {
            log,
            number: 1,
            entries,
        }
    };
    let elsewhere = Shard {
        log,
        number: 2,
        entries: vec![log::opened(&shard.at(12), 12).to_cbor()],
    };
    let late = Shard {
        log,
        number: 2,
        entries: vec![
            issue_entry(world).to_cbor(),
            log::opened(&shard.head(), 13).to_cbor(),
        ],
    };
    vec![
        check(
            "consistency-fork",
            "TLOG-6: a tree whose first five entries are others, with the proof that belongs to it.",
            &|answer| {
                answer.path = forked.since(5);
                answer.checkpoint = log.note(&forked.head(), NOW);
            },
        ),
        check(
            "consistency-rollback",
            "TLOG-6: the newest checkpoint has fewer entries than were seen.",
            &|answer| {
                answer.path.clear();
                answer.checkpoint = log.note(&shard.at(4), NOW);
            },
        ),
        check(
            "consistency-path",
            "TLOG-6: the last hash of the path is missing.",
            &|answer| {
                answer.path.pop();
            },
        ),
        check(
            "consistency-unsigned",
            "TLOG-2, TLOG-6: the newest checkpoint lacks the ML-DSA-44 signature.",
            &|answer| {
                let [line, _] = log.lines(&shard.head(), &shard.head().shard.to_string(), NOW);
                answer.checkpoint = format!("{}\n{line}", log::text(&shard.head()));
            },
        ),
        check(
            "consistency-link",
            "TLOG-4: the next shard says that the one before ended with twelve entries.",
            &|answer| answer.links = vec![elsewhere.receipt(0)],
        ),
        check(
            "consistency-link-late",
            "TLOG-4: the link is the next shard's second entry.",
            &|answer| answer.links = vec![late.receipt(1)],
        ),
    ]
}
