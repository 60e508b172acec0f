//! The bytes of the file, both ways. Written by hand because the reader must refuse every encoding
//! but the shortest, check lengths before it reads, and tell "cut short" from "wrong".

use sha2::{Digest, Sha256};

use crate::{ActId, Chain};

/// The only version of the file so far.
pub(crate) const VERSION: u64 = 1;

/// The beginning of the header: array of four, text of 17 bytes.
pub(crate) const MAGIC: &[u8; 19] = b"\x84\x71postern audit log";

/// Name of one log, drawn at random when it is made. No entry can hold it, so a seal, which does, is
/// found by it wherever it stands.
pub(crate) type LogId = [u8; 16];

/// Length of the header's own checksum.
const CHECK_BYTES: usize = 8;

/// Length of the header: magic, version, log id and checksum with their heads.
pub(crate) const HEADER_BYTES: usize = MAGIC.len() + 1 + 17 + 1 + CHECK_BYTES;

const CHAIN_LABEL: &[u8] = b"postern/1 audit chain";

/// First byte of a record: array of four.
pub(crate) const RECORD: u8 = 0x84;
/// First byte of a seal: array of three.
pub(crate) const SEAL: u8 = 0x83;
/// No act id.
pub(crate) const NULL: u8 = 0xf6;
/// Head of a byte string of 16 bytes: an act id or log id.
pub(crate) const ID: u8 = 0x50;
/// Head of a byte string of 32 bytes, a chain.
pub(crate) const CHAIN: [u8; 2] = [0x58, 32];

/// Major types of CBOR (RFC 8949, 3.1), in place.
pub(crate) const UNSIGNED: u8 = 0x00;
pub(crate) const BYTES: u8 = 0x40;

/// The header of this version.
pub(crate) fn header(id: &LogId) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_head(&mut out, UNSIGNED, VERSION);
    put_head(&mut out, BYTES, id.len() as u64);
    out.extend_from_slice(id);
    // Without it, damage to the id would make every record look as if it was never sealed.
    let check = Sha256::digest(&out);
    put_head(&mut out, BYTES, CHECK_BYTES as u64);
    out.extend_from_slice(&check[..CHECK_BYTES]);
    out
}

/// The chain before the first record.
pub(crate) fn genesis(id: &LogId) -> Chain {
    Sha256::digest(header(id)).into()
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
            out.push(ID);
            out.extend_from_slice(act_id);
        }
        None => out.push(NULL),
    }
    put_head(out, BYTES, entry.len() as u64);
    out.extend_from_slice(entry);
}

pub(crate) fn put_seal(out: &mut Vec<u8>, records: u64, chain: &Chain, id: &LogId) {
    out.push(SEAL);
    put_head(out, UNSIGNED, records);
    out.extend_from_slice(&CHAIN);
    out.extend_from_slice(chain);
    put_head(out, BYTES, id.len() as u64);
    out.extend_from_slice(id);
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
