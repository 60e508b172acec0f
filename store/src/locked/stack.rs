//! Erasing what a computation leaves on the stack.

use std::hint::black_box;

/// Does it, and overwrites the stack that it used, as far as `ROOM` bytes: a secret that is moved, or a
/// cipher's key schedule, leaves copies there that nothing else erases (MEM-1). What is returned is the
/// caller's to look after.
#[inline(never)]
pub fn erasing_stack<const ROOM: usize, T>(work: impl FnOnce() -> T) -> T {
    // rule: MEM-1
    let done = deeper(work);
    zeroize::zeroize_stack::<ROOM>();
    done
}

/// Says that whoever has it works on a stack that is erased behind it: only [`on_scratch`] gives it.
#[derive(Debug)]
pub struct Scratch(());

/// Does much on one stack, and erases that once: what uses a secret for each of many things asks for the
/// [`Scratch`] in place of erasing behind each use.
pub fn on_scratch<const ROOM: usize, T>(work: impl FnOnce(&Scratch) -> T) -> T {
    // rule: MEM-1
    erasing_stack::<ROOM, _>(|| work(&Scratch(())))
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
