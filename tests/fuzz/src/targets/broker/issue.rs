//! Issues.

use std::collections::BTreeSet;

use broker::issue;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::denial::TicketFacts;
use ticket_format::ids::ActId;
use ticket_format::messages::Verb;
use ticket_format::messages::issue::IssueBody;
use ticket_format::ticket::{self, Audience, DatasetClaims, NodeClaims};
use ticket_format::time::Timestamp;
use ticket_format::{labels, limits};

use super::{asked, fits, not_forged, refused, signed_request};
use crate::mutate::Form;
use crate::rng::Chance;
use crate::targets::Target;
use crate::vectors;
use crate::world::world;

/// An issue.
pub const ISSUE: Target = Target {
    name: "issue",
    form: Form::Cbor,
    runs: 4_000,
    room: (2 * 1024 * 1024, 64),
    seeds: || {
        vec![
            vectors::bytes("exchange/issue", "request"),
            vectors::bytes("exchange/issue", "body"),
        ]
    },
    run: issuing,
};

fn issuing(data: &[u8]) {
    issue_with(data, false);
    let Ok(mut body) = IssueBody::from_cbor(data, limits::SMALL_MESSAGE) else {
        return;
    };
    issue_with(&signed_issue(data, &body), true);
    let world = world();
    let realm = &world.realm;
    body.proof_key = world.keys.job_proof.public();
    let ticket = ticket::verify::<NodeClaims>(
        &body.node_ticket,
        &*realm.tickets.keys(),
        &realm.name,
        realm.audience(),
    );
    if let Ok(ticket) = ticket {
        // And all that there is, for as long as there is.
        let most = (u64::MAX, u64::MAX, Timestamp::LAST);
        for (life, budget, expires) in [(body.life, body.budget, body.expires), most] {
            (body.life, body.budget, body.expires) = (life, budget, expires);
            let evidence = body.evidence(ticket.claims().common.evidence);
            body.evidence = evidence.sign(&world.keys.next_node, &realm.name, &realm.tls);
            issue_with(&signed_issue(&body.to_cbor(), &body), true);
        }
    }
}

fn signed_issue(bytes: &[u8], body: &IssueBody) -> Vec<u8> {
    let (keys, channel, label) = (&world().keys, world().to_broker(), labels::ISSUE_REQUEST);
    let hash = Some(ticket::hash(&body.node_ticket));
    let proofs = [
        channel.sign_with(&keys.node_proof, label, hash, bytes),
        channel.sign_with(&keys.job_proof, label, hash, bytes),
    ];
    signed_request(Verb::Issue, bytes, &proofs)
}

/// Says why somebody is denied, who is.
type Denied = dyn Fn(&TicketFacts<'_>) -> Option<String> + Sync;

fn issue_with(data: &[u8], ours: bool) {
    let world = world();
    let Some(request) = asked(data, Verb::Issue) else {
        return;
    };
    let opened = issue::parse(&request)
        .and_then(|asked| issue::open(asked, &world.realm, &world.caller, world.now));
    let held = match opened {
        Ok(held) => held,
        Err(error) => return refused(&error),
    };
    not_forged(data, ours);
    let record = &world.dataset.record;
    let nobody = |_: &TicketFacts<'_>| None;
    let everybody = |_: &TicketFacts<'_>| Some("all".to_owned());
    let denied: [&Denied; 2] = [&nobody, &everybody];
    for denied in denied {
        let view = issue::View {
            dataset: (held.body().dataset == record.name).then_some(&world.dataset),
            aliases: BTreeSet::new(),
            policy: Some(&world.policy),
            proof_key: None,
            denied,
        };
        let entry = held.entry(ActId([1; 16]), &world.caller, world.now, 0);
        match issue::weigh(&held, &view, &world.caller, world.now) {
            Ok(weighed) => {
                let granted = issue::grant(
                    &weighed,
                    weighed.budget(),
                    entry,
                    &world.realm,
                    world.now,
                    &mut Chance::new(5),
                );
                let granted = granted.expect("what is weighed is signed");
                fits(&granted.entry);
                dataset_ticket(&granted.ticket, held.body());
                let allowed =
                    issue::still_allowed(&held, &granted, Some(&world.node), &nobody, world.now);
                assert!(allowed.is_ok());
            }
            Err(mut unmet) => {
                refused(&unmet.refused);
                fits(&unmet.complete(&held, entry, &world.realm.pairs).0);
            }
        }
    }
}

/// A dataset ticket gives no more than was asked for and than the record allows.
fn dataset_ticket(bytes: &[u8], asked: &IssueBody) {
    let world = world();
    let (realm, record) = (&world.realm, &world.dataset.record);
    let audience = Audience::KeyServer(record.tls_key);
    let ticket =
        ticket::verify::<DatasetClaims>(bytes, &*realm.tickets.keys(), &realm.name, audience);
    let ticket = ticket
        .expect("a ticket that was given verifies")
        .live(world.now)
        .expect("and lives");
    let claims = ticket.claims();
    // rule: ISS-4
    assert!(claims.common.expires <= world.now.plus(record.max_life.min(asked.life)));
    assert!(
        claims.common.expires <= asked.expires
            && claims.budget <= record.max_budget.min(asked.budget)
    );
    assert_eq!(
        (claims.actions, &claims.required),
        (asked.actions, &asked.required)
    );
    assert_eq!(
        (claims.dataset, claims.common.proof_key),
        (record.dataset, asked.proof_key)
    );
}
