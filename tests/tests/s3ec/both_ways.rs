//! Their objects by our client, ours by theirs.

use client::s3::copy::{ByteRange, HELD, Reading};
use client::s3::{Fault, Location};

use crate::{Bench, accepting, bench, pattern, s3};

/// One byte, none, a part of a block, blocks, more than one request takes.
const LENGTHS: [usize; 6] = [0, 1, 16, 1000, 65_537, 11 << 20];

async fn read_by_ours(bench: &Bench, key: &str, expected: &[u8]) {
    let (done, there) = bench.get(key, accepting()).await;
    assert_eq!(done.unwrap(), expected.len() as u64);
    assert!(there && std::fs::read(bench.path("back")).unwrap() == expected);
    let (out, done) = bench.cat(key, None, None, accepting()).await;
    assert_eq!(done.unwrap(), expected.len() as u64);
    assert!(out == expected);
}

/// rule: AMZ-2
/// rule: AMZ-11
#[tokio::test(flavor = "multi_thread")]
async fn objects_of_amazons_client_are_read_by_ours() {
    let mut bench = bench().await;
    bench.keys.any = true;
    for (at, len) in LENGTHS.into_iter().enumerate() {
        std::fs::write(bench.path("in"), pattern(len)).unwrap();
        bench.theirs("put", "theirs", "in", &[]).ok();
        read_by_ours(&bench, "theirs", &pattern(len)).await;
        if at == 3 {
            let more = ["--context", "owner=research", "--context", "b=\"\\ "];
            bench.theirs("put", "context", "in", &more).ok();
            read_by_ours(&bench, "context", &pattern(len)).await;
            let asked = bench.keys.opened.lock().unwrap().pop().unwrap();
            let expected = [
                ("aws:x-amz-cek-alg", "115"),
                ("b", "\"\\ "),
                ("kms", "data-key/32"),
                ("owner", "research"),
            ];
            assert!(
                asked
                    .iter()
                    .map(|(k, v)| (k.as_str(), v.as_str()))
                    .eq(expected)
            );
        }
    }
}

/// rule: AMZ-3
#[tokio::test(flavor = "multi_thread")]
async fn version_2_is_read_if_the_reader_says_so_and_not_otherwise() {
    let mut bench = bench().await;
    bench.keys.any = true;
    std::fs::write(bench.path("in"), pattern(70_001)).unwrap();
    bench
        .theirs("put", "old", "in", &["--v2", "--context", "a=1"])
        .ok();
    read_by_ours(&bench, "old", &pattern(70_001)).await;
    let asked = bench.keys.opened.lock().unwrap().len();
    let (done, there) = bench.get("old", Reading::default()).await;
    let error = done.unwrap_err();
    assert!(error.to_string().contains("not committed"), "{error}");
    assert_eq!((error.fault(), there), (Some(Fault::Integrity), false));
    let (out, done) = bench.cat("old", None, None, Reading::default()).await;
    assert!(out.is_empty() && done.is_err());
    assert_eq!(
        bench.keys.opened.lock().unwrap().len(),
        asked,
        "it was redeemed"
    );
}

/// rule: AMZ-2
/// rule: AMZ-4
#[tokio::test(flavor = "multi_thread")]
async fn objects_of_our_client_are_read_by_amazons() {
    let bench = bench().await;
    for len in LENGTHS {
        bench.put("ours", &pattern(len), None, &[]).await;
        bench.theirs("get", "ours", "out", &[]).ok();
        assert!(
            std::fs::read(bench.path("out")).unwrap() == pattern(len),
            "{len}"
        );
        read_by_ours(&bench, "ours", &pattern(len)).await;
    }
    bench
        .put("ours", b"context", None, &[("owner", "a \"b\" \\")])
        .await;
    bench
        .theirs("get", "ours", "out", &["--context", "owner=a \"b\" \\"])
        .ok();
    assert_eq!(std::fs::read(bench.path("out")).unwrap(), b"context");
    assert_eq!(bench.theirs("get", "ours", "out", &[]).code, Some(1));
    // Each body has a key of its own, though the data key is one.
    let (_, first) = bench.raw("ours").await;
    bench
        .put("ours", b"context", None, &[("owner", "a \"b\" \\")])
        .await;
    assert_ne!(bench.raw("ours").await.1, first);
}

/// rule: AMZ-7
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_given_a_name_is_bound_to_it_for_both() {
    let bench = bench().await;
    let name = s3("bound").to_string();
    bench.put("bound", b"here", Some(&name), &[]).await;
    read_by_ours(&bench, "bound", b"here").await;
    bench
        .theirs(
            "get",
            "bound",
            "out",
            &["--context", &format!("name={name}")],
        )
        .ok();
    // In another place it is not the object of that place.
    let (metadata, body) = bench.raw("bound").await;
    bench.put_raw("other", &metadata, &body).await;
    let (done, there) = bench.get("other", Reading::default()).await;
    assert_eq!(
        (done.unwrap_err().fault(), there),
        (Some(Fault::Integrity), false)
    );
    let (out, done) = bench
        .cat("other", Some(&name), None, Reading::default())
        .await;
    assert_eq!((out.as_slice(), done.unwrap()), (&b"here"[..], 4));
    // Whoever demands a name gets nothing that is bound to none.
    bench.put("free", b"anywhere", None, &[]).await;
    let (out, done) = bench
        .cat("free", Some("s3://bucket/free"), None, Reading::default())
        .await;
    assert_eq!(done.unwrap_err().fault(), Some(Fault::Integrity));
    assert!(out.is_empty());
}

/// rule: AMZ-9
#[tokio::test(flavor = "multi_thread")]
async fn no_range_is_read() {
    let bench = bench().await;
    bench.put("whole", &pattern(1000), None, &[]).await;
    for range in [
        ByteRange::From(0),
        ByteRange::Between(1, 2),
        ByteRange::Last(1),
    ] {
        let (out, done) = bench
            .cat("whole", None, Some(range), Reading::default())
            .await;
        let error = done.unwrap_err();
        assert!(error.to_string().contains("verified by itself"), "{error}");
        assert_eq!((error.fault(), out.len()), (Some(Fault::Usage), 0));
    }
    assert!(
        bench.keys.opened.lock().unwrap().is_empty(),
        "it was redeemed"
    );
}

/// rule: AMZ-8
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gets_what_can_be_held_and_more_only_for_a_reader_who_says_so() {
    let bench = bench().await;
    let releasing = Reading {
        release_unverified: true,
        ..Reading::default()
    };
    let held = pattern(HELD as usize);
    bench.put("held", &held, None, &[]).await;
    let (out, done) = bench.cat("held", None, None, Reading::default()).await;
    assert_eq!(done.unwrap(), HELD);
    assert!(out == held);

    let more = pattern(HELD as usize + 1);
    bench.put("more", &more, None, &[]).await;
    let asked = bench.keys.opened.lock().unwrap().len();
    let (out, done) = bench.cat("more", None, None, Reading::default()).await;
    let error = done.unwrap_err();
    assert!(
        error.to_string().contains("--release-unverified"),
        "{error}"
    );
    assert_eq!((error.fault(), out.len()), (Some(Fault::Usage), 0));
    assert_eq!(
        bench.keys.opened.lock().unwrap().len(),
        asked,
        "it was redeemed"
    );
    let (out, done) = bench.cat("more", None, None, releasing).await;
    assert_eq!(done.unwrap(), HELD + 1);
    assert!(out == more);
    // A file takes it back, so nothing needs to be held.
    let (done, there) = bench.get("more", Reading::default()).await;
    assert_eq!((done.unwrap(), there), (HELD + 1, true));
}

/// rule: AMZ-7
/// rule: AMZ-11
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused_before_a_key_is_made() {
    let bench = bench().await;
    std::fs::write(bench.path("plain"), b"plain").unwrap();
    let job = |to: Location, pair: (&str, &str)| client::s3::copy::Job {
        from: Location::File(bench.path("plain")),
        to,
        name: None,
        context: [(pair.0.to_owned(), pair.1.to_owned())].into(),
    };
    let file = Location::File(bench.path("out.postern"));
    for (to, pair) in [
        (file, ("a", "1")),
        (Location::Stdio, ("a", "1")),
        (s3("a"), ("kms", "1")),
        (s3("a"), ("a", "\u{e4}")),
        (s3("a"), ("aws:x-amz-cek-alg", "115")),
    ] {
        let mut summary = bench.upload(job(to.clone(), pair)).await;
        let (_, error) = summary.failed.pop().unwrap();
        assert_eq!(error.fault(), Some(Fault::Usage), "{to} {pair:?}: {error}");
    }
    assert!(bench.keys.made.lock().unwrap().is_empty());
}
