//! Statements that are sent to the broker.

use broker::Refused;
use broker::administer::{self, Opened};
use broker::state::{FeedHead, KeyRole, KeyUse};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::messages::{RequestView, Verb};
use ticket_format::statement::{
    Act, AdminSetShow, AliasSet, DatasetRecord, DenyBody, LaunchClose, LaunchCreate, NodeUnfreeze,
    Payload, PolicySet, Propose,
};

use super::{asked, fits, frozen, refused};
use crate::mutate::Form;
use crate::rng::Chance;
use crate::targets::{Target, members, statement_of_vectors};
use crate::vectors;
use crate::world::world;

/// A statement, sent to the broker: opened, and done where it asks for something that changes.
pub const ADMINISTER: Target = Target {
    name: "administer",
    form: Form::Cbor,
    runs: 3_000,
    room: (64 * 1024 * 1024, 4_096),
    seeds: || {
        let mut seeds = members(&["statement", "payload"]);
        seeds.extend(vectors::all_bytes(|file, member, _| {
            file.starts_with("statement/") && member == "request"
        }));
        seeds
    },
    run: administering,
};

fn administering(data: &[u8]) {
    if let Some(request) = asked(data, Verb::Administer) {
        administer_with(&request, false);
    }
    administer_with(&statement_request(data), false);
    let keys = &world().keys;
    if let Ok(payload) = Payload::from_cbor(data, limits::STATEMENT) {
        for admins in [
            vec![&keys.operator],
            vec![&keys.owner, &keys.security, &keys.operator],
        ] {
            if let Ok(statement) = payload.sign(&admins) {
                administer_with(&statement_request(&statement), true);
            }
        }
    }
}

fn statement_request(body: &[u8]) -> RequestView<'_> {
    RequestView {
        verb: Verb::Administer,
        body,
        proofs: Vec::new(),
    }
}

fn administer_with(request: &RequestView<'_>, ours: bool) {
    let world = world();
    let opened = administer::open(request, &world.realm, world.set.clone(), world.now);
    let done = match &opened {
        Ok(opened) => {
            assert!(
                ours || statement_of_vectors(opened.bytes()),
                "a statement was forged"
            );
            fits(&opened.entry(ActId([3; 16]), &world.caller, world.now));
            act(opened)
        }
        Err(error) => {
            let entry = administer::unopened(
                request,
                error,
                &world.set,
                ActId([3; 16]),
                &world.caller,
                world.now,
            );
            fits(&entry);
            return refused(error);
        }
    };
    if let Err(error) = done {
        refused(&error);
    }
}

fn act(opened: &Opened) -> Result<(), Refused> {
    let world = world();
    let (now, chance) = (world.now, &mut Chance::new(6));
    let entry = Entry::new(ActId([4; 16]), Kind::Statement, now);
    let changes = opened.begin(None)?;
    let done = match opened.act() {
        Act::LaunchCreate => {
            let body = opened.body::<LaunchCreate>()?;
            let existing = (body.launch == world.launch.terms.launch).then_some(&world.launch);
            let key = KeyUse {
                role: KeyRole::Node,
                owner: String::new(),
            };
            let used = (body.key == world.launch.terms.key).then_some(&key);
            administer::launches::create(opened, body, existing, used, now, changes)
        }
        Act::LaunchClose => {
            let body = opened.body::<LaunchClose>()?;
            administer::launches::close(
                opened,
                body,
                Some(&world.launch),
                FeedHead::START,
                &entry,
                changes,
                chance,
            )
        }
        Act::PolicySet => {
            let body = opened.body::<PolicySet>()?;
            administer::policies::set(opened, &body, None, now, changes).map(|(done, _)| done)
        }
        Act::DatasetRecord => {
            let body = opened.body::<DatasetRecord>()?;
            let uses = vec![None; administer::datasets::keys_of(&body).len()];
            let same = body.dataset == world.dataset.record.dataset;
            let known = administer::datasets::Known {
                existing: same.then_some(&world.dataset),
                named: (body.name == world.dataset.record.name)
                    .then_some(&world.dataset.record.dataset),
                alias: None,
                uses: &uses,
            };
            administer::datasets::record(opened, body, &known, &world.realm, now, changes)
        }
        Act::Deny => {
            let body = opened.body::<DenyBody>()?;
            administer::denials::deny(opened, body, FeedHead::START, &entry, changes, chance)
        }
        Act::NodeUnfreeze => {
            let body = opened.body::<NodeUnfreeze>()?;
            administer::nodes::unfreeze(
                opened,
                &body,
                Some(&frozen(world)),
                None,
                None,
                now,
                changes,
            )
        }
        Act::AliasSet => {
            let body = opened.body::<AliasSet>()?;
            let known = administer::aliases::Known {
                existing: None,
                named: None,
                target: Some(&world.dataset),
                before: None,
            };
            administer::aliases::set(opened, body, &known, changes)
        }
        Act::Propose => {
            let body = opened.body::<Propose>()?;
            return administer::proposals::read(opened, &body).map(drop);
        }
        Act::AdminSet => {
            return administer::admin_sets::successor(opened, &world.realm, now).map(drop);
        }
        Act::AdminSetShow => {
            let body = opened.body::<AdminSetShow>()?;
            let page = administer::admin_sets::page(&world.realm.admins, body.after);
            assert!(page.to_cbor().len() <= limits::MESSAGE);
            return Ok(());
        }
        _ => return Ok(()),
    }?;
    for (key, value) in &done.changes.puts {
        assert!(
            key.len() <= store::MAX_KEY_BYTES && value.len() <= limits::STATEMENT,
            "{key} does not fit the store"
        );
    }
    assert!(done.result.len() <= limits::MESSAGE);
    Ok(())
}
