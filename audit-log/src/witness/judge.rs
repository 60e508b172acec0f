//! What a witness answers, and what it keeps.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ticket_format::time::Timestamp;
use ticket_format::tlog::{
    CheckpointError, Hash, LogKey, Origin, ShardName, SignedCheckpoint, Vkey, WitnessSecret,
    merkle, note,
};

use super::request::{AddCheckpoint, RequestError};
use super::state::{StateDir, StateError, Stored, hex};

/// Most logs that one witness follows.
pub const MAX_LOGS: usize = 256;
/// Most shards of one log that are kept; bounds what a log's key can write on a witness's disk.
pub const MAX_SHARDS: usize = 4_096;

/// The answer to an add-checkpoint request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200: the cosignature lines. The checkpoint is durable.
    Cosigned(String),
    /// 400: not a request, or an old size beyond the checkpoint's.
    Malformed(String),
    /// 403: not signed by the log, or a shard too many.
    Forbidden(&'static str),
    /// 404: no log that is followed here.
    UnknownLog,
    /// 409: the size that was cosigned last. The old size is another; or it is this one, and so is the
    /// checkpoint's, and its root is not the one that was cosigned.
    Conflict {
        /// In leaves.
        size: u64,
    },
    /// 413: longer than any request may be.
    TooLong,
    /// 422: the proof does not lead from the checkpoint that was cosigned last to this one.
    Inconsistent,
    /// 500: the checkpoint could not be made durable; nothing was signed that left.
    NotKept(String),
}

impl Answer {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Cosigned(_) => 200,
            Self::Malformed(_) => 400,
            Self::Forbidden(_) => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } => 409,
            Self::TooLong => 413,
            Self::Inconsistent => 422,
            Self::NotKept(_) => 500,
        }
    }

    /// The media type of the body.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "text/x.tlog.size",
            _ => "text/plain; charset=utf-8",
        }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Self::Cosigned(lines) => lines.clone(),
            Self::Conflict { size } => format!("{size}\n"),
            Self::Malformed(why) => format!("{why}\n"),
            Self::Forbidden(why) => format!("{why}\n"),
            Self::UnknownLog => "this witness does not follow a log of that origin\n".to_owned(),
            Self::TooLong => format!("{}\n", RequestError::TooLong),
            Self::Inconsistent => {
                "the proof does not lead here from the checkpoint that was cosigned last\n"
                    .to_owned()
            }
            // What the disk said is for the witness's own log.
            Self::NotKept(_) => {
                "the checkpoint could not be kept, so it was not cosigned\n".to_owned()
            }
        }
    }
}

/// What a witness cosigned last of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which.
    pub shard: ShardName,
    /// In leaves.
    pub size: u64,
    /// The root at that size.
    pub root: Hash,
    /// When.
    pub time: Timestamp,
    /// The checkpoint, as its log signed it.
    pub note: String,
}

struct Followed {
    key: LogKey,
    /// Held from the comparison with what was cosigned last until the new one is durable.
    shards: Mutex<BTreeMap<u64, Head>>,
}

impl Followed {
    fn shards(&self) -> MutexGuard<'_, BTreeMap<u64, Head>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A witness: keys, the logs that it follows, and what it cosigned of them.
pub struct Witness {
    secret: WitnessSecret,
    logs: HashMap<Origin, Followed>,
    state: StateDir,
    /// [`MAX_SHARDS`]; fewer in tests.
    pub(super) most_shards: usize,
    /// The shards that were cosigned, by the [`digest`] of their origins.
    digests: Mutex<HashMap<String, ShardName>>,
    /// The logs, by that of theirs.
    origins: HashMap<String, Origin>,
}

/// The name under which the last cosigned checkpoint can be asked for: the SHA-256, in hex, of a shard's
/// origin, or of a log's, whose newest shard it then is.
#[must_use]
pub fn digest(origin: &str) -> String {
    hex(origin.as_bytes())
}

impl Witness {
    /// Makes the state of a new witness: a directory (0700), once, when its keys are made.
    ///
    /// # Errors
    /// [`StateError::Exists`], or the system refused.
    pub fn create(dir: &Path) -> Result<(), StateError> {
        StateDir::create(dir)
    }

    /// Opens a witness on its state, which must be there ([`Witness::create`]): without it the witness could sign
    /// backwards. Records of logs that are no longer followed stay. Blocking.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(
        dir: &Path,
        secret: WitnessSecret,
        logs: impl IntoIterator<Item = LogKey>,
    ) -> Result<Self, StateError> {
        let state = StateDir::open(dir)?;
        let mut followed = HashMap::new();
        for key in logs {
            let origin = key.origin.clone();
            let log = Followed {
                key,
                shards: Mutex::default(),
            };
            if followed.insert(origin.clone(), log).is_some() {
                return Err(StateError::Twice {
                    origin: origin.to_string(),
                });
            }
        }
        if followed.len() > MAX_LOGS {
            return Err(StateError::TooMany {
                found: followed.len(),
                most: MAX_LOGS,
            });
        }
        let mut digests = HashMap::new();
        for (shard, stored) in state.load()? {
            let Some(log) = followed.get_mut(&shard.origin) else {
                continue;
            };
            let shards = log.shards.get_mut().unwrap_or_else(PoisonError::into_inner);
            let head = head(&log.key, &shard, stored).map_err(|reason| StateError::Damaged {
                path: state.file(&shard),
                reason,
            })?;
            digests.insert(digest(&shard.to_string()), shard.clone());
            shards.insert(shard.number, head);
        }
        let origins = followed.keys();
        let origins = origins.map(|origin| (digest(origin.as_str()), origin.clone()));
        Ok(Self {
            secret,
            origins: origins.collect(),
            logs: followed,
            state,
            most_shards: MAX_SHARDS,
            digests: Mutex::new(digests),
        })
    }

    /// The witness's public keys: Ed25519 and ML-DSA-44.
    #[must_use]
    pub fn vkeys(&self) -> &[Vkey; 2] {
        self.secret.vkeys()
    }

    /// What was cosigned last, of every shard of every log that is followed.
    #[must_use]
    pub fn heads(&self) -> Vec<Head> {
        let mut heads: Vec<Head> = self
            .logs
            .values()
            .flat_map(|log| log.shards().values().cloned().collect::<Vec<_>>())
            .collect();
        heads.sort_by_key(|head| (head.shard.origin.to_string(), head.shard.number));
        heads
    }

    /// What was cosigned last of a shard.
    #[must_use]
    pub fn head(&self, shard: &ShardName) -> Option<Head> {
        let log = self.logs.get(&shard.origin)?;
        log.shards().get(&shard.number).cloned()
    }

    /// What was cosigned last of the shard with this [`digest`], or of the newest shard of the log with it.
    #[must_use]
    pub fn head_by_digest(&self, digest: &str) -> Option<Head> {
        if let Some(origin) = self.origins.get(digest) {
            let log = self.logs.get(origin)?;
            return log.shards().values().next_back().cloned();
        }
        let shard = self.digests().get(digest).cloned()?;
        self.head(&shard)
    }

    fn digests(&self) -> MutexGuard<'_, HashMap<String, ShardName>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers an add-checkpoint request. The new checkpoint is durable before this returns the
    /// cosignatures; from the comparison with the last one until then no other request of the same log is
    /// judged. Blocking.
    // rule: TLOG-9
    pub fn add_checkpoint(&self, body: &[u8], now: Timestamp) -> Answer {
        let asked = match AddCheckpoint::parse(body) {
            Ok(asked) => asked,
            Err(RequestError::TooLong) => return Answer::TooLong,
            Err(error) => return Answer::Malformed(error.to_string()),
        };
        let origin = asked.note.split('\n').next().unwrap_or_default();
        let shard = origin.parse::<ShardName>().ok();
        let Some(log) = shard.and_then(|shard| self.logs.get(&shard.origin)) else {
            return Answer::UnknownLog;
        };
        let signed = match log.key.verify(asked.note) {
            Ok(signed) => signed,
            Err(error) => return not_verified(&error),
        };
        let checkpoint = signed.checkpoint();
        if asked.old > checkpoint.size {
            return Answer::Malformed(format!(
                "the old size {} is beyond the checkpoint's {}",
                asked.old, checkpoint.size
            ));
        }
        let mut shards = log.shards();
        let last = shards.get(&checkpoint.shard.number);
        // A shard that was never cosigned is the empty tree, which everything grows from.
        let (size, root, time) = last.map_or((0, merkle::empty_root(), 0), |last| {
            (last.size, last.root, last.time.seconds())
        });
        if asked.old != size {
            return Answer::Conflict { size };
        }
        if checkpoint.size == size && checkpoint.root != root {
            tracing::error!(
                shard = %checkpoint.shard, size, cosigned = last.map(|last| last.note.as_str()),
                submitted = asked.note,
                "a log signed two checkpoints of one size with different roots: it forked"
            );
            return Answer::Conflict { size };
        }
        if !follows(size, &root, &signed, &asked.proof) {
            tracing::warn!(
                shard = %checkpoint.shard, size, submitted = checkpoint.size,
                "a signed checkpoint came without a proof that it continues the one that was cosigned last"
            );
            return Answer::Inconsistent;
        }
        let last_was_none = last.is_none();
        if last_was_none && shards.len() >= self.most_shards {
            return Answer::Forbidden("the log has more shards than a witness keeps");
        }
        // A cosignature says that nothing larger was seen by its time, so times do not go back either.
        let time = Timestamp::from_seconds(now.seconds().max(time));
        let lines = self.secret.cosign(checkpoint, time);
        let note = own(&log.key, &signed);
        if checkpoint.size > size {
            let stored = Stored {
                time: time.seconds(),
                note: note.clone(),
            };
            // Durable before it is answered; on failure what stands in memory stays.
            if let Err(error) = self.state.keep(&checkpoint.shard, &stored) {
                tracing::error!(shard = %checkpoint.shard, %error, "a checkpoint could not be kept and was not cosigned");
                return Answer::NotKept(error.to_string());
            }
        }
        let head = Head {
            shard: checkpoint.shard.clone(),
            size: checkpoint.size,
            root: checkpoint.root,
            time,
            note,
        };
        if checkpoint.size > 0 {
            if last_was_none {
                let digest = digest(&head.shard.to_string());
                self.digests().insert(digest, head.shard.clone());
            }
            shards.insert(checkpoint.shard.number, head);
        }
        Answer::Cosigned(lines)
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness")
            .field("logs", &self.logs.len())
            .finish_non_exhaustive()
    }
}

/// Whether `proof` leads from the checkpoint that was cosigned last to the one submitted.
fn follows(size: u64, root: &Hash, signed: &SignedCheckpoint, proof: &[Hash]) -> bool {
    let new = signed.checkpoint();
    if size == 0 || size == new.size {
        // From nothing, or from itself, there is nothing to prove; the roots were compared above.
        return proof.is_empty();
    }
    merkle::verify_consistency(size, root, new.size, &new.root, proof).is_ok()
}

/// The note with the lines of its log's own keys, and no others: those are the submitter's to choose.
fn own(key: &LogKey, signed: &SignedCheckpoint) -> String {
    let checkpoint = signed.checkpoint();
    let keys = key.shard_vkeys(checkpoint.shard.number);
    let mut note = checkpoint.text();
    note.push('\n');
    // It was split when it was verified.
    if let Ok((_, lines)) = note::split(signed.note()) {
        for line in lines {
            // A key that signed twice says nothing more by it.
            if keys.iter().any(|key| line.is_of(key)) && !note.contains(line.line) {
                note.push_str(line.line);
            }
        }
    }
    note
}

fn not_verified(error: &CheckpointError) -> Answer {
    match error {
        CheckpointError::Note(_) => Answer::Malformed(error.to_string()),
        _ => Answer::Forbidden("the checkpoint is not signed by the keys of its log"),
    }
}

/// A record as it was kept, its log's signatures verified again.
fn head(key: &LogKey, shard: &ShardName, stored: Stored) -> Result<Head, &'static str> {
    let signed = key
        .verify(&stored.note)
        .map_err(|_| "its checkpoint is not signed by the configured keys of the log")?;
    let checkpoint = signed.checkpoint();
    if checkpoint.shard != *shard {
        return Err("it holds the checkpoint of another shard");
    }
    Ok(Head {
        shard: shard.clone(),
        size: checkpoint.size,
        root: checkpoint.root,
        time: Timestamp::from_seconds(stored.time),
        note: stored.note,
    })
}
