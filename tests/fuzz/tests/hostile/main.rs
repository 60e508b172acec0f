//! What the workspace's tests give to every target: bounded, and the same each time.

mod fields;
mod mutations;
mod nesting;

use fuzz::counting::Counting;

#[global_allocator]
static MEMORY: Counting = Counting;
