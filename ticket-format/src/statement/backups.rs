//! Acts on backups of a key server (`spec/vault.md`, section 5).

use crate::ids::BackupId;
use crate::messages::shape::{Bytes, Fixed, Text, UINT, Uint, closed_map, item};

use super::acts::{Nothing, act};

/// Most bytes of one part: half of what an answer may have.
pub const BACKUP_PART: usize = 1024 * 1024;

closed_map! {
    /// Has a key server make a backup of itself (BAK-1). The one that it made before goes.
    ///
    /// `backup-begin = {}`
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct BackupBegin {}
}
act!(BackupBegin, BackupBegin, BackupMade);

closed_map! {
    /// A backup that is ready to be fetched.
    ///
    /// `backup-made = { 1: id16, 2: uint, 3: uint, 4: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BackupMade {
        /// Which.
        1 id: BackupId = item();
        /// Bytes of the file.
        2 size: u64 = UINT;
        /// Its parts: all of [`BACKUP_PART`] bytes, but the last.
        3 parts: u64 = Uint(1..=u64::MAX);
        /// SHA-256 of the file.
        4 digest: [u8; 32] = Fixed::<32>;
    }
}

closed_map! {
    /// Fetches a part of a backup that the same admin had made.
    ///
    /// `backup-part = { 1: id16, 2: uint }`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BackupPart {
        /// Which.
        1 id: BackupId = item();
        /// The part's number, from 0.
        2 number: u64 = UINT;
    }
}
act!(BackupPart, BackupPart, BackupPiece);

closed_map! {
    /// `backup-piece = { 1: bstr .size (1..1048576) }`
    #[derive(Clone, PartialEq, Eq)]
    pub struct BackupPiece {
        /// The part's bytes.
        1 bytes: Vec<u8> = Bytes(1..=BACKUP_PART);
    }
}

impl std::fmt::Debug for BackupPiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackupPiece({} bytes)", self.bytes.len())
    }
}

closed_map! {
    /// Puts a backup in the place of the key server that it is of (BAK-4).
    ///
    /// `restore = { 1: id16, 2: hash, 3: tstr .size (1..256) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Restore {
        /// Which.
        1 id: BackupId = item();
        /// SHA-256 of the file.
        2 digest: [u8; 32] = Fixed::<32>;
        /// Why, for people.
        3 reason: String = Text(1..=256);
    }
}
act!(Restore, Restore, Nothing);
