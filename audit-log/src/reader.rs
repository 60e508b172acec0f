//! Reading records back.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::format::LogId;
use crate::scan::{Item, Position, ScanError, Scanner};
use crate::{ActId, Chain, ReadError};

/// One record of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place, from 0.
    pub index: u64,
    /// The act it records, if it was appended with [`AuditLog::append_once`](crate::AuditLog::append_once).
    pub act_id: Option<ActId>,
    /// The chain at this record.
    pub chain: Chain,
    /// The entry as appended.
    pub entry: Vec<u8>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("index", &self.index)
            .field("act_id", &self.act_id)
            .field("entry_bytes", &self.entry.len())
            .finish_non_exhaustive()
    }
}

/// Iterator over durable records, in order, each verified against the chain. Holds one record in
/// memory. It does blocking I/O: use it from `spawn_blocking`. Ends after the first error.
pub struct Reader {
    scanner: Scanner<BufReader<Window>>,
    from: u64,
    ended: bool,
}

impl Reader {
    /// Reads from a position at or before record `from` to the byte `end`.
    pub(crate) fn new(file: Arc<File>, id: LogId, at: Position, from: u64, end: u64) -> Self {
        let window = Window {
            file,
            offset: at.offset,
            end,
        };
        Self {
            scanner: Scanner::resume(BufReader::with_capacity(64 * 1024, window), id, at),
            from,
            ended: false,
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.scanner.next() {
                Ok(Some(Item::Record(record))) if record.index >= self.from => {
                    return Some(Ok(record));
                }
                Ok(Some(_)) => {}
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    let Position {
                        offset,
                        entries: index,
                        ..
                    } = self.scanner.at;
                    return Some(Err(match error {
                        ScanError::Io(error) => ReadError::Io(error),
                        ScanError::Broken(reason) => ReadError::Damaged {
                            index,
                            offset,
                            reason: reason.to_owned(),
                        },
                        // Only said of a header, which a scan from the middle does not read.
                        ScanError::NotALog | ScanError::Version(_) => ReadError::Damaged {
                            index,
                            offset,
                            reason: "its header changed".to_owned(),
                        },
                    }));
                }
            }
        }
        None
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// A part of the file, read by position, so that readers do not move each other.
struct Window {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Read for Window {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let wanted = out.len().min(left);
        let read = self.file.read_at(&mut out[..wanted], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
