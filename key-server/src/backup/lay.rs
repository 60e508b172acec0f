//! Laying a backup down in a directory where nothing is.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use store::files;
use store::root::{Kept, RootDir, RootError, Ways};
use store::sealed::RootKey;
use store::{CopyError, Entry, RedbStore, Revision};
use ticket_format::backup::{Beginning, Header};

use super::frame::Frame;
use super::make::SIDE;
use super::seal::{Hashing, Opener};
use super::{BackupError, Step};
use crate::config::{DOOR, INVENTORY, LOG_DIR};

/// The store's file in the data directory.
pub(super) const STORE: &str = "store.redb";

/// A backup that was laid down, and is not checked yet.
pub(super) struct Laid {
    pub(super) header: Header,
    pub(super) ways: Ways,
    pub(super) root: RootKey,
    /// SHA-256 of the whole file.
    pub(super) digest: [u8; 32],
    /// SHA-256 of each file, by the path in the backup.
    pub(super) files: BTreeMap<String, [u8; 32]>,
}

/// Reads what a backup says of itself.
///
/// # Errors
/// It is none.
pub(super) fn beginning(path: &Path) -> Result<(Beginning, BufReader<Hashing<File>>), BackupError> {
    let file = File::open(path).map_err(BackupError::io(path))?;
    let mut file = BufReader::with_capacity(256 * 1024, Hashing::new(file));
    let beginning = Beginning::read(&mut file).map_err(|error| BackupError::NotABackup {
        path: path.to_owned(),
        error,
    })?;
    Ok((beginning, file))
}

/// The wraps of a backup's root key.
pub(super) fn kept(header: &Header) -> Result<Kept, BackupError> {
    let kept = Kept {
        auto: header.auto.clone(),
        shares: header.shares.clone(),
    };
    if kept.root()? != header.root {
        return Err(BackupError::Content(
            "its wraps are of another root key than it says".to_owned(),
        ));
    }
    Ok(kept)
}

/// Lays a backup down in `to`, which is made. `open` opens the root key by its wraps.
///
/// # Errors
/// [`BackupError`]; what was laid down is the caller's to remove.
pub(super) fn lay(
    path: &Path,
    to: &Path,
    open: impl FnOnce(&Ways) -> Result<RootKey, RootError>,
    step: Step<'_>,
) -> Result<Laid, BackupError> {
    let (beginning, file) = beginning(path)?;
    let header = beginning.header.clone();
    let kept = kept(&header)?;
    step("make the directory")?;
    files::private_dir(to)?;
    step("write the wraps")?;
    let ways = RootDir::at(to).lay(&kept)?;
    let root = open(&ways)?;
    let mut body = Opener::new(file, &beginning, &root)?;
    step("write the store")?;
    store(&mut body, &header, to)?;
    let mut files = BTreeMap::new();
    loop {
        match next(&mut body)? {
            Frame::File(name) => {
                step("write a file")?;
                let digest = one_file(&mut body, &place(&name, to, &ways)?)?;
                if files.insert(name, digest).is_some() {
                    return Err(BackupError::Shape("a file stands there twice"));
                }
            }
            Frame::End(count) if count == files.len() as u64 => break,
            _ => {
                return Err(BackupError::Shape(
                    "something else stands where a file belongs",
                ));
            }
        }
    }
    if Frame::read(&mut body)?.is_some() {
        return Err(BackupError::Shape("something stands behind its end"));
    }
    let file = body.into_inner().into_inner();
    Ok(Laid {
        header,
        ways,
        root,
        digest: file.digest(),
        files,
    })
}

fn next(body: &mut Opener<impl Read>) -> Result<Frame, BackupError> {
    Frame::read(body)?.ok_or(BackupError::Shape("its end is missing"))
}

fn store(body: &mut Opener<impl Read>, header: &Header, to: &Path) -> Result<(), BackupError> {
    let mut entries = 0;
    let next = || match next(body)? {
        Frame::Entry {
            key,
            value,
            revision,
        } => {
            entries += 1;
            let revision = Revision(revision);
            Ok(Some((key, Entry { value, revision })))
        }
        Frame::StoreEnd(count) if count == entries => Ok(None),
        _ => Err(BackupError::Shape(
            "something else stands where the store belongs",
        )),
    };
    let made = RedbStore::create_copy(&to.join(STORE), Revision(header.revision), next);
    made.map_err(|error| match error {
        CopyError::Open(error) => BackupError::Store(error.to_string()),
        CopyError::Content(what) => BackupError::Content(what.to_owned()),
        CopyError::Source(error) => error,
    })
}

/// Where a file of a backup goes. Only what a backup holds has a place.
fn place(name: &str, to: &Path, ways: &Ways) -> Result<PathBuf, BackupError> {
    // Every part is one that a key server makes itself.
    let plain = |part: &str| {
        !part.is_empty()
            && part.len() <= 64
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        ["keys", key] if plain(key) => Ok(ways.sealed().join("keys").join(format!("{key}.sealed"))),
        ["kek", dataset, kek] if plain(dataset) && plain(kek) => {
            let dir = ways.sealed().join("kek").join(dataset);
            Ok(dir.join(format!("{kek}.sealed")))
        }
        [LOG_DIR, shard, file @ ("journal" | "checkpoint")]
            if shard.parse::<u64>().is_ok() && plain(shard) =>
        {
            Ok(to.join(LOG_DIR).join(shard).join(file))
        }
        [DOOR | SIDE | INVENTORY] => Ok(to.join(name)),
        _ => Err(BackupError::Shape("a file has no place in a key server")),
    }
}

/// Writes a file, durably, and reads it back.
fn one_file(body: &mut Opener<impl Read>, path: &Path) -> Result<[u8; 32], BackupError> {
    let failed = BackupError::io(path);
    let parent = path.parent().unwrap_or(Path::new("."));
    files::private_dir(parent)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(&failed)?;
    let mut written = Sha256::new();
    let digest = loop {
        match next(body)? {
            Frame::Piece(bytes) => {
                let bytes = zeroize::Zeroizing::new(bytes);
                written.update(bytes.as_slice());
                file.write_all(&bytes).map_err(&failed)?;
            }
            Frame::FileEnd(digest) => break digest,
            _ => return Err(BackupError::Shape("something else stands in a file")),
        }
    };
    file.sync_all().map_err(&failed)?;
    if <[u8; 32]>::from(written.finalize()) != digest {
        return Err(BackupError::Content(format!(
            "{} is another file",
            path.display()
        )));
    }
    // rule: BAK-4
    let mut again = Hashing::new(File::open(path).map_err(&failed)?);
    std::io::copy(&mut again, &mut std::io::sink()).map_err(&failed)?;
    if again.digest() != digest {
        return Err(BackupError::Content(format!(
            "{} reads back otherwise than it was written",
            path.display()
        )));
    }
    Ok(digest)
}

#[cfg(test)]
mod tests;
