//! The main job, end to end, by real processes: broker, key server, `postern-admin`, `postern`, a
//! metadata service that replays a real signed document, and an S3 server that is not ours.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown with the test"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use client::s3::{AmazonS3Builder, Stores};
use tests::foreign::{S3, S3_CREDENTIALS};
use tests::home::Home;
use tests::house::{DATASET, House, command, ended};
use tests::node::Iid;

const BUCKET: &str = "bucket";
/// A denial must be in force within this time, seen from the admin's command to the refusal.
const SOON: Duration = Duration::from_secs(5);

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i + seed) % 251) as u8).collect()
}

async fn s3(kind: &str) -> S3 {
    let server = S3::start(kind);
    let builder = AmazonS3Builder::new()
        .with_access_key_id(S3_CREDENTIALS)
        .with_secret_access_key(S3_CREDENTIALS)
        .with_region("us-east-1");
    let stores = Stores::with_builder(builder, Some(&server.url)).expect("stores");
    stores.create_bucket(BUCKET).await.expect("a bucket");
    server
}

/// Files to encrypt: small ones of many lengths, one of 8 MiB.
fn data(dir: &Path, small: usize) {
    fs::create_dir_all(dir.join("deep")).expect("a directory");
    for number in 0..small {
        let place = if number % 7 == 0 { "deep/" } else { "" };
        let name = format!("{place}file {number} \u{e4}.tar");
        fs::write(dir.join(name), pattern(number * 977, number)).expect("written");
    }
    fs::write(dir.join("large"), pattern(8 << 20, 5)).expect("written");
}

/// Holds that two directories have the same files.
fn same(left: &Path, right: &Path) -> usize {
    let read = |dir: &Path| {
        let mut files = tests::house::files_below(dir);
        files
            .iter_mut()
            .for_each(|(path, _)| *path = path.strip_prefix(dir).expect("below").to_owned());
        files.sort();
        files
    };
    let (left, right) = (read(left), read(right));
    let names = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        files
            .iter()
            .map(|(path, _)| path.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&left), names(&right));
    for ((path, left), (_, right)) in left.iter().zip(&right) {
        assert!(left == right, "{} differs", path.display());
    }
    left.len()
}

async fn the_main_job(kind: &str, small: usize) {
    let server = s3(kind).await;
    let mut house = House::start();
    let producer_key = house.path("producer-key");
    let mut producer = command("postern");
    producer
        .args(["--format", "json", "producer", "init", "--out"])
        .arg(&producer_key);
    producer.env("HOME", house.dir.path());
    let made: serde_json::Value = serde_json::from_str(&ended(producer).ok()).expect("JSON");
    let public = made["key"].as_str().expect("a key");
    let record = house.record();
    house
        .admin_does(&["dataset", "add-producer", DATASET, public])
        .ok();
    let out = record.to_str().expect("text");
    house
        .admin_does(&["dataset", "record", DATASET, "--out", out])
        .ok();

    // The producer: offline, with nothing but the record and the admin set.
    let iid = Iid::real(0);
    let user_data = house.user_data(&iid.account, &[]);
    let mut node = Home::new(&house, "node", &iid, &user_data);
    node.s3 = Some(server.url.clone());
    let plain = house.path("plain");
    data(&plain, small);
    let admins = house.path("admin-set.cose");
    let place = format!("s3://{BUCKET}/objects/");
    let from = format!("{}/", plain.display());
    house.broker.kill();
    house.key_server.kill();
    let encrypt = [
        "encrypt",
        &from,
        &place,
        "--record",
        record.to_str().expect("text"),
        "--admin-set",
        admins.to_str().expect("text"),
        "--producer",
        producer_key.to_str().expect("text"),
    ];
    node.run(&encrypt).ok();
    house.broker.start();
    house.key_server.start();

    // The node: from user-data and identity document to plaintext.
    node.run(&["login"]).ok();
    node.run(&["status", "-q"]).ok();
    node.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
    assert!(node.run(&["tickets"]).ok().contains(DATASET));
    let back = house.path("back");
    let to = format!("{}/", back.display());
    node.run(&["decrypt", &place, &to]).ok();
    assert_eq!(same(&plain, &back), small + 1);

    let large = format!("s3://{BUCKET}/objects/large");
    let range = node.run(&["cat", &large, "--range", "5000000-5000099"]);
    assert_eq!(range.code, Some(0), "{}", range.stderr);
    assert!(range.stdout == pattern(8 << 20, 5)[5_000_000..=5_000_099]);
    let last = node.run(&["cat", &large, "--range", "-7"]);
    assert!(
        last.stdout == pattern(8 << 20, 5)[(8 << 20) - 7..],
        "{}",
        last.stderr
    );

    // The other way: DEKs that the key server made.
    let result = house.path("result");
    fs::write(&result, pattern(100_000, 9)).expect("written");
    let target = format!("s3://{BUCKET}/results/one");
    node.run(&[
        "encrypt",
        result.to_str().expect("text"),
        &target,
        "--dataset",
        DATASET,
    ])
    .ok();
    assert!(node.run(&["cat", &target]).stdout == pattern(100_000, 9));

    // rule: DEN-6 — the broker is away: redeemed within the lease, refused after it.
    let one = format!("s3://{BUCKET}/objects/file 1 \u{e4}.tar");
    house.broker.stop();
    let stopped = Instant::now();
    let within = node.run(&["cat", &one]);
    let took = stopped.elapsed();
    assert!(
        within.code == Some(0) || took > Duration::from_secs(4),
        "{took:?} after the broker went: {}",
        within.stderr
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused = loop {
        let said = node.run(&["--timeout", "1s", "cat", &one]);
        if said.code != Some(0) {
            break said;
        }
        assert!(Instant::now() < deadline, "the lease does not end");
    };
    assert_eq!(refused.code, Some(8), "{}", refused.stderr);
    assert!(refused.stderr.contains("refusal 60"), "{}", refused.stderr);
    assert!(
        stopped.elapsed() > Duration::from_secs(4),
        "the lease ended early"
    );
    house.broker.start();
    let deadline = Instant::now() + Duration::from_secs(30);
    while node.run(&["--timeout", "5s", "cat", &one]).code != Some(0) {
        assert!(
            Instant::now() < deadline,
            "the key server does not find the broker again"
        );
    }

    // The admin denies the node; its ticket has most of its life left.
    let name = format!(
        "ec2/{}/{}/{}",
        iid.account,
        iid.node.region(),
        iid.node.instance()
    );
    house
        .admin_does(&["deny", "--node", &name, "--reason", "disk cloned", "--yes"])
        .ok();
    let denied_at = Instant::now();
    let denied = loop {
        let said = node.run(&["--timeout", "1s", "cat", &one]);
        if said.code != Some(0) {
            break said;
        }
        assert!(denied_at.elapsed() < SOON, "the denial is not applied");
    };
    println!("{kind}: denied after {:?}", denied_at.elapsed());
    assert_eq!(denied.code, Some(5), "{}", denied.stderr);
    assert!(denied.stderr.contains("refusal 14"), "{}", denied.stderr);
    assert!(denied.stdout.is_empty());
    for again in [&["renew"][..], &["login", "--force"], &["issue", DATASET]] {
        let said = node.run(again);
        assert_eq!(said.code, Some(5), "{again:?}: {}", said.stderr);
    }
    // One line and its two companions, no half-written file.
    let nothing = house.path("nothing");
    let said = node.run(&["decrypt", &large, nothing.to_str().expect("text")]);
    assert_eq!(said.code, Some(5), "{}", said.stderr);
    assert!(!nothing.exists());
    house.is_sound();

    // Every act left its entry, and the log holds together.
    for server in ["broker", "key-server"] {
        let log = house.log(server);
        house
            .admin_does(&["audit", "verify", "--log", log.to_str().expect("text")])
            .ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_with_moto() {
    the_main_job("moto", 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_with_s3rver() {
    the_main_job("s3rver", 12).await;
}
