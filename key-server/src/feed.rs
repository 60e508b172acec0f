//! Feed, as the subscriber speaks it: what is asked, and what of an answer is believed
//! (spec/protocol.md, section 8).

use ticket_format::cbor::{Decode, DecodeError, Encode};
use ticket_format::denial::{Denial, chain_next};
use ticket_format::ids::ChainDigest;
use ticket_format::keys::{FeedKey, ServerSecret};
use ticket_format::messages::feed::{FeedAnswer, FeedBody};
use ticket_format::messages::{AnswerView, RefusalNotice, Request, Verb};
use ticket_format::sign::Channel;
use ticket_format::time::Timestamp;
use ticket_format::{labels, limits};

/// What a feed request says; its signature acknowledges epoch and chain (DEN-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Fresh for each request.
    pub nonce: [u8; 32],
    /// The epoch applied.
    pub epoch: u64,
    /// The chain digest at it.
    pub chain: ChainDigest,
}

/// One denial as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its epoch.
    pub epoch: u64,
    /// What it says.
    pub denial: Denial,
    /// Its bytes, over which the chain runs.
    pub bytes: Vec<u8>,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The epoch after it.
    pub epoch: u64,
    /// The chain digest at that epoch.
    pub chain: ChainDigest,
    /// Whether `denials` replace the set.
    pub snapshot: bool,
    /// By ascending epoch.
    pub denials: Vec<Received>,
    /// The broker's clock.
    pub now: Timestamp,
}

/// Why an answer is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedFault {
    /// The broker refused.
    #[error("the broker refused: {0}")]
    Refused(RefusalNotice),
    /// Another shape.
    #[error("the feed's answer is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// Not signed by the feed key over this connection.
    #[error("the feed's answer is not signed by the broker's feed key for this connection")]
    Proof,
    /// The answer to another request.
    #[error("the feed's answer does not echo the nonce")]
    Nonce,
    /// Below the epoch applied.
    #[error(
        "the broker offers epoch {offered}, but {applied} was applied before: an older state was put in place"
    )]
    Rollback {
        /// What the broker says.
        offered: u64,
        /// What was applied.
        applied: u64,
    },
    /// The epochs or the digests do not join.
    #[error("the denials offered do not continue the chain at epoch {applied}")]
    Chain {
        /// What was applied.
        applied: u64,
    },
}

impl FeedFault {
    /// Whether somebody should look: a good signature over a state that contradicts what was seen.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        matches!(self, Self::Rollback { .. } | Self::Chain { .. })
    }
}

/// The bytes of a request.
#[must_use]
pub fn request(channel: &Channel, signing: &ServerSecret, asked: &Asked, hold_ms: u64) -> Vec<u8> {
    let Asked {
        nonce,
        epoch,
        chain,
    } = *asked;
    let hold_ms = hold_ms.min(limits::FEED_HOLD_MS);
    let body = FeedBody {
        subscriber: signing.public(),
        nonce,
        epoch,
        chain,
        hold_ms,
    }
    .to_cbor();
    // rule: DEN-3
    let proof = channel.sign_with(signing, labels::FEED_REQUEST, None, &body);
    Request::encode_parts(Verb::Feed, &body, &[proof])
}

/// Believes an answer, if it is signed by the feed key over this connection, echoes the nonce, and
/// continues what was applied.
///
/// # Errors
/// [`FeedFault`].
pub fn accept(
    channel: &Channel,
    feed_key: &FeedKey,
    asked: &Asked,
    answer: &[u8],
) -> Result<News, FeedFault> {
    let (body, proof) = match AnswerView::parse(answer)? {
        AnswerView::Refused(notice) => return Err(FeedFault::Refused(notice)),
        AnswerView::Done {
            verb: Verb::Feed,
            body,
            proof,
        } => (body, proof.ok_or(FeedFault::Proof)?),
        AnswerView::Done { .. } => return Err(DecodeError::OutOfRange("verb").into()),
    };
    // rule: DEN-4
    channel
        .verify_with(feed_key, labels::FEED_ANSWER, None, body, &proof)
        .map_err(|_| FeedFault::Proof)?;
    let answer = FeedAnswer::from_cbor(body, limits::MESSAGE)?;
    if answer.nonce != asked.nonce {
        return Err(FeedFault::Nonce);
    }
    let applied = asked.epoch;
    if answer.epoch < applied {
        return Err(FeedFault::Rollback {
            offered: answer.epoch,
            applied,
        });
    }
    let mut denials = Vec::with_capacity(answer.denials.len());
    for numbered in answer.denials {
        let denial = Denial::from_cbor(&numbered.denial, numbered.denial.len())?;
        denials.push(Received {
            epoch: numbered.epoch,
            denial,
            bytes: numbered.denial,
        });
    }
    let joins = if answer.snapshot {
        // What was forgotten is missing from a snapshot, so its chain cannot be walked; but an epoch
        // that was applied has one digest only.
        let within = denials
            .iter()
            .all(|denial| (1..=answer.epoch).contains(&denial.epoch));
        within && (answer.epoch > applied || answer.chain == asked.chain)
    } else {
        let (mut epoch, mut chain) = (applied, asked.chain);
        let follows = denials.iter().all(|denial| {
            let next = epoch.checked_add(1) == Some(denial.epoch);
            epoch = denial.epoch;
            chain = chain_next(chain, &denial.bytes);
            next
        });
        follows && epoch == answer.epoch && chain == answer.chain
    };
    if !joins {
        return Err(FeedFault::Chain { applied });
    }
    Ok(News {
        epoch: answer.epoch,
        chain: answer.chain,
        snapshot: answer.snapshot,
        denials,
        now: answer.now,
    })
}

#[cfg(test)]
mod tests;
