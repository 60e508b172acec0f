//! The bytes of a journal, both ways. Written by hand because the reader must refuse every encoding
//! but the shortest, check lengths before it reads, and tell "cut short" from "wrong".

use sha2::{Digest, Sha256};
use ticket_format::tlog::Hash;

use crate::ActId;

/// The version of the file.
pub(crate) const VERSION: u64 = 2;

/// The beginning of the header: array of seven, text of 17 bytes.
pub(crate) const MAGIC: &[u8; 19] = b"\x87\x71postern audit log";

/// Name of one journal, drawn at random when it is made. No entry can hold it, so a seal, which does,
/// is found by it wherever it stands.
pub(crate) type JournalId = [u8; 16];

/// Length of the header's own checksum.
pub(crate) const CHECK_BYTES: usize = 8;

/// First byte of a record: array of three.
pub(crate) const RECORD: u8 = 0x83;
/// First byte of a seal: array of six.
pub(crate) const SEAL: u8 = 0x86;
/// No act id.
pub(crate) const NULL: u8 = 0xf6;
pub(crate) const FALSE: u8 = 0xf4;
pub(crate) const TRUE: u8 = 0xf5;
/// Head of a byte string of 16 bytes: an act id or journal id.
pub(crate) const ID: u8 = 0x50;
/// Head of a byte string of 32 bytes, a root.
pub(crate) const ROOT: [u8; 2] = [0x58, 32];

/// Longest note in a seal: two signatures of the log.
pub(crate) const MAX_NOTE_BYTES: usize = 8 * 1024;
/// Longest name of a shard.
pub(crate) const MAX_NAME_BYTES: usize = 256;
/// Bytes around record and seal that are not entry or note, at most.
pub(crate) const OVERHEAD: usize = 128;

/// Major types of CBOR (RFC 8949, 3.1), in place.
pub(crate) const UNSIGNED: u8 = 0x00;
pub(crate) const BYTES: u8 = 0x40;
pub(crate) const TEXT: u8 = 0x60;

/// What a journal says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: JournalId,
    /// `<origin>/<n>`.
    pub(crate) shard: String,
    /// Entries of the log before this shard.
    pub(crate) before: u64,
    /// Number of the shard before this one; 0 for none.
    pub(crate) previous: u64,
}

impl Header {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_head(&mut out, UNSIGNED, VERSION);
        put_head(&mut out, BYTES, self.id.len() as u64);
        out.extend_from_slice(&self.id);
        put_head(&mut out, TEXT, self.shard.len() as u64);
        out.extend_from_slice(self.shard.as_bytes());
        put_head(&mut out, UNSIGNED, self.before);
        put_head(&mut out, UNSIGNED, self.previous);
        // Without it, damage to the id would make every record look as if it was never sealed.
        let check = Sha256::digest(&out);
        put_head(&mut out, BYTES, CHECK_BYTES as u64);
        out.extend_from_slice(&check[..CHECK_BYTES]);
        out
    }
}

pub(crate) fn put_record(out: &mut Vec<u8>, index: u64, act_id: Option<&ActId>, entry: &[u8]) {
    out.push(RECORD);
    put_head(out, UNSIGNED, index);
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

/// What a seal says.
pub(crate) struct Sealing<'a> {
    pub(crate) size: u64,
    pub(crate) root: &'a Hash,
    pub(crate) note: &'a str,
    /// No record follows in this shard.
    pub(crate) closing: bool,
    /// Act ids of the batch, by [`put_act`]: no part of the tree.
    pub(crate) acts: &'a [u8],
}

/// Adds what a seal's check takes of a record.
pub(crate) fn put_act(acts: &mut Vec<u8>, act_id: Option<&ActId>) {
    match act_id {
        Some(act_id) => {
            acts.push(1);
            acts.extend_from_slice(act_id);
        }
        None => acts.push(0),
    }
}

pub(crate) fn put_seal(out: &mut Vec<u8>, sealing: &Sealing<'_>, id: &JournalId) {
    let Sealing {
        size,
        root,
        note,
        closing,
        ..
    } = *sealing;
    out.push(SEAL);
    put_head(out, UNSIGNED, size);
    out.extend_from_slice(&ROOT);
    out.extend_from_slice(root);
    put_head(out, TEXT, note.len() as u64);
    out.extend_from_slice(note.as_bytes());
    out.push(if closing { TRUE } else { FALSE });
    put_head(out, BYTES, CHECK_BYTES as u64);
    out.extend_from_slice(&sealing.check());
    // Last, so that a seal cut short does not hold it.
    put_head(out, BYTES, id.len() as u64);
    out.extend_from_slice(id);
}

impl Sealing<'_> {
    /// Tells a seal that a crash has torn from one that other keys signed, and covers what the tree does
    /// not.
    pub(crate) fn check(&self) -> [u8; CHECK_BYTES] {
        let digest = Sha256::new()
            .chain_update(self.size.to_be_bytes())
            .chain_update(self.root)
            .chain_update([u8::from(self.closing)])
            .chain_update(Sha256::digest(self.note))
            .chain_update(self.acts)
            .finalize();
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&digest[..CHECK_BYTES]);
        check
    }
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
