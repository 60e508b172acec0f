//! Shards, publication and retention.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use audit_log::{AuditLog, ConsistencyError, OpenError, Options, ReadError};
use support::*;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{SignedCheckpoint, WitnessSecret, merkle};

/// Appends until the log has so many shards; the entries, in order, with those between shards.
async fn fill(log: &AuditLog, shards: u64) -> u64 {
    let mut n = log.head().entries;
    loop {
        let newest = log.head().checkpoint;
        if newest.checkpoint().shard.number >= shards {
            return log.head().entries;
        }
        let appended = log.append(long(n)).await.expect("appends");
        check(&long(n), &appended.proof());
        n = appended.index + 1;
        log.append_once([0; 16], entry(0)).await.expect("appends");
    }
}

fn long(n: u64) -> Vec<u8> {
    format!("entry {n} {}", "x".repeat(5_000)).into_bytes()
}

fn exists(place: &Path, path: &str) -> bool {
    place.join(path).exists()
}

// rule: TLOG-4
#[tokio::test]
async fn a_full_shard_is_closed_and_the_next_begins_with_its_tree() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    let first = log.head().checkpoint;
    let entries = fill(&log, 4).await;
    let head = log.head();
    assert_eq!(head.checkpoint.checkpoint().shard.number, 4);
    // Read across shards: dense, with the entries between them in place.
    let read = records(&log, 0);
    assert_eq!(read.len() as u64, entries);
    let mut opened = 0;
    for (n, record) in (0..).zip(&read) {
        assert_eq!(record.index, n);
        let (shard, local) = log.place(n).expect("has a place");
        let text = String::from_utf8_lossy(&record.entry).into_owned();
        if local == 0 && shard > 1 {
            opened += 1;
            let last = log.checkpoint_of(shard - 1).expect("is there");
            let last = last.checkpoint();
            let expected = format!("opened {} {} {:?} {n}", last.shard, last.size, last.root);
            assert_eq!(text, expected);
            let closed = String::from_utf8_lossy(&read[n as usize - 1].entry).into_owned();
            assert_eq!(closed, format!("closed {}", last.size - 1));
        }
        let (again, proof) = log.receipt(n).expect("proves");
        assert_eq!(again, record.entry);
        assert_eq!(check(&again, &proof).0, local);
    }
    assert_eq!(opened, 3);
    // A caller who knows an old shard is led to the newest.
    let proof = log.consistency(first.checkpoint()).expect("proves");
    assert_eq!(proof.checkpoint.checkpoint().shard.number, 1);
    assert_eq!(proof.links.len(), 3);
    for (shard, (entry, proof)) in (2..).zip(&proof.links) {
        let (index, checkpoint) = check(entry, proof);
        assert_eq!((index, checkpoint.checkpoint().shard.number), (0, shard));
        assert!(entry.starts_with(b"opened "));
    }
    log.close().await;
    drop(log);
    let log = open_with(&place.path, &small_shards());
    assert_eq!(log.head().checkpoint.note(), head.checkpoint.note());
    assert_eq!(records(&log, 0).len() as u64, entries);
    log.close().await;
}

#[tokio::test]
async fn an_act_is_known_across_the_change_of_shards_as_long_as_its_journal_is_kept() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    let act = |n: u64| {
        let mut id = [7; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        id
    };
    let mut places = Vec::new();
    let mut n = 0;
    while log.head().checkpoint.checkpoint().shard.number < 3 {
        let appended = log.append_once(act(n), long(n)).await.expect("appends");
        places.push((
            n,
            appended.index,
            log.place(appended.index).expect("has one").0,
        ));
        n += 1;
    }
    for reopened in [false, true] {
        let log = if reopened {
            log.close().await;
            open_with(&place.path, &small_shards())
        } else {
            log.clone()
        };
        for (n, index, shard) in places.iter().filter(|(_, _, shard)| *shard >= 2) {
            let again = log.append_once(act(*n), long(*n)).await.expect("appends");
            assert!(again.repeated, "{n} of shard {shard}");
            assert_eq!(again.index, *index);
            check(&long(*n), &again.proof());
        }
        if reopened {
            log.close().await;
        }
    }
}

// rule: TLOG-11
#[tokio::test]
async fn what_is_published_is_a_tiled_log_and_partial_files_go_when_full() {
    let place = place();
    let log = open(&place.path);
    let shard = place.path.join("1");
    for n in 0..70u64 {
        log.append(entry(n)).await.expect("appends");
        if n % 7 == 0 {
            log.publish_now().await.expect("publishes");
        }
    }
    log.publish_now().await.expect("publishes");
    let note = std::fs::read_to_string(shard.join("checkpoint")).expect("reads");
    let checkpoint = key().verify(&note).expect("verifies");
    assert_eq!(checkpoint.checkpoint().size, 70);
    let tile = std::fs::read(shard.join("tile/0/000.p/70")).expect("reads");
    let leaves: Vec<u8> = (0..70).flat_map(|n| merkle::leaf_hash(&entry(n))).collect();
    assert_eq!(tile, leaves);
    let bundle = std::fs::read(shard.join("tile/entries/000.p/70")).expect("reads");
    assert_eq!(&bundle[..9], b"\x00\x07entry 0");
    // Hash tiles of older checkpoints stay, of the bundles only the newest.
    let count = |path: &str| std::fs::read_dir(shard.join(path)).map_or(0, Iterator::count);
    assert_eq!(count("tile/0/000.p"), 11);
    assert_eq!(count("tile/entries/000.p"), 8);
    for n in 70..600 {
        log.append(entry(n)).await.expect("appends");
    }
    log.close().await;
    let mut names: Vec<_> = walk(&shard)
        .into_iter()
        .map(|path| {
            path.strip_prefix(&shard)
                .expect("is below")
                .display()
                .to_string()
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "checkpoint",
            "journal",
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/88",
            "tile/1/000.p/2",
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.p/88",
        ]
    );
}

fn walk(path: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(path).expect("reads") {
        let path = item.expect("reads").path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

// rule: TLOG-11
#[tokio::test]
async fn the_publisher_needs_no_telling() {
    let place = place();
    let options = Options {
        publish_every: Some(Duration::from_millis(5)),
        ..options()
    };
    let log = open_with(&place.path, &options);
    log.append(entry(0)).await.expect("appends");
    let path = place.path.join("1/checkpoint");
    let published = async {
        loop {
            let note = std::fs::read_to_string(&path).unwrap_or_default();
            if key()
                .verify(&note)
                .is_ok_and(|note| note.checkpoint().size == 1)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), published)
        .await
        .expect("is published");
    log.close().await;
}

#[tokio::test]
async fn cosignatures_are_published_with_their_checkpoint() {
    let place = place();
    let log = open(&place.path);
    let read = || std::fs::read_to_string(place.path.join("1/checkpoint")).expect("reads");
    log.append(entry(0)).await.expect("appends");
    log.publish_now().await.expect("publishes");
    let first = log.head().checkpoint;
    assert_eq!(read(), first.note());
    let witness = WitnessSecret::from_seeds("witness.example", &[3; 32], &[4; 32]).expect("one");
    let cosign = |of: &SignedCheckpoint| {
        let lines = witness.cosign(of.checkpoint(), of.time());
        of.with_cosignatures(lines.split_inclusive('\n'))
    };
    let cosigned = cosign(&first);
    let line = "\u{2014} witness.example ";
    log.set_cosigned(cosigned.clone());
    log.publish_now().await.expect("publishes");
    assert_eq!(read(), cosigned.note());
    assert!(read().contains(line));
    log.append(entry(1)).await.expect("appends");
    log.publish_now().await.expect("publishes");
    assert_eq!(read(), log.head().checkpoint.note());
    // One of an older tree than the last is left out.
    let newer = cosign(&log.head().checkpoint);
    log.set_cosigned(newer.clone());
    log.set_cosigned(cosigned.clone());
    let now = log.cosigned().borrow().clone().expect("is there");
    assert_eq!(now.note(), newer.note());
    // It proves what it covers, and nothing else.
    let proof = log.prove_under(0, &cosigned).expect("proves");
    assert!(proof.contains(line));
    check(&entry(0), &proof);
    let error = log.prove_under(1, &cosigned).expect_err("is refused");
    assert!(
        matches!(error, ReadError::OtherCheckpoint { .. }),
        "{error}"
    );
    log.close().await;
}

#[tokio::test]
async fn the_last_checkpoint_of_a_closed_shard_is_published_with_cosignatures_that_come_late() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    fill(&log, 2).await;
    log.publish_now().await.expect("publishes");
    let witness = WitnessSecret::from_seeds("witness.example", &[3; 32], &[4; 32]).expect("one");
    for shard in [2, 1] {
        let last = log.checkpoint_of(shard).expect("is there");
        let lines = witness.cosign(last.checkpoint(), last.time());
        log.set_cosigned(last.with_cosignatures(lines.split_inclusive('\n')));
    }
    log.publish_now().await.expect("publishes");
    for shard in [1, 2] {
        let path = place.path.join(format!("{shard}/checkpoint"));
        let note = std::fs::read_to_string(path).expect("reads");
        assert!(note.contains("\u{2014} witness.example "), "{shard}");
    }
    let newest = log.cosigned().borrow().clone().expect("is there");
    assert_eq!(newest.checkpoint().shard.number, 2);
    log.close().await;
}

// rule: TLOG-4
#[tokio::test]
async fn journals_go_when_their_tiles_are_whole_and_old_shards_when_enough_are_newer() {
    let place = place();
    let options = Options {
        keep_shards: Some(3),
        ..small_shards()
    };
    let log = open_with(&place.path, &options);
    let old = log.append(entry(0)).await.expect("appends").checkpoint();
    let entries = fill(&log, 6).await;
    let unpublished = exists(&place.path, "1/journal");
    assert!(unpublished, "nothing goes before it is published");
    log.publish_now().await.expect("publishes");
    for (shard, journal, tiles) in [
        (1, false, false),
        (2, false, false),
        (3, false, true),
        (4, false, true),
        (5, true, true),
        (6, true, true),
    ] {
        assert_eq!(
            exists(&place.path, &format!("{shard}/journal")),
            journal,
            "{shard}"
        );
        assert_eq!(
            exists(&place.path, &format!("{shard}/tile")),
            tiles,
            "{shard}"
        );
        assert!(exists(&place.path, &format!("{shard}/checkpoint")));
    }
    for reopened in [false, true] {
        let log = if reopened {
            log.close().await;
            open_with(&place.path, &options)
        } else {
            log.clone()
        };
        let first_kept = (0..)
            .find(|n| log.place(*n).expect("has one").0 == 3)
            .expect("is there");
        assert!(matches!(
            log.receipt(0),
            Err(ReadError::Pruned { shard: 1, .. })
        ));
        assert!(matches!(
            log.read(first_kept - 1).next(),
            Some(Err(ReadError::Pruned { .. }))
        ));
        let read = records(&log, first_kept);
        assert_eq!(read.len() as u64, entries - first_kept);
        for record in read {
            let (entry, proof) = log.receipt(record.index).expect("proves");
            assert_eq!(entry, record.entry);
            check(&entry, &proof);
        }
        assert!(matches!(
            log.consistency(old.checkpoint()),
            Err(ConsistencyError::Pruned { shard: 1 })
        ));
        let kept = log.checkpoint_of(3).expect("is there");
        assert_eq!(
            log.consistency(kept.checkpoint())
                .expect("proves")
                .links
                .len(),
            3
        );
        if reopened {
            log.close().await;
        }
    }
}

#[tokio::test]
async fn old_shards_go_by_age() {
    let place = place();
    let now = Arc::new(AtomicU64::new(1_800_000_000));
    let clock = Arc::clone(&now);
    let options = Options {
        keep_for: Some(Duration::from_secs(100)),
        clock: Arc::new(move || Timestamp::from_seconds(clock.load(Ordering::SeqCst))),
        ..small_shards()
    };
    let log = open_with(&place.path, &options);
    fill(&log, 3).await;
    now.fetch_add(100, Ordering::SeqCst);
    log.publish_now().await.expect("publishes");
    assert!(exists(&place.path, "1/tile"));
    now.fetch_add(1, Ordering::SeqCst);
    log.publish_now().await.expect("publishes");
    assert!(!exists(&place.path, "1/tile"));
    assert!(
        exists(&place.path, "2/tile"),
        "the one before the open shard stays"
    );
    log.close().await;
}

#[tokio::test]
async fn a_journal_whose_tiles_were_touched_is_kept() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    fill(&log, 2).await;
    log.publish_now().await.expect("publishes");
    let size = log.checkpoint_of(1).expect("is there").checkpoint().size;
    let bundle = place.path.join(format!("1/tile/entries/000.p/{size}"));
    let mut bytes = std::fs::read(&bundle).expect("reads");
    bytes[10] ^= 1;
    std::fs::write(&bundle, bytes).expect("writes");
    fill(&log, 3).await;
    assert!(log.publish_now().await.is_err());
    assert!(exists(&place.path, "1/journal"));
    assert_eq!(
        log.read(0).next().expect("one").expect("reads").entry,
        long(0)
    );
    log.close().await;
}

// rule: TLOG-10
#[tokio::test]
async fn recovery_begins_a_new_shard_at_once_and_once() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    for n in 0..3 {
        log.append(entry(n)).await.expect("appends");
    }
    let last = log.head().checkpoint;
    let recover = |log: &AuditLog| {
        let log = log.clone();
        async move {
            log.recover([9; 16], 5, |previous, before| {
                format!("recovered {} {} {before}", previous.shard, previous.size).into_bytes()
            })
            .await
        }
    };
    let begun = recover(&log).await.expect("recovers");
    assert_eq!((begun.index, begun.repeated), (3, false));
    let expected = format!("recovered {} 3 3", last.checkpoint().shard).into_bytes();
    assert_eq!(records(&log, 0)[3].entry, expected);
    assert_eq!(check(&expected, &begun.proof()).0, 0);
    assert_eq!(log.head().checkpoint.checkpoint().shard.number, 5);
    // The old shard got no entry more.
    let old = log.checkpoint_of(1).expect("is there");
    assert_eq!(old.note(), last.note());
    let again = recover(&log).await.expect("recovers");
    assert_eq!((again.index, again.repeated), (3, true));
    log.append(entry(4)).await.expect("appends");
    log.close().await;
    drop(log);
    let log = open_with(&place.path, &small_shards());
    let again = recover(&log).await.expect("recovers");
    assert_eq!((again.index, again.repeated), (3, true));
    assert_eq!(records(&log, 0).len(), 5);
    let proof = log.consistency(last.checkpoint()).expect("proves");
    assert_eq!(proof.links[0].0, expected);
    log.close().await;
}

#[tokio::test]
async fn a_shard_that_is_gone_is_damage() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    fill(&log, 5).await;
    log.close().await;
    drop(log);
    let aside = place.path.with_extension("aside");
    for gone in [
        "1",
        "1/checkpoint",
        "2",
        "2/checkpoint",
        "4",
        "4/journal",
        "5/journal",
    ] {
        let path = place.path.join(gone);
        std::fs::rename(&path, &aside).expect("moves");
        let error = AuditLog::open(&place.path, secret(), &small_shards())
            .map(drop)
            .expect_err(gone);
        assert!(matches!(error, OpenError::Shard { .. }), "{gone}: {error}");
        std::fs::rename(&aside, &path).expect("moves back");
    }
    open_with(&place.path, &small_shards()).close().await;
}

// rule: TLOG-4
#[tokio::test]
async fn a_damaged_tile_of_a_closed_shard_is_damage_and_never_a_fork_or_an_answer() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    log.append(entry(0)).await.expect("appends");
    log.append(entry(1)).await.expect("appends");
    let old = log.append(entry(2)).await.expect("appends").checkpoint();
    let old = old.checkpoint();
    fill(&log, 4).await;
    log.publish_now().await.expect("publishes");
    assert!(!exists(&place.path, "1/journal"));
    let size = log.checkpoint_of(1).expect("is there").checkpoint().size;
    log.consistency(old).expect("proves");
    assert_eq!(log.root_of(1, old.size).expect("is there"), old.root);
    log.consistency_path(1, old.size, size).expect("proves");
    let tile = place.path.join(format!("1/tile/0/000.p/{size}"));
    let whole = std::fs::read(&tile).expect("reads");
    // In the old tree, where it would look like a fork, and behind it, where the path would be wrong.
    for at in [0, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&tile, bytes).expect("writes");
        let error = log.consistency(old).expect_err("is damaged");
        assert!(
            matches!(error, ConsistencyError::Read(ReadError::Damaged { .. })),
            "{error}"
        );
        for error in [
            log.root_of(1, old.size).expect_err("is damaged"),
            log.consistency_path(1, old.size, size)
                .expect_err("is damaged"),
        ] {
            assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
        }
    }
}

// rule: TLOG-4
#[tokio::test]
async fn a_journal_is_kept_when_a_bundle_and_its_full_tile_were_touched_together() {
    let place = place();
    let options = Options {
        shard_bytes: 1_600_000,
        ..small_shards()
    };
    let log = open_with(&place.path, &options);
    for n in 0..260 {
        log.append(entry(n)).await.expect("appends");
    }
    fill(&log, 2).await;
    log.publish_now().await.expect("publishes");
    assert!(exists(&place.path, "1/tile/1/000.p/1"));
    let touch = |path: &str, at: usize, with: &[u8]| {
        let path = place.path.join(path);
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[at..at + with.len()].copy_from_slice(with);
        std::fs::write(&path, bytes).expect("writes");
    };
    touch("1/tile/entries/000", 2, b"entry X");
    touch("1/tile/0/000", 0, &merkle::leaf_hash(b"entry X"));
    fill(&log, 3).await;
    assert!(log.publish_now().await.is_err());
    assert!(exists(&place.path, "1/journal"));
    assert_eq!(
        log.read(0).next().expect("one").expect("reads").entry,
        entry(0)
    );
    log.close().await;
}

// rule: TLOG-4
#[tokio::test]
async fn a_damaged_shard_keeps_no_other_journal_from_going() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    fill(&log, 2).await;
    log.publish_now().await.expect("publishes");
    let size = log.checkpoint_of(1).expect("is there").checkpoint().size;
    let tile = place.path.join(format!("1/tile/0/000.p/{size}"));
    let mut bytes = std::fs::read(&tile).expect("reads");
    bytes[0] ^= 1;
    std::fs::write(&tile, bytes).expect("writes");
    fill(&log, 4).await;
    assert!(log.publish_now().await.is_err());
    assert!(exists(&place.path, "1/journal"));
    assert!(!exists(&place.path, "2/journal"));
    log.close().await;
}

// rule: TLOG-4
#[tokio::test]
async fn a_repeated_act_is_proven_after_its_journal_went() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    let first = log.append_once([5; 16], entry(0)).await.expect("appends");
    let again = log.append_once([5; 16], entry(0)).await.expect("appends");
    assert!(!first.repeated && again.repeated);
    fill(&log, 3).await;
    log.publish_now().await.expect("publishes");
    assert!(!exists(&place.path, "1/journal"));
    check(&entry(0), &again.proof());
    log.close().await;
}

#[tokio::test]
async fn acts_of_a_journal_that_is_about_to_go_are_forgotten_at_the_start() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    log.append_once([5; 16], entry(0)).await.expect("appends");
    fill(&log, 3).await;
    // As a crash leaves it: nothing was published, so no journal went.
    let copy = place.path.join("copy");
    std::fs::create_dir(&copy).expect("creates");
    for shard in ["1", "2", "3"] {
        let done = std::process::Command::new("cp")
            .arg("-a")
            .args([place.path.join(shard), copy.join(shard)])
            .status();
        assert!(done.expect("runs").success());
    }
    assert!(exists(&copy, "1/journal"));
    log.close().await;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o700)).expect("sets");
    let log = open_with(&copy, &small_shards());
    let again = log.append_once([5; 16], entry(0)).await.expect("appends");
    assert!(!again.repeated);
    check(&entry(0), &again.proof());
    log.close().await;
}

#[tokio::test]
async fn a_shard_that_could_not_be_removed_is_still_read_and_removed_later() {
    let place = place();
    let options = Options {
        keep_shards: Some(1),
        ..small_shards()
    };
    let log = open_with(&place.path, &options);
    fill(&log, 3).await;
    let in_the_way = place.path.join("1/tile.removed/x");
    std::fs::create_dir_all(&in_the_way).expect("creates");
    assert!(log.publish_now().await.is_err());
    log.receipt(0).expect("is still there");
    std::fs::remove_dir_all(place.path.join("1/tile.removed")).expect("removes");
    log.publish_now().await.expect("publishes");
    assert!(!exists(&place.path, "1/tile"));
    log.close().await;
}
