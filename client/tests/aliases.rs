//! What a node takes for the dataset of an alias, by the command: the latest record that it has seen.

mod cli_support;

use cli_support::house::{DATASET, house};
use cli_support::{Home, now, owners, rng, tls_key};
use ticket_format::ids::StatementId;
use ticket_format::messages::Verb;
use ticket_format::report::exit;
use ticket_format::statement::{AliasSet, AliasTarget, Payload, WitnessMode};
use ticket_format::time::Timestamp;

/// What the owners signed at this time: that the alias names the one dataset there is.
fn record(when: Timestamp) -> Vec<u8> {
    let set = AliasSet {
        alias: "current".to_owned(),
        target: Some(AliasTarget {
            dataset: DATASET,
            name: "faces".to_owned(),
        }),
        follows: AliasSet::FIRST,
    };
    let payload = Payload::record(StatementId::random(&mut rng()), "example.org", when, &set);
    let [one, two] = owners();
    payload.sign(&[&one, &two]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_seen_a_newer_record_of_an_alias_takes_no_ticket_by_an_older_one() {
    // rule: ALI-2
    let (broker, _) = house(WitnessMode::None);
    let home = Home::new();
    home.logged_in(&broker.address.to_string(), tls_key(), 3_600);
    let begun = now();
    let issue = |seconds: u64| {
        *broker.alias.lock().unwrap() = Some(record(begun.minus(100 - seconds)));
        home.run(&["issue", "current", "--action", "decrypt"])
    };
    let kept = || {
        let state = client::state::NodeState::load(&home.state()).unwrap();
        let wallet = home.wallet().load(&state.unwrap().wallet_key).unwrap();
        let tickets = wallet.datasets.into_iter();
        tickets.map(|one| one.ticket).collect::<Vec<_>>()
    };
    let first = issue(50);
    assert_eq!(first.code, i32::from(exit::DONE), "{first:?}");
    let before = kept();
    assert_eq!(before.len(), 1);
    // Each run is a process of its own: what it has seen is on disk.
    let older = issue(49);
    assert_eq!(older.code, i32::from(exit::INTEGRITY), "{older:?}");
    assert!(older.err.contains("a later record of it"), "{older:?}");
    assert_eq!(kept(), before, "no ticket of the older one");
    for seconds in [50, 60] {
        let said = issue(seconds);
        assert_eq!(said.code, i32::from(exit::DONE), "{said:?}");
    }
    let replayed = issue(50);
    assert_eq!(replayed.code, i32::from(exit::INTEGRITY), "{replayed:?}");
    // It asked by the name first, each time, and for the alias then.
    let asked = broker.asked.lock().unwrap();
    let count = |verb| asked.iter().filter(|one| **one == verb).count();
    assert_eq!((count(Verb::Issue), count(Verb::Alias)), (10, 5));
}
