//! What the holder of a node ticket may ask.

use broker::{alias, watch};
use ticket_format::cbor::Decode as _;
use ticket_format::ids::ActId;
use ticket_format::messages::alias::AliasBody;
use ticket_format::messages::watch::WatchBody;
use ticket_format::messages::wipe::WipeBody;
use ticket_format::messages::{RequestView, Verb};
use ticket_format::{labels, limits, ticket};

use super::{fits, not_forged, refused, signed_request};
use crate::mutate::Form;
use crate::targets::{DECIDES, Target};
use crate::vectors;
use crate::world::world;

/// What the holder of a node ticket may ask: whether it is denied, a wipe's record, what an alias names.
pub const WATCH: Target = Target {
    name: "watch",
    form: Form::Cbor,
    runs: 10_000,
    room: DECIDES,
    seeds: || {
        let mut seeds = Vec::new();
        for file in ["exchange/watch", "exchange/wipe", "exchange/alias"] {
            seeds.extend([
                vectors::bytes(file, "request"),
                vectors::bytes(file, "body"),
            ]);
        }
        seeds
    },
    run: watching,
};

fn watching(data: &[u8]) {
    held(data, false);
    let bodies = [
        (
            Verb::Watch,
            labels::WATCH_REQUEST,
            WatchBody::from_cbor(data, limits::SMALL_MESSAGE).map(|body| body.ticket),
        ),
        (
            Verb::Wipe,
            labels::WIPE_REQUEST,
            WipeBody::from_cbor(data, limits::SMALL_MESSAGE).map(|body| body.ticket),
        ),
        (
            Verb::Alias,
            labels::ALIAS_REQUEST,
            AliasBody::from_cbor(data, limits::SMALL_MESSAGE).map(|body| body.ticket),
        ),
    ];
    for (verb, label, ticket) in bodies {
        if let Ok(ticket) = ticket {
            let proof = world().to_broker().sign_with(
                &world().keys.node_proof,
                label,
                Some(ticket::hash(&ticket)),
                data,
            );
            held(&signed_request(verb, data, &[proof]), true);
        }
    }
}

fn held(data: &[u8], ours: bool) {
    let world = world();
    let (realm, caller, now) = (&world.realm, &world.caller, world.now);
    let Ok(request) = RequestView::parse(data) else {
        return;
    };
    let done = match request.verb {
        Verb::Watch => watch::watch(&request, realm, caller, now).map(|watched| {
            assert!(watched.hold_ms <= limits::FEED_HOLD_MS);
        }),
        Verb::Wipe => watch::wipe(&request, realm, caller, now).and_then(|wiped| {
            let act = ActId([2; 16]);
            // rule: WIP-2
            assert!(wiped.entry(&None, act, caller, now, 0).is_err());
            wiped
                .entry(&Some("stolen".to_owned()), act, caller, now, 0)
                .map(|entry| fits(&entry))
        }),
        Verb::Alias => alias::ask(&request, realm, caller, now)
            .and_then(|asked| asked.answer(None, &None).map(drop)),
        _ => return,
    };
    match done {
        Ok(()) => not_forged(data, ours),
        Err(error) => {
            if error.proven {
                not_forged(data, ours);
            }
            refused(&error);
        }
    }
}
