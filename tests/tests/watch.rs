//! `postern watch`, by real processes: a node hears of its denial, erases what it has, and says so.
#![allow(missing_docs)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::issue::Opened;
use client::link::{Link, Server as Pinned};
use client::watch::Watched;
use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::Iid;
use tests::wire::{claims, rng};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::TicketHash;
use ticket_format::keys::{ServerSecret, TlsSecret};
use ticket_format::messages::watch::{WatchAnswer, WatchBody};
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{DatasetRecord, ReceivedStatement};
use ticket_format::{labels, limits};
use transport::{ExporterUse, Handler, Peer, Server, ServerIdentity, ServerLimits};

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

/// A key server that says of every ticket that it is denied, and signs that with the key it has.
struct Crier {
    realm: String,
    tls: TlsSecret,
    signing: Option<ServerSecret>,
}

impl Handler for Crier {
    type Connection = Exporter;

    fn connected(&self, peer: Peer) -> Exporter {
        Exporter(peer.exporter(ExporterUse::Authenticator).expect("a value"))
    }

    async fn exchange(&self, exporter: &Exporter, message: Bytes) -> Bytes {
        let request = RequestView::parse(&message).expect("a request");
        let asked = WatchBody::from_cbor(request.body, limits::SMALL_MESSAGE).expect("a watch");
        let channel = Channel {
            realm: self.realm.clone(),
            server: self.tls.public(),
            exporter: *exporter,
        };
        let body = WatchAnswer {
            epoch: 1,
            denied: true,
            reason: None,
        }
        .to_cbor();
        let ticket = Some(TicketHash::of(&asked.ticket));
        let sign = |key| channel.sign_with(key, labels::WATCH_ANSWER, ticket, &body);
        let proof = self.signing.as_ref().map(sign);
        let verb = Verb::Watch;
        Bytes::from(Answer::Done { verb, body, proof }.to_bytes())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_the_key_server_of_the_record_did_not_sign_is_not_believed() {
    // rule: WIP-2
    let house = House::start();
    let node = house.node(0).await;
    let wire = house.to_broker().await;
    let session = node.issue(&wire, DATASET).await.expect("a ticket");
    let statement = ReceivedStatement::parse(&session.record).expect("a statement");
    let record = &statement.payload().body;
    let opened = Opened {
        claims: claims(&session),
        hash: TicketHash::of(&session.ticket),
        record: DatasetRecord::from_cbor(record, limits::STATEMENT).expect("a record"),
    };
    let logs = client::logs::Logs::at(house.path("checkpoints"));
    let watched = Watched::dataset(&session, &opened, &logs);
    let ask = async |signing: Option<ServerSecret>| {
        let tls = TlsSecret::generate(&mut rng());
        let seed = ed25519_dalek::SigningKey::from_bytes(&tls.seed());
        let identity = ServerIdentity::new(&seed).expect("an identity");
        let limits = ServerLimits::default();
        let server = Server::bind(([127, 0, 0, 1], 0).into(), &identity, limits).expect("bound");
        let pinned = Pinned {
            addresses: vec![server.local_addr().to_string()],
            tls_key: tls.public(),
            ..opened.server()
        };
        let crier = Crier {
            realm: pinned.realm.clone(),
            tls,
            signing,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(server.run(Arc::new(crier), async { drop(stopped.await) }));
        let link = Link::connect(&pinned, SOON).await.expect("a connection");
        let answer = watched.ask(&link, Duration::ZERO).await;
        link.close().await;
        drop(stop);
        let _ = running.await.expect("it ends");
        answer
    };
    let believed = ask(Some(house.signing_secret())).await;
    assert!(believed.expect("the key server's own word").denied);
    for signing in [None, Some(ServerSecret::generate(&mut rng()))] {
        let refused = ask(signing).await;
        assert!(
            matches!(refused, Err(client::Error::Answer { .. })),
            "{refused:?}"
        );
    }
}
