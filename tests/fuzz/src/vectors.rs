//! The vectors of `spec/vectors`, as inputs to begin with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

/// The project's directory.
#[must_use]
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every text of every vector, by file and member: `exchange/login`, `request`.
static ALL: LazyLock<BTreeMap<(String, String), Vec<String>>> = LazyLock::new(|| {
    let root = project().join("spec/vectors");
    let (mut all, mut left) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("the vectors stand in spec/vectors") {
            let path = entry.expect("a file of the vectors").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|is| is == "json") {
                let name = path.strip_prefix(&root).unwrap_or(&path).with_extension("");
                let text = fs::read_to_string(&path).expect("a vector is text");
                let value: Value = serde_json::from_str(&text).expect("a vector is JSON");
                texts(&mut all, &name.to_string_lossy(), "", &value);
            }
        }
    }
    all
});

fn texts(
    all: &mut BTreeMap<(String, String), Vec<String>>,
    file: &str,
    member: &str,
    value: &Value,
) {
    match value {
        Value::String(text) => {
            let place = all.entry((file.to_owned(), member.to_owned())).or_default();
            place.push(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| texts(all, file, member, item)),
        Value::Object(members) => {
            for (name, value) in members {
                let under = matches!(member, "" | "input" | "expect");
                let name = if under {
                    name.clone()
                } else {
                    format!("{member}.{name}")
                };
                texts(all, file, &name, value);
            }
        }
        _ => {}
    }
}

/// Hexadecimal, as vectors have bytes; none where it is something else.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?);
    pairs.map(byte).collect()
}

/// One text: `text("world", "realm")`.
#[must_use]
pub fn text(file: &str, member: &str) -> String {
    let found = ALL.get(&(file.to_owned(), member.to_owned()));
    found
        .and_then(|all| all.first())
        .unwrap_or_else(|| panic!("{file} has no {member}"))
        .clone()
}

/// One byte string.
#[must_use]
pub fn bytes(file: &str, member: &str) -> Vec<u8> {
    unhex(&text(file, member)).unwrap_or_else(|| panic!("{member} of {file} is not in hexadecimal"))
}

/// 32 bytes, or 16.
#[must_use]
pub fn array<const N: usize>(file: &str, member: &str) -> [u8; N] {
    let bytes = bytes(file, member);
    bytes
        .try_into()
        .unwrap_or_else(|_| panic!("{member} of {file} has not {N} bytes"))
}

/// Each byte string, of any file and member, that `wanted` wants: file, member, bytes. Sorted, each once.
#[must_use]
pub fn all_bytes(wanted: impl Fn(&str, &str, &[u8]) -> bool) -> Vec<Vec<u8>> {
    let mut out = BTreeSet::new();
    for ((file, member), texts) in ALL.iter() {
        let bytes = texts.iter().filter_map(|text| unhex(text));
        out.extend(bytes.filter(|bytes| !bytes.is_empty() && wanted(file, member, bytes)));
    }
    out.into_iter().collect()
}

/// Each text that `wanted` wants and that is not hexadecimal.
#[must_use]
pub fn all_texts(wanted: impl Fn(&str, &str, &str) -> bool) -> Vec<Vec<u8>> {
    let mut out = BTreeSet::new();
    for ((file, member), texts) in ALL.iter() {
        let texts = texts.iter().filter(|text| unhex(text).is_none());
        out.extend(
            texts
                .filter(|text| wanted(file, member, text))
                .map(|text| text.clone().into_bytes()),
        );
    }
    out.into_iter().collect()
}
