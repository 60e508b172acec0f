//! Building a generation, and putting it in force (ROOT-7).

use std::fs;
use std::path::Path;

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use ticket_format::cbor::Encode;
use ticket_format::ids::RootId;

use super::RootError;
use super::auto::{self, Means};
use super::generation::{
    AUTO, CURRENT, FILES, REPLACED, Replaced, RootDir, SEALED, SHARES, WORK, Ways, damaged, io,
};
use super::shares::{Holders, Place};
use super::shares_file::SharesWrap;
use crate::files;
use crate::sealed::RootKey;

/// Most bytes of one sealed file.
const SEALED_FILE: u64 = 1024 * 1024;
/// How deep directories of sealed files may lie in one another.
const DEPTH: usize = 8;
const SUFFIX: &str = ".sealed";

/// Called before each step that changes the disk, with its name: where it fails, nothing more is done,
/// as in a crash.
pub(super) type Step<'a> = &'a mut dyn FnMut(&'static str) -> Result<(), RootError>;

/// What a new generation is made for.
struct Plan<'a> {
    place: &'a Place,
    means: &'a Means,
    holders: &'a Holders,
}

/// The first generation.
pub(super) fn first(
    dir: &RootDir,
    place: &Place,
    means: &Means,
    holders: &Holders,
    rng: &mut impl CryptoRng,
) -> Result<(Ways, RootKey), RootError> {
    let plan = Plan {
        place,
        means,
        holders,
    };
    // What an init that was killed left.
    dir.erase_others(0)?;
    let built = build(dir, 1, None, &plan, rng, &mut |_| Ok(()));
    ready(dir, 1, built, &mut |_| Ok(()))?.put_in_force(&mut |_| Ok(()))
}

/// The generation after this one, not in force yet.
pub(super) fn next(
    ways: &Ways,
    old: &RootKey,
    place: &Place,
    means: &Means,
    holders: &Holders,
    rng: &mut impl CryptoRng,
    step: Step<'_>,
) -> Result<Prepared, RootError> {
    // rule: ROOT-7
    let plan = Plan {
        place,
        means,
        holders,
    };
    let number = ways.number.saturating_add(1);
    ways.dir.erase_others(ways.number)?;
    let built = build(&ways.dir, number, Some((ways, old)), &plan, rng, step);
    ready(&ways.dir, number, built, step)
}

/// A root key that is whole on disk, both wraps and all that is sealed under it, and not in force. The
/// next start erases it, unless it is told of it ([`RootDir::finish`]).
#[derive(Debug)]
pub struct Prepared {
    ways: Ways,
    key: RootKey,
}

impl Prepared {
    /// Which root key.
    #[must_use]
    pub fn root(&self) -> RootId {
        self.ways.root()
    }

    /// The SHA-256 of the file that takes the place of the one with this SHA-256.
    #[must_use]
    pub fn replaced(&self, old: &[u8; 32]) -> Option<[u8; 32]> {
        self.ways.replaced(old)
    }

    /// The directory of what is sealed under it.
    #[must_use]
    pub fn sealed(&self) -> &Path {
        self.ways.sealed()
    }

    /// Puts it in force, and erases the one before.
    ///
    /// # Errors
    /// [`RootError::Unclear`]: a restart finds out which one is in force.
    pub fn switch(self) -> Result<(Ways, RootKey), RootError> {
        // rule: ROOT-7
        self.put_in_force(&mut |_| Ok(()))
    }

    pub(super) fn put_in_force(self, step: Step<'_>) -> Result<(Ways, RootKey), RootError> {
        // rule: ROOT-7
        let (dir, number) = (&self.ways.dir, self.ways.number);
        step("switch")?;
        // Whoever removed it meanwhile must not have the old one removed too.
        self.ways.afresh()?;
        point(dir, number)?;
        step("erase the old")?;
        // The new one is in force; what cannot be erased now is erased by the next start.
        if let Err(error) = dir.erase_others(number) {
            tracing::warn!(%error, "an old root key's wraps could not be erased");
        }
        Ok((self.ways, self.key))
    }

    /// Erases it: it never was in force. What cannot be erased is erased by the next start.
    pub fn undo(self) {
        if let Err(error) = files::erase_dir(&self.ways.dir.generation(self.ways.number)) {
            tracing::warn!(%error, "a root key that is not used could not be erased");
        }
    }
}

/// Says which generation is in force.
pub(super) fn point(dir: &RootDir, number: u64) -> Result<(), RootError> {
    // rule: ROOT-7
    let pointer = format!("{number}\n");
    files::write_private(&dir.path().join(CURRENT), pointer.as_bytes()).map_err(RootError::Unclear)
}

/// What was built, read back; or erases what there is of it.
fn ready(
    dir: &RootDir,
    number: u64,
    built: Result<RootKey, RootError>,
    step: Step<'_>,
) -> Result<Prepared, RootError> {
    // rule: ROOT-7
    let ready = built.and_then(|key| Ok((dir.read(number)?, key)));
    let _ = files::erase_dir(&dir.path().join(WORK));
    match ready {
        Ok((ways, key)) => Ok(Prepared { ways, key }),
        Err(error) => {
            if step("undo").is_ok() {
                let _ = files::erase_dir(&dir.generation(number));
            }
            Err(error)
        }
    }
}

fn build(
    dir: &RootDir,
    number: u64,
    from: Option<(&Ways, &RootKey)>,
    plan: &Plan<'_>,
    rng: &mut impl CryptoRng,
    step: Step<'_>,
) -> Result<RootKey, RootError> {
    // rule: ROOT-1
    let (root, key) = (RootId::random(rng), RootKey::random(rng));
    let (to, work) = (dir.generation(number), dir.path().join(WORK));
    step("make the directory")?;
    files::private_dir(&to)?;
    files::private_dir(&to.join(SEALED))?;
    let mut replaced = Replaced::default();
    if let Some((ways, old)) = from {
        let mut reseal = Reseal {
            old,
            new: &key,
            replaced: &mut replaced,
        };
        reseal.directory(ways.sealed(), &to.join(SEALED), "", DEPTH, rng, step)?;
    }
    step("write what was sealed anew")?;
    files::create_private(&to.join(REPLACED), &replaced.to_cbor())?;
    step("write the shares")?;
    let shares = SharesWrap::new(root, &key, plan.place, plan.holders, rng)?;
    files::create_private(&to.join(SHARES), &shares.to_cbor())?;
    step("write the automatic wrap")?;
    let wrap = auto::wrap(plan.means, root, &key, &work, rng)?;
    files::create_private(&to.join(AUTO), &wrap.to_cbor())?;
    // rule: ROOT-2 (a way that was never gone is none)
    let ways = dir.read(number)?;
    if !ways.open_auto(plan.means)?.same(&key) {
        return Err(RootError::NotThis(ways.kind()));
    }
    files::sync_dir(&to.join(SEALED))?;
    files::sync_dir(&to)?;
    files::sync_dir(dir.path())?;
    Ok(key)
}

/// Seals files anew: from one root key to another, each for its path.
struct Reseal<'a> {
    old: &'a RootKey,
    new: &'a RootKey,
    replaced: &'a mut Replaced,
}

impl Reseal<'_> {
    /// All of one directory. `path` is what its files' paths begin with.
    fn directory(
        &mut self,
        from: &Path,
        to: &Path,
        path: &str,
        depth: usize,
        rng: &mut impl CryptoRng,
        step: Step<'_>,
    ) -> Result<(), RootError> {
        // rule: ROOT-7
        let entries = fs::read_dir(from).map_err(|source| io(from, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| io(from, source))?;
            let name = entry.file_name();
            let (at, name) = (entry.path(), name.to_str());
            let kind = entry.file_type().map_err(|source| io(&at, source))?;
            let Some(name) = name else {
                return Err(damaged(&at, "its name is not text"));
            };
            if kind.is_dir() {
                if depth == 0 {
                    return Err(damaged(&at, "directories lie too deep"));
                }
                step("make a directory of sealed files")?;
                let below = to.join(name);
                files::private_dir(&below)?;
                self.directory(&at, &below, &format!("{path}{name}/"), depth - 1, rng, step)?;
            } else if let Some(stem) = name.strip_suffix(SUFFIX) {
                step("seal a file anew")?;
                self.file(&at, &to.join(name), &format!("{path}{stem}"), rng)?;
            }
        }
        files::sync_dir(to)?;
        Ok(())
    }

    fn file(
        &mut self,
        from: &Path,
        to: &Path,
        path: &str,
        rng: &mut impl CryptoRng,
    ) -> Result<(), RootError> {
        // rule: ROOT-7
        if self.replaced.0.len() >= FILES {
            return Err(damaged(from, "too many sealed files"));
        }
        let wrong = |at: &Path, error| RootError::Sealed {
            path: at.to_owned(),
            error,
        };
        let before = files::read_private(from, SEALED_FILE)?;
        let value = self.old.open(path, &before);
        let value = value.map_err(|error| wrong(from, error))?;
        files::create_private(to, &self.new.seal(path, &value, rng))?;
        let after = files::read_private(to, SEALED_FILE)?;
        let again = self.new.open(path, &after);
        if *again.map_err(|error| wrong(to, error))? != *value {
            return Err(damaged(to, "it reads back otherwise"));
        }
        let digest = |bytes: &[u8]| Sha256::digest(bytes).into();
        self.replaced.0.insert(digest(&before), digest(&after));
        Ok(())
    }
}
