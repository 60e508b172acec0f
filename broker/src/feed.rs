//! Feed (`spec/protocol.md`, section 8): what a subscriber is told.

use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::ids::ChainDigest;
use ticket_format::keys::ServerKey;
use ticket_format::labels::{FEED_ANSWER, FEED_REQUEST};
use ticket_format::limits;
use ticket_format::messages::feed::{FeedAnswer, FeedBody, Report};
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::sign::{Exporter, Proof};
use ticket_format::statement::Acknowledgement;
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::realm::{Caller, Realm};
use crate::state::{FeedHead, StoredEpoch};

/// A request by the holder of a subscriber's key: its signature acknowledges what it names (DEN-3).
#[derive(Debug)]
pub struct Subscription {
    body: FeedBody,
    bytes: Vec<u8>,
    exporter: Exporter,
    proof: Proof,
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

    /// The alarms that it tells of.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.body.reports
    }

    /// The proof that it has applied its epoch, for others to verify (DEN-10).
    #[must_use]
    pub fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement {
            body: self.bytes.clone(),
            exporter: self.exporter,
            proof: self.proof.clone(),
        }
    }

    /// Refuses it.
    #[must_use]
    pub fn refuse(&self, refusal: Refusal, why: impl ToString) -> Refused {
        Refused::proven(refusal, why).of(self.body.subscriber)
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
    let subscription = Subscription {
        body,
        bytes: request.body.to_vec(),
        exporter: caller.exporter,
        proof: proof.clone(),
    };
    // rule: DEN-8
    if !named(&subscription.body.subscriber) {
        let why = "no dataset record names this key server: record its dataset first";
        return Err(subscription.refuse(Refusal::NotSubscriber, why));
    }
    Ok(subscription)
}

/// The chain as the feed has it.
pub trait Chain {
    /// Epoch and chain digest of the newest.
    fn head(&self) -> FeedHead;
}

/// Whether the epoch that a subscriber names is a point of this broker's chain: `ours` is the digest that
/// the broker has there, none when it has no such epoch.
///
/// # Errors
/// Refusal 62: the subscriber has seen what this broker does not know of. It is told nothing that it would
/// have to believe; somebody should find out who restored what.
pub fn continues(
    subscription: &Subscription,
    ours: Option<ChainDigest>,
    head: FeedHead,
) -> Result<(), Refused> {
    // rule: DEN-4
    if ours == Some(subscription.chain()) {
        return Ok(());
    }
    let (theirs, head) = (subscription.epoch(), head.epoch);
    let why = if ours.is_none() {
        format!("you have applied epoch {theirs}, and this broker knows only {head}")
    } else {
        format!("epoch {theirs} that you have applied is not this broker's")
    };
    Err(subscription.refuse(Refusal::Rollback, why))
}

/// How many of these epochs one answer takes.
#[must_use]
pub fn taken<T: AsRef<StoredEpoch>>(epochs: &[T]) -> usize {
    /// For head, proof and the other members.
    const REST: usize = 1_024;
    let mut weight = REST;
    let fits = |epoch: &&T| {
        weight += epoch.as_ref().weight();
        weight <= limits::MESSAGE
    };
    epochs.iter().take(limits::EPOCHS).take_while(fits).count()
}

/// Makes the signed answer (DEN-4): what follows the epoch that the request names, in order and without a
/// gap. More than one answer takes comes in the next, which follows at once.
#[must_use]
pub fn answer<T: AsRef<StoredEpoch>>(
    subscription: &Subscription,
    epochs: &[T],
    admin_set: u64,
    realm: &Realm,
    caller: &Caller,
    now: Timestamp,
) -> Answer {
    let body = &subscription.body;
    let epochs = &epochs[..taken(epochs)];
    // rule: DEN-4
    let reached = epochs.last().map_or(
        FeedHead {
            epoch: body.epoch,
            chain: body.chain,
        },
        |last| last.as_ref().head(),
    );
    let answer = FeedAnswer {
        nonce: body.nonce,
        epoch: reached.epoch,
        chain: reached.chain,
        now,
        epochs: epochs.iter().map(|epoch| epoch.as_ref().told()).collect(),
        admin_set,
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
