//! What the submitter needs of its own log.

use std::sync::Arc;

use ticket_format::tlog::{Hash, SignedCheckpoint};
use tokio::sync::watch;

use super::hub::{Hub, Place};
use crate::AuditLog;

/// Most closed shards whose ends go into one round.
const MOST_ENDS: u64 = 16;

pub(crate) fn hub(log: &AuditLog) -> &Arc<Hub> {
    &log.hub
}

/// The newest durable checkpoint, as it changes.
pub(crate) fn newest(log: &AuditLog) -> watch::Receiver<SignedCheckpoint> {
    log.checkpoints()
}

/// How large a shard is by its newest checkpoint.
pub(crate) fn newest_size(log: &AuditLog, shard: u64) -> Option<u64> {
    Some(log.checkpoint_of(shard)?.checkpoint().size)
}

/// The last checkpoints of the shards from `before` on that are closed, then the newest.
pub(crate) fn with_ends(
    log: &AuditLog,
    before: Option<u64>,
    newest: SignedCheckpoint,
) -> Arc<[SignedCheckpoint]> {
    let open = newest.checkpoint().shard.number;
    // Those that were skipped in number, as after a recovery, have none.
    let closed = before.map_or(open, |before| before.max(open.saturating_sub(MOST_ENDS)))..open;
    closed
        .filter_map(|shard| log.checkpoint_of(shard))
        .chain([newest])
        .collect()
}

/// The consistency proof between two sizes of a shard.
pub(crate) async fn consistency(
    log: &AuditLog,
    shard: u64,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, String> {
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let log = log.clone();
    let made = tokio::task::spawn_blocking(move || {
        log.consistency_path(shard, old, new)
            .map_err(|error| error.to_string())
    });
    made.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Whether a checkpoint that this log's keys signed is not one that this log had.
pub(crate) async fn differs(log: &AuditLog, shown: &SignedCheckpoint) -> bool {
    let log = log.clone();
    let theirs = shown.checkpoint().clone();
    let compared = tokio::task::spawn_blocking(move || {
        match newest_size(&log, theirs.shard.number) {
            // It has more than this log, which is no less a contradiction.
            Some(ours) if theirs.size > ours => true,
            None => true,
            Some(_) => log
                .root_of(theirs.shard.number, theirs.size)
                .is_ok_and(|root| root != theirs.root),
        }
    });
    compared.await.unwrap_or(false)
}

/// Hands a checkpoint with cosignatures to the publisher.
pub(crate) fn publish(log: &AuditLog, note: &SignedCheckpoint) {
    log.set_cosigned(note.clone());
}

/// Where an entry stands.
pub(crate) fn place(log: &AuditLog, index: u64) -> Option<Place> {
    let (shard, index) = log.place(index)?;
    Some(Place { shard, index })
}
