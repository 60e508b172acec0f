//! Encrypting files to containers and back, many at a time, without any server.

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use client::object::metadata::{Context, MetadataError};
use client::object::{BodyError, CHUNK_LEN};
use client::s3::copy::{
    ByteRange, CopyError, Job, Options, Progress, Quiet, Summary, cat_range, download_many,
    upload_many,
};
use client::s3::{Fault, Location, StoreError, Stores};
use object_store::aws::AmazonS3Builder;
use support::{Refused, TestKeys};

struct Bench {
    dir: tempfile::TempDir,
    stores: Stores,
    keys: TestKeys,
}

fn bench() -> Bench {
    Bench {
        dir: tempfile::tempdir().unwrap(),
        stores: Stores::with_builder(AmazonS3Builder::new(), None).unwrap(),
        keys: TestKeys::default(),
    }
}

fn quiet() -> Arc<dyn Progress> {
    Arc::new(Quiet)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn job(&self, from: &str, to: &str) -> Job {
        Job {
            from: Location::File(self.path(from)),
            to: Location::File(self.path(to)),
            name: None,
            context: Context::new(),
        }
    }

    async fn encrypt(&self, jobs: Vec<Job>) -> Summary<Refused> {
        upload_many(&self.stores, &self.keys, jobs, Options::default(), &quiet()).await
    }

    async fn decrypt(&self, jobs: Vec<Job>) -> Summary<Refused> {
        download_many(&self.stores, &self.keys, jobs, Options::default(), &quiet()).await
    }

    /// Makes `name` and its container.
    async fn encrypted(&self, name: &str, object: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), object).unwrap();
        let container = format!("{name}.postern");
        let summary = self.encrypt(vec![self.job(name, &container)]).await;
        assert!(summary.failed.is_empty(), "{:?}", summary.failed);
        self.path(&container)
    }

    async fn refused(&self, from: &str) -> CopyError<Refused> {
        let mut summary = self.decrypt(vec![self.job(from, "out")]).await;
        assert!(!self.path("out").exists(), "a refused object left a file");
        assert_eq!(summary.done, 0);
        summary.failed.pop().unwrap().1
    }

    async fn cat(
        &self,
        from: &str,
        range: Option<ByteRange>,
    ) -> Result<Vec<u8>, CopyError<Refused>> {
        let from = Location::File(self.path(from));
        let mut out = Vec::new();
        let written = cat_range(&self.stores, &self.keys, &from, None, range, &mut out).await;
        written.map(|written| {
            assert_eq!(written, out.len() as u64);
            out
        })
    }
}

fn alter(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// rule: OBJ-12
/// rule: OBJ-14
#[tokio::test]
async fn files_of_every_size_come_back_and_hold_no_plaintext() {
    let bench = bench();
    for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3_000_000] {
        let object = pattern(len);
        let container = bench.encrypted("a", &object).await;
        let stored = std::fs::read(&container).unwrap();
        assert!(stored.starts_with(b"postern1"));
        if len > 1000 {
            assert!(!stored.windows(64).any(|window| window == &object[..64]));
        }
        let summary = bench.decrypt(vec![bench.job("a.postern", "back")]).await;
        assert!(summary.failed.is_empty(), "{:?}", summary.failed);
        assert_eq!((summary.done, summary.bytes), (1, len as u64));
        assert_eq!(std::fs::read(bench.path("back")).unwrap(), object);
    }
}

#[tokio::test]
async fn ranges_of_small_and_large_files_come_back() {
    let bench = bench();
    for len in [100, 2_000_000] {
        let object = pattern(len);
        bench.encrypted("a", &object).await;
        assert_eq!(bench.cat("a.postern", None).await.unwrap(), object);
        for (range, expected) in [
            (ByteRange::Between(10, 20), &object[10..20]),
            (ByteRange::Between(90, 90), &[][..]),
            (ByteRange::From(95), &object[95..]),
            (ByteRange::Last(7), &object[len - 7..]),
            (ByteRange::Between(50, u64::MAX), &object[50..]),
        ] {
            assert_eq!(
                bench.cat("a.postern", Some(range)).await.unwrap(),
                expected,
                "{range:?}"
            );
        }
        let outside = bench
            .cat("a.postern", Some(ByteRange::From(len as u64 + 1)))
            .await;
        assert_eq!(outside.unwrap_err().fault(), Some(Fault::Usage));
    }
}

/// rule: OBJ-9
#[tokio::test]
async fn a_cut_off_file_is_refused_before_a_byte_of_it_is_shown() {
    let bench = bench();
    for len in [100, 2_000_000] {
        let container = bench.encrypted("a", &pattern(len)).await;
        alter(&container, |bytes| bytes.truncate(bytes.len() - 50));
        let from = Location::File(container);
        let mut out = Vec::new();
        let refused = cat_range(&bench.stores, &bench.keys, &from, None, None, &mut out).await;
        assert_eq!(refused.unwrap_err().fault(), Some(Fault::Integrity));
        assert!(out.is_empty());
    }
}

#[tokio::test]
async fn damage_anywhere_in_a_file_is_refused_and_leaves_no_output() {
    let bench = bench();
    let container = bench.encrypted("a", &pattern(40_000)).await;
    let good = std::fs::read(&container).unwrap();
    let body = good.len() - 40_000 - 3 * 16 - 56;
    for place in [
        0,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        100,
        body - 1,
        body,
        body + 55,
        body + 56,
        good.len() - 1,
    ] {
        alter(&container, |bytes| bytes[place] ^= 1);
        let error = bench.refused("a.postern").await;
        assert_ne!(error.fault(), Some(Fault::Local), "byte {place}: {error}");
        alter(&container, |bytes| bytes[place] ^= 1);
    }
    for len in [
        0,
        5,
        9,
        10,
        50,
        body,
        body + 55,
        body + 56,
        body + 56 + 16_400,
        good.len() - 1,
    ] {
        alter(&container, |bytes| bytes.truncate(len));
        let error = bench.refused("a.postern").await;
        assert_eq!(
            error.fault(),
            Some(Fault::Integrity),
            "{len} bytes: {error}"
        );
        std::fs::write(&container, &good).unwrap();
    }
    assert!(
        bench
            .decrypt(vec![bench.job("a.postern", "out")])
            .await
            .failed
            .is_empty()
    );
}

#[tokio::test]
async fn a_file_that_was_never_encrypted_is_told_apart() {
    let bench = bench();
    std::fs::write(bench.path("plain"), "just text").unwrap();
    let error = bench.refused("plain").await;
    assert!(
        error.to_string().contains("was not encrypted by postern"),
        "{error}"
    );
    let error = bench.refused("absent").await;
    assert_eq!(error.fault(), Some(Fault::NotFound));
}

/// rule: OBJ-11
#[tokio::test]
async fn a_renamed_file_is_refused_unless_asked_for_by_its_name() {
    let bench = bench();
    let container = bench.encrypted("report", b"figures").await;
    std::fs::rename(container, bench.path("invoice.postern")).unwrap();
    let error = bench.refused("invoice.postern").await;
    assert!(matches!(error, CopyError::Name { .. }));
    assert_eq!(error.fault(), Some(Fault::Integrity));
    assert!(error.to_string().contains("--name"), "{error}");
    let job = Job {
        name: Some("report".into()),
        ..bench.job("invoice.postern", "out")
    };
    assert!(bench.decrypt(vec![job]).await.failed.is_empty());
    assert_eq!(std::fs::read(bench.path("out")).unwrap(), b"figures");
}

/// The name in the header can be rewritten by anyone; the wrap then does not open.
///
/// rule: OBJ-11
#[tokio::test]
async fn a_name_rewritten_in_the_header_is_refused_by_the_key_server() {
    let bench = bench();
    let container = bench.encrypted("aaaa", b"figures").await;
    alter(&container, |bytes| {
        let at = bytes
            .windows(4)
            .position(|window| window == b"aaaa")
            .unwrap();
        bytes[at..at + 4].copy_from_slice(b"bbbb");
    });
    std::fs::rename(container, bench.path("bbbb.postern")).unwrap();
    let error = bench.refused("bbbb.postern").await;
    assert!(
        matches!(
            error,
            CopyError::Key {
                source: Refused::Authentication,
                ..
            }
        ),
        "{error}"
    );
}

/// rule: OBJ-5
#[tokio::test]
async fn the_body_of_another_object_under_our_header_is_refused() {
    let bench = bench();
    let mine = bench.encrypted("mine", &pattern(100)).await;
    let other = std::fs::read(bench.encrypted("other", &pattern(100)).await).unwrap();
    let body = 100 + 16 + 56;
    alter(&mine, |bytes| {
        let at = bytes.len() - body;
        bytes[at..].copy_from_slice(&other[other.len() - body..]);
    });
    let error = bench.refused("mine.postern").await;
    assert!(matches!(
        error,
        CopyError::Body {
            source: BodyError::WrongCommitment,
            ..
        }
    ));
}

/// rule: OBJ-5
#[tokio::test]
async fn a_body_that_the_producer_did_not_sign_is_refused_though_its_key_fits() {
    let mut bench = bench();
    bench.keys.signed = true;
    let container = bench.encrypted("a", b"signed").await;
    assert_eq!(bench.cat("a.postern", None).await.unwrap(), b"signed");
    // Who knows the data key makes another body under another salt: it opens, but is not signed.
    bench.keys.signed = false;
    let opened = {
        use client::object::keys::{KeySource, WrapItem};
        let place = Location::File(container.clone());
        let source = client::s3::ObjectSource::open(&bench.stores, &place).await;
        let metadata = source.unwrap().metadata;
        let context = metadata.context_for("a").unwrap();
        let item = WrapItem {
            wrapped: metadata.wrapped,
            context,
            recoveries: Vec::new(),
        };
        bench
            .keys
            .unwrap(vec![item])
            .await
            .unwrap()
            .pop()
            .unwrap()
            .unwrap()
    };
    alter(&container, |bytes| {
        bytes.truncate(bytes.len() - (6 + 16 + 56));
        let mut encryptor =
            client::object::Encryptor::start(&opened.dek, &opened.context, [1; 24], bytes).unwrap();
        encryptor.update(b"forged", bytes).unwrap();
        encryptor.finish(bytes).unwrap();
    });
    assert_eq!(
        bench.cat("a.postern", None).await.unwrap(),
        b"forged",
        "without a signature it opens"
    );
    bench.keys.signed = true;
    let error = bench.cat("a.postern", None).await.unwrap_err();
    assert!(matches!(
        error,
        CopyError::Body {
            source: BodyError::WrongCommitment,
            ..
        }
    ));
    let error = bench.refused("a.postern").await;
    assert!(matches!(
        error,
        CopyError::Body {
            source: BodyError::WrongCommitment,
            ..
        }
    ));
}

#[tokio::test]
async fn many_files_take_one_exchange_per_batch_and_one_bad_file_spoils_no_other() {
    let bench = bench();
    let names: Vec<String> = (0..25).map(|i| format!("f{i}")).collect();
    for name in &names {
        std::fs::write(bench.path(name), name).unwrap();
    }
    let options = Options {
        parallel: 3,
        batch: 10,
        ..Options::default()
    };
    let jobs = names
        .iter()
        .map(|name| bench.job(name, &format!("{name}.postern")));
    let summary = upload_many(&bench.stores, &bench.keys, jobs, options, &quiet()).await;
    assert_eq!((summary.done, summary.failed.len()), (25, 0));
    assert_eq!(*bench.keys.exchanges.lock().unwrap(), [10, 10, 5]);

    alter(&bench.path("f3.postern"), |bytes| {
        *bytes.last_mut().unwrap() ^= 1
    });
    std::fs::remove_file(bench.path("f4.postern")).unwrap();
    let jobs = names
        .iter()
        .map(|name| bench.job(&format!("{name}.postern"), &format!("{name}.out")));
    let seen = Arc::new(Seen::default());
    let progress: Arc<dyn Progress> = Arc::clone(&seen) as _;
    let summary = download_many(&bench.stores, &bench.keys, jobs, options, &progress).await;
    assert_eq!(summary.done, 23);
    let mut failed: Vec<_> = summary
        .failed
        .iter()
        .map(|(job, error)| (job.from.name().unwrap(), error.fault()))
        .collect();
    failed.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        failed,
        [
            ("f3".to_owned(), Some(Fault::Integrity)),
            ("f4".to_owned(), Some(Fault::NotFound))
        ]
    );
    assert_eq!(bench.keys.exchanges.lock().unwrap()[3..], [9, 10, 5]);
    for name in names.iter().filter(|name| *name != "f3" && *name != "f4") {
        assert_eq!(
            std::fs::read_to_string(bench.path(&format!("{name}.out"))).unwrap(),
            *name
        );
    }
    let seen = seen.0.lock().unwrap();
    assert_eq!((seen.begun, seen.ended, seen.failed), (24, 25, 2));
    assert_eq!(seen.bytes, summary.bytes);
}

#[derive(Default)]
struct Seen(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    begun: u32,
    ended: u32,
    failed: u32,
    bytes: u64,
}

impl Progress for Seen {
    fn begin(&self, _: &Job, _: Option<u64>) {
        self.0.lock().unwrap().begun += 1;
    }
    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().bytes += bytes;
    }
    fn end(&self, _: &Job, failure: Option<&dyn std::error::Error>) {
        let mut counts = self.0.lock().unwrap();
        counts.ended += 1;
        counts.failed += u32::from(failure.is_some());
    }
}

#[tokio::test]
async fn an_unreachable_key_server_ends_the_copy_and_keeps_what_is_done() {
    let mut bench = bench();
    bench.keys.fail_at = Some(1);
    for i in 0..5 {
        std::fs::write(bench.path(&format!("f{i}")), "x").unwrap();
    }
    let jobs = (0..5).map(|i| bench.job(&format!("f{i}"), &format!("f{i}.postern")));
    let options = Options {
        parallel: 2,
        batch: 2,
        ..Options::default()
    };
    let summary = upload_many(&bench.stores, &bench.keys, jobs, options, &quiet()).await;
    assert_eq!(summary.done, 2);
    assert_eq!(summary.aborted, Some(Refused::Unreachable));
    assert!(bench.path("f1.postern").exists() && !bench.path("f2.postern").exists());
}

#[tokio::test]
async fn too_few_answers_are_an_integrity_failure_and_not_shifted_keys() {
    let mut bench = bench();
    bench.keys.short = true;
    for name in ["a", "b"] {
        std::fs::write(bench.path(name), "x").unwrap();
    }
    let jobs = vec![bench.job("a", "a.postern"), bench.job("b", "b.postern")];
    let summary = bench.encrypt(jobs).await;
    assert_eq!(summary.done, 0);
    assert!(
        summary
            .failed
            .iter()
            .all(|(_, e)| e.fault() == Some(Fault::Integrity))
    );
}

#[tokio::test]
async fn a_context_over_a_limit_is_refused_before_the_key_server_is_asked() {
    let bench = bench();
    std::fs::write(bench.path("a"), "x").unwrap();
    let context: Context = [("k".to_owned(), "v".repeat(2000))].into();
    let job = Job {
        context,
        ..bench.job("a", "a.postern")
    };
    let summary = bench.encrypt(vec![job]).await;
    let (_, error) = &summary.failed[0];
    assert!(matches!(
        error,
        CopyError::Context {
            source: MetadataError::ContextLimit,
            ..
        }
    ));
    assert!(bench.keys.exchanges.lock().unwrap().is_empty());
}

/// rule: OBJ-15
#[tokio::test]
async fn plaintext_is_not_written_to_s3_and_stdin_needs_a_name() {
    let bench = bench();
    bench.encrypted("a", b"x").await;
    let s3: Location = "s3://bucket/key".parse().unwrap();
    let job = Job {
        to: s3.clone(),
        ..bench.job("a.postern", "x")
    };
    let summary = bench.decrypt(vec![job]).await;
    assert!(matches!(
        summary.failed[0].1,
        CopyError::Store(StoreError::Unsupported(_))
    ));
    let job = Job {
        from: Location::Stdio,
        ..bench.job("a", "out")
    };
    let summary = bench.decrypt(vec![job]).await;
    assert!(matches!(summary.failed[0].1, CopyError::NoName(_)));
}

/// rule: OBJ-14
#[tokio::test]
async fn a_copy_given_up_half_way_leaves_no_file() {
    let bench = bench();
    bench.encrypted("a", &pattern(4_000_000)).await;
    {
        let jobs = vec![bench.job("a.postern", "out")];
        let copy = bench.decrypt(jobs);
        tokio::pin!(copy);
        // Polled a few times, then dropped, as on Ctrl-C.
        for _ in 0..3 {
            let _ = futures::poll!(&mut copy);
            tokio::task::yield_now().await;
        }
    }
    let left = || -> Vec<String> {
        std::fs::read_dir(bench.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "a" && name != "a.postern" && name != "out")
            .collect()
    };
    // The dropped task ends when the runtime comes to it, after what it left to another thread.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !left().is_empty() && std::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(left().is_empty(), "{:?}", left());
}
