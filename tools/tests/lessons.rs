//! The vulnerabilities of peers in `spec/security.md`: each row is there once, and each test that a row
//! names is a test in our sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const HEADING: &str = "## Vulnerabilities of peers, and the test that each demands";
const ROWS: usize = 25;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(items) = fs::read_dir(directory) else {
        return;
    };
    for path in items.map(|item| item.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Names of the functions under `#[test]` or `#[tokio::test]` of one source text.
fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            marked = true;
            continue;
        }
        let function = line
            .strip_prefix("fn ")
            .or_else(|| line.strip_prefix("async fn "));
        if let Some(rest) = function {
            if marked {
                let name = rest.split(['(', '<']).next().unwrap_or(rest);
                names.push(name.to_owned());
            }
            marked = false;
        }
    }
    names
}

/// Each row of the table: its number and the names of the tests in its last column.
fn rows(page: &str) -> Vec<(usize, Vec<String>)> {
    let Some((_, section)) = page.split_once(HEADING) else {
        return Vec::new();
    };
    let section = section.split("\n## ").next().unwrap_or(section);
    let mut rows = Vec::new();
    for line in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some(number) = cells.first().and_then(|cell| cell.parse().ok()) else {
            continue;
        };
        let named = cells.last().copied().unwrap_or_default();
        let names = named
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| !name.contains(['/', '.', ' ']))
            .map(str::to_owned)
            .collect();
        rows.push((number, names));
    }
    rows
}

/// What is wrong with the table of `page`, were `tests` all that there are.
fn faults(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let rows = rows(page);
    let mut faults = Vec::new();
    for wanted in 1..=ROWS {
        let times = rows.iter().filter(|(number, _)| *number == wanted).count();
        if times != 1 {
            faults.push(format!("row {wanted} is there {times} times"));
        }
    }
    for (number, names) in &rows {
        if !(1..=ROWS).contains(number) {
            faults.push(format!("there is no row {number}"));
        }
        for name in names.iter().filter(|name| !tests.contains(*name)) {
            faults.push(format!("row {number}: no test is named {name}"));
        }
        let left_open = page.lines().any(|line| {
            line.starts_with(&format!("| {number} |")) && line.contains("does not apply")
        });
        if names.is_empty() && !left_open {
            faults.push(format!("row {number} names no test and no reason for none"));
        }
    }
    faults
}

#[test]
fn every_vulnerability_of_peers_has_its_row_and_its_tests() {
    let mut paths = Vec::new();
    sources(&root(), &mut paths);
    let tests = paths
        .iter()
        .flat_map(|path| tests_in(&fs::read_to_string(path).unwrap()))
        .collect();
    let page = fs::read_to_string(root().join("spec/security.md")).unwrap();
    let faults = faults(&page, &tests);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_missing_row_a_double_one_and_a_test_that_is_none_are_noticed() {
    let tests = BTreeSet::from(["held".to_owned()]);
    let table = |rows: &[usize], test: &str| {
        let lines: Vec<String> = rows
            .iter()
            .map(|row| format!("| {row} | x | y | `{test}` |"))
            .collect();
        format!("{HEADING}\n\n{}\n\n## Other\n", lines.join("\n"))
    };
    let all: Vec<usize> = (1..=ROWS).collect();
    assert_eq!(faults(&table(&all, "held"), &tests), Vec::<String>::new());
    assert_eq!(faults(&table(&all[1..], "held"), &tests).len(), 1);
    let double = [&all[..], &[7]].concat();
    assert_eq!(faults(&table(&double, "held"), &tests).len(), 1);
    assert_eq!(faults(&table(&all, "gone"), &tests).len(), ROWS);
    assert_eq!(faults("", &tests).len(), ROWS);
}

#[test]
fn only_what_is_marked_as_a_test_counts_as_one() {
    let text =
        "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test(flavor = \"x\")]\nasync fn three() {}";
    assert_eq!(tests_in(text), ["one", "three"]);
}
