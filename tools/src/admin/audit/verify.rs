//! A log, verified as a whole (TLOG-1 to TLOG-4). `audit_log::verify` makes the tree anew from its entry
//! bundles and holds it against tiles, signatures and links; here the entries' shapes and times, the
//! witnesses, and what was seen of the log before come to it. Needs public keys and nothing else, and
//! remembers nothing.

use std::io;

use audit_log::{Entries, Folder, Opened, ShardSummary};
use ticket_format::entry::Kind;
use ticket_format::limits;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, SignedCheckpoint, WitnessPolicy, note};

use super::published::{Fault, Finding, Published, What};
use super::source::{self, Source, SourceError};
use super::tree::Tree;

/// Most findings that are kept of one log.
const FINDINGS: usize = 256;

/// One thing that is wrong, with its entry's index in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What kind of thing.
    pub finding: String,
    /// In which shard.
    pub shard: u64,
    /// At which entry of the log; none where it is not about one.
    pub index: Option<u64>,
    /// In words.
    pub why: String,
}

/// What was verified of a shard.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Number, checkpoint, how many entries.
    pub summary: ShardSummary,
    /// Times of the first and last entry.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Witnesses of the policy whose cosignatures verify.
    pub witnesses: Vec<String>,
}

/// What was verified of a log.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Shard by shard.
    pub shards: Vec<Shard>,
    /// What is wrong.
    pub wrong: Vec<Wrong>,
}

impl Verified {
    /// Entries that were verified.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.shards.iter().map(|shard| shard.summary.entries).sum()
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn newest(&self) -> Option<&SignedCheckpoint> {
        self.shards.last()?.summary.checkpoint.as_ref()
    }
}

/// What a log is held against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demands<'a> {
    /// Witnesses.
    pub policy: Option<&'a WitnessPolicy>,
    /// A checkpoint that was seen before.
    pub seen: Option<&'a Checkpoint>,
    /// Whether every shard must still have its entries.
    pub whole: bool,
}

/// What the whole-log verifier reads: bounded by what each file may be.
struct Files<'a>(&'a Source);

impl audit_log::Source for Files<'_> {
    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let most = if path.contains("/tile/entries/") {
            source::BUNDLE
        } else if path.contains("/tile/") {
            source::TILE
        } else {
            source::CHECKPOINT
        };
        self.0.get(path, most).map_err(io::Error::other)
    }

    fn shards(&self) -> io::Result<Option<Vec<u64>>> {
        match self.0 {
            Source::Directory(path) => Folder::new(path).shards(),
            Source::Http(_) => Ok(None),
        }
    }

    fn journal(&self, shard: u64) -> io::Result<Option<(std::path::PathBuf, std::fs::File)>> {
        match self.0 {
            Source::Directory(path) => Folder::new(path).journal(shard),
            Source::Http(_) => Ok(None),
        }
    }
}

/// What the entries say, as they are shown.
struct Told {
    /// Ahead of this no entry's time may be.
    newest: Option<Timestamp>,
    latest: Timestamp,
    /// Index of each shard's first entry with its time, and the time of its last.
    times: Vec<(u64, Timestamp, Timestamp)>,
    begins: bool,
    wrong: Vec<(u64, What, String)>,
}

impl Told {
    fn found(&mut self, index: u64, what: What, why: String) {
        if self.wrong.len() < FINDINGS {
            self.wrong.push((index, what, why));
        }
    }
}

impl Entries for Told {
    fn opened(&mut self, bytes: &[u8]) -> Option<Opened> {
        let entry = super::read_entry(bytes).filter(|entry| entry.kind == Kind::ShardOpened)?;
        let log = entry.log?;
        Some(Opened {
            previous: log.shard,
            size: log.size,
            root: log.root,
            before: entry.count?,
            // A recovery names the statement that ordered it (TLOG-10).
            recovery: entry.proof.is_some(),
        })
    }

    fn is_closed(&mut self, bytes: &[u8]) -> bool {
        super::read_entry(bytes).is_some_and(|entry| entry.kind == Kind::ShardClosed)
    }

    fn entry(&mut self, index: u64, bytes: &[u8]) {
        // rule: AUD-3
        let Some(entry) = super::read_entry(bytes) else {
            return self.found(index, What::Malformed, "it is no audit entry".to_owned());
        };
        // rule: TIM-1
        if entry.time.plus(limits::SKEW) < self.latest {
            let why = format!(
                "its time is {}, and an entry before it says {}: it was back-dated, or recorded late",
                entry.time, self.latest
            );
            self.found(index, What::BackDated, why);
        }
        if self
            .newest
            .is_some_and(|newest| entry.time > newest.plus(limits::SKEW))
        {
            let why = format!(
                "its time is {}, ahead of the newest checkpoint's signature: one of them is wrong",
                entry.time
            );
            self.found(index, What::BackDated, why);
        }
        self.latest = self.latest.max(entry.time);
        let opens = entry.kind == Kind::ShardOpened;
        match self.times.last_mut() {
            Some((.., last)) if !opens && !self.begins => *last = entry.time,
            _ => self.times.push((index, entry.time, entry.time)),
        }
        self.begins = entry.kind == Kind::ShardClosed;
    }
}

/// Verifies all of it.
///
/// # Errors
/// It cannot be read. What is wrong with it is no error: see [`Verified::wrong`].
pub fn verify(log: &Published, demands: Demands<'_>) -> Result<Verified, Fault> {
    let newest = match log.shards_after(0)?.last() {
        Some(number) => log.checkpoint(*number).ok(),
        None => None,
    };
    let mut told = Told {
        newest: newest.as_ref().map(SignedCheckpoint::time),
        latest: Timestamp::default(),
        times: Vec::new(),
        begins: false,
        wrong: Vec::new(),
    };
    let summary = audit_log::verify(&Files(log.source()), log.key(), &mut told)
        .map_err(|error| Fault::Source(unread(error, log)))?;
    let mut all = Verified::default();
    let findings = summary.findings.into_iter().map(|finding| Wrong {
        finding: name(finding.what).to_owned(),
        shard: finding.shard,
        index: finding.index,
        why: finding.detail,
    });
    all.wrong.extend(findings);
    let shard_of = |index: u64| {
        let mut shards = summary.shards.iter().rev();
        let found = shards.find(|shard| shard.before <= index);
        found.map_or(1, |shard| shard.number)
    };
    for (index, what, why) in told.wrong {
        all.wrong.push(Wrong {
            finding: what.name().to_owned(),
            shard: shard_of(index),
            index: Some(index),
            why,
        });
    }
    for summary in &summary.shards {
        let of = |time: &&(u64, Timestamp, Timestamp)| time.0 == summary.before;
        let times = told.times.iter().rev().find(of);
        let mut shard = Shard {
            summary: summary.clone(),
            times: times.map(|(_, first, last)| (*first, *last)),
            witnesses: Vec::new(),
        };
        if demands.whole && summary.pruned {
            all.found(What::Deleted, summary, "all its entries are gone");
        }
        witnesses(&mut all, &mut shard, demands.policy);
        all.shards.push(shard);
    }
    if let Some(seen) = demands.seen {
        continues(&mut all, log, seen)?;
    }
    all.wrong.truncate(FINDINGS);
    Ok(all)
}

/// A finding of the whole-log verifier, by the name that output has.
fn name(what: audit_log::What) -> &'static str {
    use audit_log::What as Of;
    match what {
        Of::Edited => "edited",
        Of::Deleted => "deleted",
        Of::Inserted => "inserted",
        Of::Reordered => "reordered",
        Of::Truncated => "truncated",
        Of::Rewritten => "rewritten",
        Of::KeySwapped => "key-swapped",
        Of::Unlinked => "unlinked",
        Of::Missing => "missing",
    }
}

/// What a source said, from where it went through the verifier.
fn unread(error: io::Error, log: &Published) -> SourceError {
    let kind = error.kind();
    match error.downcast::<SourceError>() {
        Ok(error) => error,
        Err(source) => SourceError::Io {
            path: log.place(),
            source: io::Error::new(kind, source),
        },
    }
}

impl Verified {
    fn found(&mut self, what: What, shard: &ShardSummary, why: impl Into<String>) {
        self.wrong.push(Wrong {
            finding: what.name().to_owned(),
            shard: shard.number,
            index: None,
            why: why.into(),
        });
    }
}

fn witnesses(all: &mut Verified, shard: &mut Shard, policy: Option<&WitnessPolicy>) {
    let (Some(policy), Some(signed)) = (policy, &shard.summary.checkpoint) else {
        return;
    };
    // rule: TLOG-8
    if let Err(error) = policy.check(signed) {
        all.found(What::Unwitnessed, &shard.summary, error.to_string());
    }
    let Ok((_, lines)) = note::split(signed.note()) else {
        return;
    };
    for witness in policy.witnesses() {
        let mut lines = lines.iter().filter(|line| line.is_of(witness));
        let holds = lines.any(|line| {
            let verified = witness.verify(signed.checkpoint(), &line.signature);
            verified.is_ok()
        });
        let name = witness.name().to_owned();
        if holds && !shard.witnesses.contains(&name) {
            shard.witnesses.push(name);
        }
    }
}

/// Holds the log against a checkpoint that was seen of it.
fn continues(all: &mut Verified, log: &Published, seen: &Checkpoint) -> Result<(), Fault> {
    // rule: TLOG-6
    let number = seen.shard.number;
    let shard = all
        .shards
        .iter()
        .find(|shard| shard.summary.number == number)
        .map(|shard| shard.summary.clone());
    let mut found = |what: What, why: String| {
        all.wrong.push(Wrong {
            finding: what.name().to_owned(),
            shard: number,
            index: None,
            why,
        });
    };
    let Some(shard) = shard else {
        let why = format!(
            "{} entries of it were seen before, and it is not there",
            seen.size
        );
        found(What::RolledBack, why);
        return Ok(());
    };
    let Some(signed) = shard.checkpoint else {
        // That is a finding already.
        return Ok(());
    };
    let now = signed.checkpoint();
    if now.size < seen.size {
        let why = format!(
            "{} entries were seen before, and there are {}",
            seen.size, now.size
        );
        found(What::RolledBack, why);
        return Ok(());
    }
    let root = if now.size == seen.size {
        Ok(now.root)
    } else if shard.pruned {
        // Nothing is left to make the older root of.
        return Ok(());
    } else {
        Tree::open(log, now).and_then(|tree| tree.root_at(seen.size))
    };
    match root {
        Ok(root) if root == seen.root => {}
        Ok(_) => {
            let why = format!(
                "its first {} entries are others than were signed and seen before",
                seen.size
            );
            found(What::Forked, why);
        }
        Err(Fault::Found(Finding { what, why, .. })) => found(what, why),
        Err(fault) => return Err(fault),
    }
    Ok(())
}
