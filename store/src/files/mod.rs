//! Files that hold secrets or state: bounded reads, private modes, atomic replacement.

use std::ffi::OsStr;
mod calls;
#[cfg(test)]
pub(crate) mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// Larger than it may be.
    #[error("{path} has more than {limit} bytes")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
    /// Others can read or write the file, it is another user's, or no regular file.
    #[error(
        "{0} must be a regular file that is owned by this user and closed to others (mode 0600)"
    )]
    NotPrivate(PathBuf),
    /// Others can write to the directory, it is another user's, or no directory.
    #[error(
        "{0} must be a directory that is owned by this user and that no other can write to (mode 0700)"
    )]
    NotPrivateDirectory(PathBuf),
    /// It is there and must not be.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn wrap(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Io {
            path: path.to_owned(),
            source,
        },
    }
}

fn read_from(file: File, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    // One byte more than allowed, so that a file that grows while it is read is noticed too.
    let most = limit.saturating_add(1);
    let length = file.metadata().map_err(wrap(path))?.len();
    // Room for all of it at once: a vector that grows leaves copies of secrets behind. The byte
    // more lets the end be seen without growing.
    let room = length.saturating_add(1).min(most);
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
    calls::read_to_end(&mut file.take(most), &mut bytes).map_err(wrap(path))?;
    if bytes.len() as u64 > limit {
        Err(FileError::TooLarge {
            path: path.to_owned(),
            limit,
        })
    } else {
        Ok(bytes)
    }
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// Missing, too large, or unreadable.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    read_from(File::open(path).map_err(wrap(path))?, path, limit)
}

/// Reads a file that holds a secret: a regular file, no symbolic link, this user's, mode 0600 or stricter.
///
/// # Errors
/// As [`read_bounded`], and [`FileError::NotPrivate`].
pub fn read_private(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow())
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => FileError::NotPrivate(path.to_owned()),
        _ => wrap(path)(error),
    })?;
    let meta = file.metadata().map_err(wrap(path))?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.is_file() || !ours || meta.mode() & 0o077 != 0 {
        return Err(FileError::NotPrivate(path.to_owned()));
    }
    read_from(file, path, limit)
}

/// Replaces a file in one step with mode 0600: written beside it, synced, renamed, directory synced.
/// After a crash there is the old file or the new one, whole; what a killed process had half written
/// is removed by the next write of the same file.
///
/// # Errors
/// The system refused. The old file is as it was, or, where only the new name could not be made durable,
/// the new one is there, whole: which of them outlives a power failure is then not known.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    sweep(path);
    let beside = beside(path);
    let written = (|| {
        let mut file = create_beside(&beside)?;
        calls::write_all(&mut file, bytes)?;
        calls::sync(&file)?;
        calls::rename(&beside, path)?;
        sync_parent(path)
    })();
    written.map_err(|error| {
        let _ = calls::remove_file(&beside);
        wrap(path)(error)
    })
}

/// As [`write_private`], and refuses when the file exists.
///
/// # Errors
/// [`FileError::Exists`], or the system refused; then no file is left, if it lets it be removed.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = calls::create(path).map_err(wrap(path))?;
    let written = calls::write_all(&mut file, bytes)
        .and_then(|()| calls::sync(&file))
        .and_then(|()| sync_parent(path));
    written.map_err(|error| {
        let _ = calls::remove_file(path);
        wrap(path)(error)
    })
}

/// Makes a directory with mode 0700, with its parents; one that exists must be this user's and closed to others.
///
/// # Errors
/// [`FileError::NotPrivateDirectory`], or the system refused.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(wrap(path))?;
    let meta = fs::symlink_metadata(path).map_err(wrap(path))?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.is_dir() || !ours || meta.mode() & 0o022 != 0 {
        return Err(FileError::NotPrivateDirectory(path.to_owned()));
    }
    Ok(())
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The system refused.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    calls::sync_directory(path).map_err(wrap(path))
}

/// Overwrites a file with zeros, syncs it and removes it. A symbolic link is only removed. One that is
/// not there is erased already. The directory is the caller's to sync.
///
/// # Errors
/// The system refused; the file may be there still.
pub fn erase(path: &Path) -> Result<(), FileError> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(wrap(path))?,
    };
    if meta.is_file() {
        let mut file = OpenOptions::new()
            .write(true)
            .custom_flags(no_follow())
            .open(path)
            .map_err(wrap(path))?;
        let mut zeros = io::repeat(0).take(meta.len());
        calls::copy(&mut zeros, &mut file)
            .and_then(|()| calls::sync(&file))
            .map_err(wrap(path))?;
    }
    calls::remove_file(path).map_err(wrap(path))
}

/// Erases a directory: [`erase`] for each file in it and below, then the directories. One that is not
/// there is erased already. A link is followed nowhere.
///
/// # Errors
/// It is no directory, or the system refused; some of it may be there still.
pub fn erase_dir(path: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(meta) if !meta.is_dir() => {
            return Err(FileError::NotPrivateDirectory(path.to_owned()));
        }
        other => other.map(drop).map_err(wrap(path))?,
    }
    let entries = fs::read_dir(path).map_err(wrap(path))?;
    for entry in entries {
        let entry = entry.map_err(wrap(path))?;
        if entry.file_type().map_err(wrap(path))?.is_dir() {
            erase_dir(&entry.path())?;
        } else {
            erase(&entry.path())?;
        }
    }
    calls::remove_dir(path).map_err(wrap(path))?;
    sync_parent(path).map_err(wrap(path))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Creates the file that is to replace another, and locks it until it is closed: the lock tells
/// [`sweep`] that it is no leftover. Where the file system knows no locks, nothing is swept either.
fn create_beside(beside: &Path) -> io::Result<File> {
    for _ in 0..8 {
        // A file left by a crash is ours to replace; one that appears now is not.
        match fs::remove_file(beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = calls::create(beside)?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        // Else another process took it for a leftover before it was locked, and removes it.
        if locked != Err(Errno::WOULDBLOCK) && file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
    Err(Errno::WOULDBLOCK.into())
}

/// Removes what processes that were killed in [`write_private`] left beside a file: they may hold
/// secrets. One that is being written is locked and stays. Does what it can; a failure only leaves
/// a file for the next time.
fn sweep(path: &Path) {
    let Some(name) = path.file_name() else { return };
    let Ok(entries) = fs::read_dir(parent(path)) else {
        return;
    };
    for entry in entries.flatten() {
        if !is_beside(&entry.file_name(), name) {
            continue;
        }
        let leftover = entry.path();
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(no_follow())
            .open(&leftover);
        if let Ok(file) = opened
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_file(&leftover);
        }
    }
}

/// Whether `found` is a name that [`beside`] gives for a file called `name`, in any process.
fn is_beside(found: &OsStr, name: &OsStr) -> bool {
    let process = found
        .as_bytes()
        .strip_prefix(name.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"."))
        .and_then(|rest| rest.strip_suffix(b".tmp"));
    process.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

/// Flags to open a file that may be anything without following or waiting for it.
fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits())
        .unwrap_or_default()
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    calls::sync_directory(parent(path))
}
