//! Evidence end to end, by real processes: a node keeps the links of its chain, and a dataset that
//! wants evidence is opened by them, after renewals, restarts and changes of the admin set.

use std::fs;

use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::Iid;
use ticket_format::entry::Alarm;

const SYDNEY: usize = 0;

fn node(house: &House) -> Home {
    let iid = Iid::real(SYDNEY);
    let user_data = house.launch(&iid.account).to_cloud_config();
    Home::new(house, "node", &iid, &user_data)
}

/// Has a data key made: the whole way to the key server and back.
fn works(home: &Home) {
    let out = home.dir.join("wrapped").display().to_string();
    let arguments = ["dek", "generate", "--dataset", DATASET, "--out", &out];
    home.run(&arguments).ok();
    fs::remove_file(&out).expect("a wrapped data key");
}

fn issue(home: &Home) {
    home.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
}

#[test]
fn a_node_opens_a_dataset_that_wants_evidence_whatever_happened_to_it_before() {
    // rule: EVD-1, EVD-3
    let mut house = House::with(|dataset| dataset.evidence = true);
    let home = node(&house);
    home.run(&["login"]).ok();
    issue(&home);
    works(&home);
    // A ticket outlives renewals of its node, and the next one has a longer chain.
    for _ in 0..3 {
        home.run(&["renew"]).ok();
        works(&home);
    }
    issue(&home);
    works(&home);
    // The wallet is gone with a reboot; the chain is not.
    fs::remove_dir_all(home.dir.join("run")).expect("a wallet");
    store::files::private_dir(&home.dir.join("run")).expect("a directory");
    home.run(&["login"]).ok();
    issue(&home);
    works(&home);
    house.key_server.stop();
    house.key_server.start();
    works(&home);
    assert_eq!(house.alarms("key-server", Alarm::Evidence), 0);
}

#[test]
fn a_node_that_lost_its_links_is_told_and_opens_nothing() {
    // rule: EVD-1
    let house = House::with(|dataset| dataset.evidence = true);
    let home = node(&house);
    home.run(&["login"]).ok();
    home.run(&["renew"]).ok();
    // As a client that keeps no links would stand there.
    let dir = home.dir.join("state");
    let mut state = client::state::NodeState::load(&dir)
        .expect("a state")
        .expect("a state");
    state.chains.iter_mut().for_each(|chain| chain.parts = None);
    state.save(&dir).expect("saved");
    let said = home.run(&["issue", DATASET, "--action", "decrypt,encrypt"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("start a new instance"));
}
