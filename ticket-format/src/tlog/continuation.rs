//! That a log goes on from a checkpoint, as whoever remembers one verifies it (TLOG-6).

use super::checkpoint::{Checkpoint, SignedCheckpoint};
use super::merkle::{self, ProofError};
use super::verifier::{ReceiptError, Verifier};
use crate::entry::Kind;
use crate::limits;
use crate::messages::consistency::ConsistencyAnswer;

/// What a log has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continued {
    /// The newest checkpoint that the answer leads to.
    pub checkpoint: SignedCheckpoint,
    /// The answer was full: there may be more shards, and whoever asks goes on from this checkpoint.
    pub more: bool,
    /// Every one of the other checkpoints is proven to lead there too. Else nothing is known of any, and each is
    /// to be asked about: the answer then is about that one.
    pub others: bool,
}

/// Why an answer does not show that the log goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContinuationError {
    /// A checkpoint or a receipt in it does not verify.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The answer is about another shard.
    #[error("the answer's checkpoint is of another shard")]
    OtherShard,
    /// The tree does not go on from the one before.
    #[error("the log does not go on from what was seen of it: {0}")]
    Proof(#[from] ProofError),
    /// A link is no first entry of a shard.
    #[error("link {0} is no first entry of a later shard")]
    NotOpened(usize),
    /// A link names another tree before it.
    #[error("link {0} goes on from another tree")]
    Link(usize),
}

/// Verifies that a log goes on from a checkpoint that was verified once, over as many shards as the answer
/// names. The verifier is the log's, without witnesses.
///
/// # Errors
/// [`ContinuationError`]: an integrity failure, whatever it is.
pub fn verify_continuation(
    verifier: &Verifier,
    remembered: &Checkpoint,
    answer: &ConsistencyAnswer,
) -> Result<Continued, ContinuationError> {
    verify_continuations(verifier, remembered, &[], answer)
}

/// As [`verify_continuation`], with other checkpoints of the same shard, whose sizes were asked about in this
/// order beside the one that is remembered.
///
/// # Errors
/// [`ContinuationError`]: an integrity failure, whatever it is.
pub fn verify_continuations(
    verifier: &Verifier,
    remembered: &Checkpoint,
    others: &[&Checkpoint],
    answer: &ConsistencyAnswer,
) -> Result<Continued, ContinuationError> {
    // rule: TLOG-6
    let mut newest = verifier.checkpoint(&answer.checkpoint)?;
    let named = newest.checkpoint();
    if named.shard != remembered.shard {
        return Err(ContinuationError::OtherShard);
    }
    merkle::verify_consistency(
        remembered.size,
        &remembered.root,
        named.size,
        &named.root,
        &answer.path,
    )?;
    let paths = answer.paths.as_deref().unwrap_or_default();
    let proven = paths.len() == others.len()
        && others.iter().zip(paths).all(|(other, path)| {
            let (from, to) = (other.size, named.size);
            other.shard == named.shard
                && merkle::verify_consistency(from, &other.root, to, &named.root, path).is_ok()
        });
    for (number, link) in answer.links.iter().enumerate() {
        let link = verifier.verify(link)?;
        let shard = &link.checkpoint.checkpoint().shard;
        let later = shard.number > newest.checkpoint().shard.number;
        // rule: TLOG-4
        if link.index != 0 || link.entry.kind != Kind::ShardOpened || !later {
            return Err(ContinuationError::NotOpened(number + 1));
        }
        if link.entry.log.as_ref() != Some(newest.checkpoint()) {
            return Err(ContinuationError::Link(number + 1));
        }
        newest = link.checkpoint;
    }
    Ok(Continued {
        checkpoint: newest,
        more: answer.links.len() == limits::SHARD_LINKS,
        others: proven,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::Encode;
    use crate::entry::Entry;
    use crate::ids::ActId;
    use crate::keys::TlsSecret;
    use crate::messages::Receipt;
    use crate::statement::Role;
    use crate::time::Timestamp;
    use crate::tlog::{Hash, LogSecret, Origin, proof};

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn secret(seed: u8) -> LogSecret {
        let server = TlsSecret::from_seed(&[9; 32]).public();
        let origin = Origin::new("test", Role::Broker, &server);
        LogSecret::from_seeds(origin, &[seed; 32], &[seed; 32]).unwrap()
    }

    fn leaf(n: u8) -> Hash {
        merkle::leaf_hash(&[n])
    }

    /// The tree of leaves 0 to n - 1, for n up to 2.
    fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            [one, two] => merkle::node_hash(one, two),
            _ => merkle::empty_root(),
        }
    }

    fn checkpoint(secret: &LogSecret, shard: u64, leaves: &[Hash]) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            shard: secret.key().origin.shard(shard),
            size: leaves.len() as u64,
            root: root(leaves),
        };
        secret.sign(&checkpoint, now())
    }

    fn opened(secret: &LogSecret, shard: u64, before: &Checkpoint, kind: Kind) -> Receipt {
        let entry = Entry::new(ActId([1; 16]), kind, now()).log(before.clone());
        let entry = entry.to_cbor();
        let note = checkpoint(secret, shard, &[merkle::leaf_hash(&entry)]);
        Receipt {
            entry,
            proof: proof::text(0, &[], note.note()),
        }
    }

    #[test]
    fn other_checkpoints_of_the_shard_are_each_proven_or_none_is() {
        // rule: TLOG-6
        let log = secret(1);
        let verifier = Verifier::new(log.key().clone(), None);
        let empty = checkpoint(&log, 1, &[]);
        let one = checkpoint(&log, 1, &[leaf(0)]);
        let two = checkpoint(&log, 1, &[leaf(0), leaf(1)]);
        let answer = ConsistencyAnswer {
            path: Vec::new(),
            checkpoint: two.note().to_owned(),
            links: Vec::new(),
            paths: Some(vec![vec![leaf(1)], Vec::new()]),
        };
        let verify = |others: &[&Checkpoint], answer: &ConsistencyAnswer| {
            verify_continuations(&verifier, two.checkpoint(), others, answer)
        };
        let both = [one.checkpoint(), empty.checkpoint()];
        assert!(verify(&both, &answer).unwrap().others);
        // Of another tree of the same size, of another shard, or another number of them.
        let bent = checkpoint(&log, 1, &[leaf(7)]);
        let elsewhere = checkpoint(&log, 2, &[leaf(0)]);
        let (bent, elsewhere) = (bent.checkpoint(), elsewhere.checkpoint());
        let (one, empty) = (both[0], both[1]);
        for others in [
            &[bent, empty][..],
            &[elsewhere, empty],
            &[one, bent],
            &[one],
            &[empty, one],
            &[],
            &[one, empty, one],
        ] {
            assert!(!verify(others, &answer).unwrap().others, "{others:?}");
        }
        let silent = ConsistencyAnswer {
            paths: None,
            ..answer
        };
        assert!(!verify(&both, &silent).unwrap().others);
    }

    #[test]
    fn a_log_goes_on_over_a_shard_and_nothing_else_does() {
        // rule: TLOG-4, TLOG-6
        let log = secret(1);
        let verifier = Verifier::new(log.key().clone(), None);
        let one = checkpoint(&log, 1, &[leaf(0)]);
        let two = checkpoint(&log, 1, &[leaf(0), leaf(1)]);
        let answer = ConsistencyAnswer {
            paths: None,
            path: vec![leaf(1)],
            checkpoint: two.note().to_owned(),
            links: vec![opened(&log, 3, two.checkpoint(), Kind::ShardOpened)],
        };
        let verify =
            |answer: &ConsistencyAnswer| verify_continuation(&verifier, one.checkpoint(), answer);
        let continued = verify(&answer).unwrap();
        assert_eq!(continued.checkpoint.checkpoint().shard.number, 3);
        assert!(!continued.more);
        let bend = |bend: &dyn Fn(&mut ConsistencyAnswer)| {
            let mut bent = answer.clone();
            bend(&mut bent);
            verify(&bent).unwrap_err()
        };
        assert!(matches!(
            bend(&|answer| answer.path[0][0] ^= 1),
            ContinuationError::Proof(_)
        ));
        assert!(matches!(
            bend(
                &|answer| answer.checkpoint = checkpoint(&secret(2), 1, &[leaf(0), leaf(1)])
                    .note()
                    .to_owned()
            ),
            ContinuationError::Receipt(_)
        ));
        assert_eq!(
            bend(&|answer| answer.checkpoint =
                checkpoint(&log, 2, &[leaf(0), leaf(1)]).note().to_owned()),
            ContinuationError::OtherShard
        );
        let other = checkpoint(&log, 1, &[leaf(0), leaf(7)]);
        for before in [one.checkpoint(), other.checkpoint()] {
            assert_eq!(
                bend(&|answer| answer.links[0] = opened(&log, 3, before, Kind::ShardOpened)),
                ContinuationError::Link(1)
            );
        }
        for (shard, kind) in [(1, Kind::ShardOpened), (3, Kind::Start)] {
            assert_eq!(
                bend(&|answer| answer.links[0] = opened(&log, shard, two.checkpoint(), kind)),
                ContinuationError::NotOpened(1)
            );
        }
        assert!(matches!(
            bend(&|answer| answer.links[0] =
                opened(&secret(2), 3, two.checkpoint(), Kind::ShardOpened)),
            ContinuationError::Receipt(_)
        ));
    }
}
