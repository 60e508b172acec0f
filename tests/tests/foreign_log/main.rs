//! Logs that the audit-log crate writes, checked by programs and crates that none of us wrote
//! (`tests/foreign`): Go's checksum database code, PyPI `pymerkle`, npm `@noble/*`, Rust's `ct-merkle`.

mod live;
mod receipts;
mod second;
mod shards;
mod vectors;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit_log::guard::Shards;
use audit_log::{AuditLog, Options};
use serde_json::{Value, json};
use tests::foreign::run;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::keys::TlsSecret;
use ticket_format::statement::Role;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, Hash, LogSecret, Origin, Proof, proof};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

fn secret(seed: u8) -> LogSecret {
    let server = TlsSecret::from_seed(&[9; 32]).public();
    let origin = Origin::new("a realm", Role::KeyServer, &server);
    LogSecret::from_seeds(origin, &[seed; 32], &[seed; 32]).expect("seeds")
}

/// A log in a directory, and beside it the files that the programs are given.
struct Made {
    home: tempfile::TempDir,
    log: AuditLog,
    keys: PathBuf,
    shard_bytes: u64,
}

impl Made {
    fn new(shard_bytes: u64) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let clock: audit_log::Clock = Arc::new(now);
        let options = Options {
            publish_every: None,
            shard_bytes,
            shard_entries: Some(Arc::new(Shards {
                clock: clock.clone(),
            })),
            clock,
            ..Options::default()
        };
        let (log, torn) =
            AuditLog::open(home.path().join("audit"), secret(1), &options).expect("a log");
        assert!(torn.is_none());
        let keys = home.path().join("keys");
        fs::write(&keys, vkeys(&log.key().vkeys())).expect("written");
        Self {
            home,
            log,
            keys,
            shard_bytes,
        }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("audit")
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }

    /// Appends entries of several lengths, many at a time.
    async fn fill(&self, entries: u64) {
        for from in (0..entries).step_by(100) {
            let appends = (from..entries.min(from + 100)).map(|n| self.log.append(entry(n)));
            for appended in futures::future::join_all(appends).await {
                appended.expect("appended");
            }
        }
        // A full shard ends behind an answer; right after one has ended, none is about to.
        let shards = self.shards().len();
        let mut next = entries;
        while self.shard_bytes < u64::MAX && self.shards().len() == shards {
            self.log.append(entry(next)).await.expect("appended");
            next += 1;
        }
        // Few enough to leave it so, and more than one for a path.
        let appends = (next..next + 10).map(|n| self.log.append(entry(n)));
        for appended in futures::future::join_all(appends).await {
            appended.expect("appended");
        }
        self.log.publish_now().await.expect("published");
    }

    /// What the programs say of the whole log when it is as it should be.
    fn shards(&self) -> Vec<Value> {
        (1..)
            .map_while(|number| self.log.checkpoint_of(number))
            .map(|checkpoint| {
                let mut said = shown(checkpoint.checkpoint());
                said["entries"] = checkpoint.checkpoint().size.into();
                said
            })
            .collect()
    }
}

fn vkeys(keys: &[ticket_format::tlog::Vkey]) -> String {
    keys.iter().map(|key| format!("{key}\n")).collect()
}

fn entry(n: u64) -> Vec<u8> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let entry = Entry::new(ActId(id), Kind::Start, now());
    entry.source("x".repeat((n % 200) as usize)).to_cbor()
}

fn shown(checkpoint: &Checkpoint) -> Value {
    json!({
        "shard": checkpoint.shard.to_string(),
        "size": checkpoint.size,
        "root": hex(&checkpoint.root),
    })
}

/// What a program that found all well said.
fn said(arguments: &[&str]) -> Value {
    serde_json::from_str(&run(arguments).ok()).expect("JSON")
}

/// Holds that a program refuses, and that it says so.
fn refuses(what: &str, arguments: &[&str]) {
    let said = run(arguments);
    assert_eq!(said.code, Some(1), "{what}: {}", said.stderr);
    assert!(said.stderr.contains("refused"), "{what}: {}", said.stderr);
}
