//! `postern rewrap s3://bucket/prefix`: after a rotation every object under a prefix gets a new wrap, by a
//! copy onto itself in real S3 servers that are not ours.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::object::ObjectContext;
use client::object::keys::{KeySource, NewItem, NewKey, NewWrap, OpenedKey, Verdicts, WrapItem};
use client::object::metadata::{Context, ObjectMetadata};
use client::redeem::raw_context;
use client::s3::copy::prefix::{
    Position, Prefix, Rewrapper, Stopped, Tally, rewrap_prefix, survey,
};
use client::s3::copy::{CopyError, Job, Options, Quiet, download_many, upload_many};
use client::s3::{AmazonS3Builder, Location, ObjectSource, StoreError, Stores};
use futures::TryStreamExt;
use rustix::process::Signal;
use tests::foreign::{S3, S3_CREDENTIALS};
use tests::home::Home;
use tests::house::{self, House, Said, ended};
use tests::node::Iid;
use tests::wire::{Wire, rng};
use ticket_format::ids::{DatasetId, DekId, ItemDigest, KekId};
use ticket_format::messages::batch::item_digest;
use ticket_format::secret::{Dek, Kek};
use ticket_format::wrapped::{Header, Origin, Wrapped, local, object_context};
use zeroize::Zeroizing;

const BUCKET: &str = "bucket";
const REALM: &str = "test-realm";
const DATASET: DatasetId = DatasetId([7; 16]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Wrap,
    Policy,
    Killed,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refused {}

/// KEK versions as a key server has them, the newest last; real wraps.
struct Vault {
    dataset: DatasetId,
    keks: Mutex<Vec<(KekId, Kek)>>,
}

impl Vault {
    fn new(dataset: DatasetId) -> Self {
        let vault = Self {
            dataset,
            keks: Mutex::default(),
        };
        vault.rotate();
        vault
    }

    fn rotate(&self) {
        let version = (KekId::random(&mut rng()), Kek::random(&mut rng()));
        self.keks.lock().unwrap().push(version);
    }

    fn wrap(&self, dek: &Dek, id: DekId, context: &[u8]) -> NewWrap {
        let keks = self.keks.lock().unwrap();
        let (kek_version, (kek, secret)) = (keks.len() as u64, keks.last().unwrap());
        let header = Header {
            dataset: self.dataset,
            kek: *kek,
            kek_version,
            dek: id,
        };
        let origin = Origin::Generated;
        NewWrap {
            wrapped: local::wrap(secret, REALM, &header, origin, context, dek, &mut rng()),
            kek_version,
        }
    }

    fn open(&self, wrapped: &[u8], context: &[u8]) -> Result<(Dek, Header), Refused> {
        let Ok(Wrapped::Local {
            header,
            origin,
            nonce,
            ciphertext,
        }) = Wrapped::parse(wrapped)
        else {
            return Err(Refused::Wrap);
        };
        let keks = self.keks.lock().unwrap();
        let kek = keks.iter().find(|(id, _)| *id == header.kek);
        let (_, kek) = kek.ok_or(Refused::Wrap)?;
        let opened = local::unwrap(kek, REALM, &header, origin, context, &nonce, &ciphertext);
        Ok((opened.map_err(|_| Refused::Wrap)?, header))
    }

    fn anew(&self, item: &WrapItem) -> Result<NewWrap, Refused> {
        let context = raw(&item.context);
        let (dek, header) = self.open(&item.wrapped, &context)?;
        Ok(self.wrap(&dek, header.dek, &context))
    }
}

fn raw(context: &Context) -> Vec<u8> {
    raw_context(&ticket_format::Context::new(context.clone()).unwrap())
}

impl KeySource for Vault {
    type Error = Refused;

    fn opens(&self, _dataset: ticket_format::ids::DatasetId) -> bool {
        true
    }

    async fn unwrap(&self, items: Vec<WrapItem>) -> Verdicts<OpenedKey, Refused> {
        let open = |item: WrapItem| {
            let context = raw(&item.context);
            let (dek, header) = self.open(&item.wrapped, &context)?;
            Ok(OpenedKey {
                dek: Zeroizing::new(*dek.expose()),
                context: ObjectContext::new(object_context(REALM, &header, &context)),
                signed_commitment: None,
            })
        };
        Ok(items.into_iter().map(open).collect())
    }

    async fn generate(&self, items: Vec<NewItem>) -> Verdicts<NewKey, Refused> {
        let make = |item: NewItem| {
            let (dek, id) = (Dek::random(&mut rng()), DekId::random(&mut rng()));
            let context = raw(&item.context);
            let NewWrap {
                wrapped,
                kek_version,
            } = self.wrap(&dek, id, &context);
            let header = *Wrapped::parse(&wrapped).unwrap().header();
            Ok(NewKey {
                dek: Zeroizing::new(*dek.expose()),
                wrapped,
                kek_version,
                context: ObjectContext::new(object_context(REALM, &header, &context)),
                recoveries: Vec::new(),
            })
        };
        Ok(items.into_iter().map(make).collect())
    }
}

/// A run: how often it asked, what it kept, and what befalls it.
struct Asking<'a> {
    bench: &'a Bench,
    /// Items of each exchange.
    asked: Vec<usize>,
    kept: Position,
    /// It is killed when it has kept wraps of so many objects.
    killed_with: Option<usize>,
    /// This object gets a new wrap from somebody else meanwhile.
    rival: Option<&'static str>,
    /// Objects that the policy refuses.
    refuses: BTreeSet<&'static str>,
    /// The dataset gets a new version after so many exchanges.
    rotates_after: Option<usize>,
    /// Wraps that were said to stand with their objects.
    placed: BTreeSet<ItemDigest>,
    /// It is killed before it says so.
    dumb: bool,
}

impl<'a> Asking<'a> {
    fn of(bench: &'a Bench) -> Self {
        Self {
            bench,
            asked: Vec::new(),
            kept: Position::default(),
            killed_with: None,
            rival: None,
            refuses: BTreeSet::new(),
            rotates_after: None,
            placed: BTreeSet::new(),
            dumb: false,
        }
    }

    async fn run(&mut self) -> (Tally<Refused>, Result<(), Stopped<Refused>>) {
        let position = self.kept.clone();
        let (stores, prefix) = (self.bench.stores.clone(), prefix());
        rewrap_prefix(&stores, &prefix, position, self).await
    }

    async fn runs_through(&mut self) -> Tally<Refused> {
        let (tally, ended) = self.run().await;
        assert!(ended.is_ok(), "{ended:?}");
        tally
    }
}

impl Rewrapper for Asking<'_> {
    type Error = Refused;
    type Stop = Refused;

    async fn confirm(&mut self, placed: Vec<ItemDigest>) -> Result<(), Refused> {
        assert!(placed.len() <= ticket_format::limits::REWRAPS);
        if self.dumb {
            return Err(Refused::Killed);
        }
        self.placed.extend(placed);
        Ok(())
    }

    async fn wrap_anew(
        &mut self,
        items: Vec<WrapItem>,
    ) -> Result<Vec<Result<NewWrap, Refused>>, Refused> {
        assert!(items.len() <= ticket_format::limits::REWRAPS);
        self.asked.push(items.len());
        if let Some(key) = self.rival.take() {
            self.bench.gets_another_wrap(key).await;
        }
        let refused = |item: &WrapItem| {
            let name = &item.context["name"];
            self.refuses.iter().any(|key| name.ends_with(key))
        };
        let anew = |item: &WrapItem| match refused(item) {
            true => Err(Refused::Policy),
            false => self.bench.vault.anew(item),
        };
        let answers = items.iter().map(anew).collect();
        if self.rotates_after == Some(self.asked.len()) {
            self.bench.vault.rotate();
        }
        Ok(answers)
    }

    fn keep(&mut self, position: &Position) -> Result<(), Refused> {
        self.kept = position.clone();
        match self.killed_with {
            Some(made) if position.made.len() >= made => Err(Refused::Killed),
            _ => Ok(()),
        }
    }
}

struct Bench {
    server: S3,
    stores: Stores,
    vault: Vault,
}

async fn bench(kind: &str) -> Bench {
    let server = S3::start(kind);
    let builder = AmazonS3Builder::new()
        .with_access_key_id(S3_CREDENTIALS)
        .with_secret_access_key(S3_CREDENTIALS)
        .with_region("us-east-1");
    let stores = Stores::with_builder(builder, Some(&server.url)).unwrap();
    stores.create_bucket(BUCKET).await.unwrap();
    Bench {
        server,
        stores,
        vault: Vault::new(DATASET),
    }
}

fn prefix() -> Prefix {
    Prefix {
        bucket: BUCKET.to_owned(),
        prefix: "dir/".to_owned(),
        dataset: DATASET,
        parallel: 8,
    }
}

fn s3(key: &str) -> Location {
    format!("s3://{BUCKET}/{key}").parse().unwrap()
}

fn job(from: Location, to: Location, name: Option<&str>) -> Job {
    Job {
        from,
        to,
        name: name.map(str::to_owned),
        context: Context::new(),
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

impl Bench {
    async fn put_by(&self, vault: &Vault, keys: &[String], name: Option<&str>) {
        let path = self.server.dir.path().join("plain");
        std::fs::write(&path, pattern(20_000)).unwrap();
        let jobs = keys
            .iter()
            .map(|key| job(Location::File(path.clone()), s3(key), name));
        let (jobs, options) = (jobs.collect::<Vec<_>>(), Options::default());
        let quiet: Arc<dyn client::s3::copy::Progress> = Arc::new(Quiet);
        let summary = upload_many(&self.stores, vault, jobs, options, &quiet).await;
        assert!(summary.failed.is_empty(), "{:?}", summary.failed);
    }

    async fn put(&self, keys: &[String]) {
        self.put_by(&self.vault, keys, None).await;
    }

    async fn raw(&self, key: &str, body: &[u8], pairs: Vec<(&'static str, String)>) {
        let mut upload = self.stores.upload(BUCKET, key, pairs).unwrap();
        upload.write(body).await.unwrap();
        upload.finish().await.unwrap();
    }

    async fn opens(&self, key: &str, name: Option<&str>) -> bool {
        let path = self.server.dir.path().join("back");
        let jobs = vec![job(s3(key), Location::File(path.clone()), name)];
        let quiet: Arc<dyn client::s3::copy::Progress> = Arc::new(Quiet);
        let options = Options::default();
        let summary = download_many(&self.stores, &self.vault, jobs, options, &quiet).await;
        summary.failed.is_empty() && std::fs::read(path).unwrap() == pattern(20_000)
    }

    async fn stored(&self, key: &str) -> (Vec<u8>, ObjectMetadata) {
        let source = ObjectSource::open(&self.stores, &s3(key)).await.unwrap();
        let metadata = source.metadata.clone();
        let body = source.into_body(&self.stores).await.unwrap();
        let body: Vec<bytes::Bytes> = body.try_collect().await.unwrap();
        (body.concat(), metadata)
    }

    /// How the wrap that stands with an object is named.
    async fn named(&self, key: &str, name: Option<&str>) -> ItemDigest {
        let (_, metadata) = self.stored(key).await;
        let mut context = metadata.stored_context.clone();
        let name = name.map_or_else(|| s3(key).name().unwrap(), str::to_owned);
        context.entry("name".to_owned()).or_insert(name);
        item_digest(&metadata.wrapped, &raw(&context))
    }

    async fn version(&self, key: &str) -> u64 {
        let (_, metadata) = self.stored(key).await;
        let wrapped = Wrapped::parse(&metadata.wrapped).unwrap();
        assert_eq!(wrapped.header().kek_version, metadata.kek_version);
        metadata.kek_version
    }

    /// What another run does at the same time: the body and its ETag stay.
    async fn gets_another_wrap(&self, key: &str) {
        let source = ObjectSource::open(&self.stores, &s3(key)).await.unwrap();
        let mut context = Context::new();
        context.insert("name".to_owned(), s3(key).name().unwrap());
        let wrapped = source.metadata.wrapped.clone();
        let wrap = {
            let recoveries = Vec::new();
            let item = WrapItem {
                wrapped,
                context,
                recoveries,
            };
            self.vault.anew(&item).unwrap()
        };
        let metadata = ObjectMetadata {
            wrapped: wrap.wrapped,
            kek_version: wrap.kek_version,
            stored_context: source.metadata.stored_context.clone(),
            recoveries: Vec::new(),
        };
        let done = source.relabel(&self.stores, &metadata).await;
        assert!(done.unwrap(), "the server copies the object onto itself");
    }
}

fn keys(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("dir/{number:04}")).collect()
}

async fn what_is_older_gets_a_new_wrap(kind: &str) {
    // rule: OBJ-16
    let bench = bench(kind).await;
    bench.put(&keys(0..30)).await;
    let renamed = ["dir/renamed".to_owned()];
    bench
        .put_by(&bench.vault, &renamed, Some("s3://elsewhere/a"))
        .await;
    let foreign = Vault::new(DatasetId([8; 16]));
    bench
        .put_by(&foreign, &["dir/foreign".to_owned()], None)
        .await;
    bench.raw("dir/plain", b"plain", Vec::new()).await;
    bench.put(&["other/a".to_owned()]).await;
    let (body, metadata) = bench.stored("dir/0000").await;
    let mut pairs = metadata.encode().unwrap();
    pairs.push(("team", "vision".to_owned()));
    bench.raw("dir/0000", &body, pairs).await;
    let damaged = vec![
        ("postern-format", "1".to_owned()),
        ("postern-dek", "AAAA".to_owned()),
        ("postern-kek", "1".to_owned()),
    ];
    bench.raw("dir/damaged", b"x", damaged).await;
    bench.vault.rotate();
    bench.put(&keys(30..40)).await;
    let before = bench.stores.head(BUCKET, "dir/0000").await.unwrap();

    let found = survey::<Refused>(&bench.stores, &prefix(), |_| {})
        .await
        .unwrap();
    let counts: Vec<(u64, u64)> = found
        .versions
        .iter()
        .map(|((version, _), count)| (*version, count.objects))
        .collect();
    assert_eq!(counts, [(1, 31), (2, 10)]);
    assert_eq!((found.looked, found.plain, found.others), (44, 1, 1));
    assert_eq!(bench.version("dir/0000").await, 1, "it only looked");

    let mut asking = Asking::of(&bench);
    let tally = asking.runs_through().await;
    assert_eq!(
        asking.asked,
        [1, 30],
        "the first tells which version is current"
    );
    assert_eq!((tally.done.objects, tally.current), (31, 10));
    assert_eq!((tally.looked, tally.plain, tally.others), (44, 1, 1));
    let [(failed, CopyError::Wrap { .. })] = tally.failed.as_slice() else {
        panic!("{:?}", tally.failed);
    };
    assert_eq!(failed.to, s3("dir/damaged"));
    assert_eq!(asking.kept.left, ["dir/damaged".to_owned()].into());
    for key in keys(0..40) {
        assert_eq!(bench.version(&key).await, 2, "{key}");
        assert!(bench.opens(&key, None).await, "{key}");
    }
    assert!(bench.opens("dir/renamed", Some("s3://elsewhere/a")).await);
    assert_eq!(bench.version("dir/renamed").await, 2);
    // rule: REW-2 — what stands with its object now, and nothing else.
    let mut placed = BTreeSet::new();
    for key in keys(0..30) {
        placed.insert(bench.named(&key, None).await);
    }
    placed.insert(bench.named("dir/renamed", None).await);
    assert_eq!(asking.placed, placed);
    assert_eq!(
        bench.version("other/a").await,
        1,
        "it is not under the prefix"
    );
    let after = bench.stores.head(BUCKET, "dir/0000").await.unwrap();
    assert_eq!(before.etag, after.etag, "the body was not touched");
    let team = ("team".to_owned(), "vision".to_owned());
    assert!(after.metadata.contains(&team), "{:?}", after.metadata);
    assert!(bench.stored("dir/0000").await.0 == body);

    // Again: nothing is left to do but to ask which version is current.
    let mut asking = Asking::of(&bench);
    let tally = asking.runs_through().await;
    assert_eq!(asking.asked, [1]);
    assert_eq!((tally.done.objects, tally.current), (1, 40));
}

#[tokio::test]
async fn what_is_older_in_moto_gets_a_new_wrap_and_keeps_its_body() {
    what_is_older_gets_a_new_wrap("moto").await;
}

#[tokio::test]
async fn what_is_older_in_s3rver_gets_a_new_wrap_and_keeps_its_body() {
    what_is_older_gets_a_new_wrap("s3rver").await;
}

#[tokio::test]
async fn a_run_that_was_killed_goes_on_with_the_wraps_that_it_had_asked_for() {
    let bench = bench("moto").await;
    // More than one window, and one that was done before.
    let all = keys(0..600);
    bench.put(&all).await;
    bench.vault.rotate();
    let mut asking = Asking::of(&bench);
    asking.killed_with = Some(500);
    let (tally, ended) = asking.run().await;
    assert!(matches!(ended, Err(Stopped::Rewrapper(Refused::Killed))));
    assert_eq!((tally.done.objects, asking.kept.made.len()), (0, 500));
    // One of them had got to its place, another was written anew.
    let made = asking.kept.made.clone();
    bench.put(&[all[3].clone()]).await;
    asking.killed_with = None;
    let tally = asking.runs_through().await;
    assert_eq!(
        asking.asked,
        [1, 499, 499, 100],
        "from the wraps that were made, not from those before"
    );
    assert_eq!(tally.done.objects, 599);
    // rule: REW-2 — the wraps between are replaced with the first ones.
    for made in made.iter().filter(|made| made.key != all[3]) {
        let context = [("name".to_owned(), s3(&made.key).name().unwrap())].into();
        assert!(
            asking
                .placed
                .contains(&item_digest(&made.wrapped, &raw(&context)))
        );
    }
    assert_eq!(asking.kept.after.as_ref(), all.last());
    assert!(asking.kept.made.is_empty() && asking.kept.left.is_empty());
    for made in &made {
        let (_, metadata) = bench.stored(&made.key).await;
        assert_ne!(metadata.wrapped, made.wrapped);
    }
    for key in &all {
        assert_eq!(bench.version(key).await, 2, "{key}");
    }
}

#[tokio::test]
async fn a_rotation_meanwhile_is_followed() {
    let bench = bench("moto").await;
    bench.put(&keys(0..20)).await;
    bench.vault.rotate();
    let mut asking = Asking::of(&bench);
    asking.rotates_after = Some(1);
    let tally = asking.runs_through().await;
    assert_eq!(asking.asked, [1, 19, 1]);
    assert_eq!(tally.done.objects, 21);
    for key in keys(0..20) {
        assert_eq!(bench.version(&key).await, 3, "{key}");
    }

    // Where a run was cut off, and the version changed before the next: what was done is done anew.
    bench.vault.rotate();
    asking.rotates_after = None;
    asking.asked.clear();
    asking.kept.after = Some("dir/0009".to_owned());
    let tally = asking.runs_through().await;
    assert_eq!(asking.asked, [1, 19]);
    assert_eq!((tally.done.objects, tally.failed.len()), (20, 0));
    for key in keys(0..20) {
        assert_eq!(bench.version(&key).await, 4, "{key}");
    }
}

#[tokio::test]
async fn one_that_is_refused_or_changes_meanwhile_is_left_for_the_next_run() {
    // rule: OBJ-16
    let bench = bench("moto").await;
    bench.put(&keys(0..10)).await;
    bench.vault.rotate();
    let mut asking = Asking::of(&bench);
    asking.rival = Some("dir/0004");
    asking.refuses.insert("dir/0007");
    let tally = asking.runs_through().await;
    assert_eq!((tally.done.objects, tally.failed.len()), (8, 2));
    for (job, error) in &tally.failed {
        match error {
            CopyError::Key { source, .. } => {
                assert_eq!((&job.to, *source), (&s3("dir/0007"), Refused::Policy));
            }
            CopyError::Store(StoreError::Changed(_)) => assert_eq!(job.to, s3("dir/0004")),
            other => panic!("{other}"),
        }
    }
    assert_eq!(bench.version("dir/0007").await, 1);
    asking.refuses.clear();
    let tally = asking.runs_through().await;
    assert_eq!((tally.done.objects, tally.failed.len()), (1, 0));
    assert!(asking.kept.left.is_empty());
    for key in keys(0..10) {
        assert_eq!(bench.version(&key).await, 2, "{key}");
        assert!(bench.opens(&key, None).await, "{key}");
    }
}

/// What a run that goes on keeps beside the node's state.
fn journal(home: &Home) -> Option<serde_json::Value> {
    let dir = std::fs::read_dir(home.dir.join("state/rewrap")).ok()?;
    let mut files = dir.flatten().map(|entry| entry.path());
    let file = files.find(|path| path.extension().is_some_and(|name| name == "json"))?;
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// A node that has logged in, with `objects` objects under `dir/`.
fn node(bench: &Bench, house: &House, objects: usize) -> Home {
    let iid = Iid::real(0);
    let user_data = house.user_data(&iid.account, &[]);
    let mut home = Home::new(house, "node", &iid, &user_data);
    home.s3 = Some(bench.server.url.clone());
    home.run(&["login"]).ok();
    let plain = house.path("plain");
    std::fs::create_dir(&plain).unwrap();
    for number in 0..objects {
        std::fs::write(plain.join(format!("{number:04}")), pattern(20_000)).unwrap();
    }
    let (from, place) = (
        format!("{}/", plain.display()),
        format!("s3://{BUCKET}/dir/"),
    );
    home.run(&["encrypt", &from, &place, "--dataset", house::DATASET])
        .ok();
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_what_it_found_and_ends_as_documented() {
    let bench = bench("moto").await;
    let house = House::start();
    let home = node(&bench, &house, 5);
    bench.raw("dir/plain", b"plain", Vec::new()).await;
    bench.put(&["dir/foreign".to_owned()]).await;
    let place = format!("s3://{BUCKET}/dir/");
    let run = |place: &str, more: &[&str]| {
        let first = [
            "--format",
            "json",
            "rewrap",
            place,
            "--dataset",
            house::DATASET,
        ];
        home.run(&[&first, more].concat())
    };
    let json = |said: &Said| serde_json::from_slice::<serde_json::Value>(&said.stdout).unwrap();

    let said = run(&place, &["--dry-run"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let dry = json(&said);
    for (name, expected) in [
        ("done", 0),
        ("current", 5),
        ("plain", 1),
        ("others", 1),
        ("looked", 7),
    ] {
        // Of a dry run what is current is told by version.
        let found = match name {
            "current" => &dry["versions"][0]["objects"],
            other => &dry[other],
        };
        assert_eq!(found, expected, "{name}: {dry}");
    }
    assert_eq!((&dry["dry_run"], &dry["newest"]), (&true.into(), &1.into()));

    let before = bench.stored("dir/0000").await;
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let done = json(&said);
    assert_eq!(
        (&done["done"], &done["current"]),
        (&1.into(), &4.into()),
        "{done}"
    );
    assert_eq!(done["kek"]["version"], 1);
    let after = bench.stored("dir/0000").await;
    assert!(before.0 == after.0, "the body stays");
    assert_ne!(
        before.1.wrapped, after.1.wrapped,
        "the first tells which version is current"
    );
    assert_eq!(journal(&home), None);
    let text = home
        .run(&["rewrap", &place, "--dataset", house::DATASET])
        .ok();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("1 rewrapped under v1"), "{text}");
    for number in 0..5 {
        let object = format!("{place}{number:04}");
        let said = home.run(&["cat", &object, "--dataset", house::DATASET]);
        assert!(said.stdout == pattern(20_000), "{}", said.stderr);
    }

    // Nothing there, and no such bucket.
    let nothing = run(&format!("s3://{BUCKET}/nothing/"), &[]);
    assert_eq!(nothing.code, Some(6), "{}", nothing.stderr);
    assert_eq!(run("s3://elsewhere/dir/", &[]).code, Some(6));

    // A damaged one is told of, and looked at again by the next run.
    let (_, mut metadata) = bench.stored("dir/0002").await;
    metadata.wrapped.truncate(50);
    let pairs = metadata.encode().unwrap();
    bench.raw("dir/0002", b"body", pairs).await;
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    let damaged = json(&said);
    assert_eq!(damaged["failed"][0]["object"], format!("{place}0002"));
    assert_eq!(
        journal(&home).unwrap()["left"],
        serde_json::json!(["dir/0002"])
    );
    let said = run(&place, &[]);
    assert_eq!(said.code, Some(9), "{}", said.stderr);
    assert!(said.stderr.contains("going on after"), "{}", said.stderr);

    // A file that is named is used, and one that is no such file is not.
    let file = house.path("named/journal");
    let file = file.to_str().unwrap();
    assert_eq!(run(&place, &["--journal", file]).code, Some(9));
    store::files::write_private(std::path::Path::new(file), b"{}").unwrap();
    assert_eq!(run(&place, &["--journal", file]).code, Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_a_prefix_is_rewrapped_killed_and_resumed_and_nothing_is_left_under_the_old_version()
 {
    // rule: INV-1, KEK-2, REW-1, OBJ-16
    let bench = bench("moto").await;
    let house = House::start();
    let home = node(&bench, &house, 50);
    let place = format!("s3://{BUCKET}/dir/");
    let dataset = ["--dataset", house::DATASET];
    let wire = Wire::connect(&house.key_server_server()).await;
    let made = wire.rotate(&house.admins, house::DATASET).await;
    assert_eq!(made.kek_version, 2);
    let rows = wire.keks(&house.admins, house::DATASET).await;
    let wraps: Vec<(u64, u64)> = rows.iter().map(|row| (row.version, row.wraps)).collect();
    assert_eq!(wraps, [(2, 0), (1, 50)]);

    // The record does not say yet that there is another version: a dry run knows of one.
    let rewrap = |more: &[&str]| {
        let first = ["--format", "json", "rewrap", &place];
        home.postern(&[&first, &dataset[..], more].concat())
    };
    let said = ended(rewrap(&["--dry-run"]));
    let dry: serde_json::Value = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!(
        (&dry["looked"], &dry["versions"][0]["objects"]),
        (&50.into(), &50.into())
    );

    // Killed while some objects have their new wraps and others do not; tried again where it was too fast.
    let mut version = 2;
    while !killed_in_the_middle(rewrap(&["--parallel", "1"]), &bench, &home, version).await {
        version = wire.rotate(&house.admins, house::DATASET).await.kek_version;
        assert!(version < 10, "it cannot be caught in the middle");
    }

    let said = ended(rewrap(&[]));
    let done: serde_json::Value = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!(
        (&done["kek"]["version"], &done["failed"]),
        (&version.into(), &serde_json::json!([]))
    );
    assert_eq!(journal(&home), None, "nothing is left to go on with");
    for key in keys(0..50) {
        assert_eq!(bench.version(&key).await, version, "{key}");
    }
    let back = house.path("back");
    let to = format!("{}/", back.display());
    home.run(&[&["decrypt", &place, &to][..], &dataset].concat())
        .ok();
    for number in 0..50 {
        assert!(std::fs::read(back.join(format!("{number:04}"))).unwrap() == pattern(20_000));
    }
    let rows = wire.keks(&house.admins, house::DATASET).await;
    let wraps: Vec<(u64, u64)> = rows.iter().map(|row| (row.version, row.wraps)).collect();
    let older = (1..version).rev().map(|version| (version, 0));
    let expected: Vec<_> = [(version, 50)].into_iter().chain(older).collect();
    assert_eq!(
        wraps, expected,
        "of each object one wrap is known, under the new version"
    );
}

/// Lets a run go on in steps until it has put some of its wraps, and kills it; says whether it had not put
/// all of them by then.
async fn killed_in_the_middle(
    mut run: std::process::Command,
    bench: &Bench,
    home: &Home,
    version: u64,
) -> bool {
    let mut child = run
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let tell = |signal| rustix::process::kill_process(pid, signal).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let made = |kept: serde_json::Value| kept["made"].as_array().unwrap().len();
    while journal(home).map(made) != Some(50) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "it does not begin");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let put = loop {
        tell(Signal::STOP);
        let mut put = 0;
        for key in keys(0..50) {
            put += u64::from(bench.version(&key).await == version);
        }
        if put > 0 || Instant::now() >= deadline {
            break put;
        }
        tell(Signal::CONT);
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(put > 0, "it puts nothing");
    put < 50
}

#[tokio::test]
async fn a_run_that_was_cut_off_before_it_said_what_stands_in_place_is_followed_by_one_that_does() {
    // rule: REW-2
    let bench = bench("moto").await;
    bench.put(&keys(0..6)).await;
    bench.vault.rotate();
    let mut asking = Asking::of(&bench);
    asking.dumb = true;
    let (_, ended) = asking.run().await;
    assert!(matches!(ended, Err(Stopped::Rewrapper(Refused::Killed))));
    assert!(asking.placed.is_empty());
    assert_eq!(bench.version("dir/0003").await, 2, "the objects have them");
    asking.dumb = false;
    asking.runs_through().await;
    let mut placed = BTreeSet::new();
    for key in keys(0..6) {
        placed.insert(bench.named(&key, None).await);
    }
    assert_eq!(asking.placed.intersection(&placed).count(), 6);
}

#[tokio::test]
async fn a_wrap_that_was_made_and_opens_no_more_is_put_beside_no_object() {
    // rule: OBJ-16, REW-2
    let bench = bench("moto").await;
    bench.put(&keys(0..4)).await;
    bench.vault.rotate();
    let mut asking = Asking::of(&bench);
    asking.killed_with = Some(4);
    let (_, ended) = asking.run().await;
    assert!(matches!(ended, Err(Stopped::Rewrapper(Refused::Killed))));
    assert_eq!(bench.version("dir/0000").await, 1);
    // The version that they are under is destroyed before the run goes on.
    bench.vault.rotate();
    bench.vault.keks.lock().unwrap()[1].0 = KekId::random(&mut rng());
    asking.killed_with = None;
    let tally = asking.runs_through().await;
    assert_eq!((tally.done.objects, tally.failed.len()), (4, 0));
    for key in keys(0..4) {
        assert_eq!(bench.version(&key).await, 3, "{key}");
        assert!(bench.opens(&key, None).await, "{key}");
    }
}
