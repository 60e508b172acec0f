//! Generations of root keys on disk.
//!
//! ```text
//! root/current                       the generation in force: its number and a line end
//! root/<n>/auto, shares              the two wraps
//! root/<n>/replaced                  SHA-256 of each file that the rekey to <n> sealed anew, old and new
//! root/<n>/sealed/<path>.sealed      every file that is sealed under the root key, for <path> (REST-1)
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::RootId;
use ticket_format::statement::{AutoKind, ShareRow};

use super::auto::{self, AutoWrap, Means};
use super::rekey::{self, Prepared};
use super::shares::{Holders, Place, Share};
use super::shares_file::{self, SharesWrap};
use super::{RootError, auto::AUTO_LIMIT};
use crate::files::{self, FileError};
use crate::sealed::RootKey;

pub(super) const CURRENT: &str = "current";
pub(super) const AUTO: &str = "auto";
pub(super) const SHARES: &str = "shares";
pub(super) const REPLACED: &str = "replaced";
pub(super) const SEALED: &str = "sealed";
/// Where tools leave files while they work; erased before and after.
pub(super) const WORK: &str = "work";

/// Most bytes of the pointer.
const CURRENT_LIMIT: u64 = 32;
/// Most files that are sealed under one root key.
pub(super) const FILES: usize = 262_144;
/// Most bytes of the list of files that were sealed anew: 69 each.
const REPLACED_LIMIT: usize = FILES * 69 + 16;

/// The directory of a server's root key. Whoever uses it holds the lock of the data directory: two at
/// once would erase what the other makes.
#[derive(Clone, Debug)]
pub struct RootDir(PathBuf);

impl RootDir {
    /// The one below this data directory.
    #[must_use]
    pub fn at(data: &Path) -> Self {
        Self(data.join("root"))
    }

    /// Whether a root key is in force here.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.join(CURRENT).exists()
    }

    /// Makes the first root key, with both its wraps.
    ///
    /// # Errors
    /// [`RootError::Exists`], or the automatic way or the system refused; then there is none.
    pub fn create(
        &self,
        place: &Place,
        means: &Means,
        holders: &Holders,
        rng: &mut impl CryptoRng,
    ) -> Result<(Ways, RootKey), RootError> {
        // rule: ROOT-1
        if self.exists() {
            return Err(RootError::Exists(self.0.join(CURRENT)));
        }
        files::private_dir(&self.0)?;
        rekey::first(self, place, means, holders, rng)
    }

    /// Reads the generation in force and erases what a crash left of others. Opens nothing.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn ways(&self) -> Result<Ways, RootError> {
        let number = self.in_force()?;
        let ways = self.read(number)?;
        self.erase_others(number)?;
        Ok(ways)
    }

    /// Reads the generation in force and changes nothing: for who does not hold the data directory's lock.
    ///
    /// # Errors
    /// As [`Self::ways`].
    pub fn look(&self) -> Result<Ways, RootError> {
        self.read(self.in_force()?)
    }

    /// Puts a root key in force that was prepared, and says whether it did: for one whose rekey a crash
    /// ended when it was decided and not done. To be called before [`Self::ways`], which erases it.
    ///
    /// # Errors
    /// The pointer cannot be read or written, or what is in force is damaged.
    pub fn finish(&self, root: RootId) -> Result<bool, RootError> {
        // rule: ROOT-7
        let number = self.in_force()?;
        if self.read(number)?.root() == root {
            return Ok(false);
        }
        let next = number.saturating_add(1);
        if !self.generation(next).exists() {
            tracing::error!(%root, "the root key that a rekey decided on is not there: the one before stays in force");
            return Ok(false);
        }
        // What cannot be read is not erased either: somebody has to look.
        if self.read(next)?.root() == root {
            rekey::point(self, next)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn in_force(&self) -> Result<u64, RootError> {
        let path = self.0.join(CURRENT);
        let bytes = files::read_private(&path, CURRENT_LIMIT)?;
        number(&bytes).ok_or_else(|| damaged(&path, "it holds no number"))
    }

    pub(super) fn generation(&self, number: u64) -> PathBuf {
        self.0.join(number.to_string())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn read(&self, number: u64) -> Result<Ways, RootError> {
        let dir = self.generation(number);
        let auto: AutoWrap = read(&dir.join(AUTO), AUTO_LIMIT)?;
        let shares: SharesWrap = read(&dir.join(SHARES), shares_file::LIMIT)?;
        let replaced: Replaced = read(&dir.join(REPLACED), REPLACED_LIMIT)?;
        // rule: ROOT-1
        if auto.root != shares.root {
            return Err(damaged(&dir, "its two wraps are of two root keys"));
        }
        Ok(Ways {
            sealed: dir.join(SEALED),
            dir: self.clone(),
            number,
            auto,
            shares,
            replaced,
        })
    }

    /// Erases every generation but this one, and what tools left.
    pub(super) fn erase_others(&self, number: u64) -> Result<(), RootError> {
        // rule: ROOT-7
        let entries = fs::read_dir(&self.0).map_err(|source| io(&self.0, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| io(&self.0, source))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let other = name.parse::<u64>().is_ok_and(|other| other != number);
            if other || name == WORK {
                files::erase_dir(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// A number as it is written: no sign, no leading zero, one line end.
fn number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

pub(super) fn damaged(path: &Path, what: impl ToString) -> RootError {
    RootError::Damaged {
        path: path.to_owned(),
        what: what.to_string(),
    }
}

pub(super) fn io(path: &Path, source: std::io::Error) -> RootError {
    RootError::File(FileError::Io {
        path: path.to_owned(),
        source,
    })
}

fn read<T: Decode>(path: &Path, limit: usize) -> Result<T, RootError> {
    let bytes = files::read_private(path, limit as u64)?;
    T::from_cbor(&bytes, limit).map_err(|error| damaged(path, error))
}

/// What the rekey to a generation sealed anew: `[* [old SHA-256, new SHA-256]]`, by the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replaced(pub(super) BTreeMap<[u8; 32], [u8; 32]>);

impl Encode for Replaced {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.0.len());
        for (old, new) in &self.0 {
            writer.array(2).bytes(old).bytes(new);
        }
    }
}

impl Decode for Replaced {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let pairs = reader.list(0..=FILES, |reader| {
            reader.array(2..=2)?;
            Ok((reader.array_of()?, reader.array_of()?))
        })?;
        Ok(Self(pairs.into_iter().collect()))
    }
}

/// The generation in force: the two ways to its root key, and the place of what is sealed under it.
#[derive(Clone, Debug)]
pub struct Ways {
    pub(super) dir: RootDir,
    pub(super) number: u64,
    sealed: PathBuf,
    auto: AutoWrap,
    shares: SharesWrap,
    replaced: Replaced,
}

impl Ways {
    /// Which root key.
    #[must_use]
    pub fn root(&self) -> RootId {
        self.auto.root
    }

    /// The automatic way's kind.
    #[must_use]
    pub fn kind(&self) -> AutoKind {
        self.auto.kind()
    }

    /// So many shares open it.
    #[must_use]
    pub fn threshold(&self) -> u64 {
        self.shares.threshold
    }

    /// Who has one, and the share as only its holder opens it.
    #[must_use]
    pub fn rows(&self) -> &[ShareRow] {
        &self.shares.rows
    }

    /// The directory of what is sealed under the root key: `<path>.sealed` in it is sealed for `<path>`.
    #[must_use]
    pub fn sealed(&self) -> &Path {
        &self.sealed
    }

    pub(super) fn wraps(&self) -> (&AutoWrap, &SharesWrap) {
        (&self.auto, &self.shares)
    }

    /// The SHA-256 of the sealed file that took the place of one with this SHA-256 at the last rekey.
    #[must_use]
    pub fn replaced(&self, old: &[u8; 32]) -> Option<[u8; 32]> {
        self.replaced.0.get(old).copied()
    }

    /// The same, read from the disk again.
    ///
    /// # Errors
    /// It is damaged, or of another root key.
    pub fn afresh(&self) -> Result<Self, RootError> {
        // rule: ROOT-6
        let ways = self.dir.read(self.number)?;
        if ways.root() != self.root() {
            return Err(damaged(
                &self.dir.generation(self.number),
                "it is of another root key than the one in use",
            ));
        }
        Ok(ways)
    }

    /// Opens the root key by the automatic way, afresh. Blocks: for Argon2id, a token, or a TPM's tools.
    ///
    /// # Errors
    /// Another kind than the wrap's, or it does not open.
    pub fn open_auto(&self, means: &Means) -> Result<RootKey, RootError> {
        // rule: ROOT-2
        let work = self.dir.path().join(WORK);
        auto::open(means, &self.auto, &work)
    }

    /// Opens the root key by shares of different numbers, at least as many as the threshold.
    ///
    /// # Errors
    /// [`ShareError::TooFew`](super::ShareError::TooFew), or [`RootError::SharesNotThis`].
    pub fn open_shares(&self, shares: &[Share]) -> Result<RootKey, RootError> {
        // rule: ROOT-3
        self.shares.open(shares)
    }

    /// Prepares a new root key in place of this one (ROOT-7): both wraps, and every file in
    /// [`Self::sealed`] under the new key, beside the old ones. [`Prepared::switch`] puts it in force.
    /// Nothing may be written there from now until then.
    ///
    /// # Errors
    /// The old root key is in force and nothing is left of the new one.
    pub fn prepare(
        &self,
        old: &RootKey,
        place: &Place,
        means: &Means,
        holders: &Holders,
        rng: &mut impl CryptoRng,
    ) -> Result<Prepared, RootError> {
        // rule: ROOT-7
        rekey::next(self, old, place, means, holders, rng, &mut |_| Ok(()))
    }
}
