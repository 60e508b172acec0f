//! A process killed in the middle of appending: every acknowledged entry is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use audit_log::{AuditLog, Options, verify};
use tempfile::TempDir;

const PATH: &str = "AUDIT_LOG_CRASH_TEST_PATH";
const WRITERS: u64 = 16;
const ROUNDS: u64 = 6;

/// Not a test of its own: the process that the test below starts and kills. Tells each acknowledged
/// entry on its output.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Ok(path) = std::env::var(PATH) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (log, _) = AuditLog::open(path, &Options::default()).expect("opens");
        let (start, _) = log.head();
        let output = Arc::new(std::sync::Mutex::new(std::io::stdout()));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (log, output) = (log.clone(), Arc::clone(&output));
                tokio::spawn(async move {
                    for n in 0.. {
                        let entry = format!("{start} {writer} {n}");
                        let appended = log
                            .append(entry.clone().into_bytes())
                            .await
                            .expect("appends");
                        let mut output = output.lock().expect("is whole");
                        writeln!(output, "ack {} {entry}", appended.index).expect("is read");
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
fn every_acknowledged_entry_survives_kill_9() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log");
    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("has a path"))
            .args([
                "--exact",
                "child_that_appends_until_it_is_killed",
                "--nocapture",
            ])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("is piped"));
        let wanted = acknowledged.len() as u64 + 100 + 77 * round;
        for line in output.lines() {
            let line = line.expect("is text");
            // The test harness talks too, on the line of the first.
            if let Some((_, ack)) = line.split_once("ack ") {
                let (index, entry) = ack.split_once(' ').expect("has two parts");
                acknowledged.push((index.parse().expect("is a number"), entry.to_owned()));
            }
            if acknowledged.len() as u64 == wanted {
                child.kill().expect("is killed");
                // What it said before it died counts too, so read on to the end.
            }
        }
        let status = child.wait().expect("ends");
        assert!(!status.success(), "the child ended by itself: {status}");
        let summary = verify(&path).expect("verifies");
        assert!(summary.entries >= acknowledged.len() as u64);

        let (log, _) = AuditLog::open(&path, &Options::default()).expect("opens");
        let records: Vec<_> = log.read(0).map(|record| record.expect("reads")).collect();
        for (index, entry) in &acknowledged {
            let record = usize::try_from(*index)
                .ok()
                .and_then(|index| records.get(index));
            let record = record.unwrap_or_else(|| panic!("entry {index} is lost"));
            assert_eq!(record.entry, entry.as_bytes());
        }
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(log.close());
    }
}
