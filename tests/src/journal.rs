//! A log's journal as bytes: what somebody with root on the log's host has before him.

use std::fs;
use std::ops::Range;
use std::path::Path;

use ciborium::Value;

/// One item of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An entry's record: index in the shard, the entry.
    Record(u64, Vec<u8>),
    /// A seal: size, and the checkpoint that it holds.
    Seal(u64, String),
}

/// The items of a journal behind its header, and where each stands.
///
/// # Panics
/// When it has not its shape.
#[must_use]
pub fn items(journal: &Path) -> Vec<(Range<usize>, Item)> {
    let bytes = fs::read(journal).expect("a journal");
    let mut rest = bytes.as_slice();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let start = bytes.len() - rest.len();
        let item: Value = ciborium::from_reader(&mut rest).expect("an item");
        let range = start..bytes.len() - rest.len();
        match item.as_array().map(Vec::as_slice) {
            Some([Value::Integer(index), _, Value::Bytes(entry)]) => {
                let index = u64::try_from(i128::from(*index)).expect("an index");
                items.push((range, Item::Record(index, entry.clone())));
            }
            Some([Value::Integer(size), _, Value::Text(note), ..]) => {
                let size = u64::try_from(i128::from(*size)).expect("a size");
                items.push((range, Item::Seal(size, note.clone())));
            }
            _ => assert_eq!(start, 0, "only the header is of another form"),
        }
    }
    items
}

/// The records of a journal.
///
/// # Panics
/// When it has not its shape.
#[must_use]
pub fn records(journal: &Path) -> Vec<(Range<usize>, u64, Vec<u8>)> {
    let records = items(journal)
        .into_iter()
        .filter_map(|(range, item)| match item {
            Item::Record(index, entry) => Some((range, index, entry)),
            Item::Seal(..) => None,
        });
    records.collect()
}

/// Changes a file's bytes in place.
///
/// # Panics
/// When it cannot be read or written.
pub fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("written");
}
