//! Objects of the Amazon S3 Encryption Client in a real S3 server, written and read by Amazon's own client and by ours.

mod attacks;
mod both_ways;
mod processes;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::door::blob::Blob;
use client::object::ObjectContext;
use client::object::keys::{KeySource, NewItem, NewKey, OpenedKey, Verdicts, WrapItem};
use client::object::metadata::Context;
use client::s3::copy::{
    ByteRange, CopyError, Format, Job, Options, Quiet, Reading, Summary, cat_range_as,
    download_many, upload_many,
};
use client::s3::{AmazonS3Builder, BodyStream, Location, Stores};
use futures::TryStreamExt as _;
use tests::foreign::{S3, S3_CREDENTIALS};
use tests::house::Said;
use ticket_format::cbor::Writer;
use ticket_format::ids::DatasetId;
use zeroize::Zeroizing;

const BUCKET: &str = "bucket";
const DATASET: DatasetId = DatasetId([7; 16]);
const DEK: [u8; 32] = [0x5a; 32];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Another wrap, or another context than it was made with.
    Wrap,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refused {}

/// A key source that has one data key. Its wrap opens for the contexts that it was asked for with, or with
/// `any` for all, as Amazon's client is given it by `--fixed`.
#[derive(Default)]
struct OneKey {
    any: bool,
    made: Mutex<Vec<Context>>,
    /// Contexts that keys were asked with, to open.
    opened: Mutex<Vec<Context>>,
}

/// The wrap, as a key server makes it, to look at.
fn wrapped() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(9).uint(1).uint(1).bytes(&DATASET.0);
    writer.bytes(&[2; 16]).uint(1).bytes(&[3; 16]);
    writer.uint(0).bytes(&[4; 24]).bytes(&[5; 48]);
    writer.into_bytes()
}

fn blob() -> String {
    let blob = Blob {
        dataset: DATASET,
        wrapped: wrapped(),
        form: "data-key/32".to_owned(),
        sealed: None,
    };
    STANDARD.encode(blob.to_bytes())
}

impl KeySource for OneKey {
    type Error = Refused;

    fn opens(&self, dataset: DatasetId) -> bool {
        dataset == DATASET
    }

    async fn unwrap(&self, items: Vec<WrapItem>) -> Verdicts<OpenedKey, Refused> {
        let made = self.made.lock().unwrap();
        let open = |item: WrapItem| {
            let known = self.any || made.contains(&item.context);
            self.opened.lock().unwrap().push(item.context);
            if item.wrapped != wrapped() || !known {
                return Err(Refused::Wrap);
            }
            Ok(OpenedKey {
                dek: Zeroizing::new(DEK),
                context: ObjectContext::new(Vec::new()),
                signed_commitment: None,
            })
        };
        Ok(items.into_iter().map(open).collect())
    }

    async fn generate(&self, items: Vec<NewItem>) -> Verdicts<NewKey, Refused> {
        let make = |item: NewItem| {
            self.made.lock().unwrap().push(item.context);
            Ok(NewKey {
                dek: Zeroizing::new(DEK),
                wrapped: wrapped(),
                kek_version: 1,
                context: ObjectContext::new(Vec::new()),
                recoveries: Vec::new(),
            })
        };
        Ok(items.into_iter().map(make).collect())
    }
}

/// moto, a bucket in it, and the one key.
struct Bench {
    server: S3,
    stores: Stores,
    keys: OneKey,
}

async fn bench() -> Bench {
    let server = S3::start("moto");
    let builder = AmazonS3Builder::new()
        .with_access_key_id(S3_CREDENTIALS)
        .with_secret_access_key(S3_CREDENTIALS)
        .with_region("us-east-1");
    let stores = Stores::with_builder(builder, Some(&server.url)).unwrap();
    stores.create_bucket(BUCKET).await.unwrap();
    Bench {
        server,
        stores,
        keys: OneKey::default(),
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn s3(key: &str) -> Location {
    format!("s3://{BUCKET}/{key}").parse().unwrap()
}

fn accepting() -> Reading {
    Reading {
        accept_uncommitted: true,
        ..Reading::default()
    }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.server.dir.path().join(name)
    }

    /// Our client puts.
    async fn put(&self, key: &str, plain: &[u8], name: Option<&str>, context: &[(&str, &str)]) {
        let path = self.path("plain");
        std::fs::write(&path, plain).unwrap();
        let pairs = context.iter();
        let job = Job {
            from: Location::File(path),
            to: s3(key),
            name: name.map(str::to_owned),
            context: pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let summary = self.upload(job).await;
        assert!(summary.failed.is_empty(), "{:?}", summary.failed);
    }

    async fn upload(&self, job: Job) -> Summary<Refused> {
        let options = Options {
            format: Format::S3ec,
            ..Options::default()
        };
        let quiet = Arc::new(Quiet) as _;
        upload_many(&self.stores, &self.keys, [job], options, &quiet).await
    }

    /// Our client gets to a file; what stands there afterwards comes back too.
    async fn get(&self, key: &str, reading: Reading) -> (Result<u64, CopyError<Refused>>, bool) {
        let path = self.path("back");
        let _ = std::fs::remove_file(&path);
        let job = Job {
            from: s3(key),
            to: Location::File(path.clone()),
            name: None,
            context: Context::new(),
        };
        let options = Options {
            reading,
            ..Options::default()
        };
        let quiet = Arc::new(Quiet) as _;
        let mut summary = download_many(&self.stores, &self.keys, [job], options, &quiet).await;
        assert!(summary.aborted.is_none());
        let leftover = std::fs::read_dir(self.server.dir.path()).unwrap();
        let leftover = leftover.map(|entry| entry.unwrap().file_name());
        assert!(
            leftover
                .into_iter()
                .all(|name| !name.to_string_lossy().ends_with(".part"))
        );
        let result = summary
            .failed
            .pop()
            .map_or(Ok(summary.bytes), |(_, error)| Err(error));
        (result, path.exists())
    }

    /// Our client gets to a stream: what came, and how it ended.
    async fn cat(
        &self,
        key: &str,
        name: Option<&str>,
        range: Option<ByteRange>,
        reading: Reading,
    ) -> (Vec<u8>, Result<u64, CopyError<Refused>>) {
        let mut out = Vec::new();
        let (stores, keys) = (&self.stores, &self.keys);
        let done = cat_range_as(stores, keys, &s3(key), name, range, reading, &mut out).await;
        (out, done)
    }

    /// Amazon's client puts or gets, with the one key.
    fn theirs(&self, command: &str, key: &str, file: &str, more: &[&str]) -> Said {
        let file = self.path(file);
        let dek: String = DEK.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut arguments = vec!["s3ec.py", command, &self.server.url, BUCKET, key];
        arguments.push(file.to_str().unwrap());
        let blob = blob();
        arguments.extend(["--fixed", &dek, &blob]);
        arguments.extend(more);
        tests::foreign::run(&arguments)
    }

    /// Metadata and body, as they are stored.
    async fn raw(&self, key: &str) -> (Vec<(String, String)>, Vec<u8>) {
        let head = self.stores.head(BUCKET, key).await.unwrap();
        let body: BodyStream = self
            .stores
            .get(BUCKET, key, &head, 0..head.size)
            .await
            .unwrap();
        let pieces: Vec<Bytes> = body.try_collect().await.unwrap();
        (head.metadata, pieces.concat())
    }

    /// Puts metadata and body as they are.
    async fn put_raw(&self, key: &str, metadata: &[(String, String)], body: &[u8]) {
        let pairs = metadata.iter();
        let pairs = pairs.map(|(name, value)| {
            // The store's names live as long as the process, as those of a format do.
            let name: &'static str = name.clone().leak();
            (name, value.clone())
        });
        let mut upload = self.stores.upload(BUCKET, key, pairs.collect()).unwrap();
        upload.write(body).await.unwrap();
        upload.finish().await.unwrap();
    }
}
