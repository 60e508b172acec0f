//! The specification's vectors are what the code makes, and the check notices when they are not.

use std::fs;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors")
}

#[test]
fn the_vectors_are_exactly_what_the_code_makes() {
    let faults = tools::vectors::check(&directory()).unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn vectors_are_the_same_every_time() {
    let texts = || {
        tools::vectors::all()
            .iter()
            .map(|case| (case.path.clone(), case.text()))
            .collect::<Vec<_>>()
    };
    let (first, second) = (texts(), texts());
    assert!(first.len() > 100);
    assert_eq!(first, second);
    let mut paths: Vec<_> = first.iter().map(|(path, _)| path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), first.len(), "two vectors have one path");
}

#[test]
fn a_vector_that_was_changed_added_or_removed_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    tools::vectors::write(home.path()).unwrap();
    assert_eq!(
        tools::vectors::check(home.path()).unwrap(),
        Vec::<String>::new()
    );
    let world = home.path().join("world.json");
    let text = fs::read_to_string(&world).unwrap();
    fs::write(&world, text.replacen("example", "Example", 1)).unwrap();
    fs::write(home.path().join("refused/new.json"), "{}").unwrap();
    fs::remove_file(home.path().join("ticket/node.json")).unwrap();
    let faults = tools::vectors::check(home.path()).unwrap();
    assert_eq!(faults.len(), 3, "{faults:?}");
    tools::vectors::write(home.path()).unwrap();
    assert_eq!(
        tools::vectors::check(home.path()).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn what_other_programs_read_is_written_whole() {
    let home = tempfile::tempdir().unwrap();
    tools::vectors::foreign(home.path()).unwrap();
    for file in [
        "node-ticket.cbor",
        "broker-key.cose",
        "sealed-x25519.json",
        "sealed-x-wing.json",
        "cddl/login-body--1.cbor",
    ] {
        assert!(
            fs::metadata(home.path().join(file)).unwrap().len() > 0,
            "{file}"
        );
    }
}
