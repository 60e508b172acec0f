//! Feed, as the subscriber speaks it: what is asked, and what of an answer is believed
//! (spec/protocol.md, section 8).

use ticket_format::Refusal;
use ticket_format::cbor::{Decode, DecodeError, Encode};
use ticket_format::denial::{Denial, Link};
use ticket_format::ids::ChainDigest;
use ticket_format::keys::{FeedKey, ServerSecret};
use ticket_format::messages::feed::{Event, FeedAnswer, FeedBody, Report};
use ticket_format::messages::{AnswerView, RefusalNotice, Request, Verb};
use ticket_format::sign::Channel;
use ticket_format::time::Timestamp;
use ticket_format::{labels, limits};

/// What a feed request says; its signature acknowledges epoch and chain (DEN-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Fresh for each request.
    pub nonce: [u8; 32],
    /// The epoch applied.
    pub epoch: u64,
    /// The chain digest at it.
    pub chain: ChainDigest,
    /// What the broker is to be told (DEN-11).
    pub reports: Vec<Report>,
}

/// One epoch as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub epoch: u64,
    /// What happened.
    pub happened: Happened,
}

/// What happened in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A denial.
    Denied {
        /// What it says.
        denial: Box<Denial>,
        /// Its bytes, over which the chain runs.
        bytes: Vec<u8>,
    },
    /// A lifting: a statement that is to be verified before anything is lifted (DEN-9).
    Lifted(Vec<u8>),
    /// A ticket-key record: a statement that is to be verified before a key is believed (KEY-2).
    TicketKey(Vec<u8>),
    /// A denial that can hit no ticket any more.
    Gone,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The epoch that it continues, and the chain digest there.
    pub after: (u64, ChainDigest),
    /// The epoch after it.
    pub epoch: u64,
    /// The chain digest at that epoch.
    pub chain: ChainDigest,
    /// By ascending epoch, without a gap.
    pub epochs: Vec<Received>,
    /// The broker's clock.
    pub now: Timestamp,
    /// The version of the admin set in force at the broker.
    pub admin_set: u64,
    /// Whether these are all the news that there were: a fuller answer would have held more.
    pub whole: bool,
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
    #[error("the epochs offered do not continue the chain at epoch {applied}")]
    Chain {
        /// What was applied.
        applied: u64,
    },
    /// A denial is held back that still counts.
    #[error("the denial of epoch {epoch} is called gone, but it can hit tickets until {forget}")]
    Early {
        /// Its epoch.
        epoch: u64,
        /// From when on it may be forgotten.
        forget: Timestamp,
    },
}

impl FeedFault {
    /// Whether somebody should look: the broker contradicts what was seen, or holds back what counts.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        match self {
            Self::Rollback { .. } | Self::Chain { .. } | Self::Early { .. } => true,
            Self::Refused(notice) => notice.refusal == Refusal::Rollback,
            Self::Malformed(_) | Self::Proof | Self::Nonce => false,
        }
    }
}

/// The bytes of a request.
#[must_use]
pub fn request(channel: &Channel, signing: &ServerSecret, asked: &Asked, hold_ms: u64) -> Vec<u8> {
    let body = FeedBody {
        subscriber: signing.public(),
        nonce: asked.nonce,
        epoch: asked.epoch,
        chain: asked.chain,
        hold_ms: hold_ms.min(limits::FEED_HOLD_MS),
        reports: asked.reports.clone(),
    }
    .to_cbor();
    // rule: DEN-3
    let proof = channel.sign_with(signing, labels::FEED_REQUEST, None, &body);
    Request::encode_parts(Verb::Feed, &body, &[proof])
}

/// An answer that leaves so much room, in bytes, was not cut: any epoch would have found a place in it.
const ROOM: usize = 64 * 1024;

/// Believes an answer, if it is signed by the feed key over this connection, echoes the nonce, and every
/// epoch after the one applied is there and continues its chain. A denial may be missing only when it can
/// hit no ticket any more at `now`, on this server's own clock.
///
/// # Errors
/// [`FeedFault`].
pub fn accept(
    channel: &Channel,
    feed_key: &FeedKey,
    asked: &Asked,
    answer: &[u8],
    now: Timestamp,
) -> Result<News, FeedFault> {
    let length = answer.len();
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
    let (mut epoch, mut chain) = (applied, asked.chain);
    let mut epochs = Vec::with_capacity(answer.epochs.len());
    for told in answer.epochs {
        // rule: DEN-1, DEN-4
        if epoch.checked_add(1) != Some(told.number) {
            return Err(FeedFault::Chain { applied });
        }
        epoch = told.number;
        chain = Link::of(&told.event)?.after(chain);
        epochs.push(received(epoch, told.event, now)?);
    }
    if (epoch, chain) != (answer.epoch, answer.chain) {
        return Err(FeedFault::Chain { applied });
    }
    Ok(News {
        after: (applied, asked.chain),
        epoch,
        chain,
        whole: epochs.len() < limits::EPOCHS && length + ROOM < limits::MESSAGE,
        epochs,
        now: answer.now,
        admin_set: answer.admin_set,
    })
}

fn received(epoch: u64, event: Event, now: Timestamp) -> Result<Received, FeedFault> {
    let happened = match event {
        Event::Denial(bytes) => {
            let denial = Denial::from_cbor(&bytes, bytes.len())?;
            // rule: DEN-7 — else a broker could make denials that are forgotten at once.
            if !denial.is_kept() {
                let forget = denial.forget;
                return Err(FeedFault::Early { epoch, forget });
            }
            Happened::Denied {
                denial: Box::new(denial),
                bytes,
            }
        }
        Event::Lifting(statement) => Happened::Lifted(statement),
        Event::TicketKey(statement) => Happened::TicketKey(statement),
        // rule: DEN-4, DEN-7 — the chain binds this time, so the broker cannot shorten it.
        Event::Gone { forget, .. } if forget > now || forget == Timestamp::LAST => {
            return Err(FeedFault::Early { epoch, forget });
        }
        Event::Gone { .. } => Happened::Gone,
    };
    Ok(Received { epoch, happened })
}

#[cfg(test)]
mod tests;
