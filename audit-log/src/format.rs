//! The bytes of the file, both ways. Written by hand because the reader must refuse every encoding
//! but the shortest, check lengths before it reads, and tell "cut short" from "wrong".

use sha2::{Digest, Sha256};

use crate::{ActId, Chain};

/// The only version of the file so far.
pub(crate) const VERSION: u64 = 1;

/// The header without its version: array of two, text of 17 bytes.
pub(crate) const MAGIC: &[u8; 19] = b"\x82\x71postern audit log";

const CHAIN_LABEL: &[u8] = b"postern/1 audit chain";

/// First byte of a record: array of four.
pub(crate) const RECORD: u8 = 0x84;
/// First byte of a seal: array of three.
pub(crate) const SEAL: u8 = 0x83;
/// No act id.
pub(crate) const NULL: u8 = 0xf6;
/// Head of a byte string of 16 bytes, an act id.
pub(crate) const ACT_ID: u8 = 0x50;
/// Head of a byte string of 32 bytes, a chain.
pub(crate) const CHAIN: [u8; 2] = [0x58, 32];

/// Major types of CBOR (RFC 8949, 3.1), in place.
pub(crate) const UNSIGNED: u8 = 0x00;
pub(crate) const BYTES: u8 = 0x40;

/// The header of this version.
pub(crate) fn header() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_head(&mut out, UNSIGNED, VERSION);
    out
}

/// The chain before the first record.
pub(crate) fn genesis() -> Chain {
    Sha256::digest(header()).into()
}

/// The chain at a record.
pub(crate) fn chain(
    previous: &Chain,
    index: u64,
    act_id: Option<&ActId>,
    entry_hash: &[u8; 32],
) -> Chain {
    let mut hash = Sha256::new();
    hash.update(CHAIN_LABEL);
    hash.update(previous);
    hash.update(index.to_be_bytes());
    // Every field has a fixed length but this one, so it says whether it is there.
    match act_id {
        Some(act_id) => {
            hash.update([1]);
            hash.update(act_id);
        }
        None => hash.update([0]),
    }
    hash.update(entry_hash);
    hash.finalize().into()
}

pub(crate) fn put_record(
    out: &mut Vec<u8>,
    index: u64,
    chain: &Chain,
    act_id: Option<&ActId>,
    entry: &[u8],
) {
    out.push(RECORD);
    put_head(out, UNSIGNED, index);
    out.extend_from_slice(&CHAIN);
    out.extend_from_slice(chain);
    match act_id {
        Some(act_id) => {
            out.push(ACT_ID);
            out.extend_from_slice(act_id);
        }
        None => out.push(NULL),
    }
    put_head(out, BYTES, entry.len() as u64);
    out.extend_from_slice(entry);
}

pub(crate) fn put_seal(out: &mut Vec<u8>, records: u64, chain: &Chain, offset: u64) {
    out.push(SEAL);
    put_head(out, UNSIGNED, records);
    out.extend_from_slice(&CHAIN);
    out.extend_from_slice(chain);
    put_head(out, UNSIGNED, offset);
}

/// The shortest head (RFC 8949, 4.2.1).
fn put_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let bytes = value.to_be_bytes();
    match value {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}
