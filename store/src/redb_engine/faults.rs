//! Disk failures on demand, for the tests of this engine.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// Errors (errno) that the disk gives from now on; 0 for none.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) on_read: AtomicI32,
    pub(super) on_write: AtomicI32,
    pub(super) on_sync: AtomicI32,
    /// Writes that still succeed; the one after them fails, those after that succeed again.
    pub(super) writes_left: AtomicI32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            on_read: AtomicI32::new(0),
            on_write: AtomicI32::new(0),
            on_sync: AtomicI32::new(0),
            writes_left: AtomicI32::new(i32::MAX),
        }
    }
}

impl Faults {
    pub(super) fn read(&self) -> io::Result<()> {
        raise(self.on_read.load(SeqCst))
    }

    pub(super) fn write(&self) -> io::Result<()> {
        raise(self.on_write.load(SeqCst))?;
        match self.writes_left.fetch_sub(1, SeqCst) {
            0 => raise(rustix::io::Errno::NOSPC.raw_os_error()),
            _ => Ok(()),
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        raise(self.on_sync.load(SeqCst))
    }
}

fn raise(errno: i32) -> io::Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
