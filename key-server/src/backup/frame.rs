//! What the body of a backup is a sequence of.
//!
//! ```cddl
//! backup-frame = [0, bstr, bstr, uint] / [1, uint] / [2, tstr] / [3, bstr] / [4, hash] / [5, uint]
//! ```

use std::io::{self, Read, Write};

use store::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use zeroize::Zeroizing;

use super::BackupError;
use super::seal::Opener;

/// Most bytes of a file in one frame.
pub(super) const PIECE: usize = 64 * 1024;
/// Most bytes of a path.
const PATH: usize = 256;
/// Most bytes of a frame.
const LIMIT: usize = MAX_KEY_BYTES + MAX_VALUE_BYTES + 64;

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// An entry of the store.
    Entry {
        key: Vec<u8>,
        value: Vec<u8>,
        revision: u64,
    },
    /// The store ends after so many entries.
    StoreEnd(u64),
    /// A file begins.
    File(String),
    /// More of it.
    Piece(Vec<u8>),
    /// It ends: its SHA-256.
    FileEnd([u8; 32]),
    /// The body ends after so many files.
    End(u64),
}

impl Encode for Frame {
    fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Entry {
                key,
                value,
                revision,
            } => writer
                .array(4)
                .uint(0)
                .bytes(key)
                .bytes(value)
                .uint(*revision),
            Self::StoreEnd(entries) => writer.array(2).uint(1).uint(*entries),
            Self::File(path) => writer.array(2).uint(2).text(path),
            Self::Piece(bytes) => writer.array(2).uint(3).bytes(bytes),
            Self::FileEnd(digest) => writer.array(2).uint(4).bytes(digest),
            Self::End(files) => writer.array(2).uint(5).uint(*files),
        };
    }
}

impl Decode for Frame {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let members = reader.array(2..=4)?;
        let kind = reader.uint()?;
        if members != if kind == 0 { 4 } else { 2 } {
            return Err(DecodeError::OutOfRange("members of a frame"));
        }
        Ok(match kind {
            0 => Self::Entry {
                key: reader.bytes(1..=MAX_KEY_BYTES)?.to_vec(),
                value: reader.bytes(0..=MAX_VALUE_BYTES)?.to_vec(),
                revision: reader.uint()?,
            },
            1 => Self::StoreEnd(reader.uint()?),
            2 => Self::File(reader.text(1..=PATH)?.to_owned()),
            3 => Self::Piece(reader.bytes(1..=PIECE)?.to_vec()),
            4 => Self::FileEnd(reader.array_of()?),
            5 => Self::End(reader.uint()?),
            _ => return Err(DecodeError::OutOfRange("kind of a frame")),
        })
    }
}

impl Frame {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        // A frame may hold the door key's seed.
        let bytes = Zeroizing::new(self.to_cbor());
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(&bytes)
    }

    /// The next frame; none at the end of the body.
    pub(super) fn read(body: &mut Opener<impl Read>) -> Result<Option<Self>, BackupError> {
        let mut length = [0; 4];
        if !body.fill(&mut length)? {
            return Ok(None);
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LIMIT {
            return Err(BackupError::Shape("a frame is too long"));
        }
        let mut bytes = Zeroizing::new(vec![0; length]);
        if length == 0 || !body.fill(&mut bytes)? {
            return Err(BackupError::Shape("it ends in a frame"));
        }
        let frame = Self::from_cbor(&bytes, LIMIT);
        frame
            .map(Some)
            .map_err(|_| BackupError::Shape("a frame is malformed"))
    }
}
