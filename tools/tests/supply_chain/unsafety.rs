//! `unsafe` of our own: where it may stand.

use std::path::Path;

/// Files with `unsafe`, each with why.
const LISTED: &[(&str, &str)] = &[
    (
        "store/src/locked/pages.rs",
        "memory that is locked and guarded comes from mmap, which no safe library gives",
    ),
    (
        "tests/fuzz/src/counting.rs",
        "an allocator that counts what a decoder asks for",
    ),
];

/// Whether a line of code, comments and strings left out, says `unsafe` or permits it.
fn says_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let code = code.replace("\\\"", "");
    let code: String = code.split('"').step_by(2).collect();
    let word = |text: &str| {
        code.match_indices(text).any(|(at, _)| {
            let joined = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !code[..at].ends_with(joined) && !code[at + text.len()..].starts_with(joined)
        })
    };
    let permits = word("allow") || word("expect");
    word("unsafe") || (word("unsafe_code") && permits)
}

fn with_unsafe(directory: &Path, root: &Path, found: &mut Vec<String>) {
    for item in std::fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                with_unsafe(&path, root, found);
            }
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.lines().any(says_unsafe) {
                let path = path.strip_prefix(root).unwrap();
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
}

#[test]
fn unsafe_stands_where_it_is_listed_and_nowhere_else() {
    let (root, mut found) = (super::root(), Vec::new());
    with_unsafe(&root, &root, &mut found);
    found.sort();
    let listed: Vec<_> = LISTED.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, listed);
}

#[test]
fn no_build_script_is_ours() {
    let mut found = Vec::new();
    for item in std::fs::read_dir(super::root()).unwrap() {
        let script = item.unwrap().path().join("build.rs");
        if script.exists() {
            found.push(script.display().to_string());
        }
    }
    super::none("build scripts", &found);
}

#[test]
fn unsafe_is_noticed_and_talk_of_it_is_not() {
    for bad in [
        "unsafe {",
        "    unsafe fn f() {}",
        "#![allow(unsafe_code)]",
        "x; unsafe impl T {}",
    ] {
        assert!(says_unsafe(bad), "{bad}");
    }
    for good in [
        "// unsafe",
        "let s = \"unsafe\";",
        "unsafe_code = \"deny\"",
        "unsafely()",
    ] {
        assert!(!says_unsafe(good), "{good}");
    }
}
