//! A process killed in the middle of commits: every acknowledged commit is there, none is half there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use store::{KeyRange, Options, Outcome, RedbStore, Revision, Store, Transaction, WatchEvent};
use tempfile::TempDir;

const PATH: &str = "STORE_CRASH_TEST_PATH";
const WRITERS: u64 = 8;
const ROUNDS: u64 = 6;

/// Not a test of its own: the process that the test below starts and kills. Each commit writes two
/// keys; tells each acknowledged commit on its output.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Ok(path) = std::env::var(PATH) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = RedbStore::open(path, Options::default()).expect("opens");
        let start = store.revision().await.expect("reads");
        let output = Arc::new(Mutex::new(std::io::stdout()));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, output) = (store.clone(), Arc::clone(&output));
                tokio::spawn(async move {
                    for n in 0.. {
                        let key = format!("{start}.{writer}.{n}");
                        let transaction = Transaction::new()
                            .absent(format!("a.{key}"))
                            .put(format!("a.{key}"), vec![1; 300])
                            .put(format!("b.{key}"), vec![2; 300]);
                        let Ok(Outcome::Committed(revision)) = store.commit(transaction).await
                        else {
                            panic!("a commit failed");
                        };
                        let mut output = output.lock().expect("is whole");
                        writeln!(output, "ack {revision} {key}").expect("is read");
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("runs until killed");
        }
    });
}

#[test]
fn every_acknowledged_commit_survives_kill_9() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("store");
    let mut acknowledged: BTreeMap<String, Revision> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("has a path"))
            .args([
                "--exact",
                "child_that_commits_until_it_is_killed",
                "--nocapture",
            ])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("is piped"));
        let wanted = acknowledged.len() as u64 + 40 + 23 * round;
        for line in output.lines() {
            let line = line.expect("is text");
            // The test harness talks too, on the line of the first.
            if let Some((_, ack)) = line.split_once("ack ") {
                let (revision, key) = ack.split_once(' ').expect("has two parts");
                let revision = Revision(revision.parse().expect("is a number"));
                acknowledged.insert(key.to_owned(), revision);
            }
            if acknowledged.len() as u64 == wanted {
                child.kill().expect("is killed");
                // What it said before it died counts too, so read on to the end.
            }
        }
        let status = child.wait().expect("ends");
        assert!(!status.success(), "the child ended by itself: {status}");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(check(&path, &acknowledged));
    }
}

async fn check(path: &std::path::Path, acknowledged: &BTreeMap<String, Revision>) {
    let store = RedbStore::open(path, Options::default()).expect("opens");
    for (key, revision) in acknowledged {
        for half in ["a", "b"] {
            let entry = store
                .get(format!("{half}.{key}").as_bytes())
                .await
                .expect("reads");
            let entry = entry.unwrap_or_else(|| panic!("acknowledged commit {revision} is lost"));
            assert_eq!(entry.revision, *revision);
        }
    }
    let halves = async |half: &str| {
        let page = store
            .range(KeyRange::prefix(half), 10_000)
            .await
            .expect("reads");
        assert!(!page.more);
        page.entries
            .into_iter()
            .map(|(key, entry)| (key[1..].to_vec(), entry.revision))
            .collect()
    };
    let (a, b): (BTreeMap<_, _>, BTreeMap<_, _>) = (halves("a").await, halves("b").await);
    assert_eq!(a, b, "a commit is half there");
    // The history agrees: one event per revision, without a gap.
    let last = store.revision().await.expect("reads");
    let mut watch = store.watch(b"", Revision::ZERO).await.expect("starts");
    for expected in 1..=last.0 {
        match watch.next().await {
            Ok(Some(WatchEvent::Committed { revision, changes })) => {
                assert_eq!((revision, changes.len()), (Revision(expected), 2));
            }
            other => panic!("revision {expected}: {other:?}"),
        }
    }
    store.close().await;
}
