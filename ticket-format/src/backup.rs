//! The beginning of a backup's file, which anybody can read (`spec/vault.md`, section 5).
//!
//! ```text
//! "postern backup 1" LF, length of the header (4 bytes, big-endian), header, file key (73 bytes), chunks
//! ```
//! The file key is sealed under the root key for a path that names the header's digest; each chunk under
//! the file key for a path that names its number, and whether it is the last.

use std::io::Read;

use sha2::{Digest as _, Sha256};

use crate::cbor::{Decode as _, DecodeError, Encode as _};
use crate::ids::{BackupId, ProofHash, RootId};
use crate::keys::TlsKey;
use crate::limits;
use crate::messages::shape::{Bytes, List, Text, UINT, Uint, closed_map, item};
use crate::time::Timestamp;
use crate::tlog::Checkpoint;

/// What the file begins with.
pub const MARK: &[u8; 17] = b"postern backup 1\n";
/// Bytes of the body in one chunk; the last one may have fewer.
pub const CHUNK: usize = 64 * 1024;
/// What sealing adds to a value (REST-1): format, nonce, tag.
pub const SEALED: usize = 1 + 24 + 16;
/// Bytes of the file key, sealed.
pub const FILE_KEY: usize = 32 + SEALED;
/// Most bytes of a wrap of the root key.
pub const WRAP: usize = 64 * 1024;
/// Most bytes of the header.
const HEADER: usize = 192 * 1024;

closed_map! {
    /// What a backup says of itself in the clear.
    ///
    /// ```cddl
    /// backup-header = { 1: 1, 2: id16, 3: name, 4: ed-key, 5: unix-time, 6: id16, 7: bstr, 8: bstr,
    ///                   9: uint, 10: uint, 11: uint, 12: checkpoint, 13: uint, 14: [*8 tstr] }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Header {
        /// The format of the file.
        1 format: u64 = Uint(1..=1);
        /// Which backup.
        2 id: BackupId = item();
        /// The realm.
        3 realm: String = Text(1..=limits::NAME);
        /// The key server.
        4 server: TlsKey = item();
        /// When it was made.
        5 made: Timestamp = item();
        /// The root key that opens it.
        6 root: RootId = item();
        /// The root key's automatic wrap.
        7 auto: Vec<u8> = Bytes(1..=WRAP);
        /// Its shares.
        8 shares: Vec<u8> = Bytes(1..=WRAP);
        /// Datasets in it.
        9 datasets: u64 = UINT;
        /// KEK versions with their key material.
        10 keks: u64 = UINT;
        /// Entries of the audit log.
        11 entries: u64 = UINT;
        /// Where the audit log stood.
        12 log: Checkpoint = item();
        /// The store's revision.
        13 revision: u64 = UINT;
        /// What is not in it, for people.
        14 left_out: Vec<String> = List(0..=8, Text(1..=256));
    }
}

/// Why a file is no backup.
#[derive(Debug, thiserror::Error)]
pub enum NotABackup {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It begins otherwise.
    #[error("it is no backup of a key server")]
    Mark,
    /// It ends in its beginning.
    #[error("it is cut short")]
    Short,
    /// Its header has not its shape.
    #[error("its header is malformed: {0}")]
    Header(#[from] DecodeError),
}

/// The beginning of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// What it says of itself.
    pub header: Header,
    /// The file key, sealed under the root key for [`Header::key_path`].
    pub file_key: [u8; FILE_KEY],
}

impl Header {
    /// What the file key is sealed for: so that nothing of the header can be changed.
    #[must_use]
    pub fn key_path(&self) -> String {
        // rule: BAK-2
        let digest = ProofHash(Sha256::digest(self.to_cbor()).into());
        format!("backup/{}/{digest}", self.id)
    }

    /// What a chunk is sealed for.
    #[must_use]
    pub fn chunk_path(&self, number: u64, last: bool) -> String {
        // rule: BAK-2
        let end = if last { "/last" } else { "" };
        format!("backup/{}/{number}{end}", self.id)
    }
}

impl Beginning {
    /// Its bytes: the file up to the first chunk.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = self.header.to_cbor();
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        [MARK, &length.to_be_bytes()[..], &header, &self.file_key[..]].concat()
    }

    /// Reads it; the first chunk follows.
    ///
    /// # Errors
    /// [`NotABackup`].
    pub fn read(file: &mut impl Read) -> Result<Self, NotABackup> {
        let short = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => NotABackup::Short,
            _ => error.into(),
        };
        let (mut mark, mut length) = ([0; MARK.len()], [0; 4]);
        file.read_exact(&mut mark)
            .map_err(|error| match short(error) {
                NotABackup::Short => NotABackup::Mark,
                error => error,
            })?;
        if mark != *MARK {
            return Err(NotABackup::Mark);
        }
        file.read_exact(&mut length).map_err(short)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > HEADER {
            return Err(DecodeError::OutOfRange("length").into());
        }
        let (mut header, mut file_key) = (vec![0; length], [0; FILE_KEY]);
        file.read_exact(&mut header).map_err(short)?;
        file.read_exact(&mut file_key).map_err(short)?;
        let header = Header::from_cbor(&header, HEADER)?;
        Ok(Self { header, file_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::mutate::strict;
    use crate::messages::samples::{at, checkpoint};

    fn header() -> Header {
        Header {
            format: 1,
            id: BackupId([1; 16]),
            realm: "example".to_owned(),
            server: crate::keys::TlsSecret::from_seed(&[2; 32]).public(),
            made: at(0),
            root: RootId([3; 16]),
            auto: vec![4; 40],
            shares: vec![5; 50],
            datasets: 6,
            keks: 7,
            entries: 8,
            log: checkpoint(9),
            revision: 10,
            left_out: vec!["tiles".to_owned()],
        }
    }

    #[test]
    fn a_header_holds_to_its_shape_and_is_read_as_it_was_written() {
        // rule: ENC-3, BAK-2
        strict(&header(), &[], &[14]);
        let beginning = Beginning {
            header: header(),
            file_key: [11; FILE_KEY],
        };
        let bytes = beginning.to_bytes();
        let mut file = [&bytes[..], b"chunks"].concat();
        let mut rest = &file[..];
        assert_eq!(Beginning::read(&mut rest).unwrap(), beginning);
        assert_eq!(rest, b"chunks");
        for end in 0..bytes.len() {
            let cut = Beginning::read(&mut &bytes[..end]);
            assert!(matches!(cut, Err(NotABackup::Mark | NotABackup::Short)));
        }
        file[0] ^= 1;
        assert!(matches!(
            Beginning::read(&mut &file[..]),
            Err(NotABackup::Mark)
        ));
        let mut long = bytes;
        long[MARK.len()] = 1;
        assert!(matches!(
            Beginning::read(&mut &long[..]),
            Err(NotABackup::Header(_))
        ));
    }

    #[test]
    fn no_two_chunks_and_no_two_headers_are_sealed_for_one_path() {
        // rule: BAK-2
        let one = header();
        let other = Header {
            keks: 8,
            ..header()
        };
        assert_ne!(one.key_path(), other.key_path());
        let paths = [
            one.chunk_path(1, false),
            one.chunk_path(1, true),
            one.chunk_path(2, false),
            one.key_path(),
        ];
        let different: std::collections::BTreeSet<_> = paths.iter().collect();
        assert_eq!(different.len(), paths.len());
    }
}
