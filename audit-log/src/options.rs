//! How a log is set up.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ticket_format::time::Timestamp;
use ticket_format::tlog::Checkpoint;

/// Tells the time for checkpoints.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The entries between two shards. Entries are opaque to the log, so whoever opens it makes them.
pub trait ShardEntries: Send + Sync {
    /// The last entry of a shard (kind 16): `last` is the shard's tree before it.
    fn closed(&self, last: &Checkpoint) -> Vec<u8>;
    /// The first entry of a shard after another (kind 15): `previous` is the final tree of that one, and
    /// `before` entries of the log stand before the new shard.
    fn opened(&self, previous: &Checkpoint, before: u64) -> Vec<u8>;
}

/// How [`AuditLog::open`](crate::AuditLog::open) sets up the log.
#[derive(Clone)]
pub struct Options {
    /// Acts remembered for [`AuditLog::append_once`](crate::AuditLog::append_once), the newest; about
    /// 150 bytes of memory each. Must exceed the number of records that can come between an append and
    /// its repetition. Acts are remembered across a restart as long as their shard's journal is kept:
    /// until the shard after it is closed.
    pub remembered_acts: usize,
    /// Bytes of a journal after which its shard is closed.
    pub shard_bytes: u64,
    /// What stands between shards. Without it the log stays in one shard.
    pub shard_entries: Option<Arc<dyn ShardEntries>>,
    /// Closed shards, the newest, that are kept whole; all when `None`. Of the others only the last
    /// checkpoint is kept. The shard before the open one is always kept.
    pub keep_shards: Option<u64>,
    /// How long closed shards are kept whole after their last checkpoint; for ever when `None`.
    pub keep_for: Option<Duration>,
    /// Tells the time for checkpoints.
    pub clock: Clock,
    /// How often tiles and checkpoint are published, at most one second; `None`: only by
    /// [`AuditLog::publish_now`](crate::AuditLog::publish_now) and at close.
    pub publish_every: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            remembered_acts: 65_536,
            shard_bytes: 256 * 1024 * 1024,
            shard_entries: None,
            keep_shards: None,
            keep_for: None,
            clock: Arc::new(system_time),
            publish_every: Some(Duration::from_millis(500)),
        }
    }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_seconds(since.map_or(0, |since| since.as_secs()))
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("remembered_acts", &self.remembered_acts)
            .field("shard_bytes", &self.shard_bytes)
            .field("keep_shards", &self.keep_shards)
            .field("keep_for", &self.keep_for)
            .field("publish_every", &self.publish_every)
            .finish_non_exhaustive()
    }
}
