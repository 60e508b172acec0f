//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use crate::{MAX_ENTRY_BYTES, format};

/// Why a log could not be opened or verified. Every message names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot open the audit log {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the audit log {} is in use by another process; stop that one first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A symbolic link, directory, device or the like.
    #[error("the audit log {} is not a plain file (symbolic links are refused); give the path of the file itself", path.display())]
    NotAPlainFile {
        /// The file.
        path: PathBuf,
    },
    /// The file belongs to another user.
    #[error("the audit log {} belongs to user {owner}, this program runs as user {user}; change the owner or the user", path.display())]
    NotOwner {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The process's effective user id.
        user: u32,
    },
    /// Group or others have access.
    #[error("the audit log {} has mode {mode:04o}, others may reach it; set it to 0600 (chmod 600) and ask who touched it", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Some other file.
    #[error("{} is not a Postern audit log; check the path", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// A log of another version.
    #[error("the audit log {} has format {found}, this program reads format {}; use the program that wrote it", path.display(), format::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
    },
    /// A record that was once durable is not what was written.
    #[error("the audit log {} is damaged at entry {index} (byte {offset}): {reason}; keep the file for the inquiry and restore a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Index of the first record that does not verify; all before it do.
        index: u64,
        /// Where that record begins, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why an entry was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// An entry of no bytes.
    #[error("an audit entry must not be empty")]
    Empty,
    /// An entry beyond [`MAX_ENTRY_BYTES`].
    #[error("an audit entry holds at most {MAX_ENTRY_BYTES} bytes, this one has {found}")]
    TooLong {
        /// Its bytes.
        found: usize,
    },
    /// The act id already stands in the log, with another entry.
    #[error("the act id already names audit entry {index}, which is another one")]
    ActIdTaken {
        /// The entry that has it.
        index: u64,
    },
    /// The disk refused (for example: full) and nothing of the entry is kept. Safe to retry.
    #[error("the audit entry was not written: {reason}")]
    NotWritten {
        /// What the disk said.
        reason: String,
    },
    /// The disk failed in a way after which this process cannot know what is on it; the entry may have
    /// been kept. Only a new start, which verifies the file, can go on.
    #[error("the audit log must be reopened, restart this program: {reason}")]
    MustReopen {
        /// What happened.
        reason: String,
    },
    /// [`AuditLog::close`](crate::AuditLog::close) was called.
    #[error("the audit log is closed")]
    Closed,
}

/// Why a record could not be read back from an open log.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot read the audit log: {0}")]
    Io(#[from] io::Error),
    /// The record changed since the log was opened.
    #[error("the audit log is damaged at entry {index} (byte {offset}): {reason}")]
    Damaged {
        /// Index of the record.
        index: u64,
        /// Where it begins, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}
