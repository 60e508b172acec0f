//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

use crate::MAX_ENTRY_BYTES;
use crate::journal::format;

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
        /// The directory or file.
        path: PathBuf,
    },
    /// A symbolic link, directory, device or the like.
    #[error("the audit log {} is not a plain file or directory (symbolic links are refused); give the path of the thing itself", path.display())]
    NotAPlainFile {
        /// The file.
        path: PathBuf,
    },
    /// Something else where the log's directory should be.
    #[error("the audit log {} is not a directory; move away what is there", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It belongs to another user.
    #[error("the audit log {} belongs to user {owner}, this program runs as user {user}; change the owner or the user", path.display())]
    NotOwner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The process's effective user id.
        user: u32,
    },
    /// Group or others have access.
    #[error("the audit log {} has mode {mode:04o}, others may reach it; set it to {wanted:04o} (chmod {wanted:o}) and ask who touched it", path.display())]
    NotPrivate {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
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
    /// The journal of another log or shard.
    #[error("the audit log {} is {found}, not {expected}; put back the directory of this server", path.display())]
    OtherLog {
        /// The journal.
        path: PathBuf,
        /// The shard that it names.
        found: String,
        /// The shard that it should be.
        expected: String,
    },
    /// A checkpoint is not signed by this log's keys.
    #[error("the checkpoint in {} does not verify with this log's keys ({reason}); the log or the keys were swapped: put back what belongs together", path.display())]
    OtherKey {
        /// Where the checkpoint stands.
        path: PathBuf,
        /// What does not verify.
        reason: String,
    },
    /// What was once durable is not what was written.
    #[error("the audit log {} is damaged at entry {index} (byte {offset}): {reason}; keep the file for the inquiry and restore a copy", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Index in the log of the first entry that does not verify; all before it do.
        index: u64,
        /// Where it begins, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of a shard is gone or is not what it was.
    #[error("shard {shard} of the audit log {} is damaged: {reason}; keep the directory for the inquiry and restore a copy", path.display())]
    Shard {
        /// The file or directory.
        path: PathBuf,
        /// The shard's number.
        shard: u64,
        /// What is wrong.
        reason: String,
    },
    /// A shard is closed and the options say nothing of what begins the next.
    #[error("the last shard of the audit log {} is closed, and this program cannot begin another", path.display())]
    NoShardEntries {
        /// The log.
        path: PathBuf,
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
    /// been kept. Only a new start, which verifies the log, can go on.
    #[error("the audit log must be reopened, restart this program: {reason}")]
    MustReopen {
        /// What happened.
        reason: String,
    },
    /// [`AuditLog::close`](crate::AuditLog::close) was called.
    #[error("the audit log is closed")]
    Closed,
}

/// Why something could not be read back or proven from an open log.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot read the audit log: {0}")]
    Io(#[from] io::Error),
    /// There is no such entry, or not yet.
    #[error("the audit log has no entry {index}; it holds {entries}")]
    NotThere {
        /// The index asked for.
        index: u64,
        /// Entries of the log.
        entries: u64,
    },
    /// The entry was removed with its shard, as the retention says.
    #[error("entry {index} of the audit log was removed with shard {shard}, as its retention says")]
    Pruned {
        /// The index asked for.
        index: u64,
        /// Its shard.
        shard: u64,
    },
    /// The checkpoint given is not of a shard of this log, or of another size than the shard can prove.
    #[error("the checkpoint is not one of this log's: {reason}")]
    OtherCheckpoint {
        /// Why.
        reason: String,
    },
    /// Something changed since the log was opened.
    #[error("the audit log is damaged at entry {index}: {reason}")]
    Damaged {
        /// Index of the entry in the log.
        index: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Why this log is not shown to go on from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ConsistencyError {
    /// No shard of this log has that name.
    #[error("the checkpoint names {shard}, which is no shard of this log")]
    Unknown {
        /// The shard that it names.
        shard: String,
    },
    /// The proof would need what the retention removed.
    #[error("shard {shard} of this log was removed, as its retention says")]
    Pruned {
        /// The shard.
        shard: u64,
    },
    /// The checkpoint is ahead of this log: this log lost entries.
    #[error(
        "the checkpoint has {theirs} entries of {shard}, this log only {ours}: it was rolled back"
    )]
    Behind {
        /// The shard.
        shard: String,
        /// Size in the checkpoint.
        theirs: u64,
        /// Size here.
        ours: u64,
    },
    /// The checkpoint is of another history.
    #[error("the checkpoint of {shard} at size {size} is of another history: the log was forked")]
    Fork {
        /// The shard.
        shard: String,
        /// Size in the checkpoint.
        size: u64,
    },
    /// The log could not be read.
    #[error(transparent)]
    Read(ReadError),
}

impl From<ReadError> for ConsistencyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Pruned { shard, .. } => Self::Pruned { shard },
            other => Self::Read(other),
        }
    }
}
