//! What the log proves: receipts of entries, consistency with checkpoints that others have seen.

use std::sync::Arc;

use ticket_format::tlog::{Checkpoint, Hash, Proof, SignedCheckpoint, merkle};

use crate::log::AuditLog;
use crate::proof::{Prover, Tiles};
use crate::reader::{Reader, unless_pruned};
use crate::shard::{Journal, Shard};
use crate::tiles::Published;
use crate::{ConsistencyError, ReadError};

/// Most shards that one consistency proof leads across.
pub const MAX_LINKS: usize = 16;

/// That the log goes on from a checkpoint. (TLOG-4)
#[derive(Clone, Debug)]
pub struct Consistency {
    /// The consistency proof (RFC 9162, 2.1.4) from the checkpoint given to [`Consistency::checkpoint`].
    pub path: Vec<Hash>,
    /// The newest checkpoint of the same shard; its last one if the shard is closed.
    pub checkpoint: SignedCheckpoint,
    /// Of each later shard its first entry and the entry's proof, under the last checkpoint of that
    /// shard; at most [`MAX_LINKS`], then whoever asks goes on from the last one's checkpoint.
    pub links: Vec<(Vec<u8>, String)>,
}

/// Hashes of a shard, wherever they are.
enum Hashes<'a> {
    Memory(Arc<Journal>),
    Published(Published<'a>),
}

impl Tiles for Hashes<'_> {
    type Error = ReadError;

    fn tile(&self, level: u8, index: u64, width: usize) -> Result<Arc<Vec<Hash>>, ReadError> {
        match self {
            Self::Memory(journal) => journal
                .tree
                .tile(level, index, width)
                .map_err(|_| self.short(level, index)),
            Self::Published(published) => published.tile(level, index, width),
        }
    }

    fn node(&self, level: usize, index: u64) -> Option<Hash> {
        match self {
            Self::Memory(journal) => journal.tree.node(level, index),
            Self::Published(_) => None,
        }
    }

    fn short(&self, level: u8, index: u64) -> ReadError {
        match self {
            Self::Memory(_) => ReadError::Damaged {
                index,
                reason: format!("its tree has no tile {index} of level {level}"),
            },
            Self::Published(published) => published.short(level, index),
        }
    }
}

impl AuditLog {
    /// An entry and its proof (C2SP tlog-proof) under the newest checkpoint of its shard. Blocking I/O.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn receipt(&self, index: u64) -> Result<(Vec<u8>, String), ReadError> {
        let shard = self.shard_with(index)?;
        let record = Reader::new(Arc::clone(&self.shared), index, index + 1).next();
        let entry = record.ok_or_else(|| self.not_there(index))??.entry;
        let checkpoint = shard.live().checkpoint.clone();
        let proof = self.prove(&shard, index, &checkpoint)?;
        Ok((entry, proof))
    }

    /// The proof of an entry under a checkpoint of its shard, which may be older than the newest and may
    /// carry cosignatures. Blocking I/O where the shard is an old one.
    ///
    /// # Errors
    /// [`ReadError::OtherCheckpoint`] if it does not cover the entry or is not this log's.
    pub fn prove_under(
        &self,
        index: u64,
        checkpoint: &SignedCheckpoint,
    ) -> Result<String, ReadError> {
        let shard = self.shard_with(index)?;
        let theirs = checkpoint.checkpoint();
        let other = |reason: &str| ReadError::OtherCheckpoint {
            reason: reason.to_owned(),
        };
        if theirs.shard != shard.name {
            return Err(other("it is of another shard than the entry"));
        }
        if theirs.size <= index - shard.before {
            return Err(other("it does not cover the entry"));
        }
        if theirs.size > shard.live().size {
            return Err(other("it is ahead of this log"));
        }
        if self.root_at(&shard, theirs.size)? != theirs.root {
            return Err(other("it is of another tree"));
        }
        self.prove(&shard, index, checkpoint)
    }

    /// That the log goes on from `old`, whose signatures the caller need not have verified. Blocking I/O.
    ///
    /// # Errors
    /// [`ConsistencyError`]: says whether this log is behind it, or forked.
    pub fn consistency(&self, old: &Checkpoint) -> Result<Consistency, ConsistencyError> {
        let unknown = || ConsistencyError::Unknown {
            shard: old.shard.to_string(),
        };
        if old.shard.origin != self.key().origin {
            return Err(unknown());
        }
        // Before any checkpoint is read: of a shard that ends meanwhile the answer then shows no end, and no
        // link names one that the answer does not show.
        let later = self.shared.shards().into_iter();
        let shard = self.shared.shard(old.shard.number).ok_or_else(unknown)?;
        let checkpoint = shard.live().checkpoint.clone();
        let ours = checkpoint.checkpoint().size;
        // rule: TLOG-4
        if old.size > ours {
            return Err(ConsistencyError::Behind {
                shard: old.shard.to_string(),
                theirs: old.size,
                ours,
            });
        }
        let path = if old.size == ours || old.size == 0 {
            Vec::new()
        } else {
            self.path_between(&shard, old.size, ours)?
        };
        let root = match old.size {
            0 => merkle::empty_root(),
            size if size == ours => checkpoint.checkpoint().root,
            size => self.root_at(&shard, size)?,
        };
        if old.root != root {
            return Err(ConsistencyError::Fork {
                shard: old.shard.to_string(),
                size: old.size,
            });
        }
        let mut links = Vec::new();
        for next in later
            .filter(|next| next.number() > shard.number())
            .take(MAX_LINKS)
        {
            links.push(self.receipt(next.before)?);
        }
        Ok(Consistency {
            path,
            checkpoint,
            links,
        })
    }

    /// The consistency proof between two sizes of a shard. No I/O for the open shard.
    ///
    /// # Errors
    /// [`ReadError::OtherCheckpoint`] if there is no such shard, or it is not so large.
    pub fn consistency_path(&self, shard: u64, from: u64, to: u64) -> Result<Vec<Hash>, ReadError> {
        let other = |reason: String| ReadError::OtherCheckpoint { reason };
        let shard = self
            .shared
            .shard(shard)
            .ok_or_else(|| other(format!("there is no shard {shard}")))?;
        let size = shard.live().size;
        if from > to || to > size {
            return Err(other(format!("the shard has {size} entries")));
        }
        self.path_between(&shard, from, to)
    }

    /// The root of a shard at a size that it has, or had. No I/O for the open shard.
    ///
    /// # Errors
    /// As [`AuditLog::consistency_path`].
    pub fn root_of(&self, shard: u64, size: u64) -> Result<Hash, ReadError> {
        let found = self.shared.shard(shard);
        let found = found.filter(|shard| size <= shard.live().size);
        let found = found.ok_or_else(|| ReadError::OtherCheckpoint {
            reason: format!("shard {shard} has not so many entries"),
        })?;
        self.root_at(&found, size)
    }

    fn path_between(&self, shard: &Shard, from: u64, to: u64) -> Result<Vec<Hash>, ReadError> {
        let hashes = self.hashes(shard)?;
        let path = Prover::new(&hashes, to).consistency(from).and_then(|path| {
            if let Hashes::Published(_) = hashes {
                let old = signed_root(shard, &hashes, from)?;
                let new = signed_root(shard, &hashes, to)?;
                merkle::verify_consistency(from, &old, to, &new, &path)
                    .map_err(|error| astray(shard, &error))?;
            }
            Ok(path)
        });
        path.map_err(|error| unless_pruned(shard, error, shard.before))
    }

    fn root_at(&self, shard: &Shard, size: u64) -> Result<Hash, ReadError> {
        let hashes = self.hashes(shard)?;
        let root = match hashes {
            Hashes::Memory(_) => Prover::new(&hashes, size).root(),
            Hashes::Published(_) => signed_root(shard, &hashes, size),
        };
        root.map_err(|error| unless_pruned(shard, error, shard.before))
    }

    fn prove(
        &self,
        shard: &Shard,
        index: u64,
        checkpoint: &SignedCheckpoint,
    ) -> Result<String, ReadError> {
        let local = index - shard.before;
        let hashes = self.hashes(shard)?;
        let prover = Prover::new(&hashes, checkpoint.checkpoint().size);
        let proof = prover.inclusion(local).and_then(|path| {
            // Tiles on disk may have been touched.
            let leaf = prover.leaf(local)?;
            let Checkpoint { size, root, .. } = checkpoint.checkpoint();
            merkle::verify_inclusion(&leaf, local, *size, &path, root).map_err(|error| {
                ReadError::Damaged {
                    index,
                    reason: format!("its tiles do not lead to the checkpoint: {error}"),
                }
            })?;
            Ok(Proof {
                index: local,
                path,
                checkpoint: checkpoint.note().to_owned(),
            })
        });
        let proof = proof.map_err(|error| unless_pruned(shard, error, index))?;
        Ok(proof.to_string())
    }

    fn hashes(&self, shard: &Shard) -> Result<Hashes<'_>, ReadError> {
        let live = shard.live();
        if live.pruned {
            return Err(ReadError::Pruned {
                index: shard.before,
                shard: shard.number(),
            });
        }
        Ok(match &live.kept {
            Some(kept) => Hashes::Memory(Arc::clone(&kept.journal)),
            None => Hashes::Published(Published {
                disk: &*self.shared.disk,
                shard: shard.number(),
                before: shard.before,
                size: live.size,
            }),
        })
    }

    fn shard_with(&self, index: u64) -> Result<Arc<Shard>, ReadError> {
        let shard = self.shared.shard_of(index);
        let shard = shard.filter(|shard| index - shard.before < shard.live().size);
        shard.ok_or_else(|| self.not_there(index))
    }

    fn not_there(&self, index: u64) -> ReadError {
        ReadError::NotThere {
            index,
            entries: self.head().entries,
        }
    }
}

/// The root of a published shard at a size, once its tiles lead from there to the signed checkpoint. Tiles
/// on disk may have been touched, and a root of damaged ones would look like a fork. (TLOG-4)
fn signed_root(shard: &Shard, hashes: &Hashes<'_>, size: u64) -> Result<Hash, ReadError> {
    let last = shard.live().checkpoint.checkpoint().clone();
    let root = Prover::new(hashes, size).root()?;
    let path = Prover::new(hashes, last.size).consistency(size)?;
    merkle::verify_consistency(size, &root, last.size, &last.root, &path)
        .map_err(|error| astray(shard, &error))?;
    Ok(root)
}

fn astray(shard: &Shard, error: &merkle::ProofError) -> ReadError {
    ReadError::Damaged {
        index: shard.before,
        reason: format!("its tiles do not lead to the checkpoint: {error}"),
    }
}
