//! A ticket, presented.

use key_server::broker_log::{BrokerLog, Remembered};
use key_server::issued::NotIssued;
use key_server::present;
use key_server::state::{Connection, State};
use ticket_format::cbor::Decode as _;
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::messages::present::PresentBody;
use ticket_format::messages::{Answer, RequestView, Verb};

use super::{Rig, connection, fits, moment, present_request, refused, with_rig};
use crate::mutate::Form;
use crate::rng::Chance;
use crate::targets::{DECIDES, Target, members, vectors_bytes};
use crate::vectors;
use crate::world::world;

/// A ticket, presented: as it comes, and under the proof that its key makes of what comes.
pub const PRESENT: Target = Target {
    name: "present",
    form: Form::Cbor,
    runs: 5_000,
    room: DECIDES,
    seeds: || {
        let mut seeds = with_rig(|rig| {
            vec![
                present_request(&rig.present, &rig.ticket, &rig.connection),
                rig.present.clone(),
            ]
        });
        seeds.extend(members(&["present_request"]));
        seeds.extend(vectors::all_bytes(|file, member, _| {
            matches!(member, "request" | "body")
                && (file.contains("present") || file.contains("session"))
        }));
        seeds
    },
    run: present,
};

fn present(data: &[u8]) {
    with_rig(|rig| {
        give_present(rig, data, false);
        if let Ok(body) = PresentBody::from_cbor(data, limits::PRESENT) {
            let request = present_request(data, &body.ticket, &rig.connection);
            give_present(rig, &request, true);
        }
    });
}

fn give_present(rig: &mut Rig, data: &[u8], ours: bool) {
    // Nor is what was seen of the broker's log kept: the vectors' trees are not all of one log.
    rig.state.broker_log = BrokerLog::new(
        world().keys.broker_log.key().clone(),
        Remembered::default(),
        None,
    );
    // A connection of its own: what is presented is kept there.
    let connection = connection(world());
    let known = present_request(&rig.present, &rig.ticket, &connection);
    if let Ok(Answer::Done { .. }) =
        present_with(&rig.state, &connection, data, &mut rig.chance.clone())
    {
        // rule: PRE-1, PRE-5
        let body = RequestView::parse(data)
            .map(|request| request.body.to_vec())
            .unwrap_or_default();
        let read = PresentBody::from_cbor(&body, limits::PRESENT).expect("it was read");
        assert!(
            read.ticket == rig.ticket || vectors_bytes().contains(&read.ticket),
            "a ticket was forged"
        );
        assert!(
            ours || data == known || vectors_bytes().contains(data),
            "a presentation was forged"
        );
        assert_eq!(connection.len(), 1);
    } else {
        assert!(connection.is_empty(), "a refused ticket was kept");
    }
}

pub(super) fn present_with(
    state: &State,
    connection: &Connection,
    data: &[u8],
    chance: &mut Chance,
) -> Result<Answer, ()> {
    let (world, permit) = (world(), state.gate.permit());
    let moment = moment(world);
    let request = RequestView::parse(data).map_err(drop)?;
    if request.verb != Verb::Present {
        return Err(());
    }
    let identified = present::identify(state, connection, &request, moment)
        .map_err(|error| refused(&error, false))?;
    let entry = identified.entry(state, connection, ActId([1; 16]), moment, &permit);
    fits(&entry);
    let proven = identified
        .prove(state, moment)
        .map_err(|error| match error {
            NotIssued::Refused(error) => refused(&error, true),
            NotIssued::Forked(fork) => panic!("no input forks a log: {fork}"),
        })?;
    let opened = present::decide(
        state, connection, identified, proven, moment, &permit, chance,
    );
    let opened = opened.map_err(|error| refused(&error, true))?;
    fits(&opened.complete(entry));
    opened
        .release(state, connection, moment, &permit)
        .map_err(|error| refused(&error, true))
}
