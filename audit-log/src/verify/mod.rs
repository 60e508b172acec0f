//! Verifying a whole log by its public keys alone, wherever its files are.
//!
//! Every entry is hashed and compared with its tile, every tile with the one above it, the tree with the
//! signed checkpoint, each shard with the one before it, and, where the journals are, these with the
//! tiles. (TLOG-1, TLOG-2, TLOG-4)
//!
//! What no copy can show by itself: that the newest entries were cut off together with their checkpoints.
//! Witnesses, and everybody who remembers a checkpoint, show that.

mod compare;
mod shard;
mod source;

use std::fmt;
use std::io;

use ticket_format::tlog::{Checkpoint, Hash, LogKey, ShardName, SignedCheckpoint};

pub use source::{Folder, Source};

/// Findings after which nothing more is looked for.
const MOST_FINDINGS: usize = 256;
/// Numbers that are tried behind the last shard, where they cannot be listed: a recovery may leave some
/// out.
const GAP: u64 = 16;

/// What is to be known of entries, which are opaque here.
pub trait Entries {
    /// What an entry of kind 15 says; `None` of another.
    fn opened(&mut self, entry: &[u8]) -> Option<Opened>;

    /// Whether it is an entry of kind 16.
    fn is_closed(&mut self, entry: &[u8]) -> bool;

    /// Is shown every entry, in order, with its index in the log. Those of removed shards are not there.
    fn entry(&mut self, _index: u64, _entry: &[u8]) {}
}

/// What the first entry of a shard says of the shard before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The shard before.
    pub previous: ShardName,
    /// Its final size.
    pub size: u64,
    /// Its final root.
    pub root: Hash,
    /// Entries of the log before this shard.
    pub before: u64,
    /// Whether it was begun by a recovery: then the shard before has no closing entry, and numbers may be
    /// left out.
    pub recovery: bool,
}

/// What was found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The entry is another one than was appended.
    Edited,
    /// The entry was taken out.
    Deleted,
    /// An entry was put in.
    Inserted,
    /// Entries from here on stand in another order.
    Reordered,
    /// The entries from here on are gone.
    Truncated,
    /// The hashes do not lead to the signed checkpoint.
    Rewritten,
    /// The checkpoint is not signed by this log's keys.
    KeySwapped,
    /// The shard does not go on where the one before it ended.
    Unlinked,
    /// A file is gone, or is not what it should be.
    Missing,
}

impl What {
    fn words(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Deleted => "deleted",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::Truncated => "truncated",
            Self::Rewritten => "rewritten",
            Self::KeySwapped => "key swapped",
            Self::Unlinked => "unlinked",
            Self::Missing => "missing",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The shard's number.
    pub shard: u64,
    /// The first entry that it concerns, by its index in the log, where that is known.
    pub index: Option<u64>,
    /// What happened.
    pub what: What,
    /// By what it shows.
    pub detail: String,
}

/// One line: `shard 2, entry 1034: edited: the entry bundle differs from its tile`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.shard)?;
        if let Some(index) = self.index {
            write!(f, ", entry {index}")?;
        }
        write!(f, ": {}: {}", self.what.words(), self.detail)
    }
}

/// One shard as verified.
#[derive(Clone, Debug)]
pub struct ShardSummary {
    /// Its number.
    pub number: u64,
    /// Entries of the log before it.
    pub before: u64,
    /// The published checkpoint, if its signatures verify.
    pub checkpoint: Option<SignedCheckpoint>,
    /// Entries verified. All of the checkpoint's, but none of a removed shard.
    pub entries: u64,
    /// Entries of the journal that are not published yet.
    pub unpublished: u64,
    /// Its tiles were removed, as the retention says: only the checkpoint is there.
    pub pruned: bool,
}

/// What [`verify`] found.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// By number.
    pub shards: Vec<ShardSummary>,
    /// What is wrong; nothing in a log that is whole.
    pub findings: Vec<Finding>,
}

impl Summary {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// Entries verified.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.entries + shard.unpublished)
            .sum()
    }

    /// The newest published checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&SignedCheckpoint> {
        self.shards.last()?.checkpoint.as_ref()
    }
}

/// Verifies every shard of the log of `key` that `source` has. Bounded memory: 32 bytes per entry of one
/// shard, and a bundle. Time in proportion to the log.
///
/// # Errors
/// The source could not be read. What is wrong with the log is no error but a finding.
pub fn verify(source: &dyn Source, key: &LogKey, entries: &mut dyn Entries) -> io::Result<Summary> {
    let mut summary = Summary::default();
    // The shard before: its number, and its final checkpoint if known.
    let mut previous: Option<(u64, Option<Checkpoint>)> = None;
    let mut before = 0;
    let mut ended = None;
    for number in numbers(source)? {
        if summary.findings.len() >= MOST_FINDINGS {
            break;
        }
        let shard = shard::verify(source, key, number, before, entries, &mut summary.findings)?;
        if let (Some((earlier, last)), false) = (&previous, shard.pruned) {
            let link = Link {
                earlier: *earlier,
                last: last.as_ref(),
                // Of a removed shard nobody knows.
                earlier_closed: ended != Some(false),
                number,
                before,
                first: shard.first.as_ref(),
            };
            link.check(&mut summary.findings);
        } else if previous.is_none() && number != 1 {
            summary.findings.push(Finding {
                shard: 1,
                index: Some(0),
                what: What::Missing,
                detail: format!("the first shard that is there is {number}"),
            });
        }
        before += shard.last.as_ref().map_or(0, |last| last.size);
        previous = Some((number, shard.last.clone()));
        // Of a removed shard nobody knows how it ended.
        ended = (!shard.pruned).then_some(shard.ends_closed);
        summary.shards.push(shard.summary());
    }
    match previous {
        None => summary.findings.push(Finding {
            shard: 1,
            index: None,
            what: What::Missing,
            detail: "there is no shard of a log here".to_owned(),
        }),
        Some((number, _)) if ended == Some(true) => summary.findings.push(Finding {
            shard: number + 1,
            index: Some(before),
            what: What::Truncated,
            detail: "the last shard is closed and the one after it is missing; a server that was stopped at that instant begins it when it starts".to_owned(),
        }),
        Some(_) => {}
    }
    summary.findings.truncate(MOST_FINDINGS);
    Ok(summary)
}

/// The numbers of the shards, rising.
fn numbers(source: &dyn Source) -> io::Result<Vec<u64>> {
    if let Some(mut numbers) = source.shards()? {
        numbers.sort_unstable();
        numbers.dedup();
        return Ok(numbers);
    }
    let mut numbers = Vec::new();
    let mut number = 1;
    while number <= numbers.last().copied().unwrap_or(0) + GAP {
        if source
            .get(&crate::shard::path(number, "checkpoint"))?
            .is_some()
        {
            numbers.push(number);
        }
        number += 1;
    }
    Ok(numbers)
}

/// Between two shards.
struct Link<'a> {
    earlier: u64,
    last: Option<&'a Checkpoint>,
    earlier_closed: bool,
    number: u64,
    before: u64,
    first: Option<&'a Opened>,
}

impl Link<'_> {
    // rule: TLOG-4
    fn check(&self, findings: &mut Vec<Finding>) {
        let mut say = |detail: String| {
            findings.push(Finding {
                shard: self.number,
                index: Some(self.before),
                what: What::Unlinked,
                detail,
            });
        };
        let Some(opened) = self.first else {
            return say("its first entry does not name the shard before".to_owned());
        };
        if opened.previous.number != self.earlier {
            return say(format!(
                "its first entry names shard {} as the one before, which is not there",
                opened.previous.number
            ));
        }
        if let Some(last) = self.last
            && (&opened.previous, opened.size, opened.root) != (&last.shard, last.size, last.root)
        {
            return say(format!(
                "its first entry says that shard {} ended at {} entries with another tree than the last checkpoint there, of {}",
                self.earlier, opened.size, last.size
            ));
        }
        if opened.before != self.before {
            return say(format!(
                "its first entry counts {} entries before it, there are {}",
                opened.before, self.before
            ));
        }
        if !opened.recovery && self.number != self.earlier + 1 {
            return say(format!("no shard stands between {} and it", self.earlier));
        }
        if !opened.recovery && self.last.is_some() && !self.earlier_closed {
            say(format!(
                "the last entry of shard {} does not close it",
                self.earlier
            ));
        }
    }
}
