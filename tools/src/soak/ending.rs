//! What is looked at when the load is over: the servers' logs, of both kinds.

use std::path::Path;

use audit_log::{Entries, Folder, Opened};
use ticket_format::cbor::Decode as _;
use ticket_format::entry::{Entry, Kind};
use ticket_format::limits;
use ticket_format::tlog::LogKey;

use crate::realm::Realm;
use crate::tally::Tallies;

/// Verifies both audit logs and reads both operators' logs.
pub(crate) fn look(realm: &Realm, keys: &[LogKey; 2], tallies: &Tallies) {
    for (name, key) in ["broker", "key-server"].into_iter().zip(keys) {
        let dir = realm.servers.dir().join(name);
        verify(&dir, name, key, tallies);
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        let wrong = |line: &&str| line.contains("ERROR") || line.contains("panicked");
        for line in log.lines().filter(wrong) {
            tallies.breaks("log-errors", format!("{name}: {line}"));
        }
    }
}

fn verify(dir: &Path, name: &str, key: &LogKey, tallies: &Tallies) {
    let mut read = Read::default();
    let log = dir.join("data/audit");
    match audit_log::verify(&Folder::new(&log), key, &mut read) {
        Ok(summary) if summary.is_whole() && summary.entries() > 0 && !read.malformed => {}
        Ok(summary) => {
            let what = format!(
                "{name}: {} entries, {:?}",
                summary.entries(),
                summary.findings
            );
            tallies.breaks("log-broken", what);
        }
        Err(error) => tallies.breaks("log-broken", format!("{}: {error}", log.display())),
    }
}

/// Reads entries as an auditor does.
#[derive(Default)]
struct Read {
    malformed: bool,
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    Entry::from_cbor(bytes, limits::ENTRY).ok()
}

impl Entries for Read {
    fn opened(&mut self, bytes: &[u8]) -> Option<Opened> {
        let entry = entry(bytes).filter(|entry| entry.kind == Kind::ShardOpened)?;
        let log = entry.log?;
        Some(Opened {
            previous: log.shard,
            size: log.size,
            root: log.root,
            before: entry.count?,
            recovery: entry.proof.is_some(),
        })
    }

    fn is_closed(&mut self, bytes: &[u8]) -> bool {
        entry(bytes).is_some_and(|entry| entry.kind == Kind::ShardClosed)
    }

    fn entry(&mut self, _index: u64, bytes: &[u8]) {
        self.malformed |= entry(bytes).is_none();
    }
}
