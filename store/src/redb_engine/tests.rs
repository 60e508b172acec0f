//! The engine on a disk that fails.

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use rustix::io::Errno;
use tempfile::TempDir;

use super::{Options, RedbStore, faults::Faults, open};
use crate::{Error, KeyRange, Outcome, Revision, Store, Transaction, WatchEvent};
use std::path::PathBuf;
use std::sync::Arc;

struct Bench {
    _directory: TempDir,
    path: PathBuf,
    faults: Arc<Faults>,
    store: RedbStore,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("store");
        let (disk, database, revision) = open::open(&path).expect("opens");
        let faults = Arc::clone(&disk.faults);
        let store = RedbStore::start(&path, Options::default(), disk, database, revision);
        Self {
            _directory: directory,
            path,
            faults,
            store: store.expect("starts"),
        }
    }

    async fn put(&self, key: &str) -> Result<Outcome, Error> {
        self.store
            .commit(Transaction::new().put(key, vec![7; 60_000]))
            .await
    }

    async fn keys(&self) -> Vec<String> {
        let page = self
            .store
            .range(KeyRange::all(), 1000)
            .await
            .expect("reads");
        page.entries
            .into_iter()
            .map(|(key, _)| String::from_utf8(key).expect("is text"))
            .collect()
    }
}

fn set(fault: &AtomicI32, errno: Errno) {
    fault.store(errno.raw_os_error(), SeqCst);
}

fn clear(fault: &AtomicI32) {
    fault.store(0, SeqCst);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_the_commit_keeps_nothing_and_recovers_with_room() {
    let bench = Bench::new();
    bench.put("a").await.expect("commits");
    let mut watch = bench
        .store
        .watch(b"", Revision::ZERO)
        .await
        .expect("starts");
    watch.next().await.expect("works");
    set(&bench.faults.on_write, Errno::NOSPC);
    let error = bench.put("b").await.expect_err("is refused");
    assert!(error.to_string().contains("No space left"), "{error}");
    // While the disk is full, it stays refused with the reason.
    for _ in 0..3 {
        let error = bench.put("c").await.expect_err("is refused");
        assert!(
            matches!(
                error,
                Error::NotCommitted { .. } | Error::Unavailable { .. }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("No space left"), "{error}");
    }
    clear(&bench.faults.on_write);
    assert_eq!(bench.put("d").await, Ok(Outcome::Committed(Revision(2))));
    assert_eq!(bench.keys().await, ["a", "d"]);
    match watch.next().await {
        Ok(Some(WatchEvent::Committed { revision, .. })) => assert_eq!(revision, Revision(2)),
        other => panic!("{other:?}"),
    }
    bench.store.close().await;
    let store = RedbStore::open(&bench.path, Options::default()).expect("opens");
    assert_eq!(store.revision().await, Ok(Revision(2)));
    store.close().await;
}

/// The disk fails at its n-th write, for every n that a commit has: whatever the answer says of the
/// commit is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_at_any_write_of_a_commit_is_answered_truly() {
    let mut refused = 0;
    for nth in 0.. {
        let bench = Bench::new();
        bench.put("a").await.expect("commits");
        bench.faults.writes_left.store(nth, SeqCst);
        let answer = bench.put("b").await;
        let fired = bench.faults.writes_left.swap(i32::MAX, SeqCst) < 0;
        // Recovers, if it was the only failure.
        let after = bench.put("c").await.expect("commits");
        let kept = bench.keys().await.contains(&"b".to_owned());
        match answer {
            Ok(Outcome::Committed(_)) => assert!(kept, "write {nth}: acknowledged and lost"),
            Err(Error::NotCommitted { .. }) => {
                refused += 1;
                assert!(!kept, "write {nth}: refused and kept");
            }
            Err(Error::OutcomeUnknown { .. }) => {}
            other => panic!("write {nth}: {other:?}"),
        }
        assert_eq!(
            after,
            Outcome::Committed(Revision(if kept { 3 } else { 2 }))
        );
        bench.store.close().await;
        if !fired {
            break;
        }
    }
    assert!(refused > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_served_until_reopened() {
    let bench = Bench::new();
    bench.put("a").await.expect("commits");
    set(&bench.faults.on_sync, Errno::IO);
    let error = bench.put("b").await.expect_err("is refused");
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    clear(&bench.faults.on_sync);
    let error = bench.put("c").await.expect_err("is refused");
    assert!(matches!(error, Error::MustReopen { .. }), "{error}");
    let error = bench.store.get(b"a").await.expect_err("is refused");
    assert!(matches!(error, Error::MustReopen { .. }), "{error}");
    bench.store.close().await;
    let store = RedbStore::open(&bench.path, Options::default()).expect("opens");
    assert!(store.get(b"a").await.expect("reads").is_some());
    assert_eq!(store.get(b"c").await, Ok(None));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_error_heals_when_the_disk_does() {
    let bench = Bench::new();
    for n in 0..20 {
        bench.put(&format!("{n:02}")).await.expect("commits");
    }
    bench.store.close().await;
    // A fresh cache, so that reads go to the disk.
    let (disk, database, revision) = open::open(&bench.path).expect("opens");
    let faults = Arc::clone(&disk.faults);
    let store = RedbStore::start(&bench.path, Options::default(), disk, database, revision);
    let store = store.expect("starts");
    set(&faults.on_read, Errno::IO);
    let mut failures = 0;
    for n in 0..20 {
        match store.get(format!("{n:02}").as_bytes()).await {
            Ok(entry) => assert!(entry.is_some(), "a read error must not look like absence"),
            Err(Error::Unavailable { .. }) => failures += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(failures > 0, "the fault did not fire");
    clear(&faults.on_read);
    let outcome = store.commit(Transaction::new().put("healed", "")).await;
    assert_eq!(outcome, Ok(Outcome::Committed(Revision(21))));
    for n in 0..20 {
        assert!(
            store
                .get(format!("{n:02}").as_bytes())
                .await
                .expect("reads")
                .is_some()
        );
    }
    store.close().await;
}
