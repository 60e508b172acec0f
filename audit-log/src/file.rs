//! The log's file: who may open it, and what the writer does to it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FlockOperation, OFlags};

use crate::OpenError;
use crate::format::{self, LogId};

/// What the writer needs of a file; the tests put a failing one here.
pub(crate) trait LogFile: Send {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
    fn set_len(&self, length: u64) -> io::Result<()>;
}

impl LogFile for Arc<File> {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&**self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }
}

/// Opens or makes the file, takes its lock, writes the header of a new one.
pub(crate) fn open(path: &Path) -> Result<File, OpenError> {
    let file = open_private(path)?;
    let io = |source| OpenError::io(path, source);
    let length = file.metadata().map_err(io)?.len();
    if length < format::HEADER_BYTES as u64 {
        let mut found = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut found, 0).map_err(io)?;
        let mut id = LogId::default();
        getrandom::fill(&mut id).map_err(|error| io(io::Error::other(error.to_string())))?;
        let header = format::header(&id);
        // A crash while the log was made leaves a part of a header with another id; the scan judges
        // anything else.
        let fixed = found.len().min(format::MAGIC.len() + 1);
        if found[..fixed] == header[..fixed] {
            FileExt::write_all_at(&file, &header, 0).map_err(io)?;
            file.sync_all().map_err(io)?;
            sync_directory(path)?;
        }
    }
    Ok(file)
}

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
        .map_err(|source| match source.raw_os_error() {
            Some(errno) if errno == rustix::io::Errno::LOOP.raw_os_error() => {
                OpenError::NotAPlainFile {
                    path: path.to_owned(),
                }
            }
            _ => OpenError::io(path, source),
        })?;
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
    // disk. Dropping the clean pages makes the verification read the disk. Advice only.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    Ok(file)
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| OpenError::io(parent, source))
}
