//! Whole shards, and how they grow.

use super::*;

/// The first file below a directory, by name.
fn first_file(directory: &Path) -> PathBuf {
    let listed = fs::read_dir(directory).expect("a directory");
    let mut paths: Vec<PathBuf> = listed.map(|item| item.expect("an item").path()).collect();
    paths.sort();
    match paths.first().expect("something") {
        path if path.is_dir() => first_file(path),
        path => path.clone(),
    }
}

fn flipped(path: &Path, at: usize) -> Vec<u8> {
    let good = fs::read(path).expect("a file");
    let mut bent = good.clone();
    bent[at] ^= 1;
    fs::write(path, bent).expect("written");
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn go_and_pymerkle_find_every_shard_as_we_published_it() {
    let made = Made::new(150_000);
    made.fill(2_100).await;
    let (dir, keys) = (made.dir(), text(&made.keys));
    let shards = made.shards();
    assert!(shards.len() >= 3, "{} shards", shards.len());
    assert!(shards[0]["size"].as_u64() > Some(256), "{}", shards[0]);
    let go = ["verify_log.go", "log", text(&dir), keys];
    let python = ["verify_log.py", "log", text(&dir)];
    assert_eq!(said(&go), json!(shards));
    assert_eq!(said(&python), json!(shards));
    for (number, shard) in (1..).zip(&shards) {
        let note = dir.join(format!("{number}/checkpoint"));
        let signed = said(&["verify_log.mjs", "checkpoint", text(&note), keys]);
        assert_eq!(
            (&signed["shard"], &signed["root"]),
            (&shard["shard"], &shard["root"])
        );
    }
    // Whatever a root user edits, they notice.
    for (what, below, at) in [
        ("an entry", "1/tile/entries", 9),
        ("a hash of a tile", "1/tile/0", 40),
        ("an inner tile", "1/tile/1", 40),
    ] {
        let file = first_file(&dir.join(below));
        let good = flipped(&file, at);
        refuses(what, &go);
        if below.ends_with("entries") {
            refuses(what, &python);
        }
        fs::write(&file, good).expect("written");
    }
    let checkpoint = dir.join("1/checkpoint");
    let good = fs::read(&checkpoint).expect("a checkpoint");
    let other = made.log.checkpoint_of(2).expect("a shard");
    for (what, bent) in [
        ("the next shard's checkpoint", other.note().to_owned()),
        (
            "another key's checkpoint",
            secret(2)
                .sign(
                    made.log.checkpoint_of(1).expect("a shard").checkpoint(),
                    now(),
                )
                .note()
                .to_owned(),
        ),
    ] {
        fs::write(&checkpoint, bent).expect("written");
        refuses(what, &go);
    }
    fs::write(&checkpoint, good).expect("written");
    assert_eq!(said(&go), json!(shards), "all is well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn go_walks_a_tree_of_three_levels_whose_tiles_have_long_names() {
    let made = Made::new(u64::MAX);
    // A thousand tiles and one: `tile/0/x001/000`; 256 of them make a tile of level 2.
    let entries: u64 = 1_001 * 256 + 3;
    for from in (0..entries).step_by(8_192) {
        let appends =
            (from..entries.min(from + 8_192)).map(|n| made.log.append(n.to_be_bytes().into()));
        for appended in futures::future::join_all(appends).await {
            appended.expect("appended");
        }
    }
    made.log.publish_now().await.expect("published");
    assert!(made.dir().join("1/tile/0/x001/000").exists());
    assert!(made.dir().join("1/tile/entries/x001/000").exists());
    assert!(made.dir().join("1/tile/2/000.p/3").exists());
    let keys = text(&made.keys);
    assert_eq!(
        said(&["verify_log.go", "log", text(&made.dir()), keys]),
        json!(made.shards())
    );
    assert_eq!(
        said(&["verify_log.py", "log", text(&made.dir())]),
        json!(made.shards())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn go_takes_our_consistency_proofs_and_pymerkle_finds_the_old_roots() {
    let made = Made::new(u64::MAX);
    made.fill(700).await;
    let keys = text(&made.keys);
    let head = made.log.head().checkpoint;
    let size = head.checkpoint().size;
    let new = made.write("new", head.note());
    let dir = made.dir().join("1");
    for old in [1, 2, 255, 256, 257, 512, 699] {
        let root = made.log.root_of(1, old).expect("a root");
        let shard = head.checkpoint().shard.clone();
        let older = secret(1).sign(
            &Checkpoint {
                shard,
                size: old,
                root,
            },
            now(),
        );
        let path = made.log.consistency_path(1, old, size).expect("a path");
        let write = |path: &[Hash]| {
            let note = proof::text(0, path, "");
            let lines: Vec<&str> = note.lines().skip(2).collect();
            made.write("path", lines.join("\n"))
        };
        let (old_file, path_file) = (made.write("old", older.note()), write(&path));
        let go = [
            "verify_log.go",
            "consistency",
            text(&old_file),
            text(&new),
            text(&path_file),
            keys,
        ];
        let python = ["verify_log.py", "consistency", text(&dir), text(&old_file)];
        for program in [&go[..], &python] {
            assert_eq!(
                said(program),
                shown(head.checkpoint()),
                "{} from {old}",
                program[0]
            );
        }
        if old != 257 {
            continue;
        }
        let mut bent = path.clone();
        bent[1][0] ^= 1;
        for (what, path) in [("a bit", bent), ("one less", path[1..].to_vec())] {
            write(&path);
            refuses(what, &go);
        }
        write(&path);
        let mut root = root;
        root[0] ^= 1;
        let shard = head.checkpoint().shard.clone();
        let forked = secret(1).sign(
            &Checkpoint {
                shard,
                size: old,
                root,
            },
            now(),
        );
        made.write("old", forked.note());
        for program in [&go[..], &python] {
            refuses(&format!("another old root, {}", program[0]), program);
        }
    }
}
