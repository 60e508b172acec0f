//! What somebody can do who can write to the bucket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::s3::Fault;
use client::s3::copy::{CopyError, Reading};

use crate::{Bench, Refused, accepting, bench, pattern};

type Metadata = Vec<(String, String)>;

fn with(metadata: &Metadata, name: &str, value: &str) -> Metadata {
    let mut changed: Metadata = without(metadata, name);
    changed.push((name.to_owned(), value.to_owned()));
    changed
}

fn without(metadata: &Metadata, name: &str) -> Metadata {
    let others = metadata.iter().filter(|(other, _)| other != name);
    others.cloned().collect()
}

fn value<'a>(metadata: &'a Metadata, name: &str) -> &'a str {
    let found = metadata.iter().find(|(other, _)| other == name);
    &found.unwrap().1
}

/// Nothing comes out, to a file or a stream, and the fault is one of integrity; returns the error.
async fn refused(bench: &Bench, what: &str) -> CopyError<Refused> {
    let (done, there) = bench.get("attacked", accepting()).await;
    let error = done.expect_err(what);
    assert!(!there, "{what}: a file appeared");
    if !matches!(error, CopyError::Key { .. }) {
        assert_eq!(error.fault(), Some(Fault::Integrity), "{what}: {error}");
    }
    let (out, done) = bench.cat("attacked", None, None, accepting()).await;
    assert!(out.is_empty(), "{what}: {} bytes came out", out.len());
    done.expect_err(what);
    error
}

/// rule: AMZ-2
/// rule: AMZ-8
#[tokio::test(flavor = "multi_thread")]
async fn altered_bodies_and_the_metadata_of_others_are_refused() {
    let bench = bench().await;
    bench.put("one", &pattern(300_000), None, &[]).await;
    bench.put("two", &pattern(300_000), None, &[]).await;
    let (one, body) = bench.raw("one").await;
    let (two, _) = bench.raw("two").await;
    let whole = |error: CopyError<Refused>| error.to_string().contains("failed authentication");
    let commitment = |error: CopyError<Refused>| error.to_string().contains("key commitment");

    for at in [0, 150_000, body.len() - 17, body.len() - 1] {
        let mut altered = body.clone();
        altered[at] ^= 1;
        bench.put_raw("attacked", &one, &altered).await;
        assert!(whole(refused(&bench, "a flipped bit").await));
    }
    for len in [body.len() - 1, body.len() / 2, 16] {
        bench.put_raw("attacked", &one, &body[..len]).await;
        assert!(whole(refused(&bench, "a shorter body").await));
    }
    bench.put_raw("attacked", &one, &body[..15]).await;
    assert!(
        refused(&bench, "no tag")
            .await
            .to_string()
            .contains("cut off")
    );
    // All of the metadata of another object, under the same data key: only the message id differs.
    bench.put_raw("attacked", &two, &body).await;
    assert!(whole(refused(&bench, "swapped metadata").await));
    let swapped = with(&one, "x-amz-i", value(&two, "x-amz-i"));
    bench.put_raw("attacked", &swapped, &body).await;
    assert!(commitment(
        refused(&bench, "the message id of another").await
    ));
    let swapped = with(&one, "x-amz-d", value(&two, "x-amz-d"));
    bench.put_raw("attacked", &swapped, &body).await;
    assert!(commitment(
        refused(&bench, "the commitment of another").await
    ));
    let swapped = with(&one, "x-amz-d", &STANDARD.encode([0; 28]));
    bench.put_raw("attacked", &swapped, &body).await;
    assert!(commitment(refused(&bench, "a commitment of nothing").await));
}

/// rule: AMZ-3
/// rule: AMZ-5
#[tokio::test(flavor = "multi_thread")]
async fn an_object_cannot_be_told_as_one_of_another_version_or_context() {
    let bench = bench().await;
    bench
        .put("one", &pattern(1000), None, &[("owner", "a")])
        .await;
    let (one, body) = bench.raw("one").await;
    let down = |context: &str| -> Metadata {
        [
            ("x-amz-key-v2", value(&one, "x-amz-3")),
            ("x-amz-wrap-alg", "kms+context"),
            ("x-amz-matdesc", context),
            ("x-amz-iv", "AQEBAQEBAQEBAQEB"),
            ("x-amz-cek-alg", "AES/GCM/NoPadding"),
            ("x-amz-tag-len", "128"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    };
    bench
        .put_raw("attacked", &down(value(&one, "x-amz-t")), &body)
        .await;
    let error = refused(&bench, "version 2 by its metadata").await;
    assert!(
        error.to_string().contains("not made for the algorithm"),
        "{error}"
    );
    // With the context of version 2 the wrap is another one's: it does not open.
    let theirs = r#"{"owner":"a","aws:x-amz-cek-alg":"AES/GCM/NoPadding"}"#;
    bench.put_raw("attacked", &down(theirs), &body).await;
    let error = refused(&bench, "version 2 by its context").await;
    assert!(
        matches!(
            error,
            CopyError::Key {
                source: Refused::Wrap,
                ..
            }
        ),
        "{error}"
    );
    let changed = with(
        &one,
        "x-amz-t",
        r#"{"owner":"b","aws:x-amz-cek-alg":"115"}"#,
    );
    bench.put_raw("attacked", &changed, &body).await;
    let error = refused(&bench, "another context").await;
    assert!(
        matches!(
            error,
            CopyError::Key {
                source: Refused::Wrap,
                ..
            }
        ),
        "{error}"
    );
}

/// rule: AMZ-6
#[tokio::test(flavor = "multi_thread")]
async fn an_instruction_file_is_never_read() {
    let bench = bench().await;
    bench.put("one", &pattern(1000), None, &[]).await;
    let (one, body) = bench.raw("one").await;
    // As Amazon's client lays it: the data key in a file beside the object, the rest with the object.
    let beside = serde_json::json!({
        "x-amz-3": value(&one, "x-amz-3"),
        "x-amz-w": "12",
        "x-amz-t": value(&one, "x-amz-t"),
    });
    let mark = vec![("x-amz-crypto-instr-file".to_owned(), String::new())];
    bench
        .put_raw("attacked.instruction", &mark, beside.to_string().as_bytes())
        .await;
    let rest = without(&without(&without(&one, "x-amz-3"), "x-amz-w"), "x-amz-t");
    bench.put_raw("attacked", &rest, &body).await;
    let error = refused(&bench, "an instruction file").await;
    assert!(error.to_string().contains("instruction file"), "{error}");
    assert!(
        bench.keys.opened.lock().unwrap().is_empty(),
        "it was redeemed"
    );
}

/// rule: AMZ-8
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_wants_it_unverified_is_told_at_the_end() {
    let bench = bench().await;
    bench.put("one", &pattern(1_000_000), None, &[]).await;
    let (one, mut body) = bench.raw("one").await;
    body[999_999] ^= 1;
    bench.put_raw("attacked", &one, &body).await;
    let releasing = Reading {
        release_unverified: true,
        ..Reading::default()
    };
    let (out, done) = bench.cat("attacked", None, None, releasing).await;
    assert_eq!(done.unwrap_err().fault(), Some(Fault::Integrity));
    assert!(!out.is_empty(), "nothing was released");
    // For a file the flag changes nothing.
    let (done, there) = bench.get("attacked", releasing).await;
    assert_eq!(
        (done.unwrap_err().fault(), there),
        (Some(Fault::Integrity), false)
    );
}
