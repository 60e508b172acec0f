//! Files and directories that only this user may reach.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, FlockOperation, OFlags};

use crate::OpenError;

/// Opens or makes a private file and takes its lock.
pub(crate) fn open_private(path: &Path) -> Result<File, OpenError> {
    // NONBLOCK: opening a FIFO that someone put there must not hang.
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|source| explain(path, source))?;
    let meta = file
        .metadata()
        .map_err(|source| OpenError::io(path, source))?;
    if !meta.is_file() {
        return Err(OpenError::NotAPlainFile {
            path: path.to_owned(),
        });
    }
    check_private(path, &meta)?;
    lock(path, &file)?;
    // After a failed write-back the kernel may still show, from memory, data that never reached the
    // disk. Dropping the clean pages makes the verification read the disk. Advice only.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    Ok(file)
}

/// Why something could not be opened.
pub(crate) fn explain(path: &Path, source: io::Error) -> OpenError {
    match source.raw_os_error() {
        Some(errno) if errno == rustix::io::Errno::LOOP.raw_os_error() => {
            OpenError::NotAPlainFile {
                path: path.to_owned(),
            }
        }
        _ => OpenError::io(path, source),
    }
}

/// Refuses what belongs to another user or what others may reach.
pub(crate) fn check_private(path: &Path, meta: &Metadata) -> Result<(), OpenError> {
    let user = rustix::process::geteuid().as_raw();
    if meta.uid() != user {
        return Err(OpenError::NotOwner {
            path: path.to_owned(),
            owner: meta.uid(),
            user,
        });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(OpenError::NotPrivate {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
            wanted: if meta.is_dir() { 0o700 } else { 0o600 },
        });
    }
    Ok(())
}

pub(crate) fn lock(path: &Path, file: &File) -> Result<(), OpenError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(OpenError::io(path, error.into())),
    }
}

/// Makes the names in the directory of `path` durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| OpenError::io(parent, source))
}
