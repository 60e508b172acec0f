//! The broker's ticket-signing keys in a PKCS#11 token, by real processes and a real token.
#![allow(missing_docs)]

use std::fs;
use std::time::{Duration, Instant};

use client::wallet::DatasetSession;
use serde_json::Value;
use tests::daemon::{Said, command, ended};
use tests::house::{DATASET, House, REALM, add, files_below};
use tests::node::Node;
use tests::softhsm::{PIN, Token};
use ticket_format::Context;
use ticket_format::Refusal;
use ticket_format::keys::TicketKey;
use ticket_format::report::exit;
use ticket_format::ticket::{self, DatasetClaims};

const PATIENCE: Duration = Duration::from_secs(120);

fn admin(house: &House, arguments: &[&str]) {
    let said = house.admin_does(arguments);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

/// The public keys, in order of their numbers; those that no record names come last.
fn keys(house: &House) -> Vec<TicketKey> {
    let said = house.as_admin("operator", &["ticket-key", "list", "--format", "json"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let rows = said["ticket_keys"].as_array().expect("keys").iter();
    rows.map(|row| row["key"].as_str().expect("a key").parse().expect("a key"))
        .collect()
}

async fn issued(house: &House, node: &Node) -> DatasetSession {
    let ticket = node.issue(&house.to_broker().await, DATASET).await;
    ticket.unwrap_or_else(|reply| panic!("{reply:?}"))
}

fn signed_by(session: &DatasetSession, key: &TicketKey) -> bool {
    ticket::verify_for_anyone::<DatasetClaims>(&session.ticket, key).is_ok()
}

/// Makes the next key and waits until a ticket is signed by it.
async fn turned(house: &House, node: &Node) -> (TicketKey, DatasetSession) {
    let before = keys(house);
    admin(house, &["ticket-key", "make"]);
    let mut now = keys(house).into_iter();
    let next = now.find(|key| !before.contains(key)).expect("a key");
    let name = next.to_string();
    admin(house, &["ticket-key", "set", &name, "--in", "15s", "--yes"]);
    let begun = Instant::now();
    loop {
        let session = issued(house, node).await;
        if signed_by(&session, &next) {
            return (next, session);
        }
        assert!(begun.elapsed() < PATIENCE, "the key never turned");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A job generates and redeems by a ticket.
async fn works(house: &House, session: &DatasetSession) {
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(session).await;
    let context = Context::named("a.jpg").expect("a context");
    let (wrap, dek) = server.generate(&presented, &context).await.expect("a DEK");
    let mut opened = server.redeem(&presented, &[(&wrap, &context)]).await;
    let released = opened.as_mut().expect("an answer").remove(0);
    assert_eq!(released.expect("it is released").0, Some(dek));
}

/// The names of the sealed ticket keys in the broker's data directory.
fn sealed(house: &House) -> Vec<String> {
    let dir = fs::read_dir(house.path("broker/data/keys")).expect("a directory");
    let names = dir.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.into_string().expect("text"))
        .filter(|name| name.contains("ticket"))
        .collect();
    names.sort();
    names
}

fn cannot(said: &Said, code: u8, why: &str) {
    assert_eq!(said.code, Some(code.into()), "{}", said.stderr);
    assert!(said.stderr.contains(why), "{}", said.stderr);
    assert!(!said.stderr.contains(PIN), "{}", said.stderr);
}

/// Writes the broker's configuration with something replaced.
fn edit(house: &House, from: &str, to: &str) {
    let path = house.path("broker/broker.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_signs_by_keys_that_never_leave_their_token() {
    // rule: KEY-4
    let token = Token::new();
    let mut house = House::with_token(&token);
    let node = house.node(0).await;
    let session = issued(&house, &node).await;
    let first = house.ticket_key();
    assert!(signed_by(&session, &first));
    works(&house, &session).await;
    assert_eq!(
        sealed(&house),
        ["first-ticket.sealed"],
        "no private key, and which is the first"
    );
    // A token that is away gives no ticket, and the broker goes on when it is back.
    let away = token.tokens().with_extension("away");
    fs::rename(token.tokens(), &away).expect("renamed");
    let refused = node.issue(&house.to_broker().await, DATASET).await;
    let refused = refused.map(drop).expect_err("nothing signs");
    assert_eq!(refused.refusal(), Some(Refusal::Internal));
    fs::rename(&away, token.tokens()).expect("renamed");
    let begun = Instant::now();
    let back = loop {
        match node.issue(&house.to_broker().await, DATASET).await {
            Ok(session) => break session,
            Err(reply) => assert!(begun.elapsed() < PATIENCE, "{reply:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    works(&house, &back).await;

    // Of several keys in the token the first is the one that was sealed as such.
    for _ in 0..3 {
        admin(&house, &["ticket-key", "make"]);
    }
    house.broker.stop();
    house.broker.start();
    let all = keys(&house);
    assert_eq!((all.len(), all[0]), (4, first));
    assert!(signed_by(&issued(&house, &node).await, &first));

    // The next key is made in the token as well, and both are there after a restart.
    let (next, fresh) = turned(&house, &node).await;
    works(&house, &fresh).await;
    house.broker.stop();
    house.broker.start();
    let again = issued(&house, &node).await;
    assert!(signed_by(&again, &next));
    works(&house, &again).await;
    assert_eq!(sealed(&house), ["first-ticket.sealed"]);

    // What is wrong with a token is said at the start, in one line.
    house.broker.stop();
    let pin = fs::read(token.pin_file()).expect("a PIN");
    fs::write(token.pin_file(), "0000000\n").expect("written");
    cannot(&house.broker.fails(), exit::LOCAL, "does not take the PIN");
    let mut check = command("postern-broker");
    check.arg("check-config").arg("--config");
    check.arg(house.path("broker/broker.toml"));
    check.envs([token.variable()]);
    cannot(&ended(check), exit::CONFIG, "does not take the PIN");
    fs::write(token.pin_file(), pin).expect("written");
    edit(&house, "key = \"tickets\"", "key = \"others\"");
    cannot(&house.broker.fails(), exit::LOCAL, "[ticket-key.pkcs11]");
    edit(&house, "key = \"others\"", "key = \"tickets\"");
    // Nor does another broker take these keys for its own.
    let mut init = command("postern-broker");
    init.args(["init", "--realm", REALM, "--dir"]);
    init.arg(house.path("second"));
    init.arg("--admin-set").arg(house.path("admin-set.cose"));
    init.arg("--new-root-credential")
        .arg(house.path("second-root"));
    init.args(token.arguments("tickets"));
    init.envs([token.variable()]);
    cannot(&ended(init), exit::CONFLICT, "name another label");
    house.broker.start();
    works(&house, &issued(&house, &node).await).await;
    house.is_sound();
    for (path, bytes) in files_below(house.dir.path()) {
        let found = bytes.windows(PIN.len()).any(|part| part == PIN.as_bytes());
        assert!(!found, "{} holds the PIN", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_keys_move_into_a_token_by_the_next_record() {
    // rule: KEY-4
    let token = Token::new();
    let mut house = House::start();
    let node = house.node(0).await;
    let before = issued(&house, &node).await;
    assert_eq!(sealed(&house), ["ticket.sealed"]);
    house.broker.stop();
    let plain = fs::read(house.path("broker/broker.toml")).expect("a configuration");
    let config = house.path("broker/broker.toml");
    add(&config, &token.section("tickets"));
    add(&config, &token.sandbox());
    house.broker.environment.push(token.variable());
    house.broker.start();
    let still = issued(&house, &node).await;
    assert!(signed_by(&still, &house.ticket_key()));
    let (next, fresh) = turned(&house, &node).await;
    works(&house, &fresh).await;
    works(&house, &before).await;
    assert_eq!(
        sealed(&house),
        ["ticket.sealed"],
        "the next is in the token"
    );
    house.broker.stop();
    // Without the token the broker has not the key that its records name.
    fs::write(&config, plain).expect("written");
    cannot(&house.broker.fails(), exit::LOCAL, &next.to_string());
}
