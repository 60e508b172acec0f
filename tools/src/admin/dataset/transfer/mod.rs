//! KEK material into a key server and out of it (`spec/vault.md`, section 6), and the files on its way.

mod export;
mod files;
mod import;

pub(crate) use export::ExportCommand;
pub(crate) use import::ImportCommand;

pub(super) use export::run as export;
pub(crate) use files::{free, keep_result};
pub(super) use import::run as import;
