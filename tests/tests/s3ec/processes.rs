//! By real processes: broker, key server and `postern`.

use std::fs;

use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::Iid;

use crate::{BUCKET, bench, pattern};

/// rule: AMZ-3
/// rule: AMZ-8
/// rule: AMZ-9
/// rule: AMZ-11
#[tokio::test(flavor = "multi_thread")]
async fn the_command_writes_the_format_that_it_is_told_and_reads_either() {
    let bench = bench().await;
    let house = House::start();
    let iid = Iid::real(0);
    let user_data = house.user_data(&iid.account, &[]);
    let mut node = Home::new(&house, "node", &iid, &user_data);
    node.s3 = Some(bench.server.url.clone());
    node.run(&["login"]).ok();
    node.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
    let plain = house.path("plain");
    fs::write(&plain, pattern(200_000)).unwrap();
    let plain = plain.to_str().unwrap();
    let place = format!("s3://{BUCKET}/theirs");
    node.run(&[
        "cp",
        plain,
        &place,
        "--as",
        "s3ec",
        "--dataset",
        DATASET,
        "--context",
        "owner=a",
    ])
    .ok();
    let (metadata, body) = bench.raw("theirs").await;
    let value = |name: &str| {
        metadata
            .iter()
            .find(|(other, _)| other == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(
        (value("x-amz-c").as_str(), value("x-amz-w").as_str()),
        ("115", "12")
    );
    assert_eq!(
        value("x-amz-t"),
        r#"{"aws:x-amz-cek-alg":"115","owner":"a"}"#
    );
    assert_eq!(body.len(), 200_016);

    // Told by its metadata, to every command that reads.
    let back = house.path("back");
    let to = back.to_str().unwrap();
    node.run(&["cp", &place, to]).ok();
    assert!(fs::read(&back).unwrap() == pattern(200_000));
    node.run(&["decrypt", &place, to]).ok();
    assert!(node.run(&["cat", &place]).stdout == pattern(200_000));
    assert!(node.run(&["decrypt", &place, "-"]).stdout == pattern(200_000));
    let listed = node.run(&["ls", &format!("s3://{BUCKET}/")]).ok();
    assert!(
        listed.contains("s3ec") && listed.contains("200000"),
        "{listed}"
    );
    node.run(&[
        "cp",
        plain,
        &format!("s3://{BUCKET}/own"),
        "--as",
        "postern",
        "--dataset",
        DATASET,
    ])
    .ok();
    assert!(
        bench
            .raw("own")
            .await
            .0
            .iter()
            .any(|(name, _)| name == "postern-format")
    );

    let range = node.run(&["cat", &place, "--range", "0-9"]);
    assert_eq!(
        (range.code, range.stdout.len()),
        (Some(2), 0),
        "{}",
        range.stderr
    );
    assert!(
        range.stderr.contains("verified by itself"),
        "{}",
        range.stderr
    );
    let file = house.path("file.postern");
    let file = node.run(&[
        "cp",
        plain,
        file.to_str().unwrap(),
        "--as",
        "s3ec",
        "--dataset",
        DATASET,
    ]);
    assert_eq!(file.code, Some(2), "{}", file.stderr);
    let rewrapped = node.run(&[
        "rewrap",
        &format!("s3://{BUCKET}/theirs"),
        "--dataset",
        DATASET,
    ]);
    assert_ne!(rewrapped.code, Some(0), "{}", rewrapped.stderr);

    // What was altered ends with code 9, and leaves nothing.
    let mut altered = body.clone();
    altered[100_000] ^= 1;
    let flipped: Vec<u8> = altered;
    let swapped = |name: &str, value: &str| {
        let mut changed = metadata.clone();
        changed.retain(|(other, _)| other != name);
        changed.push((name.to_owned(), value.to_owned()));
        changed
    };
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
    let without_key: Vec<_> = metadata
        .iter()
        .filter(|(name, _)| name != "x-amz-3")
        .cloned()
        .collect();
    let down: Vec<(String, String)> = [
        ("x-amz-key-v2", value("x-amz-3").as_str()),
        ("x-amz-wrap-alg", "kms+context"),
        ("x-amz-matdesc", value("x-amz-t").as_str()),
        ("x-amz-iv", "AQEBAQEBAQEBAQEB"),
        ("x-amz-cek-alg", "AES/GCM/NoPadding"),
        ("x-amz-tag-len", "128"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let _ = fs::remove_file(&back);
    for (what, metadata, body) in [
        ("a flipped bit", metadata.clone(), &flipped),
        (
            "the commitment of another key",
            swapped("x-amz-d", zeros),
            &body,
        ),
        ("another message id", swapped("x-amz-i", zeros), &body),
        (
            "another context",
            swapped("x-amz-t", r#"{"aws:x-amz-cek-alg":"115","owner":"b"}"#),
            &body,
        ),
        ("an instruction file", without_key, &body),
        ("a downgrade", down, &body),
    ] {
        bench.put_raw("attacked", &metadata, body).await;
        let place = format!("s3://{BUCKET}/attacked");
        for accepting in [&[][..], &["--accept-uncommitted"]] {
            let said = node.run(&[&["cp", &place, to], accepting].concat());
            assert_eq!(said.code, Some(9), "{what}: {}", said.stderr);
            assert!(!back.exists(), "{what}");
            let said = node.run(&[&["cat", &place], accepting].concat());
            assert_eq!(
                (said.code, said.stdout.len()),
                (Some(9), 0),
                "{what}: {}",
                said.stderr
            );
        }
    }
    bench.put_raw("attacked", &metadata, &flipped).await;
    let said = node.run(&[
        "cat",
        &format!("s3://{BUCKET}/attacked"),
        "--release-unverified",
    ]);
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    assert!(!said.stdout.is_empty(), "nothing was released");
}
