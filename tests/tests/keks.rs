//! The life of a KEK version by real processes: rotated, emptied, about to be destroyed, kept.
#![allow(missing_docs)]

use std::collections::BTreeSet;

use serde_json::Value;
use tests::house::{DATASET, House, Said};
use tests::wire::{Presented, Wire};
use ticket_format::cbor::Encode as _;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::messages::Verb;
use ticket_format::messages::batch::{GenerateBody, RewrapBody, item_digest};
use ticket_format::{Context, Refusal};

fn named(name: &str) -> Context {
    Context::new([("name".to_owned(), name.to_owned())].into()).expect("a context")
}

fn json(said: Said) -> Value {
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let value: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(value["v"], 1, "{value}");
    value
}

/// The dataset's versions as anybody among the admins sees them.
fn keks(house: &House) -> Vec<Value> {
    let said = json(house.as_admin(
        "operator",
        &["dataset", "keks", DATASET, "--format", "json"],
    ));
    said["keks"].as_array().expect("versions").clone()
}

/// Each version's number, state, and how many wraps are left.
fn table(house: &House) -> Vec<(u64, String, u64)> {
    let rows = keks(house).into_iter();
    rows.map(|row| {
        (
            row["version"].as_u64().expect("a number"),
            row["state"].as_str().expect("a state").to_owned(),
            row["wraps_left"].as_u64().expect("a count"),
        )
    })
    .collect()
}

fn row(version: u64, state: &str, left: u64) -> (u64, String, u64) {
    (version, state.to_owned(), left)
}

fn version<'a>(command: &'a str, number: &'a str) -> Vec<&'a str> {
    vec!["dataset", command, DATASET, "--version", number]
}

/// What an owner proposes: its id, and what was said.
fn proposed(house: &House, arguments: &[&str]) -> (String, Said) {
    let said = house.as_admin("owner-1", arguments);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let text = said.text();
    let id = text
        .strip_prefix("proposed ")
        .and_then(|rest| rest.split(':').next())
        .unwrap_or_else(|| panic!("{text}"));
    (id.to_owned(), said)
}

fn approve(house: &House, id: &str) -> Said {
    house.as_admin("owner-2", &["approve", id, "--yes"])
}

/// One object's wrap, its DEK and its context.
struct Object {
    wrap: Vec<u8>,
    dek: [u8; 32],
    context: Context,
}

async fn made(server: &Wire, presented: &Presented, name: &str) -> Object {
    let context = named(name);
    let (wrap, dek) = server
        .generate(presented, &context)
        .await
        .unwrap_or_else(|reply| panic!("{name}: {reply:?}"));
    Object { wrap, dek, context }
}

/// What a redemption of it comes to.
async fn opens(server: &Wire, presented: &Presented, object: &Object) -> Result<[u8; 32], Refusal> {
    let items = [(&*object.wrap, &object.context)];
    let mut opened = server
        .redeem(presented, &items)
        .await
        .unwrap_or_else(|reply| panic!("{reply:?}"));
    opened.remove(0).map(|(dek, _)| dek.expect("a DEK"))
}

/// Wraps anew what is there; the new wraps stand in no place yet.
async fn rewrap(server: &Wire, presented: &Presented, objects: &[Object]) -> Vec<Vec<u8>> {
    let items: Vec<_> = objects
        .iter()
        .map(|object| (&*object.wrap, &object.context, None))
        .collect();
    let body = RewrapBody::encode(&presented.head(), &items, &[]);
    let answer = server.batch(presented, Verb::Rewrap, body).await;
    let answer = answer.unwrap_or_else(|reply| panic!("{reply:?}"));
    answer
        .into_iter()
        .map(|one| one.expect("not refused").1.expect("a wrap"))
        .collect()
}

/// Says that the new wraps stand in their places.
async fn confirm(server: &Wire, presented: &Presented, objects: &[Object], wraps: &[Vec<u8>]) {
    let placed: Vec<_> = wraps
        .iter()
        .zip(objects)
        .map(|(wrap, object)| item_digest(wrap, &object.context.to_cbor()))
        .collect();
    let body = RewrapBody::encode(&presented.head(), &[], &placed);
    let answer = server.batch(presented, Verb::Rewrap, body).await;
    assert!(answer.is_ok_and(|items| items.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_rotated_emptied_about_to_be_destroyed_and_kept() {
    // rule: KEK-1, KEK-2, KEK-4, INV-1, INV-2, REW-2, PRO-3
    let mut house = House::start();
    let node = house.node(0).await;
    let ticket = node.issue(&house.to_broker().await, DATASET).await;
    let ticket = ticket.expect("a ticket");
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let mut old = Vec::new();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        old.push(made(&server, &presented, name).await);
    }
    assert_eq!(table(&house), [row(1, "enabled", 3)]);

    // It rotates once, however often the script runs.
    let rotate = ["dataset", "rotate", DATASET, "--after", "1"];
    let said = house.as_admin("owner-1", &rotate);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("dataset record"), "{}", said.stderr);
    assert!(
        said.text().starts_with("version          2\n"),
        "{}",
        said.text()
    );
    let again = house.as_admin("owner-1", &rotate);
    assert_eq!(again.code, Some(7), "{}", again.stderr);
    assert_eq!(
        table(&house),
        [row(2, "enabled", 0), row(1, "decrypt-only", 3)]
    );
    for object in &old {
        assert_eq!(opens(&server, &presented, object).await, Ok(object.dek));
    }
    let new = made(&server, &presented, "d.jpg").await;
    assert_eq!(
        table(&house),
        [row(2, "enabled", 1), row(1, "decrypt-only", 3)]
    );

    // What would be lost is shown by name, and proposed as it stands.
    let mut wraps = version("wraps", "1");
    wraps.extend(["--format", "json"]);
    let listed = json(house.as_admin("operator", &wraps));
    let names = |listed: &Value| -> Vec<String> {
        let rows = listed["wraps"].as_array().expect("wraps").iter();
        let mut names: Vec<String> = rows
            .map(|row| row["object"].as_str().expect("a name").to_owned())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&listed), ["a.jpg", "b.jpg", "c.jpg"]);
    assert_eq!(
        (&listed["wraps_left"], &listed["after"]),
        (&3.into(), &Value::Null)
    );
    wraps.extend(["--limit", "2"]);
    let mut paged = json(house.as_admin("operator", &wraps));
    let after = paged["after"].as_str().expect("more").to_owned();
    wraps.extend(["--after", &after]);
    let rest = json(house.as_admin("operator", &wraps));
    let rest = rest["wraps"].as_array().expect("wraps").clone();
    assert_eq!(rest.len(), 1);
    paged["wraps"].as_array_mut().expect("wraps").extend(rest);
    assert_eq!(paged["wraps"], listed["wraps"]);

    let mut dry = version("destroy", "1");
    dry.push("--dry-run");
    let said = house.as_admin("owner-1", &dry);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for wanted in [
        "3 KNOWN WRAP(S) UNDER VERSION 1",
        "lost: a.jpg",
        "lost: c.jpg",
        "nobody has brought yet",
    ] {
        assert!(said.stderr.contains(wanted), "{wanted}: {}", said.stderr);
    }
    let unasked = house.as_admin("owner-1", &version("destroy", "1"));
    assert_eq!(unasked.code, Some(2), "{}", unasked.stderr);
    let newest = house.as_admin("owner-1", &version("destroy", "2"));
    assert_eq!(newest.code, Some(7), "{}", newest.stderr);
    let unknown = house.as_admin("owner-1", &version("destroy", "9"));
    assert_eq!(unknown.code, Some(6), "{}", unknown.stderr);
    let destroy = [version("destroy", "1"), vec!["--days", "30", "--yes"]].concat();
    let (stale, _) = proposed(&house, &destroy);

    // New wraps count beside the old ones until they stand in place.
    let wraps = rewrap(&server, &presented, &old).await;
    assert_eq!(
        table(&house),
        [row(2, "enabled", 4), row(1, "decrypt-only", 3)]
    );
    confirm(&server, &presented, &old, &wraps).await;
    assert_eq!(
        table(&house),
        [row(2, "enabled", 4), row(1, "decrypt-only", 0)]
    );
    let said = house.as_admin("operator", &["dataset", "keks", DATASET]);
    assert!(
        said.stderr.contains("v1: 0 wraps left, safe to destroy"),
        "{}",
        said.stderr
    );
    assert!(
        said.text().starts_with("VERSION\tSTATE\t"),
        "{}",
        said.text()
    );
    // The broker's record names the key server that knows.
    let at = house.path("key-server/server-keys.toml");
    let at = at.to_str().expect("text");
    for at in [&[][..], &["--key-server", at]] {
        let said = house.as_admin("operator", &[&["dataset", "show", DATASET], at].concat());
        let shown = said.ok();
        assert!(
            shown.contains("v2: wraps and opens, 4 wraps, last used "),
            "{shown}"
        );
        assert!(
            shown.contains("v1: 0 wraps left, safe to destroy"),
            "{shown}"
        );
    }

    // Its signers saw three wraps that would be lost: none is another matter.
    let said = approve(&house, &stale);
    assert_eq!(said.code, Some(7), "{}", said.stderr);
    assert!(said.stderr.contains("known wraps"), "{}", said.stderr);
    let (id, _) = proposed(&house, &destroy);
    assert_eq!(table(&house)[1], row(1, "decrypt-only", 0));
    let said = approve(&house, &id);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for wanted in [
        "DESTROYS the KEK version of dataset",
        "it is version 1, decrypt-only now",
        "no wrap under version 1 is known",
        "carried out now, it is destroyed at ",
    ] {
        assert!(said.stderr.contains(wanted), "{wanted}: {}", said.stderr);
    }

    // In the waiting time nothing opens, and whoever tries is heard.
    let pending = keks(&house).remove(1);
    assert_eq!(pending["state"], "pending-destruction");
    assert!(pending["destroyed_at"].is_string(), "{pending}");
    assert_eq!(
        opens(&server, &presented, &old[0]).await,
        Err(Refusal::KekState)
    );
    assert_eq!(opens(&server, &presented, &new).await, Ok(new.dek));
    assert_eq!(house.alarms("key-server", Alarm::KekUse), 1);
    let alarm = house.entries("key-server").into_iter();
    let mut alarm = alarm.filter(|entry| entry.alarm == Some(Alarm::KekUse));
    let alarm = alarm.next().and_then(|entry| entry.kek).expect("a version");
    assert_eq!(pending["kek"], alarm.to_string());
    for command in ["enable-kek", "disable-kek", "destroy"] {
        let said = house.as_admin("owner-1", &version(command, "1"));
        assert_eq!(said.code, Some(7), "{command}: {}", said.stderr);
    }

    // Kept, it is disabled; enabled it opens as before, and what it opens counts again.
    let alone = house.as_admin("operator", &version("keep", "1"));
    assert_eq!(alone.code, Some(4), "{}", alone.stderr);
    house.as_admin("owner-2", &version("keep", "1")).ok();
    assert_eq!(table(&house)[1], row(1, "disabled", 0));
    let again = house.as_admin("owner-1", &version("keep", "1"));
    assert_eq!(again.code, Some(7), "{}", again.stderr);
    assert_eq!(
        opens(&server, &presented, &old[0]).await,
        Err(Refusal::KekState)
    );
    house.as_admin("owner-1", &version("enable-kek", "1")).ok();
    assert_eq!(opens(&server, &presented, &old[0]).await, Ok(old[0].dek));
    assert_eq!(table(&house)[1], row(1, "decrypt-only", 1));
    let already = house.as_admin("owner-1", &version("enable-kek", "1"));
    assert_eq!(already.code, Some(0), "{}", already.stderr);
    assert!(already.stderr.contains("already"), "{}", already.stderr);

    // Out of use only when somebody says so twice.
    let disable = version("disable-kek", "1");
    let unasked = house.as_admin("owner-1", &disable);
    assert_eq!(unasked.code, Some(2), "{}", unasked.stderr);
    assert!(
        unasked
            .stderr
            .contains("nothing under version 1 opens until it is taken back: 1 known wrap"),
        "{}",
        unasked.stderr
    );
    let dry = [&disable[..], &["--dry-run"]].concat();
    house.as_admin("owner-1", &dry).ok();
    assert_eq!(table(&house)[1], row(1, "decrypt-only", 1));
    let sure = [&disable[..], &["--yes"]].concat();
    house.as_admin("owner-1", &sure).ok();
    assert_eq!(table(&house)[1], row(1, "disabled", 1));
    assert_eq!(
        opens(&server, &presented, &old[0]).await,
        Err(Refusal::KekState)
    );
    let by_itself = house.entries("key-server").into_iter();
    assert_eq!(by_itself.filter(|entry| entry.kind == Kind::Kek).count(), 0);
    house.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_rule_is_made_with_a_dataset_and_changed_by_its_owners() {
    // rule: KEK-3, PRO-3
    let mut house = House::start();
    let set = ["dataset", "set", DATASET, "--rotate-after", "90d"];
    let (id, _) = proposed(&house, &set);
    let said = approve(&house, &id);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("KEK rotation: from never by itself to every 90d"),
        "{}",
        said.stderr
    );
    let at = house.path("key-server/server-keys.toml");
    let at = at.to_str().expect("text");
    let show = ["dataset", "show", DATASET, "--key-server", at];
    let shown = |house: &House| {
        json(house.as_admin("operator", &[&show[..], &["--format", "json"]].concat()))
    };
    let view = shown(&house);
    assert_eq!(view["rotation"]["age"], "90d");
    assert_eq!(view["keks"][0]["state"], "enabled", "{view}");
    // What is not said stays.
    let more = [
        "dataset",
        "set",
        DATASET,
        "--rotate-wraps",
        "1000",
        "--rotate-on-denial",
    ];
    house.admin_does(&more).ok();
    let view = shown(&house);
    assert_eq!(
        view["rotation"],
        serde_json::json!({ "age": "90d", "wraps": 1_000, "on_denial": true })
    );
    let same = house.as_admin("owner-1", &more);
    assert_eq!(same.code, Some(2), "{}", same.stderr);
    house.is_sound();

    // A key server that does not answer takes nothing from what the broker knows.
    house.key_server.stop();
    let alone = house.as_admin("operator", &["--timeout", "1s", "dataset", "show", DATASET]);
    assert_eq!(alone.code, Some(0), "{}", alone.stderr);
    assert!(
        alone.stderr.contains("Its KEK versions are not shown: "),
        "{}",
        alone.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_wraps_than_fit_on_a_page_are_all_listed_and_all_named_by_a_destruction() {
    // rule: INV-1, KEK-4, PRO-3
    const MANY: usize = 450;
    let mut house = House::start();
    let node = house.node(0).await;
    let ticket = node.issue(&house.to_broker().await, DATASET).await;
    let ticket = ticket.expect("a ticket");
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let contexts: Vec<Context> = (0..MANY).map(|i| named(&format!("{i:03}.jpg"))).collect();
    let asked: Vec<&Context> = contexts.iter().collect();
    let body = GenerateBody::encode(&presented.head(), &asked, false, None);
    let answer = server.batch(&presented, Verb::Generate, body).await;
    let wraps: Vec<Vec<u8>> = answer
        .unwrap_or_else(|reply| panic!("{reply:?}"))
        .into_iter()
        .map(|one| one.expect("not refused").1.expect("a wrap"))
        .collect();
    house
        .as_admin("owner-1", &["dataset", "rotate", DATASET])
        .ok();

    let list = [&version("wraps", "1")[..], &["--format", "json"]].concat();
    let listed = json(house.as_admin("operator", &list));
    let rows = listed["wraps"].as_array().expect("wraps").iter();
    let digests: BTreeSet<String> = rows
        .map(|row| row["digest"].as_str().expect("a digest").to_owned())
        .collect();
    let made = wraps.iter().zip(&contexts);
    let made = made.map(|(wrap, context)| item_digest(wrap, &context.to_cbor()).to_string());
    assert_eq!(digests, made.collect());
    let lines = [
        &version("wraps", "1")[..],
        &["--format", "jsonl", "--limit", "201"],
    ]
    .concat();
    let lines = house.as_admin("operator", &lines).ok();
    assert_eq!(lines.lines().count(), 201);
    let table = [&version("wraps", "1")[..], &["--limit", "3", "--no-header"]].concat();
    let said = house.as_admin("operator", &table);
    assert_eq!(said.text().lines().count(), 3, "{}", said.stderr);
    assert!(
        said.stderr
            .contains("There are more, 450 in all: go on with --after "),
        "{}",
        said.stderr
    );

    // One is replaced between the proposal and its approval: other wraps are at stake.
    let destroy = [version("destroy", "1"), vec!["--days", "7", "--yes"]].concat();
    let (id, said) = proposed(&house, &destroy);
    for wanted in ["450 KNOWN WRAP(S)", "and 440 more: see "] {
        assert!(said.stderr.contains(wanted), "{wanted}: {}", said.stderr);
    }
    let old = Object {
        wrap: wraps[0].clone(),
        dek: [0; 32],
        context: named("000.jpg"),
    };
    let new = rewrap(&server, &presented, std::slice::from_ref(&old)).await;
    confirm(&server, &presented, std::slice::from_ref(&old), &new).await;
    let said = approve(&house, &id);
    assert_eq!(said.code, Some(7), "{}", said.stderr);
    let (id, _) = proposed(&house, &destroy);
    let said = approve(&house, &id);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("449 KNOWN WRAP(S)"), "{}", said.stderr);
    assert_eq!(self::table(&house)[1], row(1, "pending-destruction", 449));
    house.is_sound();
}
