//! The feed, where a key server asks for it.

use broker::feed;
use broker::state::{FeedHead, StoredEpoch};
use ticket_format::cbor::Decode as _;
use ticket_format::denial::{CHAIN_START, Denial, Selector};
use ticket_format::ids::StatementDigest;
use ticket_format::keys::ServerKey;
use ticket_format::messages::Verb;
use ticket_format::messages::feed::FeedBody;
use ticket_format::{labels, limits};

use super::{asked, not_forged, refused, signed_request};
use crate::mutate::Form;
use crate::targets::{DECIDES, Target};
use crate::vectors;
use crate::world::world;

/// A key server's request for the feed, at the broker; and the answer to it, at the key server.
pub const SUBSCRIBE: Target = Target {
    name: "subscribe",
    form: Form::Cbor,
    runs: 20_000,
    room: DECIDES,
    seeds: || {
        vec![
            vectors::bytes("exchange/feed", "request"),
            vectors::bytes("exchange/feed", "body"),
        ]
    },
    run: subscribing,
};

fn subscribing(data: &[u8]) {
    subscribe(data, false);
    if FeedBody::from_cbor(data, limits::SMALL_MESSAGE).is_ok() {
        let proof =
            world()
                .to_broker()
                .sign_with(&world().keys.server, labels::FEED_REQUEST, None, data);
        subscribe(&signed_request(Verb::Feed, data, &[proof]), true);
    }
}

fn subscribe(data: &[u8], ours: bool) {
    let world = world();
    let Some(request) = asked(data, Verb::Feed) else {
        return;
    };
    let named = |key: &ServerKey| *key == world.keys.server.public();
    let subscription = match feed::open(&request, &world.realm, &world.caller, named) {
        Ok(subscription) => subscription,
        Err(error) => return refused(&error),
    };
    not_forged(data, ours);
    let selector = Selector::node(world.node.attributes.node.clone());
    let denial = Denial::new(
        selector,
        "stolen".to_owned(),
        StatementDigest([0; 32]),
        world.now,
        "olga".to_owned(),
    );
    let epoch = StoredEpoch::denial(FeedHead::START, denial);
    let chain = (subscription.epoch() == 0).then_some(CHAIN_START);
    match feed::continues(&subscription, chain, epoch.head()) {
        Ok(()) => {
            let asked = key_server::feed::Asked {
                nonce: FeedBody::from_cbor(request.body, limits::SMALL_MESSAGE)
                    .expect("it was read")
                    .nonce,
                epoch: subscription.epoch(),
                chain: subscription.chain(),
                reports: Vec::new(),
            };
            let answer = feed::answer(
                &subscription,
                &[Box::new(epoch)],
                1,
                &world.realm,
                &world.caller,
                world.now,
            );
            let key = world.keys.feed.public();
            let news = key_server::feed::accept(
                &world.to_broker(),
                &key,
                &asked,
                &answer.to_bytes(),
                world.now,
            );
            // rule: DEN-4
            assert_eq!(news.map(|news| (news.epoch, news.epochs.len())), Ok((1, 1)));
        }
        Err(error) => refused(&error),
    }
}
