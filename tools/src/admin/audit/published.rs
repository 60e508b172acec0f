//! A log as it is published: signed checkpoints, tiles and entry bundles (TLOG-1, TLOG-11). Nothing of it
//! is believed before it was held against a checkpoint that both of the log's keys signed.

use std::fmt;

use ticket_format::limits;
use ticket_format::report::Report;
use ticket_format::tlog::{CheckpointError, Hash, LogKey, SignedCheckpoint};

use super::source::{self, Source, SourceError};

/// Hashes of a tile, entries of a bundle.
pub const WIDTH: u64 = 256;
/// Most shards of one log that are looked at.
pub const SHARDS: u64 = 4_096;
/// How far the next shard's number may be away where shards cannot be listed (a recovery skips numbers
/// that witnesses know already).
const GAP: u64 = 8;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A checkpoint that is not there, or does not read.
    Checkpoint,
    /// A checkpoint that the log's keys did not sign.
    KeySwapped,
    /// An entry that is another than the tree has.
    Edited,
    /// An entry that is gone.
    Deleted,
    /// Entries that are gone at a shard's end.
    Truncated,
    /// A tile that is gone, or is not what its entries make.
    Tile,
    /// Another root than was signed.
    Root,
    /// A shard that does not continue the one before.
    Link,
    /// A shard that is gone.
    MissingShard,
    /// An entry that is none.
    Malformed,
    /// A time that goes back, or lies ahead of the checkpoint.
    BackDated,
    /// Too few witnesses.
    Unwitnessed,
    /// Another history than was seen before.
    Forked,
    /// Less than was seen before.
    RolledBack,
}

impl What {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::KeySwapped => "key-swapped",
            Self::Edited => "edited",
            Self::Deleted => "deleted",
            Self::Truncated => "truncated",
            Self::Tile => "tile",
            Self::Root => "root",
            Self::Link => "link",
            Self::MissingShard => "missing-shard",
            Self::Malformed => "malformed",
            Self::BackDated => "back-dated",
            Self::Unwitnessed => "unwitnessed",
            Self::Forked => "forked",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub what: What,
    /// In which shard.
    pub shard: u64,
    /// At which entry of the shard; none where it is not about one.
    pub entry: Option<u64>,
    /// In words.
    pub why: String,
}

impl Finding {
    /// Something wrong with a shard.
    pub fn new(what: What, shard: u64, why: impl Into<String>) -> Self {
        Self {
            what,
            shard,
            entry: None,
            why: why.into(),
        }
    }

    /// At an entry, by its index in the shard.
    #[must_use]
    pub fn at(mut self, entry: u64) -> Self {
        self.entry = Some(entry);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: shard {}", self.what.name(), self.shard)?;
        if let Some(entry) = self.entry {
            write!(f, ", entry {entry}")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// Why something of a log could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It could not be read, which says nothing about the log.
    #[error(transparent)]
    Source(SourceError),
    /// It is not what was signed.
    #[error("{0}")]
    Found(Finding),
}

impl From<Finding> for Fault {
    fn from(finding: Finding) -> Self {
        Self::Found(finding)
    }
}

impl Fault {
    /// As an error in three parts.
    #[must_use]
    pub fn report(self, place: &str) -> Report {
        match self {
            Self::Source(error) => error.report(),
            Self::Found(finding) => broken(place, finding, 1),
        }
    }
}

/// A log that does not verify.
#[must_use]
pub fn broken(place: &str, first: impl fmt::Display, findings: usize) -> Report {
    let more = match findings {
        0 | 1 => String::new(),
        many => format!(" (and {} more)", many - 1),
    };
    Report::new(
        ticket_format::report::exit::INTEGRITY,
        format!("the log {place} does not verify"),
    )
    .why(format!("{first}{more}"))
    .next("keep what is there for the inquiry, and compare with a copy, a witness and what others remember")
}

/// A published log and the keys that its checkpoints are believed by.
#[derive(Debug)]
pub struct Published {
    source: Source,
    key: LogKey,
}

/// A file that is longer or shorter than it may be belongs to the log's findings, not to the reader's.
fn of_the_log(error: SourceError, what: What, shard: u64) -> Fault {
    match error {
        SourceError::TooLong { .. } | SourceError::NotAFile { .. } => {
            Finding::new(what, shard, error.to_string()).into()
        }
        error => Fault::Source(error),
    }
}

impl Published {
    /// The log at this place, of these keys.
    #[must_use]
    pub fn new(source: Source, key: LogKey) -> Self {
        Self { source, key }
    }

    /// The log's keys.
    #[must_use]
    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// Its files.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> String {
        self.source.place()
    }

    /// The numbers of the shards after this one that have a checkpoint, ascending.
    ///
    /// # Errors
    /// [`Fault`]: it cannot be read.
    pub fn shards_after(&self, after: u64) -> Result<Vec<u64>, Fault> {
        let mut numbers = Vec::new();
        if let Some(listed) = self.source.listed() {
            for number in listed.into_iter().filter(|number| *number > after) {
                // A shard's directory is there a moment before its first checkpoint.
                if self.note(number)?.is_some() {
                    numbers.push(number);
                }
                if numbers.len() as u64 == SHARDS {
                    break;
                }
            }
            return Ok(numbers);
        }
        let (mut missing, mut number) = (0, after);
        while missing < GAP && number < after.saturating_add(SHARDS) {
            number += 1;
            if self.note(number)?.is_some() {
                numbers.push(number);
                missing = 0;
            } else {
                missing += 1;
            }
        }
        Ok(numbers)
    }

    fn note(&self, shard: u64) -> Result<Option<Vec<u8>>, Fault> {
        let path = format!("{shard}/checkpoint");
        self.source
            .get(&path, source::CHECKPOINT)
            .map_err(|error| of_the_log(error, What::Checkpoint, shard))
    }

    /// The origin that the log's first checkpoint claims, whoever signed it.
    #[must_use]
    pub fn claimed(source: &Source) -> Option<String> {
        let first = source.listed().and_then(|all| all.first().copied());
        let path = format!("{}/checkpoint", first.unwrap_or(1));
        let note = source.get(&path, source::CHECKPOINT).ok()??;
        let note = String::from_utf8(note).ok()?;
        let checkpoint = ticket_format::tlog::Checkpoint::of_note_unverified(&note).ok()?;
        Some(checkpoint.shard.origin.to_string())
    }

    /// A shard's published checkpoint, verified by both of the log's keys.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn checkpoint(&self, shard: u64) -> Result<SignedCheckpoint, Fault> {
        // rule: TLOG-2
        let bytes = self.note(shard)?;
        let bytes =
            bytes.ok_or_else(|| Finding::new(What::Checkpoint, shard, "it has no checkpoint"))?;
        let note = String::from_utf8(bytes)
            .map_err(|_| Finding::new(What::Checkpoint, shard, "its checkpoint is not text"))?;
        let signed = self.key.verify(&note).map_err(|error| match error {
            CheckpointError::Note(_) => Finding::new(What::Checkpoint, shard, error.to_string()),
            CheckpointError::OtherLog => Finding::new(
                What::KeySwapped,
                shard,
                "the checkpoint is of another log than the keys that were given",
            ),
            CheckpointError::Missing(_) | CheckpointError::Bad(_) => Finding::new(
                What::KeySwapped,
                shard,
                format!("{error}: the log's keys did not sign it"),
            ),
        })?;
        if signed.checkpoint().shard.number != shard {
            return Err(Finding::new(
                What::Checkpoint,
                shard,
                format!("its checkpoint is that of {}", signed.checkpoint().shard),
            )
            .into());
        }
        Ok(signed)
    }

    /// The first `width` hashes of a tile, as they are stored: not verified.
    ///
    /// # Errors
    /// [`Fault`]; [`What::Tile`] where it is not there or has another length.
    pub fn stored_tile(
        &self,
        shard: u64,
        level: u8,
        index: u64,
        width: usize,
    ) -> Result<Vec<Hash>, Fault> {
        let path = format!("{shard}/tile/{level}/{}", number(index));
        let name = format!("tile {level}/{index}");
        let (bytes, whole) = self.piece(&path, width, source::TILE, What::Tile, shard)?;
        let Some(bytes) = bytes else {
            return Err(Finding::new(What::Tile, shard, format!("{name} is not there")).into());
        };
        let wanted = 32 * if whole { 256 } else { width };
        if bytes.len() != wanted {
            let why = format!("{name} has {} bytes instead of {wanted}", bytes.len());
            return Err(Finding::new(What::Tile, shard, why).into());
        }
        let (hashes, _) = bytes.as_chunks::<32>();
        Ok(hashes.iter().take(width).copied().collect())
    }

    /// The first `width` entries of a bundle, as they are stored: not verified. Fewer where the bundle has
    /// fewer; none where it is not there.
    ///
    /// # Errors
    /// [`Fault`]; [`What::Malformed`] where it is no bundle.
    pub fn stored_bundle(
        &self,
        shard: u64,
        index: u64,
        width: usize,
    ) -> Result<Option<Vec<Vec<u8>>>, Fault> {
        let path = format!("{shard}/tile/entries/{}", number(index));
        let (bytes, _) = self.piece(&path, width, source::BUNDLE, What::Malformed, shard)?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let (mut entries, mut rest) = (Vec::new(), bytes.as_slice());
        while entries.len() < width && !rest.is_empty() {
            let cut = rest.split_first_chunk::<2>().and_then(|(length, rest)| {
                let length = usize::from(u16::from_be_bytes(*length));
                let fits = (1..=limits::ENTRY).contains(&length);
                rest.split_at_checked(length).filter(|_| fits)
            });
            let Some((entry, after)) = cut else {
                let why = format!("the bundle {index} ends or breaks in the midst of an entry");
                let at = index * WIDTH + entries.len() as u64;
                return Err(Finding::new(What::Malformed, shard, why).at(at).into());
            };
            entries.push(entry.to_vec());
            rest = after;
        }
        Ok(Some(entries))
    }

    /// A tile or bundle: the partial one of this width or, where that has grown full meanwhile, the whole.
    fn piece(
        &self,
        path: &str,
        width: usize,
        most: u64,
        what: What,
        shard: u64,
    ) -> Result<(Option<Vec<u8>>, bool), Fault> {
        let get = |path: &str| {
            self.source
                .get(path, most)
                .map_err(|error| of_the_log(error, what, shard))
        };
        if (width as u64) < WIDTH
            && let Some(bytes) = get(&format!("{path}.p/{width}"))?
        {
            return Ok((Some(bytes), false));
        }
        Ok((get(path)?, true))
    }
}

/// A tile's number in a path (c2sp.org/tlog-tiles): three digits each, all but the last after an `x`.
fn number(index: u64) -> String {
    let mut text = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1_000);
        rest /= 1_000;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_numbered_as_the_specification_says() {
        // rule: TLOG-1
        for (index, path) in [
            (0, "000"),
            (67, "067"),
            (1_000, "x001/000"),
            (1_234_067, "x001/x234/067"),
        ] {
            assert_eq!(number(index), path);
        }
    }
}
