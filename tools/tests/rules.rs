//! Every rule of the specification is cited where it is kept and where it is tested.
//!
//! A rule is defined as `**XXX-n**` in `spec/*.md`. It is cited by its id in a comment: `// rule: XXX-n`
//! at the line that keeps it, or `(XXX-n)` in the documentation of what keeps it. It must be cited in
//! code that runs and in a test: a file under a `tests/` directory, a file of unit tests, or behind
//! the `#[cfg(test)]` of a module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rules that no line of code can hold, each with why. Keep it short: a rule belongs here only when it
/// speaks of people, of documents or of what other programs may rely on.
const NO_CODE: &[(&str, &str)] = &[(
    "ROOT-8",
    "it says what root on the machine can do whatever the program does",
)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(items) = fs::read_dir(directory) else {
        return;
    };
    for path in items.map(|item| item.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
}

/// `ABC-12` at the front of a text.
fn rule_at(text: &str) -> Option<&str> {
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let rest = text.get(letters..)?.strip_prefix('-')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    ((2..=6).contains(&letters) && digits > 0).then(|| &text[..letters + 1 + digits])
}

/// The rules that the specification defines, and where.
fn defined() -> BTreeMap<String, String> {
    let mut pages = Vec::new();
    files(&root().join("spec"), "md", &mut pages);
    let mut rules = BTreeMap::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for part in text.split("**").skip(1).step_by(2) {
            if let Some(rule) = rule_at(part).filter(|rule| rule.len() == part.len()) {
                let name = page.file_name().unwrap().to_string_lossy().into_owned();
                let before = rules.insert(rule.to_owned(), name);
                assert!(before.is_none(), "{rule} is defined twice");
            }
        }
    }
    rules
}

/// The rules that the comment of one line cites: `// rule: A-1, B-2`, `//! (A-1 to A-3)`.
fn cited_in(line: &str) -> Vec<String> {
    let Some((_, comment)) = line.split_once("//") else {
        return Vec::new();
    };
    let mut cited: Vec<String> = Vec::new();
    let (mut at, mut before, mut range) = (0, ' ', None::<String>);
    while let Some(rest) = comment.get(at..).filter(|rest| !rest.is_empty()) {
        let found = if before.is_ascii_alphanumeric() || before == '-' {
            None
        } else {
            rule_at(rest)
        };
        let Some(rule) = found else {
            before = rest.chars().next().unwrap_or(' ');
            at += before.len_utf8();
            continue;
        };
        // `TKT-1 to TKT-3` names the one between them too.
        let (word, number) = rule.split_once('-').unwrap();
        let last: u32 = number.parse().unwrap();
        let first = range.take().and_then(|from| {
            from.strip_prefix(&format!("{word}-"))
                .map(|from| from.parse::<u32>().unwrap())
        });
        cited.extend(
            (first.map_or(last, |first| first + 1)..=last).map(|number| format!("{word}-{number}")),
        );
        range = rest[rule.len()..]
            .starts_with(" to ")
            .then(|| rule.to_owned());
        at += rule.len();
        before = '0';
    }
    cited
}

/// Where rules are cited: in code that runs, and in tests.
fn citations() -> (BTreeSet<String>, BTreeSet<String>) {
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources);
    let (mut code, mut tests) = (BTreeSet::new(), BTreeSet::new());
    for source in sources {
        let path = source.strip_prefix(root()).unwrap();
        let parts: Vec<_> = path
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if path == Path::new("tools/tests/rules.rs") {
            continue;
        }
        let file = parts.last().unwrap();
        // The crate `tests` is at the top; elsewhere `tests` is Cargo's directory, or a module.
        let mut in_tests = parts.iter().any(|part| part == "tests")
            || file == "tests.rs"
            || file == "suite.rs"
            || parts.iter().any(|part| part == "suite");
        let text = fs::read_to_string(&source).unwrap();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            // A module of unit tests is the last thing in its file.
            let begins = line.trim_start().starts_with("#[cfg(test)]");
            in_tests |= begins
                && lines
                    .peek()
                    .is_some_and(|next| next.contains("mod ") && next.ends_with('{'));
            let set = if in_tests { &mut tests } else { &mut code };
            set.extend(cited_in(line));
        }
    }
    (code, tests)
}

#[test]
fn every_rule_is_cited_in_code_and_in_a_test() {
    let rules = defined();
    assert!(rules.len() > 80, "only {} rules were found", rules.len());
    let (code, tests) = citations();
    let mut missing = Vec::new();
    for (rule, page) in rules
        .iter()
        .filter(|(rule, _)| !NO_CODE.iter().any(|(exempt, _)| exempt == rule))
    {
        match (code.contains(rule), tests.contains(rule)) {
            (true, true) => {}
            (false, true) => missing.push(format!("{rule} ({page}) is cited in no code")),
            (true, false) => missing.push(format!("{rule} ({page}) is cited in no test")),
            (false, false) => missing.push(format!("{rule} ({page}) is cited nowhere")),
        }
    }
    assert!(
        missing.is_empty(),
        "{} of {} rules:\n{}",
        missing.len(),
        rules.len(),
        missing.join("\n")
    );
}

#[test]
fn no_citation_names_a_rule_that_is_not_defined() {
    let rules = defined();
    let (code, tests) = citations();
    // `SHA-256` and `UTF-8` look like rules; only the families of the specification are.
    let family = |rule: &str| rule.split('-').next().map(str::to_owned);
    let families: BTreeSet<_> = rules.keys().map(|rule| family(rule)).collect();
    let unknown: Vec<_> = code
        .union(&tests)
        .filter(|rule| families.contains(&family(rule)) && !rules.contains_key(*rule))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn an_exempt_rule_is_defined_and_says_why() {
    let rules = defined();
    for (rule, why) in NO_CODE {
        assert!(rules.contains_key(*rule), "{rule} is no rule any more");
        assert!(why.len() > 20, "{rule}: say why no code can hold it");
    }
}

#[test]
fn a_citation_is_read_from_comments_only_and_to_its_end() {
    assert_eq!(
        cited_in("    // rule: ENC-1, ENC-2 — COSE's own reader"),
        ["ENC-1", "ENC-2"]
    );
    assert_eq!(cited_in("/// Erased on drop (AUD-3)."), ["AUD-3"]);
    assert_eq!(
        cited_in("//! Texts (POL-1 to POL-4), and what else; REF-1."),
        ["POL-1", "POL-2", "POL-3", "POL-4", "REF-1"]
    );
    assert_eq!(cited_in("let text = \"ENC-1\";"), Vec::<String>::new());
    assert_eq!(
        cited_in("// SHA-256, X-ENC-1, UTF-8x"),
        ["SHA-256", "UTF-8"]
    );
}

#[test]
fn the_room_of_the_keks_is_as_small_as_the_readme_says() {
    let mut room = Vec::new();
    files(&root().join("key-server/src/vault"), "rs", &mut room);
    let mut lines = 0;
    for path in room.iter().filter(|path| !path.ends_with("tests.rs")) {
        lines += fs::read_to_string(path).unwrap().lines().count();
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, said) = readme
        .split_once("vault/mod.rs): at most ")
        .expect("the README says how large it is");
    let said: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert!(
        lines <= said && said < lines + 100,
        "{lines} lines, and the README says {said}"
    );
}
