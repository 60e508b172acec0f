//! The pages: regions of 64 KiB, cut into slots. The only module with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
#[cfg(test)]
use rustix::mm::munmap;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous};
use zeroize::Zeroize as _;

/// Bytes of a slot: a cache line.
pub(super) const SLOT: usize = 64;
/// Bytes of a region: a multiple of every page size in use.
pub(super) const REGION: usize = 64 * 1024;

/// What secrets are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Pages of `memfd_secret`: locked, and in nobody's view but this process's own.
    Secret,
    /// Ordinary pages: locked, in no core file, not inherited by fork.
    Locked,
    /// Pages that could not be locked, and may reach swap: in no core file, not inherited by fork.
    Ordinary,
}

struct Regions {
    /// Slots that hold nothing.
    free: Vec<NonNull<[u8; SLOT]>>,
    room: Option<Room>,
}

// SAFETY: the addresses are of mappings that last as long as the process and belong to no thread.
unsafe impl Send for Regions {}

static REGIONS: Mutex<Regions> = Mutex::new(Regions {
    free: Vec::new(),
    room: None,
});

fn regions() -> MutexGuard<'static, Regions> {
    // No half-done change can be seen: each is one push or pop.
    REGIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One slot, this value's alone until it is dropped.
pub(super) struct Slot(NonNull<[u8; SLOT]>);

// SAFETY: a slot owns its 64 bytes as a box would; nothing else points to them.
unsafe impl Send for Slot {}
// SAFETY: shared references read only.
unsafe impl Sync for Slot {}

impl Slot {
    /// A slot of zeros. A system that has no memory left at all ends the process, as for any allocation.
    pub(super) fn take() -> Self {
        let mut regions = regions();
        if regions.free.is_empty() {
            regions.grow();
        }
        match regions.free.pop() {
            Some(slot) => Self(slot),
            None => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; REGION]>()),
        }
    }

    pub(super) fn bytes<const N: usize>(&self) -> &[u8; N] {
        const { assert!(N <= SLOT) };
        // SAFETY: the slot is mapped for ever, initialized, at least N bytes, and borrowed with `self`.
        unsafe { self.0.cast::<[u8; N]>().as_ref() }
    }

    pub(super) fn bytes_mut<const N: usize>(&mut self) -> &mut [u8; N] {
        const { assert!(N <= SLOT) };
        // SAFETY: as above, and borrowed mutably with `self`.
        unsafe { self.0.cast::<[u8; N]>().as_mut() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bytes_mut::<SLOT>().zeroize();
        regions().free.push(self.0);
    }
}

impl Regions {
    /// Maps one region more. Regions are never given back: what was a slot stays one.
    fn grow(&mut self) {
        let Some((start, room)) = region() else {
            return;
        };
        if self.room.is_none_or(|worst| room > worst) {
            self.room = Some(room);
        }
        for at in (0..REGION / SLOT).rev() {
            // SAFETY: within the region, which is REGION bytes long.
            self.free
                .push(unsafe { start.cast::<[u8; SLOT]>().add(at) });
        }
    }
}

/// What the regions are; the first is made to find out where none is yet.
pub(super) fn room() -> Room {
    let mut regions = regions();
    if regions.room.is_none() {
        regions.grow();
    }
    regions.room.unwrap_or(Room::Ordinary)
}

fn region() -> Option<(NonNull<c_void>, Room)> {
    let (start, room) = secret()
        .map(|start| (start, Room::Secret))
        .or_else(|_| ordinary())
        .ok()?;
    let start = NonNull::new(start)?;
    // A child has nothing to do with them. Memory of `memfd_secret` is in no core file anyway, and
    // these refuse nothing on an ordinary mapping; a kernel without them is no reason not to serve.
    // SAFETY: the region was just mapped, REGION bytes long; neither advice changes its content.
    unsafe {
        let _ = madvise(start.as_ptr(), REGION, Advice::LinuxDontFork);
        let _ = madvise(start.as_ptr(), REGION, Advice::LinuxDontDump);
    }
    Some((start, room))
}

/// A region of `memfd_secret`; the kernel locks it by itself, and counts it.
fn secret() -> Result<*mut c_void, Errno> {
    let cloexec = libc::c_uint::try_from(libc::O_CLOEXEC).map_err(|_| Errno::INVAL)?;
    // SAFETY: the call takes flags and touches no memory of ours.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, cloexec) };
    let number = i32::try_from(number).map_err(|_| Errno::INVAL)?;
    if number < 0 {
        return Err(last_error());
    }
    // SAFETY: the kernel just made it for us alone.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::fs::ftruncate(&file, REGION as u64)?;
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping at an address that the kernel chooses; it outlives the descriptor.
    unsafe { mmap(std::ptr::null_mut(), REGION, access, flags, &file, 0) }
}

/// A region of ordinary pages, locked if that is allowed.
fn ordinary() -> Result<(*mut c_void, Room), Errno> {
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), REGION, access, flags)? };
    // SAFETY: the region was just mapped, REGION bytes long.
    match unsafe { mlock(start, REGION) } {
        Ok(()) => Ok((start, Room::Locked)),
        Err(_) => Ok((start, Room::Ordinary)),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Maps and unmaps a region of each kind: which of them this kernel has.
#[cfg(test)]
pub(super) fn kinds() -> (bool, Room) {
    let secret = secret();
    let (plain, room) = ordinary().expect("memory");
    // SAFETY: both were mapped here, REGION bytes long, and nothing points to them.
    unsafe {
        munmap(plain, REGION).expect("unmapped");
        if let Ok(start) = secret {
            munmap(start, REGION).expect("unmapped");
        }
    }
    (secret.is_ok(), room)
}
