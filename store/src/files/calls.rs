//! The calls to the system that a disk may fail at. Each passes a point where the tests of this crate let it
//! fail; in every other build there is nothing there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Read,
    Create,
    Write,
    Sync,
    Rename,
    SyncDirectory,
    Remove,
}

#[cfg(test)]
use super::tests::faults::may_fail;

#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "as it is in tests")]
fn may_fail(_: Call) -> io::Result<()> {
    Ok(())
}

/// Reads all that there is.
pub(super) fn read_to_end(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<()> {
    may_fail(Call::Read)?;
    from.read_to_end(into).map(drop)
}

/// Makes a private file that is not there.
pub(super) fn create(path: &Path) -> io::Result<File> {
    may_fail(Call::Create)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Writes all of it.
pub(super) fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    may_fail(Call::Write).inspect_err(|_| {
        // A disk that is full takes what still fits.
        let _ = file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default());
    })?;
    file.write_all(bytes)
}

/// Writes all that can be read.
pub(super) fn copy(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    may_fail(Call::Write)?;
    io::copy(from, to).map(drop)
}

/// Makes a file's bytes durable.
pub(super) fn sync(file: &File) -> io::Result<()> {
    may_fail(Call::Sync)?;
    file.sync_all()
}

/// Gives a file another's name.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    may_fail(Call::Rename)?;
    fs::rename(from, to)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    may_fail(Call::SyncDirectory)?;
    File::open(path)?.sync_all()
}

/// Removes a file.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    may_fail(Call::Remove)?;
    fs::remove_file(path)
}

/// Removes a directory that is empty.
pub(super) fn remove_dir(path: &Path) -> io::Result<()> {
    may_fail(Call::Remove)?;
    fs::remove_dir(path)
}
