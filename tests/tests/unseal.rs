//! A sealed key server and its admins, by real processes: `postern-admin unseal`, `drill`, `seal`, `rekey`.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use client::link::Server;
use client::wallet::DatasetSession;
use serde_json::Value;
use store::root::{Given, Holders, Means, Place, RootDir, Share};
use tests::house::{DATASET, House, REALM, Said, private};
use tests::wire::{Wire, rng};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::AttemptId;
use ticket_format::messages::Verb;
use ticket_format::messages::batch::RedeemBody;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::statement::{RootView, ShareGive, ShareHolder, SharePurpose, StatusShow};
use ticket_format::{Context, Refusal};

fn named(name: &str) -> Context {
    Context::new([("name".to_owned(), name.to_owned())].into()).expect("a context")
}

fn credential(house: &House) -> PathBuf {
    house.path("key-server-root")
}

/// Takes the credential away and starts the key server again: it is sealed.
fn seal_by_loss(house: &mut House) {
    house.key_server.stop();
    fs::rename(credential(house), house.path("taken-away")).expect("renamed");
    house.key_server.start_sealed();
}

/// The key server under its door key.
fn door(house: &House) -> Server {
    let text = fs::read_to_string(house.path("key-server/server-keys.toml")).expect("public keys");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("door-key = "));
    let key = line.expect("a door key").trim_matches('"');
    Server {
        tls_key: key.parse().expect("a key"),
        ..house.key_server_server()
    }
}

fn json(said: Said) -> Value {
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    serde_json::from_slice(&said.stdout).expect("JSON")
}

fn status(house: &House) -> Value {
    json(house.as_admin("operator", &["unseal", "--status", "--format", "json"]))
}

/// An admin's share, and what the command said.
fn unseal(house: &House, name: &str) -> Said {
    house.as_admin(name, &["unseal"])
}

fn roots(house: &House) -> Vec<Entry> {
    let entries = house.entries("key-server").into_iter();
    entries.filter(|entry| entry.kind == Kind::Root).collect()
}

/// Proposed by one owner, approved by the other.
fn both(house: &House, arguments: &[&str]) -> String {
    let proposed = house.as_admin("owner-1", arguments).ok();
    let id = proposed
        .strip_prefix("proposed ")
        .and_then(|rest| rest.split(':').next())
        .unwrap_or_else(|| panic!("{proposed}"));
    house.as_admin("owner-2", &["approve", id, "--yes"]).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_admins_open_a_key_server_whose_credential_is_gone() {
    // rule: ROOT-4
    let mut house = House::start();
    let node = house.node(0).await;
    let ticket = node.issue(&house.to_broker().await, DATASET).await;
    let ticket = ticket.expect("a ticket");
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let made = server.generate(&presented, &named("a")).await;
    let (wrap, dek) = made.expect("a DEK");
    drop(server);
    assert_eq!(status(&house)["state"], "open");

    seal_by_loss(&mut house);
    let shown = status(&house);
    assert_eq!(shown["state"], "sealed", "{shown}");
    assert_eq!(shown["automatic"], "credential");
    assert!(shown["automatic_failed"].is_string(), "{shown}");
    assert_eq!(
        (&shown["threshold"], &shown["unseal"]["shares"]),
        (&2.into(), &0.into())
    );
    assert_eq!(shown["shares"].as_array().expect("holders").len(), 3);
    assert_eq!(shown["drill"], Value::Null);

    // Whoever pins its TLS key does not find it; at its door nothing is done.
    assert!(Wire::try_connect(&house.key_server_server()).await.is_err());
    let at_door = Wire::connect(&door(&house)).await;
    let redeem = RedeemBody::encode(&presented.head(), &[(&wrap, &named("a"))]);
    let reply = at_door.send(&presented.batch(Verb::Redeem, redeem)).await;
    assert_eq!(reply.refusal(), Some(Refusal::Sealed));
    let presenting = at_door.present(&ticket).await.map(drop);
    assert_eq!(presenting.unwrap_err().refusal(), Some(Refusal::Sealed));
    let asked = at_door.act(&house.admins, &StatusShow {}).await.map(drop);
    assert_eq!(asked.unwrap_err().refusal(), Some(Refusal::Sealed));
    let servers = house.as_admin("operator", &["status"]);
    assert_eq!(servers.code, Some(8), "{}", servers.stderr);
    assert!(servers.text().contains("\tsealed\t"), "{}", servers.text());
    for (who, arguments) in [
        ("owner-1", &["drill"][..]),
        (
            "owner-1",
            &["rekey", "--threshold=1", "--share=x=KEY", "--yes"],
        ),
    ] {
        let key = house.path("admin-owner-1/share-key.pub");
        let arguments: Vec<String> = arguments
            .iter()
            .map(|one| one.replace("KEY", key.to_str().expect("text")))
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = house.as_admin(who, &arguments);
        assert_eq!(said.code, Some(8), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains("68"), "{}", said.stderr);
    }
    assert_eq!(
        house.as_admin("owner-1", &["seal", "--yes"]).code,
        Some(0),
        "it is already"
    );

    // One share twice is one share.
    for _ in 0..2 {
        let said = unseal(&house, "owner-1");
        assert!(said.stderr.contains("is sealed"), "{}", said.stderr);
        assert_eq!(said.ok(), "1 of 2 shares; 1 more opens it\n");
    }
    assert_eq!(status(&house)["unseal"]["shares"], 1);
    assert_eq!(
        unseal(&house, "owner-2").ok(),
        "2 of 2 shares; it is open\n"
    );
    house.key_server.opens();
    assert_eq!(status(&house)["state"], "open");
    // Who comes later is not needed.
    assert!(unseal(&house, "owner-1").ok().contains("open"));

    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let opened = server.redeem(&presented, &[(&wrap, &named("a"))]).await;
    let opened = opened.expect("an answer").remove(0).expect("released");
    assert_eq!(opened.0, Some(dek), "the DEK that was made before");
    let roots = roots(&house);
    assert_eq!(roots.len(), 1);
    assert_eq!(
        roots[0].signers,
        Some(vec!["test-owner-1".to_owned(), "test-owner-2".to_owned()])
    );
    house.is_sound();
}

/// A share of another root key, sealed to this attempt.
fn foreign(house: &House, view: &RootView, dir: &Path) -> ShareGive {
    let place = Place {
        realm: REALM.to_owned(),
        server: house.key_server_server().tls_key,
    };
    let secrets: Vec<SealingSecret> = (0..3)
        .map(|_| SealingSecret::generate(Kem::XWing, &mut rng()))
        .collect();
    let holders = secrets.iter().enumerate().map(|(at, key)| ShareHolder {
        name: at.to_string(),
        key: key.public(),
    });
    let holders = Holders::new(2, holders.collect());
    private(&dir.join("credential"), "a5".repeat(32).as_bytes());
    let made = RootDir::at(dir).create(
        &place,
        &Means::Credential(dir.join("credential")),
        &holders.expect("holders"),
        &mut rng(),
    );
    let (ways, _) = made.expect("a root key");
    let row = &ways.rows()[2];
    let share = Share::open(row, &secrets[2], &place, ways.root()).expect("its share");
    let to = Given {
        realm: REALM.to_owned(),
        server: door(house).tls_key,
        root: view.root,
        purpose: SharePurpose::Unseal,
    };
    let attempt = view.unseal.as_ref().expect("an attempt");
    share.give(attempt, &to, &mut rng()).expect("sealed")
}

async fn shown(house: &House) -> (Wire, RootView) {
    use ticket_format::cbor::Decode as _;
    use ticket_format::messages::administer::SealedAnswer;
    let wire = Wire::connect(&door(house)).await;
    let message = tests::wire::statement(
        &house.admins,
        &wire.channel,
        &ticket_format::statement::RootShow {},
    );
    let answer = wire.send(&message).await.done();
    let answer = SealedAnswer::from_cbor(&answer, answer.len()).expect("its shape");
    let view = RootView::from_cbor(&answer.result, answer.result.len()).expect("its shape");
    (wire, view)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_does_not_fit_begins_another_attempt_and_raises_an_alarm() {
    // rule: ROOT-4
    let mut house = House::start();
    seal_by_loss(&mut house);
    unseal(&house, "owner-1").ok();
    let (wire, view) = shown(&house).await;
    let before = view.unseal.clone().expect("an attempt");
    assert_eq!(before.shares, 1);
    let elsewhere = house.path("elsewhere");
    store::files::private_dir(&elsewhere).expect("a directory");
    let give = foreign(&house, &view, &elsewhere);
    // For another attempt: nothing happens to this one.
    let late = ShareGive {
        attempt: AttemptId([7; 16]),
        ..give.clone()
    };
    let message = tests::wire::statement(&house.admins, &wire.channel, &late);
    assert_eq!(wire.send(&message).await.refusal(), Some(Refusal::Stale));
    assert_eq!(status(&house)["unseal"]["shares"], 1);
    // Of a root key that is not this one: two shares open nothing.
    let message = tests::wire::statement(&house.admins, &wire.channel, &give);
    assert_eq!(wire.send(&message).await.refusal(), Some(Refusal::Invalid));
    let after = status(&house);
    assert_eq!(after["unseal"]["shares"], 0, "what was given is erased");
    assert_ne!(after["unseal"]["attempt"], before.id.to_string());

    for name in ["owner-1", "owner-2"] {
        unseal(&house, name).ok();
    }
    house.key_server.opens();
    assert_eq!(house.alarms("key-server", Alarm::BadShares), 1);
    house.is_sound();
}

#[test]
fn a_share_is_not_given_where_it_is_not_this_admins_or_was_changed() {
    // rule: ROOT-3
    let mut house = House::start();
    // While it is open nothing is to be given.
    assert!(unseal(&house, "owner-1").ok().contains("open"));
    let passphrase = house.path("passphrase");
    let key = |name: &str, realm: &str| {
        let out = house.path(name);
        let mut make = tests::house::command("postern-admin");
        make.args(["share-key", "new", "--realm", realm, "--out"])
            .arg(&out);
        make.arg("--passphrase-file").arg(&passphrase);
        tests::house::ended(make).ok();
        out.to_str().expect("text").to_owned()
    };
    let (stranger, elsewhere) = (key("stranger", REALM), key("elsewhere-key", "elsewhere"));

    house.key_server.stop();
    let data = house.path("key-server/data");
    let ways = RootDir::at(&data).ways().expect("the ways");
    let file = data.join("root/1/shares");
    let mut bytes = fs::read(&file).expect("the shares");
    let own = fs::read_to_string(house.path("admin-owner-1/share-key.pub")).expect("a line");
    let own = ticket_format::share_key::read(&own).expect("a share key");
    let row = ways
        .rows()
        .iter()
        .find(|row| row.key == own)
        .expect("a share");
    let at = bytes
        .windows(row.sealed.len())
        .position(|part| part == row.sealed);
    let last = at.expect("the share") + row.sealed.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).expect("written");
    let down = house.as_admin("owner-1", &["unseal", "--timeout=1s"]);
    assert_eq!(down.code, Some(8), "{}", down.stderr);
    fs::rename(credential(&house), house.path("taken-away")).expect("renamed");
    house.key_server.start_sealed();

    let with = |key: &str| house.as_admin("owner-1", &["unseal", "--share-key", key]);
    let said = with(&stranger);
    assert_eq!(said.code, Some(6), "{}", said.stderr);
    let said = with(&elsewhere);
    assert_eq!(said.code, Some(10), "{}", said.stderr);
    let admin_key = house.path("admin-owner-1/admin-key");
    let said = with(admin_key.to_str().expect("text"));
    assert_eq!(
        said.code,
        Some(1),
        "an admin's key opens no shares: {}",
        said.stderr
    );
    let changed = unseal(&house, "owner-1");
    assert_eq!(changed.code, Some(9), "{}", changed.stderr);
    assert_eq!(status(&house)["unseal"]["shares"], 0, "nothing was given");
    let other = house.path("other-passphrase");
    private(&other, b"quite another one");
    let own = [
        "unseal",
        "--share-passphrase-file",
        other.to_str().expect("text"),
    ];
    let said = house.as_admin("owner-2", &own);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(!said.stderr.contains("quite another"), "{}", said.stderr);
    let mut unpinned = fs::read_to_string(house.path("key-server/server-keys.toml")).expect("keys");
    let key = house.key_server_server().tls_key.to_string();
    let door = door(&house).tls_key.to_string();
    unpinned = unpinned.replace(
        &format!("door-key = \"{door}\""),
        &format!("door-key = \"{key}\""),
    );
    let path = house.path("wrong-keys.toml");
    fs::write(&path, unpinned).expect("written");
    let said = house.as_admin("owner-2", &["unseal", path.to_str().expect("text")]);
    assert_eq!(
        said.code,
        Some(9),
        "who answers is not the one pinned: {}",
        said.stderr
    );
    assert_eq!(status(&house)["unseal"]["shares"], 0, "nothing was given");
    house.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_changes_nothing_and_a_sealed_server_opens_by_shares_only() {
    // rule: ROOT-5, ROOT-6
    let mut house = House::start();
    let root = status(&house)["root"].as_str().expect("an id").to_owned();
    let drill = |house: &House, name: &str| house.as_admin(name, &["drill"]);
    assert_eq!(
        drill(&house, "owner-2").ok(),
        "1 of 2 shares; 1 more completes it\n"
    );
    assert_eq!(status(&house)["drill"]["shares"], 1);
    assert_eq!(
        drill(&house, "owner-1").ok(),
        format!("2 of 2 shares; both ways open root key {root}\n")
    );
    assert_eq!(status(&house)["root"], root);
    assert_eq!(roots(&house).len(), 1, "the drill is on record");
    // Without the credential one way is missing, and the server goes on.
    fs::rename(credential(&house), house.path("taken-away")).expect("renamed");
    drill(&house, "owner-1").ok();
    let said = drill(&house, "owner-2");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("automatic"), "{}", said.stderr);
    fs::rename(house.path("taken-away"), credential(&house)).expect("renamed");

    let operator = house.as_admin("operator", &["seal", "--yes"]);
    assert_ne!(operator.code, Some(0), "it takes security");
    let dry = house.as_admin("owner-1", &["seal", "--dry-run"]);
    assert!(
        dry.stderr.contains("ends all its connections"),
        "{}",
        dry.stderr
    );
    assert!(dry.ok().contains("dry run"));
    let asked = house.as_admin("owner-1", &["seal"]);
    assert_eq!(asked.code, Some(2), "nobody confirmed: {}", asked.stderr);
    assert_eq!(status(&house)["state"], "open");
    assert!(
        house
            .as_admin("owner-1", &["seal", "--yes"])
            .ok()
            .contains("sealed")
    );
    house.key_server.seals();
    let shown = status(&house);
    assert_eq!(
        (shown["state"].as_str(), shown["root"].as_str()),
        (Some("sealed"), Some(&*root))
    );
    for name in ["owner-1", "owner-2"] {
        unseal(&house, name).ok();
    }
    house.key_server.opens();
    assert_eq!(status(&house)["state"], "open");
    house.is_sound();
}

/// Redeems what was wrapped before, on a connection of its own.
async fn redeems(house: &House, ticket: &DatasetSession, wrap: &[u8], dek: &[u8; 32]) {
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(ticket).await;
    let opened = server.redeem(&presented, &[(wrap, &named("a"))]).await;
    let opened = opened.expect("an answer").remove(0).expect("released");
    assert_eq!(opened.0.as_ref(), Some(dek));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_gives_new_shares_and_a_new_automatic_way_and_ends_no_connection() {
    // rule: ROOT-7
    let mut house = House::start();
    let node = house.node(0).await;
    let ticket = node.issue(&house.to_broker().await, DATASET).await;
    let ticket = ticket.expect("a ticket");
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let made = server.generate(&presented, &named("a")).await;
    let (wrap, dek) = made.expect("a DEK");
    let root = status(&house)["root"].as_str().expect("an id").to_owned();
    let data = house.path("key-server/data/root");
    let kept = house.path("kept");
    tests::house::copy_dir(&data, &kept);

    let shares: Vec<String> = ["owner-1", "owner-2"]
        .iter()
        .map(|name| {
            let key = house.path(&format!("admin-{name}/share-key.pub"));
            format!("--share={name}={}", key.display())
        })
        .collect();
    let arguments = ["rekey", "--threshold=2", &shares[0], &shares[1], "--yes"];
    let operator = house.as_admin("operator", &arguments);
    assert_ne!(operator.code, Some(0), "it takes security");
    assert_eq!(status(&house)["root"], root);
    both(&house, &arguments);
    let shown = status(&house);
    assert_eq!(shown["state"], "open");
    assert_ne!(shown["root"], root);
    assert_eq!(shown["shares"].as_array().expect("holders").len(), 2);
    assert!(!data.join("1").exists() && data.join("2").exists());
    assert_eq!(roots(&house).len(), 1, "it is on record");
    // Whoever was there goes on.
    let opened = server.redeem(&presented, &[(&wrap, &named("a"))]).await;
    assert!(opened.expect("an answer")[0].is_ok());
    drop(server);
    for name in ["owner-1", "owner-2"] {
        house.as_admin(name, &["drill"]).ok();
    }
    assert_eq!(roots(&house).len(), 2, "both new ways open it");

    // By the new automatic way.
    house.key_server.restart();
    redeems(&house, &ticket, &wrap, &dek).await;

    // By the new shares, and by nobody who has none any more.
    seal_by_loss(&mut house);
    let said = unseal(&house, "operator");
    assert_eq!(said.code, Some(6), "{}", said.stderr);
    for name in ["owner-1", "owner-2"] {
        unseal(&house, name).ok();
    }
    house.key_server.opens();
    redeems(&house, &ticket, &wrap, &dek).await;
    house.key_server.stop();
    fs::rename(house.path("taken-away"), credential(&house)).expect("renamed");

    // An old copy of the old root key beside the new one is erased.
    tests::house::copy_dir(&kept.join("1"), &data.join("1"));
    house.key_server.start();
    assert!(!data.join("1").exists());
    redeems(&house, &ticket, &wrap, &dek).await;
    house.key_server.stop();

    // In its place, it opens; what the store names is not under it, and nothing is served.
    let now = house.path("now");
    fs::rename(&data, &now).expect("renamed");
    tests::house::copy_dir(&kept, &data);
    let said = house.key_server.fails();
    assert_eq!(said.code, Some(10), "{}", said.stderr);
    assert!(said.stderr.contains("put its file back"), "{}", said.stderr);
    fs::remove_dir_all(&data).expect("removed");
    fs::rename(&now, &data).expect("renamed");
    house.key_server.start();
    redeems(&house, &ticket, &wrap, &dek).await;
    house.is_sound();
}
