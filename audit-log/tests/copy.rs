//! A copy of a log opens elsewhere, as it stood, and goes on.

mod support;

use std::path::Path;

use audit_log::{AuditLog, LogCopy, ReadError, SideFile, SideOptions};
use support::*;

fn lay(copy: &LogCopy, to: &Path) {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let private = |path: &Path| {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path);
        made.expect("makes");
    };
    for file in &copy.files {
        let path = to.join(&file.path);
        private(path.parent().expect("has one"));
        let mut bytes = Vec::new();
        file.read(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .expect("reads");
        assert_eq!(bytes.len() as u64, file.length());
        let mut to = std::fs::OpenOptions::new();
        let mut to = to
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .expect("makes");
        std::io::Write::write_all(&mut to, &bytes).expect("writes");
    }
}

async fn fill(log: &AuditLog, shards: u64) {
    while log.head().checkpoint.checkpoint().shard.number < shards {
        let entry = format!("entry {} {}", log.head().entries, "x".repeat(5_000));
        log.append(entry.into_bytes()).await.expect("appends");
        // The shard ends with the next one.
        log.append(entry_of(log)).await.expect("appends");
    }
}

fn entry_of(log: &AuditLog) -> Vec<u8> {
    entry(log.head().entries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_opens_as_the_log_stood_and_goes_on_in_a_shard_of_its_own() {
    // rule: BAK-1
    for shards in [1, 2, 4] {
        let (place, other) = (place(), support::place());
        let log = open_with(&place.path, &small_shards());
        fill(&log, shards).await;
        for _ in 0..3 {
            log.append(entry_of(&log)).await.expect("appends");
        }
        let head = log.head();
        let copy = log.copy().expect("is copied");
        assert_eq!(copy.checkpoint.note(), head.checkpoint.note());
        assert_eq!(copy.entries, head.entries);
        assert_eq!(copy.left_out, shards.saturating_sub(2));
        // What comes later, and journals that go, change nothing of it.
        fill(&log, shards + 3).await;
        log.publish_now().await.expect("publishes");
        lay(&copy, &other.path);
        let there = open_with(&other.path, &small_shards());
        assert_eq!(there.head().checkpoint.note(), head.checkpoint.note());
        assert_eq!(there.head().entries, head.entries);
        let first = there.first_kept();
        assert_eq!(first == 0, shards <= 2);
        let wanted: Vec<_> = records(&there, first)
            .into_iter()
            .map(|one| one.entry)
            .collect();
        let kept: Vec<_> = (first..head.entries)
            .map(|index| log.receipt(index).expect("is there").0)
            .collect();
        assert_eq!(wanted, kept);
        if shards > 2 {
            let pruned = there.read(0).next().expect("says so");
            assert!(
                matches!(pruned, Err(ReadError::Pruned { .. })),
                "{pruned:?}"
            );
        }
        let opened = move |_: &ticket_format::tlog::Checkpoint, _| b"restored".to_vec();
        let begun = there.recover([7; 16], 1_000, opened).await.expect("begins");
        assert_eq!(begun.checkpoint().checkpoint().shard.number, 1_000);
        there.append(b"next".to_vec()).await.expect("appends");
        there.publish_now().await.expect("publishes");
        there.close().await;
        drop(there);
        let again = open_with(&other.path, &small_shards());
        assert_eq!(again.head().entries, head.entries + 2);
        again.close().await;
        log.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_side_file_is_copied_up_to_its_last_whole_record() {
    // rule: BAK-1
    let place = place();
    let (side, _) = SideFile::open(&place.path, &SideOptions::default()).expect("opens");
    let record = |n: u8| {
        let mut record = vec![0x83, 0x58, 32];
        record.extend([n; 32]);
        record.extend([0xf6, 0x80]);
        ([n; 32], record)
    };
    assert!(
        side.put_all(vec![record(1), record(2)])
            .wait(std::time::Duration::from_secs(5))
            .await
    );
    let length = side.length();
    assert!(
        side.put_all(vec![record(3)])
            .wait(std::time::Duration::from_secs(5))
            .await
    );
    let mut bytes = Vec::new();
    side.read(length, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .expect("reads");
    let other = place.path.with_extension("copy");
    std::fs::write(&other, &bytes).expect("writes");
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("sets");
    let (copy, loss) = SideFile::open(&other, &SideOptions::default()).expect("opens");
    assert_eq!(loss, None);
    assert!(copy.get(&[1; 32]).expect("reads").is_some());
    assert!(copy.get(&[2; 32]).expect("reads").is_some());
    assert!(copy.get(&[3; 32]).expect("reads").is_none());
    copy.close().await;
    side.close().await;
}
