//! Checkpoints, cosignatures, receipts and consistency.

use serde_json::json;
use ticket_format::cbor::Encode;
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::tlog::{Checkpoint, Proof, verify_continuation};

use super::case::{Case, hex};
use super::log::{
    Shard, Witness, cosigned, cosigned_note, issue_entry, opened, policy, read_policy, text,
    witnesses, witnessing,
};
use super::world::{NOW, World};

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![
        checkpoint(world),
        cosignatures(world),
        receipt(world),
        consistency(world),
    ]
}

fn checkpoint(world: &World) -> Case {
    let log = &world.broker_log;
    let head = log.with(&issue_entry(world)).head();
    let shard = head.shard.to_string();
    let [ed25519, ml_dsa] = log.key.shard_vkeys(1);
    Case::new(
        "log/checkpoint",
        "TLOG-2: a checkpoint of the broker's log and what its two keys sign.",
    )
    .input("keys", "world.json")
    .input("log", "broker")
    .input("shard", 1)
    .input("size", head.size)
    .given("root", head.root)
    .input("time", NOW)
    .expect("shard_name", shard.as_str())
    .expect(
        "shard_vkeys",
        json!([ed25519.to_string(), ml_dsa.to_string()]),
    )
    .expect("text", text(&head))
    .gives("ml_dsa_44_signed", cosigned(&shard, NOW, &head))
    .expect("signature_lines", json!(log.lines(&head, &shard, NOW)))
    .expect("note", log.note(&head, NOW))
    .gives_item("checkpoint", "checkpoint", head.to_cbor())
}

fn cosignatures(world: &World) -> Case {
    let log = &world.broker_log;
    let head = log.with(&issue_entry(world)).head();
    let note = cosigned_note(log, &head);
    assert!(log.verifier(Some(read_policy())).checkpoint(&note).is_ok());
    let [first, second] = witnesses();
    Case::new(
        "log/cosignatures",
        "TLOG-8, TLOG-9: the checkpoint of log/checkpoint, cosigned by two witnesses, and a policy that it satisfies.",
    )
    .input("keys", "world.json")
    .input("checkpoint", text(&head))
    .input("time", NOW + 1)
    .input("policy", policy())
    .expect("ed25519_signed", Witness::cosignature_v1(&head, NOW + 1))
    .gives("ml_dsa_44_signed_w1", cosigned(&first.signer.name, NOW + 1, &head))
    .gives("ml_dsa_44_signed_w2", cosigned(&second.signer.name, NOW + 1, &head))
    .expect("lines_w1", json!(first.lines(&head, NOW + 1)))
    .expect("lines_w2", json!(second.lines(&head, NOW + 1)))
    .expect("note", note)
    .gives_item("witnessing", "witnessing", witnessing().to_cbor())
}

fn receipt(world: &World) -> Case {
    let log = &world.broker_log;
    let shard = log.with(&issue_entry(world));
    let leaves = shard.leaves();
    let receipt = log.receipt(&issue_entry(world));
    let read: Result<Proof, _> = receipt.proof.parse();
    assert_eq!(read.map(|read| read.path), Ok(shard.path(7)));
    Case::new(
        "log/receipt",
        "TLOG-1, TLOG-5: a tree of thirteen entries, and the receipt of the one with index 7.",
    )
    .input("keys", "world.json")
    .input("log", "broker")
    .input("entries", shard.entries.iter().map(hex).collect::<Vec<_>>())
    .input("index", 7)
    .expect("leaf_hashes", leaves.iter().map(hex).collect::<Vec<_>>())
    .gives("root", shard.head().root)
    .expect("path", shard.path(7).iter().map(hex).collect::<Vec<_>>())
    .expect("proof", receipt.proof.as_str())
    .gives_item("receipt", "receipt", receipt.to_cbor())
}

/// A log that was remembered at five entries, and has two shards since.
pub(super) fn continued(world: &World) -> (Checkpoint, String, ConsistencyAnswer) {
    let log = &world.broker_log;
    let shard = log.with(&issue_entry(world));
    let remembered = shard.at(5);
    let opened = opened(&shard.head(), 13);
    let next = Shard {
        log,
        number: 2,
        entries: vec![opened.to_cbor(), issue_entry(world).to_cbor()],
    };
    let answer = ConsistencyAnswer {
        paths: None,
        path: shard.since(5),
        checkpoint: log.note(&shard.head(), NOW),
        links: vec![next.receipt(0)],
    };
    let note = log.note(&remembered, NOW);
    (remembered, note, answer)
}

fn consistency(world: &World) -> Case {
    let (remembered, note, answer) = continued(world);
    let newest = verify_continuation(&world.broker_log.verifier(None), &remembered, &answer);
    let body = ConsistencyBody::of(note).to_cbor();
    let request = Request {
        verb: Verb::Consistency,
        body: body.clone(),
        proofs: Vec::new(),
    };
    #[allow(clippy::expect_used)]
    let newest = newest
        .expect("the code takes what was built beside it")
        .checkpoint;
    Case::new(
        "exchange/consistency",
        "TLOG-4, TLOG-6: a caller remembers the broker's log at five entries; that shard has ended since with thirteen, and another began.",
    )
    .input("keys", "world.json")
    .input("size", remembered.size)
    .given("root", remembered.root)
    .gives_item("body", "consistency-body", &body)
    .gives_item("request", "request", request.to_bytes())
    .expect("path", answer.path.iter().map(hex).collect::<Vec<_>>())
    .gives_item("answer_body", "consistency-answer", answer.to_cbor())
    .gives_item("answer", "answer", Answer::done(Verb::Consistency, &answer).to_bytes())
    .expect("newest", text(newest.checkpoint()))
}
