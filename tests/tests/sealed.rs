//! A key server without its root key, by real processes: sealed, opened by shares, sealed by an admin.
#![allow(missing_docs)]

use std::fs;

use tests::house::{DATASET, House};

fn datasets(house: &House) -> String {
    house
        .as_admin("operator", &["dataset", "keks", DATASET])
        .ok()
}

#[test]
fn shares_open_a_key_server_whose_automatic_way_is_lost_in_the_same_process() {
    // rule: ROOT-4
    let mut house = House::start();
    let before = datasets(&house);
    assert!(before.contains("enabled"), "{before}");
    house.key_server.stop();
    let credential = house.path("key-server-root");
    fs::rename(&credential, house.path("lost")).expect("moved");
    let address = house.key_server.start_sealed();
    let process = house.key_server.pid();
    // Whoever knows the server by its TLS key finds nobody.
    let said = house.as_admin("operator", &["dataset", "keks", DATASET]);
    assert_ne!(said.code, Some(0), "{}", said.text());
    let said = house.as_admin("owner-1", &["unseal"]);
    assert!(said.clone().ok().contains("1 of 2"), "{}", said.text());
    let said = house.as_admin("owner-2", &["unseal"]);
    assert!(said.clone().ok().contains("2 of 2"), "{}", said.text());
    assert_eq!(house.key_server.opens(), address);
    assert_eq!(house.key_server.pid(), process);
    assert_eq!(datasets(&house), before);
    // A drill finds what is lost.
    house.as_admin("owner-1", &["drill"]).ok();
    let said = house.as_admin("owner-2", &["drill"]);
    assert_ne!(said.code, Some(0), "{}", said.text());
    fs::rename(house.path("lost"), &credential).expect("moved");
    house.as_admin("owner-1", &["drill"]).ok();
    house.as_admin("owner-2", &["drill"]).ok();
}

#[test]
fn a_key_server_that_an_admin_sealed_stays_so_until_shares_are_given() {
    // rule: ROOT-5
    let mut house = House::start();
    let before = datasets(&house);
    let process = house.key_server.pid();
    house.as_admin("owner-1", &["seal", "--yes"]).ok();
    let address = house.key_server.seals();
    assert_eq!(house.key_server.pid(), process);
    // The credential lies where it did, and is not tried.
    let said = house.as_admin("owner-2", &["unseal", "--status"]).ok();
    assert!(said.contains("sealed"), "{said}");
    house.as_admin("owner-1", &["unseal"]).ok();
    house.as_admin("owner-2", &["unseal"]).ok();
    assert_eq!(house.key_server.opens(), address);
    assert_eq!(datasets(&house), before);
    // The next start tries it again.
    house.key_server.restart();
    assert_eq!(datasets(&house), before);
}
