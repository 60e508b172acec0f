//! Erasing what a computation leaves on the stack.

use std::hint::black_box;

use zeroize::Zeroize;

/// Does it, and overwrites the stack that it used, as far as `ROOM` bytes: a secret that is moved, or a
/// cipher's key schedule, leaves copies there that nothing else erases (MEM-1). What is returned is the
/// caller's to look after.
#[inline(never)]
pub fn erasing_stack<const ROOM: usize, T>(work: impl FnOnce() -> T) -> T {
    // rule: MEM-1
    let done = deeper(work);
    erase::<ROOM>();
    done
}

/// A frame between, so that what is erased begins above what was used.
#[inline(never)]
fn deeper<T>(work: impl FnOnce() -> T) -> T {
    black_box(run(black_box(work)))
}

#[inline(never)]
fn run<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn erase<const ROOM: usize>() {
    let mut room = [0_u8; ROOM];
    black_box(&mut room).zeroize();
    black_box(&room);
}
