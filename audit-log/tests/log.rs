//! The log on a real file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use audit_log::{AppendError, AuditLog, MAX_ENTRY_BYTES, OpenError, Options, Record, verify};
use tempfile::TempDir;

struct Place {
    _directory: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log");
    Place {
        _directory: directory,
        path,
    }
}

fn open(path: &Path) -> AuditLog {
    let (log, torn) = AuditLog::open(path, &Options::default()).expect("opens");
    assert_eq!(torn, None);
    log
}

fn entry(n: u64) -> Vec<u8> {
    format!("entry {n}").into_bytes()
}

fn records(log: &AuditLog, from: u64) -> Vec<Record> {
    log.read(from)
        .map(|record| record.expect("reads"))
        .collect()
}

/// A small log with and without act ids, closed.
async fn small(path: &Path) -> u64 {
    let log = open(path);
    for n in 0..3 {
        log.append(entry(n)).await.expect("appends");
        log.append_once([n as u8; 16], entry(n))
            .await
            .expect("appends");
    }
    log.close().await;
    6
}

#[tokio::test]
async fn entries_are_read_back_in_order_also_after_reopening() {
    let place = place();
    let log = open(&place.path);
    let genesis = log.head();
    assert_eq!(genesis.0, 0);
    assert!(records(&log, 0).is_empty());
    let mut chains = Vec::new();
    for n in 0..1000 {
        let appended = log.append(entry(n)).await.expect("appends");
        assert_eq!((appended.index, appended.repeated), (n, false));
        chains.push(appended.chain);
    }
    assert_eq!(log.head(), (1000, chains[999]));
    log.close().await;
    assert_eq!(log.append(entry(0)).await, Err(AppendError::Closed));
    let log = open(&place.path);
    assert_eq!(log.head(), (1000, chains[999]));
    for from in [0, 1, 255, 256, 257, 700, 999] {
        let read = records(&log, from);
        assert_eq!(read.len() as u64, 1000 - from);
        for (record, n) in read.iter().zip(from..) {
            assert_eq!((record.index, record.act_id), (n, None));
            assert_eq!(
                (&record.entry, record.chain),
                (&entry(n), chains[n as usize])
            );
        }
    }
    assert!(records(&log, 1000).is_empty());
    assert!(records(&log, u64::MAX).is_empty());
    log.append(entry(1000)).await.expect("appends");
    assert_eq!(records(&log, 1000).len(), 1);
    log.close().await;
    let summary = verify(&place.path).expect("verifies");
    assert_eq!(
        (summary.entries, summary.sealed, summary.torn),
        (1001, 1001, None)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_get_distinct_dense_indexes() {
    let place = place();
    let log = open(&place.path);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut got = Vec::new();
                for n in 0..50 {
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
    assert_eq!(read.len(), 64 * 50);
    for ((n, (appended, entry)), record) in (0..).zip(all).zip(read) {
        assert_eq!((appended.index, record.index), (n, n));
        assert_eq!((appended.chain, entry), (record.chain, record.entry));
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
    while log.head().0 < 100 {
        tokio::task::yield_now().await;
    }
    log.close().await;
    let mut kept = 0;
    for task in tasks {
        kept += task.await.expect("ends");
    }
    assert_eq!(log.head().0, kept);
    assert_eq!(verify(&place.path).expect("verifies").sealed, kept);
}

#[tokio::test]
async fn an_act_is_recorded_once_whoever_repeats_it() {
    let place = place();
    let log = open(&place.path);
    let (first, second, third) = tokio::join!(
        log.append_once([1; 16], entry(1)),
        log.append_once([1; 16], entry(1)),
        log.append_once([2; 16], entry(2)),
    );
    let (first, second) = (first.expect("appends"), second.expect("appends"));
    assert_eq!((first.index, first.chain), (second.index, second.chain));
    assert!(second.repeated && !first.repeated);
    assert_eq!(third.expect("appends").index, 1);
    log.close().await;
    drop(log);
    let log = open(&place.path);
    let again = log.append_once([1; 16], entry(1)).await.expect("appends");
    assert_eq!(
        (again.index, again.chain, again.repeated),
        (0, first.chain, true)
    );
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
    let options = Options { remembered_acts: 2 };
    for reopened in [false, true] {
        let (log, _) = AuditLog::open(&place.path, &options).expect("opens");
        if !reopened {
            for n in 0..3 {
                log.append_once([n; 16], entry(0)).await.expect("appends");
            }
        } else {
            assert!(
                log.append_once([2; 16], entry(0))
                    .await
                    .expect("appends")
                    .repeated
            );
            assert!(
                log.append_once([1; 16], entry(0))
                    .await
                    .expect("appends")
                    .repeated
            );
            assert!(
                !log.append_once([0; 16], entry(0))
                    .await
                    .expect("appends")
                    .repeated
            );
        }
        log.close().await;
    }
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
    assert_eq!(verify(&place.path).expect("verifies").entries, 1);
}

#[tokio::test]
async fn the_file_is_a_cbor_sequence_that_others_read() {
    let place = place();
    let count = small(&place.path).await;
    let bytes = std::fs::read(&place.path).expect("reads");
    let mut rest = bytes.as_slice();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let item: ciborium::Value = ciborium::from_reader(&mut rest).expect("is CBOR");
        // Deterministic: what ciborium writes for it is what stands there.
        let mut again = Vec::new();
        ciborium::into_writer(&item, &mut again).expect("writes");
        assert!(bytes.windows(again.len()).any(|window| window == again));
        items.push(item.into_array().expect("is an array"));
    }
    assert_eq!(items[0][0].as_text(), Some("postern audit log"));
    let records: Vec<_> = items[1..].iter().filter(|item| item.len() == 4).collect();
    assert_eq!(records.len() as u64, count);
    assert_eq!(records[0][3].as_bytes(), Some(&entry(0)));
    assert!(records[0][2].is_null());
    assert_eq!(records[1][2].as_bytes(), Some(&vec![0; 16]));
}

#[tokio::test]
async fn every_flipped_bit_is_noticed_and_no_sealed_entry_is_ever_cut() {
    let place = place();
    let count = small(&place.path).await;
    let good = std::fs::read(&place.path).expect("reads");
    assert_eq!(verify(&place.path).expect("verifies").sealed, count);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            std::fs::write(&place.path, &bad).expect("writes");
            match verify(&place.path) {
                Err(
                    OpenError::Damaged { .. }
                    | OpenError::NotALog { .. }
                    | OpenError::Version { .. },
                ) => {}
                // Only the last seal can look torn, and it holds no entry.
                Ok(summary) => {
                    assert!(summary.torn.is_some(), "byte {at} bit {bit}: not noticed");
                    assert_eq!(summary.entries, count, "byte {at} bit {bit}");
                }
                Err(other) => panic!("byte {at} bit {bit}: {other}"),
            }
        }
    }
}

#[tokio::test]
async fn damage_is_refused_with_the_index_named_and_the_file_is_left_alone() {
    let place = place();
    small(&place.path).await;
    let mut bytes = std::fs::read(&place.path).expect("reads");
    let place_of = |bytes: &[u8], entry: &[u8]| {
        bytes
            .windows(entry.len())
            .position(|window| window == entry)
            .expect("is there")
    };
    let at = place_of(&bytes, &entry(2));
    bytes[at] ^= 1;
    std::fs::write(&place.path, &bytes).expect("writes");
    let error = AuditLog::open(&place.path, &Options::default())
        .map(drop)
        .expect_err("is refused");
    assert!(
        matches!(error, OpenError::Damaged { index: 4, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("entry 4"), "{error}");
    assert_eq!(std::fs::read(&place.path).expect("reads"), bytes);
}

#[tokio::test]
async fn an_entry_removed_swapped_or_doubled_is_damage() {
    let place = place();
    small(&place.path).await;
    let good = std::fs::read(&place.path).expect("reads");
    // Items begin where a record's first bytes are: array of four, then the index.
    let starts: Vec<_> = (0..6u8)
        .map(|index| {
            let head = [0x84, index, 0x58, 0x20];
            good.windows(4)
                .position(|window| window == head)
                .expect("is there")
        })
        .collect();
    let piece = |n: usize| good[starts[n]..starts[n + 1]].to_vec();
    let (front, back) = (&good[..starts[1]], &good[starts[4]..]);
    let cases = [
        [front, &piece(1), &piece(3), back].concat(),
        [front, &piece(2), &piece(1), &piece(3), back].concat(),
        [front, &piece(1), &piece(1), &piece(2), &piece(3), back].concat(),
    ];
    for bad in cases {
        std::fs::write(&place.path, bad).expect("writes");
        assert!(matches!(
            verify(&place.path),
            Err(OpenError::Damaged { .. })
        ));
    }
}

#[tokio::test]
async fn a_number_not_in_its_shortest_form_is_damage() {
    let place = place();
    small(&place.path).await;
    let good = std::fs::read(&place.path).expect("reads");
    // The index 1, which the chain would accept in any form, as one byte and as two.
    let head = [0x84, 1, 0x58, 0x20];
    let at = good
        .windows(4)
        .position(|window| window == head)
        .expect("is there");
    let bad = [&good[..at + 1], &[0x18, 1], &good[at + 2..]].concat();
    std::fs::write(&place.path, bad).expect("writes");
    assert!(matches!(
        verify(&place.path),
        Err(OpenError::Damaged { index: 1, .. })
    ));
}

#[tokio::test]
async fn a_torn_tail_is_cut_reported_and_written_over() {
    let place = place();
    let count = small(&place.path).await;
    let good = std::fs::read(&place.path).expect("reads");
    // An interrupted batch: the beginning of what another append would have written, or holes in it.
    let log = open(&place.path);
    log.append(vec![9; 500]).await.expect("appends");
    log.append(vec![8; 500]).await.expect("appends");
    log.close().await;
    drop(log);
    let longer = std::fs::read(&place.path).expect("reads");
    let seal = longer.len() - good.len() - 500 * 2;
    assert!(seal < 500);
    for extra in [1, 2, 3, 20, 40, 100, 400] {
        for hole in [false, true] {
            let mut torn = longer[..good.len() + extra].to_vec();
            if hole {
                torn[good.len()..].fill(0);
            }
            std::fs::write(&place.path, &torn).expect("writes");
            let (log, tail) = AuditLog::open(&place.path, &Options::default()).expect("opens");
            let tail = tail.expect("is torn");
            assert_eq!((tail.entries, tail.offset), (count, good.len() as u64));
            assert_eq!(tail.bytes, extra as u64);
            assert_eq!(log.append(entry(7)).await.expect("appends").index, count);
            log.close().await;
            assert_eq!(verify(&place.path).expect("verifies").entries, count + 1);
        }
    }
}

#[tokio::test]
async fn a_log_cut_anywhere_opens_with_its_whole_entries() {
    let place = place();
    small(&place.path).await;
    let good = std::fs::read(&place.path).expect("reads");
    let mut last = 0;
    // Every length near the end, some elsewhere.
    let near = good.len() - 150;
    for length in (0..=good.len()).filter(|length| length % 7 == 0 || *length > near) {
        std::fs::write(&place.path, &good[..length]).expect("writes");
        private(&place.path);
        let (log, _) = AuditLog::open(&place.path, &Options::default()).expect("opens");
        let (entries, _) = log.head();
        assert!(
            entries == last || entries == last + 1,
            "{length}: {entries} after {last}"
        );
        assert_eq!(records(&log, 0).len() as u64, entries);
        last = entries;
        log.close().await;
    }
    assert_eq!(last, 6);
}

fn private(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("changes the mode");
}

fn refusal(path: &Path) -> OpenError {
    AuditLog::open(path, &Options::default())
        .map(drop)
        .expect_err("is refused")
}

#[tokio::test]
async fn the_file_is_private_and_a_second_opener_is_refused() {
    let place = place();
    let log = open(&place.path);
    let mode = std::fs::metadata(&place.path)
        .expect("is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    let error = refusal(&place.path);
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(
        error
            .to_string()
            .contains(&place.path.display().to_string())
    );
    log.close().await;
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&place.path, PermissionsExt::from_mode(mode)).expect("changes");
        assert!(
            matches!(refusal(&place.path), OpenError::NotPrivate { mode: found, .. } if found == mode)
        );
    }
    private(&place.path);
    let link = place.path.with_extension("link");
    std::os::unix::fs::symlink(&place.path, &link).expect("links");
    assert!(matches!(refusal(&link), OpenError::NotAPlainFile { .. }));
    let directory = place.path.parent().expect("has one");
    assert!(matches!(
        refusal(directory),
        OpenError::Io { .. } | OpenError::NotAPlainFile { .. }
    ));
    open(&place.path).close().await;
}

#[tokio::test]
async fn a_file_of_another_user_is_refused() {
    let place = place();
    open(&place.path).close().await;
    // Only root can give a file away; others cannot make the case.
    if std::os::unix::fs::chown(&place.path, Some(1), None).is_ok() {
        assert!(matches!(
            refusal(&place.path),
            OpenError::NotOwner { owner: 1, .. }
        ));
    }
}

#[test]
fn other_files_are_not_taken_for_a_log() {
    let place = place();
    for (bytes, version) in [
        (b"x".as_slice(), false),
        (b"some text that is longer than the header", false),
        (b"\x84\x71postern audit log\x02", true),
        (b"\x84\x71postern audit log\x18\x2a", true),
    ] {
        std::fs::write(&place.path, bytes).expect("writes");
        private(&place.path);
        for error in [
            refusal(&place.path),
            verify(&place.path).expect_err("is refused"),
        ] {
            let found = matches!(error, OpenError::Version { .. });
            assert_eq!(found, version, "{error}");
            assert!(
                found || matches!(error, OpenError::NotALog { .. }),
                "{error}"
            );
        }
        assert_eq!(std::fs::read(&place.path).expect("reads"), bytes);
    }
}

#[tokio::test]
async fn a_copy_verifies_while_the_log_is_open_and_the_head_is_the_same() {
    let place = place();
    let log = open(&place.path);
    for n in 0..10 {
        log.append(entry(n)).await.expect("appends");
    }
    let copy = place.path.with_extension("copy");
    std::fs::copy(&place.path, &copy).expect("copies");
    let summary = verify(&copy).expect("verifies");
    assert_eq!((summary.entries, summary.head), log.head());
    log.close().await;
}
