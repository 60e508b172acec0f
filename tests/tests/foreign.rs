//! What live servers and the real client make, checked by programs that none of us wrote
//! (`tests/foreign`): two verifiers in Python and two in JavaScript take our tickets and no mutant of
//! them, `pyhpke` and `cryptography` open our answers and our object bodies, `pycddl` finds our messages
//! to be what `spec/wire.cddl` says.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown with the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use client::agent::wire as agent;
use client::object::{BodyHeader, ObjectContext};
use serde_json::json;
use tests::bend::damaged;
use tests::foreign::run;
use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::{Iid, Node};
use tests::wire::{self, Message, Wire, rng, secrets, statement};
use ticket_format::cbor::{Decode, Encode, Writer};
use ticket_format::denial::Selector;
use ticket_format::ids::{NodeId, RequestHash};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::keys::NodeSecret;
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::alias::AliasAnswer;
use ticket_format::messages::batch::{GenerateBody, RedeemBody, RewrapBody, item_digest};
use ticket_format::messages::consistency::ConsistencyBody;
use ticket_format::messages::{BatchAnswer, Clear, Request, Verb};
use ticket_format::report::Report;
use ticket_format::seal::Kem;
use ticket_format::statement::{DenyBody, LogShow, ReceivedStatement, StatusShow};
use ticket_format::tlog::Proof;
use ticket_format::wrapped::{Wrapped, object_context};
use ticket_format::{Context, limits};

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named(name: &str) -> Context {
    Context::named(name).expect("a context")
}

/// Both foreign verifiers take a ticket and read the same claims; no damaged one is taken by either.
fn verifiers_agree(house: &House, name: &str, ticket: &[u8]) {
    let (file, key) = (house.path(name), house.path("broker/broker-key.cose"));
    fs::write(&file, ticket).expect("written");
    let python = run(&["verify_ticket.py", text(&file), "--broker-key", text(&key)]).ok();
    let npm = run(&["verify_ticket.mjs", text(&file), text(&key)]).ok();
    let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    assert_eq!(read(&python), read(&npm));
    assert_eq!(
        read(&python)["iss"],
        format!("postern:{}", tests::house::REALM)
    );
    // They start a process each: a sample; all bytes are flipped by ticket-format's own tests.
    for bent in damaged(ticket, 4) {
        fs::write(&file, &bent.bytes).expect("written");
        let python = run(&["verify_ticket.py", text(&file), "--broker-key", text(&key)]);
        assert_eq!(
            python.code,
            Some(1),
            "{name} {}: {}",
            bent.what,
            python.stderr
        );
        let npm = run(&["verify_ticket.mjs", text(&file), text(&key)]);
        assert_eq!(npm.code, Some(1), "{name} {}: {}", bent.what, npm.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_verifiers_take_our_tickets_and_no_mutant() {
    let house = House::start();
    let node = house.node(0).await;
    let broker = house.to_broker().await;
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    verifiers_agree(&house, "node-ticket.cbor", &node.ticket().ticket);
    verifiers_agree(&house, "dataset-ticket.cbor", &ticket.ticket);
    // Another broker's key.
    let other = ticket_format::keys::TicketSecret::generate(&mut rng()).public();
    let (file, key) = (house.path("ticket"), house.path("other.cose"));
    fs::write(&file, &ticket.ticket).expect("written");
    fs::write(&key, other.to_cose_key()).expect("written");
    assert_eq!(
        run(&["verify_ticket.py", text(&file), "--broker-key", text(&key)]).code,
        Some(1)
    );
    assert_eq!(
        run(&["verify_ticket.mjs", text(&file), text(&key)]).code,
        Some(1)
    );
}

/// One sealed answer of the key server as `open_sealed.py` wants it.
async fn opened_elsewhere(house: &House, node: &Node, kem: Kem) -> serde_json::Value {
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let job = client::wallet::SessionSecrets::generate(kem, &mut rng());
    let message = wire::issue(&broker.channel, node.ticket(), &node.key, DATASET, &job);
    let answer = broker.send(&message).await.done();
    let answer = ticket_format::messages::issue::IssueAnswer::from_cbor(&answer, limits::MESSAGE)
        .expect("its shape");
    let ticket = client::wallet::DatasetSession {
        dataset: DATASET.into(),
        ticket: answer.ticket,
        secrets: job,
        receipt: answer.receipt,
        record: answer.record,
        alias: None,
        evidence: None,
    };
    let presented = server.present_when_leased(&ticket).await;
    let body = GenerateBody::encode(&presented.head(), &[&named("a"), &named("b")], true, None);
    let request = RequestHash::of(&body);
    let answer = server
        .send(&presented.batch(Verb::Generate, body))
        .await
        .done();
    let ours = presented.open(Verb::Generate, request, &answer);
    let plaintext: Vec<u8> = ours
        .iter()
        .flat_map(|item| item.clone().expect("made").0.expect("a DEK"))
        .collect();
    let answer = BatchAnswer::from_cbor(&answer, limits::MESSAGE).expect("its shape");
    let clear = Clear::from_cbor(&answer.clear, limits::MESSAGE).expect("its shape");
    // spec/ticket.md, SEAL-4, written down a second time.
    let mut context = Writer::new();
    context
        .array(5)
        .text("postern/1 answer key")
        .uint(6)
        .bytes(&presented.hash.0)
        .bytes(&request.0)
        .bytes(&clear.salt);
    let context = context.into_bytes();
    let seed = *ticket.secrets.sealing.seed().expose();
    let exports = ticket
        .secrets
        .sealing
        .decapsulate(&presented.enc, &presented.info)
        .expect("it opens");
    let export = exports.export::<32>(&context);
    json!({
        "kem": if kem == Kem::X25519 { "x25519" } else { "x-wing" },
        "sk": hex(&seed), "enc": hex(&presented.enc), "info": hex(&presented.info),
        "exporter_context": hex(&context), "length": 32, "expected_export": hex(export.as_slice()),
        "answer_aad": hex(&answer.clear), "answer_ct": hex(&answer.sealed), "expected_plaintext": hex(&plaintext),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_cryptography_opens_the_answers_of_a_live_key_server() {
    let house = House::with(|dataset| dataset.kems = vec![Kem::X25519, Kem::XWing]);
    let node = house.node(0).await;
    for kem in [Kem::X25519, Kem::XWing] {
        let case = opened_elsewhere(&house, &node, kem).await;
        let file = house.path("sealed.json");
        fs::write(&file, case.to_string()).expect("written");
        run(&["open_sealed.py", text(&file)]).ok();
        let mut bent = case.clone();
        bent["answer_ct"] = json!(format!(
            "00{}",
            &case["answer_ct"].as_str().expect("hex")[2..]
        ));
        fs::write(&file, bent.to_string()).expect("written");
        assert_eq!(run(&["open_sealed.py", text(&file)]).code, Some(1));
    }
    run(&["open_sealed.py", "--self-test"]).ok();
}

/// Runs cobblestone.py with standard input.
fn cobblestone(arguments: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>) {
    use std::io::Write;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign/run");
    let mut command = std::process::Command::new(script);
    command.arg("cobblestone.py").args(arguments);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ended");
    let _ = feeding.join();
    (output.status.code(), output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_cobblestone_opens_our_objects_and_we_open_its() {
    let house = House::start();
    let iid = Iid::real(0);
    let home = Home::new(&house, "node", &iid, &house.user_data(&iid.account, &[]));
    home.run(&["login"]).ok();
    home.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
    let (plain, object) = (house.path("plain"), house.path("object.postern"));
    for len in [0, 1, 16_384, 50_000] {
        let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        fs::write(&plain, &data).expect("written");
        let _ = fs::remove_file(&object);
        home.run(&[
            "encrypt",
            text(&plain),
            text(&object),
            "--dataset",
            DATASET,
            "--name",
            "x",
        ])
        .ok();
        // OBJ-12: "postern1", length, map, body.
        let bytes = fs::read(&object).expect("an object");
        let head = 10 + usize::from(u16::from_be_bytes([bytes[8], bytes[9]]));
        let map: ciborium::Value = ciborium::from_reader(&bytes[10..head]).expect("a map");
        let wrapped = map.as_map().expect("a map")[0]
            .1
            .as_bytes()
            .expect("a wrap")
            .clone();
        let (wrap_file, dek_file) = (house.path("wrap"), house.path("dek"));
        fs::write(&wrap_file, &wrapped).expect("written");
        let _ = fs::remove_file(&dek_file);
        home.run(&[
            "dek",
            "redeem",
            "--dataset",
            DATASET,
            "--name",
            "x",
            "--out",
            text(&dek_file),
            text(&wrap_file),
        ])
        .ok();
        let dek = fs::read(&dek_file).expect("a DEK");
        let header = *Wrapped::parse(&wrapped).expect("a wrap").header();
        let context = object_context(tests::house::REALM, &header, &named("x").to_cbor());
        let (code, opened) = cobblestone(&[&hex(&dek), &hex(&context)], &bytes[head..]);
        assert_eq!(code, Some(0), "{len} bytes");
        assert!(opened == data, "{len} bytes");
        let (code, _) = cobblestone(
            &[&hex(&dek), &hex(&[&context[..], b"x"].concat())],
            &bytes[head..],
        );
        assert_eq!(code, Some(1), "another context");
        // The other way: a body that it made, in the place of ours.
        let (code, body) = cobblestone(&["--encrypt", &hex(&dek), &hex(&context)], &data);
        assert_eq!(code, Some(0));
        assert_ne!(body, bytes[head..], "a fresh salt");
        fs::write(&object, [&bytes[..head], &body].concat()).expect("written");
        let said = home.run(&["cat", text(&object), "--name", "x"]);
        assert!(
            said.code == Some(0) && said.stdout == data,
            "{len} bytes: {}",
            said.stderr
        );
        let salt: [u8; 24] = body[..24].try_into().expect("a salt");
        let dek: [u8; 32] = dek.try_into().expect("32 bytes");
        let ours = BodyHeader::derive(&dek, &ObjectContext::new(context), salt).expect("a header");
        assert_eq!(ours.commitment[..], body[24..56]);
    }
}

/// The CDDL without the four constructs that pycddl misjudges: sized map keys, repeated choices of
/// numbers, and an array or map that may be null.
fn simplified(house: &House) -> PathBuf {
    let cddl = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/wire.cddl");
    let mut cddl = fs::read_to_string(cddl).expect("the CDDL");
    for (from, to) in [
        (
            "{ * (tstr .size (1..64)) => (tstr .size (0..1024)) }",
            "{ * tstr => tstr }",
        ),
        ("action      = 1 / 2 / 3", "action = 1..3"),
        ("2: receipt / null,", "2: receipt,"),
        ("[wrapped, pairs, pairs / null]", "[wrapped, pairs, pairs]"),
    ] {
        assert!(cddl.contains(from), "{from} is not in the CDDL any more");
        cddl = cddl.replacen(from, to, 1);
    }
    let path = house.path("simplified.cddl");
    fs::write(&path, cddl).expect("written");
    path
}

/// Writes items and holds that `pycddl` finds each to be of its rule.
fn are_of_their_rules(house: &House, items: &[(&str, Vec<u8>)]) {
    are_of(&simplified(house), &house.path(""), items);
}

fn are_of(cddl: &Path, dir: &Path, items: &[(&str, Vec<u8>)]) {
    let mut files: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for (number, (rule, bytes)) in items.iter().enumerate() {
        let path = dir.join(format!("{number}-{rule}.cbor"));
        fs::write(&path, bytes).expect("written");
        files.entry(rule).or_default().push(path);
    }
    let mut wrong = Vec::new();
    for (rule, files) in files {
        let mut arguments = vec!["check_cddl.py", text(cddl), rule];
        arguments.extend(files.iter().map(|path| text(path)));
        let said = run(&arguments);
        if said.code != Some(0) {
            wrong.push(format!("{rule}: {}", said.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn messages_on_the_agents_socket_are_what_the_cddl_says() {
    // rule: AGT-9, AGT-10
    let request = |request: agent::Request| ("agent-request", encoded(&request));
    let answer = |answer: agent::Answer| ("agent-answer", encoded(&answer));
    let generate = |pair| agent::Request::Generate {
        dataset: "a".to_owned(),
        context: named("x"),
        with_dek: true,
        pair,
    };
    let key = |all: bool| agent::Answer::Key {
        wrapped: vec![1],
        dek: Some(zeroize::Zeroizing::new([7; 32])),
        public: all.then(|| vec![2]),
    };
    let items = [
        request(agent::Request::Open {
            datasets: vec!["a".to_owned(), "b".repeat(128)],
            token: client::door::Token::from_bytes([7; 32]),
        }),
        request(agent::Request::Redeem {
            dataset: "a".to_owned(),
            items: vec![(named("x"), vec![1; limits::WRAPPED]); 2],
        }),
        request(agent::Request::Dataset("a".to_owned())),
        request(generate(None)),
        request(generate(Some(KeyPairKind::P256))),
        request(agent::Request::Status),
        answer(agent::Answer::Failed(Report::new(4, "no"))),
        answer(agent::Answer::Failed(
            Report::new(4, "no").why("why").next("next"),
        )),
        answer(agent::Answer::Open),
        answer(key(false)),
        answer(key(true)),
        answer(agent::Answer::Status("{}".to_owned())),
        answer(agent::Answer::Dataset {
            id: ticket_format::ids::DatasetId([1; 16]),
            realm: "r".to_owned(),
            recipients: true,
        }),
        answer(agent::Answer::Opened(vec![
            Ok(zeroize::Zeroizing::new([7; 32])),
            Err(ticket_format::Refusal::Context),
        ])),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    let cddl = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/agent.cddl"));
    are_of(cddl, dir.path(), &items);
    // Each answer is no request: the check can fail.
    let path = dir.path().join("wrong.cbor");
    fs::write(&path, encoded(&key(true))).expect("written");
    let said = run(&["check_cddl.py", text(cddl), "agent-request", text(&path)]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
}

fn encoded(item: &impl Encode) -> Vec<u8> {
    let mut writer = Writer::new();
    item.encode(&mut writer);
    writer.into_bytes()
}

/// The payload of a COSE_Sign1 or COSE_Sign: the third part of either.
fn payload(cose: &[u8], tag: u64) -> Vec<u8> {
    let ciborium::Value::Tag(found, inner) = tests::bend::value_of(cose) else {
        panic!("no tag");
    };
    assert_eq!(found, tag);
    let parts = inner.as_array().expect("four parts");
    parts[2].as_bytes().expect("bytes").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_messages_are_what_the_cddl_says() {
    let house = House::start();
    let iid = Iid::real(0);
    let mut node = Node::new(&iid, &house.launch(&iid.account));
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let mut items: Vec<(&str, Vec<u8>)> = vec![("bootstrap", node.bootstrap.to_cbor())];
    async fn exchange(
        items: &mut Vec<(&'static str, Vec<u8>)>,
        wire: &Wire,
        message: &Message,
        body: &'static str,
        answer: &'static str,
    ) -> Vec<u8> {
        match body {
            // pycddl takes no `.cbor` within an array: what a statement carries is looked at by itself.
            "statement-payload" => items.push((body, payload(&message.body, 98))),
            _ => items.push((body, message.body.clone())),
        }
        items.push(("request", message.on(&wire.channel)));
        let bytes = wire
            .connection
            .exchange(&message.on(&wire.channel))
            .await
            .expect("an answer");
        items.push(("answer", bytes.to_vec()));
        let body = match ticket_format::messages::Answer::parse(&bytes) {
            Ok(ticket_format::messages::Answer::Done { body, .. }) => body,
            other => panic!("{answer}: {other:?}"),
        };
        items.push((answer, body.clone()));
        body
    }
    let keep = secrets();
    let (login, _) = node.login_message(&broker, &keep);
    exchange(&mut items, &broker, &login, "login-body", "login-answer").await;
    node.log_in(&broker)
        .await
        .expect("a retry of the same login");
    let (next, chain) = (
        NodeSecret::generate(&mut rng()),
        node.chain.expect("a chain"),
    );
    let (renew, _) = wire::renew(
        &broker.channel,
        &iid.node,
        &node.key,
        &next,
        &secrets(),
        chain,
    );
    exchange(&mut items, &broker, &renew, "renew-body", "renew-answer").await;
    node.renew(&broker, &next)
        .await
        .expect("a retry of the same renewal");
    let issue = wire::issue(
        &broker.channel,
        node.ticket(),
        &node.key,
        DATASET,
        &secrets(),
    );
    exchange(&mut items, &broker, &issue, "issue-body", "issue-answer").await;
    let give = ["dataset", "alias", "set", "current", DATASET];
    house.admin_does(&give).ok();
    let asked = wire::alias(node.ticket(), "current");
    let answer = exchange(&mut items, &broker, &asked, "alias-body", "alias-answer").await;
    let record = AliasAnswer::from_cbor(&answer, limits::MESSAGE).expect("its shape");
    items.push(("statement-payload", payload(&record.statement, 98)));
    let received = ReceivedStatement::parse(&record.statement).expect("a statement");
    items.push(("alias-set", received.payload().body.clone()));
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    items.push(("statement-payload", payload(&ticket.record, 98)));
    let _ = server.present_when_leased(&ticket).await;
    exchange(
        &mut items,
        &server,
        &wire::present(&ticket),
        "present-body",
        "present-answer",
    )
    .await;
    let presented = server.present_when_leased(&ticket).await;
    let generate = presented.batch(
        Verb::Generate,
        GenerateBody::encode(&presented.head(), &[&named("a")], true, None),
    );
    exchange(
        &mut items,
        &server,
        &generate,
        "generate-body",
        "batch-answer",
    )
    .await;
    let (wrap, _) = server
        .generate(&presented, &named("b"))
        .await
        .expect("a DEK");
    items.push(("wrapped-dek", wrap.clone()));
    let (b, c) = (named("b"), named("c"));
    let redeem = presented.batch(
        Verb::Redeem,
        RedeemBody::encode(&presented.head(), &[(&wrap, &b), (&wrap, &c), (b"x", &c)]),
    );
    let answer = exchange(&mut items, &server, &redeem, "redeem-body", "batch-answer").await;
    items.push((
        "clear",
        BatchAnswer::from_cbor(&answer, limits::MESSAGE)
            .expect("its shape")
            .clear,
    ));
    let placed = item_digest(&wrap, &b.to_cbor());
    let rewrap = presented.batch(
        Verb::Rewrap,
        RewrapBody::encode(&presented.head(), &[(&wrap, &b, Some(&c))], &[placed]),
    );
    let answer = exchange(&mut items, &server, &rewrap, "rewrap-body", "batch-answer").await;
    items.push((
        "clear",
        BatchAnswer::from_cbor(&answer, limits::MESSAGE)
            .expect("its shape")
            .clear,
    ));
    let feed = wire::feed(house.signing_secret());
    exchange(&mut items, &broker, &feed, "feed-body", "feed-answer").await;
    let other = NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").expect("a node");
    let deny = DenyBody {
        selector: Selector::node(other),
        reason: "test".into(),
    };
    let deny = statement(&house.admins, &broker.channel, &deny);
    exchange(
        &mut items,
        &broker,
        &deny,
        "statement-payload",
        "administer-answer",
    )
    .await;
    for wire in [&broker, &server] {
        let status = statement(&house.admins, &wire.channel, &StatusShow {});
        exchange(
            &mut items,
            wire,
            &status,
            "statement-payload",
            "administer-answer",
        )
        .await;
    }
    for wire in [&broker, &server] {
        let show = statement(&house.admins, &wire.channel, &LogShow {});
        let answer = exchange(
            &mut items,
            wire,
            &show,
            "statement-payload",
            "administer-answer",
        )
        .await;
        let answer = AdministerAnswer::from_cbor(&answer, limits::MESSAGE).expect("its shape");
        items.push(("log-view", answer.result));
    }
    let proof: Proof = ticket.receipt.proof.parse().expect("a proof");
    let checkpoint = proof.checkpoint;
    let body = ConsistencyBody::of(checkpoint).to_cbor();
    let request = Request::encode_parts(Verb::Consistency, &body, &[]);
    let bytes = broker
        .connection
        .exchange(&request)
        .await
        .expect("an answer");
    let Ok(ticket_format::messages::Answer::Done { body: answer, .. }) =
        ticket_format::messages::Answer::parse(&bytes)
    else {
        panic!("no proof of consistency");
    };
    items.extend([
        ("consistency-body", body),
        ("request", request),
        ("consistency-answer", answer),
        ("answer", bytes.to_vec()),
    ]);
    let refused = broker
        .connection
        .exchange(b"\x83\x01\x40\x80")
        .await
        .expect("an answer");
    items.push(("refusal", refused.to_vec()));
    // The claims within the tickets: the payload of the COSE_Sign1.
    items.push(("node-claims", payload(&node.ticket().ticket, 18)));
    items.push(("dataset-claims", payload(&ticket.ticket, 18)));
    for server in ["broker", "key-server"] {
        items.extend(
            house
                .entries(server)
                .iter()
                .map(|entry| ("entry", entry.to_cbor())),
        );
    }
    are_of_their_rules(&house, &items);
    println!(
        "{} items of {} kinds",
        items.len(),
        items
            .iter()
            .map(|(rule, _)| rule)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    );
}
