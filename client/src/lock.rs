//! Lock files: one process at a time changes a wallet or a node's state.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use store::files::{self, FileError};

use crate::error::Error;

/// Held while something is changed; the system lets go of it with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `guarded`, a file that need not exist yet. The lock file stays: were it
    /// removed, one process could hold the removed one and another a new one.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process holds it, or the file system refused.
    pub fn take(guarded: &Path) -> Result<Self, Error> {
        files::private_dir(directory(guarded))?;
        let mut name = guarded.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let path = guarded.with_file_name(name);
        let io = |source| FileError::Io {
            path: path.clone(),
            source,
        };
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).unwrap_or_default();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(&path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(guarded.to_owned())),
            Err(error) => Err(io(error.into()).into()),
        }
    }
}

/// The directory that a file lies in.
pub(crate) fn directory(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
