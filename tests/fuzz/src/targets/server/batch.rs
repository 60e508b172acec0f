//! Keys redeemed, made and wrapped anew.

use std::sync::LazyLock;

use key_server::batch;
use ticket_format::cbor::Decode as _;
use ticket_format::ids::ActId;
use ticket_format::key_pair::KeyPairKind;
use ticket_format::messages::batch::{GenerateBody, RedeemBody, RewrapBody};
use ticket_format::messages::{AnswerView, BatchAnswer, Clear, RequestView, Verb};
use ticket_format::seal::AnswerId;
use ticket_format::{Context, limits};

use super::{Rig, fits, moment, receipt, refused, with_rig};
use crate::mutate::Form;
use crate::targets::Target;
use crate::vectors;
use crate::world::world;

/// Redeem, generate and rewrap: as they come, and under the MAC of the presented ticket.
pub const BATCH: Target = Target {
    name: "batch",
    form: Form::Cbor,
    runs: 6_000,
    room: (2 * 1024 * 1024, 256),
    seeds: || {
        let mut seeds = with_rig(batches);
        seeds.extend(vectors::all_bytes(|file, member, _| {
            file.starts_with("session/") && member == "body"
        }));
        seeds
    },
    run: batch,
};

/// A good request of each verb, as body and as request.
fn batches(rig: &mut Rig) -> Vec<Vec<u8>> {
    let pairs = |more: &[(&str, &str)]| {
        let pairs = [("team", "maps"), ("name", "a")].iter().chain(more);
        let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Context::new(pairs.collect()).expect("pairs")
    };
    let (plain, sold) = (pairs(&[]), pairs(&[("purpose", "sell")]));
    let pair = pairs(&[(Context::KEY_PAIR, KeyPairKind::ALL[0].name())]);
    let generate = GenerateBody::encode(&rig.head, &[&plain, &plain, &sold], true, None);
    let key_pair = GenerateBody::encode(&rig.head, &[&pair], true, Some(KeyPairKind::ALL[0]));
    let wraps = serve(rig, &rig.request(Verb::Generate, &generate))
        .and_then(|clear| clear.wraps)
        .unwrap_or_default();
    let wraps: Vec<_> = wraps.into_iter().flatten().collect();
    let local = vectors::bytes("wrapped/local", "wrapped");
    let mut items: Vec<(&[u8], &Context)> =
        wraps.iter().map(|wrap| (wrap.as_slice(), &plain)).collect();
    items.push((&local, &plain));
    let redeem = RedeemBody::encode(&rig.head, &items);
    let anew: Vec<_> = items
        .iter()
        .map(|(wrap, context)| (*wrap, *context, Some(&sold)))
        .collect();
    let rewrap = RewrapBody::encode(&rig.head, &anew[..1], &[]);
    let moved: Vec<_> = items
        .iter()
        .map(|(wrap, context)| (*wrap, *context, None))
        .collect();
    let moved = RewrapBody::encode(&rig.head, &moved, &[]);
    let bodies = [
        (Verb::Redeem, redeem),
        (Verb::Generate, generate),
        (Verb::Generate, key_pair),
        (Verb::Rewrap, rewrap),
        (Verb::Rewrap, moved),
    ];
    let requests = bodies.map(|(verb, body)| [rig.request(verb, &body), body]);
    requests.into_iter().flatten().collect()
}

fn batch(data: &[u8]) {
    static KNOWN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        std::thread::spawn(|| with_rig(batches))
            .join()
            .expect("a rig")
    });
    with_rig(|rig| {
        if serve(rig, data).is_some() {
            // rule: RED-1, SEAL-3 — the same seed makes the same requests.
            assert!(
                KNOWN.iter().any(|known| known == data),
                "a batch was forged"
            );
        }
        for verb in [Verb::Redeem, Verb::Generate, Verb::Rewrap] {
            if data.len() <= verb.body_limit() {
                serve(rig, &rig.request(verb, data));
            }
        }
    });
}

/// Does what a request asks for, and opens the answer as the job does.
fn serve(rig: &Rig, data: &[u8]) -> Option<Clear> {
    let (world, permit, chance) = (world(), rig.state.gate.permit(), &mut rig.chance.clone());
    let (state, connection, moment) = (&rig.state, &rig.connection, moment(world));
    let request = RequestView::parse(data).ok()?;
    if !matches!(request.verb, Verb::Redeem | Verb::Generate | Verb::Rewrap) {
        return None;
    }
    let proven = batch::prove(connection, &request)
        .map_err(|error| refused(&error, false))
        .ok()?;
    let identified = proven
        .identify(&request)
        .map_err(|error| refused(&error, true))
        .ok()?;
    let entry = identified.entry(state, connection, ActId([2; 16]), moment, &permit);
    let decided = batch::decide(state, connection, &identified, moment, &permit, chance);
    let decided = decided.map_err(|error| refused(&error, true)).ok()?;
    let entry = decided.complete(entry);
    fits(&entry);
    let count = decided.count();
    let contexts = decided.contexts(&identified, <[[u8; 32]]>::to_vec);
    assert!(contexts.len() <= 2 * limits::ITEMS);
    let receipt = receipt(&world.keys.server_log, &entry, world.now);
    let released = decided.release(state, moment, &permit, receipt, chance);
    let answer = released.map_err(|error| refused(&error, true)).ok()?;
    assert!(answer.len() <= limits::MESSAGE, "an answer is too long");
    let AnswerView::Done { body, .. } = AnswerView::parse(&answer).expect("our own answer is read")
    else {
        panic!("an answer that was released is a refusal");
    };
    let answer = BatchAnswer::from_cbor(body, limits::MESSAGE).expect("our own answer is read");
    let clear = Clear::from_cbor(&answer.clear, limits::MESSAGE).expect("our own answer is read");
    // rule: RED-3 — each item has its verdict, and only what is done has a key.
    let done = clear
        .verdicts
        .iter()
        .filter(|verdict| verdict.refusal().is_none())
        .count();
    assert_eq!(done, count);
    let id = AnswerId {
        verb: request.verb,
        request: clear.request,
        salt: clear.salt,
    };
    if !answer.sealed.is_empty() {
        let deks = rig
            .job
            .open(&id, &answer.clear, &answer.sealed)
            .expect("it is sealed to the job");
        assert_eq!(deks.len(), done * 32);
    }
    Some(clear)
}
