//! What may be done to a journal, and what its reader makes of it.

use std::path::Path;
use std::sync::Arc;

use ticket_format::tlog::{Hash, ShardName, merkle};

use super::secret;
use crate::OpenError;
use crate::disk::{Disk, LogFile};
use crate::journal::{self, First, Loaded, MAX_BATCH_BYTES, format};
use crate::tests::model::Model;
use crate::tree::Edge;

const PATH: &str = "journal";

fn name() -> ShardName {
    ShardName {
        origin: secret().key().origin.clone(),
        number: 1,
    }
}

fn header() -> format::Header {
    format::Header {
        id: *b"sixteen bytes id",
        shard: name().to_string(),
        before: 100,
        previous: 0,
    }
}

fn seal(out: &mut Vec<u8>, size: u64, root: &Hash, note: &str, closing: bool, acts: &[u8]) {
    let sealing = format::Sealing {
        size,
        root,
        note,
        closing,
        acts,
    };
    format::put_seal(out, &sealing, &header().id);
}

/// A journal with these batches of entries. Notes are the unsigned text: loading looks at no signature.
fn journal(batches: &[&[&[u8]]]) -> (Vec<u8>, Vec<usize>) {
    let header = header();
    let (mut edge, grown) = Edge::default().grow(Vec::new());
    let note = |size, root| {
        let checkpoint = ticket_format::tlog::Checkpoint {
            shard: name(),
            size,
            root,
        };
        checkpoint.text() + "\nsignatures\n"
    };
    let mut bytes = First {
        header: &header,
        record: None,
        size: 0,
        root: &grown.root,
        note: &note(0, grown.root),
    }
    .to_bytes();
    let mut ends = vec![bytes.len()];
    let mut index = 0;
    for batch in batches {
        let mut acts = Vec::new();
        for entry in *batch {
            let act_id = (index % 2 == 1).then_some([index as u8; 16]);
            format::put_record(&mut bytes, index, act_id.as_ref(), entry);
            format::put_act(&mut acts, act_id.as_ref());
            index += 1;
        }
        let leaves = batch.iter().map(|entry| merkle::leaf_hash(entry)).collect();
        let (after, grown) = edge.grow(leaves);
        edge = after;
        let text = note(index, grown.root);
        seal(&mut bytes, index, &grown.root, &text, false, &acts);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn load(bytes: &[u8]) -> Result<Loaded, OpenError> {
    let disk = Model::new(0);
    disk.write(PATH, bytes).expect("writes");
    let file: Arc<dyn LogFile> = disk.open(PATH).expect("opens").expect("is there");
    journal::load(&file, Path::new(PATH), &name(), |_| {})
}

const THREE: &[&[&[u8]]] = &[&[b"one"], &[b"two", b"three"], &[b"four"]];

// rule: TLOG-3
#[test]
fn a_journal_cut_anywhere_holds_its_whole_batches() {
    let (bytes, ends) = journal(THREE);
    for length in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= length).count();
        match load(&bytes[..length]) {
            Ok(loaded) => {
                let entries = [0, 1, 3, 4][whole - 1];
                assert_eq!(loaded.at.entries, entries, "{length}");
                let torn = loaded
                    .torn
                    .map(|torn| (torn.entries, torn.offset, torn.bytes));
                let end = ends[whole - 1];
                let expected = (100 + entries, end as u64, (length - end) as u64);
                assert_eq!(torn, (length > end).then_some(expected), "{length}");
            }
            // A journal gets its name when its first seal is durable.
            Err(OpenError::NotALog { .. } | OpenError::Damaged { .. }) => {
                assert_eq!(whole, 0, "{length}");
            }
            Err(other) => panic!("{length}: {other}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_costs_nothing_before_the_last_batch() {
    let (good, ends) = journal(THREE);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            match load(&bad) {
                Err(OpenError::Damaged { index, .. }) => {
                    let batch = ends.iter().filter(|end| **end <= at).count();
                    assert!(batch < 3, "byte {at} bit {bit}: the last batch is torn");
                    assert!((100..=103).contains(&index), "byte {at} bit {bit}: {index}");
                }
                Err(OpenError::NotALog { .. } | OpenError::Version { .. }) => {
                    assert!(at < ends[0], "byte {at} bit {bit}");
                }
                Ok(loaded) => {
                    // Whether the last batch was once durable, the published checkpoint says.
                    assert!(at >= ends[2], "byte {at} bit {bit} is not noticed");
                    assert_eq!((loaded.at.entries, loaded.torn.is_some()), (3, true));
                }
                Err(other) => panic!("byte {at} bit {bit}: {other}"),
            }
        }
    }
}

#[test]
fn records_removed_swapped_doubled_or_renumbered_are_damage() {
    let entries: &[&[u8]] = &[b"aaaa", b"bbbb", b"cccc", b"dddd"];
    let (good, ends) = journal(&[entries, &[b"last"]]);
    let record = |index: u64, entry: &[u8]| {
        let mut bytes = Vec::new();
        let act_id = (index % 2 == 1).then_some([index as u8; 16]);
        format::put_record(&mut bytes, index, act_id.as_ref(), entry);
        bytes
    };
    let front = &good[..ends[0]];
    let records: Vec<Vec<u8>> = (0..4).map(|n| record(n, entries[n as usize])).collect();
    let length: usize = records.iter().map(Vec::len).sum();
    let back = &good[ends[0] + length..];
    let with = |pieces: &[&[u8]]| [front, &pieces.concat(), back].concat();
    let [a, b, c, d] = &records[..] else {
        panic!("there are four");
    };
    assert!(load(&with(&[a, b, c, d])).is_ok_and(|loaded| loaded.torn.is_none()));
    let cases = [
        with(&[a, c, d]),
        with(&[a, c, b, d]),
        with(&[a, b, b, c, d]),
        with(&[a, b, c]),
        // In order, with the right numbers, but not what was sealed.
        with(&[a, &record(1, b"cccc"), &record(2, b"bbbb"), d]),
        with(&[a, b, c, d, &record(4, b"more")]),
    ];
    for (case, bad) in cases.iter().enumerate() {
        let error = load(bad).map(drop).expect_err("is refused");
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{case}: {error}"
        );
    }
    // An act under another id.
    let mut other = with(&[a, b, c, d]);
    let at = ends[0] + a.len() + 3;
    other[at] ^= 1;
    let error = load(&other).map(drop).expect_err("is refused");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    // The index 1 as one byte and as two.
    let long = [&b[..1], &[0x18, 1], &b[2..]].concat();
    let error = load(&with(&[a, &long, c, d]))
        .map(drop)
        .expect_err("is refused");
    assert!(
        matches!(error, OpenError::Damaged { index: 101, .. }),
        "{error}"
    );
}

#[test]
fn nothing_may_follow_the_closing_of_a_shard() {
    let (mut bytes, _) = journal(&[&[b"one"]]);
    let root = merkle::leaf_hash(b"one");
    let checkpoint = ticket_format::tlog::Checkpoint {
        shard: name(),
        size: 1,
        root,
    };
    let note = checkpoint.text() + "\nsignatures\n";
    seal(&mut bytes, 1, &root, &note, true, &[]);
    assert!(load(&bytes).is_ok_and(|loaded| loaded.closed && loaded.torn.is_none()));
    let more = merkle::leaf_hash(b"two");
    let (_, grown) = Edge::default().grow(vec![root, more]);
    let checkpoint = ticket_format::tlog::Checkpoint {
        shard: name(),
        size: 2,
        root: grown.root,
    };
    let note = checkpoint.text() + "\nsignatures\n";
    format::put_record(&mut bytes, 1, None, b"two");
    seal(&mut bytes, 2, &grown.root, &note, false, &[0]);
    format::put_record(&mut bytes, 2, None, b"three");
    seal(&mut bytes, 3, &grown.root, &note, false, &[0]);
    assert!(matches!(load(&bytes), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_long_tail_without_a_seal_is_not_from_one_torn_write() {
    let (good, _) = journal(THREE);
    for (extra, torn) in [(MAX_BATCH_BYTES, true), (MAX_BATCH_BYTES + 1, false)] {
        let mut bytes = good.clone();
        bytes.resize(good.len() + extra as usize, 0);
        assert_eq!(load(&bytes).is_ok(), torn);
    }
}

#[test]
fn other_files_and_other_journals_are_refused() {
    let (good, _) = journal(THREE);
    for (bytes, version) in [
        (b"".as_slice(), false),
        (
            b"some text that is longer than the front of a header",
            false,
        ),
        (b"\x84\x71postern audit log\x01 and so on", true),
        (b"\x87\x71postern audit log\x03 and so on", true),
        (b"\x87\x71postern audit log\x02 and so on", false),
    ] {
        let error = load(bytes).map(drop).expect_err("is refused");
        assert_eq!(
            matches!(error, OpenError::Version { .. }),
            version,
            "{error}"
        );
        assert!(
            version || matches!(error, OpenError::NotALog { .. }),
            "{error}"
        );
    }
    let disk = Model::new(0);
    disk.write(PATH, &good).expect("writes");
    let file: Arc<dyn LogFile> = disk.open(PATH).expect("opens").expect("is there");
    let other = ShardName {
        number: 2,
        ..name()
    };
    let error = journal::load(&file, Path::new(PATH), &other, |_| {})
        .map(drop)
        .expect_err("is refused");
    assert!(matches!(error, OpenError::OtherLog { .. }), "{error}");
}

#[test]
fn a_journal_is_a_cbor_sequence_that_others_read() {
    let (bytes, _) = journal(THREE);
    let mut rest = bytes.as_slice();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let before = rest;
        let item: ciborium::Value = ciborium::from_reader(&mut rest).expect("is CBOR");
        // Deterministic: what ciborium writes for it is what stands there.
        let mut again = Vec::new();
        ciborium::into_writer(&item, &mut again).expect("writes");
        assert_eq!(again, before[..before.len() - rest.len()]);
        items.push(item.into_array().expect("is an array"));
    }
    assert_eq!(items[0][0].as_text(), Some("postern audit log"));
    assert_eq!(items[0][3].as_text(), Some(name().to_string().as_str()));
    let lengths: Vec<_> = items.iter().map(Vec::len).collect();
    assert_eq!(lengths, [7, 6, 3, 6, 3, 3, 6, 3, 6]);
    assert_eq!(items[2][2].as_bytes(), Some(&b"one".to_vec()));
    assert!(items[2][1].is_null());
    assert_eq!(items[4][1].as_bytes(), Some(&vec![1; 16]));
}

#[test]
fn a_seal_or_a_note_of_another_tree_is_damage() {
    let good = merkle::leaf_hash(b"one");
    let bad = merkle::leaf_hash(b"other");
    let note = |size, root| {
        let checkpoint = ticket_format::tlog::Checkpoint {
            shard: name(),
            size,
            root,
        };
        checkpoint.text() + "\nsignatures\n"
    };
    for (root, noted, size) in [
        (good, good, 1),
        (bad, good, 1),
        (good, bad, 1),
        (good, good, 2),
    ] {
        let (mut bytes, _) = journal(&[]);
        format::put_record(&mut bytes, 0, None, b"one");
        seal(&mut bytes, 1, &root, &note(size, noted), false, &[0]);
        let (_, grown) = Edge::default().grow(vec![good, merkle::leaf_hash(b"two")]);
        format::put_record(&mut bytes, 1, None, b"two");
        seal(
            &mut bytes,
            2,
            &grown.root,
            &note(2, grown.root),
            false,
            &[0],
        );
        match load(&bytes) {
            Ok(loaded) => assert_eq!((loaded.at.entries, root, noted, size), (2, good, good, 1)),
            Err(OpenError::Damaged { index, .. }) => {
                assert_eq!(index, 100);
                assert_ne!((root, noted, size), (good, good, 1));
            }
            Err(other) => panic!("{other}"),
        }
    }
}
