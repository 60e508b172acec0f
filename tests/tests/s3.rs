//! Encrypted objects in real S3 servers that are not ours: moto and s3rver.

#[path = "../../client/tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::object::metadata::{Context, ObjectMetadata};
use client::object::{BodyError, CHUNK_LEN, MAX_PLAINTEXT_LEN, ciphertext_len};
use client::s3::copy::{
    ByteRange, CopyError, Job, Options, Progress, Quiet, Summary, cat_range, download_many,
    upload_many,
};
use client::s3::{AmazonS3Builder, Fault, Location, ObjectSource, StoreError, Stores};
use futures::{StreamExt, TryStreamExt};
use support::{Refused, TestKeys};

/// A foreign S3 server, ended with the test.
struct Server {
    child: Child,
    url: String,
    dir: tempfile::TempDir,
}

impl Server {
    fn start(kind: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign/s3-server");
        let dir = tempfile::tempdir().unwrap();
        let port_file = dir.path().join("url");
        let mut child = Command::new(script)
            .arg(kind)
            .arg(&port_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{script}: {error}; run tools/test"));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match std::fs::read_to_string(&port_file) {
                Ok(url) if !url.trim().is_empty() => {
                    return Self {
                        child,
                        url: url.trim().to_owned(),
                        dir,
                    };
                }
                _ => {}
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{kind} ended with {status}: run tools/test, or tests/foreign/setup");
            }
            assert!(
                Instant::now() < deadline,
                "{kind} did not come up within a minute"
            );
            // The server is another process: its file is all there is to wait for.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Bench {
    server: Server,
    stores: Stores,
    keys: TestKeys,
}

const BUCKET: &str = "bucket";

async fn bench(kind: &str) -> Bench {
    let server = Server::start(kind);
    let builder = AmazonS3Builder::new()
        .with_access_key_id("S3RVER")
        .with_secret_access_key("S3RVER")
        .with_region("us-east-1");
    let stores = Stores::with_builder(builder, Some(&server.url)).unwrap();
    stores.create_bucket(BUCKET).await.unwrap();
    Bench {
        server,
        stores,
        keys: TestKeys::default(),
    }
}

fn quiet() -> Arc<dyn Progress> {
    Arc::new(Quiet)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn s3(key: &str) -> Location {
    format!("s3://{BUCKET}/{key}").parse().unwrap()
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.server.dir.path().join(name)
    }

    fn job(from: Location, to: Location) -> Job {
        Job {
            from,
            to,
            name: None,
            context: Context::new(),
        }
    }

    async fn run_upload(&self, jobs: Vec<Job>) -> Summary<Refused> {
        upload_many(&self.stores, &self.keys, jobs, Options::default(), &quiet()).await
    }

    async fn put(&self, key: &str, object: &[u8]) {
        let path = self.path("plain");
        std::fs::write(&path, object).unwrap();
        let summary = self
            .run_upload(vec![Self::job(Location::File(path), s3(key))])
            .await;
        assert!(summary.failed.is_empty(), "{:?}", summary.failed);
        assert_eq!(summary.bytes, object.len() as u64);
    }

    async fn get_as(&self, key: &str, name: Option<&str>) -> Result<Vec<u8>, CopyError<Refused>> {
        let path = self.path("back");
        let _ = std::fs::remove_file(&path);
        let job = Job {
            name: name.map(str::to_owned),
            ..Self::job(s3(key), Location::File(path))
        };
        let options = Options::default();
        let mut summary =
            download_many(&self.stores, &self.keys, vec![job], options, &quiet()).await;
        match summary.failed.pop() {
            None => Ok(std::fs::read(self.path("back")).unwrap()),
            Some((_, error)) => {
                assert!(!self.path("back").exists(), "a refused object left a file");
                Err(error)
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, CopyError<Refused>> {
        self.get_as(key, None).await
    }

    /// Body and metadata as stored.
    async fn stored(&self, key: &str) -> (Vec<u8>, ObjectMetadata) {
        let source = ObjectSource::open(&self.stores, &s3(key)).await.unwrap();
        let metadata = source.metadata.clone();
        let body = source.into_body(&self.stores).await.unwrap();
        let body: Vec<bytes::Bytes> = body.try_collect().await.unwrap();
        (body.concat(), metadata)
    }

    /// What an attacker who owns the bucket can do.
    async fn overwrite(&self, key: &str, body: &[u8], metadata: &ObjectMetadata) {
        let mut upload = self
            .stores
            .upload(BUCKET, key, metadata.encode().unwrap())
            .unwrap();
        upload.write(body).await.unwrap();
        upload.finish().await.unwrap();
    }
}

async fn round_trips(kind: &str) {
    let bench = bench(kind).await;
    // The last two go in parts.
    for len in [0, 1, CHUNK_LEN, 100_000, (5 << 20) + 1, 12 << 20] {
        let object = pattern(len);
        let key = format!("dir/ä b+{len}");
        bench.put(&key, &object).await;
        let (body, metadata) = bench.stored(&key).await;
        assert_eq!(body.len() as u64, ciphertext_len(len as u64).unwrap());
        assert_eq!(metadata.kek_version, 1);
        assert!(
            metadata.stored_context.is_empty(),
            "the name is that of the place"
        );
        assert!(bench.get(&key).await.unwrap() == object, "{len} bytes");
        let outside = MAX_PLAINTEXT_LEN;
        for (range, expected) in [
            (
                ByteRange::Between(len as u64 / 2, len as u64 / 2 + 10),
                len / 2..len.min(len / 2 + 10),
            ),
            (ByteRange::Last(5), len.saturating_sub(5)..len),
            (ByteRange::Between(0, outside), 0..len),
        ] {
            let mut out = Vec::new();
            let read = cat_range(
                &bench.stores,
                &bench.keys,
                &s3(&key),
                None,
                Some(range),
                &mut out,
            )
            .await;
            assert_eq!(read.unwrap(), expected.len() as u64);
            assert!(out == object[expected], "{range:?} of {len}");
        }
    }
    let mut keys: Vec<String> = bench
        .stores
        .list(BUCKET, "dir/ä b+1")
        .map_ok(|listed| listed.key)
        .try_collect()
        .await
        .unwrap();
    keys.sort();
    assert_eq!(
        keys,
        [
            "dir/ä b+1",
            "dir/ä b+100000",
            "dir/ä b+12582912",
            "dir/ä b+16384"
        ]
    );
}

#[tokio::test]
async fn objects_of_every_size_come_back_from_moto() {
    round_trips("moto").await;
}

#[tokio::test]
async fn objects_of_every_size_come_back_from_s3rver() {
    round_trips("s3rver").await;
}

/// rule: OBJ-5
/// rule: OBJ-6
/// rule: OBJ-11
async fn swaps_and_cuts_are_refused(kind: &str) {
    let bench = bench(kind).await;
    bench.put("mine", &pattern(50_000)).await;
    bench.put("other", &pattern(50_000)).await;
    let (mine, metadata) = bench.stored("mine").await;
    let (other, other_metadata) = bench.stored("other").await;

    // The whole of one object in the place of the other: its wrap is bound to its name.
    bench.stores.copy(BUCKET, "other", "mine").await.unwrap();
    let error = bench.get("mine").await.unwrap_err();
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
    assert!(
        bench
            .get_as("mine", Some("s3://bucket/other"))
            .await
            .is_ok(),
        "a copy keeps its name"
    );

    // Metadata of one, body of the other.
    for (body, metadata) in [(&other, &metadata), (&mine, &other_metadata)] {
        let key = if std::ptr::eq(metadata, &other_metadata) {
            "other"
        } else {
            "mine"
        };
        bench.overwrite(key, body, metadata).await;
        let error = bench.get(key).await.unwrap_err();
        assert!(
            matches!(
                error,
                CopyError::Body {
                    source: BodyError::WrongCommitment,
                    ..
                }
            ),
            "{error}"
        );
    }

    for cut in [0, 55, 56, 71, 56 + 16_400, 56 + 2 * 16_400, mine.len() - 1] {
        bench.overwrite("mine", &mine[..cut], &metadata).await;
        let error = bench.get("mine").await.unwrap_err();
        assert_eq!(
            error.fault(),
            Some(Fault::Integrity),
            "{cut} bytes: {error}"
        );
    }
    bench.overwrite("mine", &mine, &metadata).await;
    assert_eq!(bench.get("mine").await.unwrap(), pattern(50_000));
}

#[tokio::test]
async fn swapped_and_cut_off_objects_are_refused_from_moto() {
    swaps_and_cuts_are_refused("moto").await;
}

#[tokio::test]
async fn swapped_and_cut_off_objects_are_refused_from_s3rver() {
    swaps_and_cuts_are_refused("s3rver").await;
}

/// rule: OBJ-13
async fn a_replaced_object_is_noticed(kind: &str) {
    let bench = bench(kind).await;
    bench.put("a", &pattern(40_000)).await;
    let source = ObjectSource::open(&bench.stores, &s3("a")).await.unwrap();
    bench.put("a", &pattern(40_001)).await;
    let refused = source.range(&bench.stores, 0..56).await.err().unwrap();
    assert!(matches!(refused, StoreError::Changed(_)), "{refused}");
    assert_eq!(refused.fault(), Fault::Conflict);
    let refused = source.into_body(&bench.stores).await.err().unwrap();
    assert!(matches!(refused, StoreError::Changed(_)), "{refused}");
}

#[tokio::test]
async fn an_object_replaced_between_metadata_and_body_is_noticed_with_moto() {
    a_replaced_object_is_noticed("moto").await;
}

#[tokio::test]
async fn an_object_replaced_between_metadata_and_body_is_noticed_with_s3rver() {
    a_replaced_object_is_noticed("s3rver").await;
}

#[tokio::test]
async fn what_is_missing_or_not_ours_is_told_apart() {
    let bench = bench("moto").await;
    let error = bench.get("absent").await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::NotFound), "{error}");
    let elsewhere: Location = "s3://no-such-bucket/key".parse().unwrap();
    let error = ObjectSource::open(&bench.stores, &elsewhere)
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::NotFound, "{error}");
    let listed = bench
        .stores
        .list("no-such-bucket", "")
        .next()
        .await
        .unwrap();
    assert_eq!(listed.unwrap_err().fault(), Fault::NotFound);
    let mut plain = bench.stores.upload(BUCKET, "plain", Vec::new()).unwrap();
    plain.write(b"just text").await.unwrap();
    plain.finish().await.unwrap();
    let error = bench.get("plain").await.unwrap_err();
    assert!(
        error.to_string().contains("was not encrypted by postern"),
        "{error}"
    );
    let stored: Vec<_> = bench.stores.list(BUCKET, "plain").collect().await;
    assert_eq!(stored.len(), 1);
    bench.stores.create_bucket(BUCKET).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable() {
    let mut bench = bench("moto").await;
    bench.put("a", b"x").await;
    bench.server.child.kill().unwrap();
    bench.server.child.wait().unwrap();
    let error = ObjectSource::open(&bench.stores, &s3("a"))
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::Unreachable, "{error}");
}

/// rule: OBJ-14
#[tokio::test]
async fn an_upload_given_up_is_never_visible() {
    let bench = bench("moto").await;
    let mut small = bench.stores.upload(BUCKET, "small", Vec::new()).unwrap();
    small.write(b"half").await.unwrap();
    small.abort().await;
    let mut large = bench.stores.upload(BUCKET, "large", Vec::new()).unwrap();
    large.write(&pattern(11 << 20)).await.unwrap();
    large.abort().await;
    let mut dropped = bench.stores.upload(BUCKET, "dropped", Vec::new()).unwrap();
    dropped.write(&pattern(6 << 20)).await.unwrap();
    drop(dropped);
    let listed: Vec<_> = bench.stores.list(BUCKET, "").collect().await;
    assert!(listed.is_empty(), "{listed:?}");
}

/// The name is stored where it is not that of the place, and compared.
///
/// rule: OBJ-11
#[tokio::test]
async fn an_object_under_a_name_of_its_own_is_asked_for_by_it() {
    let bench = bench("moto").await;
    let path = bench.path("plain");
    std::fs::write(&path, "figures").unwrap();
    let mut job = Bench::job(Location::File(path), s3("2026/x"));
    job.name = Some("report".to_owned());
    job.context = [("project".to_owned(), "alpha".to_owned())].into();
    assert!(bench.run_upload(vec![job]).await.failed.is_empty());
    let (_, metadata) = bench.stored("2026/x").await;
    assert_eq!(metadata.stored_context["name"], "report");
    assert_eq!(metadata.stored_context["project"], "alpha");
    assert_eq!(
        bench.get_as("2026/x", Some("report")).await.unwrap(),
        b"figures"
    );
    assert!(matches!(
        bench.get("2026/x").await,
        Err(CopyError::Name { .. })
    ));
}

/// A page of a listing has at most 1,000 objects.
#[tokio::test]
async fn a_listing_goes_on_over_its_pages() {
    let bench = bench("moto").await;
    let put = |i: u32| {
        let upload = bench
            .stores
            .upload(BUCKET, &format!("p/{i:04}"), Vec::new());
        async move { upload.unwrap().finish().await }
    };
    let puts = futures::stream::iter((0..1005).map(put)).buffer_unordered(16);
    puts.try_collect::<Vec<()>>().await.unwrap();
    let listed = bench.stores.list(BUCKET, "p/").map_ok(|listed| listed.key);
    let mut keys: Vec<String> = listed.try_collect().await.unwrap();
    keys.sort();
    let expected: Vec<String> = (0..1005).map(|i| format!("p/{i:04}")).collect();
    assert_eq!(keys, expected);
}

/// The server is another process, so what this one holds at most is the client's memory. The test
/// runs itself in a process of its own, since other tests here hold whole objects.
#[test]
fn a_long_object_passes_through_in_constant_memory() {
    const OWN_PROCESS: &str = "POSTERN_TEST_OWN_PROCESS";
    if std::env::var_os(OWN_PROCESS).is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_long_object_passes_through_in_constant_memory"])
            .env(OWN_PROCESS, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let before = peak_kib();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bench = bench("s3rver").await;
        let plain = bench.path("long");
        let len = 80_u64 << 20;
        std::fs::File::create(&plain).unwrap().set_len(len).unwrap();
        let place = |i| s3(&format!("long{i}"));
        // Four at a time, which is the default.
        let jobs = (0..4)
            .map(|i| Bench::job(Location::File(plain.clone()), place(i)))
            .collect();
        let summary = bench.run_upload(jobs).await;
        assert_eq!(summary.bytes, 4 * len, "{:?}", summary.failed);
        let back = |i| Location::File(bench.path(&format!("back{i}")));
        let jobs = (0..4).map(|i| Bench::job(place(i), back(i)));
        let options = Options::default();
        let summary = download_many(&bench.stores, &bench.keys, jobs, options, &quiet()).await;
        assert_eq!(summary.bytes, 4 * len, "{:?}", summary.failed);
    });
    let grown = peak_kib() - before;
    assert!(
        grown < 64 * 1024,
        "{grown} KiB more resident than before, at most"
    );
}

/// Most memory that this process has had resident, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    peak.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test]
async fn two_hundred_objects_take_one_exchange_each_way() {
    let bench = bench("moto").await;
    let dir = bench.path("many");
    std::fs::create_dir(&dir).unwrap();
    let name = |i: u32| format!("object-{i:03}");
    let file = |dir: &Path, i: u32| Location::File(dir.join(name(i)));
    for i in 0..200 {
        std::fs::write(dir.join(name(i)), name(i)).unwrap();
    }
    let jobs = (0..200)
        .map(|i| Bench::job(file(&dir, i), s3(&name(i))))
        .collect();
    let summary = bench.run_upload(jobs).await;
    assert_eq!(
        (summary.done, summary.failed.len()),
        (200, 0),
        "{:?}",
        summary.failed
    );
    let out = bench.path("out");
    std::fs::create_dir(&out).unwrap();
    let jobs = (0..200).map(|i| Bench::job(s3(&name(i)), file(&out, i)));
    let options = Options::default();
    let summary = download_many(&bench.stores, &bench.keys, jobs, options, &quiet()).await;
    assert_eq!(
        (summary.done, summary.failed.len()),
        (200, 0),
        "{:?}",
        summary.failed
    );
    assert_eq!(*bench.keys.exchanges.lock().unwrap(), [200, 200]);
    for i in 0..200 {
        assert_eq!(std::fs::read_to_string(out.join(name(i))).unwrap(), name(i));
    }
}
