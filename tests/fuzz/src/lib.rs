//! Hostile bytes for every decoder and every handler (LESSONS: fuzz what a stranger can send).
//!
//! A *target* is a function of bytes: it gives them to our code and says, by panicking, when what came back
//! must never be. Two drivers run the same targets: `cargo test -p postern-fuzz` with a seed and a bounded
//! number of inputs, and `tools/fuzz`, which is led by coverage. README.md says how.

// A target says what must never be by panicking: that is what a driver looks for.
#![allow(clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

pub mod counting;
pub mod der;
pub mod drive;
pub mod mutate;
pub mod nest;
pub mod rng;
pub mod targets;
pub mod text;
pub mod tree;
pub mod vectors;
pub mod world;
