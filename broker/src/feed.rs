//! Feed (`spec/protocol.md`, section 8): what a subscriber is told.

use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::ids::ChainDigest;
use ticket_format::keys::ServerKey;
use ticket_format::labels::{FEED_ANSWER, FEED_REQUEST};
use ticket_format::limits;
use ticket_format::messages::feed::{FeedAnswer, FeedBody, Numbered};
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::realm::{Caller, Realm};
use crate::state::{FeedHead, StoredDenial};

/// A request by the holder of a subscriber's key: its signature acknowledges what it names (DEN-3).
#[derive(Debug)]
pub struct Subscription {
    body: FeedBody,
}

impl Subscription {
    /// Whose.
    #[must_use]
    pub fn subscriber(&self) -> ServerKey {
        self.body.subscriber
    }

    /// The epoch that it has applied.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.body.epoch
    }

    /// The chain digest that it has at that epoch.
    #[must_use]
    pub fn chain(&self) -> ChainDigest {
        self.body.chain
    }

    /// How long it may wait for news, in milliseconds.
    #[must_use]
    pub fn hold_ms(&self) -> u64 {
        self.body.hold_ms.min(limits::FEED_HOLD_MS)
    }
}

/// Reads the request and verifies that its signer is a subscriber.
///
/// # Errors
/// Refusals 1, 10 and 61.
pub fn open(
    request: &RequestView<'_>,
    realm: &Realm,
    caller: &Caller,
    named: impl Fn(&ServerKey) -> bool,
) -> Result<Subscription, Refused> {
    let malformed = |why: String| Refused::stranger(Refusal::Malformed, why);
    let body = FeedBody::from_cbor(request.body, limits::SMALL_MESSAGE)
        .map_err(|error| malformed(error.to_string()))?;
    let [proof] = request.proofs.as_slice() else {
        return Err(malformed(
            "a feed request has one proof: the subscriber's".to_owned(),
        ));
    };
    // rule: DEN-3
    let verified = realm.channel(caller).verify_with(
        &body.subscriber,
        FEED_REQUEST,
        None,
        request.body,
        proof,
    );
    verified.map_err(|_| {
        Refused::stranger(
            Refusal::NotAuthenticated,
            "not signed by the subscriber's key",
        )
    })?;
    // rule: DEN-8
    if !named(&body.subscriber) {
        let why = "no dataset record names this key server: record its dataset first";
        return Err(Refused::proven(Refusal::NotSubscriber, why).of(body.subscriber));
    }
    Ok(Subscription { body })
}

/// The denials as the feed has them: the newest ones, in order, without a gap.
pub trait Chain {
    /// Epoch and chain of the newest.
    fn head(&self) -> FeedHead;

    /// The denials after an epoch that are still kept, ascending, at most so many.
    fn after(&self, epoch: u64, most: usize) -> Vec<StoredDenial>;
}

/// Whether there is something to tell at once.
#[must_use]
pub fn has_news(subscription: &Subscription, chain: &impl Chain) -> bool {
    let head = chain.head();
    subscription.body.epoch != head.epoch || subscription.body.chain != head.chain
}

/// Makes the signed answer (DEN-4): news, or a snapshot where the subscriber's epoch and chain are
/// not a point of ours or what follows is no longer kept.
#[must_use]
pub fn answer(
    subscription: &Subscription,
    chain: &impl Chain,
    realm: &Realm,
    caller: &Caller,
    now: Timestamp,
) -> Answer {
    let body = &subscription.body;
    let head = chain.head();
    let at_head = body.epoch == head.epoch && body.chain == head.chain;
    let news = if at_head {
        Vec::new()
    } else {
        chain.after(body.epoch, limits::DENIALS)
    };
    // rule: DEN-4
    let follows = news.first().is_some_and(|first| {
        first.epoch == body.epoch.saturating_add(1) && first.before == body.chain
    });
    let snapshot = !at_head && !follows;
    let denials = if snapshot {
        chain.after(0, limits::DENIALS)
    } else {
        news
    };
    // More than one answer takes: the next request follows at once.
    let reached = match denials.last() {
        Some(last) if denials.len() == limits::DENIALS => last.head(),
        _ => head,
    };
    let denials = denials
        .into_iter()
        .map(|denial| Numbered {
            epoch: denial.epoch,
            denial: denial.bytes,
        })
        .collect();
    let answer = FeedAnswer {
        nonce: body.nonce,
        epoch: reached.epoch,
        chain: reached.chain,
        now,
        snapshot,
        denials,
    }
    .to_cbor();
    let proof = realm
        .channel(caller)
        .sign_with(&realm.feed, FEED_ANSWER, None, &answer);
    Answer::Done {
        verb: Verb::Feed,
        body: answer,
        proof: Some(proof),
    }
}
