//! The answer to a caller who remembers a checkpoint (TLOG-6).

use ticket_format::Refusal;
use ticket_format::messages::Receipt;
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::tlog::{Checkpoint, Hash, NotANote};

use super::standing::Contradiction;
use crate::{AuditLog, ConsistencyError, ReadError};

/// Why a caller gets no proof.
#[derive(Debug, thiserror::Error)]
pub enum NotConsistent {
    /// What was shown is no checkpoint.
    #[error(transparent)]
    Malformed(#[from] NotANote),
    /// A checkpoint of another log, or one that this log's keys never signed.
    #[error("the checkpoint is none of this log's")]
    Unknown,
    /// The retention removed what would prove it.
    #[error("what would prove it was removed from the log")]
    Pruned,
    /// This log's keys signed it, and the log does not hold it.
    #[error("this log's keys have signed a checkpoint that it does not hold: {0}")]
    Contradicted(Box<Contradiction>),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl NotConsistent {
    /// The number that the caller gets.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Malformed(_) => Refusal::Malformed,
            Self::Unknown => Refusal::NotFound,
            Self::Pruned => Refusal::Pruned,
            Self::Contradicted(_) => Refusal::Rollback,
            Self::Read(_) => Refusal::Internal,
        }
    }
}

/// Whether the proof from a checkpoint takes more than what is in memory: any but one of the shard that is
/// written does.
#[must_use]
pub fn reads(log: &AuditLog, asked: &ConsistencyBody) -> bool {
    let shown = Checkpoint::of_note_unverified(&asked.checkpoint);
    shown.is_ok_and(|shown| shown.shard != log.head().checkpoint.checkpoint().shard)
}

/// Proves that the log goes on from the checkpoint that a caller shows. Its signatures are looked at only
/// where the log does not hold it: a stranger costs no more than the proof. Blocking I/O where the shard is
/// an old one; the other sizes are proven of the shard alone that is written.
///
/// # Errors
/// [`NotConsistent`]; what it says of [`NotConsistent::Contradicted`] is proven, and wants an alarm.
pub fn consistency(
    log: &AuditLog,
    asked: &ConsistencyBody,
) -> Result<ConsistencyAnswer, NotConsistent> {
    // rule: TLOG-6
    let shown = Checkpoint::of_note_unverified(&asked.checkpoint)?;
    match log.consistency(&shown) {
        Ok(found) => Ok(ConsistencyAnswer {
            path: found.path,
            paths: match &asked.others {
                Some(sizes) if !reads(log, asked) => {
                    others(log, sizes, found.checkpoint.checkpoint())?
                }
                _ => None,
            },
            checkpoint: found.checkpoint.note().to_owned(),
            links: found
                .links
                .into_iter()
                .map(|(entry, proof)| Receipt { entry, proof })
                .collect(),
        }),
        Err(ConsistencyError::Pruned { .. }) => Err(NotConsistent::Pruned),
        Err(ConsistencyError::Read(error)) => Err(error.into()),
        Err(
            error @ (ConsistencyError::Unknown { .. }
            | ConsistencyError::Behind { .. }
            | ConsistencyError::Fork { .. }),
        ) => {
            tracing::debug!(%error, "a caller shows a checkpoint that is not in the log");
            let signed = log
                .key()
                .verify(&asked.checkpoint)
                .map_err(|_| NotConsistent::Unknown)?;
            let ours = log
                .checkpoint_of(shown.shard.number)
                .unwrap_or_else(|| log.head().checkpoint);
            Err(NotConsistent::Contradicted(Box::new(Contradiction {
                by: "a caller".to_owned(),
                ours: ours.checkpoint().clone(),
                size: shown.size,
                seen: Some(signed.checkpoint().clone()),
            })))
        }
    }
}

/// From each size to that of the checkpoint, of which the log has just been found to be.
fn others(
    log: &AuditLog,
    sizes: &[u64],
    to: &Checkpoint,
) -> Result<Option<Vec<Vec<Hash>>>, NotConsistent> {
    // Whoever names a size that is not there is no caller who remembers it.
    if sizes.iter().any(|size| *size > to.size) {
        return Err(NotConsistent::Unknown);
    }
    let path = |size: &u64| log.consistency_path(to.shard.number, *size, to.size);
    Ok(Some(sizes.iter().map(path).collect::<Result<_, _>>()?))
}
