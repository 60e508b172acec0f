//! The broker's ticket-signing key is replaced while jobs go on, by real processes.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use client::wallet::DatasetSession;
use serde_json::Value;
use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::Iid;
use tests::wire::{self, Presented, Wire};
use ticket_format::ids::TicketId;
use ticket_format::keys::{TicketKey, TicketSecret};
use ticket_format::ticket::{self, DatasetClaims};
use ticket_format::{Context, Refusal};

const PATIENCE: Duration = Duration::from_secs(120);

/// What takes two is approved by the second.
fn admin(house: &House, arguments: &[&str]) {
    let said = house.admin_does(arguments);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

/// Each key's number, state and public key.
fn keys(house: &House) -> Vec<(u64, String, TicketKey)> {
    let said = house.as_admin("operator", &["ticket-key", "list", "--format", "json"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let rows = said["ticket_keys"].as_array().expect("keys").iter();
    rows.map(|row| {
        (
            row["number"].as_u64().unwrap_or_default(),
            row["state"].as_str().expect("a state").to_owned(),
            row["key"].as_str().expect("a key").parse().expect("a key"),
        )
    })
    .collect()
}

fn states(house: &House) -> Vec<(u64, String)> {
    let keys = keys(house).into_iter();
    keys.map(|(number, state, _)| (number, state)).collect()
}

fn row(number: u64, state: &str) -> (u64, String) {
    (number, state.to_owned())
}

fn signed_by(session: &DatasetSession, key: &TicketKey) -> bool {
    ticket::verify_for_anyone::<DatasetClaims>(&session.ticket, key).is_ok()
}

async fn issued(house: &House, node: &tests::node::Node) -> DatasetSession {
    let ticket = node.issue(&house.to_broker().await, DATASET).await;
    ticket.unwrap_or_else(|reply| panic!("{reply:?}"))
}

/// One object, released.
async fn redeem(server: &Wire, presented: &Presented, wrap: &[u8], context: &Context) -> [u8; 32] {
    let opened = server.redeem(presented, &[(wrap, context)]).await;
    let mut opened = opened.unwrap_or_else(|reply| panic!("{reply:?}"));
    let (dek, _) = opened.remove(0).expect("it is released");
    dek.expect("a DEK")
}

/// As who stole a key would make it: of a good ticket, with another time of issue.
fn forged(session: &DatasetSession, by: &TicketSecret, issued: u64) -> DatasetSession {
    let mut claims = wire::claims(session);
    claims.common.id = TicketId::random(&mut wire::rng());
    claims.common.issued = ticket_format::time::Timestamp::from_seconds(issued);
    claims.common.expires = wire::now().plus(3_600);
    DatasetSession {
        ticket: ticket::sign(&claims, by),
        dataset: session.dataset.clone(),
        secrets: wire::copy(&session.secrets),
        receipt: session.receipt.clone(),
        record: session.record.clone(),
        evidence: None,
        alias: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ticket_key_is_replaced_while_jobs_redeem_and_nothing_fails() {
    // rule: KEY-1, KEY-2, KEY-3
    let mut house = House::start();
    let stolen = house.sealed_seed("broker", "broker-root", "ticket");
    let stolen = TicketSecret::from_seed(&stolen);
    let node = house.node(0).await;
    let old = issued(&house, &node).await;
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&old).await;
    let context = Context::named("a.jpg").expect("a context");
    let generated = server.generate(&presented, &context).await;
    let (wrap, dek) = generated.unwrap_or_else(|reply| panic!("{reply:?}"));

    // Two nodes with the program: one has a ticket, the other waits with its user-data.
    let home = |house: &House, name: &str, number| {
        let iid = Iid::real(number);
        let user_data = house.user_data(&iid.account, &[]);
        Home::new(house, name, &iid, &user_data)
    };
    let (early, waits) = (home(&house, "early", 1), home(&house, "waits", 2));
    early.run(&["login"]).ok();
    early.run(&["issue", DATASET]).ok();

    admin(&house, &["ticket-key", "make"]);
    assert_eq!(states(&house), [row(1, "signs"), row(0, "made")]);
    admin(&house, &["ticket-key", "set", "--in", "30s", "--yes"]);
    assert_eq!(states(&house), [row(1, "signs"), row(2, "next")]);
    let next = keys(&house)[1].2;

    // Jobs with new and with old tickets go on over the turn.
    let begun = Instant::now();
    let (mut by_old, mut by_new) = (0, 0);
    while by_new < 3 {
        assert!(begun.elapsed() < PATIENCE, "the key never turned");
        let fresh = issued(&house, &node).await;
        let another = house.to_key_server().await;
        let fresh_presented = another.present_when_leased(&fresh).await;
        assert_eq!(
            redeem(&another, &fresh_presented, &wrap, &context).await,
            dek
        );
        assert_eq!(redeem(&server, &presented, &wrap, &context).await, dek);
        match signed_by(&fresh, &next) {
            true => by_new += 1,
            false => by_old += 1,
        }
    }
    assert!(by_old > 0, "some were issued before");
    assert_eq!(states(&house), [row(1, "counts"), row(2, "signs")]);
    // A ticket of before is presented on a new connection as well.
    let again = house.to_key_server().await;
    let presented_again = again.present_when_leased(&old).await;
    assert_eq!(redeem(&again, &presented_again, &wrap, &context).await, dek);
    // Who stole the old key signs nothing with it that is issued from the turn on; what is issued before
    // stands in no log.
    let late = forged(&old, &stolen, wire::now().seconds());
    let refused = again.present(&late).await.map(drop);
    assert_eq!(
        refused.unwrap_err().refusal(),
        Some(Refusal::TicketSignature)
    );
    let before = wire::claims(&old).common.issued.seconds();
    let refused = again
        .present(&forged(&old, &stolen, before))
        .await
        .map(drop);
    assert_eq!(refused.unwrap_err().refusal(), Some(Refusal::Receipt));

    // Nodes follow the record, whether they logged in before it or not.
    early.run(&["issue", DATASET]).ok();
    early.run(&["renew"]).ok();
    for node in [&early, &waits] {
        node.run(&["login"]).ok();
        node.run(&["issue", DATASET]).ok();
        assert!(node.run(&["tickets"]).ok().contains(DATASET));
    }

    // A key server that was off over the next turn catches up with it.
    drop((server, again));
    house.key_server.stop();
    admin(&house, &["ticket-key", "make"]);
    admin(&house, &["ticket-key", "set", "--in", "20s", "--yes"]);
    let third = keys(&house)[2].2;
    let fresh = loop {
        assert!(begun.elapsed() < 2 * PATIENCE, "the key never turned again");
        let fresh = issued(&house, &node).await;
        if signed_by(&fresh, &third) {
            break fresh;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    house.key_server.start();
    let server = house.to_key_server().await;
    for ticket in [&fresh, &old] {
        let presented = server.present_when_leased(ticket).await;
        assert_eq!(redeem(&server, &presented, &wrap, &context).await, dek);
    }
    house.is_sound();
}
