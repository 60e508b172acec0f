//! The log on a disk that fails.

mod crash;
mod faults;
mod journal;
mod model;
mod model_disk;

use std::sync::Arc;

use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, LogSecret};

use crate::disk::Disk;
use crate::{AuditLog, Entries, OpenError, Opened, Options, ShardEntries, Source, TornTail};
use model::Model;

fn secret() -> LogSecret {
    let origin = "example/broker/0123456789abcdef"
        .parse()
        .expect("an origin");
    LogSecret::from_seeds(origin, &[1; 32], &[2; 32]).expect("a secret")
}

struct Between;

fn opened(word: &str, previous: &Checkpoint, before: u64) -> Vec<u8> {
    let Checkpoint { shard, size, root } = previous;
    let mut entry = format!("{word} {shard} {size} {before} ").into_bytes();
    entry.extend_from_slice(root);
    entry
}

impl ShardEntries for Between {
    fn closed(&self, last: &Checkpoint) -> Vec<u8> {
        format!("closed {}", last.size).into_bytes()
    }

    fn opened(&self, previous: &Checkpoint, before: u64) -> Vec<u8> {
        opened("opened", previous, before)
    }
}

/// Reads what [`Between`] wrote.
struct Texts;

impl Entries for Texts {
    fn opened(&mut self, entry: &[u8]) -> Option<Opened> {
        let (text, root) = entry.split_last_chunk::<32>()?;
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let recovery = match words.next()? {
            "opened" => false,
            "recovered" => true,
            _ => return None,
        };
        Some(Opened {
            previous: words.next()?.parse().ok()?,
            size: words.next()?.parse().ok()?,
            before: words.next()?.parse().ok()?,
            root: *root,
            recovery,
        })
    }

    fn is_closed(&mut self, entry: &[u8]) -> bool {
        entry.starts_with(b"closed ")
    }
}

/// Publishes only when told; shards of a few batches.
fn options() -> Options {
    Options {
        publish_every: None,
        clock: Arc::new(|| Timestamp::from_seconds(1_800_000_000)),
        shard_bytes: 30_000,
        shard_entries: Some(Arc::new(Between)),
        keep_shards: Some(4),
        ..Options::default()
    }
}

fn open(disk: &Arc<Model>) -> Result<(AuditLog, Option<TornTail>), OpenError> {
    crate::open::start(Arc::new(Arc::clone(disk)), secret(), &options())
}

/// The disk as whoever copies the files sees it.
struct Copy<'a>(&'a Arc<Model>);

impl Source for Copy<'_> {
    fn get(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.0.read(path)
    }

    fn shards(&self) -> std::io::Result<Option<Vec<u64>>> {
        let mut numbers = Vec::new();
        for name in self.0.list("")? {
            let names = self.0.list(&name)?;
            let has = |wanted: &&str| names.iter().any(|name| name == wanted);
            if ["journal", "checkpoint"].iter().any(has) {
                numbers.extend(name.parse::<u64>());
            }
        }
        Ok(Some(numbers))
    }
}
