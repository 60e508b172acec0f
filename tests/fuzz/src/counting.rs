//! How much a piece of work has in memory at once, counted by the thread that does it (rule ENC-2).

// An allocator cannot be put in the program's own one's place without it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts. A driver makes it the program's own.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// Memory of a thread that is ending is not counted: its counters are gone before it.
fn count(change: isize) {
    let _ = LIVE.try_with(|live| {
        live.set(live.get().wrapping_add(change));
        let _ = MOST.try_with(|most| most.set(most.get().max(live.get())));
    });
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: every call is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller's promise is the system allocator's demand.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-size(layout.size()));
        // SAFETY: it came from `alloc` above, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller's promise is the system allocator's demand.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // Old and new stand beside each other for a moment.
        count(size(new));
        count(-size(layout.size()));
        // SAFETY: it came from `alloc` above, with this layout.
        unsafe { System.realloc(at, layout, new) }
    }
}

/// The most that `work` had at once beyond what there was before it, in bytes; 0 where nothing counts.
pub fn most(work: impl FnOnce()) -> usize {
    let before = LIVE.with(Cell::get);
    MOST.with(|most| most.set(before));
    work();
    let most = MOST.with(Cell::get).wrapping_sub(before);
    usize::try_from(most).unwrap_or_default()
}
