//! Aliases: the record that gives one, the one that takes it away, their list, and the exchange by which a
//! node asks for one.

use ticket_format::cbor::Encode;
use ticket_format::messages::Verb;
use ticket_format::messages::alias::{AliasAnswer, AliasBody};
use ticket_format::statement::{
    Act, AliasList, AliasPage, AliasRow, AliasSet, AliasTarget, Payload, ReceivedStatement,
};
use ticket_format::{labels, ticket};

use super::admins::{self, OWNERS};
use super::case::Case;
use super::exchanges::{answer, exchange};
use super::statements::{item, statement};
use super::tickets::EVIDENCE;
use super::world::{AUTHENTICATOR, DATASET, REALM, World, at, ed25519, identity, signed_input};

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![given(world), removed(world), asked(world)]
}

/// The alias's first record.
fn first() -> AliasSet {
    AliasSet {
        alias: "current".to_owned(),
        target: Some(AliasTarget {
            dataset: DATASET,
            name: "faces".to_owned(),
        }),
        follows: AliasSet::FIRST,
    }
}

fn first_payload() -> Payload {
    admins::record(0xb7, &first())
}

fn gone() -> AliasSet {
    AliasSet {
        target: None,
        follows: first().digest(),
        ..first()
    }
}

/// Whether the owners of the vectors' dataset have signed this, in their number.
fn by_owners(world: &World, payload: &Payload) -> bool {
    let (set, owners) = (admins::set(), world.record().owners);
    let need = set.quorum(Act::AliasSet).unwrap_or(u64::MAX);
    let signed = admins::signed(payload, OWNERS);
    ReceivedStatement::parse(&signed)
        .and_then(|received| received.verify(&set, REALM, None, at(0)))
        .is_ok_and(|verified| verified.by_owners(&owners, need).is_ok())
}

fn given(world: &World) -> Case {
    assert!(by_owners(world, &first_payload()));
    let case = Case::new(
        "statement/alias-set",
        "ALI-1: an alias's first record, a statement for everyone, signed by the owners of the dataset that it names; and the list of aliases, in which one that was taken away names nothing.",
    );
    let case = statement(case, "alias-set", &first_payload(), OWNERS)
        .gives("record", first().digest().0)
        .gives_item("alias-list", "page", AliasList::first().to_cbor());
    let row = |set: AliasSet| AliasRow {
        record: set.digest(),
        alias: set.alias,
        target: set.target,
    };
    let former = AliasSet {
        alias: "former".to_owned(),
        ..gone()
    };
    let page = AliasPage {
        rows: vec![row(first()), row(former)],
        more: false,
    };
    item(case, "alias-page", &page)
}

fn removed(world: &World) -> Case {
    let payload = admins::record(0xb8, &gone());
    assert!(by_owners(world, &payload));
    let case = Case::new(
        "statement/alias-removed",
        "ALI-1, ADM-5: the record that takes the alias away: it names nothing, follows the first one, and is signed by the owners of the dataset that the alias named.",
    )
    .given("follows", first().digest().0);
    statement(case, "alias-set", &payload, OWNERS).gives("record", gone().digest().0)
}

fn asked(world: &World) -> Case {
    let node_ticket = ticket::sign(&world.node_claims(EVIDENCE), &world.ticket);
    let body = AliasBody {
        ticket: node_ticket.clone(),
        alias: first().alias,
    }
    .to_cbor();
    let (label, hash) = (labels::ALIAS_REQUEST, ticket::hash(&node_ticket));
    let input = signed_input(
        label,
        &identity(world.broker_tls.public()),
        Some(AUTHENTICATOR),
        Some(&hash.0),
        &body,
    );
    let key = &world.node_proof;
    let proof = world.to_broker().sign_with(key, label, Some(hash), &body);
    let other_path = ed25519(&key.seed(), &input);
    assert_eq!(proof.value, other_path, "over SIG-1's array");
    let case = Case::new(
        "exchange/alias",
        "ALI-2, SIG-3: a node asks what an alias names, signed by its ticket's proof key, and is given the record that stands.",
    )
    .input("keys", "world.json")
    .given("ticket", &node_ticket)
    .gives_item("signed", "signed", &input);
    let case = exchange(case, Verb::Alias, "alias-body", &body, vec![proof]);
    let statement = admins::signed(&first_payload(), OWNERS);
    answer(
        case,
        Verb::Alias,
        "alias-answer",
        &AliasAnswer { statement },
    )
}
