//! Reading a journal from front to back with bounded memory.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use ticket_format::tlog::{Hash, merkle};

use super::format::{
    self, BYTES, CHECK_BYTES, FALSE, Header, ID, JournalId, MAGIC, MAX_NAME_BYTES, MAX_NOTE_BYTES,
    NULL, RECORD, ROOT, SEAL, TEXT, TRUE, UNSIGNED,
};
use crate::disk::LogFile;
use crate::{ActId, MAX_ENTRY_BYTES};

/// What the journal holds next.
pub(crate) enum Item {
    Record(Found),
    Seal(Seal),
}

/// A record as it stands there.
pub(crate) struct Found {
    /// In the shard.
    pub(crate) index: u64,
    pub(crate) act_id: Option<ActId>,
    pub(crate) leaf: Hash,
    pub(crate) entry: Vec<u8>,
}

pub(crate) struct Seal {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) note: String,
    pub(crate) closing: bool,
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
            io::ErrorKind::UnexpectedEof => Self::Broken("the journal ends inside it"),
            _ => Self::Io(error),
        }
    }
}

/// A place between two items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Bytes before.
    pub(crate) offset: u64,
    /// Records before.
    pub(crate) entries: u64,
}

pub(crate) struct Scanner {
    source: Counted,
    id: JournalId,
    pub(crate) at: Position,
    /// Of the records since the last seal; unknown where the scan began between two.
    acts: Option<Vec<u8>>,
    /// Behind a seal that is whole but for its id or size.
    pub(crate) broken_seal: Option<u64>,
}

impl Scanner {
    /// Starts at the front, up to the byte `end`: reads the header.
    pub(crate) fn start(file: Arc<dyn LogFile>, end: u64) -> Result<(Self, Header), ScanError> {
        let mut source = Counted::new(file, 0, end, 256 * 1024);
        let header = source.header().map_err(|error| match error {
            ScanError::Broken(_) => ScanError::NotALog,
            other => other,
        })?;
        let at = Position {
            offset: source.bytes,
            entries: 0,
        };
        let id = header.id;
        let acts = Some(Vec::new());
        Ok((
            Self {
                source,
                id,
                at,
                acts,
                broken_seal: None,
            },
            header,
        ))
    }

    /// Starts between two items, up to the byte `end`.
    pub(crate) fn resume(file: Arc<dyn LogFile>, id: JournalId, at: Position, end: u64) -> Self {
        let source = Counted::new(file, at.offset, end, 64 * 1024);
        Self {
            source,
            id,
            at,
            acts: None,
            broken_seal: None,
        }
    }

    /// The next item; `None` at the end. After an error the position is before the item.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, ScanError> {
        let item = match self.source.first()? {
            None => return Ok(None),
            Some(RECORD) => Item::Record(self.record()?),
            Some(SEAL) => Item::Seal(self.seal()?),
            Some(_) => return Err(ScanError::Broken("it is neither a record nor a seal")),
        };
        self.at.offset = self.source.bytes;
        if matches!(item, Item::Record(_)) {
            self.at.entries += 1;
        }
        Ok(Some(item))
    }

    fn record(&mut self) -> Result<Found, ScanError> {
        let index = self.source.head(UNSIGNED)?;
        if index != self.at.entries {
            return Err(ScanError::Broken("its index is not the next one"));
        }
        let act_id = match self.source.byte()? {
            NULL => None,
            ID => Some(self.source.array()?),
            _ => return Err(ScanError::Broken("its act id is malformed")),
        };
        let length = self.source.length(BYTES, MAX_ENTRY_BYTES)?;
        if length == 0 {
            return Err(ScanError::Broken("its entry is empty"));
        }
        let mut entry = vec![0; length];
        self.source.read_exact(&mut entry)?;
        if let Some(acts) = &mut self.acts {
            format::put_act(acts, act_id.as_ref());
        }
        Ok(Found {
            index,
            act_id,
            leaf: merkle::leaf_hash(&entry),
            entry,
        })
    }

    fn seal(&mut self) -> Result<Seal, ScanError> {
        let size = self.source.head(UNSIGNED)?;
        if self.source.array()? != ROOT {
            return Err(ScanError::Broken("the root in its seal is malformed"));
        }
        let root = self.source.array()?;
        let note = self.source.text(MAX_NOTE_BYTES)?;
        let closing = match self.source.byte()? {
            FALSE => false,
            TRUE => true,
            _ => return Err(ScanError::Broken("its seal is malformed")),
        };
        if self.source.length(BYTES, CHECK_BYTES)? != CHECK_BYTES {
            return Err(ScanError::Broken("its seal is malformed"));
        }
        let check: [u8; CHECK_BYTES] = self.source.array()?;
        if let Some(acts) = &self.acts {
            let sealing = format::Sealing {
                size,
                root: &root,
                note: &note,
                closing,
                acts,
            };
            if check != sealing.check() {
                return Err(ScanError::Broken("the seal before it is torn"));
            }
        }
        self.acts = Some(Vec::new());
        let id = self.source.id()?;
        if id != self.id || size != self.at.entries {
            self.broken_seal = Some(self.source.bytes);
            return Err(ScanError::Broken("the seal before it does not match"));
        }
        Ok(Seal {
            size,
            root,
            note,
            closing,
        })
    }
}

/// A part of the file, read by position, that counts what was read, so that the position can move by
/// whole items.
struct Counted {
    inner: BufReader<Window>,
    bytes: u64,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl Counted {
    fn new(file: Arc<dyn LogFile>, offset: u64, end: u64, buffer: usize) -> Self {
        let window = Window { file, offset, end };
        Self {
            inner: BufReader::with_capacity(buffer, window),
            bytes: offset,
        }
    }

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

    /// A head that gives a length.
    fn length(&mut self, major: u8, most: usize) -> Result<usize, ScanError> {
        match usize::try_from(self.head(major)?) {
            Ok(length) if length <= most => Ok(length),
            _ => Err(ScanError::Broken("a length in it is not allowed")),
        }
    }

    fn text(&mut self, most: usize) -> Result<String, ScanError> {
        let mut text = vec![0; self.length(TEXT, most)?];
        self.read_exact(&mut text)?;
        String::from_utf8(text).map_err(|_| ScanError::Broken("a text in it is not UTF-8"))
    }

    fn id(&mut self) -> Result<JournalId, ScanError> {
        match self.byte()? {
            ID => self.array(),
            _ => Err(ScanError::Broken("the journal's id in it is malformed")),
        }
    }

    fn header(&mut self) -> Result<Header, ScanError> {
        let magic: [u8; MAGIC.len()] = self.array()?;
        // Its first byte is the number of members, which is the version's own matter.
        if magic[1..] != MAGIC[1..] {
            return Err(ScanError::NotALog);
        }
        match self.head(UNSIGNED)? {
            format::VERSION if magic == *MAGIC => {}
            format::VERSION => return Err(ScanError::NotALog),
            found => return Err(ScanError::Version(found)),
        }
        let header = Header {
            id: self.id()?,
            shard: self.text(MAX_NAME_BYTES)?,
            before: self.head(UNSIGNED)?,
            previous: self.head(UNSIGNED)?,
        };
        let expected = header.to_bytes();
        let mut check = [0; 1 + format::CHECK_BYTES];
        self.read_exact(&mut check)?;
        if expected.ends_with(&check) {
            Ok(header)
        } else {
            Err(ScanError::NotALog)
        }
    }
}

struct Window {
    file: Arc<dyn LogFile>,
    offset: u64,
    end: u64,
}

impl Read for Window {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = out.len().min(left);
        let read = self.file.read_at(&mut out[..wanted], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
