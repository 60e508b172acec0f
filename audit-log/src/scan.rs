//! Reading the file from front to back with bounded memory, verifying every record.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::format::{self, BYTES, CHAIN, ID, LogId, MAGIC, NULL, RECORD, SEAL, UNSIGNED};
use crate::reader::Record;
use crate::{Chain, MAX_ENTRY_BYTES};

/// More bytes than one batch and its seal can have: a longer broken tail is not from one torn write.
pub(crate) const MAX_TAIL_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes at the end of the file that an interrupted write left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Whole records before it.
    pub entries: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What the file holds next.
pub(crate) enum Item {
    Record(Record),
    Seal,
}

#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    /// The header is another one.
    NotALog,
    Version(u64),
    /// The item that begins at the scanner's offset is wrong or cut short.
    Broken(&'static str),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Broken("the file ends inside it"),
            _ => Self::Io(error),
        }
    }
}

/// Where a scan stands: everything before was verified.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    /// Bytes before.
    pub(crate) offset: u64,
    /// Records before.
    pub(crate) entries: u64,
    /// Chain of the last record before.
    pub(crate) chain: Chain,
}

pub(crate) struct Scanner<R> {
    source: Counted<R>,
    pub(crate) id: LogId,
    pub(crate) at: Position,
    /// Records before the last seal.
    pub(crate) sealed: u64,
}

/// Counts what was read, so that the position can move by whole items.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl<R: Read> Scanner<R> {
    /// Starts at the front: reads the header.
    pub(crate) fn start(source: R) -> Result<Self, ScanError> {
        let mut source = Counted {
            inner: source,
            bytes: 0,
        };
        let id = source.header().map_err(|error| match error {
            ScanError::Broken(_) => ScanError::NotALog,
            other => other,
        })?;
        let chain = format::genesis(&id);
        let at = Position {
            offset: source.bytes,
            entries: 0,
            chain,
        };
        Ok(Self {
            source,
            id,
            at,
            sealed: 0,
        })
    }

    /// Starts between two items; `source` gives the bytes from there on.
    pub(crate) fn resume(source: R, id: LogId, at: Position) -> Self {
        let source = Counted {
            inner: source,
            bytes: at.offset,
        };
        Self {
            source,
            id,
            at,
            sealed: 0,
        }
    }

    /// The next item, verified; `None` at the end. After an error the position is before the item.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, ScanError> {
        let item = match self.source.first()? {
            None => return Ok(None),
            Some(RECORD) => Item::Record(self.record()?),
            Some(SEAL) => {
                self.seal()?;
                Item::Seal
            }
            Some(_) => return Err(ScanError::Broken("it is neither a record nor a seal")),
        };
        self.at.offset = self.source.bytes;
        match &item {
            Item::Record(record) => {
                self.at.entries += 1;
                self.at.chain = record.chain;
            }
            Item::Seal => self.sealed = self.at.entries,
        }
        Ok(Some(item))
    }

    fn record(&mut self) -> Result<Record, ScanError> {
        let index = self.source.head(UNSIGNED)?;
        if index != self.at.entries {
            return Err(ScanError::Broken("its index is not the next one"));
        }
        let chain = self.source.chain_value()?;
        let act_id = match self.source.byte()? {
            NULL => None,
            ID => Some(self.source.array()?),
            _ => return Err(ScanError::Broken("its act id is malformed")),
        };
        let length = self.source.head(BYTES)?;
        let length = match usize::try_from(length) {
            Ok(length @ 1..=MAX_ENTRY_BYTES) => length,
            _ => return Err(ScanError::Broken("the length of its entry is not allowed")),
        };
        let mut entry = vec![0; length];
        self.source.read_exact(&mut entry)?;
        let entry_hash = Sha256::digest(&entry).into();
        if chain != format::chain(&self.at.chain, index, act_id.as_ref(), &entry_hash) {
            return Err(ScanError::Broken("its chain does not match its contents"));
        }
        Ok(Record {
            index,
            act_id,
            chain,
            entry,
        })
    }

    fn seal(&mut self) -> Result<(), ScanError> {
        let entries = self.source.head(UNSIGNED)?;
        let chain = self.source.chain_value()?;
        let id = self.source.id()?;
        if entries != self.at.entries || chain != self.at.chain || id != self.id {
            return Err(ScanError::Broken(
                "the seal after the entry before it does not match",
            ));
        }
        Ok(())
    }
}

impl<R: Read> Counted<R> {
    fn first(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        loop {
            match self.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ScanError> {
        let mut out = [0; N];
        self.read_exact(&mut out)?;
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8, ScanError> {
        Ok(self.array::<1>()?[0])
    }

    /// A head of the major type given, in its shortest form.
    fn head(&mut self, major: u8) -> Result<u64, ScanError> {
        let first = self.byte()?;
        if first & 0xe0 != major {
            return Err(ScanError::Broken("it is malformed"));
        }
        let (value, least) = match first & 0x1f {
            value @ 0..=23 => (u64::from(value), 0),
            24 => (u64::from(self.byte()?), 24),
            25 => (u64::from(u16::from_be_bytes(self.array()?)), 0x100),
            26 => (u64::from(u32::from_be_bytes(self.array()?)), 0x1_0000),
            27 => (u64::from_be_bytes(self.array()?), 0x1_0000_0000),
            _ => return Err(ScanError::Broken("it is malformed")),
        };
        if value < least {
            return Err(ScanError::Broken(
                "a number in it is not in its shortest form",
            ));
        }
        Ok(value)
    }

    fn chain_value(&mut self) -> Result<Chain, ScanError> {
        if self.array()? != CHAIN {
            return Err(ScanError::Broken("its chain is malformed"));
        }
        self.array()
    }

    fn id(&mut self) -> Result<LogId, ScanError> {
        match self.byte()? {
            ID => self.array(),
            _ => Err(ScanError::Broken("the id of the log in it is malformed")),
        }
    }

    fn header(&mut self) -> Result<LogId, ScanError> {
        if self.array()? != *MAGIC {
            return Err(ScanError::NotALog);
        }
        match self.head(UNSIGNED)? {
            format::VERSION => {}
            found => return Err(ScanError::Version(found)),
        }
        let id = self.id()?;
        let expected = format::header(&id);
        let mut rest = vec![0; expected.len().saturating_sub(self.bytes as usize)];
        self.read_exact(&mut rest)?;
        if expected.ends_with(&rest) {
            Ok(id)
        } else {
            Err(ScanError::NotALog)
        }
    }
}

/// Longest seal: array head, count of 9 bytes, chain and id with their heads.
const MAX_SEAL_BYTES: usize = 1 + 9 + 34 + 17;

/// Whether a seal of the log `id` stands behind the broken item with which `tail` begins: then that item
/// was durable once.
pub(crate) fn holds_seal(tail: &[u8], id: &LogId) -> bool {
    // If the broken item is itself a seal, it covers only records that verified, and a power failure may
    // have torn it. A record and the head of its seal are longer than a seal.
    let behind = tail
        .get(MAX_SEAL_BYTES - id.len() + 1..)
        .unwrap_or_default();
    behind.windows(id.len()).any(|window| window == id)
}
