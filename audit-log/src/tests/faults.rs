//! Errors of the disk, one kind at a time.

use std::sync::Arc;

use rustix::io::Errno;

use super::{Texts, open};
use crate::disk::Disk;
use crate::tests::model::Model;
use crate::{AppendError, AuditLog, PublishError};

fn entry(n: u64) -> Vec<u8> {
    format!("entry {n}").into_bytes()
}

fn start() -> (Arc<Model>, AuditLog) {
    let disk = Model::new(1);
    let (log, torn) = open(&disk).expect("opens");
    assert_eq!(torn, None);
    (disk, log)
}

fn entries(log: &AuditLog) -> Vec<Vec<u8>> {
    log.read(0)
        .map(|record| record.expect("reads").entry)
        .collect()
}

const FULL: i32 = Errno::NOSPC.raw_os_error();
const BROKEN: i32 = Errno::IO.raw_os_error();

// rule: TLOG-3
#[tokio::test]
async fn a_full_disk_refuses_in_one_line_and_recovers_by_itself() {
    let (disk, log) = start();
    log.append(entry(0)).await.expect("appends");
    let head = log.head().checkpoint;
    disk.set_faults(|faults| faults.journal_write = FULL);
    for _ in 0..2 {
        let error = log
            .append_once([7; 16], entry(1))
            .await
            .expect_err("is refused");
        assert!(
            matches!(&error, AppendError::NotWritten { reason } if reason.contains("No space left")),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'));
    }
    // No checkpoint of it was shown.
    assert_eq!(log.head().checkpoint.note(), head.note());
    assert_eq!(log.checkpoints().borrow().note(), head.note());
    // What was refused does not come back by a power failure either: the cut is durable.
    let (later, torn) = open(&disk.next_life(true)).expect("opens");
    assert_eq!((torn, later.head().entries), (None, 1));
    later.close().await;

    let disk = disk.next_life(false);
    let (log, torn) = open(&disk).expect("opens");
    assert_eq!(torn, None);
    disk.set_faults(|faults| faults.journal_write = FULL);
    log.append_once([7; 16], entry(1))
        .await
        .expect_err("is refused");
    disk.set_faults(|faults| faults.journal_write = 0);
    // The act that failed is not taken for recorded.
    let appended = log.append_once([7; 16], entry(1)).await.expect("appends");
    assert_eq!((appended.index, appended.repeated), (1, false));
    assert_eq!(entries(&log), [entry(0), entry(1)]);
    log.close().await;
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_accepted_until_reopened() {
    let (disk, log) = start();
    log.append(entry(0)).await.expect("appends");
    let head = log.head().checkpoint;
    disk.set_faults(|faults| faults.journal_sync = BROKEN);
    let error = log
        .append_once([1; 16], entry(1))
        .await
        .expect_err("is refused");
    assert!(
        matches!(&error, AppendError::MustReopen { reason } if reason.contains("Input/output error")),
        "{error}"
    );
    disk.set_faults(|faults| faults.journal_sync = 0);
    let error = log.append(entry(2)).await.expect_err("is refused");
    assert!(matches!(error, AppendError::MustReopen { .. }), "{error}");
    let error = log
        .recover([2; 16], 0, |_, _| entry(3))
        .await
        .expect_err("is refused");
    assert!(matches!(error, AppendError::MustReopen { .. }), "{error}");
    assert_eq!(entries(&log), [entry(0)]);
    assert_eq!(log.checkpoints().borrow().note(), head.note());
    log.close().await;
    let (log, torn) = open(&disk.next_life(false)).expect("opens");
    assert_eq!(torn, None);
    let appended = log.append_once([1; 16], entry(1)).await.expect("appends");
    assert_eq!((appended.index, appended.repeated), (1, false));
    log.close().await;
}

#[tokio::test]
async fn a_disk_that_can_neither_write_nor_cut_is_given_up() {
    let (disk, log) = start();
    log.append(entry(0)).await.expect("appends");
    disk.set_faults(|faults| (faults.set_len, faults.journal_write) = (BROKEN, FULL));
    for _ in 0..2 {
        let error = log.append(entry(1)).await.expect_err("is refused");
        assert!(matches!(error, AppendError::MustReopen { .. }), "{error}");
    }
    log.close().await;
    // What is left of the refused entry goes at the next start.
    let (log, torn) = open(&disk.next_life(false)).expect("opens");
    assert_eq!(torn.expect("is torn").entries, 1);
    assert_eq!(entries(&log), [entry(0)]);
    log.close().await;
}

// rule: TLOG-11
#[tokio::test]
async fn what_cannot_be_published_holds_up_no_answer_and_is_published_later() {
    let (disk, log) = start();
    log.publish_now().await.expect("publishes");
    disk.set_faults(|faults| faults.file_write = FULL);
    log.append(entry(0)).await.expect("appends");
    let error = log.publish_now().await.expect_err("is refused");
    assert!(matches!(error, PublishError::Refused(_)), "{error}");
    log.append(entry(1)).await.expect("appends");
    disk.set_faults(|faults| faults.file_write = 0);
    log.publish_now().await.expect("publishes");
    let note = disk.read("1/checkpoint").expect("reads").expect("is there");
    assert_eq!(note, log.head().checkpoint.note().as_bytes());
    log.close().await;
}

// rule: TLOG-4
#[tokio::test]
async fn a_shard_for_which_there_is_no_room_begins_when_there_is() {
    let (disk, log) = start();
    let number = || log.head().checkpoint.checkpoint().shard.number;
    disk.set_faults(|faults| faults.file_write = FULL);
    let mut kept = 0;
    let refused = loop {
        match log.append(vec![1; 4_000]).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 50, "the shard is never closed");
    };
    assert!(
        matches!(&refused, AppendError::NotWritten { reason } if reason.contains("No space left")),
        "{refused}"
    );
    assert_eq!(number(), 1);
    for reopened in [false, true] {
        if reopened {
            // A crash right there is finished at the next start.
            let (later, _) = open(&disk.next_life(true)).expect("opens");
            assert_eq!(later.head().checkpoint.checkpoint().shard.number, 2);
            assert_eq!(later.head().entries, kept + 2);
            later.close().await;
        } else {
            log.append(entry(0)).await.expect_err("is refused");
        }
    }
    let disk = disk.next_life(false);
    let (log, _) = open(&disk).expect("opens");
    let appended = log.append(entry(0)).await.expect("appends");
    assert_eq!(appended.index, kept + 2);
    log.close().await;
    let summary = crate::verify(
        &super::Copy(&disk),
        &super::secret().key().clone(),
        &mut Texts,
    );
    assert!(summary.expect("reads").is_whole());
}

#[tokio::test]
async fn room_that_comes_back_is_used_without_a_restart_also_between_shards() {
    let (disk, log) = start();
    disk.set_faults(|faults| faults.file_write = FULL);
    let mut kept = 0;
    while log.append(vec![1; 4_000]).await.is_ok() {
        kept += 1;
    }
    disk.set_faults(|faults| faults.file_write = 0);
    let appended = log.append(entry(0)).await.expect("appends");
    assert_eq!(appended.index, kept + 2);
    assert_eq!(log.head().checkpoint.checkpoint().shard.number, 2);
    log.close().await;
}

#[tokio::test]
async fn a_shard_that_may_or_may_not_have_begun_ends_the_process() {
    for rename in [true, false] {
        let (disk, log) = start();
        log.append(entry(0)).await.expect("appends");
        log.append(entry(1)).await.expect("appends");
        disk.set_faults(|faults| {
            if rename {
                faults.rename = BROKEN;
            }
        });
        if !rename {
            // The directory's own sync fails only after the new name is given.
            disk.fail_after(Some(4));
        }
        let recovered = log.recover([1; 16], 0, |last, before| {
            super::opened("recovered", last, before)
        });
        let error = recovered.await.expect_err("is refused");
        assert!(matches!(error, AppendError::MustReopen { .. }), "{error}");
        // Nothing goes into the old shard that the new one would not count.
        let error = log.append(entry(2)).await.expect_err("is refused");
        assert!(matches!(error, AppendError::MustReopen { .. }), "{error}");
        for power_failed in [false, true] {
            let (log, _) = open(&disk.next_life(power_failed)).expect("opens");
            let begun = log
                .recover([1; 16], 0, |last, before| {
                    super::opened("recovered", last, before)
                })
                .await
                .expect("recovers");
            assert_eq!(begun.index, 2);
            log.close().await;
        }
    }
}
