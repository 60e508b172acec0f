//! The store's file: who may open it, and the disk as redb sees it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FlockOperation, OFlags, RenameFlags};

use super::OpenError;

/// Opens the file at `path`, which must exist, and takes its lock. `None` if there is none.
pub(super) fn open_existing(path: &Path) -> Result<Option<File>, OpenError> {
    match open_private(path, OpenOptions::new().read(true).write(true)) {
        Ok(file) => Ok(Some(file)),
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens, locked and empty, the file in which a new store is prepared: a crash while it is made
/// leaves nothing at `path` that looks like a damaged store.
pub(super) fn create_draft(path: &Path) -> Result<(File, PathBuf), OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    let file = open_private(
        &draft,
        OpenOptions::new().read(true).write(true).create(true),
    )?;
    file.set_len(0)
        .map_err(|source| OpenError::io(&draft, source))?;
    Ok((file, draft))
}

/// Gives a finished draft its name, durably. The lock stays with the file.
pub(super) fn publish_draft(draft: &Path, path: &Path) -> Result<(), OpenError> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, draft, cwd, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {
            return Err(OpenError::InUse {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(OpenError::io(path, error.into())),
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| OpenError::io(parent, source))
}

fn open_private(path: &Path, options: &mut OpenOptions) -> Result<File, OpenError> {
    // NONBLOCK: opening a FIFO that someone put there must not hang.
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match options
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(OpenError::NotAPlainFile {
                path: path.to_owned(),
            });
        }
        Err(source) => return Err(OpenError::io(path, source)),
    };
    let meta = file
        .metadata()
        .map_err(|source| OpenError::io(path, source))?;
    if !meta.is_file() {
        return Err(OpenError::NotAPlainFile {
            path: path.to_owned(),
        });
    }
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
        });
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(OpenError::InUse {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(OpenError::io(path, error.into())),
    }
    // After a failed write-back the kernel may still show, from memory, data that never reached the
    // disk. Dropping the clean pages makes the integrity check read the disk. Advice only.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    Ok(file)
}

/// The open, locked file. It outlives each redb database opened on it, so that the store can reopen
/// the database after an error without ever giving up the lock.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    file: Arc<File>,
    sync_failed: Arc<AtomicBool>,
    #[cfg(test)]
    pub(super) faults: Arc<super::faults::Faults>,
}

impl Disk {
    pub(super) fn new(file: File) -> Self {
        Self {
            file: Arc::new(file),
            sync_failed: Arc::default(),
            #[cfg(test)]
            faults: Arc::default(),
        }
    }

    /// Whether making data durable ever failed: what is on the disk is then unknown, and asking again
    /// may falsely succeed, because the kernel reports such an error once.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }
}

// The locking methods keep their default, "unsupported": the lock is held by `open_private`.
impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        #[cfg(test)]
        self.faults.read()?;
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        let synced = self.faults.sync().and_then(|()| self.file.sync_data());
        #[cfg(not(test))]
        let synced = self.file.sync_data();
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write()?;
        self.file.write_all_at(data, offset)
    }
}
