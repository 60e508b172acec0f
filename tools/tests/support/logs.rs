//! Real logs, made by the crate that servers use.
#![allow(dead_code)] // not every test program needs all of it

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit_log::guard::Shards;
use audit_log::{AuditLog, Options};
use ticket_format::cbor::Encode as _;
use ticket_format::entry::Entry;
use ticket_format::keys::TlsSecret;
use ticket_format::statement::Role;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogSecret, Origin};

/// Seconds; entries' times count from here.
pub(crate) const START: u64 = 1_795_372_800;

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(START + seconds)
}

/// A server's log keys, by the role and a number.
pub(crate) fn secret(role: Role, seed: u8) -> LogSecret {
    let tls = TlsSecret::from_seed(&[seed; 32]).public();
    LogSecret::from_seeds(
        Origin::new("example", role, &tls),
        &[seed; 32],
        &[seed + 100; 32],
    )
    .unwrap()
}

/// The options that give a log's keys.
pub(crate) fn keys(secret: &LogSecret) -> Vec<String> {
    let vkeys = secret.key().vkeys();
    vkeys
        .iter()
        .map(|vkey| format!("--log-key={vkey}"))
        .collect()
}

/// Appends entries to the log in a directory, in batches of one, and publishes them; shards end after
/// `shard_bytes`.
pub(crate) fn append(dir: &Path, secret: LogSecret, shard_bytes: u64, entries: &[Entry]) {
    // The clock reads what the entries say, and does not go back.
    let time = Arc::new(AtomicU64::new(
        entries.first().map_or(START, |entry| entry.time.seconds()),
    ));
    let read = Arc::clone(&time);
    let clock: audit_log::Clock =
        Arc::new(move || Timestamp::from_seconds(read.load(Ordering::Relaxed)));
    let options = Options {
        shard_bytes,
        shard_entries: Some(Arc::new(Shards {
            clock: Arc::clone(&clock),
        })),
        clock,
        publish_every: None,
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (log, torn) = AuditLog::open(dir, secret, &options).unwrap();
        assert!(torn.is_none());
        for entry in entries {
            time.fetch_max(entry.time.seconds(), Ordering::Relaxed);
            log.append(entry.to_cbor()).await.unwrap();
        }
        log.close().await;
    });
}

/// What a web server would serve of a log: no journals.
pub(crate) fn published(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let (path, to) = (item.path(), to.join(item.file_name()));
        if item.file_type().unwrap().is_dir() {
            published(&path, &to);
        } else if item.file_name() != "journal" {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// Entries of a bundle file.
pub(crate) fn bundle(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let (mut rest, mut entries) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (entry, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        entries.push(entry.to_vec());
        rest = after;
    }
    entries
}

pub(crate) fn put_bundle(path: &Path, entries: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&u16::try_from(entry.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    fs::write(path, bytes).unwrap();
}

/// The only file below a directory whose path contains a text.
pub(crate) fn file(dir: &Path, part: &str) -> PathBuf {
    fn all(dir: &Path, found: &mut Vec<PathBuf>) {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                all(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    all(dir, &mut found);
    found.retain(|path| path.to_str().unwrap().contains(part));
    assert_eq!(found.len(), 1, "{part}: {found:?}");
    found.remove(0)
}
