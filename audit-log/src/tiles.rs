//! The published files of a shard (C2SP tlog-tiles): their names and their bytes.

use std::io;
use std::sync::Arc;

use ticket_format::tlog::Hash;

use crate::ReadError;
use crate::disk::Disk;
use crate::proof::{TILE, TILE_LEVELS, Tiles};
use crate::shard;

/// `tile/<level>/<index>[.p/<width>]`, in the shard's directory. (TLOG-1)
pub(crate) fn tile_path(level: u8, index: u64, width: u64) -> String {
    format!("tile/{level}/{}", piece(index, width))
}

/// `tile/entries/<index>[.p/<width>]`.
pub(crate) fn bundle_path(index: u64, width: u64) -> String {
    format!("tile/entries/{}", piece(index, width))
}

/// Groups of three digits, all but the last with an `x` before; then the width of a partial one.
fn piece(index: u64, width: u64) -> String {
    let mut text = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    if width < TILE {
        text.push_str(&format!(".p/{width}"));
    }
    text
}

/// The width of a tile or bundle in a tree of `size` leaves: 256, less for the last one, 0 beyond.
pub(crate) fn width(size: u64, level: u8, index: u64) -> u64 {
    let stored = size
        .checked_shr(u32::from(level) * TILE_LEVELS as u32)
        .unwrap_or(0);
    stored.saturating_sub(index.saturating_mul(TILE)).min(TILE)
}

/// The bytes of a tile.
pub(crate) fn tile_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// The hashes of a tile, if it has whole ones.
pub(crate) fn tile_hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.to_vec())
}

/// Adds an entry to a bundle: its length in two bytes, big-endian, and the entry.
pub(crate) fn put_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    // No entry is longer than 60 KiB.
    let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
}

/// The entries of a bundle, and whether it ended between two of them.
pub(crate) fn entries(bundle: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((entry, tail)) = tail.split_at_checked(length) else {
            return (entries, false);
        };
        entries.push(entry);
        rest = tail;
    }
    (entries, rest.is_empty())
}

/// The published tiles of one shard.
pub(crate) struct Published<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) shard: u64,
    /// Entries of the log before the shard, to name indexes.
    pub(crate) before: u64,
    /// Entries of the shard: those of its published checkpoint.
    pub(crate) size: u64,
}

impl Published<'_> {
    pub(crate) fn bundle(&self, index: u64, width: u64) -> Result<Vec<u8>, ReadError> {
        let path = shard::path(self.shard, &bundle_path(index, width));
        self.disk.read(&path)?.ok_or_else(|| ReadError::Damaged {
            index: self.before + index * TILE,
            reason: format!("{path} is missing"),
        })
    }
}

impl Tiles for Published<'_> {
    type Error = ReadError;

    fn tile(&self, level: u8, index: u64, width: usize) -> Result<Arc<Vec<Hash>>, ReadError> {
        // A proof in an older tree reads the front of the tile that there is now.
        let there = self::width(self.size, level, index);
        let path = shard::path(self.shard, &tile_path(level, index, there));
        let bytes = self.disk.read(&path)?;
        let hashes = bytes.as_deref().and_then(tile_hashes);
        match hashes {
            Some(hashes) if hashes.len() >= width => Ok(Arc::new(hashes)),
            _ => Err(self.short(level, index)),
        }
    }

    fn short(&self, level: u8, index: u64) -> ReadError {
        let leaves = u32::from(level) * TILE_LEVELS as u32;
        let first = (index * TILE).checked_shl(leaves).unwrap_or(0);
        ReadError::Damaged {
            index: self.before + first,
            reason: format!("the tile of level {level}, index {index} is missing or cut short"),
        }
    }
}

/// A read of a file that must be there.
pub(crate) fn missing(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{path} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: TLOG-1
    #[test]
    fn paths_are_those_of_tlog_tiles() {
        assert_eq!(tile_path(0, 0, 256), "tile/0/000");
        assert_eq!(tile_path(1, 1_234_067, 256), "tile/1/x001/x234/067");
        assert_eq!(tile_path(0, 273, 9), "tile/0/273.p/9");
        assert_eq!(bundle_path(1000, 112), "tile/entries/x001/000.p/112");
        assert_eq!([width(70_000, 0, 273), width(70_000, 0, 274)], [112, 0]);
        assert_eq!([width(70_000, 1, 0), width(70_000, 1, 1)], [256, 17]);
        assert_eq!([width(70_000, 2, 0), width(u64::MAX, 63, 0)], [1, 0]);
    }

    #[test]
    fn a_bundle_gives_its_entries_back_and_says_when_it_is_cut() {
        let mut bundle = Vec::new();
        put_entry(&mut bundle, b"one");
        put_entry(&mut bundle, &[7; 300]);
        assert_eq!(entries(&bundle), (vec![&b"one"[..], &[7; 300]], true));
        assert_eq!(entries(&bundle[..bundle.len() - 1]).0.len(), 1);
        assert!(!entries(&bundle[..bundle.len() - 1]).1);
        assert!(!entries(&bundle[..6]).1);
    }
}
