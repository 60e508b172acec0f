use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use audit_log::Options;
use getrandom::SysRng;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand_core::UnwrapErr;
use sha2::{Digest as _, Sha256};
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::Kind;
use ticket_format::ids::{ActId, DatasetId};
use ticket_format::keys::TlsSecret;
use ticket_format::statement::Role;
use ticket_format::tlog::{LogSecret, Origin};

use super::*;

const DATASET: DatasetId = DatasetId([7; 16]);

fn kek(n: u8) -> KekId {
    KekId([n; 16])
}

fn digest(n: u8) -> ItemDigest {
    ItemDigest([n; 32])
}

fn batch(kind: Kind, items: &[u8]) -> Entry {
    let act = ActId::random(&mut UnwrapErr(SysRng));
    let items = items.iter().map(|n| (digest(*n), Ok(()))).collect();
    Entry::new(act, kind, Timestamp::from_seconds(1_000))
        .dataset(DATASET)
        .subject("a node")
        .items(items)
}

fn generate(under: u8, items: &[u8]) -> Entry {
    batch(Kind::Generate, items).kek(kek(under))
}

/// Items, each with the version that its wrap is under.
fn redeem(items: &[(u8, u8)]) -> Entry {
    let digests: Vec<_> = items.iter().map(|(item, _)| *item).collect();
    named(batch(Kind::Redeem, &digests), items)
}

fn named(entry: Entry, items: &[(u8, u8)]) -> Entry {
    let keks: BTreeSet<_> = items.iter().map(|(_, kek)| *kek).collect();
    let keks: Vec<_> = keks.into_iter().collect();
    let place = |kek: &u8| keks.iter().position(|known| known == kek).unwrap() as u8;
    let of = items.iter().map(|(_, kek)| place(kek)).collect();
    entry.keks(keks.iter().map(|n| kek(*n)).collect(), of)
}

/// Items, each with its version; and how their new wraps are named.
fn rewrap(items: &[(u8, u8)], under: u8, new: &[u8], confirmed: &[u8]) -> Entry {
    let digests: Vec<_> = items.iter().map(|(item, _)| *item).collect();
    let entry = named(batch(Kind::Rewrap, &digests), items)
        .kek(kek(under))
        .moved(new.iter().map(|n| digest(*n)).collect());
    if confirmed.is_empty() {
        entry
    } else {
        entry.confirmed(confirmed.iter().map(|n| digest(*n)).collect())
    }
}

fn destroyed(of: u8) -> Entry {
    let mut entry = Entry::new(ActId([1; 16]), Kind::Kek, Timestamp::from_seconds(9));
    entry.dataset = Some(DATASET);
    entry.keks = Some(vec![kek(of)]);
    entry
}

fn open_log(dir: &Path) -> AuditLog {
    let origin = Origin::new(
        "test",
        Role::KeyServer,
        &TlsSecret::from_seed(&[1; 32]).public(),
    );
    let secret = LogSecret::from_seeds(origin, &[2; 32], &[3; 32]).unwrap();
    let (log, _) = AuditLog::open(dir.join("audit"), secret, &Options::default()).unwrap();
    log
}

struct Rig {
    dir: tempfile::TempDir,
    log: AuditLog,
    inventory: Inventory,
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = open_log(dir.path());
        let inventory = Inventory::open(dir.path().join("inventory"), log.clone());
        let inventory = inventory.await.unwrap();
        Self {
            dir,
            log,
            inventory,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("inventory")
    }

    async fn append(&self, entry: &Entry) {
        self.log.append(entry.to_cbor()).await.unwrap();
    }

    /// Ends, does something to the file, and opens again.
    async fn reopen(self, meanwhile: impl FnOnce(&Path)) -> Self {
        self.inventory.close().await;
        drop(self.inventory);
        let path = self.dir.path().join("inventory");
        meanwhile(&path);
        let inventory = Inventory::open(path, self.log.clone()).await.unwrap();
        Self { inventory, ..self }
    }

    async fn wraps(&self, under: u8) -> Vec<u8> {
        self.inventory.settled().await.unwrap();
        let (rows, more) = self.inventory.page(kek(under), None, 1_000).await.unwrap();
        assert!(!more);
        let wraps: Vec<_> = rows.iter().map(|row| row.digest.0[0]).collect();
        let (count, named) = self.inventory.dependants(kek(under)).await.unwrap();
        assert_eq!(count, wraps.len() as u64);
        assert_eq!(self.inventory.counts(kek(under)).wraps, count);
        let all: Vec<u8> = wraps.iter().flat_map(|n| [*n; 32]).collect();
        assert_eq!(named, <[u8; 32]>::from(Sha256::digest(all)));
        wraps
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_or_opened_is_counted_once_under_its_version() {
    // rule: INV-1
    let rig = Rig::new().await;
    rig.append(&generate(1, &[1, 2])).await;
    rig.append(&redeem(&[(1, 1), (9, 2)])).await;
    rig.append(&redeem(&[(1, 1)])).await;
    assert_eq!(
        (rig.wraps(1).await, rig.wraps(2).await),
        (vec![1, 2], vec![9])
    );
    let (one, two) = (rig.inventory.counts(kek(1)), rig.inventory.counts(kek(2)));
    assert_eq!((one.made, two.made), (2, 0));
    assert_eq!(one.last_used, Some(Timestamp::from_seconds(1_000)));
    assert_eq!(rig.inventory.counts(kek(3)), Counts::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_counts_as_nothing() {
    // rule: INV-1
    let rig = Rig::new().await;
    let mut refused = generate(1, &[1, 2]);
    refused.items.as_mut().unwrap()[0].1 = Err(Refusal::Budget);
    rig.append(&refused).await;
    let mut unknown = redeem(&[(3, 1), (4, 1)]);
    unknown.kek_of = Some(vec![u8::MAX, 0]);
    unknown.items.as_mut().unwrap()[0].1 = Err(Refusal::KekState);
    rig.append(&unknown).await;
    assert_eq!(rig.wraps(1).await, [2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrap_goes_when_its_successor_stands_in_its_place_and_not_before() {
    // rule: REW-2, INV-1
    let rig = Rig::new().await;
    rig.append(&generate(1, &[1, 2, 3])).await;
    rig.append(&rewrap(&[(1, 1), (2, 1), (3, 1)], 2, &[11, 12, 13], &[]))
        .await;
    // The answer may be lost: both are there.
    assert_eq!(rig.wraps(1).await, [1, 2, 3]);
    assert_eq!(rig.wraps(2).await, [11, 12, 13]);
    // That it is opened, or wrapped anew, does not say where it stands.
    rig.append(&redeem(&[(12, 2)])).await;
    rig.append(&rewrap(&[(13, 2)], 2, &[23], &[])).await;
    assert_eq!(rig.wraps(1).await, [1, 2, 3]);
    rig.append(&rewrap(&[], 2, &[], &[11])).await;
    assert_eq!(rig.wraps(1).await, [2, 3]);
    rig.append(&rewrap(&[(9, 1)], 2, &[19], &[12, 13])).await;
    assert_eq!(rig.wraps(1).await, [9]);
    assert_eq!(rig.wraps(2).await, [11, 12, 13, 19, 23]);
    // A copy of the object is somewhere, and it counts.
    rig.append(&redeem(&[(1, 1)])).await;
    assert_eq!(rig.wraps(1).await, [1, 9]);
    assert_eq!(rig.inventory.counts(kek(2)).made, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_says_of_wraps_that_were_made_for_another_that_they_stand_in_place() {
    // rule: REW-2
    let rig = Rig::new().await;
    rig.append(&generate(1, &[1])).await;
    rig.append(&rewrap(&[(1, 1)], 2, &[11], &[])).await;
    let mut dataset = rewrap(&[], 5, &[], &[11]);
    dataset.dataset = Some(DatasetId([8; 16]));
    rig.append(&dataset).await;
    rig.append(&rewrap(&[], 2, &[], &[11]).subject("another node"))
        .await;
    assert_eq!(rig.wraps(1).await, [1]);
    rig.append(&rewrap(&[], 2, &[], &[11])).await;
    assert_eq!(rig.wraps(1).await, [0_u8; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_version_takes_nothing_but_its_own_wraps_along() {
    // rule: INV-1, KEK-4
    let rig = Rig::new().await;
    rig.append(&generate(1, &[1, 2])).await;
    rig.append(&generate(2, &[3])).await;
    rig.append(&rewrap(&[(1, 1)], 2, &[11], &[])).await;
    rig.append(&destroyed(1)).await;
    assert_eq!(
        (rig.wraps(1).await, rig.wraps(2).await),
        (vec![], vec![3, 11])
    );
    rig.append(&rewrap(&[], 2, &[], &[11])).await;
    assert_eq!(
        (rig.wraps(1).await, rig.wraps(2).await),
        (vec![], vec![3, 11])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_lost_damaged_or_of_another_log_is_counted_anew() {
    // rule: INV-1
    let rig = Rig::new().await;
    rig.append(&generate(1, &[1, 2])).await;
    assert_eq!(rig.wraps(1).await, [1, 2]);
    let rig = rig.reopen(|_| {}).await;
    assert_eq!(rig.wraps(1).await, [1, 2], "as it was left");
    let rig = rig.reopen(|path| std::fs::remove_file(path).unwrap()).await;
    assert_eq!(rig.wraps(1).await, [1, 2], "lost");
    for at in [0, 100, 4_100, 9_000] {
        let rig = Rig::new().await;
        rig.append(&generate(1, &[1, 2])).await;
        assert_eq!(rig.wraps(1).await, [1, 2]);
        let damage = |path: &Path| {
            let mut bytes = std::fs::read(path).unwrap();
            let end = bytes.len().min(at + 64);
            bytes[at..end].fill(0x55);
            std::fs::write(path, bytes).unwrap();
        };
        let rig = rig.reopen(damage).await;
        assert_eq!(rig.wraps(1).await, [1, 2], "damaged at {at}");
    }
    // Of another log, as far on as this one and further; or its own was cut. What it knows is not forgotten.
    for more in [1, 2] {
        let (here, there) = (Rig::new().await, Rig::new().await);
        here.append(&generate(1, &[1])).await;
        for n in 0..more {
            there.append(&generate(1, &[8 + n])).await;
        }
        there.inventory.settled().await.unwrap();
        there.inventory.close().await;
        let foreign = there.path();
        let rig = here
            .reopen(|path| {
                std::fs::copy(foreign, path).unwrap();
            })
            .await;
        let expected: Vec<u8> = [1].into_iter().chain(8..8 + more).collect();
        assert_eq!(rig.wraps(1).await, expected, "another's, with {more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_opened_now_is_not_thrown_away() {
    // rule: INV-1
    let rig = Rig::new().await;
    rig.append(&generate(1, &[1, 2])).await;
    assert_eq!(rig.wraps(1).await, [1, 2]);
    let held = open(&rig.path(), &rig.log);
    assert!(matches!(held, Err(InventoryError::File(_))), "in use");
    rig.append(&generate(1, &[3])).await;
    let rig = rig.reopen(|_| {}).await;
    assert_eq!(rig.wraps(1).await, [1, 2, 3]);
    let folder = rig.dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let refused = open(&folder, &rig.log);
    assert!(matches!(refused, Err(InventoryError::File(_))));
    assert!(folder.is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_between_any_two_commits_goes_on_from_there() {
    // rule: INV-1
    let rig = Rig::new().await;
    let entries = [
        generate(1, &[1, 2, 3]),
        redeem(&[(1, 1), (9, 2)]),
        rewrap(&[(1, 1), (2, 1)], 2, &[11, 12], &[]),
        rewrap(&[(3, 1)], 2, &[13], &[11]),
        redeem(&[(12, 2), (1, 1)]),
        destroyed(1),
    ];
    let copy = |n: usize| rig.dir.path().join(format!("copy-{n}"));
    for (n, entry) in entries.iter().enumerate() {
        // As it stands while it is open: nobody closed it.
        std::fs::copy(rig.path(), copy(n)).unwrap();
        rig.append(entry).await;
        rig.inventory.settled().await.unwrap();
    }
    for n in 0..entries.len() {
        let left = Inventory::open(copy(n), rig.log.clone()).await.unwrap();
        left.settled().await.unwrap();
        for under in [1, 2] {
            let (now, then) = (&rig.inventory, &left);
            assert_eq!(then.counts(kek(under)), now.counts(kek(under)), "{n}");
            let named = now.dependants(kek(under)).await.unwrap();
            assert_eq!(then.dependants(kek(under)).await.unwrap(), named, "{n}");
        }
        left.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_through_all_wraps_of_one_version() {
    // rule: INV-1
    let rig = Rig::new().await;
    rig.append(&generate(1, &[5, 1, 3])).await;
    rig.append(&generate(2, &[2])).await;
    rig.inventory.settled().await.unwrap();
    let page = async |after, most| {
        let (rows, more) = rig.inventory.page(kek(1), after, most).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|row| row.digest.0[0]).collect();
        (rows, more)
    };
    assert_eq!(page(None, 2).await, (vec![1, 3], true));
    assert_eq!(page(Some(digest(3)), 2).await, (vec![5], false));
    assert_eq!(page(None, 3).await, (vec![1, 3, 5], false));
}

#[derive(Clone, Debug)]
enum Op {
    Generate(u8, Vec<u8>),
    Redeem(Vec<(u8, u8)>),
    Rewrap(Vec<(u8, u8)>, u8, Vec<u8>, Vec<u8>),
    Destroy(u8),
    /// Stops, and opens again; perhaps without the file.
    Reopen(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let (kek, item) = (1..4_u8, 1..20_u8);
    let items = proptest::collection::vec(item.clone(), 0..4);
    let under = proptest::collection::vec((item.clone(), kek.clone()), 1..4);
    prop_oneof![
        4 => (kek.clone(), items.clone()).prop_map(|(kek, items)| Op::Generate(kek, items)),
        4 => under.clone().prop_map(Op::Redeem),
        6 => (under, kek.clone(), proptest::collection::vec(item, 4), items)
            .prop_map(|(old, kek, new, confirmed)| {
                let new = new[..old.len()].to_vec();
                Op::Rewrap(old, kek, new, confirmed)
            }),
        1 => kek.prop_map(Op::Destroy),
        1 => any::<bool>().prop_map(Op::Reopen),
    ]
}

#[derive(Debug, Default)]
struct Model {
    wraps: BTreeSet<(u8, u8)>,
    replaces: BTreeMap<u8, (u8, u8)>,
    made: BTreeMap<u8, u64>,
}

impl Model {
    fn in_place(&mut self, digest: u8) {
        if let Some(old) = self.replaces.remove(&digest) {
            self.wraps.remove(&old);
        }
    }

    fn make(&mut self, kek: u8, digest: u8) {
        self.wraps.insert((kek, digest));
        *self.made.entry(kek).or_default() += 1;
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Generate(kek, items) => items.iter().for_each(|item| self.make(*kek, *item)),
            Op::Redeem(items) => {
                for (item, kek) in items {
                    self.wraps.insert((*kek, *item));
                }
            }
            Op::Rewrap(items, current, new, confirmed) => {
                confirmed.iter().for_each(|item| self.in_place(*item));
                for ((item, kek), new) in items.iter().zip(new) {
                    self.wraps.insert((*kek, *item));
                    self.make(*current, *new);
                    self.replaces.insert(*new, (*kek, *item));
                }
            }
            Op::Destroy(kek) => {
                self.wraps.retain(|(of, _)| of != kek);
                self.replaces.retain(|_, (of, _)| of != kek);
            }
            Op::Reopen(_) => {}
        }
    }
}

async fn run(ops: Vec<Op>) {
    let mut rig = Rig::new().await;
    let mut model = Model::default();
    for op in &ops {
        model.apply(op);
        match op {
            Op::Generate(kek, items) => rig.append(&generate(*kek, items)).await,
            Op::Redeem(items) => rig.append(&redeem(items)).await,
            Op::Rewrap(items, kek, new, confirmed) => {
                rig.append(&rewrap(items, *kek, new, confirmed)).await;
            }
            Op::Destroy(kek) => rig.append(&destroyed(*kek)).await,
            Op::Reopen(lost) => {
                let lose = |path: &Path| {
                    if *lost {
                        std::fs::remove_file(path).unwrap();
                    }
                };
                rig = rig.reopen(lose).await;
            }
        }
    }
    for under in 1..4 {
        let wraps = model.wraps.iter().filter(|(kek, _)| *kek == under);
        let wraps: Vec<_> = wraps.map(|(_, item)| *item).collect();
        assert_eq!(rig.wraps(under).await, wraps, "{ops:?}");
        let made = model.made.get(&under).copied().unwrap_or_default();
        assert_eq!(rig.inventory.counts(kek(under)).made, made);
    }
}

#[test]
fn the_inventory_is_what_the_log_comes_to_whatever_stands_in_it() {
    // rule: INV-1, REW-2
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&proptest::collection::vec(op(), 1..30), |ops| {
            runtime.block_on(run(ops));
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_log_went_on_by_a_recovery_the_count_begins_with_it() {
    // rule: INV-2, BAK-4
    let rig = Rig::new().await;
    rig.append(&generate(1, &[1, 2])).await;
    assert_eq!(rig.wraps(1).await, [1, 2]);
    let before = rig.inventory.since();
    let at = |seconds| Timestamp::from_seconds(seconds);
    // The change of shards of a log that is full loses nothing.
    let full = Entry::new(ActId([5; 16]), Kind::ShardOpened, at(5_000));
    rig.append(&full).await;
    rig.inventory.settled().await.unwrap();
    assert_eq!(rig.inventory.since(), before);
    let recovered = Entry::new(ActId([6; 16]), Kind::ShardOpened, at(6_000)).proof([7; 32]);
    rig.append(&recovered).await;
    rig.append(&generate(1, &[3])).await;
    assert_eq!(rig.wraps(1).await, [1, 2, 3], "what is known stays known");
    assert_eq!(rig.inventory.since(), Some(at(6_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_inventory_is_of_one_moment_and_is_read_on_from() {
    // rule: BAK-1
    let rig = Rig::new().await;
    rig.append(&generate(1, &[1, 2])).await;
    rig.append(&rewrap(&[(1, 1)], 2, &[11], &[])).await;
    assert_eq!(rig.wraps(1).await, [1, 2]);
    let copy = rig.inventory.copied(u64::MAX).unwrap().unwrap();
    assert!(rig.inventory.copied(1).unwrap().is_none(), "it is larger");
    rig.append(&generate(1, &[3])).await;
    assert_eq!(rig.wraps(1).await, [1, 2, 3]);
    let path = rig.dir.path().join("copy");
    copy.write(&path).unwrap();
    check(&path).unwrap();
    drop(copy);
    let there = Rows::open(&path).unwrap().unwrap();
    assert_eq!(there.totals(kek(1)).wraps, 2);
    assert_eq!(there.position(), 2);
    drop(there);
    // It goes on where it stood, and knows still what may be replaced.
    let rig = rig
        .reopen(|file| std::fs::rename(&path, file).unwrap())
        .await;
    rig.append(&rewrap(&[], 2, &[], &[11])).await;
    assert_eq!(rig.wraps(1).await, [2, 3]);
    assert!(check(&rig.dir.path().join("none")).is_err());
}
