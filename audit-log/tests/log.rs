//! The log on a real disk.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use audit_log::{AppendError, AuditLog, ConsistencyError, MAX_ENTRY_BYTES, OpenError, Options};
use support::*;
use ticket_format::tlog::{Checkpoint, LogSecret, merkle};

#[tokio::test]
async fn entries_are_read_back_in_order_also_after_reopening() {
    let place = place();
    let log = open(&place.path);
    assert_eq!(log.head().entries, 0);
    let empty = log.head().checkpoint;
    assert_eq!(empty.checkpoint().root, merkle::empty_root());
    assert!(records(&log, 0).is_empty());
    for n in 0..1000 {
        let appended = log.append(entry(n)).await.expect("appends");
        assert_eq!((appended.index, appended.repeated), (n, false));
        assert_eq!(check(&entry(n), &appended.proof()).0, n);
    }
    let head = log.head();
    assert_eq!(
        (head.entries, head.checkpoint.checkpoint().size),
        (1000, 1000)
    );
    log.close().await;
    assert_eq!(log.append(entry(0)).await, Err(AppendError::Closed));
    let log = open(&place.path);
    assert_eq!(log.head().checkpoint.note(), head.checkpoint.note());
    for from in [0, 1, 255, 256, 257, 700, 999] {
        let read = records(&log, from);
        assert_eq!(read.len() as u64, 1000 - from);
        for (record, n) in read.iter().zip(from..) {
            assert_eq!((record.index, record.act_id), (n, None));
            assert_eq!(record.entry, entry(n));
        }
    }
    assert!(records(&log, 1000).is_empty());
    assert!(records(&log, u64::MAX).is_empty());
    log.append(entry(1000)).await.expect("appends");
    assert_eq!(records(&log, 1000).len(), 1);
    assert_eq!(log.read_from(990, 5).expect("reads").len(), 5);
    log.close().await;
}

// rule: TLOG-3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_get_dense_indexes_and_proofs_that_verify() {
    let place = place();
    let log = open(&place.path);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut got = Vec::new();
                for n in 0..20 {
                    let entry = entry(task * 1000 + n);
                    got.push((log.append(entry.clone()).await.expect("appends"), entry));
                }
                got
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("ends"));
    }
    all.sort_by_key(|(appended, _)| appended.index);
    let read = records(&log, 0);
    assert_eq!(read.len(), 64 * 20);
    for ((n, (appended, entry)), record) in (0..).zip(all).zip(read) {
        assert_eq!((appended.index, record.index), (n, n));
        assert_eq!(entry, record.entry);
        assert_eq!(check(&entry, &appended.proof()).0, n);
        let (again, proof) = log.receipt(n).expect("proves");
        assert_eq!(again, entry);
        assert_eq!(check(&entry, &proof).1.checkpoint().size, 64 * 20);
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_under_load_serves_or_refuses_each() {
    let place = place();
    let log = open(&place.path);
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    match log.append(entry(task)).await {
                        Ok(_) => {}
                        Err(AppendError::Closed) => return n,
                        Err(other) => panic!("{other}"),
                    }
                }
                0
            })
        })
        .collect();
    while log.head().entries < 100 {
        tokio::task::yield_now().await;
    }
    log.close().await;
    let mut kept = 0;
    for task in tasks {
        kept += task.await.expect("ends");
    }
    assert_eq!(log.head().entries, kept);
    drop(log);
    let log = open(&place.path);
    assert_eq!(log.head().entries, kept);
    log.close().await;
}

#[tokio::test]
async fn an_act_is_recorded_once_whoever_repeats_it_and_always_proven() {
    let place = place();
    let log = open(&place.path);
    let (first, second, third) = tokio::join!(
        log.append_once([1; 16], entry(1)),
        log.append_once([1; 16], entry(1)),
        log.append_once([2; 16], entry(2)),
    );
    let (first, second) = (first.expect("appends"), second.expect("appends"));
    assert_eq!(first.index, second.index);
    assert!(second.repeated && !first.repeated);
    assert_eq!(check(&entry(1), &second.proof()).0, 0);
    assert_eq!(third.expect("appends").index, 1);
    log.close().await;
    drop(log);
    let log = open(&place.path);
    let again = log.append_once([1; 16], entry(1)).await.expect("appends");
    assert_eq!((again.index, again.repeated), (0, true));
    assert_eq!(check(&entry(1), &again.proof()).0, 0);
    assert_eq!(
        log.append_once([2; 16], entry(3)).await,
        Err(AppendError::ActIdTaken { index: 1 })
    );
    // Plain appends know no acts.
    log.append(entry(1)).await.expect("appends");
    let ids: Vec<_> = records(&log, 0)
        .into_iter()
        .map(|record| record.act_id)
        .collect();
    assert_eq!(ids, [Some([1; 16]), Some([2; 16]), None]);
    log.close().await;
}

#[tokio::test]
async fn remembered_acts_are_bounded_and_the_oldest_go_first() {
    let place = place();
    let options = Options {
        remembered_acts: 2,
        ..options()
    };
    let log = open_with(&place.path, &options);
    for n in 0..3 {
        log.append_once([n; 16], entry(0)).await.expect("appends");
    }
    log.close().await;
    let log = open_with(&place.path, &options);
    for (n, repeated) in [(2, true), (1, true), (0, false)] {
        let appended = log.append_once([n; 16], entry(0)).await.expect("appends");
        assert_eq!(appended.repeated, repeated);
    }
    log.close().await;
}

#[tokio::test]
async fn entries_out_of_bounds_are_refused() {
    let place = place();
    let log = open(&place.path);
    assert_eq!(log.append(Vec::new()).await, Err(AppendError::Empty));
    let found = MAX_ENTRY_BYTES + 1;
    assert_eq!(
        log.append(vec![0; found]).await,
        Err(AppendError::TooLong { found })
    );
    log.append(vec![1; MAX_ENTRY_BYTES]).await.expect("appends");
    log.close().await;
    assert_eq!(open(&place.path).head().entries, 1);
}

// rule: TLOG-4
#[tokio::test]
async fn consistency_is_proven_and_rollback_and_fork_are_told_apart() {
    let place = place();
    let log = open(&place.path);
    let mut seen = vec![log.head().checkpoint];
    for n in 0..300 {
        log.append(entry(n)).await.expect("appends");
        seen.push(log.head().checkpoint);
    }
    for old in &seen {
        let old = old.checkpoint();
        let proof = log.consistency(old).expect("proves");
        let new = proof.checkpoint.checkpoint();
        assert_eq!(new.size, 300);
        assert!(proof.links.is_empty());
        merkle::verify_consistency(old.size, &old.root, new.size, &new.root, &proof.path)
            .expect("verifies");
    }
    let last = seen[300].checkpoint();
    let ahead = Checkpoint {
        size: 301,
        ..last.clone()
    };
    assert!(matches!(
        log.consistency(&ahead),
        Err(ConsistencyError::Behind {
            ours: 300,
            theirs: 301,
            ..
        })
    ));
    for size in [0, 7, 300] {
        let other = Checkpoint {
            size,
            root: [9; 32],
            ..last.clone()
        };
        let error = log.consistency(&other).expect_err("is refused");
        assert!(matches!(error, ConsistencyError::Fork { .. }), "{error}");
    }
    let mut other = last.clone();
    other.shard.number = 2;
    assert!(matches!(
        log.consistency(&other),
        Err(ConsistencyError::Unknown { .. })
    ));
    other.shard.number = 1;
    other.shard.origin = "example/broker/0000000000000000".parse().expect("one");
    assert!(matches!(
        log.consistency(&other),
        Err(ConsistencyError::Unknown { .. })
    ));
    log.close().await;
}

// rule: TLOG-2
#[tokio::test]
async fn a_log_of_other_keys_is_refused() {
    let place = place();
    let log = open(&place.path);
    log.append(entry(0)).await.expect("appends");
    log.close().await;
    drop(log);
    for (ed25519, ml_dsa) in [([1; 32], [3; 32]), ([3; 32], [2; 32])] {
        let swapped = LogSecret::from_seeds(key().origin.clone(), &ed25519, &ml_dsa).expect("one");
        let error = AuditLog::open(&place.path, swapped, &options())
            .map(drop)
            .expect_err("is refused");
        assert!(matches!(error, OpenError::OtherKey { .. }), "{error}");
        // Also where nothing is published yet, by the journal alone.
        std::fs::rename(place.path.join("1/checkpoint"), place.path.join("1/x")).expect("moves");
        let swapped = LogSecret::from_seeds(key().origin.clone(), &ed25519, &ml_dsa).expect("one");
        let error = AuditLog::open(&place.path, swapped, &options())
            .map(drop)
            .expect_err("is refused");
        assert!(matches!(error, OpenError::OtherKey { .. }), "{error}");
        std::fs::rename(place.path.join("1/x"), place.path.join("1/checkpoint")).expect("moves");
    }
    let origin = "example/broker/0000000000000000".parse().expect("one");
    let other = LogSecret::from_seeds(origin, &[1; 32], &[2; 32]).expect("one");
    let error = AuditLog::open(&place.path, other, &options())
        .map(drop)
        .expect_err("is refused");
    assert!(
        matches!(
            error,
            OpenError::OtherLog { .. } | OpenError::OtherKey { .. }
        ),
        "{error}"
    );
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("changes the mode");
}

fn refusal(path: &Path) -> OpenError {
    AuditLog::open(path, secret(), &options())
        .map(drop)
        .expect_err("is refused")
}

#[tokio::test]
async fn the_directory_is_private_and_a_second_opener_is_refused() {
    let place = place();
    let log = open(&place.path);
    let found = |path: &str| {
        let meta = std::fs::metadata(place.path.join(path)).expect("is there");
        meta.permissions().mode() & 0o7777
    };
    log.append(entry(0)).await.expect("appends");
    log.publish_now().await.expect("publishes");
    assert_eq!([found(""), found("1"), found("1/tile/0")], [0o700; 3]);
    assert_eq!(
        [
            found("1/journal"),
            found("1/checkpoint"),
            found("1/tile/0/000.p/1")
        ],
        [0o600; 3]
    );
    let error = refusal(&place.path);
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(
        error
            .to_string()
            .contains(&place.path.display().to_string())
    );
    log.close().await;
    for (path, bad) in [
        ("", 0o750),
        ("", 0o705),
        ("1/journal", 0o640),
        ("1/journal", 0o602),
    ] {
        let path = place.path.join(path);
        mode(&path, bad);
        assert!(matches!(refusal(&place.path), OpenError::NotPrivate { mode, .. } if mode == bad));
        mode(&path, if path == place.path { 0o700 } else { 0o600 });
    }
    let link = place.path.with_extension("link");
    std::os::unix::fs::symlink(&place.path, &link).expect("links");
    assert!(matches!(refusal(&link), OpenError::NotAPlainFile { .. }));
    let file = place.path.with_extension("file");
    std::fs::write(&file, b"x").expect("writes");
    mode(&file, 0o600);
    assert!(matches!(refusal(&file), OpenError::NotADirectory { .. }));
    // Only root can give a directory away; others cannot make the case.
    if std::os::unix::fs::chown(&place.path, Some(1), None).is_ok() {
        assert!(matches!(
            refusal(&place.path),
            OpenError::NotOwner { owner: 1, .. }
        ));
        std::os::unix::fs::chown(&place.path, Some(0), None).expect("takes it back");
    }
    open(&place.path).close().await;
}
