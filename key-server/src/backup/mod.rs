//! Backups of a key server (`spec/vault.md`, section 5): made while it serves, opened by the root key alone,
//! and put in its place on a machine where nothing of it is.
//!
//! ```text
//! snapshot of the store, key files, log -> frames -> chunks sealed under the file key -> one file
//! one file -> a directory beside the data directory -> checked whole -> renamed into place
//! ```

mod checks;
pub mod collect;
pub mod command;
mod frame;
mod lay;
mod make;
mod restore;
mod seal;

use std::path::{Path, PathBuf};

use store::files::FileError;
use store::root::RootError;
use ticket_format::backup::NotABackup;
use ticket_format::statement::StatementRefusal;

pub use checks::Checked;
pub use make::{Made, Sources, write};
pub use restore::{Restored, Wanted, restore, verify};

/// Why a backup is not made, or not put in place. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The file is none.
    #[error("{path}: {error}")]
    NotABackup {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: NotABackup,
    },
    /// The root key's wraps, or opening them.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Another root key, or a header that was changed.
    #[error("the root key does not open it: it is of another root key, or its header was changed")]
    Key,
    /// A chunk.
    #[error(
        "part {0} of it does not open: the file is damaged or cut short, or its parts were exchanged"
    )]
    Chunk(u64),
    /// What opens has not the shape of a backup.
    #[error("it opens, and is no backup of this version: {0}")]
    Shape(&'static str),
    /// What is in it does not hold together.
    #[error("it does not hold together: {0}")]
    Content(String),
    /// The statement.
    #[error("the statement does not count: {0}")]
    Statement(#[from] StatementRefusal),
    /// The statement is of something else.
    #[error("the statement is not of this backup: {0}")]
    OtherStatement(&'static str),
    /// Another restore or trial works there.
    #[error("another restore or trial is at work in {0}: wait for it, or end it")]
    Busy(PathBuf),
    /// The store.
    #[error("the store: {0}")]
    Store(String),
    /// There is something where it is to go.
    #[error("{0} is not empty: a backup is put where nothing is")]
    NotEmpty(PathBuf),
}

impl BackupError {
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

impl From<store::Error> for BackupError {
    fn from(error: store::Error) -> Self {
        Self::Store(error.to_string())
    }
}

/// Called before each step that changes the disk, with its name; where it fails, nothing more is done.
pub type Step<'a> = &'a mut (dyn FnMut(&'static str) -> Result<(), BackupError> + Send);
