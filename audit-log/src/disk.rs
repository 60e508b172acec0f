//! What the log needs of a file system, so that tests can put one here that fails or loses power.
//!
//! Paths are relative to the log's directory, with `/` between their parts; the empty path is that
//! directory itself.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FlockOperation, OFlags};

use crate::{OpenError, file};

/// Longest published file: an entry bundle of 256 entries at their longest.
pub(crate) const MAX_FILE_BYTES: u64 = 256 * (crate::MAX_ENTRY_BYTES as u64 + 2);

/// An open file that is written in place: a journal.
pub(crate) trait LogFile: Send + Sync {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;
    fn length(&self) -> io::Result<u64>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
    fn set_len(&self, length: u64) -> io::Result<()>;
}

/// The log's directory.
pub(crate) trait Disk: Send + Sync {
    /// Names in a directory; none if there is no such directory.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// Makes a directory; fine if it is there. Its parent must be.
    fn make_directory(&self, path: &str) -> io::Result<()>;
    fn sync_directory(&self, path: &str) -> io::Result<()>;
    /// Opens a file that is there; refuses what others may have touched.
    fn open(&self, path: &str) -> Result<Option<Arc<dyn LogFile>>, OpenError>;
    /// The whole of a file, at most [`MAX_FILE_BYTES`].
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    /// Makes or replaces a file and makes its contents durable; its name is durable only after
    /// [`Disk::sync_directory`].
    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; fine if there is none.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes a directory and all in it; fine if there is none.
    fn remove_tree(&self, path: &str) -> io::Result<()>;
    /// Where a path is, for people.
    fn place(&self, path: &str) -> PathBuf;
    /// Lets another process open the log.
    fn unlock(&self);
}

/// The directory that holds a path.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Replaces a file so that, whatever happens, the old one or the whole new one is there. The new name
/// is durable after a sync of the directory.
pub(crate) fn replace(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{path}.new");
    disk.write(&new, bytes)?;
    disk.rename(&new, path)
}

/// A directory of the real file system, locked against a second opener.
pub(crate) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Opens or makes (mode 0700) the directory and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::io(path, source);
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => file::sync_directory(path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let lock = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(|source| file::explain(path, source))?;
        let meta = lock.metadata().map_err(failed)?;
        if !meta.is_dir() {
            return Err(OpenError::NotADirectory {
                path: path.to_owned(),
            });
        }
        file::check_private(path, &meta)?;
        file::lock(path, &lock)?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }
}

impl Disk for Directory {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        list(&self.place(directory))
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.place(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        File::open(self.place(path))?.sync_all()
    }

    fn open(&self, path: &str) -> Result<Option<Arc<dyn LogFile>>, OpenError> {
        let place = self.place(path);
        // NONBLOCK: opening a FIFO that someone put there must not hang.
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&place);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file::explain(&place, error)),
        };
        let meta = file
            .metadata()
            .map_err(|source| OpenError::io(&place, source))?;
        if !meta.is_file() {
            return Err(OpenError::NotAPlainFile { path: place });
        }
        file::check_private(&place, &meta)?;
        // After a failed write-back the kernel may still show, from memory, data that never reached
        // the disk. Dropping the clean pages makes the verification read the disk. Advice only.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        Ok(Some(Arc::new(file)))
    }

    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        read(&self.place(path))
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(self.place(path))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.place(from), self.place(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        missing_is_fine(fs::remove_file(self.place(path)))
    }

    fn remove_tree(&self, path: &str) -> io::Result<()> {
        missing_is_fine(fs::remove_dir_all(self.place(path)))
    }

    fn place(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.path.clone()
        } else {
            self.path.join(path)
        }
    }

    fn unlock(&self) {
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Names in a directory; none if there is no such directory.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<String>> {
    let items = match fs::read_dir(directory) {
        Ok(items) => items,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    items
        .map(|item| Ok(item?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// The whole of a plain file, if it is there and not longer than it may be.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        let why = format!("{} is not a file of a log, or too long", path.display());
        return Err(io::Error::other(why));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

impl LogFile for File {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, out, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }
}
