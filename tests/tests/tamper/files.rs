//! A stopped server's log, edited by root: the start, the verifier, or the next caller notices.

use super::*;
use audit_log::{AuditLog, Options};
use std::fs;
use tests::house::copy_dir;
use tests::journal::{self, Item};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::Entry;
use ticket_format::limits;
use ticket_format::time::Timestamp;
use ticket_format::tlog::LogSecret;

/// What root does to a journal's bytes.
type Edit<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;

/// Some history: a node, tickets, keys.
fn lived_in() -> (House, Home) {
    let house = House::start();
    let home = node(&house, "node", 0);
    for number in 0..4 {
        uses_a_key(&home, &format!("object {number}")).ok();
    }
    (house, home)
}

#[test]
fn an_edited_deleted_or_reordered_entry_is_noticed_at_the_start_and_by_the_verifier() {
    // rule: TLOG-3
    let (mut house, _home) = lived_in();
    house.key_server.stop();
    let whole = house.path("whole");
    copy_dir(&house.log("key-server"), &whole);
    let journal = house.journal("key-server");
    let records = journal::records(&journal);
    let (range, index, _) = records[records.len() / 2].clone();
    let other = records[records.len() / 2 - 1].0.clone();
    let edits: [(&str, Edit<'_>); 4] = [
        (
            "an edited entry",
            Box::new(|bytes: &mut Vec<u8>| bytes[range.end - 20] ^= 1),
        ),
        (
            "a deleted entry",
            Box::new(|bytes: &mut Vec<u8>| drop(bytes.drain(range.clone()))),
        ),
        (
            "two entries in another order",
            Box::new(|bytes: &mut Vec<u8>| {
                let (first, second) =
                    (bytes[other.clone()].to_vec(), bytes[range.clone()].to_vec());
                let between = bytes[other.end..range.start].to_vec();
                bytes.splice(other.start..range.end, [second, between, first].concat());
            }),
        ),
        (
            "an entry put in",
            Box::new(|bytes: &mut Vec<u8>| {
                let again = bytes[range.clone()].to_vec();
                bytes.splice(range.start..range.start, again);
            }),
        ),
    ];
    for (what, edit) in edits {
        let begun = Instant::now();
        journal::change(&journal, |bytes| edit(bytes));
        let said = house.key_server.fails();
        assert_ne!(said.code, Some(0), "{what}");
        assert!(
            said.stderr.contains("damaged") || said.stderr.contains("entry"),
            "{what}: {}",
            said.stderr
        );
        noticed(what, "the server at its start", begun);
        let said = verify(&house, &house.log("key-server"), "key-server");
        assert_eq!(said.code, Some(9), "{what}: {}", said.stderr);
        noticed(what, "audit verify", begun);
        println!("  {}", said.stderr.lines().next().unwrap_or_default());
        fs::remove_dir_all(house.log("key-server")).expect("removed");
        copy_dir(&whole, &house.log("key-server"));
    }
    println!("entry {index} was the one");
    verify(&house, &house.log("key-server"), "key-server").ok();
    house.key_server.start();
}

#[test]
fn a_published_file_that_was_changed_is_noticed_by_the_verifier() {
    // rule: TLOG-11
    let (mut house, _home) = lived_in();
    // Publication is finished when the server has stopped.
    house.broker.stop();
    let log = house.log("broker");
    verify(&house, &log, "broker").ok();
    // Narrower parts of a tile, from earlier checkpoints, say nothing any more.
    let mut published = tests::house::files_below(&log);
    let width = |path: &Path| path.file_name()?.to_str()?.parse::<u64>().ok();
    let narrower = |path: &Path, other: &Path| {
        path.parent() == other.parent()
            && path
                .parent()
                .is_some_and(|dir| dir.to_string_lossy().ends_with(".p"))
            && width(path) < width(other)
    };
    let all: Vec<_> = published.iter().map(|(path, _)| path.clone()).collect();
    published.retain(|(path, _)| {
        !path.ends_with("journal") && !all.iter().any(|other| narrower(path, other))
    });
    assert!(
        published.len() >= 3,
        "entries, hashes, checkpoint: {}",
        published.len()
    );
    for (path, bytes) in published {
        for place in [0, bytes.len() / 2, bytes.len() - 2] {
            let begun = Instant::now();
            journal::change(&path, |bytes| bytes[place] ^= 1);
            let said = verify(&house, &log, "broker");
            let name = path.strip_prefix(&log).expect("below").display();
            assert_eq!(said.code, Some(9), "{name}, byte {place}: {}", said.stderr);
            fs::write(&path, &bytes).expect("written");
            if place == 0 {
                noticed(&format!("a changed byte of {name}"), "audit verify", begun);
            }
        }
    }
}

#[test]
fn a_log_cut_off_at_an_earlier_checkpoint_is_noticed_by_the_next_caller() {
    // rule: TLOG-6
    let (mut house, home) = lived_in();
    house.key_server.kill();
    // All that is left holds together: nothing but somebody else's memory tells.
    let journal = house.journal("key-server");
    let seals: Vec<_> = journal::items(&journal)
        .into_iter()
        .filter(|(_, item)| matches!(item, Item::Seal(..)))
        .collect();
    let kept = seals[seals.len() - 4].0.end;
    journal::change(&journal, |bytes| bytes.truncate(kept));
    let shard = journal.parent().expect("a shard").to_owned();
    for name in ["tile", "checkpoint"] {
        let path = shard.join(name);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    house.key_server.start();
    let begun = Instant::now();
    let said = uses_a_key(&home, "after");
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    assert!(said.stderr.contains("log"), "{}", said.stderr);
    noticed("a log cut off", "a client that came back", begun);
}

/// The log's secret keys, as root has them.
fn secret(house: &House, server: &str, credential: &str) -> LogSecret {
    let seed = |name| house.sealed_seed(server, credential, name);
    let origin = house.log_key(server).origin;
    LogSecret::from_seeds(origin, &seed("log-ed25519"), &seed("log-ml-dsa")).expect("keys")
}

#[tokio::test]
async fn a_back_dated_entry_is_noticed_by_the_verifier() {
    let mut house = tokio::task::spawn_blocking(|| lived_in().0)
        .await
        .expect("a house");
    house.key_server.stop();
    let records = journal::records(&house.journal("key-server"));
    let last = &records.last().expect("an entry").2;
    let mut entry = Entry::from_cbor(last, limits::ENTRY).expect("an entry");
    entry.time = Timestamp::from_seconds(entry.time.seconds() - 3_600);
    // With the log's own keys: everything about it verifies but its time.
    let secret = secret(&house, "key-server", "key-server-root");
    let (log, _) =
        AuditLog::open(house.log("key-server"), secret, &Options::default()).expect("a log");
    log.append(entry.to_cbor()).await.expect("appended");
    log.close().await;
    let begun = Instant::now();
    let said = verify(&house, &house.log("key-server"), "key-server");
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    noticed("a back-dated entry", "audit verify", begun);
    println!("  {}", said.stderr);
}

#[tokio::test]
async fn another_log_key_is_noticed_by_the_start_the_verifier_and_every_client() {
    // rule: TLOG-2
    let (mut house, home) = tokio::task::spawn_blocking(lived_in)
        .await
        .expect("a house");
    house.key_server.stop();
    // Root seals keys of its own in place of the log's.
    let (ways, root) = house.root_key(&house.path("key-server-root"));
    for (name, byte) in [("log-ed25519", 77), ("log-ml-dsa", 78)] {
        let place = format!("keys/{name}");
        let sealed = root.seal(&place, &[byte; 32], &mut tests::wire::rng());
        tests::house::private(&ways.sealed().join(format!("{place}.sealed")), &sealed);
    }
    let begun = Instant::now();
    let said = house.key_server.fails();
    assert_ne!(said.code, Some(0));
    noticed("another log key", "the server at its start", begun);
    // A log begun anew under those keys convinces nobody who knows the old ones.
    fs::rename(house.log("key-server"), house.path("old-log")).expect("moved");
    house.key_server.start();
    let begun = Instant::now();
    let said = tokio::task::spawn_blocking(move || uses_a_key(&home, "after"))
        .await
        .expect("said");
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    noticed("a log under another key", "a client, at once", begun);
    let said = verify(&house, &house.log("key-server"), "key-server");
    assert_eq!(said.code, Some(9), "{}", said.stderr);
}
