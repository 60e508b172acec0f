//! `postern watch`, by real processes: a node hears of its denial, erases what it has, and says so.
#![allow(missing_docs)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::Iid;
use ticket_format::entry::{Entry, Kind};

/// A denial must have come to the node within this time.
const SOON: Duration = Duration::from_secs(20);

struct Watching {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watching {
    fn start(node: &Home, arguments: &[&str]) -> Self {
        let all = [&["--format", "jsonl", "watch"], arguments].concat();
        let mut command = node.postern(&all);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, lines }
    }

    /// The next event, and the dataset that it is about.
    fn next(&mut self) -> (String, Option<String>, serde_json::Value) {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let word = event["event"].as_str().expect("an event").to_owned();
        (word, event["dataset"].as_str().map(str::to_owned), event)
    }

    fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("it ends").code(), rest)
    }
}

fn node(house: &House) -> (Home, String) {
    let iid = Iid::real(0);
    let user_data = house.user_data(&iid.account, &[]);
    let node = Home::new(house, "node", &iid, &user_data);
    node.run(&["login"]).ok();
    node.run(&["issue", DATASET]).ok();
    (node, iid.node.to_string())
}

fn wiped(house: &House, server: &str) -> Vec<Entry> {
    let entries = house.entries(server).into_iter();
    entries.filter(|entry| entry.kind == Kind::Wiped).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_node_erases_its_tickets_and_both_servers_have_it_in_their_records() {
    // rule: WIP-1, WIP-2
    let house = House::start();
    let (node, name) = node(&house);
    let mut watching = Watching::start(&node, &[]);
    for _ in 0..2 {
        assert_eq!(watching.next().0, "watching");
    }
    let deny = ["deny", "--node", &name, "--reason", "disk cloned", "--yes"];
    house.admin_does(&deny).ok();
    let denied = Instant::now();
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(watching.next());
    }
    let (code, rest) = watching.ended();
    assert!(denied.elapsed() < SOON, "{:?}", denied.elapsed());
    assert_eq!((code, rest.as_str()), (Some(5), ""), "{events:?}");
    for dataset in [None, Some(DATASET)] {
        let of = |word: &str| {
            let found = events
                .iter()
                .find(|(said, of, _)| said == word && of.as_deref() == dataset);
            found.unwrap_or_else(|| panic!("{word} {dataset:?}: {events:?}"))
        };
        assert_eq!(of("denied").2["reason"], "disk cloned");
        assert_eq!(of("wiped").2["erased"], 2);
    }
    assert!(!node.dir.join("run/wallet").exists(), "the wallet is gone");
    assert!(node.dir.join("state/node").exists(), "the node key stays");
    for server in ["broker", "key-server"] {
        let entries = wiped(&house, server);
        let [entry] = entries.as_slice() else {
            panic!("{server}: {entries:?}")
        };
        assert_eq!(entry.subject.as_deref(), Some(name.as_str()));
        assert_eq!((entry.outcome, entry.count), (Ok(()), Some(2)));
    }
    assert_eq!(node.run(&["status", "-q"]).code, Some(3));
    assert_eq!(node.run(&["renew"]).code, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_dataset_ticket_goes_and_the_node_ticket_stays() {
    // rule: WIP-2
    let house = House::start();
    let (node, _) = node(&house);
    let tickets = node.run(&["--format", "json", "tickets"]).ok();
    let tickets: serde_json::Value = serde_json::from_str(&tickets).expect("JSON");
    let rows = tickets["tickets"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["kind"] == "dataset");
    let id = row.expect("a dataset ticket")["ticket"]
        .as_str()
        .expect("an id");
    let mut watching = Watching::start(&node, &["--dataset", DATASET]);
    assert_eq!(watching.next().0, "watching");
    let deny = ["deny", "--ticket", id, "--reason", "lost", "--yes"];
    house.admin_does(&deny).ok();
    assert_eq!(watching.next().0, "denied");
    assert_eq!(watching.next().0, "wiped");
    assert_eq!(watching.ended().0, Some(5));
    assert_eq!(wiped(&house, "broker").len(), 0);
    assert_eq!(wiped(&house, "key-server").len(), 1);
    node.run(&["status", "-q"]).ok();
    assert!(!node.run(&["tickets"]).ok().contains(DATASET));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_takes_long_ends_when_its_ticket_is_denied() {
    // rule: WIP-2
    let house = House::start();
    let (node, name) = node(&house);
    node.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
    // Standard input that never ends: the copy waits for more, with its data key in hand.
    let target = house.path("endless.postern");
    let place = target.to_str().expect("text");
    let arguments = [
        "encrypt",
        "-",
        place,
        "--dataset",
        DATASET,
        "--name",
        "endless",
    ];
    let mut copying = node
        .postern(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let input = copying.stdin.take();
    let begun = Instant::now();
    while !house
        .entries("key-server")
        .iter()
        .any(|entry| entry.kind == Kind::Generate)
    {
        assert!(begun.elapsed() < SOON, "no data key was made");
        std::thread::sleep(Duration::from_millis(50));
    }
    let deny = ["deny", "--node", &name, "--reason", "disk cloned", "--yes"];
    house.admin_does(&deny).ok();
    let mut said = String::new();
    let mut stderr = copying.stderr.take().expect("its errors");
    stderr.read_to_string(&mut said).expect("text");
    let code = copying.wait().expect("it ends").code();
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("disk cloned"), "{said}");
    drop(input);
    assert!(!target.exists(), "nothing half-written stays");
    let entries = wiped(&house, "key-server");
    // Two session keys and the one data key.
    assert_eq!(entries[0].count, Some(3), "{entries:?}");
}
