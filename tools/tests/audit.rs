//! `postern-admin audit` on real logs, as an auditor and an attacker with root on the log's host meet them.

#[path = "support/logs.rs"]
mod logs;
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use logs::{append, at, bundle, file, keys, published, put_bundle, secret};
use proptest::prelude::*;
use serde_json::Value;
use support::{Place, Said};
use ticket_format::Refusal;
use ticket_format::cbor::Encode as _;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, DatasetId};
use ticket_format::statement::Role;
use ticket_format::tlog::{LogSecret, WitnessSecret};
use tools::admin::audit::filter::{Ended, Filter};
use tools::admin::audit::index::{Index, Query};
use tools::admin::audit::published::Published;
use tools::admin::audit::source::Source;

/// A shard of some 20 entries: each seal of the journal has a note of 5 KB.
const SMALL: u64 = 100_000;
const NODE: &str = "ec2/123456789012/eu-west-1/i-0123456789abcdef0";

fn entry(number: u64) -> Entry {
    let mut act = [0; 16];
    act[..8].copy_from_slice(&number.to_be_bytes());
    let kinds = [Kind::Login, Kind::Issue, Kind::Redeem];
    let kind = kinds[usize::try_from(number).unwrap() % kinds.len()];
    let entry = Entry::new(ActId(act), kind, at(number))
        .subject(NODE)
        .dataset(DatasetId([u8::try_from(number % 3).unwrap(); 16]));
    if number % 4 == 3 {
        entry.refused(Refusal::Policy)
    } else {
        entry
    }
}

fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(entry).collect()
}

fn broker() -> LogSecret {
    secret(Role::Broker, 1)
}

/// A log of 300 entries in one shard, as it is served.
fn served(place: &Place) -> PathBuf {
    append(&place.path("audit"), broker(), u64::MAX, &entries(0..300));
    published(&place.path("audit"), &place.path("served"));
    place.path("served")
}

fn run(place: &Place, secret: &LogSecret, arguments: &[&str]) -> Said {
    let keys = keys(secret);
    let all: Vec<&str> = ["audit"]
        .into_iter()
        .chain(arguments.iter().copied())
        .chain(keys.iter().map(String::as_str))
        .collect();
    place.run(&all)
}

/// What `verify` finds: each finding with its entry.
fn found(place: &Place, log: &Path, more: &[&str]) -> Vec<(String, Option<u64>)> {
    let mut arguments = vec!["verify", "--log", log.to_str().unwrap(), "--format=json"];
    arguments.extend(more);
    let said = run(place, &broker(), &arguments);
    let json = said.json();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(
        said.code,
        if findings.is_empty() { 0 } else { 9 },
        "{}",
        said.err
    );
    assert_eq!(json["ok"], findings.is_empty());
    findings
        .iter()
        .map(|one| {
            (
                one["finding"].as_str().unwrap().to_owned(),
                one["index"].as_u64(),
            )
        })
        .collect()
}

fn names(findings: &[(String, Option<u64>)]) -> Vec<&str> {
    findings.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_whole_log_verifies_shard_by_shard_with_public_keys_alone() {
    // rule: TLOG-1, TLOG-2, TLOG-4
    let place = Place::new();
    append(&place.path("audit"), broker(), SMALL, &entries(0..100));
    published(&place.path("audit"), &place.path("served"));
    for log in ["audit", "served"] {
        let said = run(
            &place,
            &broker(),
            &["verify", "--log", log, "--format=json"],
        );
        assert_eq!(said.code, 0, "{}", said.err);
        let json = said.json();
        let shards = json["shards"].as_array().unwrap();
        assert!(shards.len() > 2, "{json}");
        let verified: u64 = shards
            .iter()
            .map(|shard| shard["verified"].as_u64().unwrap())
            .sum();
        assert_eq!(Some(verified), json["entries"].as_u64());
        assert_eq!(verified, 100 + 2 * (shards.len() as u64 - 1));
        assert_eq!(
            (&shards[0]["state"], &shards[0]["first"]),
            (&"closed".into(), &at(0).to_string().into())
        );
        assert_eq!(shards.last().unwrap()["state"], "open");
    }
    let text = run(&place, &broker(), &["verify", "--log", "served"]);
    assert!(
        text.code == 0 && text.out.starts_with("SHARD\tSTATE"),
        "{}",
        text.out
    );
}

#[test]
fn an_edited_entry_is_found_and_named() {
    let place = Place::new();
    let log = served(&place);
    let path = file(&log, "tile/entries/000");
    let mut all = bundle(&path);
    all[17] = entry(17)
        .subject("ec2/123456789012/eu-west-1/i-0123456789abcdef1")
        .to_cbor();
    put_bundle(&path, &all);
    let findings = found(&place, &log, &[]);
    assert!(
        findings.contains(&("edited".to_owned(), Some(17))),
        "{findings:?}"
    );
}

#[test]
fn an_edited_entry_is_found_when_its_tile_was_edited_too() {
    let place = Place::new();
    let log = served(&place);
    let path = file(&log, "tile/entries/000");
    let mut all = bundle(&path);
    all[17] = entry(17).refused(Refusal::Denied).to_cbor();
    put_bundle(&path, &all);
    let tile: Vec<u8> = all
        .iter()
        .flat_map(|entry| ticket_format::tlog::merkle::leaf_hash(entry))
        .collect();
    fs::write(file(&log, "tile/0/000"), tile).unwrap();
    assert!(!found(&place, &log, &[]).is_empty());
    // Who reads single entries does not believe it either.
    let tail = run(
        &place,
        &broker(),
        &["export", "--as=cef", "--log", log.to_str().unwrap()],
    );
    assert_eq!((tail.code, tail.out.as_str()), (9, ""), "{}", tail.err);
}

#[test]
fn a_deleted_entry_and_a_truncated_log_are_found_and_named() {
    let place = Place::new();
    let log = served(&place);
    let path = file(&log, "tile/entries/000");
    let all = bundle(&path);
    let mut without = all.clone();
    without.remove(17);
    put_bundle(&path, &without);
    let findings = found(&place, &log, &[]);
    assert!(
        findings.contains(&("deleted".to_owned(), Some(17))),
        "{findings:?}"
    );
    put_bundle(&path, &all);
    let last = file(&log, "tile/entries/001");
    put_bundle(&last, &bundle(&last)[..10]);
    let findings = found(&place, &log, &[]);
    assert!(
        findings.contains(&("truncated".to_owned(), Some(266))),
        "{findings:?}"
    );
}

#[test]
fn entries_in_another_order_are_found_and_named() {
    let place = Place::new();
    let log = served(&place);
    let path = file(&log, "tile/entries/000");
    let mut all = bundle(&path);
    all.swap(17, 40);
    put_bundle(&path, &all);
    let findings = found(&place, &log, &[]);
    assert!(
        findings.contains(&("reordered".to_owned(), Some(17))),
        "{findings:?}"
    );
}

#[test]
fn a_log_under_other_keys_is_found() {
    // rule: TLOG-2
    let place = Place::new();
    served(&place);
    // Root makes the whole log anew, under keys of the same name.
    let origin = broker().key().origin.clone();
    let forged = LogSecret::from_seeds(origin, &[50; 32], &[51; 32]).unwrap();
    append(&place.path("forged"), forged, u64::MAX, &entries(0..299));
    assert!(names(&found(&place, &place.path("forged"), &[])).contains(&"key-swapped"));
}

#[test]
fn a_shorter_log_and_another_history_are_found_by_what_was_seen_before() {
    // rule: TLOG-6
    let place = Place::new();
    append(&place.path("audit"), broker(), u64::MAX, &entries(0..100));
    published(&place.path("audit"), &place.path("old"));
    append(&place.path("audit"), broker(), u64::MAX, &entries(100..140));
    let state = ["--state", "seen.json"];
    assert!(found(&place, &place.path("old"), &state).is_empty());
    assert!(found(&place, &place.path("audit"), &state).is_empty());
    let kept = fs::read(place.path("seen.json")).unwrap();
    // The machine was set back.
    assert_eq!(
        names(&found(&place, &place.path("old"), &state)),
        ["rolled-back"]
    );
    assert!(
        found(&place, &place.path("old"), &[]).is_empty(),
        "alone it is whole"
    );
    // And went on with another history, signed by the same keys.
    let mut other = entries(0..150);
    other[120] = entry(120).subject("somebody else");
    append(&place.path("fork"), broker(), u64::MAX, &other);
    assert_eq!(
        names(&found(&place, &place.path("fork"), &state)),
        ["forked"]
    );
    assert_eq!(fs::read(place.path("seen.json")).unwrap(), kept);
}

#[test]
fn a_back_dated_entry_is_found_and_named() {
    // rule: TIM-1
    let place = Place::new();
    let mut all = entries(0..200);
    all.push(entry(200).subject("late"));
    all[200].time = at(100);
    append(&place.path("audit"), broker(), u64::MAX, &all);
    let findings = found(&place, &place.path("audit"), &[]);
    assert!(
        findings.contains(&("back-dated".to_owned(), Some(200))),
        "{findings:?}"
    );
    all[200].time = at(199 - 60);
    append(&place.path("fine"), broker(), u64::MAX, &all);
    assert!(!names(&found(&place, &place.path("fine"), &[])).contains(&"back-dated"));
}

#[test]
fn a_removed_shard_is_told_and_a_missing_one_is_found() {
    // rule: TLOG-4
    let place = Place::new();
    append(&place.path("audit"), broker(), SMALL, &entries(0..100));
    published(&place.path("audit"), &place.path("served"));
    let log = place.path("served");
    fs::remove_dir_all(log.join("1/tile")).unwrap();
    let said = run(
        &place,
        &broker(),
        &["verify", "--log", "served", "--format=json"],
    );
    assert_eq!(
        (said.code, &said.json()["shards"][0]["state"]),
        (0, &"removed".into())
    );
    assert_eq!(names(&found(&place, &log, &["--whole"])), ["deleted"]);
    fs::remove_dir_all(log.join("2")).unwrap();
    assert!(!found(&place, &log, &[]).is_empty());
}

#[test]
fn witnesses_are_counted_by_the_policy() {
    // rule: TLOG-8
    let place = Place::new();
    let log = served(&place);
    let witness = WitnessSecret::from_seeds("w1.example", &[7; 32], &[8; 32]).unwrap();
    let [vkey, _] = witness.vkeys();
    place.write("policy", format!("witness w1 {vkey}\nquorum w1\n"));
    let policy = ["--witness-policy", "policy"];
    assert_eq!(names(&found(&place, &log, &policy)), ["unwitnessed"]);
    let path = log.join("1/checkpoint");
    let note = fs::read_to_string(&path).unwrap();
    let signed = broker().key().verify(&note).unwrap();
    let lines = witness.cosign(signed.checkpoint(), at(400));
    fs::write(&path, format!("{note}{lines}")).unwrap();
    assert!(found(&place, &log, &policy).is_empty());
    let mut arguments = vec!["verify", "--log", "served", "--format=json"];
    arguments.extend(policy);
    let json = run(&place, &broker(), &arguments).json();
    assert_eq!(
        json["shards"][0]["witnesses"],
        serde_json::json!(["w1.example"])
    );
}

/// Serves a directory; `hostile` paths are answered with what is given, whole.
fn serve(dir: PathBuf, hostile: Vec<(String, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/log", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            for line in lines {
                if line.unwrap().is_empty() {
                    break;
                }
            }
            let path = first
                .split(' ')
                .nth(1)
                .unwrap()
                .strip_prefix("/log/")
                .unwrap()
                .to_owned();
            let answer = hostile.iter().find(|(at, _)| *at == path).map_or_else(
                || match fs::read(dir.join(&path)) {
                    Ok(bytes) => [
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                            bytes.len()
                        )
                        .into_bytes(),
                        bytes,
                    ]
                    .concat(),
                    Err(_) => {
                        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                            .to_vec()
                    }
                },
                |(_, answer)| answer.clone(),
            );
            // Who has heard enough hangs up.
            let _ = stream.write_all(&answer);
        }
    });
    address
}

#[test]
fn a_log_is_verified_over_http_as_in_a_directory() {
    let place = Place::new();
    append(&place.path("audit"), broker(), SMALL, &entries(0..100));
    published(&place.path("audit"), &place.path("served"));
    let address = serve(place.path("served"), Vec::new());
    let said = run(
        &place,
        &broker(),
        &["verify", "--log", &address, "--format=json"],
    );
    assert_eq!(said.code, 0, "{}", said.err);
    let local = run(
        &place,
        &broker(),
        &["verify", "--log", "served", "--format=json"],
    );
    assert_eq!(said.json()["shards"], local.json()["shards"]);
    let tail = run(&place, &broker(), &["tail", "-n", "3", "--log", &address]);
    assert_eq!(
        (tail.code, tail.out.lines().count()),
        (0, 3),
        "{}",
        tail.err
    );
}

#[test]
fn a_hostile_server_is_bounded_and_not_followed_elsewhere() {
    let place = Place::new();
    let log = served(&place);
    let endless = |path: &str| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        (path.to_owned(), [head, vec![b'x'; 70_000]].concat())
    };
    let address = serve(log.clone(), vec![endless("1/checkpoint")]);
    let said = run(&place, &broker(), &["verify", "--log", &address]);
    assert_eq!(said.code, 9, "{}", said.err);
    let address = serve(log.clone(), vec![endless("1/tile/0/000")]);
    let said = run(&place, &broker(), &["verify", "--log", &address]);
    assert_eq!(said.code, 9, "{}", said.err);
    let away = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let address = serve(log, vec![("1/checkpoint".to_owned(), away.to_vec())]);
    let said = run(&place, &broker(), &["verify", "--log", &address]);
    assert!(said.code == 1 && said.err.contains("302"), "{}", said.err);
    let said = run(
        &place,
        &broker(),
        &["verify", "--log", "http://127.0.0.1:1/"],
    );
    assert_eq!(said.code, 8, "{}", said.err);
}

#[test]
fn keys_that_are_missing_or_of_another_log_are_told() {
    let place = Place::new();
    served(&place);
    let one = &keys(&broker())[0];
    assert_eq!(
        place.run(&["audit", "verify", "--log", "served", one]).code,
        2
    );
    assert_eq!(
        place
            .run(&["audit", "verify", "--log", "served", "--log-key=x"])
            .code,
        2
    );
    assert_eq!(
        run(&place, &broker(), &["verify", "--log", "absent"]).code,
        6
    );
    let other = run(
        &place,
        &secret(Role::KeyServer, 9),
        &["verify", "--log", "served"],
    );
    assert_eq!(other.code, 9, "{}", other.err);
}

#[test]
fn an_entry_is_proven_and_the_proof_is_checked_without_the_log() {
    // rule: TLOG-5
    let place = Place::new();
    append(&place.path("audit"), broker(), SMALL, &entries(0..100));
    let proven = run(&place, &broker(), &["prove", "57", "--log", "audit"]);
    assert_eq!(proven.code, 0, "{}", proven.err);
    fs::remove_dir_all(place.path("audit")).unwrap();
    for files in [
        &["entry-57.json"][..],
        &["entry-57.entry", "entry-57.tlog-proof"],
        &["entry-57.tlog-proof", "entry-57.entry"],
    ] {
        let mut arguments = vec!["check-proof", "--format=json"];
        arguments.extend(files);
        let checked = run(&place, &broker(), &arguments);
        assert_eq!(checked.code, 0, "{}", checked.err);
        assert_eq!(checked.json()["verified"], true);
    }
    let other = run(
        &place,
        &secret(Role::Broker, 2),
        &["check-proof", "entry-57.json"],
    );
    assert_eq!(other.code, 9, "{}", other.err);
    let mut bytes = fs::read(place.path("entry-57.entry")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(place.path("changed.entry"), bytes).unwrap();
    let changed = run(
        &place,
        &broker(),
        &["check-proof", "changed.entry", "entry-57.tlog-proof"],
    );
    assert_eq!(changed.code, 9, "{}", changed.err);
    assert_eq!(
        run(&place, &broker(), &["check-proof", "entry-57.entry"]).code,
        2
    );
}

#[test]
fn who_reads_single_entries_believes_none_that_is_not_under_the_signed_root() {
    // rule: TLOG-1, TLOG-2
    let place = Place::new();
    let log = served(&place);
    let place_of = log.to_str().unwrap();
    let path = file(&log, "tile/entries/000");
    let good = fs::read(&path).unwrap();
    let mut all = bundle(&path);
    all[17] = entry(17).subject("somebody else").to_cbor();
    put_bundle(&path, &all);
    for arguments in [
        &["tail", "-n", "290"][..],
        &["prove", "17"],
        &["query"],
        &["export", "--as=cef", "--from=17"],
    ] {
        let said = run(
            &place,
            &broker(),
            &[arguments, &["--log", place_of]].concat(),
        );
        assert_eq!(said.code, 9, "{arguments:?}: {} {}", said.out, said.err);
        assert!(!said.out.contains("somebody else"), "{}", said.out);
    }
    fs::write(&path, good).unwrap();
    assert_eq!(
        run(&place, &broker(), &["query", "--log", place_of]).code,
        0
    );
    let origin = broker().key().origin.clone();
    let forged = LogSecret::from_seeds(origin, &[50; 32], &[51; 32]).unwrap();
    let said = run(&place, &forged, &["tail", "--log", place_of]);
    assert_eq!((said.code, said.out.as_str()), (9, ""), "{}", said.err);
}

#[test]
fn what_the_log_does_not_have_is_not_proven_and_nothing_is_overwritten() {
    let place = Place::new();
    served(&place);
    assert_eq!(
        run(&place, &broker(), &["prove", "300", "--log", "served"]).code,
        6
    );
    assert_eq!(
        run(&place, &broker(), &["prove", "3", "--log", "served"]).code,
        0
    );
    assert_eq!(
        run(&place, &broker(), &["prove", "3", "--log", "served"]).code,
        7
    );
}

#[test]
fn every_exported_line_names_its_log_and_index() {
    let place = Place::new();
    append(&place.path("audit"), broker(), SMALL, &entries(0..100));
    let origin = broker().key().origin.to_string();
    let said = run(
        &place,
        &broker(),
        &["export", "--as=cloudtrail", "--from=40", "--log", "audit"],
    );
    assert_eq!(said.code, 0, "{}", said.err);
    for (number, line) in said.out.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["additionalEventData"]["logIndex"], 40 + number);
        assert_eq!(line["additionalEventData"]["logOrigin"], origin.as_str());
    }
    let cef = run(
        &place,
        &broker(),
        &["export", "--as=cef", "--kind=redeem", "--log", "audit"],
    );
    assert_eq!(cef.out.lines().count(), 33);
    assert!(
        cef.out
            .lines()
            .all(|line| line.starts_with("CEF:0|Postern|broker|") && line.contains(&origin))
    );
}

#[test]
fn a_query_is_answered_from_an_index_that_grows_with_the_log() {
    let place = Place::new();
    append(&place.path("audit"), broker(), SMALL, &entries(0..100));
    let asked = [
        "query",
        "--log",
        "audit",
        "--kind=redeem",
        "--outcome=policy",
        "--json",
    ];
    let said = run(&place, &broker(), &asked);
    assert_eq!(said.code, 0, "{}", said.err);
    let before = said.json()["entries"].as_array().unwrap().len();
    assert_eq!(
        before,
        (0..100).filter(|n| n % 3 == 2 && n % 4 == 3).count()
    );
    append(&place.path("audit"), broker(), SMALL, &entries(100..112));
    let said = run(&place, &broker(), &asked);
    assert!(said.err.contains("The index took 1"), "{}", said.err);
    assert_eq!(said.json()["entries"].as_array().unwrap().len(), before + 1);
    let one = run(
        &place,
        &broker(),
        &["query", "--log", "audit", "--index=5", "--format=jsonl"],
    );
    let one: Value = serde_json::from_str(&one.out).unwrap();
    assert_eq!(one["act"], entry(5).act.to_string());
    let dir = place.path(".cache/postern-audit");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&dir).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_index_of_another_log_is_built_anew_and_a_log_that_went_back_is_told() {
    let place = Place::new();
    append(&place.path("audit"), broker(), u64::MAX, &entries(0..50));
    let other = secret(Role::KeyServer, 9);
    append(
        &place.path("other"),
        secret(Role::KeyServer, 9),
        u64::MAX,
        &entries(0..30),
    );
    let ask = |secret: &LogSecret, log: &str| {
        run(
            &place,
            secret,
            &[
                "query",
                "--log",
                log,
                "--index-file=index",
                "--limit=1000",
                "--json",
            ],
        )
    };
    assert_eq!(
        ask(&other, "other").json()["entries"]
            .as_array()
            .unwrap()
            .len(),
        30
    );
    let said = ask(&broker(), "audit");
    assert!(said.err.contains("built anew"), "{}", said.err);
    assert_eq!(said.json()["entries"].as_array().unwrap().len(), 50);
    // A file that is no index at all is told.
    place.write("index2", vec![7; 8_192]);
    let damaged = run(
        &place,
        &broker(),
        &["query", "--log=audit", "--index-file=index2"],
    );
    assert_eq!(damaged.code, 1, "{}", damaged.err);
    append(&place.path("short"), broker(), u64::MAX, &entries(0..40));
    assert_eq!(ask(&broker(), "short").code, 9);
    let mut fork = entries(0..60);
    fork[10] = entry(10).subject("somebody else");
    append(&place.path("fork"), broker(), u64::MAX, &fork);
    assert_eq!(ask(&broker(), "fork").code, 9);
}

fn some_filter() -> impl Strategy<Value = Filter> {
    let who = prop::option::of(prop::sample::select(vec!["a", "b", "ann", "nobody"]));
    let dataset = prop::option::of(0_u8..4);
    let time = || prop::option::of(0_u64..60);
    let ended = prop::option::of(prop::sample::select(vec![
        Ended::Done,
        Ended::Refused,
        Ended::By(Refusal::Policy),
        Ended::By(Refusal::Denied),
    ]));
    let kinds = prop::collection::vec(prop::sample::select(Kind::ALL.to_vec()), 0..3);
    (who, dataset, time(), time(), ended, kinds).prop_map(
        |(who, dataset, since, until, outcome, kinds)| Filter {
            who: who.map(str::to_owned),
            dataset: dataset.map(|byte| DatasetId([byte; 16])),
            since: since.map(at),
            until: until.map(at),
            outcome,
            kinds,
        },
    )
}

/// Entries of every sort.
fn various() -> Vec<Entry> {
    let mut all = Vec::new();
    for number in 0..120_u64 {
        let small = u8::try_from(number).unwrap();
        let kind = Kind::ALL[usize::from(small) % 14];
        let mut entry = Entry::new(ActId([small; 16]), kind, at(number / 2));
        if small % 3 != 0 {
            entry = entry.subject(if small % 2 == 0 { "a" } else { "b" });
        }
        if small % 5 != 0 {
            entry = entry.dataset(DatasetId([small % 4; 16]));
        }
        if small % 7 == 0 {
            entry = entry.signers(["ann".to_owned(), "b".to_owned()]);
        }
        entry = match small % 4 {
            0 => entry.refused(Refusal::Policy),
            1 => entry.refused(Refusal::Denied),
            _ => entry,
        };
        all.push(entry);
    }
    all
}

#[test]
fn a_query_finds_what_a_plain_look_at_every_entry_finds() {
    let place = Place::new();
    let all = various();
    append(&place.path("audit"), broker(), u64::MAX, &all);
    let source = Source::open(
        place.path("audit").to_str().unwrap(),
        std::time::Duration::from_secs(5),
    )
    .unwrap();
    let log = Published::new(source, broker().key().clone());
    let path = place.path("index");
    let mut index = Index::open(&path).unwrap();
    assert_eq!(index.update(&log, &path).unwrap().added, 120);
    proptest!(|(filter in some_filter(), from in prop::option::of(0_u64..130), to in prop::option::of(0_u64..130), limit in 0_u64..130, oldest_first: bool)| {
        let query = Query { filter: &filter, from, to, limit, oldest_first };
        let found: Vec<u64> = index.query(&query, &path).unwrap().iter().map(|record| record.index).collect();
        let plain = (0_u64..).zip(&all).filter(|(number, entry)| {
            filter.wants(entry) && from.is_none_or(|from| *number >= from) && to.is_none_or(|to| *number < to)
        });
        let mut plain: Vec<u64> = plain.map(|(number, _)| number).collect();
        if !oldest_first {
            plain.reverse();
        }
        plain.truncate(usize::try_from(limit).unwrap());
        prop_assert_eq!(found, plain);
    });
}
