//! Files that hold secrets or state: bounded reads, private modes, atomic replacement.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

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
    /// Others can read or write it, or it is another user's.
    #[error("{0} must be owned by this user and closed to others: a regular file with mode 0600, or a directory with 0700")]
    NotPrivate(PathBuf),
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
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that grows while it is read is noticed too.
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(wrap(path))?;
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
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits())
        .unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
            FileError::NotPrivate(path.to_owned())
        }
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
/// After a crash there is the old file or the new one, whole.
///
/// # Errors
/// The system refused; the old file is as it was.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let beside = beside(path);
    let written = (|| {
        // A file left by a crash is ours to replace; one that appears now is not.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_parent(path)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        wrap(path)(error)
    })
}

/// As [`write_private`], and refuses when the file exists.
///
/// # Errors
/// [`FileError::Exists`], or the system refused.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(wrap(path))?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_parent(path));
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        wrap(path)(error)
    })
}

/// Makes a directory with mode 0700, with its parents; one that exists must be this user's and closed to others.
///
/// # Errors
/// [`FileError::NotPrivate`], or the system refused.
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
        return Err(FileError::NotPrivate(path.to_owned()));
    }
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_private_file_is_replaced_whole_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_private(&path, 10).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(
            create_private(&path, b"three"),
            Err(FileError::Exists(_))
        ));
    }

    #[test]
    fn a_file_that_others_may_read_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read_private(&path, 10),
            Err(FileError::NotPrivate(_))
        ));
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(
            read_private(&link, 10),
            Err(FileError::NotPrivate(_))
        ));
    }

    #[test]
    fn a_file_past_its_bound_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        write_private(&path, &[0; 11]).unwrap();
        assert!(matches!(
            read_bounded(&path, 10),
            Err(FileError::TooLarge { limit: 10, .. })
        ));
        assert!(matches!(
            read_bounded(&dir.path().join("none"), 10),
            Err(FileError::Missing(_))
        ));
    }
}
