//! A process killed in the middle of appending, publishing and changing shards: every acknowledged entry
//! is there, and every checkpoint that it showed is kept to.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use audit_log::{Entries, Folder, Opened, Options, What};
use support::*;
use ticket_format::tlog::{Checkpoint, ShardName, merkle};

const PATH: &str = "AUDIT_LOG_CRASH_TEST_PATH";
const WRITERS: u64 = 16;
const ROUNDS: u64 = 8;

fn busy() -> Options {
    Options {
        shard_bytes: 300_000,
        publish_every: Some(Duration::from_millis(3)),
        ..small_shards()
    }
}

/// Not a test of its own: the process that the test below starts and kills. Tells each acknowledged
/// entry on its output, with the checkpoint that covers it.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Ok(path) = std::env::var(PATH) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let log = audit_log::AuditLog::open(path, secret(), &busy())
            .expect("opens")
            .0;
        let start = log.head().entries;
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
                        check(entry.as_bytes(), &appended.proof());
                        let checkpoint = appended.checkpoint();
                        let Checkpoint { shard, size, root } = checkpoint.checkpoint();
                        let root: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
                        let index = appended.index;
                        let mut output = output.lock().expect("is whole");
                        writeln!(output, "ack {index} {shard} {size} {root} {entry}")
                            .expect("is read");
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("runs until killed");
        }
    });
}

fn hash(text: &str) -> [u8; 32] {
    let bytes: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).expect("is hex"))
        .collect();
    bytes.try_into().expect("has 32 bytes")
}

struct Texts;

impl Entries for Texts {
    fn opened(&mut self, entry: &[u8]) -> Option<Opened> {
        let text = std::str::from_utf8(entry).ok()?.strip_prefix("opened ")?;
        let (name, rest) = text.split_once(' ')?;
        let (size, rest) = rest.split_once(' ')?;
        let (root, before) = rest.rsplit_once(' ')?;
        let root = root.trim_matches(['[', ']']).split(", ");
        let root: Vec<u8> = root.map(|byte| byte.parse().ok()).collect::<Option<_>>()?;
        Some(Opened {
            previous: name.parse().ok()?,
            size: size.parse().ok()?,
            root: root.try_into().ok()?,
            before: before.parse().ok()?,
            recovery: false,
        })
    }

    fn is_closed(&mut self, entry: &[u8]) -> bool {
        entry.starts_with(b"closed ")
    }
}

// rule: TLOG-3
#[test]
fn every_acknowledged_entry_and_checkpoint_survives_kill_9() {
    let place = place();
    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    let mut checkpoints: Vec<Checkpoint> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("has a path"))
            .args([
                "--exact",
                "child_that_appends_until_it_is_killed",
                "--nocapture",
            ])
            .env(PATH, &place.path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("is piped"));
        let wanted = acknowledged.len() as u64 + 100 + 77 * round;
        for line in output.lines() {
            let line = line.expect("is text");
            // The test harness talks too, on the line of the first.
            if let Some((_, ack)) = line.split_once("ack ") {
                let mut parts = ack.splitn(5, ' ');
                let mut part = || parts.next().expect("has five parts");
                let index = part().parse().expect("is a number");
                let shard: ShardName = part().parse().expect("is a name");
                let size = part().parse().expect("is a number");
                let root = hash(part());
                acknowledged.push((index, part().to_owned()));
                checkpoints.push(Checkpoint { shard, size, root });
            }
            if acknowledged.len() as u64 == wanted {
                child.kill().expect("is killed");
                // What it said before it died counts too, so read on to the end.
            }
        }
        let status = child.wait().expect("ends");
        assert!(!status.success(), "the child ended by itself: {status}");
        let summary =
            audit_log::verify(&Folder::new(&place.path), &key(), &mut Texts).expect("reads");
        for finding in &summary.findings {
            // Killed between two shards: the next start goes on.
            assert_eq!(finding.what, What::Truncated, "{finding}");
        }
        assert!(summary.entries() >= acknowledged.len() as u64);

        let (log, _) = audit_log::AuditLog::open(&place.path, secret(), &busy()).expect("opens");
        let records = records(&log, 0);
        for (index, entry) in &acknowledged {
            let record = usize::try_from(*index)
                .ok()
                .and_then(|index| records.get(index));
            let record = record.unwrap_or_else(|| panic!("entry {index} is lost"));
            assert_eq!(record.entry, entry.as_bytes());
        }
        for old in checkpoints.iter().step_by(7) {
            let proof = log.consistency(old).expect("proves");
            let new = proof.checkpoint.checkpoint();
            merkle::verify_consistency(old.size, &old.root, new.size, &new.root, &proof.path)
                .expect("verifies");
        }
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(log.close());
    }
    let last = checkpoints.last().expect("is there");
    assert!(last.shard.number > 2, "shards changed: {}", last.shard);
}
