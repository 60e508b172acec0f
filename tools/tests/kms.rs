//! The tests that `spec/kms.md` names are there.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of the functions in the Rust files below a directory.
fn functions(directory: &Path, found: &mut BTreeSet<String>) {
    for path in fs::read_dir(directory)
        .unwrap()
        .map(|item| item.unwrap().path())
    {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                functions(&path, found);
            }
        } else if path.extension().is_some_and(|is| is == "rs") {
            // A test of that name: the attribute stands right above.
            let text = fs::read_to_string(&path).unwrap();
            for (attribute, line) in text.lines().zip(text.lines().skip(1)) {
                let is_test = attribute.contains("#[test]") || attribute.contains("#[tokio::test");
                if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
                    let end = rest.find('(').unwrap_or(rest.len());
                    found.insert(rest[..end].to_owned());
                }
            }
        }
    }
}

#[test]
fn every_operation_of_the_kms_table_names_a_test_that_is_there() {
    let mut there = BTreeSet::new();
    functions(&root(), &mut there);
    let page = fs::read_to_string(root().join("spec/kms.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| AWS KMS |"));
    let mut operations = 0;
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test is named: {row}");
        for name in named {
            assert!(there.contains(name), "there is no test {name}: {row}");
        }
        operations += 1;
    }
    assert!(operations > 25, "{operations}");
}
