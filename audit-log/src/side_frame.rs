//! Frames of the side file: how a record stands in it, and what is found when it is opened.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use crate::side::{MAX_SIDE_RECORD, SideHash};

/// The first item of the file: `["postern side file", 1]`.
pub(crate) const HEADER: &[u8] = b"\x82\x71postern side file\x01";

/// A record begins so, and its hash follows: an array of three, a byte string of 32 (AUD-5).
const RECORD: [u8; 3] = [0x83, 0x58, 0x20];
/// A frame begins so: an array of two, a byte string of 8.
const FRAME: [u8; 2] = [0x82, 0x48];
/// Longest head of a frame: of the array, the check, and the head of a byte string.
pub(crate) const HEAD: usize = 2 + 8 + 3;
/// Longest frame.
const MAX_FRAME: usize = HEAD + MAX_SIDE_RECORD;
/// What is read at a time.
const WINDOW: usize = 1024 * 1024;

/// The hash that a record begins with.
pub(crate) fn hash_of(record: &[u8]) -> Option<SideHash> {
    record.strip_prefix(&RECORD)?.first_chunk::<32>().copied()
}

fn check(record: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(record);
    let mut check = [0; 8];
    check.copy_from_slice(&digest[..8]);
    check
}

/// Puts `[check, record]`. A record is at least 35 bytes and at most [`MAX_SIDE_RECORD`] long.
pub(crate) fn put(out: &mut Vec<u8>, record: &[u8]) {
    out.extend_from_slice(&FRAME);
    out.extend_from_slice(&check(record));
    let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
    match u8::try_from(length) {
        Ok(length) => out.extend_from_slice(&[0x58, length]),
        Err(_) => {
            out.push(0x59);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(record);
}

/// Where the record begins and ends in the frame at the front of these bytes, of which the head is
/// enough.
pub(crate) fn extent(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let rest = bytes.strip_prefix(&FRAME)?.get(8..)?;
    match *rest.first_chunk::<3>()? {
        [0x58, length @ 24..=255, _] => Some(12..12 + usize::from(length)),
        [0x59, high @ 1..=255, low] => Some(13..13 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}

/// The whole frame at the front of these bytes: its record, and its length.
pub(crate) fn parse(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let extent = extent(bytes)?;
    let record = bytes.get(extent.clone())?;
    let good = record.len() <= MAX_SIDE_RECORD && hash_of(record).is_some();
    (good && bytes.get(2..10) == Some(&check(record))).then_some((record, extent.end))
}

/// What [`scan`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where the next frame goes: after the last whole one.
    pub(crate) end: u64,
    /// Bytes between whole frames that are none: damage. They are left as they are.
    pub(crate) damaged: u64,
    /// Bytes after the last whole frame: a torn tail.
    pub(crate) torn: u64,
}

/// Shows each whole frame between two offsets: where it begins, and its record. Bytes that are none are
/// passed over up to the next whole frame; `each` ends the scan by false.
pub(crate) fn scan(
    file: &File,
    from: u64,
    to: u64,
    mut each: impl FnMut(u64, &[u8]) -> bool,
) -> io::Result<Found> {
    let mut found = Found {
        end: from,
        ..Found::default()
    };
    let (mut window, mut base, mut at) = (Vec::new(), from, 0_usize);
    // Bytes since the last whole frame that are none.
    let mut broken = 0;
    loop {
        if window.len() - at < MAX_FRAME && base + (window.len() as u64) < to {
            base += at as u64;
            window = read(file, base, to)?;
            at = 0;
        }
        if at >= window.len() {
            found.torn = broken;
            return Ok(found);
        }
        match parse(&window[at..]) {
            Some((record, length)) => {
                found.damaged += broken;
                broken = 0;
                let begins = base + at as u64;
                at += length;
                found.end = base + at as u64;
                if !each(begins, record) {
                    return Ok(found);
                }
            }
            None => {
                broken += 1;
                at += 1;
            }
        }
    }
}

fn read(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(to - from).unwrap_or(WINDOW).min(WINDOW);
    let mut window = vec![0; length];
    file.read_exact_at(&mut window, from)?;
    Ok(window)
}
