//! Where a log to verify comes from.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::disk;

/// The files of a log, wherever they are: a directory, a copy, a web server.
pub trait Source {
    /// A whole file, by its path relative to the log's directory (`1/tile/0/000`); `None` if there is
    /// none. What is longer than 16 MiB may be refused.
    ///
    /// # Errors
    /// It cannot be told whether there is one, or it cannot be read.
    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// The numbers of the shards that are there; `None` if that can only be found out by asking for
    /// their checkpoints.
    ///
    /// # Errors
    /// The list cannot be read.
    fn shards(&self) -> io::Result<Option<Vec<u64>>> {
        Ok(None)
    }

    /// The journal of a shard, if it is there: only where the log itself is. With its path, for people.
    ///
    /// # Errors
    /// It is there and cannot be opened.
    fn journal(&self, _shard: u64) -> io::Result<Option<(PathBuf, File)>> {
        Ok(None)
    }
}

/// The directory of a log, or a copy of it. Opened for reading only, without a lock and without a look at
/// owner and mode.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The log in a directory.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
        }
    }
}

impl Source for Folder {
    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        disk::read(&self.path.join(path))
    }

    fn shards(&self) -> io::Result<Option<Vec<u64>>> {
        let mut numbers = Vec::new();
        for name in disk::list(&self.path)? {
            let number = name.parse::<u64>().ok();
            let Some(number) = number.filter(|number| *number > 0 && number.to_string() == name)
            else {
                continue;
            };
            let names = disk::list(&self.path.join(&name))?;
            // Without any of them it is what a crash left of a shard that was about to begin.
            let begun = |name: &String| ["journal", "checkpoint", "tile"].contains(&name.as_str());
            if names.iter().any(begun) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(Some(numbers))
    }

    fn journal(&self, shard: u64) -> io::Result<Option<(PathBuf, File)>> {
        let path = self.path.join(crate::shard::path(shard, "journal"));
        let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&path);
        match opened {
            Ok(file) => Ok(Some((path, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
