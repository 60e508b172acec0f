//! What a subscriber signed is proof to others, and nothing near it is.

use super::*;
use crate::keys::ServerSecret;
use crate::labels;
use crate::messages::feed::FeedBody;
use crate::sign::{Channel, Exporter};

fn body(subscriber: u8) -> FeedBody {
    FeedBody {
        subscriber: key(subscriber),
        nonce: [1; 32],
        epoch: 7,
        chain: ChainDigest([2; 32]),
        hold_ms: 30_000,
        reports: Vec::new(),
    }
}

fn signed(label: &'static str, body: &FeedBody) -> Acknowledgement {
    let channel = Channel {
        realm: "realm".into(),
        server: key(9),
        exporter: Exporter([3; 32]),
    };
    let (subscriber, bytes): (ServerSecret, _) = (secret(1), body.to_cbor());
    Acknowledgement {
        proof: channel.sign_with(&subscriber, label, None, &bytes),
        body: bytes,
        exporter: Exporter([3; 32]),
    }
}

#[test]
fn an_acknowledgement_proves_what_its_subscriber_said_to_this_broker() {
    // rule: DEN-10
    let good = signed(labels::FEED_REQUEST, &body(1));
    assert_eq!(good.verify("realm", &key(9), &key(1)), Ok(body(1)));

    let signature = Err(BadAcknowledgement::Signature);
    assert_eq!(good.verify("other", &key(9), &key(1)), signature);
    assert_eq!(good.verify("realm", &key(8), &key(1)), signature);
    assert_eq!(good.verify("realm", &key(9), &key(2)), signature);
    let mut elsewhere = good.clone();
    elsewhere.exporter = Exporter([4; 32]);
    assert_eq!(elsewhere.verify("realm", &key(9), &key(1)), signature);
    let mut later = good;
    later.body = FeedBody {
        epoch: 8,
        ..body(1)
    }
    .to_cbor();
    assert_eq!(later.verify("realm", &key(9), &key(1)), signature);
    let other_use = signed(labels::FEED_ANSWER, &body(1));
    assert_eq!(other_use.verify("realm", &key(9), &key(1)), signature);
    assert_eq!(
        signed(labels::FEED_REQUEST, &body(2)).verify("realm", &key(9), &key(1)),
        Err(BadAcknowledgement::OtherSubscriber),
        "one subscriber speaks for another"
    );
}
