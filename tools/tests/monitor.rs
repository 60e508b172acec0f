//! `postern-admin audit monitor`: logs held to what they were, and to each other.

#[path = "support/logs.rs"]
mod logs;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use logs::{append, at, keys, secret};
use serde_json::Value;
use support::{Place, Said};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{
    ActId, DatasetId, ItemDigest, LaunchId, PolicyDigest, TicketHash, TicketId,
};
use ticket_format::statement::Role;
use ticket_format::ticket::{Action, Actions};

const NODE: &str = "ec2/123456789012/eu-west-1/i-0123456789abcdef0";

fn plain(act: u8, kind: Kind, time: u64) -> Entry {
    Entry::new(ActId([act; 16]), kind, at(time))
}

/// An act by the ticket with this number.
fn by_ticket(act: u8, kind: Kind, time: u64, ticket: u8) -> Entry {
    plain(act, kind, time)
        .subject(NODE)
        .ticket_hash(TicketHash([ticket; 32]))
        .ticket(TicketId([ticket; 16]))
        .dataset(DatasetId([3; 16]))
        .launch(LaunchId([4; 16]))
        .expires(at(3_000))
        .epoch(1)
        .actions(Actions::new(&[Action::Decrypt]).unwrap())
}

fn issue(act: u8, time: u64, ticket: u8) -> Entry {
    by_ticket(act, Kind::Issue, time, ticket)
        .policy(PolicyDigest([5; 32]))
        .count(2)
}

fn redeem(act: u8, time: u64, ticket: u8, items: &[u8]) -> Entry {
    let items = items.iter().map(|item| (ItemDigest([*item; 32]), Ok(())));
    by_ticket(act, Kind::Redeem, time, ticket).items(items.collect())
}

/// A broker's log with two tickets.
fn broker_entries() -> Vec<Entry> {
    vec![
        plain(1, Kind::Start, 0),
        plain(2, Kind::Statement, 10).policy(PolicyDigest([5; 32])),
        plain(3, Kind::Denial, 20).epoch(1),
        issue(4, 30, 1),
        issue(5, 40, 2),
    ]
}

fn broker(place: &Place, entries: &[Entry]) {
    append(
        &place.path("broker"),
        secret(Role::Broker, 1),
        15_000,
        entries,
    );
}

fn server(place: &Place, entries: &[Entry]) {
    append(
        &place.path("server"),
        secret(Role::KeyServer, 2),
        u64::MAX,
        entries,
    );
}

fn monitor(place: &Place, more: &[&str]) -> Said {
    let mut arguments: Vec<String> = ["audit", "monitor", "--once", "--log=broker", "--log=server"]
        .map(str::to_owned)
        .to_vec();
    arguments.extend(keys(&secret(Role::Broker, 1)));
    arguments.extend(keys(&secret(Role::KeyServer, 2)));
    arguments.extend(more.iter().map(|one| (*one).to_owned()));
    place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn alarms(said: &Said) -> Vec<(String, Option<u64>)> {
    let all: Vec<(String, Option<u64>)> = said
        .out
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            (
                line["alarm"].as_str().unwrap().to_owned(),
                line["index"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        said.code,
        if all.is_empty() { 0 } else { 9 },
        "{}",
        said.err
    );
    all
}

#[test]
fn logs_that_bear_each_other_out_raise_no_alarm() {
    let place = Place::new();
    broker(&place, &broker_entries());
    server(
        &place,
        &[
            by_ticket(10, Kind::Present, 50, 1),
            redeem(11, 51, 1, &[1, 2]),
            redeem(12, 52, 2, &[1]),
        ],
    );
    let said = monitor(&place, &["--state=state"]);
    assert!(alarms(&said).is_empty(), "{} {}", said.out, said.err);
    // Again, with more of both, goes on where it was left.
    broker(&place, &[issue(6, 60, 3)]);
    server(
        &place,
        &[redeem(13, 70, 3, &[7]), redeem(14, 71, 1, &[1, 2])],
    );
    let said = monitor(&place, &["--state=state"]);
    assert!(alarms(&said).is_empty(), "{} {}", said.out, said.err);
    assert!(said.err.contains("2 new entries, 5 in all"), "{}", said.err);
}

#[test]
fn a_redemption_without_an_issue_on_record_raises_an_alarm_and_tells_the_hook() {
    // rule: PRE-5
    let place = Place::new();
    broker(&place, &broker_entries());
    server(&place, &[redeem(11, 51, 1, &[1]), redeem(12, 52, 9, &[1])]);
    let hook = place.write(
        "hook",
        format!("#!/bin/sh\ncat >> {}\n", place.path("told").display()),
    );
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
    let hook = hook.to_str().unwrap();
    let said = monitor(&place, &["--state=state", "--", hook]);
    assert_eq!(alarms(&said), [("use-without-issue".to_owned(), Some(1))]);
    let told = fs::read_to_string(place.path("told")).unwrap();
    assert!(told.contains("use-without-issue"), "{told}");
    // What was told is not told again.
    assert!(alarms(&monitor(&place, &["--state=state"])).is_empty());
}

#[test]
fn what_a_ticket_was_not_issued_for_raises_an_alarm() {
    let place = Place::new();
    broker(&place, &broker_entries());
    let other = |entry: Entry| entry.dataset(DatasetId([9; 16]));
    server(
        &place,
        &[
            other(redeem(11, 51, 1, &[1])),
            redeem(12, 52, 2, &[1, 2, 3]),
            redeem(13, 53, 1, &[1]).epoch(7),
            redeem(14, 3_100, 2, &[1]),
        ],
    );
    let mut found = alarms(&monitor(&place, &[]));
    found.sort();
    let named = |name: &str, index| (name.to_owned(), Some(index));
    assert_eq!(
        found,
        [
            named("over-budget", 1),
            named("over-budget", 3),
            named("ticket-mismatch", 0),
            named("ticket-time", 3),
            named("unknown-epoch", 2),
        ]
    );
}

#[test]
fn an_issue_by_a_policy_that_nobody_set_raises_an_alarm() {
    let place = Place::new();
    let mut entries = broker_entries();
    entries.push(issue(6, 50, 3).policy(PolicyDigest([6; 32])));
    broker(&place, &entries);
    server(&place, &[plain(10, Kind::Start, 0)]);
    let found = alarms(&monitor(&place, &[]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "unknown-policy");
}

#[test]
fn a_log_that_was_set_back_or_has_forked_raises_an_alarm() {
    // rule: TLOG-6
    let place = Place::new();
    broker(&place, &broker_entries());
    server(&place, &[redeem(11, 51, 1, &[1]), redeem(12, 52, 2, &[1])]);
    assert!(alarms(&monitor(&place, &["--state=state"])).is_empty());
    fs::remove_dir_all(place.path("server")).unwrap();
    server(&place, &[redeem(11, 51, 1, &[1])]);
    let back = alarms(&monitor(&place, &["--state=state"]));
    assert_eq!(back, [("rolled-back".to_owned(), None)]);
    server(&place, &[redeem(13, 52, 2, &[2]), redeem(14, 53, 2, &[1])]);
    let fork = alarms(&monitor(&place, &["--state=state"]));
    assert_eq!(fork, [("forked".to_owned(), None)]);
}
