//! The journal: the durable truth of a shard, written in place.
//!
//! A CBOR sequence (RFC 8742): a header, then batches.
//!
//! - Header: `["postern audit log", 2, journal id (16 random bytes), shard, before, previous, check]`:
//!   the shard's name; entries of the log before it; number of the shard before it or 0; `check` is the
//!   first 8 bytes of the SHA-256 of what stands before it.
//! - Batch: records `[index, act id / null, entry]`, indexes counting from 0 in the shard without a gap,
//!   then one seal `[size, root, note, closing, check, journal id]`: the tree after the batch and the
//!   signed checkpoint that covers it; closing where no record follows in this shard; `check` is the
//!   first 8 bytes of the SHA-256 of size (8 bytes, big-endian), root, closing (one byte), SHA-256 of the
//!   note, and of each record 0 or 1 and its act id.
//!
//! A batch is written in one piece and made durable by one `fdatasync`, and only then is the next one
//! written. So whatever a crash leaves behind the last whole seal holds at most one seal, and nothing in
//! it was acknowledged: a torn tail. Anything else that is broken is damage.

pub(crate) mod format;
pub(crate) mod scan;

use std::path::Path;
use std::sync::Arc;

use ticket_format::tlog::{Checkpoint, Hash, ShardName};

use crate::disk::LogFile;
use crate::tree::{Edge, Grown};
use crate::{MAX_ENTRY_BYTES, OpenError};
use format::{Header, JournalId};
use scan::{Found, Item, Position, ScanError, Scanner};

/// Entries of a batch, in bytes, before it takes no further one.
pub(crate) const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Most entries of a batch.
pub(crate) const BATCH: usize = 4096;
/// More bytes than one batch can have: a longer broken tail is not from one torn write.
pub(crate) const MAX_BATCH_BYTES: u64 =
    (BATCH_BYTES + MAX_ENTRY_BYTES + (BATCH + 2) * format::OVERHEAD + 2 * format::MAX_NOTE_BYTES)
        as u64;

/// Bytes at the end of a journal that an interrupted write left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Whole entries of the log before it.
    pub entries: u64,
    /// Where it begins in the journal, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A batch as found in the journal.
pub(crate) struct Batch<'a> {
    pub(crate) grown: &'a Grown,
    /// Each with the position before it.
    pub(crate) records: &'a [(Position, Found)],
}

/// What a journal holds.
pub(crate) struct Loaded {
    pub(crate) header: Header,
    /// After the last seal.
    pub(crate) at: Position,
    /// Before the last batch.
    pub(crate) last_batch: u64,
    pub(crate) edge: Edge,
    pub(crate) root: Hash,
    /// In the last seal; its signatures are not verified.
    pub(crate) note: String,
    pub(crate) closed: bool,
    pub(crate) torn: Option<TornTail>,
}

/// Reads a whole journal, recomputes its tree and shows each batch. (TLOG-3)
pub(crate) fn load(
    file: &Arc<dyn LogFile>,
    path: &Path,
    shard: &ShardName,
    mut each: impl FnMut(&Batch<'_>),
) -> Result<Loaded, OpenError> {
    let io = |source| OpenError::io(path, source);
    // Stops at the length seen first, should someone append meanwhile.
    let length = file.length().map_err(io)?;
    let (mut scanner, header) =
        Scanner::start(Arc::clone(file), length).map_err(|error| match error {
            ScanError::Io(source) => io(source),
            ScanError::Version(found) => OpenError::Version {
                path: path.to_owned(),
                found,
            },
            ScanError::NotALog | ScanError::Broken(_) => OpenError::NotALog {
                path: path.to_owned(),
            },
        })?;
    if header.shard != shard.to_string() {
        return Err(OpenError::OtherLog {
            path: path.to_owned(),
            found: header.shard,
            expected: shard.to_string(),
        });
    }
    let damaged = |at: Position, reason: &str| OpenError::Damaged {
        path: path.to_owned(),
        index: header.before + at.entries,
        offset: at.offset,
        reason: reason.to_owned(),
    };
    let mut loaded = Loaded {
        at: scanner.at,
        last_batch: scanner.at.offset,
        edge: Edge::default(),
        root: ticket_format::tlog::merkle::empty_root(),
        note: String::new(),
        closed: false,
        torn: None,
        header: header.clone(),
    };
    let mut records: Vec<(Position, Found)> = Vec::new();
    let reason = loop {
        let before = scanner.at;
        match scanner.next() {
            Ok(Some(Item::Record(_))) if loaded.closed => {
                break "an entry stands behind the closing of its shard";
            }
            Ok(Some(Item::Record(found))) => {
                records.push((before, found));
                if scanner.at.offset - loaded.at.offset > MAX_BATCH_BYTES {
                    break "no seal follows";
                }
            }
            Ok(Some(Item::Seal(seal))) => {
                let leaves = records.iter().map(|(_, found)| found.leaf).collect();
                let (edge, grown) = loaded.edge.grow(leaves);
                let root = if grown.from == grown.to {
                    loaded.root
                } else {
                    grown.root
                };
                let checkpoint = Checkpoint {
                    shard: shard.clone(),
                    size: seal.size,
                    root,
                };
                if seal.root != root {
                    scanner.at = loaded.at;
                    break "the entries from here to the next seal are not those that it covers";
                }
                if !seal.note.starts_with(&checkpoint.text()) {
                    scanner.at = loaded.at;
                    break "the next checkpoint is of another tree";
                }
                each(&Batch {
                    grown: &grown,
                    records: &records,
                });
                records.clear();
                loaded.last_batch = loaded.at.offset;
                loaded.at = scanner.at;
                loaded.edge = edge;
                loaded.root = root;
                loaded.note = seal.note;
                loaded.closed = seal.closing;
            }
            Ok(None) if records.is_empty() => break "",
            Ok(None) => break "the journal ends before the seal",
            Err(ScanError::Io(source)) => return Err(io(source)),
            Err(ScanError::Broken(reason)) => break reason,
            Err(ScanError::NotALog | ScanError::Version(_)) => break "it is malformed",
        }
    };
    if loaded.note.is_empty() {
        // A journal gets its name only when its first seal is durable.
        return Err(damaged(
            scanner.at,
            "there is no seal at the journal's front",
        ));
    }
    let bytes = length - loaded.at.offset;
    if bytes > 0 {
        let seals = seals_behind(file, &header.id, loaded.at.offset, bytes).map_err(io)?;
        // Behind the seal of a torn batch there is nothing.
        let goes_on = scanner.broken_seal.is_some_and(|end| end < length);
        if bytes > MAX_BATCH_BYTES || seals > 1 || (goes_on && seals > 0) {
            return Err(damaged(scanner.at, reason));
        }
        loaded.torn = Some(TornTail {
            entries: header.before + loaded.at.entries,
            offset: loaded.at.offset,
            bytes,
        });
    }
    Ok(loaded)
}

/// How many seals stand behind `offset`, whole or not. Two are not of one write, so the first of them was
/// durable once.
fn seals_behind(
    file: &Arc<dyn LogFile>,
    id: &JournalId,
    offset: u64,
    bytes: u64,
) -> std::io::Result<usize> {
    let mut tail = vec![0; usize::try_from(bytes.min(MAX_BATCH_BYTES)).unwrap_or(0)];
    let mut read = 0;
    while read < tail.len() {
        match file.read_at(&mut tail[read..], offset + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(tail.windows(id.len()).filter(|window| window == id).count())
}

/// A new journal with its first batch: no entry, or the one that opens a shard after another.
pub(crate) struct First<'a> {
    pub(crate) header: &'a Header,
    pub(crate) record: Option<(Option<crate::ActId>, &'a [u8])>,
    pub(crate) size: u64,
    pub(crate) root: &'a Hash,
    pub(crate) note: &'a str,
}

impl First<'_> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.header.to_bytes();
        let mut acts = Vec::new();
        if let Some((act_id, entry)) = &self.record {
            format::put_record(&mut out, 0, act_id.as_ref(), entry);
            format::put_act(&mut acts, act_id.as_ref());
        }
        let sealing = format::Sealing {
            size: self.size,
            root: self.root,
            note: self.note,
            closing: false,
            acts: &acts,
        };
        format::put_seal(&mut out, &sealing, &self.header.id);
        out
    }
}
