//! Opening the store's file.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, StorageError};

use super::file::{self, Disk};
use super::schema;
use crate::types::Revision;

/// Why a store could not be opened. Every message names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot open the store {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the store {} is in use by another process; stop that one first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A symbolic link, directory, device or the like.
    #[error("the store {} is not a plain file (symbolic links are refused); give the path of the file itself", path.display())]
    NotAPlainFile {
        /// The file.
        path: PathBuf,
    },
    /// The file belongs to another user.
    #[error("the store {} belongs to user {owner}, this program runs as user {user}; change the owner or the user", path.display())]
    NotOwner {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The process's effective user id.
        user: u32,
    },
    /// Group or others have access.
    #[error("the store {} has mode {mode:04o}, others may reach it; set it to 0600 (chmod 600) and ask who read it", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Some other file.
    #[error("{} is not a Postern store; check the path", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// A store of another version.
    #[error("the store {} has format {found}, this program reads format {}; use the program that wrote it", path.display(), schema::FORMAT_VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
    },
    /// The file's checksums or structure are wrong.
    #[error("the store {} is damaged: {reason}; restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    fn engine(path: &Path, error: DatabaseError) -> Self {
        let path = path.to_owned();
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse { path },
            // redb says "invalid data" for a file without its magic number.
            DatabaseError::Storage(StorageError::Io(source))
                if source.kind() == io::ErrorKind::InvalidData =>
            {
                Self::NotAStore { path }
            }
            DatabaseError::Storage(StorageError::Io(source))
                if source.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Self::Damaged {
                    path,
                    reason: "it is cut short".to_owned(),
                }
            }
            DatabaseError::Storage(StorageError::Io(source)) => Self::Io { path, source },
            other => Self::Damaged {
                path,
                reason: other.to_string(),
            },
        }
    }
}

/// Opens or makes the store; gives its disk, database and revision.
pub(super) fn open(path: &Path) -> Result<(Disk, Database, Revision), OpenError> {
    let Some(file) = file::open_existing(path)? else {
        return create(path);
    };
    let length = file
        .metadata()
        .map_err(|source| OpenError::io(path, source))?
        .len();
    if length == 0 {
        // redb would take it for a new one, but a store that was here and is now empty lost everything.
        return Err(OpenError::NotAStore {
            path: path.to_owned(),
        });
    }
    let disk = Disk::new(file);
    let (database, revision) = reopen(path, &disk)?;
    Ok((disk, database, revision))
}

/// Opens the database on a disk that is already open and locked.
pub(super) fn reopen(path: &Path, disk: &Disk) -> Result<(Database, Revision), OpenError> {
    // redb may panic on a file changed by others; for the caller that is damage like any other.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database =
            schema::open_database(disk).map_err(|error| OpenError::engine(path, error))?;
        let revision = schema::check_format(&database, path)?;
        Ok((database, revision))
    }));
    opened.unwrap_or_else(|_| {
        Err(OpenError::Damaged {
            path: path.to_owned(),
            reason: "its structure is broken".to_owned(),
        })
    })
}

fn create(path: &Path) -> Result<(Disk, Database, Revision), OpenError> {
    let (file, draft) = file::create_draft(path)?;
    let disk = Disk::new(file);
    let made = schema::open_database(&disk)
        .map_err(|error| OpenError::engine(&draft, error))
        .and_then(|database| {
            schema::initialize(&database)
                .map_err(|error| OpenError::io(&draft, io::Error::other(error.to_string())))?;
            file::publish_draft(&draft, path)?;
            Ok(database)
        });
    match made {
        Ok(database) => Ok((disk, database, Revision::ZERO)),
        Err(error) => {
            // The draft is ours and locked; what cannot be removed is emptied by the next attempt.
            let _ = std::fs::remove_file(&draft);
            Err(error)
        }
    }
}
