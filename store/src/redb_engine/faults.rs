//! Disk failures on demand, for the tests of this engine.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// Errors (errno) that the disk gives from now on; 0 for none.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) on_read: AtomicI32,
    pub(super) on_write: AtomicI32,
    pub(super) on_sync: AtomicI32,
}

impl Faults {
    pub(super) fn read(&self) -> io::Result<()> {
        raise(&self.on_read)
    }

    pub(super) fn write(&self) -> io::Result<()> {
        raise(&self.on_write)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        raise(&self.on_sync)
    }
}

fn raise(errno: &AtomicI32) -> io::Result<()> {
    match errno.load(Ordering::SeqCst) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
