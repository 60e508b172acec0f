//! Rekey: everything under the new key, and one root key after a crash at any step.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sha2::{Digest, Sha256};
use ticket_format::ids::RootId;

use super::rig::{Rig, both_open, holders, place, rng, shares};
use crate::files::{self, tests::faults::refusing};
use crate::root::{Means, Prepared, RootDir, RootError, Ways, rekey};
use crate::sealed::{RootKey, SealedError};

/// Sealed values, by what they are sealed for.
const VALUES: [(&str, &[u8]); 4] = [
    ("signing", b"seed"),
    ("kek/aa/01", b"first"),
    ("kek/aa/02", b"second"),
    ("kek/bb/03", b""),
];

fn fill(ways: &Ways, key: &RootKey) {
    for (path, value) in VALUES {
        let file = ways.sealed().join(format!("{path}.sealed"));
        files::private_dir(file.parent().unwrap()).unwrap();
        files::create_private(&file, &key.seal(path, value, &mut rng())).unwrap();
    }
    // What a write of a file that a crash ended has left.
    fs::write(ways.sealed().join("kek/aa/04.sealed.7.tmp"), b"half").unwrap();
}

fn sealed(ways: &Ways, path: &str) -> Vec<u8> {
    files::read_private(&ways.sealed().join(format!("{path}.sealed")), 1_000).unwrap()
}

fn all_open(ways: &Ways, key: &RootKey) {
    for (path, value) in VALUES {
        assert_eq!(
            *key.open(path, &sealed(ways, path)).unwrap(),
            value,
            "{path}"
        );
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[test]
fn a_rekey_seals_everything_anew_and_erases_the_old_root_key() {
    // rule: ROOT-7
    let rig = Rig::new();
    let (old, old_key) = rig.create(&rig.credential()).unwrap();
    fill(&old, &old_key);
    let before: Vec<Vec<u8>> = VALUES.iter().map(|(path, _)| sealed(&old, path)).collect();
    let old_shares = shares(&old, &[1, 2, 3]);

    files::write_private(&rig.at("passphrase"), b"correct horse").unwrap();
    let means = Means::Passphrase(rig.at("passphrase"));
    let (new, key) = rig.rekey(&old, &old_key, &means).unwrap();

    assert_ne!(new.root(), old.root());
    assert!(!key.same(&old_key));
    assert_eq!((new.threshold(), new.rows().len()), (3, 4));
    let read = rig.root().ways().unwrap();
    assert_eq!(read.root(), new.root());
    both_open(&read, &means, &[4, 1, 2], &key);
    all_open(&read, &key);
    for ((path, _), before) in VALUES.iter().zip(&before) {
        let after = sealed(&read, path);
        assert_eq!(old_key.open(path, &after), Err(SealedError::Open));
        assert_eq!(read.replaced(&digest(before)), Some(digest(&after)));
    }
    assert_eq!(read.replaced(&[0; 32]), None);
    assert_eq!(rig.names(), ["2", "current"]);
    assert!(!read.sealed().join("kek/aa/04.sealed.7.tmp").exists());
    // What somebody kept of the old one is no way to the new one.
    let error = read.open_shares(&old_shares).unwrap_err();
    assert!(matches!(error, RootError::SharesNotThis));
    assert!(read.open_auto(&rig.credential()).is_err());

    let (third, third_key) = rig.rekey(&read, &key, &rig.credential()).unwrap();
    all_open(&third, &third_key);
    assert_eq!(rig.names(), ["3", "current"]);
}

#[test]
fn a_crash_at_any_step_of_a_rekey_leaves_one_root_key_that_opens_everything() {
    // rule: ROOT-7
    let mut steps = Vec::new();
    for crash in 0.. {
        let rig = Rig::new();
        let (old, old_key) = rig.create(&rig.credential()).unwrap();
        fill(&old, &old_key);
        let mut done = 0;
        let mut step = |step: &'static str| {
            if done >= crash {
                return Err(RootError::Exists(PathBuf::from(step)));
            }
            done += 1;
            steps.push(step);
            Ok(())
        };
        let prepared = rekey::next(
            &old,
            &old_key,
            &place(),
            &rig.credential(),
            &holders(3, 4),
            &mut rng(),
            &mut step,
        );
        let answer = prepared.and_then(|prepared| prepared.put_in_force(&mut step));
        let whole = answer.is_ok();
        tear(&rig, &old);

        let ways = rig.root().ways().unwrap();
        let key = ways.open_auto(&rig.credential()).unwrap();
        let numbers: &[u8] = if ways.root() == old.root() {
            &[1, 3]
        } else {
            &[1, 2, 4]
        };
        both_open(&ways, &rig.credential(), numbers, &key);
        all_open(&ways, &key);
        assert_eq!(rig.names().len(), 2, "one generation and its pointer");
        assert_eq!(ways.root() == old.root(), key.same(&old_key));
        // Nothing is in the next one's way.
        let (next, next_key) = rig.rekey(&ways, &key, &rig.credential()).unwrap();
        all_open(&next, &next_key);
        if whole {
            assert!(steps.contains(&"switch") && steps.contains(&"erase the old"));
            assert!(crash > VALUES.len());
            return;
        }
    }
}

#[test]
fn a_disk_that_fails_at_any_call_of_a_rekey_leaves_one_root_key_that_opens_everything() {
    // rule: ROOT-7
    let (mut stayed, mut unclear, mut switched) = (0, 0, 0);
    for left in 0.. {
        let rig = Rig::new();
        let (old, old_key) = rig.create(&rig.credential()).unwrap();
        fill(&old, &old_key);
        // A disk that is full for a moment, and one that is broken from then on.
        let (errno, for_good) = match left % 2 {
            0 => (Errno::NOSPC, false),
            _ => (Errno::IO, true),
        };
        let (answer, refused) = refusing(left, errno, for_good, || {
            rig.rekey(&old, &old_key, &rig.credential())
        });

        let what = format!("call {left}, {refused:?}");
        let ways = rig.root().ways().unwrap();
        let key = ways.open_auto(&rig.credential()).unwrap();
        let new = ways.root() != old.root();
        match answer {
            Ok((ways, _)) => {
                switched += 1;
                assert!(new && ways.root() == rig.root().look().unwrap().root());
            }
            Err(RootError::Unclear(_)) => unclear += 1,
            Err(error) => {
                stayed += 1;
                assert!(!new, "{what}: {error}");
            }
        }
        let numbers: &[u8] = if new { &[1, 2, 4] } else { &[1, 3] };
        both_open(&ways, &rig.credential(), numbers, &key);
        all_open(&ways, &key);
        // A pointer that was half written may lie there too: the next one takes its place.
        let names = rig.names();
        let others = names.iter().filter(|name| !name.ends_with(".tmp"));
        assert_eq!(others.count(), 2, "{what}: {names:?}");
        if left % 8 == 7 || refused.is_none() {
            // Nothing is in the next one's way.
            let (next, next_key) = rig.rekey(&ways, &key, &rig.credential()).unwrap();
            all_open(&next, &next_key);
            assert_eq!(rig.names().len(), 2, "{what}");
        }
        if refused.is_none() {
            break;
        }
    }
    assert!(stayed > 20, "{stayed}");
    assert!(unclear > 2 && switched > 2, "{unclear} {switched}");
}

/// What a crash does to files that were written last: those of a generation that is not in force yet.
fn tear(rig: &Rig, old: &Ways) {
    let current = fs::read(rig.at("root/current")).unwrap();
    if current != b"1\n" {
        return;
    }
    assert_eq!(old.sealed(), rig.at("root/1/sealed"));
    let next = rig.at("root/2");
    for name in ["auto", "shares", "replaced", "sealed/signing.sealed"] {
        let file = next.join(name);
        if let Ok(bytes) = fs::read(&file) {
            fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    fs::write(rig.at("root/current.7.tmp"), b"2").unwrap();
    fs::remove_file(rig.at("root/current.7.tmp")).unwrap();
}

#[test]
fn a_rekey_that_cannot_be_leaves_the_old_root_key_and_nothing_else() {
    // rule: ROOT-7
    let rig = Rig::new();
    let (old, key) = rig.create(&rig.credential()).unwrap();
    fill(&old, &key);
    let before = fs::read(old.sealed().join("signing.sealed")).unwrap();
    // The automatic way is not there.
    let none = Means::Credential(rig.at("none"));
    assert!(rig.rekey(&old, &key, &none).is_err());
    // The root key is another.
    let other = RootKey::random(&mut rng());
    let error = rig.rekey(&old, &other, &rig.credential()).unwrap_err();
    assert!(matches!(error, RootError::Sealed { .. }), "{error}");
    // A file is damaged.
    files::write_private(&old.sealed().join("signing.sealed"), &before[1..]).unwrap();
    let error = rig.rekey(&old, &key, &rig.credential()).unwrap_err();
    assert!(error.to_string().contains("signing.sealed"), "{error}");
    files::write_private(&old.sealed().join("signing.sealed"), &before).unwrap();

    assert_eq!(rig.names(), ["1", "current"]);
    let ways = rig.root().ways().unwrap();
    assert_eq!(ways.root(), old.root());
    all_open(&ways, &key);
}

#[test]
fn a_sealed_file_under_anothers_name_keeps_a_rekey_from_taking_it_over() {
    // rule: ROOT-7
    let rig = Rig::new();
    let (ways, key) = rig.create(&rig.credential()).unwrap();
    fill(&ways, &key);
    let dir = ways.sealed().join("kek/aa");
    fs::rename(dir.join("01.sealed"), dir.join("02.sealed")).unwrap();
    let error = rig.rekey(&ways, &key, &rig.credential()).unwrap_err();
    assert!(error.to_string().contains("02.sealed"), "{error}");
}

#[test]
fn erased_files_are_overwritten_before_they_are_removed() {
    // rule: ROOT-7
    let rig = Rig::new();
    let (ways, key) = rig.create(&rig.credential()).unwrap();
    fill(&ways, &key);
    // Another name of the same file shows what became of it.
    let kept = |name: &str| rig.at(&format!("kept-{name}"));
    let files = [
        ("auto", "auto"),
        ("shares", "shares"),
        ("sealed/kek/aa/01.sealed", "kek"),
    ];
    for (file, name) in files {
        fs::hard_link(rig.at("root/1").join(file), kept(name)).unwrap();
    }
    rig.rekey(&ways, &key, &rig.credential()).unwrap();
    for (_, name) in files {
        let bytes = fs::read(kept(name)).unwrap();
        assert!(
            !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0),
            "{name}"
        );
    }
}

#[test]
fn a_start_erases_what_is_not_in_force_and_touches_nothing_else() {
    // rule: ROOT-7
    let rig = Rig::new();
    rig.create(&rig.credential()).unwrap();
    let file = |path: &Path| {
        files::private_dir(path.parent().unwrap()).unwrap();
        fs::write(path, b"secret").unwrap();
    };
    for left in ["0/auto", "2/sealed/kek/a.sealed", "17/x", "work/primary"] {
        file(&rig.at("root").join(left));
    }
    fs::write(rig.at("root/notes"), b"somebody's").unwrap();
    let outside = rig.at("outside");
    fs::write(&outside, b"not ours").unwrap();
    std::os::unix::fs::symlink(&outside, rig.at("root/2/link")).unwrap();
    RootDir::at(rig.dir.path()).ways().unwrap();
    assert_eq!(rig.names(), ["1", "current", "notes"]);
    assert_eq!(fs::read(&outside).unwrap(), b"not ours");
}

fn prepared(rig: &Rig, ways: &Ways, key: &RootKey) -> Prepared {
    let means = rig.credential();
    let prepared = ways.prepare(key, &place(), &means, &holders(3, 4), &mut rng());
    prepared.unwrap()
}

#[test]
fn a_start_finishes_the_rekey_that_it_is_told_of_and_no_other() {
    // rule: ROOT-7
    let rig = Rig::new();
    let (old, key) = rig.create(&rig.credential()).unwrap();
    fill(&old, &key);
    let next = prepared(&rig, &old, &key).root();
    assert_eq!(rig.names(), ["1", "2", "current"]);
    // The one in force, and one that nobody prepared.
    assert!(!rig.root().finish(old.root()).unwrap());
    assert!(!rig.root().finish(RootId([9; 16])).unwrap());
    assert!(rig.root().finish(next).unwrap());
    assert!(!rig.root().finish(next).unwrap(), "it is done");
    let ways = rig.root().ways().unwrap();
    let new = ways.open_auto(&rig.credential()).unwrap();
    assert_eq!(ways.root(), next);
    both_open(&ways, &rig.credential(), &[1, 2, 4], &new);
    all_open(&ways, &new);
    assert_eq!(rig.names(), ["2", "current"]);

    // A start that is told of none erases it; one that is damaged is not put in force.
    let third = prepared(&rig, &ways, &new).root();
    let auto = rig.at("root/3/auto");
    let bytes = fs::read(&auto).unwrap();
    fs::write(&auto, &bytes[..bytes.len() / 2]).unwrap();
    assert!(rig.root().finish(third).is_err());
    assert_eq!(rig.root().ways().unwrap().root(), next);
    assert_eq!(rig.names(), ["2", "current"]);
    prepared(&rig, &ways, &new).undo();
    assert_eq!(rig.names(), ["2", "current"]);
}

#[test]
fn a_root_key_that_somebody_removed_is_not_put_in_force_and_the_old_one_stays() {
    // rule: ROOT-7
    let rig = Rig::new();
    let (old, old_key) = rig.create(&rig.credential()).unwrap();
    fill(&old, &old_key);
    let looked = rig.root().look().unwrap();
    assert_eq!(looked.root(), old.root());
    let prepared = prepared(&rig, &old, &old_key);
    let root = prepared.root();
    // Who only looks removes nothing.
    rig.root().look().unwrap();
    assert!(prepared.sealed().exists());
    // Who holds no lock, and does not only look, did.
    rig.root().ways().unwrap();
    assert!(prepared.switch().is_err());
    let dir = rig.root();
    assert!(!dir.finish(root).unwrap(), "it is not there");
    let ways = dir.ways().unwrap();
    assert_eq!(ways.root(), old.root());
    all_open(&ways, &old_key);
}

#[test]
fn a_decided_root_key_that_cannot_be_read_is_not_erased() {
    // rule: ROOT-7
    let rig = Rig::new();
    let (old, old_key) = rig.create(&rig.credential()).unwrap();
    fill(&old, &old_key);
    let prepared = prepared(&rig, &old, &old_key);
    let (root, auto) = (prepared.root(), prepared.sealed().with_file_name("auto"));
    let whole = fs::read(&auto).unwrap();
    files::write_private(&auto, &whole[..whole.len() - 1]).unwrap();
    let dir = rig.root();
    assert!(dir.finish(root).is_err());
    assert!(auto.exists());
    files::write_private(&auto, &whole).unwrap();
    assert!(dir.finish(root).unwrap());
    assert_eq!(dir.ways().unwrap().root(), root);
}
