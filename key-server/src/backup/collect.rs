//! Collecting shares for a backup, without a server: an attempt's key in a file, and given shares in files
//! beside it (BAK-3). A share leaves its holder's machine sealed to that key alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand_core::CryptoRng;
use store::files;
use store::root::{Collection, Given, Progress, RootError, ShareError, Ways};
use store::sealed::RootKey;
use ticket_format::backup::Header;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::statement::{SEALED_SHARE, ShareGive, SharePurpose};

/// The file in which the attempt stands.
pub const ATTEMPT: &str = "attempt";
/// How the files of given shares end.
pub const SHARE: &str = "share";
/// How often the directory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long shares are waited for.
const PATIENCE: Duration = crate::sealed::KEPT;
/// Most bytes of a given share.
const LIMIT: usize = SEALED_SHARE + 64;

/// Where shares to open a backup go.
#[must_use]
pub fn given(header: &Header) -> Given {
    Given {
        realm: header.realm.clone(),
        server: header.server,
        root: header.root,
        purpose: SharePurpose::Restore,
    }
}

/// Collects shares in a directory until they open the root key; `say` gets a line for the person who waits.
/// Blocks.
///
/// # Errors
/// A share does not fit, they open nothing, or nobody gave enough for an hour.
pub fn collect(
    ways: &Ways,
    header: &Header,
    dir: &Path,
    rng: &mut impl CryptoRng,
    say: impl Fn(&str),
) -> Result<RootKey, RootError> {
    // rule: BAK-3, ROOT-3
    files::private_dir(dir)?;
    let mut collection = Collection::new(given(header), ways.threshold(), rng);
    let attempt = collection.attempt();
    let path = dir.join(ATTEMPT);
    files::write_private(&path, &attempt.to_cbor())?;
    say(&format!(
        "waiting for {} shares in {}, sealed to key {}: `postern-admin share-key give`",
        ways.threshold(),
        dir.display(),
        attempt.key.hash()
    ));
    let opened =
        wait(&mut collection, dir, say).and_then(|()| ways.open_shares(collection.shares()));
    // Nobody is to give another one to a key that nobody has any more.
    files::erase(&path)?;
    opened
}

fn wait(collection: &mut Collection, dir: &Path, say: impl Fn(&str)) -> Result<(), RootError> {
    let (begun, mut seen) = (std::time::Instant::now(), BTreeSet::new());
    while begun.elapsed() < PATIENCE {
        for path in shares(dir)? {
            if !seen.insert(path.clone()) {
                continue;
            }
            let bytes = files::read_bounded(&path, LIMIT as u64)?;
            let give = ShareGive::from_cbor(&bytes, LIMIT).map_err(|error| RootError::Damaged {
                path: path.clone(),
                what: error.to_string(),
            })?;
            match collection.take(&give) {
                Ok(Progress::Complete) => return Ok(()),
                Ok(Progress::Waiting { have, need }) => {
                    say(&format!("{have} of {need} shares"));
                }
                // Of an attempt before this one.
                Err(error @ ShareError::Attempt) => say(&format!("{}: {error}", path.display())),
                Err(error) => return Err(error.into()),
            }
        }
        std::thread::sleep(LOOK);
    }
    let Progress::Waiting { have, need } = collection.progress() else {
        return Ok(());
    };
    Err(ShareError::TooFew { have, need }.into())
}

/// The given shares that are whole: a file gets its name when it is.
fn shares(dir: &Path) -> Result<Vec<PathBuf>, RootError> {
    let failed = |source| {
        RootError::File(files::FileError::Io {
            path: dir.to_owned(),
            source,
        })
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == SHARE) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
