//! Whoever has the files finds what was done to them, and where.

mod support;

use std::path::{Path, PathBuf};

use audit_log::{AuditLog, Entries, Folder, Opened, Options, Source, Summary, What};
use support::*;
use ticket_format::tlog::LogSecret;

/// Reads the entries that [`Between`] makes.
#[derive(Default)]
struct Texts {
    seen: Vec<u64>,
}

impl Entries for Texts {
    fn opened(&mut self, entry: &[u8]) -> Option<Opened> {
        let text = std::str::from_utf8(entry).ok()?;
        let (recovery, rest) = match text.strip_prefix("opened ") {
            Some(rest) => (false, rest),
            None => (true, text.strip_prefix("recovered ")?),
        };
        let (name, rest) = rest.split_once(' ')?;
        let (size, rest) = rest.split_once(' ')?;
        let (root, before) = rest.rsplit_once(' ')?;
        let root: Vec<u8> = root
            .trim_matches(['[', ']'])
            .split(", ")
            .map(|byte| byte.parse().ok())
            .collect::<Option<_>>()?;
        Some(Opened {
            previous: name.parse().ok()?,
            size: size.parse().ok()?,
            root: root.try_into().ok()?,
            before: before.parse().ok()?,
            recovery,
        })
    }

    fn is_closed(&mut self, entry: &[u8]) -> bool {
        entry.starts_with(b"closed ")
    }

    fn entry(&mut self, index: u64, _entry: &[u8]) {
        self.seen.push(index);
    }
}

fn verify(path: &Path) -> Summary {
    audit_log::verify(&Folder::new(path), &key(), &mut Texts::default()).expect("reads")
}

/// The first finding of a copy after something was done to it.
fn after(place: &Place, change: impl FnOnce(&Path)) -> (u64, Option<u64>, What) {
    let copy = place.path.with_extension("copy");
    let _ = std::fs::remove_dir_all(&copy);
    copy_tree(&place.path, &copy);
    change(&copy);
    let summary = verify(&copy);
    let first = summary.findings.first().expect("something is found");
    (first.shard, first.index, first.what)
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("makes");
    for item in std::fs::read_dir(from).expect("reads") {
        let path = item.expect("reads").path();
        let target = to.join(path.file_name().expect("has one"));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copies");
        }
    }
}

fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    bytes
}

fn unbundle(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        entries.push(entry.to_vec());
        bytes = rest;
    }
    entries
}

fn rebundle(path: PathBuf, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut entries = unbundle(&std::fs::read(&path).expect("reads"));
    change(&mut entries);
    std::fs::write(path, bundle(&entries)).expect("writes");
}

/// One shard of 300 entries, without its journal.
async fn published() -> Place {
    let place = place();
    let log = open(&place.path);
    for n in 0..300 {
        log.append(entry(n)).await.expect("appends");
    }
    log.close().await;
    std::fs::remove_file(place.path.join("1/journal")).expect("removes");
    place
}

#[tokio::test]
async fn a_whole_log_of_several_shards_has_no_findings() {
    let place = place();
    let options = Options {
        keep_shards: Some(3),
        ..small_shards()
    };
    let log = open_with(&place.path, &options);
    for n in 0..70 {
        log.append(vec![n; 4_000]).await.expect("appends");
    }
    log.publish_now().await.expect("publishes");
    // Recovered twice, the second time with numbers left out, then used on without publishing.
    for (act, number) in [(1, 0), (2, 40)] {
        log.recover([act; 16], number, |last, before| {
            format!(
                "recovered {} {} {:?} {before}",
                last.shard, last.size, last.root
            )
            .into_bytes()
        })
        .await
        .expect("recovers");
    }
    log.append(entry(1)).await.expect("appends");
    for closed in [false, true] {
        if closed {
            log.close().await;
        }
        let mut texts = Texts::default();
        let summary =
            audit_log::verify(&Folder::new(&place.path), &key(), &mut texts).expect("reads");
        assert!(summary.is_whole(), "{:?}", summary.findings);
        let entries = log.head().entries;
        let first = summary
            .shards
            .iter()
            .find(|shard| !shard.pruned)
            .expect("one")
            .before;
        assert!(first > 0, "some are pruned");
        assert_eq!(texts.seen, (first..entries).collect::<Vec<_>>());
        let last = summary.shards.last().expect("one");
        assert_eq!(last.unpublished, if closed { 0 } else { 2 });
        assert_eq!(last.number, 40);
    }
}

#[tokio::test]
async fn a_source_that_cannot_list_is_asked() {
    struct Web(Folder);
    impl Source for Web {
        fn get(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
            self.0.get(path)
        }
    }
    let place = place();
    let log = open_with(&place.path, &small_shards());
    for n in 0..40 {
        log.append(vec![n; 4_000]).await.expect("appends");
    }
    log.close().await;
    let web = Web(Folder::new(&place.path));
    let summary = audit_log::verify(&web, &key(), &mut Texts::default()).expect("reads");
    assert!(summary.is_whole(), "{:?}", summary.findings);
    assert_eq!(summary.entries(), log.head().entries);
    let nothing = Web(Folder::new(place.path.with_extension("nothing")));
    let summary = audit_log::verify(&nothing, &key(), &mut Texts::default()).expect("reads");
    assert_eq!(summary.findings[0].what, What::Missing);
}

// rule: TLOG-1
#[tokio::test]
async fn what_was_done_to_published_entries_is_told_with_its_place() {
    let place = published().await;
    assert!(verify(&place.path).is_whole());
    let full = |path: &Path| path.join("1/tile/entries/000");
    let partial = |path: &Path| path.join("1/tile/entries/001.p/44");
    type Change<'a> = Box<dyn FnOnce(&Path) + 'a>;
    let cases: Vec<(Change<'_>, Option<u64>, What)> = vec![
        (
            Box::new(|path| rebundle(full(path), |entries| entries[17][0] ^= 1)),
            Some(17),
            What::Edited,
        ),
        (
            Box::new(|path| rebundle(full(path), |entries| drop(entries.remove(17)))),
            Some(17),
            What::Deleted,
        ),
        (
            Box::new(|path| rebundle(full(path), |entries| entries.swap(17, 30))),
            Some(17),
            What::Reordered,
        ),
        (
            Box::new(|path| rebundle(full(path), |entries| entries.insert(17, vec![1]))),
            Some(17),
            What::Inserted,
        ),
        (
            Box::new(|path| rebundle(partial(path), |entries| entries.truncate(3))),
            Some(259),
            What::Truncated,
        ),
        (
            Box::new(|path| {
                let bytes = std::fs::read(partial(path)).expect("reads");
                std::fs::write(partial(path), &bytes[..bytes.len() - 1]).expect("writes");
            }),
            Some(299),
            What::Truncated,
        ),
        (
            Box::new(|path| std::fs::remove_file(partial(path)).expect("removes")),
            Some(256),
            What::Missing,
        ),
        (
            Box::new(|path| {
                std::fs::remove_file(path.join("1/tile/0/000")).expect("removes");
            }),
            Some(0),
            What::Missing,
        ),
        (
            Box::new(|path| std::fs::remove_file(path.join("1/checkpoint")).expect("removes")),
            None,
            What::Missing,
        ),
    ];
    for (change, index, what) in cases {
        assert_eq!(after(&place, change), (1, index, what));
    }
}

#[tokio::test]
async fn a_tile_that_was_touched_is_told_apart_from_its_entries() {
    let place = published().await;
    let flip = |path: &Path, tile: &str, at: usize| {
        let path = path.join(tile);
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[at] ^= 1;
        std::fs::write(path, bytes).expect("writes");
    };
    assert_eq!(
        after(&place, |path| flip(path, "1/tile/0/000", 32 * 5)),
        (1, Some(5), What::Edited)
    );
    assert_eq!(
        after(&place, |path| flip(path, "1/tile/1/000.p/1", 3)),
        (1, Some(0), What::Edited)
    );
    // Entry and tile changed together: the tile above does not fit any more.
    let both = |path: &Path| {
        rebundle(path.join("1/tile/entries/000"), |entries| {
            entries[9] = vec![1]
        });
        let tile = path.join("1/tile/0/000");
        let mut bytes = std::fs::read(&tile).expect("reads");
        let leaf = ticket_format::tlog::merkle::leaf_hash(&[1]);
        bytes[9 * 32..10 * 32].copy_from_slice(&leaf);
        std::fs::write(tile, bytes).expect("writes");
    };
    assert_eq!(after(&place, both), (1, Some(0), What::Edited));
    // Where nothing is above, only the signature shows it.
    let top = |path: &Path| {
        rebundle(path.join("1/tile/entries/001.p/44"), |entries| {
            entries[9] = vec![1]
        });
        let tile = path.join("1/tile/0/001.p/44");
        let mut bytes = std::fs::read(&tile).expect("reads");
        let leaf = ticket_format::tlog::merkle::leaf_hash(&[1]);
        bytes[9 * 32..10 * 32].copy_from_slice(&leaf);
        std::fs::write(tile, bytes).expect("writes");
    };
    assert_eq!(after(&place, top), (1, None, What::Rewritten));
}

// rule: TLOG-2
#[tokio::test]
async fn a_log_that_was_written_anew_with_other_keys_is_noticed() {
    for (ed25519, ml_dsa) in [([1; 32], [3; 32]), ([3; 32], [2; 32])] {
        let place = place();
        let swapped = LogSecret::from_seeds(key().origin.clone(), &ed25519, &ml_dsa).expect("one");
        let (log, _) = AuditLog::open(&place.path, swapped, &options()).expect("opens");
        log.append(entry(0)).await.expect("appends");
        log.close().await;
        let summary = verify(&place.path);
        assert_eq!(summary.findings[0].what, What::KeySwapped);
        // And by the journal's own checkpoints.
        std::fs::remove_file(place.path.join("1/checkpoint")).expect("removes");
        assert_eq!(verify(&place.path).findings[0].what, What::KeySwapped);
    }
}

#[tokio::test]
async fn the_journal_is_held_against_the_tiles() {
    let place = place();
    let log = open(&place.path);
    for n in 0..20 {
        log.append(entry(n)).await.expect("appends");
    }
    log.close().await;
    let journal = |path: &Path| path.join("1/journal");
    let find = |bytes: &[u8], what: &[u8]| {
        let mut windows = bytes.windows(what.len());
        windows.position(|window| window == what).expect("is there")
    };
    let edit = |path: &Path| {
        let mut bytes = std::fs::read(journal(path)).expect("reads");
        let at = find(&bytes, b"entry 7");
        bytes[at] ^= 1;
        std::fs::write(journal(path), bytes).expect("writes");
    };
    assert_eq!(after(&place, edit), (1, Some(7), What::Edited));
    // The last batch is not told from a torn write by the journal alone.
    let edit_last = |path: &Path| {
        let mut bytes = std::fs::read(journal(path)).expect("reads");
        let at = find(&bytes, b"entry 19");
        bytes[at] ^= 1;
        std::fs::write(journal(path), bytes).expect("writes");
    };
    assert_eq!(after(&place, edit_last), (1, Some(19), What::Edited));
    let cut = |path: &Path| {
        let bytes = std::fs::read(journal(path)).expect("reads");
        let at = find(&bytes, b"entry 12") - 4;
        std::fs::write(journal(path), &bytes[..at]).expect("writes");
    };
    let (shard, index, what) = after(&place, cut);
    assert_eq!((shard, what), (1, What::Truncated), "{index:?}");
    assert_eq!(index, Some(12));
}

// rule: TLOG-4
#[tokio::test]
async fn shards_that_do_not_follow_each_other_are_noticed() {
    let place = place();
    let log = open_with(&place.path, &small_shards());
    for n in 0..50 {
        log.append(vec![n; 4_000]).await.expect("appends");
    }
    log.close().await;
    assert!(verify(&place.path).is_whole());
    let shards = log.head().checkpoint.checkpoint().shard.number;
    assert!(shards >= 4);
    let remove = |path: &Path, shard: u64| {
        std::fs::remove_dir_all(path.join(shard.to_string())).expect("removes");
    };
    assert_eq!(after(&place, |path| remove(path, 1)).2, What::Missing);
    let (shard, _, what) = after(&place, |path| remove(path, 2));
    assert_eq!((shard, what), (3, What::Unlinked));
    let (shard, _, what) = after(&place, |path| remove(path, shards));
    assert_eq!((shard, what), (shards, What::Truncated));
    // Another history of shard 1, signed by the log itself.
    let other = support::place();
    let fork = open_with(&other.path, &small_shards());
    for n in 0..30 {
        fork.append(vec![n + 100; 4_000]).await.expect("appends");
    }
    fork.close().await;
    let swap = |path: &Path| {
        remove(path, 1);
        copy_tree(&other.path.join("1"), &path.join("1"));
    };
    let (shard, _, what) = after(&place, swap);
    assert_eq!((shard, what), (2, What::Unlinked));
}
