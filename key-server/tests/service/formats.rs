//! Data directories as earlier releases of the format left them: each is opened as it stands, and everything
//! in it is there. A directory is kept as one file of text: what is not zero of each file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use key_server::records;
use key_server::service::StartError;
use store::locked::on_scratch;
use store::{Options, RedbStore, Store as _, Transaction};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::denial::Selector;
use ticket_format::ids::LaunchId;
use ticket_format::keys::{ServerSecret, TicketSecret, TlsSecret};
use ticket_format::statement::{DatasetCreated, KekState, StatusShow};

use crate::rig::{Rig, World, named, patiently, rig, wanted};
use key_server::vault::Uploads;
use ticket_format::wrapped::Wrapped;

const DAY: u64 = 86_400;
/// So many bytes of a file stand on one line.
const BLOCK: usize = 64;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/store")
}

/// The keys of the fixtures' world are always the same.
fn world() -> World {
    let mut world = World::new();
    world.broker = TicketSecret::from_seed(&[0x71; 32]);
    world.tls = TlsSecret::from_seed(&[0x72; 32]);
    world.signing = ServerSecret::from_seed(&[0x73; 32]);
    world
}

fn pack(text: &mut String, root: &Path, dir: &Path) {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|item| item.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        if path.is_dir() {
            pack(text, root, &path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let _ = writeln!(text, "file {name} {}", bytes.len());
            for (n, block) in bytes.chunks(BLOCK).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    let _ = writeln!(text, "{:x} {}", n * BLOCK, hex(block));
                }
            }
        }
    }
}

fn unpack(text: &str, root: &Path) {
    let mut file: Option<(PathBuf, Vec<u8>)> = None;
    let put = |file: Option<(PathBuf, Vec<u8>)>| {
        if let Some((path, bytes)) = file {
            let mut made = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut made, 0o700);
            made.recursive(true).create(path.parent().unwrap()).unwrap();
            store::files::create_private(&path, &bytes).unwrap();
        }
    };
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("file ") {
            let (name, length) = named.rsplit_once(' ').unwrap();
            let next = (root.join(name), vec![0; length.parse().unwrap()]);
            put(file.replace(next));
        } else {
            let (at, block) = line.split_once(' ').unwrap();
            let (at, block) = (usize::from_str_radix(at, 16).unwrap(), unhex(block));
            file.as_mut().unwrap().1[at..at + block.len()].copy_from_slice(&block);
        }
    }
    put(file);
}

/// A server that has done something of everything: versions in three states, wraps under two of them, a
/// denial, a destruction that was carried out.
async fn lived() -> (Rig, String) {
    let mut rig = world().start().await;
    let created = rig.administer(&wanted("faces")).await.unwrap();
    let mut known = format!("created {}\n", hex(&created.to_cbor()));
    let _ = writeln!(known, "admins {}", hex(&rig.world.admin_set));
    rig.dataset = Some(created);
    rig.rotate().await.unwrap();
    let gone = rig.destruction(1, 7).await;
    rig.administer(&gone).await.unwrap();
    rig.world.clock.set(8 * DAY);
    rig.service.each_minute().await;
    for _ in 0..2 {
        let (_, opened) = rig.opened(|_| {}).await;
        for (wrap, dek) in rig.wraps(&opened, &named("a"), 2).await {
            let _ = writeln!(known, "wrap {} {}", hex(&wrap), hex(&dek));
        }
        if rig.keks().await.len() == 2 {
            rig.rotate().await.unwrap();
        }
    }
    rig.deny(Selector::launch(LaunchId([8; 16]))).await;
    let _ = writeln!(known, "entries {}", rig.entries().len());
    (rig, known)
}

/// Writes a fixture of the formats as they are: `POSTERN_FIXTURE=name cargo test -p postern-key-server
/// --test service formats -- --ignored`. One that is there stays.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes a fixture"]
async fn a_fixture_of_todays_formats_is_written() {
    let name = std::env::var("POSTERN_FIXTURE").unwrap();
    let (rig, known) = lived().await;
    rig.service.close().await;
    let mut text = String::new();
    pack(&mut text, rig.world.dir.path(), rig.world.dir.path());
    let to = fixtures().join(name);
    std::fs::create_dir_all(fixtures()).unwrap();
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("data.txt"), text).unwrap();
    std::fs::write(to.join("known.txt"), known).unwrap();
}

/// The world of a fixture as it stands on a disk, and what is known of it.
fn laid_down(name: &str) -> (World, String) {
    let from = fixtures().join(name);
    let mut world = world();
    let data = std::fs::read_to_string(from.join("data.txt")).unwrap();
    unpack(&data, world.dir.path());
    let known = std::fs::read_to_string(from.join("known.txt")).unwrap();
    world.admin_set = unhex(said(&known, "admins"));
    world.clock.set(8 * DAY + 60);
    (world, known)
}

/// What stands behind a word.
fn said<'a>(known: &'a str, word: &str) -> &'a str {
    let of = |line: &'a str| line.strip_prefix(word)?.strip_prefix(' ');
    known.lines().find_map(of).unwrap()
}

/// Everything that the fixture's server had is there, twice: as it was found, and after a restart.
async fn holds(rig: Rig, known: &str) -> Rig {
    let states: Vec<_> = rig
        .keks()
        .await
        .iter()
        .map(|row| (row.version, row.state, row.wraps))
        .collect();
    let expected = [
        (3, KekState::Enabled, 2),
        (2, KekState::DecryptOnly, 2),
        (1, KekState::Destroyed, 0),
    ];
    assert_eq!(states, expected);
    // The broker's log is not in the fixture, so no ticket is presented: the vault is asked itself.
    let (dataset, context) = (rig.dataset().dataset, named("a").to_cbor());
    let mut wraps = 0;
    for line in known.lines().filter_map(|line| line.strip_prefix("wrap ")) {
        let (wrap, dek) = line.split_once(' ').unwrap();
        let wrap = unhex(wrap);
        let wrapped = Wrapped::parse(&wrap).unwrap();
        let (vault, mut uploads) = (&rig.service.state.vault, Uploads::default());
        let got = on_scratch::<{ 32 * 1024 }, _>(|scratch| {
            vault.unwrap(scratch, dataset, &wrapped, &context, &[], &mut uploads)
        });
        assert_eq!(got.unwrap().0.expose().as_slice(), unhex(dek));
        wraps += 1;
    }
    assert_eq!(wraps, 4);
    let status = rig.administer(&StatusShow {}).await.unwrap();
    assert_eq!(
        (status.epoch, status.datasets),
        (1, 1),
        "the denial is there"
    );
    let entries: usize = said(known, "entries").parse().unwrap();
    assert!(
        rig.entries().len() > entries,
        "the log is there and goes on"
    );
    rig
}

async fn opens(name: &str) {
    let (world, known) = laid_down(name);
    let mut rig = world.start().await;
    let created = DatasetCreated::from_cbor(&unhex(said(&known, "created")), 4_096).unwrap();
    rig.dataset = Some(created);
    let rig = holds(rig, &known).await;
    let rig = holds(rig.restart().await, &known).await;
    // Its records are written anew, in today's format, as they change.
    rig.rotate().await.unwrap();
    let rig = rig.restart().await;
    assert_eq!(rig.keks().await.len(), 4);
}

/// The directory of release 2f0d839: KEK records of format 2, dataset records of format 4.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_before_imports_and_classes_is_opened_as_it_stands() {
    // rule: FMT-1
    opens("kek-2").await;
}

/// The directory of commit efe78e7: KEK records of format 3.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_before_lapsed_versions_is_opened_as_it_stands() {
    // rule: FMT-1
    opens("kek-3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_format_to_come_is_refused_by_its_number_and_nothing_is_changed() {
    // rule: FMT-1
    for (prefix, oldest, newest) in [(records::KEKS, 2, 4), (records::DATASETS, 4, 5)] {
        let rig = rig().await;
        rig.service.close().await;
        let world = rig.world;
        let path = world.dir.path().join("store.redb");
        let open = || patiently(|| RedbStore::open(path.clone(), Options::default()));
        let store = open().await;
        let rows = records::all(&store, prefix).await.unwrap();
        let (key, entry) = rows.into_iter().next().unwrap();
        // The first member of the record's array is its format: a small number, in one byte.
        let mut later = entry.value.to_vec();
        assert_eq!(u64::from(later[1]), newest, "{prefix}");
        later[1] = 9;
        let put = Transaction::new().put(key.clone(), later.clone());
        store.commit(put).await.unwrap();
        store.close().await;
        drop(store);
        match world.try_start().await.map(drop) {
            Err(error @ StartError::Format { .. }) => {
                let said = error.to_string();
                let formats =
                    format!("of format 9, and this release reads formats {oldest} to {newest}");
                assert!(said.contains(&formats), "{said}");
            }
            other => panic!("{prefix}: {other:?}"),
        }
        let store = open().await;
        let stands = store.get(&key).await.unwrap().unwrap();
        assert_eq!(stands.value.to_vec(), later);
    }
}
