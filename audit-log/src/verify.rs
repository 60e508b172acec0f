//! Verifying a file without opening it for writing, and judging what is broken in it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::format::LogId;
use crate::reader::Record;
use crate::scan::{self, Item, Position, ScanError, Scanner, TornTail};
use crate::{Chain, OpenError};

/// What [`verify`] found in a log whose every record is as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of records.
    pub entries: u64,
    /// Records before the last seal. All of them after [`AuditLog::close`](crate::AuditLog::close).
    pub sealed: u64,
    /// Chain at the last record; compare it with a copy kept elsewhere. The chain's start when empty.
    pub head: Chain,
    /// Bytes after the last record that are no record: an interrupted write, or damage to the last seal.
    pub torn: Option<TornTail>,
}

/// Verifies every record of the log at `path`, which may be a copy. Opens it for reading only, takes no
/// lock and does not look at owner and mode. Bounded memory; time in proportion to the file.
///
/// # Errors
/// [`OpenError::Io`], [`OpenError::NotALog`], [`OpenError::Version`], or [`OpenError::Damaged`] with the
/// first record that does not verify.
pub fn verify(path: impl AsRef<Path>) -> Result<Summary, OpenError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| OpenError::io(path, source))?;
    let scanned = scan(&file, path, |_, _| {})?;
    Ok(Summary {
        entries: scanned.at.entries,
        sealed: scanned.sealed,
        head: scanned.at.chain,
        torn: scanned.torn,
    })
}

pub(crate) struct Scanned {
    pub(crate) id: LogId,
    /// After the last whole item.
    pub(crate) at: Position,
    pub(crate) sealed: u64,
    pub(crate) torn: Option<TornTail>,
}

/// Scans the whole file and shows each record with the position before it.
pub(crate) fn scan(
    file: &File,
    path: &Path,
    mut each: impl FnMut(&Position, Record),
) -> Result<Scanned, OpenError> {
    let io = |source| OpenError::io(path, source);
    let length = file.metadata().map_err(io)?.len();
    let mut start = file;
    start.seek(SeekFrom::Start(0)).map_err(io)?;
    // Stops at the length seen first, should someone append meanwhile.
    let source = BufReader::with_capacity(256 * 1024, file.take(length));
    let mut scanner = Scanner::start(source).map_err(|error| match error {
        ScanError::Io(source) => io(source),
        ScanError::Version(found) => OpenError::Version {
            path: path.to_owned(),
            found,
        },
        ScanError::NotALog | ScanError::Broken(_) => OpenError::NotALog {
            path: path.to_owned(),
        },
    })?;
    let reason = loop {
        let before = scanner.at.clone();
        match scanner.next() {
            Ok(Some(Item::Record(record))) => each(&before, record),
            Ok(Some(Item::Seal)) => {}
            Ok(None) => break None,
            Err(ScanError::Io(source)) => return Err(io(source)),
            Err(ScanError::Broken(reason)) => break Some(reason),
            Err(ScanError::NotALog | ScanError::Version(_)) => break Some("it is malformed"),
        }
    };
    let (id, at, sealed) = (scanner.id, scanner.at, scanner.sealed);
    let Some(reason) = reason else {
        return Ok(Scanned {
            id,
            at,
            sealed,
            torn: None,
        });
    };
    let bytes = length - at.offset;
    if bytes > scan::MAX_TAIL_BYTES || sealed_behind(file, &id, at.offset, bytes).map_err(io)? {
        return Err(OpenError::Damaged {
            path: path.to_owned(),
            index: at.entries,
            offset: at.offset,
            reason: reason.to_owned(),
        });
    }
    let torn = TornTail {
        entries: at.entries,
        offset: at.offset,
        bytes,
    };
    Ok(Scanned {
        at,
        sealed,
        torn: Some(torn),
        id,
    })
}

/// Whether what comes after `offset` was once durable.
fn sealed_behind(mut file: &File, id: &LogId, offset: u64, bytes: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(offset))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    Ok(scan::holds_seal(&tail, id))
}
