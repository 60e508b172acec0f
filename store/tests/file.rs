//! The store's file: who may open it and what is refused.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use store::{KeyRange, OpenError, Options, Outcome, RedbStore, Revision, Store, Transaction};
use tempfile::TempDir;

struct Place {
    _directory: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("store");
    Place {
        _directory: directory,
        path,
    }
}

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path, Options::default()).expect("opens")
}

fn refusal(path: &Path) -> OpenError {
    let error = RedbStore::open(path, Options::default())
        .map(drop)
        .expect_err("is refused");
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
    error
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("changes the mode");
}

async fn fill(store: &RedbStore, count: u32) {
    for n in 0..count {
        let transaction = Transaction::new().put(format!("key {n:03}"), vec![n as u8; 900]);
        assert!(matches!(
            store.commit(transaction).await,
            Ok(Outcome::Committed(_))
        ));
    }
}

#[tokio::test]
async fn the_file_is_private_and_a_second_opener_is_refused() {
    let place = place();
    let store = open(&place.path);
    let mode = std::fs::metadata(&place.path)
        .expect("is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(matches!(refusal(&place.path), OpenError::InUse { .. }));
    store.close().await;
    open(&place.path).close().await;
}

#[tokio::test]
async fn a_file_that_others_may_reach_is_refused() {
    let place = place();
    open(&place.path).close().await;
    for wrong in [0o640, 0o604, 0o660, 0o610] {
        set_mode(&place.path, wrong);
        assert!(
            matches!(refusal(&place.path), OpenError::NotPrivate { mode, .. } if mode == wrong)
        );
    }
    set_mode(&place.path, 0o600);
    open(&place.path).close().await;
}

#[tokio::test]
async fn a_symbolic_link_or_directory_is_refused() {
    let place = place();
    open(&place.path).close().await;
    let link = place.path.with_extension("link");
    std::os::unix::fs::symlink(&place.path, &link).expect("links");
    assert!(matches!(refusal(&link), OpenError::NotAPlainFile { .. }));
    let dangling = place.path.with_extension("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).expect("links");
    assert!(matches!(
        refusal(&dangling),
        OpenError::NotAPlainFile { .. }
    ));
    let directory = place.path.parent().expect("has one");
    assert!(matches!(
        refusal(directory),
        OpenError::Io { .. } | OpenError::NotAPlainFile { .. }
    ));
}

#[tokio::test]
async fn a_file_of_another_user_is_refused() {
    let place = place();
    open(&place.path).close().await;
    // Only root can give a file away; others cannot make the case.
    if std::os::unix::fs::chown(&place.path, Some(1), None).is_ok() {
        assert!(matches!(
            refusal(&place.path),
            OpenError::NotOwner { owner: 1, .. }
        ));
    }
}

#[test]
fn other_files_are_not_taken_for_a_store_and_not_changed() {
    let place = place();
    let mut bytes = Vec::new();
    for content in [b"".as_slice(), b"text", &[0; 5000], &[b'x'; 100_000]] {
        bytes.clear();
        bytes.extend_from_slice(content);
        std::fs::write(&place.path, &bytes).expect("writes");
        set_mode(&place.path, 0o600);
        assert!(matches!(refusal(&place.path), OpenError::NotAStore { .. }));
        assert_eq!(std::fs::read(&place.path).expect("reads"), bytes);
    }
}

/// The tables of a foreign redb file, or of a store of another version.
fn foreign(path: &Path, table: &str, version: Option<u64>) {
    let database = redb::Database::create(path).expect("makes");
    let txn = database.begin_write().expect("begins");
    {
        let definition = redb::TableDefinition::<&str, u64>::new(table);
        let mut table = txn.open_table(definition).expect("opens");
        if let Some(version) = version {
            table.insert("format", version).expect("inserts");
            table.insert("revision", 5).expect("inserts");
        }
    }
    txn.commit().expect("commits");
    drop(database);
    set_mode(path, 0o600);
}

#[test]
fn another_format_is_refused_by_its_version() {
    let place = place();
    foreign(&place.path, "postern-store", Some(2));
    let error = refusal(&place.path);
    assert!(
        matches!(error, OpenError::Version { found: 2, .. }),
        "{error}"
    );
    std::fs::remove_file(&place.path).expect("removes");
    foreign(&place.path, "something-else", Some(1));
    assert!(matches!(refusal(&place.path), OpenError::NotAStore { .. }));
    std::fs::remove_file(&place.path).expect("removes");
    foreign(&place.path, "postern-store", None);
    assert!(matches!(refusal(&place.path), OpenError::NotAStore { .. }));
}

#[tokio::test]
async fn a_crash_while_the_store_is_made_leaves_nothing_in_the_way() {
    let place = place();
    let mut draft = place.path.clone().into_os_string();
    draft.push(".new");
    std::fs::write(&draft, b"half a store").expect("writes");
    set_mode(Path::new(&draft), 0o600);
    let store = open(&place.path);
    assert_eq!(store.revision().await, Ok(Revision::ZERO));
    assert!(!Path::new(&draft).exists());
    store.close().await;
}

/// A changed byte gives either a refusal or, where the file has free or superseded pages, all the data;
/// never other data, never a panic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_refused_or_harmless() {
    let place = place();
    let store = open(&place.path);
    fill(&store, 60).await;
    let expected = store.range(KeyRange::all(), 100).await.expect("reads");
    store.close().await;
    let good = std::fs::read(&place.path).expect("reads");
    let used: Vec<_> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let (mut refused, step) = (0, used.len() / 300);
    for at in used.into_iter().step_by(step.max(1)) {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        std::fs::write(&place.path, &bad).expect("writes");
        let store = match RedbStore::open(&place.path, Options::default()) {
            Ok(store) => store,
            Err(error) => {
                // Which file, and what to do.
                let told = error.to_string();
                assert!(told.contains(place.path.to_str().expect("text")), "{told}");
                assert!(
                    told.contains("; "),
                    "byte {at}: nothing to do about it: {told}"
                );
                refused += 1;
                continue;
            }
        };
        let found = store.range(KeyRange::all(), 100).await;
        store.close().await;
        assert_eq!(found.as_ref(), Ok(&expected), "byte {at}");
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn a_file_cut_short_is_refused() {
    let place = place();
    let store = open(&place.path);
    fill(&store, 60).await;
    store.close().await;
    let good = std::fs::read(&place.path).expect("reads");
    for length in [4096, good.len() / 2, good.len() - 4096] {
        std::fs::write(&place.path, &good[..length]).expect("writes");
        let error = refusal(&place.path);
        assert!(
            matches!(
                error,
                OpenError::Damaged { .. } | OpenError::NotAStore { .. }
            ),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_snapshot_is_the_same_store() {
    use store::{CopyError, Entry, KeyRange, Outcome, Revision, Store, Transaction};
    let dir = tempfile::TempDir::new().unwrap();
    let store = RedbStore::open(dir.path().join("one"), Options::default()).unwrap();
    // More than one commit of the copy takes.
    for page in 0..50_u32 {
        let put = (0..100).fold(Transaction::new(), |put, n| {
            put.put(format!("{:04}", page * 100 + n), n.to_be_bytes())
        });
        store.commit(put).await.unwrap();
    }
    let again = Transaction::new().put("0000", "again").delete("0001");
    store.commit(again).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let mut all = Vec::new();
    let keep = |key, entry| {
        all.push((key, entry));
        Ok::<_, store::Error>(())
    };
    snapshot.each(KeyRange::all(), keep).unwrap();
    let path = dir.path().join("two");
    let mut entries = all.clone().into_iter();
    RedbStore::create_copy(&path, snapshot.revision(), || Ok::<_, ()>(entries.next())).unwrap();
    let copy = RedbStore::open(&path, Options::default()).unwrap();
    assert_eq!(copy.revision().await, Ok(Revision(51)));
    let page = copy.range(KeyRange::all(), 10_000).await.unwrap();
    assert!(page.entries == all && !page.more);
    // What was compared with before is compared with still, and the count goes on.
    let at = Transaction::new()
        .at("0000", all[0].1.revision)
        .put("0000", "x");
    let committed = copy.commit(at).await;
    assert_eq!(committed, Ok(Outcome::Committed(Revision(52))));
    copy.close().await;
    // Never over another, and never what is no state of a store.
    let over = RedbStore::create_copy(&path, Revision(1), || Ok::<_, ()>(None));
    assert!(matches!(over, Err(CopyError::Open(_))), "{over:?}");
    let entry = |revision| Entry {
        value: vec![1],
        revision: Revision(revision),
    };
    let wrong = [
        vec![(b"b".to_vec(), entry(1)), (b"a".to_vec(), entry(1))],
        vec![(b"a".to_vec(), entry(1)), (b"a".to_vec(), entry(1))],
        vec![(b"a".to_vec(), entry(2))],
        vec![(Vec::new(), entry(1))],
    ];
    for wrong in wrong {
        let (path, mut entries) = (dir.path().join("three"), wrong.into_iter());
        let made = RedbStore::create_copy(&path, Revision(1), || Ok::<_, ()>(entries.next()));
        assert!(matches!(made, Err(CopyError::Content(_))), "{made:?}");
        assert!(!path.exists() && !dir.path().join("three.new").exists());
    }
    let cut = RedbStore::create_copy(&dir.path().join("three"), Revision(1), || Err("cut"));
    assert!(matches!(cut, Err(CopyError::Source("cut"))), "{cut:?}");
    assert!(!dir.path().join("three").exists());
}
