//! How far a rewrap of a prefix is: one small file, replaced whole, so that a run that was cut off goes
//! on where it was, with the very wraps that it had asked for.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use store::files::{self, FileError};
use ticket_format::ids::{DatasetId, ItemDigest, KekId};
use ticket_format::report::{Report, exit};

use crate::lock::Lock;
use crate::object::metadata::MAX_WRAPPED_LEN;
use crate::s3::copy::prefix::{FAILED, Made, Position};

/// Largest file, in bytes: every object that may be left has the longest key, in escapes.
const LIMIT: u64 = 64 * 1024 * 1024;
/// Longest key of an object, in bytes.
const KEY: usize = 1024;

/// The file, held by one process at a time.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    place: String,
    dataset: DatasetId,
    _lock: Lock,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    v: u64,
    rewrap: String,
    dataset: String,
    kek: Option<String>,
    after: Option<String>,
    left: Vec<String>,
    made: Vec<MadeText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MadeText {
    key: String,
    old: String,
    wrapped: String,
}

impl Journal {
    /// Where it is unless another file is named: beside the node's state, by place and dataset.
    #[must_use]
    pub fn place(state: &Path, place: &str, dataset: DatasetId) -> PathBuf {
        let mut digest = Sha256::new();
        digest.update(place);
        digest.update([0]);
        digest.update(dataset.as_bytes());
        let name = ItemDigest(digest.finalize().into()).to_string();
        state.join("rewrap").join(format!("{}.json", &name[..32]))
    }

    /// Opens it, and reads the position of an earlier run, if there is one.
    ///
    /// # Errors
    /// Another process has it; it is of another prefix or dataset, or none; the file system refused.
    pub fn open(
        path: PathBuf,
        place: &str,
        dataset: DatasetId,
    ) -> Result<(Self, Option<Position>), Report> {
        let lock = Lock::take(&path).map_err(|error| match error {
            crate::Error::Locked(_) => {
                Report::new(exit::CONFLICT, format!("{} cannot be used", path.display()))
                    .why("another process is rewrapping this prefix")
                    .next("wait for it to end")
            }
            other => other.report(),
        })?;
        let journal = Self {
            path,
            place: place.to_owned(),
            dataset,
            _lock: lock,
        };
        let bytes = match files::read_private(&journal.path, LIMIT) {
            Ok(bytes) => bytes,
            Err(FileError::Missing(_)) => return Ok((journal, None)),
            Err(error) => return Err(crate::Error::from(error).into()),
        };
        let position = journal.read(&bytes).map_err(|why| {
            Report::new(
                exit::CONFIG,
                format!("{} cannot be used", journal.path.display()),
            )
            .why(why)
            .next("move it away: what is done is found to be, by looking at all objects")
        })?;
        Ok((journal, Some(position)))
    }

    fn read(&self, bytes: &[u8]) -> Result<Position, String> {
        let text: Text = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if text.v != 1 {
            return Err("another version than 1".to_owned());
        }
        if text.rewrap != self.place || text.dataset != self.dataset.to_string() {
            return Err(format!("it is of {} ({})", text.rewrap, text.dataset));
        }
        if text.left.len() > FAILED * 2 || text.made.len() > FAILED {
            return Err("it has too many lines".to_owned());
        }
        let key = |key: String| {
            if key.is_empty() || key.len() > KEY {
                return Err("a key of 0 or more than 1,024 bytes".to_owned());
            }
            Ok(key)
        };
        let made = |made: MadeText| {
            let wrapped = URL_SAFE_NO_PAD.decode(&made.wrapped);
            let wrapped = wrapped.map_err(|error| format!("wrapped: {error}"))?;
            if wrapped.len() > MAX_WRAPPED_LEN {
                return Err("a wrap that is too long".to_owned());
            }
            let old: Result<ItemDigest, _> = made.old.parse();
            Ok(Made {
                key: key(made.key)?,
                old: old.map_err(|error| format!("old: {error}"))?,
                wrapped,
            })
        };
        let kek = text.kek.as_deref().map(str::parse::<KekId>).transpose();
        Ok(Position {
            kek: kek.map_err(|error| format!("kek: {error}"))?,
            after: text.after.map(key).transpose()?,
            left: text.left.into_iter().map(key).collect::<Result<_, _>>()?,
            made: text.made.into_iter().map(made).collect::<Result<_, _>>()?,
        })
    }

    /// Keeps a position, on the disk before it returns.
    ///
    /// # Errors
    /// The file system refused.
    pub fn keep(&self, position: &Position) -> Result<(), Report> {
        let made = |made: &Made| MadeText {
            key: made.key.clone(),
            old: made.old.to_string(),
            wrapped: URL_SAFE_NO_PAD.encode(&made.wrapped),
        };
        let text = Text {
            v: 1,
            rewrap: self.place.clone(),
            dataset: self.dataset.to_string(),
            kek: position.kek.map(|kek| kek.to_string()),
            after: position.after.clone(),
            left: position.left.iter().cloned().collect(),
            made: position.made.iter().map(made).collect(),
        };
        let failed = |why: String| {
            Report::new(
                exit::LOCAL,
                format!("{} cannot be written", self.path.display()),
            )
            .why(why)
            .next("free disk space, and run it again: what was done stays done")
        };
        let bytes = serde_json::to_vec(&text).map_err(|error| failed(error.to_string()))?;
        files::write_private(&self.path, &bytes).map_err(|error| failed(error.to_string()))
    }

    /// Removes it: all is done.
    ///
    /// # Errors
    /// The file system refused.
    pub fn end(self) -> Result<(), Report> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                let what = format!("{} cannot be removed", self.path.display());
                Err(Report::new(exit::LOCAL, what).why(error).next("remove it"))
            }
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "s3://bucket/prefix/";
    const DATASET: DatasetId = DatasetId([1; 16]);

    #[test]
    fn what_was_kept_is_known_to_the_next_run_and_to_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = Journal::place(dir.path(), PLACE, DATASET);
        let (journal, before) = Journal::open(path.clone(), PLACE, DATASET).unwrap();
        assert_eq!(before, None);
        let position = Position {
            kek: Some(KekId([2; 16])),
            after: Some("prefix/\u{e4} b".to_owned()),
            left: ["prefix/a".to_owned()].into(),
            made: vec![Made {
                key: "prefix/c".to_owned(),
                old: ItemDigest([3; 32]),
                wrapped: vec![4; 100],
            }],
        };
        journal.keep(&position).unwrap();
        let second = Journal::open(path.clone(), PLACE, DATASET);
        assert!(second.is_err_and(|report| report.exit == exit::CONFLICT));
        drop(journal);
        let (journal, kept) = Journal::open(path.clone(), PLACE, DATASET).unwrap();
        assert_eq!(kept, Some(position));
        journal.end().unwrap();
        let (_, kept) = Journal::open(path, PLACE, DATASET).unwrap();
        assert_eq!(kept, None);
    }

    #[test]
    fn what_is_of_another_prefix_or_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (journal, _) = Journal::open(path.clone(), PLACE, DATASET).unwrap();
        journal.keep(&Position::default()).unwrap();
        drop(journal);
        let text = std::fs::read_to_string(&path).unwrap();
        let config = |opened: Result<_, Report>| {
            opened.is_err_and(|report: Report| report.exit == exit::CONFIG)
        };
        let other = "s3://bucket/other";
        assert!(config(Journal::open(path.clone(), other, DATASET)));
        assert!(config(Journal::open(
            path.clone(),
            PLACE,
            DatasetId([9; 16])
        )));
        for damaged in [
            text.replace("\"v\":1", "\"v\":2"),
            text.replace("\"left\":[]", "\"left\":[\"\"]"),
            text.replace("\"kek\":null", "\"kek\":\"x\""),
            text.replace("\"v\":1", "\"v\":1,\"w\":1"),
            text[..text.len() - 1].to_owned(),
        ] {
            files::write_private(&path, damaged.as_bytes()).unwrap();
            assert!(
                config(Journal::open(path.clone(), PLACE, DATASET)),
                "{damaged}"
            );
        }
    }
}
