//! Evidence end to end, by real processes: a node keeps the links of its chain, and a dataset that
//! wants evidence is opened by them, after renewals, restarts and changes of the admin set.

use std::fs;

use tests::admins::record_by;
use tests::home::Home;
use tests::house::{DATASET, House, REALM};
use tests::node::Iid;
use tests::wire::Wire;
use ticket_format::cbor::Decode as _;
use ticket_format::entry::Alarm;
use ticket_format::keys::AdminSecret;
use ticket_format::seal::Kem;
use ticket_format::statement::{
    AdminSetBody, Canary, DatasetRecord, DatasetSet, ReceivedStatement,
};

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

fn apart<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(work)
}

fn record(house: &House) -> DatasetRecord {
    let bytes = fs::read(house.record()).expect("a record");
    let statement = ReceivedStatement::parse(&bytes).expect("a statement");
    let body = &statement.payload().body;
    DatasetRecord::from_cbor(body, body.len()).expect("a record")
}

fn version(home: &Home) -> u64 {
    let state = client::state::NodeState::load(&home.dir.join("state"));
    let state = state.expect("a state").expect("a state");
    state.pins.admins.version()
}

#[test]
fn a_ticket_from_before_evidence_was_wanted_is_issued_anew() {
    // rule: EVD-1, EVD-3
    let house = House::start();
    let home = node(&house);
    home.run(&["login"]).ok();
    issue(&home);
    works(&home);
    let admins = &house.admins;
    let wanted = DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: DATASET.to_owned(),
        max_budget: 1_000_000,
        max_life: 3_600,
        kems: vec![Kem::XWing],
        lease: 5,
        evidence: true,
        canary: Canary::No,
        witnessing: ticket_format::statement::Witnessing::none(),
    };
    let strict = DatasetRecord {
        evidence: true,
        follows: record(&house).digest(),
        ..record(&house)
    };
    apart(async {
        let wire = Wire::connect(&house.key_server_server()).await;
        wire.act(admins, &wanted).await.expect("the option is set");
    });
    let generate = || home.run(&["dek", "generate", "--dataset", DATASET]);
    let said = generate();
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("run `postern issue` again"));
    apart(async {
        let wire = Wire::connect(&house.broker_server()).await;
        let message = tests::wire::record(admins, REALM, &strict);
        let _ = wire.send(&message).await.done();
    });
    issue(&home);
    generate().ok();
}

#[test]
fn a_node_follows_the_admin_sets_and_believes_no_record_by_who_was_removed() {
    // rule: ISS-6, SET-2, SET-3
    let house = House::start();
    let home = node(&house);
    home.run(&["login"]).ok();
    issue(&home);
    assert_eq!(version(&home), 1);
    // Another owner takes the place of the second one.
    let [first, second] = &house.admins.owners;
    let third = AdminSecret::generate(&mut tests::wire::rng());
    let set = house.admins.first_set();
    let mut members = set.admins().to_vec();
    for member in &mut members {
        if member.key == second.public() {
            member.key = third.public();
        }
    }
    members.sort_by_key(|admin| admin.key);
    let next = AdminSetBody {
        version: 2,
        follows: set.digest(),
        admins: members,
        quorums: set.body().quorums.clone(),
    };
    let broker = house.broker_server();
    let send = |message: tests::wire::Message| {
        apart(async {
            let wire = Wire::connect(&broker).await;
            let _ = wire.send(&message).await.done();
        });
    };
    send(record_by(&[first, second], REALM, &next));
    // The node learns of it with the next issue, and the record in use is nobody's any more.
    let said = home.run(&["issue", DATASET]);
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    assert_eq!(version(&home), 2, "the set is kept whatever else was wrong");
    let mut owners = vec![first.public(), third.public()];
    owners.sort();
    let renewed = DatasetRecord {
        owners,
        follows: record(&house).digest(),
        ..record(&house)
    };
    send(record_by(&[first, &third], REALM, &renewed));
    issue(&home);
    works(&home);
    assert_eq!(version(&home), 2);
}
