//! The files of KEK versions' key material (KEK-5): `<dataset>/<version>.sealed` in one directory, each
//! written once and never again.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use store::files::{self, FileError};
use ticket_format::ids::{DatasetId, KekId};

use crate::vault::KekRecord;

/// Most bytes of one file.
const LIMIT: u64 = 1_024;
const SUFFIX: &str = ".sealed";

/// Where key material stands.
#[derive(Clone, Debug)]
pub(super) struct KeyFiles(Arc<ArcSwap<PathBuf>>);

impl KeyFiles {
    /// Those in this directory; it need not be there yet.
    #[must_use]
    pub(super) fn at(dir: PathBuf) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(dir)))
    }

    /// From now on those in this directory: a rekey sealed them anew there (ROOT-7).
    pub(super) fn move_to(&self, dir: PathBuf) {
        self.0.store(Arc::new(dir));
    }

    fn path(&self, record: &KekRecord) -> PathBuf {
        let dir = self.0.load().join(record.dataset.to_string());
        dir.join(format!("{}{SUFFIX}", record.kek))
    }

    /// Writes the key material of a version that no store names yet: durable, and read back, when this
    /// returns.
    ///
    /// # Errors
    /// The system refused, or what was read back is not what was written; nothing is left.
    pub(super) fn create(&self, record: &KekRecord, sealed: &[u8]) -> Result<(), FileError> {
        // rule: KEK-5
        let (path, all) = (self.path(record), self.0.load());
        let dir = path.parent().unwrap_or(&all);
        files::private_dir(dir)?;
        // The names of both directories may be new.
        for made in [Some(all.as_path()), all.parent()].into_iter().flatten() {
            files::sync_dir(made)?;
        }
        files::create_private(&path, sealed)?;
        let written = files::read_private(&path, LIMIT).and_then(|read| {
            if read == sealed {
                return Ok(());
            }
            let source = io::Error::other("it reads otherwise than it was written");
            let path = path.clone();
            Err(FileError::Io { path, source })
        });
        if written.is_err() {
            let _ = files::erase(&path);
        }
        written
    }

    /// Reads a version's key material.
    ///
    /// # Errors
    /// Missing, or the system refused.
    pub(super) fn read(&self, record: &KekRecord) -> Result<Vec<u8>, FileError> {
        files::read_private(&self.path(record), LIMIT)
    }

    /// Erases a version's key material; one that is not there is erased already.
    ///
    /// # Errors
    /// The system refused; it may be there still.
    pub(super) fn erase(&self, record: &KekRecord) -> Result<(), FileError> {
        // rule: KEK-5
        let path = self.path(record);
        files::erase(&path)?;
        match path.parent() {
            Some(dir) if dir.exists() => files::sync_dir(dir),
            _ => Ok(()),
        }
    }

    /// How many files hold key material that no store names: of a version that was never taken into use, or
    /// of one that an older copy of the store does not know. They stay.
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn unnamed(&self, named: &HashSet<(DatasetId, KekId)>) -> Result<usize, FileError> {
        // rule: KEK-5
        let mut unnamed = 0;
        for dir in entries(&self.0.load())? {
            let Some(dataset) = name(&dir).and_then(|name| name.parse().ok()) else {
                continue;
            };
            for file in entries(&dir)? {
                let kek = name(&file).and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
                unnamed += usize::from(kek.is_some_and(|kek| !named.contains(&(dataset, kek))));
            }
        }
        Ok(unnamed)
    }
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// What a directory holds; nothing where it is not there, or is none.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let read = fs::read_dir(dir).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<Vec<_>>>()
    });
    match read {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        other => other.map_err(|source| FileError::Io {
            path: dir.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::seal::{Kem, SealingSecret};
    use ticket_format::secret::SealingSeed;
    use ticket_format::statement::{KekOrigin, KekState};
    use ticket_format::time::Timestamp;

    fn record(kek: u8) -> KekRecord {
        let key = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([1; 32]));
        KekRecord {
            dataset: DatasetId([7; 16]),
            kek: KekId([kek; 16]),
            version: kek.into(),
            state: KekState::Enabled,
            origin: KekOrigin::Generated,
            created: Timestamp::default(),
            destroyed: None,
            public: Some(key.public()),
            file: Some([0; 32]),
            provenance: None,
            expiry: None,
            lapsed: false,
        }
    }

    #[test]
    fn key_material_is_written_once_and_never_over_another() {
        // rule: KEK-5
        let dir = tempfile::tempdir().unwrap();
        let files = KeyFiles::at(dir.path().join("kek"));
        files.create(&record(1), b"one").unwrap();
        let again = files.create(&record(1), b"two");
        assert!(matches!(again, Err(FileError::Exists(_))), "{again:?}");
        assert_eq!(files.read(&record(1)).unwrap(), b"one");
    }

    #[test]
    fn what_no_store_names_is_told_of_and_stays() {
        // rule: KEK-5
        let dir = tempfile::tempdir().unwrap();
        let files = KeyFiles::at(dir.path().join("kek"));
        assert_eq!(files.unnamed(&HashSet::new()).unwrap(), 0);
        for kek in 1..=3 {
            files.create(&record(kek), b"sealed").unwrap();
        }
        fs::write(dir.path().join("kek/notes"), "an operator's").unwrap();
        let named = HashSet::from([(record(2).dataset, record(2).kek)]);
        assert_eq!(files.unnamed(&named).unwrap(), 2);
        assert!((1..=3).all(|kek| files.read(&record(kek)).is_ok()));
        files.erase(&record(2)).unwrap();
        files.erase(&record(2)).unwrap();
        assert!(matches!(files.read(&record(2)), Err(FileError::Missing(_))));
    }
}
