//! Objects written anew at their place in real S3 servers that are not ours (OBJ-16).
#![allow(missing_docs)]

#[path = "../../client/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use client::object::keys::{KeySource, NewItem, NewKey, OpenedKey, Verdicts, WrapItem};
use client::object::metadata::{Context, NAME, ObjectMetadata};
use client::s3::copy::{
    CopyError, Job, Known, Options, Progress, Quiet, Skipped, Summary, Wanted, download_many,
    reencrypt_many, rewrap_many, upload_many,
};
use client::s3::{AmazonS3Builder, Location, ObjectSource, StoreError, Stores};
use futures::TryStreamExt;
use support::{Refused, TestKeys};
use tests::foreign::{S3, S3_CREDENTIALS};
use ticket_format::cbor::Encode as _;
use ticket_format::messages::batch::item_digest;

const BUCKET: &str = "bucket";
/// One request, and more than one part.
const SIZES: [usize; 4] = [0, 1, 100_000, (5 << 20) + 1];

struct Bench {
    server: S3,
    stores: Stores,
    keys: TestKeys,
}

async fn bench(kind: &str) -> Bench {
    let server = S3::start(kind);
    let builder = AmazonS3Builder::new()
        .with_access_key_id(S3_CREDENTIALS)
        .with_secret_access_key(S3_CREDENTIALS)
        .with_region("us-east-1");
    let stores = Stores::with_builder(builder, Some(&server.url)).unwrap();
    stores.create_bucket(BUCKET).await.unwrap();
    let keys = TestKeys::default();
    Bench {
        server,
        stores,
        keys,
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

fn job(from: Location, to: Location) -> Job {
    let context = Context::new();
    Job {
        from,
        to,
        name: None,
        context,
    }
}

impl Bench {
    async fn put(&self, key: &str, object: &[u8]) {
        let path = self.server.dir.path().join("plain");
        std::fs::write(&path, object).unwrap();
        let jobs = vec![job(Location::File(path), s3(key))];
        let summary =
            upload_many(&self.stores, &self.keys, jobs, Options::default(), &quiet()).await;
        assert!(summary.failed.is_empty(), "{:?}", summary.failed);
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, CopyError<Refused>> {
        let path = self.server.dir.path().join("back");
        let jobs = vec![job(s3(key), Location::File(path.clone()))];
        let options = Options::default();
        let mut summary = download_many(&self.stores, &self.keys, jobs, options, &quiet()).await;
        match summary.failed.pop() {
            None => Ok(std::fs::read(path).unwrap()),
            Some((_, error)) => Err(error),
        }
    }

    async fn stored(&self, key: &str) -> (Vec<u8>, ObjectMetadata) {
        let source = ObjectSource::open(&self.stores, &s3(key)).await.unwrap();
        let metadata = source.metadata.clone();
        let body = source.into_body(&self.stores).await.unwrap();
        let body: Vec<bytes::Bytes> = body.try_collect().await.unwrap();
        (body.concat(), metadata)
    }

    /// An object to write anew, if it is under the data key that it has now.
    async fn wanted(&self, key: &str) -> Wanted {
        let (_, metadata) = self.stored(key).await;
        let mut context = metadata.stored_context.clone();
        context.insert(NAME.to_owned(), s3(key).name().unwrap());
        let context = ticket_format::Context::new(context).unwrap();
        let item = item_digest(&metadata.wrapped, &context.to_cbor());
        Wanted {
            job: job(s3(key), s3(key)),
            known: vec![Known::Item(item)],
        }
    }

    async fn reencrypt(&self, wanted: Vec<Wanted>) -> (Summary<Refused>, Vec<(Job, Skipped)>) {
        self.reencrypt_by(&self.keys, wanted).await
    }

    async fn reencrypt_by<K: KeySource<Error = Refused>>(
        &self,
        writer: &K,
        wanted: Vec<Wanted>,
    ) -> (Summary<Refused>, Vec<(Job, Skipped)>) {
        let both = (&self.keys, writer);
        reencrypt_many(&self.stores, both, wanted, Options::default(), &quiet()).await
    }
}

async fn objects_are_reencrypted(kind: &str) {
    // rule: OBJ-16
    let bench = bench(kind).await;
    let mut wanted = Vec::new();
    for len in SIZES {
        let key = format!("dir/{len}");
        bench.put(&key, &pattern(len)).await;
        wanted.push(bench.wanted(&key).await);
    }
    let before = bench.stored("dir/100000").await;
    let (summary, skipped) = bench.reencrypt(wanted.clone()).await;
    assert!(summary.failed.is_empty(), "{:?}", summary.failed);
    assert_eq!((summary.done, skipped.len()), (SIZES.len() as u64, 0));
    assert_eq!(summary.bytes, SIZES.iter().sum::<usize>() as u64);
    for len in SIZES {
        let object = bench.get(&format!("dir/{len}")).await.unwrap();
        assert!(object == pattern(len), "{len} bytes");
    }
    let after = bench.stored("dir/100000").await;
    assert_ne!(before.1.wrapped, after.1.wrapped);
    assert_ne!(before.0[..24], after.0[..24], "the salt is a fresh one");
    // Done again, nothing is: all are under other data keys by now.
    let (summary, skipped) = bench.reencrypt(wanted).await;
    assert_eq!((summary.done, summary.failed.len()), (0, 0));
    assert!(skipped.iter().all(|(_, why)| *why == Skipped::Changed));
    assert_eq!(skipped.len(), SIZES.len());
    assert_eq!(bench.stored("dir/100000").await, after);
}

#[tokio::test]
async fn objects_in_moto_are_written_anew_under_fresh_data_keys() {
    objects_are_reencrypted("moto").await;
}

#[tokio::test]
async fn objects_in_s3rver_are_written_anew_under_fresh_data_keys() {
    objects_are_reencrypted("s3rver").await;
}

#[tokio::test]
async fn what_is_gone_or_plain_is_skipped_and_metadata_of_others_is_kept() {
    // rule: OBJ-16
    let bench = bench("moto").await;
    bench.put("ours", b"ours").await;
    let (body, metadata) = bench.stored("ours").await;
    let mut pairs = metadata.encode().unwrap();
    pairs.push(("team", "vision".to_owned()));
    let mut upload = bench.stores.upload(BUCKET, "ours", pairs).unwrap();
    upload.write(&body).await.unwrap();
    upload.finish().await.unwrap();
    let mut plain = bench.stores.upload(BUCKET, "plain", Vec::new()).unwrap();
    plain.write(b"plain").await.unwrap();
    plain.finish().await.unwrap();
    let ours = bench.wanted("ours").await;
    let elsewhere = |key: &str| Wanted {
        job: job(s3(key), s3(key)),
        known: ours.known.clone(),
    };
    let all = vec![ours.clone(), elsewhere("gone"), elsewhere("plain")];
    let (summary, skipped) = bench.reencrypt(all).await;
    assert_eq!((summary.done, summary.failed.len()), (1, 0));
    let why: Vec<Skipped> = skipped.into_iter().map(|(_, why)| why).collect();
    assert_eq!(why, [Skipped::Gone, Skipped::Plain]);
    let head = bench.stores.head(BUCKET, "ours").await.unwrap();
    let team = ("team".to_owned(), "vision".to_owned());
    assert!(head.metadata.contains(&team), "{:?}", head.metadata);
    assert_eq!(bench.get("ours").await.unwrap(), b"ours");
}

/// Replaces an object while its new data key is made.
struct Meddler<'a> {
    bench: &'a Bench,
    key: String,
}

impl KeySource for Meddler<'_> {
    type Error = Refused;

    fn opens(&self, _dataset: ticket_format::ids::DatasetId) -> bool {
        true
    }

    async fn unwrap(&self, items: Vec<WrapItem>) -> Verdicts<OpenedKey, Refused> {
        self.bench.keys.unwrap(items).await
    }

    async fn generate(&self, items: Vec<NewItem>) -> Verdicts<NewKey, Refused> {
        self.bench.put(&self.key, b"newer").await;
        self.bench.keys.generate(items).await
    }
}

async fn a_newer_object_is_not_overwritten(kind: &str) {
    // rule: OBJ-16
    let bench = bench(kind).await;
    for len in SIZES {
        let key = format!("dir/{len}");
        bench.put(&key, &pattern(len)).await;
        let wanted = vec![bench.wanted(&key).await];
        let meddler = Meddler {
            bench: &bench,
            key: key.clone(),
        };
        let (mut summary, _) = bench.reencrypt_by(&meddler, wanted).await;
        let (_, error) = summary.failed.pop().expect("it was replaced meanwhile");
        let changed = matches!(error, CopyError::Store(StoreError::Changed(_)));
        assert!(changed, "{len} bytes: {error}");
        assert_eq!(bench.get(&key).await.unwrap(), b"newer", "{len} bytes");
    }
}

#[tokio::test]
async fn an_object_in_moto_that_changes_meanwhile_is_left_as_it_is() {
    a_newer_object_is_not_overwritten("moto").await;
}

#[tokio::test]
async fn an_object_in_s3rver_that_changes_meanwhile_is_left_as_it_is() {
    a_newer_object_is_not_overwritten("s3rver").await;
}

/// Replaces an object when the last byte of the new one is under way.
struct Late {
    stores: Stores,
    runtime: tokio::runtime::Handle,
    metadata: Vec<(&'static str, String)>,
}

impl Progress for Late {
    fn advance(&self, bytes: u64) {
        if bytes > 0 {
            tokio::task::block_in_place(|| {
                self.runtime.block_on(async {
                    let pairs = self.metadata.clone();
                    let mut upload = self.stores.upload(BUCKET, "late", pairs).unwrap();
                    upload.write(b"newer").await.unwrap();
                    upload.finish().await.unwrap();
                });
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_replaced_after_it_was_read_is_left_as_it_is() {
    // rule: OBJ-16
    let bench = bench("moto").await;
    bench.put("late", b"older").await;
    let (_, metadata) = bench.stored("late").await;
    let wanted = vec![bench.wanted("late").await];
    let late: Arc<dyn Progress> = Arc::new(Late {
        stores: bench.stores.clone(),
        runtime: tokio::runtime::Handle::current(),
        metadata: metadata.encode().unwrap(),
    });
    let options = Options::default();
    let both = (&bench.keys, &bench.keys);
    let (mut summary, _) = reencrypt_many(&bench.stores, both, wanted, options, &late).await;
    let (_, error) = summary.failed.pop().expect("it was replaced meanwhile");
    assert!(matches!(error, CopyError::Store(StoreError::Changed(_))));
    assert_eq!(bench.stored("late").await.0, b"newer");
}

#[tokio::test]
async fn a_damaged_object_stays_as_it_is_and_does_not_stop_the_others() {
    // rule: OBJ-16
    let bench = bench("moto").await;
    bench.put("good", &pattern(50_000)).await;
    bench.put("bad", &pattern(50_000)).await;
    let (mut body, metadata) = bench.stored("bad").await;
    *body.last_mut().unwrap() ^= 1;
    let pairs = metadata.encode().unwrap();
    let mut upload = bench.stores.upload(BUCKET, "bad", pairs).unwrap();
    upload.write(&body).await.unwrap();
    upload.finish().await.unwrap();
    let wanted = vec![bench.wanted("bad").await, bench.wanted("good").await];
    let (summary, _) = bench.reencrypt(wanted).await;
    assert_eq!((summary.done, summary.failed.len()), (1, 1));
    assert!(matches!(summary.failed[0].1, CopyError::Body { .. }));
    assert_eq!(bench.stored("bad").await, (body, metadata));
    assert_eq!(bench.get("good").await.unwrap(), pattern(50_000));
}

async fn a_new_wrap_leaves_the_body_as_it_is(kind: &str) {
    // rule: OBJ-16
    let bench = bench(kind).await;
    let mut wanted = Vec::new();
    let mut before = Vec::new();
    for len in SIZES {
        let key = format!("dir/{len}");
        bench.put(&key, &pattern(len)).await;
        wanted.push(bench.wanted(&key).await);
        before.push(bench.stored(&key).await);
    }
    let options = Options::default();
    let (summary, skipped) =
        rewrap_many(&bench.stores, &bench.keys, wanted, options, &quiet()).await;
    assert!(summary.failed.is_empty(), "{:?}", summary.failed);
    assert_eq!((summary.done, skipped.len()), (SIZES.len() as u64, 0));
    // rule: REW-2
    assert_eq!(bench.keys.placed.lock().unwrap().len(), SIZES.len());
    for (len, (body, metadata)) in SIZES.into_iter().zip(before) {
        let key = format!("dir/{len}");
        let (body_now, now) = bench.stored(&key).await;
        assert!(body == body_now, "{len} bytes");
        assert_eq!(now.kek_version, 2);
        assert_ne!(now.wrapped, metadata.wrapped);
        assert_eq!(bench.get(&key).await.unwrap(), pattern(len));
    }
}

#[tokio::test]
async fn a_new_wrap_leaves_the_body_in_moto_as_it_is() {
    a_new_wrap_leaves_the_body_as_it_is("moto").await;
}

#[tokio::test]
async fn a_new_wrap_leaves_the_body_in_s3rver_as_it_is() {
    a_new_wrap_leaves_the_body_as_it_is("s3rver").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exposure_plan_is_carried_out_once_and_goes_on_where_it_was_cut_off() {
    // rule: OBJ-16, EXP-1
    use tests::home::Home;
    use tests::house::{DATASET, House};
    use tests::node::Iid;

    let bench = bench("moto").await;
    let house = House::start();
    let homes: Vec<Home> = (0..2)
        .map(|number| {
            let iid = Iid::real(number);
            let user_data = house.user_data(&iid.account, &[]);
            let mut home = Home::new(&house, &format!("node-{number}"), &iid, &user_data);
            home.s3 = Some(bench.server.url.clone());
            home.run(&["login"]).ok();
            home
        })
        .collect();
    let [exposed, other] = homes.as_slice() else {
        panic!()
    };
    let plain = house.path("plain");
    std::fs::create_dir(&plain).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(plain.join(name), pattern(70_000)).unwrap();
    }
    let from = format!("{}/", plain.display());
    let place = format!("s3://{BUCKET}/objects/");
    let encrypt = ["encrypt", &from, &place, "--dataset", DATASET];
    exposed.run(&encrypt).ok();

    let (plan, name) = (house.path("plan.jsonl"), Iid::real(0).node.to_string());
    let plan = plan.to_str().unwrap();
    let exposure = ["exposure", "--node", &name, "--plan", plan];
    house.admin_does(&exposure).ok();
    let before = bench.stored("objects/a").await;

    let rewrap = |more: &[&str]| {
        let all = [&["--format", "json", "rewrap", "--plan", plan], more].concat();
        let said = other.run(&all);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        serde_json::from_slice::<serde_json::Value>(&said.stdout).unwrap()
    };
    let dry = rewrap(&["--dry-run"]);
    assert_eq!(dry["would"].as_array().unwrap().len(), 3, "{dry}");
    assert_eq!(bench.stored("objects/a").await, before);

    // One is written by somebody else meanwhile: under a data key that was not exposed.
    let newer = house.path("newer");
    std::fs::write(&newer, b"newer").unwrap();
    let target = format!("s3://{BUCKET}/objects/c");
    let encrypt = ["encrypt", newer.to_str().unwrap(), &target];
    other
        .run(&[&encrypt[..], &["--dataset", DATASET]].concat())
        .ok();
    let done = rewrap(&[]);
    assert_eq!((&done["done"], &done["earlier"]), (&2.into(), &0.into()));
    let skipped = done["skipped"].as_array().unwrap();
    assert_eq!(skipped[0]["object"], target, "{done}");
    let after = bench.stored("objects/a").await;
    assert_ne!(after.1.wrapped, before.1.wrapped);

    // Again: what stands in the list is not even looked at. A line that was torn is found done.
    let again = rewrap(&[]);
    assert_eq!((&again["done"], &again["earlier"]), (&0.into(), &2.into()));
    let list = format!("{plan}.done");
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, &text[..text.len() - 4]).unwrap();
    let again = rewrap(&[]);
    assert_eq!((&again["done"], &again["earlier"]), (&0.into(), &1.into()));
    assert_eq!(again["skipped"].as_array().unwrap().len(), 2);
    assert_eq!(bench.stored("objects/a").await, after);

    for (name, expected) in [("a", pattern(70_000)), ("c", b"newer".to_vec())] {
        let place = format!("s3://{BUCKET}/objects/{name}");
        let said = exposed.run(&["cat", &place, "--dataset", DATASET]);
        assert!(said.stdout == expected, "{name}: {}", said.stderr);
    }
}
