//! What is known of each shard, shared by the writer, the publisher and readers.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ticket_format::tlog::{LogKey, ShardName, SignedCheckpoint};
use tokio::sync::watch;

use crate::disk::{Disk, LogFile};
use crate::journal::format::JournalId;
use crate::journal::scan::Position;
use crate::proof::{Memory, TILE};

/// What the threads share. Locked for moments, never over I/O.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) key: LogKey,
    /// By number; the last one is open, or is closed and the next could not be begun yet.
    pub(crate) shards: RwLock<Vec<Arc<Shard>>>,
    /// Set before the queue refuses, so that those refused know why.
    pub(crate) closed: AtomicBool,
    /// The newest durable checkpoint.
    pub(crate) newest: watch::Sender<SignedCheckpoint>,
    /// The newest one with cosignatures.
    pub(crate) cosigned: watch::Sender<Option<SignedCheckpoint>>,
}

/// One shard.
pub(crate) struct Shard {
    pub(crate) name: ShardName,
    /// Entries of the log before it.
    pub(crate) before: u64,
    pub(crate) live: Mutex<Live>,
}

/// What changes of a shard.
pub(crate) struct Live {
    /// Durable entries and all that belongs to them.
    pub(crate) size: u64,
    /// The newest, of this size.
    pub(crate) checkpoint: SignedCheckpoint,
    /// The newest with cosignatures, since the log was opened.
    pub(crate) cosigned: Option<SignedCheckpoint>,
    pub(crate) closed: bool,
    /// Only the checkpoint is left.
    pub(crate) pruned: bool,
    pub(crate) kept: Option<Kept>,
}

/// A journal that is still there.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) journal: Arc<Journal>,
    /// After the last durable seal.
    pub(crate) at: Position,
}

pub(crate) struct Journal {
    pub(crate) file: Arc<dyn LogFile>,
    pub(crate) id: JournalId,
    /// The hashes of its tree.
    pub(crate) tree: Memory,
    /// The position before every record whose index is a multiple of [`TILE`]: where an entry bundle
    /// begins.
    pub(crate) marks: Mutex<Vec<Position>>,
}

impl Shared {
    pub(crate) fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last shard. There always is one.
    pub(crate) fn last(&self) -> Option<Arc<Shard>> {
        self.shards
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .last()
            .cloned()
    }

    /// The shard of a number.
    pub(crate) fn shard(&self, number: u64) -> Option<Arc<Shard>> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let at = shards.binary_search_by_key(&number, |shard| shard.name.number);
        at.ok().and_then(|at| shards.get(at)).cloned()
    }

    /// The shard in which the entry of an index is, or will be.
    pub(crate) fn shard_of(&self, index: u64) -> Option<Arc<Shard>> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let after = shards.partition_point(|shard| shard.before <= index);
        shards.get(after.checked_sub(1)?).cloned()
    }

    pub(crate) fn add(&self, shard: Arc<Shard>) {
        self.shards
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(shard);
    }
}

impl Shard {
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn number(&self) -> u64 {
        self.name.number
    }

    /// A path in its directory.
    pub(crate) fn path(&self, of: &str) -> String {
        path(self.name.number, of)
    }
}

/// A path in a shard's directory.
pub(crate) fn path(number: u64, of: &str) -> String {
    format!("{number}/{of}")
}

impl Journal {
    pub(crate) fn new(file: Arc<dyn LogFile>, id: JournalId) -> Self {
        Self {
            file,
            id,
            tree: Memory::default(),
            marks: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn mark(&self, positions: impl Iterator<Item = Position>) {
        let begins = |position: &Position| position.entries.is_multiple_of(TILE);
        self.marks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(positions.filter(begins));
    }

    /// The place of the bundle that holds a record.
    pub(crate) fn bundle(&self, index: u64) -> Option<Position> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(usize::try_from(index / TILE).ok()?).copied()
    }
}
