//! What a witness must never forget: per shard the newest checkpoint that it cosigned.
//!
//! One file for each shard, `<origin with / as +>.cosigned`, mode 0600, replaced as a whole: written
//! beside, synced, renamed, directory synced. So after a crash at any instant there is the old record or the new one, and a
//! file that does not hold is damage, never a torn write: it is refused, because a witness that
//! starts from less than it signed could sign backwards. Shards of different logs are written side
//! by side; the file system's own journal joins their syncs.
//!
//! A file is text: `postern witness 1 <SHA-256 of all behind this line, in hex>`, `time <seconds>`, and the
//! checkpoint as its log signed it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use sha2::{Digest, Sha256};
use ticket_format::time::Timestamp;
use ticket_format::tlog::ShardName;

use super::request::{MAX_NOTE, decimal};

const HEADER: &str = "postern witness 1 ";
const SUFFIX: &str = ".cosigned";
const BESIDE: &str = ".new";
/// Longest file: the header's line, the time's line, a checkpoint.
const MAX_FILE: u64 = 256 + MAX_NOTE as u64;

/// Why a witness's directory cannot be used. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused.
    #[error("cannot use the witness's state {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There is no directory. It is never made on the way: an empty one forgets what was signed.
    #[error("the witness's state {} does not exist; restore it, or retire this witness's keys and make a new witness: without its state it could sign backwards", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// It is there already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("the witness's state {} is in use by another process; stop that one first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Others can write there, or it is another user's.
    #[error("{} must be owned by this user and closed to others (directory 0700, file 0600)", path.display())]
    NotPrivate {
        /// The file or directory.
        path: PathBuf,
    },
    /// A record does not hold.
    #[error("the witness's record {} is damaged: {reason}; restore it from a copy that is not older, or retire this witness's keys: without the record it could sign backwards", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Two logs with one origin.
    #[error("two logs are called {origin}; a witness tells logs apart by their origins alone")]
    Twice {
        /// The origin.
        origin: String,
    },
    /// More logs than a witness follows.
    #[error("{found} logs are configured, a witness follows at most {most}")]
    TooMany {
        /// How many.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}

impl StateError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// A record as it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Of the last cosignature, seconds.
    pub(crate) time: u64,
    /// The checkpoint as its log signed it.
    pub(crate) note: String,
}

impl Stored {
    fn to_text(&self) -> String {
        let behind = format!("time {}\n{}", self.time, self.note);
        format!("{HEADER}{}\n{behind}", hex(behind.as_bytes()))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (first, behind) = text.split_once('\n').ok_or("it has no second line")?;
        let digest = first
            .strip_prefix(HEADER)
            .ok_or("it does not begin as one")?;
        if digest != hex(behind.as_bytes()) {
            return Err("its digest is another");
        }
        let (time, note) = behind.split_once('\n').ok_or("it has no checkpoint")?;
        let time = time.strip_prefix("time ").and_then(decimal);
        Ok(Self {
            time: time.ok_or("its time is none")?,
            note: note.to_owned(),
        })
    }
}

/// The SHA-256 of `bytes`, in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The directory, open in this process alone.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// Locked as long as it is open, and what is synced after a rename.
    directory: File,
}

impl StateDir {
    /// Makes the directory of a new witness.
    pub(crate) fn create(path: &Path) -> Result<(), StateError> {
        let made = fs::DirBuilder::new().mode(0o700).create(path);
        made.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => StateError::Exists {
                path: path.to_owned(),
            },
            _ => StateError::io(path)(source),
        })?;
        let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(StateError::io(parent))
    }

    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => StateError::Missing {
                    path: path.to_owned(),
                },
                _ => StateError::io(path)(source),
            })?;
        private(path, &directory, 0o022)?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StateError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(StateError::io(path)(error.into())),
        }
        Ok(Self {
            path: path.to_owned(),
            directory,
        })
    }

    /// Every record there is, by the name of its shard.
    pub(crate) fn load(&self) -> Result<Vec<(ShardName, Stored)>, StateError> {
        load(&self.path)
    }

    /// The file of a shard's record, to name it.
    pub(crate) fn file(&self, shard: &ShardName) -> PathBuf {
        self.path.join(file_name(shard))
    }

    /// Replaces a shard's record; it is durable when this returns.
    ///
    /// # Errors
    /// The system refused. The directory then holds the old record or the new one; neither has been
    /// answered by more than the old one.
    pub(crate) fn keep(&self, shard: &ShardName, stored: &Stored) -> io::Result<()> {
        let path = self.file(shard);
        let mut beside = path.clone().into_os_string();
        beside.push(BESIDE);
        let beside = PathBuf::from(beside);
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&beside)?;
            file.write_all(stored.to_text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            self.directory.sync_all()
        })();
        if written.is_err() {
            // Only a leftover that the next write replaces.
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

/// Reads the records of a directory that may be in use: each file is whole at every instant.
pub(crate) fn load(path: &Path) -> Result<Vec<(ShardName, Stored)>, StateError> {
    let entries = fs::read_dir(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StateError::Missing {
            path: path.to_owned(),
        },
        _ => StateError::io(path)(source),
    })?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(StateError::io(path))?.path();
        let name = file.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(SUFFIX)) else {
            continue;
        };
        let damaged = |reason| StateError::Damaged {
            path: file.clone(),
            reason,
        };
        let text = read(&file)?;
        let stored = Stored::parse(&text).map_err(damaged)?;
        let shard = name.replace('+', "/").parse::<ShardName>();
        let shard = shard.map_err(|_| damaged("its name is not that of a shard"))?;
        let origin = stored.note.split('\n').next().unwrap_or_default();
        if origin != shard.to_string() {
            return Err(damaged("it holds the checkpoint of another shard"));
        }
        found.push((shard, stored));
    }
    found.sort_by_key(|(shard, _)| (shard.origin.to_string(), shard.number));
    Ok(found)
}

/// A record, for people to look at: the log's signatures on it are not verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Which shard.
    pub shard: ShardName,
    /// In leaves.
    pub size: u64,
    /// The root in base64.
    pub root: String,
    /// When it was cosigned.
    pub time: Timestamp,
}

/// What a witness cosigned last of each shard, also beside a running witness: each file is whole at every
/// instant.
///
/// # Errors
/// [`StateError`].
pub fn records(dir: &Path) -> Result<Vec<Cosigned>, StateError> {
    load(dir)?
        .into_iter()
        .map(|(shard, stored)| {
            let mut lines = stored.note.split('\n').skip(1);
            let size = lines.next().and_then(decimal);
            let root = lines.next().map(str::to_owned);
            let damaged = || StateError::Damaged {
                path: dir.join(file_name(&shard)),
                reason: "it holds no checkpoint",
            };
            Ok(Cosigned {
                size: size.ok_or_else(damaged)?,
                root: root.ok_or_else(damaged)?,
                time: Timestamp::from_seconds(stored.time),
                shard,
            })
        })
        .collect()
}

fn file_name(shard: &ShardName) -> String {
    // An origin holds no plus sign, so that this can be read back.
    format!("{}{SUFFIX}", shard.to_string().replace('/', "+"))
}

fn read(path: &Path) -> Result<String, StateError> {
    let io = StateError::io(path);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(&io)?;
    private(path, &file, 0o077)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(&io)?;
    let damaged = |reason| StateError::Damaged {
        path: path.to_owned(),
        reason,
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(damaged("it is too long"));
    }
    String::from_utf8(bytes).map_err(|_| damaged("it is not text"))
}

fn private(path: &Path, file: &File, closed: u32) -> Result<(), StateError> {
    let meta = file.metadata().map_err(StateError::io(path))?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if !ours || meta.mode() & closed != 0 {
        return Err(StateError::NotPrivate {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shard(name: &str) -> ShardName {
        name.parse().unwrap()
    }

    fn stored(shard: &ShardName, size: u64) -> Stored {
        Stored {
            time: 1_700_000_000,
            note: format!("{shard}\n{size}\nroot\n\n— {shard} signature\n"),
        }
    }

    fn made() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        StateDir::create(&path).unwrap();
        (dir, path)
    }

    #[test]
    fn what_is_kept_is_found_again_by_its_shard() {
        let (_dir, path) = made();
        let state = StateDir::open(&path).unwrap();
        let (one, two) = (
            shard("realm/broker/0011223344556677/1"),
            shard("a%20b.example/key-server/ffeeddccbbaa9988/12"),
        );
        for size in [1, 7] {
            state.keep(&one, &stored(&one, size)).unwrap();
        }
        state.keep(&two, &stored(&two, 3)).unwrap();
        drop(state);
        // What a killed process left beside is no record.
        fs::write(path.join("x.cosigned.new"), b"half").unwrap();
        let state = StateDir::open(&path).unwrap();
        let found = state.load().unwrap();
        assert_eq!(
            found,
            [
                (two.clone(), stored(&two, 3)),
                (one.clone(), stored(&one, 7)),
            ]
        );
        let mode = fs::metadata(state.file(&one)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_record_that_was_touched_is_refused_and_not_forgotten() {
        let (_dir, path) = made();
        let state = StateDir::open(&path).unwrap();
        let name = shard("realm/broker/0011223344556677/1");
        state.keep(&name, &stored(&name, 5)).unwrap();
        let file = state.file(&name);
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            fs::write(&file, &bent).unwrap();
            assert!(
                matches!(state.load(), Err(StateError::Damaged { .. })),
                "byte {at}"
            );
            fs::write(&file, &whole[..at]).unwrap();
            assert!(
                matches!(state.load(), Err(StateError::Damaged { .. })),
                "cut at {at}"
            );
        }
        // The record of another shard, whole.
        let other = shard("realm/broker/0011223344556677/2");
        fs::write(&file, stored(&other, 5).to_text()).unwrap();
        assert!(matches!(state.load(), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn a_directory_that_is_missing_open_to_others_or_in_use_is_refused() {
        let (dir, path) = made();
        assert!(matches!(
            StateDir::open(&dir.path().join("none")),
            Err(StateError::Missing { .. })
        ));
        assert!(matches!(
            StateDir::create(&path),
            Err(StateError::Exists { .. })
        ));
        let open = StateDir::open(&path).unwrap();
        assert!(matches!(
            StateDir::open(&path),
            Err(StateError::InUse { .. })
        ));
        let name = shard("realm/broker/0011223344556677/1");
        open.keep(&name, &stored(&name, 5)).unwrap();
        fs::set_permissions(open.file(&name), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(open.load(), Err(StateError::NotPrivate { .. })));
        drop(open);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(
            StateDir::open(&path),
            Err(StateError::NotPrivate { .. })
        ));
    }
}
