//! One submission: a checkpoint to a witness, from the size that it cosigned last.

use std::collections::{BTreeSet, HashMap};

use ticket_format::tlog::SignedCheckpoint;

use super::endpoint::{Caller, Reply};
use super::hub::Lines;
use super::request::AddCheckpoint;
use super::source;
use crate::AuditLog;

/// Requests of one submission: the size may be told anew while another process of ours submits too.
const TRIES: usize = 4;

/// How a submission ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The witness cosigned this checkpoint.
    Cosigned(Lines),
    /// It cosigned a newer one already, which this log has.
    Newer,
    /// It says that it cosigned a larger tree than this log has.
    Behind {
        size: u64,
        proof: Option<SignedCheckpoint>,
    },
    /// It cosigned another tree: one of this size with another root, or one that does not lead to this.
    Forked { proof: Option<SignedCheckpoint> },
    /// It does not do what a witness does.
    Refused { status: u16, why: String },
    /// It does not answer.
    Unreachable(String),
    /// The log itself could not make the proof.
    NoProof(String),
}

/// A witness, and what it is known to have cosigned of each shard.
pub(crate) struct Correspondent {
    pub(crate) caller: Caller,
    sizes: HashMap<u64, u64>,
    /// Shards of which it said otherwise than this log.
    contradicted: BTreeSet<u64>,
}

impl Correspondent {
    pub(crate) fn new(caller: Caller) -> Self {
        Self {
            caller,
            sizes: HashMap::new(),
            contradicted: BTreeSet::new(),
        }
    }

    /// What it cosigned last of a shard, as far as is known.
    pub(crate) fn cosigned(&self, shard: u64) -> Option<u64> {
        self.sizes.get(&shard).copied()
    }

    /// Remembers that it contradicts a shard.
    pub(crate) fn contradicts(&mut self, shard: u64) {
        self.contradicted.insert(shard);
    }

    /// Whether it was told already that it contradicts a shard.
    pub(crate) fn contradicted(&self, shard: u64) -> bool {
        self.contradicted.contains(&shard)
    }

    /// Sends the checkpoint, beginning at `guess` if nothing is known of the shard.
    // rule: TLOG-10
    pub(crate) async fn submit(
        &mut self,
        log: &AuditLog,
        signed: &SignedCheckpoint,
        guess: u64,
    ) -> Outcome {
        let checkpoint = signed.checkpoint();
        let shard = checkpoint.shard.number;
        let mut old = self.cosigned(shard).unwrap_or(guess);
        for _ in 0..TRIES {
            if old > checkpoint.size {
                return self.ahead(log, signed, old).await;
            }
            let proof = match source::consistency(log, shard, old, checkpoint.size).await {
                Ok(proof) => proof,
                Err(why) => return Outcome::NoProof(why),
            };
            let note = signed.note();
            let body = AddCheckpoint { old, proof, note }.to_body();
            match self.caller.add(body, checkpoint).await {
                Reply::Cosigned(lines) => {
                    self.sizes.insert(shard, checkpoint.size);
                    return Outcome::Cosigned(lines);
                }
                // The size is agreed on, so the root is not; a size that was only guessed is not agreed on by
                // an answer that names none.
                Reply::Conflict(size)
                    if old == checkpoint.size && size.or(self.cosigned(shard)) == Some(old) =>
                {
                    self.sizes.remove(&shard);
                    return self.forked(log, signed).await;
                }
                Reply::Conflict(Some(size)) if size != old => {
                    self.sizes.insert(shard, size);
                    old = size;
                }
                Reply::Conflict(_) => {
                    let why = "its conflict names no other size".to_owned();
                    return Outcome::Refused { status: 409, why };
                }
                Reply::Inconsistent => {
                    self.sizes.remove(&shard);
                    return self.forked(log, signed).await;
                }
                Reply::Refused { status, why } => return Outcome::Refused { status, why },
                Reply::Unreachable(why) => return Outcome::Unreachable(why),
            }
        }
        Outcome::Refused {
            status: 409,
            why: "it names another size each time".to_owned(),
        }
    }

    /// The witness names a larger size than the checkpoint's.
    async fn ahead(&mut self, log: &AuditLog, signed: &SignedCheckpoint, size: u64) -> Outcome {
        let shard = &signed.checkpoint().shard;
        // Forgotten, so that the next submission asks anew.
        self.sizes.remove(&shard.number);
        if source::newest_size(log, shard.number).is_some_and(|ours| size <= ours) {
            return Outcome::Newer;
        }
        let proof = self.proof(log, signed).await;
        Outcome::Behind { size, proof }
    }

    /// What the witness cosigned of a shard that this log does not have, or has otherwise: that it takes an
    /// older shard's checkpoint says nothing of those that followed.
    // rule: TLOG-10
    pub(crate) async fn beyond(&self, log: &AuditLog) -> Option<Outcome> {
        let key = log.key();
        let shown = self.caller.show(key, key.origin.as_str()).await?;
        let open = source::newest(log).borrow().checkpoint().shard.number;
        // What was seen of older shards may be what a recovery accounted for.
        if shown.checkpoint().shard.number < open {
            return None;
        }
        source::differs(log, &shown).await.then(|| Outcome::Behind {
            size: shown.checkpoint().size,
            proof: Some(shown),
        })
    }

    async fn forked(&self, log: &AuditLog, signed: &SignedCheckpoint) -> Outcome {
        let proof = self.proof(log, signed).await;
        Outcome::Forked { proof }
    }

    /// What only this log's keys can have made, and its tree contradicts.
    async fn proof(&self, log: &AuditLog, signed: &SignedCheckpoint) -> Option<SignedCheckpoint> {
        let shard = &signed.checkpoint().shard;
        let shown = self.caller.shown(log.key(), shard).await?;
        source::differs(log, &shown).await.then_some(shown)
    }
}
