//! A log in a directory of its own.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit_log::{AuditLog, Options, Record, ShardEntries};
use tempfile::TempDir;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, LogKey, LogSecret, Proof, SignedCheckpoint, merkle};

pub(crate) struct Place {
    _directory: TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn place() -> Place {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("audit");
    Place {
        _directory: directory,
        path,
    }
}

pub(crate) fn secret() -> LogSecret {
    let origin = "example/broker/0123456789abcdef"
        .parse()
        .expect("an origin");
    LogSecret::from_seeds(origin, &[1; 32], &[2; 32]).expect("a secret")
}

pub(crate) fn key() -> LogKey {
    secret().key().clone()
}

/// Entries between shards as text.
pub(crate) struct Between;

impl ShardEntries for Between {
    fn closed(&self, last: &Checkpoint) -> Vec<u8> {
        format!("closed {}", last.size).into_bytes()
    }

    fn opened(&self, previous: &Checkpoint, before: u64) -> Vec<u8> {
        let Checkpoint { shard, size, root } = previous;
        format!("opened {shard} {size} {root:?} {before}").into_bytes()
    }
}

/// Publishes only when told; time stands still.
pub(crate) fn options() -> Options {
    Options {
        publish_every: None,
        clock: Arc::new(|| Timestamp::from_seconds(1_800_000_000)),
        ..Options::default()
    }
}

/// As [`options`], with shards that are closed after a few entries.
pub(crate) fn small_shards() -> Options {
    Options {
        shard_bytes: 40_000,
        shard_entries: Some(Arc::new(Between)),
        ..options()
    }
}

pub(crate) fn open_with(path: &Path, options: &Options) -> AuditLog {
    let (log, torn) = AuditLog::open(path, secret(), options).expect("opens");
    assert_eq!(torn, None);
    log
}

pub(crate) fn open(path: &Path) -> AuditLog {
    open_with(path, &options())
}

pub(crate) fn entry(n: u64) -> Vec<u8> {
    format!("entry {n}").into_bytes()
}

pub(crate) fn records(log: &AuditLog, from: u64) -> Vec<Record> {
    log.read(from)
        .map(|record| record.expect("reads"))
        .collect()
}

/// Verifies a proof of an entry as a client does, and gives index and checkpoint.
pub(crate) fn check(entry: &[u8], proof: &str) -> (u64, SignedCheckpoint) {
    let proof: Proof = proof.parse().expect("is a proof");
    let checkpoint = key().verify(&proof.checkpoint).expect("is signed");
    let Checkpoint { size, root, .. } = checkpoint.checkpoint();
    let leaf = merkle::leaf_hash(entry);
    merkle::verify_inclusion(&leaf, proof.index, *size, &proof.path, root).expect("is included");
    (proof.index, checkpoint)
}
