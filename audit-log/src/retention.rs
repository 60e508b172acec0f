//! What becomes of old shards. (TLOG-4)
//!
//! The journal of a closed shard goes once the shard after it is closed too and its tiles are complete
//! and verified; a shard beyond what is kept loses its tiles, never its checkpoint.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ticket_format::time::Timestamp;
use ticket_format::tlog::merkle;

use crate::options::Options;
use crate::proof::{Prover, TILE, Tiles};
use crate::shard::{Shard, Shared};
use crate::tiles::{self, Published};
use crate::tree::Edge;

/// What the tiles of a shard are called while they are removed.
const REMOVED: &str = "tile.removed";

pub(crate) struct Keep {
    shards: Option<u64>,
    time: Option<Duration>,
    /// Shards at the last look.
    seen: usize,
}

impl From<&Options> for Keep {
    fn from(options: &Options) -> Self {
        Self {
            shards: options.keep_shards,
            time: options.keep_for,
            seen: 0,
        }
    }
}

impl Keep {
    /// Whether shards were added since the last look.
    pub(crate) fn changed(&self, shards: usize) -> bool {
        self.seen != shards
    }

    pub(crate) fn apply(
        &mut self,
        shared: &Shared,
        shards: &[Arc<Shard>],
        now: Timestamp,
    ) -> io::Result<()> {
        // Also of a look that fails: else each tick would read damaged shards again.
        let first = std::mem::replace(&mut self.seen, shards.len()) == 0;
        // The open shard, and the one before it for its act ids, are left alone.
        let old = &shards[..shards.len().saturating_sub(2)];
        let keep = self.shards.unwrap_or(u64::MAX);
        let mut result = Ok(());
        for (at, shard) in old.iter().enumerate() {
            let newer = (shards.len() - 1 - at) as u64;
            // One that is damaged keeps no other from its turn.
            result = result.and(self.look_at(shared, shard, first, newer > keep, now));
        }
        result
    }

    fn look_at(
        &self,
        shared: &Shared,
        shard: &Shard,
        first: bool,
        surplus: bool,
        now: Timestamp,
    ) -> io::Result<()> {
        remove_journal(shared, shard)?;
        let (age, pruned) = {
            let live = shard.live();
            (now.since(live.checkpoint.time()), live.pruned)
        };
        if pruned {
            return match first {
                // What a crash left half removed.
                true => shared.disk.remove_tree(&shard.path(REMOVED)),
                false => Ok(()),
            };
        }
        let expired = self.time.is_some_and(|time| age > time.as_secs());
        if surplus || expired {
            prune(shared, shard)?;
        }
        Ok(())
    }
}

/// Removes the journal of a shard whose tiles hold all that it holds.
fn remove_journal(shared: &Shared, shard: &Shard) -> io::Result<()> {
    let (kept, checkpoint) = {
        let live = shard.live();
        (live.kept.is_some(), live.checkpoint.clone())
    };
    if !kept {
        return Ok(());
    }
    let path = shard.path("checkpoint");
    let published = shared.disk.read(&path)?.unwrap_or_default();
    let published = String::from_utf8(published).map_err(io::Error::other)?;
    let published = shared.key.verify(&published).map_err(io::Error::other)?;
    if published.checkpoint() != checkpoint.checkpoint() {
        // It is published with the next round.
        return Ok(());
    }
    verify(shared, shard, checkpoint.checkpoint().size).and_then(|root| {
        if root == checkpoint.checkpoint().root {
            Ok(())
        } else {
            Err(io::Error::other("its tiles lead to another root"))
        }
    })?;
    // From here on readers use the tiles.
    shard.live().kept = None;
    shared.disk.remove(&shard.path("journal"))?;
    shared.disk.sync_directory(&shard.number().to_string())
}

/// Checks every entry of a published shard against its leaf hash and all leaf hashes against the root, and
/// gives the root of its tiles. Those alone would not do: a root is made without the full tiles of level 0.
fn verify(shared: &Shared, shard: &Shard, size: u64) -> io::Result<[u8; 32]> {
    let published = Published {
        disk: &*shared.disk,
        shard: shard.number(),
        before: shard.before,
        size,
    };
    let (mut edge, mut entries) = (Edge::default(), merkle::empty_root());
    for bundle in 0..size.div_ceil(TILE) {
        let width = tiles::width(size, 0, bundle);
        let bytes = published.bundle(bundle, width).map_err(io::Error::other)?;
        let tile = published
            .tile(0, bundle, width as usize)
            .map_err(io::Error::other)?;
        let leaves: Vec<_> = tiles::entries(&bytes)
            .0
            .into_iter()
            .map(merkle::leaf_hash)
            .collect();
        if leaves != tile[..] {
            let why = format!("bundle {bundle} of shard {} is damaged", shard.number());
            return Err(io::Error::other(why));
        }
        let (after, grown) = edge.grow(leaves);
        (edge, entries) = (after, grown.root);
    }
    let root = Prover::new(&published, size)
        .root()
        .map_err(io::Error::other)?;
    if entries != root {
        let why = format!(
            "the tiles of shard {} do not fit each other",
            shard.number()
        );
        return Err(io::Error::other(why));
    }
    Ok(root)
}

/// Removes all of a shard but its last checkpoint.
fn prune(shared: &Shared, shard: &Shard) -> io::Result<()> {
    {
        let mut live = shard.live();
        if live.kept.is_some() {
            return Ok(());
        }
        live.pruned = true;
    }
    tracing::info!(
        shard = shard.number(),
        "a shard of the audit log was removed, as its retention says"
    );
    // Its name goes first, so that no half of it is taken for the whole.
    let (tiles, gone) = (shard.path("tile"), shard.path(REMOVED));
    match shared.disk.rename(&tiles, &gone) {
        // A shard that was left empty by a recovery has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            // Nothing is gone: it is tried again at the next look.
            shard.live().pruned = false;
            return Err(error);
        }
        Ok(()) => {}
    }
    shared.disk.sync_directory(&shard.number().to_string())?;
    shared.disk.remove_tree(&gone)
}
