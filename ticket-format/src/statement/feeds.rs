//! Who has applied the denials, with each subscriber's own signature for it (DEN-10).

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::denial::Link;
use crate::ids::ChainDigest;
use crate::keys::{ServerKey, TlsKey};
use crate::messages::feed::FeedBody;
use crate::messages::shape::{
    Bytes, List, OrNull, Pair, Shape, Text, UINT, Uint, closed_map, item,
};
use crate::sign::{BadProof, Channel, Exporter, Proof};
use crate::{labels, limits};

use super::acts::act;
use super::datasets::LONGEST_LEASE;

closed_map! {
    /// Shows who has applied which epoch.
    ///
    /// `feed-show = { 1: uint, 2: 0..30000 }`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FeedShow {
        /// The epoch that is asked about.
        1 epoch: u64 = UINT;
        /// How long the broker may wait until all have acknowledged it, in milliseconds.
        2 hold_ms: u64 = Uint(0..=limits::FEED_HOLD_MS);
    }
}
act!(FeedShow, FeedShow, FeedView);

/// Most datasets that are named of one subscriber.
const DATASETS: usize = 64;

closed_map! {
    /// Where the feed stands.
    ///
    /// `feed-view = { 1: uint, 2: hash, 3: [*1024 subscriber], 4: [*1000 [unix-time, hash]] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FeedView {
        /// The last epoch.
        1 epoch: u64 = UINT;
        /// The chain digest at that epoch.
        2 chain: ChainDigest = item();
        /// All that a dataset record names, by key.
        3 subscribers: Vec<Subscriber> = List(0..=limits::SUBSCRIBERS, item());
        /// Forget time and SHA-256 of what follows the epoch asked for, in order.
        4 links: Vec<Link> = List(0..=limits::EPOCHS, OfTheChain);
    }
}

/// `[unix-time, hash]`.
struct OfTheChain;

impl Shape for OfTheChain {
    type Value = Link;

    fn write(&self, link: &Link, writer: &mut Writer) {
        Pair(item(), item()).write(&(link.forget, link.record), writer);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Link, DecodeError> {
        let (forget, record) = Pair(item(), item()).read(reader)?;
        Ok(Link { forget, record })
    }
}

closed_map! {
    /// One subscriber.
    ///
    /// ```cddl
    /// subscriber = { 1: ed-key, 2: [*64 name], 3: 1..300,
    ///                4: [bstr .size (1..8192), hash, proof] / null,
    ///                5: uint / null, 6: uint / null, 7: uint / null }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Subscriber {
        /// Its signing key.
        1 key: ServerKey = item();
        /// The first 64 datasets that a record places there, by name.
        2 datasets: Vec<String> = List(0..=DATASETS, Text(1..=limits::NAME));
        /// Its longest lease, in seconds.
        3 lease: u64 = Uint(1..=LONGEST_LEASE);
        /// The last that it said; none when it was not heard since the broker started.
        4 last: Option<Acknowledgement> = OrNull(item());
        /// Milliseconds since it was heard.
        5 silent_ms: Option<u64> = OrNull(UINT);
        /// Milliseconds until its lease has ended at the latest.
        6 lease_ms: Option<u64> = OrNull(UINT);
        /// Milliseconds from the making of the epoch asked for to its acknowledgement.
        7 applied_ms: Option<u64> = OrNull(UINT);
    }
}

/// Most bytes of a feed request's body that is shown.
pub const ACKNOWLEDGEMENT: usize = 8 * 1024;

/// What a subscriber signed: `[bstr .size (1..8192), hash, proof]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Its request's body, as received.
    pub body: Vec<u8>,
    /// The exporter of the connection that it came on.
    pub exporter: Exporter,
    /// Its signature.
    pub proof: Proof,
}

/// Why an acknowledgement proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAcknowledgement {
    /// Another shape.
    #[error("not a feed request: {0}")]
    Malformed(#[from] DecodeError),
    /// Not signed by the key of the subscriber that it is shown for.
    #[error("the subscriber's signature does not verify")]
    Signature,
    /// It says that it is another subscriber's.
    #[error("the request names another subscriber")]
    OtherSubscriber,
}

impl Acknowledgement {
    /// What the subscriber with this key said to the broker with that TLS key. Take the key from a
    /// dataset record, not from the broker's word (DEN-10).
    ///
    /// # Errors
    /// [`BadAcknowledgement`].
    pub fn verify(
        &self,
        realm: &str,
        broker: &TlsKey,
        subscriber: &ServerKey,
    ) -> Result<FeedBody, BadAcknowledgement> {
        // rule: DEN-10
        let channel = Channel {
            realm: realm.to_owned(),
            server: *broker,
            exporter: self.exporter,
        };
        channel
            .verify_with(
                subscriber,
                labels::FEED_REQUEST,
                None,
                &self.body,
                &self.proof,
            )
            .map_err(|BadProof| BadAcknowledgement::Signature)?;
        let body = FeedBody::from_cbor(&self.body, ACKNOWLEDGEMENT)?;
        if body.subscriber != *subscriber {
            return Err(BadAcknowledgement::OtherSubscriber);
        }
        Ok(body)
    }
}

impl Encode for Acknowledgement {
    fn encode(&self, writer: &mut Writer) {
        writer.array(3).bytes(&self.body).bytes(&self.exporter.0);
        self.proof.encode(writer);
    }
}

impl Decode for Acknowledgement {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        Ok(Self {
            body: Bytes(1..=ACKNOWLEDGEMENT).read(reader)?,
            exporter: Exporter(reader.array_of()?),
            proof: Proof::decode(reader)?,
        })
    }
}
