//! What a backup holds of a log: enough that it opens elsewhere and goes on.

use std::io;
use std::sync::Arc;

use ticket_format::tlog::SignedCheckpoint;

use crate::disk::LogFile;
use crate::shard::{self, Live, Shard};
use crate::{AuditLog, SideFile};

/// How often the moment is waited for at which the last shard is open.
const TRIES: usize = 1_000;

/// The log as it stood at one instant, to be read out while it goes on: the journals of its last two shards
/// and the last checkpoint of each shard before them. It opens as a log does whose retention removed the
/// entries of those ([`AuditLog::open`]).
pub struct LogCopy {
    /// Its files, by their paths in the log's directory.
    pub files: Vec<CopiedFile>,
    /// Where it stood.
    pub checkpoint: SignedCheckpoint,
    /// Entries of the whole log.
    pub entries: u64,
    /// Shards whose entries are not in it.
    pub left_out: u64,
}

/// One file of a copy.
pub struct CopiedFile {
    /// Its path, with `/` between the parts.
    pub path: String,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    /// Bytes of the journal up to a seal: they stay as they are.
    Journal(Arc<dyn LogFile>, u64),
}

impl std::fmt::Debug for CopiedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CopiedFile({}, {} bytes)", self.path, self.length())
    }
}

impl std::fmt::Debug for LogCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogCopy")
            .field("files", &self.files)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl CopiedFile {
    /// Its length, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Journal(_, length) => *length,
        }
    }

    /// Gives its bytes to `each`, in order. Blocking I/O.
    ///
    /// # Errors
    /// It cannot be read, or what `each` says.
    pub fn read(&self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (file, length) = match &self.content {
            Content::Bytes(bytes) => return each(bytes),
            Content::Journal(file, length) => (file, *length),
        };
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while at < length {
            let most = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
            match file.read_at(&mut buffer[..most], at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    each(&buffer[..read])?;
                    at += read as u64;
                }
            }
        }
        Ok(())
    }
}

const PIECE: usize = 64 * 1024;

impl AuditLog {
    /// The log as it stands: all that is durable when this is called. Takes no time that grows with it.
    ///
    /// # Errors
    /// The last shard stays closed: the next could not be begun, as on a full disk.
    pub fn copy(&self) -> io::Result<LogCopy> {
        // rule: BAK-1
        for _ in 0..TRIES {
            if let Some(copy) = self.copied() {
                return Ok(copy);
            }
            // Between two shards. (TLOG-4)
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Err(io::Error::other(
            "the log's last shard is closed and the next is not begun",
        ))
    }

    /// None where the last shard is closed: a log that is opened so begins the next by itself, and what it
    /// was copied from begins another one of the same name.
    fn copied(&self) -> Option<LogCopy> {
        let shards = self.shared.shards();
        let (open, closed) = shards.split_last()?;
        let (last, checkpoint, entries) = {
            let live = open.live();
            if live.closed {
                return None;
            }
            let entries = open.before + live.size;
            (journal(open, &live)?, live.checkpoint.clone(), entries)
        };
        let mut files = Vec::new();
        let mut left_out = 0;
        for (place, shard) in closed.iter().enumerate() {
            let live = shard.live();
            if place + 1 == closed.len() {
                // The one before the open shard is kept; a recovery leaves it without a closing seal.
                files.push(journal(shard, &live)?);
            } else {
                left_out += 1;
                files.push(CopiedFile {
                    path: shard::path(shard.number(), "checkpoint"),
                    content: Content::Bytes(live.checkpoint.note().as_bytes().to_vec()),
                });
            }
        }
        files.push(last);
        Some(LogCopy {
            files,
            checkpoint,
            entries,
            left_out,
        })
    }
}

fn journal(shard: &Shard, live: &Live) -> Option<CopiedFile> {
    let kept = live.kept.as_ref()?;
    Some(CopiedFile {
        path: shard::path(shard.number(), "journal"),
        content: Content::Journal(Arc::clone(&kept.journal.file), kept.at.offset),
    })
}

impl SideFile {
    /// The bytes of the side file that are written by now: they stay as they are.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.end()
    }

    /// Gives so many of its first bytes to `each`, in order. Blocking I/O.
    ///
    /// # Errors
    /// It cannot be read, or what `each` says.
    pub fn read(
        &self,
        length: u64,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while at < length {
            let most = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
            self.read_at(&mut buffer[..most], at)?;
            each(&buffer[..most])?;
            at += most as u64;
        }
        Ok(())
    }
}
