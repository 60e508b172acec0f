//! Secrets that stay where they are: in pages that no core file, no swap and no fork holds (MEM-1).
//!
//! Where the kernel has `memfd_secret` the pages are also out of the kernel's own map and of every
//! other process's reach, root's tools included. Otherwise they are ordinary pages, locked and left out
//! of core files. Secrets share pages: each takes one slot of 64 bytes, so 256 KEK versions of two keys
//! each take 32 KiB, well below the usual limit of locked memory (8 MiB).
//!
//! What a computation copies out (key schedules, a cipher's state) is on the stack or heap of the
//! thread for as long as it runs: it is in no core file and no other process of the user reads it
//! ([`crate::harden`]), but it is not in these pages. [`erasing_stack`] erases it behind the computation.

mod pages;
mod stack;

use std::fmt;
use std::ops::Deref;

use subtle::ConstantTimeEq;

pub use pages::Room;
use pages::Slot;
pub use stack::{Scratch, erasing_stack, on_scratch};

/// The most bytes that a locked secret can have.
pub const MOST: usize = pages::SLOT;

/// A secret of `N` bytes, 64 at most, in locked pages. Erased on drop.
pub struct Locked<const N: usize>(Slot);

impl<const N: usize> Locked<N> {
    const FITS: () = assert!(N <= MOST, "a locked secret has 64 bytes at most");

    /// Zeros, to be written to.
    #[must_use]
    pub fn zeroed() -> Self {
        // rule: MEM-1
        let () = Self::FITS;
        Self(Slot::take())
    }

    /// A copy of these bytes; the caller's own is the caller's to erase.
    #[must_use]
    pub fn copied(bytes: &[u8; N]) -> Self {
        Self::fill(|locked| locked.copy_from_slice(bytes))
    }

    /// What the closure writes, which is nowhere else.
    #[must_use]
    pub fn fill(write: impl FnOnce(&mut [u8; N])) -> Self {
        let mut locked = Self::zeroed();
        write(locked.expose_mut());
        locked
    }

    /// The bytes, for the one who uses them.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        self.0.bytes()
    }

    /// The bytes, for the one who writes them.
    #[must_use]
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        self.0.bytes_mut()
    }
}

/// What the kernel gave for the pages that secrets are in, the worst so far: for the log.
#[must_use]
pub fn room() -> Room {
    pages::room()
}

impl<const N: usize> Clone for Locked<N> {
    fn clone(&self) -> Self {
        Self::copied(self)
    }
}

impl<const N: usize> Deref for Locked<N> {
    type Target = [u8; N];

    fn deref(&self) -> &[u8; N] {
        self.expose()
    }
}

impl<const N: usize> PartialEq for Locked<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice().ct_eq(other.as_slice()).into()
    }
}

impl<const N: usize> Eq for Locked<N> {}

impl<const N: usize> fmt::Debug for Locked<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(..)")
    }
}

#[cfg(test)]
mod tests;
