//! What was seen of a log before, in a file: its newest checkpoint, signed by the log itself.

use std::path::Path;

use serde_json::{Value, json};
use store::files;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::{LogKey, SignedCheckpoint};

/// Most bytes of the file.
const MOST: u64 = 64 * 1024;

/// Reads it; none where there is no file yet.
///
/// # Errors
/// It cannot be read, or is another log's.
pub fn load(path: &Path, key: &LogKey) -> Result<Option<SignedCheckpoint>, Report> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    let unusable = |why: String| {
        Report::new(
            exit::LOCAL,
            format!("{} tells nothing of this log", path.display()),
        )
        .why(why)
        .next("give another --state; a file of another log is not overwritten")
    };
    let bytes = files::read_bounded(path, MOST).map_err(|error| unusable(error.to_string()))?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
    let note = value["checkpoint"]
        .as_str()
        .ok_or_else(|| unusable("it has no checkpoint".to_owned()))?;
    key.verify(note)
        .map(Some)
        .map_err(|error| unusable(error.to_string()))
}

/// Writes it.
///
/// # Errors
/// The file cannot be written.
pub fn keep(path: &Path, seen: &SignedCheckpoint) -> Result<(), Report> {
    let origin = seen.checkpoint().shard.origin.to_string();
    let value = json!({ "v": 1, "log": origin, "checkpoint": seen.note() });
    files::write_private(path, format!("{value:#}\n").as_bytes()).map_err(|error| {
        Report::new(exit::LOCAL, "what was seen of the log cannot be kept").why(error)
    })
}
