//! Where checkpoints are remembered: a private directory with one file for each log, shared by all
//! processes that use the same node's state.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use store::files::{self, FileError};
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::limits;
use ticket_format::tlog::Origin;

use super::failure::LogFailure;
use super::tips::{Known, MOST, Tips};
use crate::error::Error;
use crate::lock::Lock;

const FORMAT: u64 = 1;
/// Most logs that one machine remembers. They come from bootstraps and dataset records alone, which
/// admins signed.
pub(super) const LOGS: usize = 1_024;
/// Largest file, in bytes: the most checkpoints, each with a note that has the log's two signatures.
const LIMIT: u64 = 2 * 1024 * 1024;
/// Longest reason that is kept, in bytes.
const WHY: usize = 1_024;
/// How long another process may take for its write.
const LOCKED: Duration = Duration::from_secs(10);

/// What a file holds.
///
/// `[1, origin: tstr, rounds: uint, [*256 note: tstr], [why: tstr, note / null] / null]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Which log.
    pub(super) origin: Origin,
    /// How often it was asked in vain whether all of them are of one log.
    pub(super) rounds: u64,
    /// The checkpoints.
    pub(super) tips: Tips,
    /// Why the log's server is used no more, and what was shown.
    pub(super) failed: Option<Failed>,
}

/// Why a log is not to be used, and the note that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) why: String,
    pub(super) shown: Option<String>,
}

impl Failed {
    pub(super) fn of(failure: &LogFailure) -> Self {
        let mut why = failure.why.clone();
        let mut end = why.len().min(WHY);
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        why.truncate(end);
        Self {
            why,
            shown: failure
                .note
                .clone()
                .filter(|note| note.len() <= limits::NOTE),
        }
    }
}

impl Kept {
    pub(super) fn nothing(origin: Origin) -> Self {
        Self {
            origin,
            rounds: 0,
            tips: Tips::default(),
            failed: None,
        }
    }
}

impl Encode for Kept {
    fn encode(&self, writer: &mut Writer) {
        writer.array(5).uint(FORMAT).text(self.origin.as_str());
        writer.uint(self.rounds).array(self.tips.len());
        for known in self.tips.iter() {
            writer.text(&known.note);
        }
        let Some(failed) = &self.failed else {
            writer.null();
            return;
        };
        writer.array(2).text(&failed.why);
        match &failed.shown {
            Some(note) => writer.text(note),
            None => writer.null(),
        };
    }
}

impl Decode for Kept {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(5..=5)?;
        if reader.uint()? != FORMAT {
            return Err(DecodeError::OutOfRange("format"));
        }
        let origin = reader.text(1..=200)?;
        let origin: Origin = origin
            .parse()
            .map_err(|_| DecodeError::OutOfRange("origin"))?;
        let rounds = reader.uint()?;
        let notes = reader.list(0..=MOST, |reader| {
            let note = reader.text(1..=limits::NOTE)?;
            Known::of_file(note).map_err(|_| DecodeError::OutOfRange("checkpoint"))
        })?;
        let mut tips = Tips::default();
        for known in notes {
            let ours = known.checkpoint.shard.origin == origin;
            if !ours || tips.add(known) != Ok(true) {
                return Err(DecodeError::OutOfRange("checkpoint"));
            }
        }
        let failed = reader.optional(|reader| {
            reader.array(2..=2)?;
            Ok(Failed {
                why: reader.text(..=WHY)?.to_owned(),
                shown: reader
                    .optional(|reader| reader.text(1..=limits::NOTE).map(str::to_owned))?,
            })
        })?;
        Ok(Self {
            origin,
            rounds,
            tips,
            failed,
        })
    }
}

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The file of a log. Origins have bytes that names of files have not.
    pub(super) fn path(&self, origin: &Origin) -> PathBuf {
        let digest = Sha256::digest(origin.as_str());
        let name: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.dir.join(name)
    }

    /// What is kept of a log.
    pub(super) fn read(&self, origin: &Origin) -> Result<Kept, Error> {
        let path = self.path(origin);
        let kept = read(&path)?.unwrap_or_else(|| Kept::nothing(origin.clone()));
        if kept.origin == *origin {
            Ok(kept)
        } else {
            Err(damaged(path))
        }
    }

    /// Changes what is kept of a log, durably and in one step.
    pub(super) fn change<T>(
        &self,
        origin: &Origin,
        change: impl FnOnce(&mut Kept) -> T,
    ) -> Result<T, Error> {
        let path = self.path(origin);
        let _lock = self.lock(&path)?;
        let mut kept = self.read(origin)?;
        let before = kept.clone();
        let changed = change(&mut kept);
        if kept != before {
            let new = path.symlink_metadata().is_err();
            if new && self.files()?.len() >= LOGS {
                return Err(Error::TooManyLogs(self.dir.clone()));
            }
            files::write_private(&path, &kept.to_cbor())?;
        }
        Ok(changed)
    }

    /// Waits for the lock of a file. Whoever holds it is about to be done.
    fn lock(&self, path: &Path) -> Result<Lock, Error> {
        let until = Instant::now() + LOCKED;
        loop {
            match Lock::take(path) {
                Err(Error::Locked(_)) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                other => return other,
            }
        }
    }

    /// All that is kept, by origin, each with its file.
    pub(super) fn list(&self) -> Result<Vec<(PathBuf, Kept)>, Error> {
        let mut found = Vec::new();
        for path in self.files()? {
            if let Some(kept) = read(&path)? {
                found.push((path, kept));
            }
        }
        found.sort_by(|(_, one), (_, other)| one.origin.cmp(&other.origin));
        Ok(found)
    }

    /// The files of logs, not the locks beside them nor what a killed process left.
    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let io = |source| FileError::Io {
            path: self.dir.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(error).into()),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let ours = name.to_str().is_some_and(|name| {
                name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
            if ours {
                found.push(self.dir.join(name));
            }
        }
        Ok(found)
    }

    /// Removes what is kept of a log, damaged or not; true if there was something.
    pub(super) fn forget(&self, origin: &Origin) -> Result<bool, Error> {
        let path = self.path(origin);
        if path.symlink_metadata().is_err() {
            return Ok(false);
        }
        let _lock = self.lock(&path)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(FileError::Io { path, source }.into()),
        }
    }
}

fn read(path: &Path) -> Result<Option<Kept>, Error> {
    let bytes = match files::read_private(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(FileError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kept = Kept::from_cbor(&bytes, bytes.len());
    kept.map(Some).map_err(|_| damaged(path.to_owned()))
}

fn damaged(path: PathBuf) -> Error {
    Error::Checkpoints(path)
}
