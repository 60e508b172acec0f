//! The `postern` command.

pub mod output;
