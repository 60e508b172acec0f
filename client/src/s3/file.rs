//! Files that are whole or absent.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// Writes a file beside its place and moves it there when it is whole and on the disk. Dropped
/// earlier, it leaves nothing behind.
#[derive(Debug)]
pub struct FileSink {
    target: PathBuf,
    temporary: PathBuf,
    file: Option<std::fs::File>,
}

impl FileSink {
    /// Opens a new file in the directory of `target`, readable for the owner alone.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Unsupported`] for a path without a file name.
    // rule: OBJ-14
    pub fn create(target: &Path) -> Result<Self, StoreError> {
        if target.file_name().is_none() {
            return Err(StoreError::Unsupported(
                "the output path names a directory, not a file",
            ));
        }
        // A device or pipe would be replaced by a file.
        if std::fs::metadata(target).is_ok_and(|there| !there.is_file()) {
            return Err(StoreError::Unsupported(
                "the output is there already and is no regular file: write - for standard output",
            ));
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| StoreError::Io {
            path: target.to_owned(),
            source: std::io::Error::other(error),
        })?;
        let hidden = format!(".postern-{:016x}.part", u64::from_be_bytes(random));
        let temporary = target.with_file_name(hidden);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(StoreError::io(&temporary))?;
        Ok(Self {
            target: target.to_owned(),
            temporary,
            file: Some(file),
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`], for example when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(StoreError::io(&self.target)),
            None => Ok(()),
        }
    }

    /// Makes the file durable and moves it to its place.
    ///
    /// # Errors
    /// [`StoreError::Io`]; then the place is as it was before.
    // rule: OBJ-14
    pub fn finish(mut self) -> Result<(), StoreError> {
        if let Some(file) = &self.file {
            file.sync_all().map_err(StoreError::io(&self.target))?;
        }
        std::fs::rename(&self.temporary, &self.target).map_err(StoreError::io(&self.target))?;
        self.file = None;
        let directory = match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(StoreError::io(directory))
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// rule: OBJ-14
    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        std::fs::write(&target, "before").unwrap();

        let mut dropped = FileSink::create(&target).unwrap();
        dropped.write(b"half").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"before");
        drop(dropped);
        assert_eq!(std::fs::read(&target).unwrap(), b"before");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        let mut whole = FileSink::create(&target).unwrap();
        whole.write(b"af").unwrap();
        whole.write(b"ter").unwrap();
        whole.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"after");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let mode = std::fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_directory_and_a_path_without_name_are_clear_errors() {
        let dir = tempfile::tempdir().unwrap();
        let error = FileSink::create(&dir.path().join("no/out")).unwrap_err();
        assert!(error.to_string().contains("no/"), "{error}");
        let longest = dir.path().join("n".repeat(255));
        FileSink::create(&longest).unwrap().finish().unwrap();
        assert!(longest.exists());
        for special in [dir.path(), Path::new("/dev/null")] {
            let error = FileSink::create(special).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
        assert!(FileSink::create(Path::new("/")).is_err());
        assert!(FileSink::create(Path::new("..")).is_err());
    }
}
