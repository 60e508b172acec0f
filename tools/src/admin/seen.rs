//! The largest checkpoint that this admin has seen of each server's log, in files beside the admin set: a
//! server that cannot continue it is not believed any more (TLOG-6).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use store::files;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::{LogKey, SignedCheckpoint};

/// The directory of these files.
#[derive(Clone, Debug)]
pub struct Seen {
    directory: PathBuf,
}

/// Whether one checkpoint covers more than another of its log.
#[must_use]
pub fn later(one: &SignedCheckpoint, other: &SignedCheckpoint) -> bool {
    let place = |signed: &SignedCheckpoint| {
        let checkpoint = signed.checkpoint();
        (checkpoint.shard.number, checkpoint.size)
    };
    place(one) > place(other)
}

/// A server whose log is not the one that was seen before.
#[must_use]
pub fn another(word: &str, origin: impl std::fmt::Display, why: impl std::fmt::Display) -> Report {
    Report::new(
        exit::INTEGRITY,
        format!("the {word}'s log is not the one that was seen before"),
    )
    .why(format!("{origin}: {why}"))
    .next("use nothing of that server; find out who restored or changed what (`postern-admin log show`), then `log recover`, or `log forget` if it is accounted for")
}

impl Seen {
    /// Beside the admin set.
    #[must_use]
    pub fn beside(admin_set: &Path) -> Self {
        let mut name = admin_set.to_owned().into_os_string();
        name.push(".logs");
        Self {
            directory: name.into(),
        }
    }

    fn file(&self, key: &LogKey) -> PathBuf {
        let digest = Sha256::digest(key.origin.as_str());
        let name: String = digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.directory.join(name)
    }

    /// What was seen of a log.
    ///
    /// # Errors
    /// The file cannot be read, or the log's keys are others now.
    pub fn load(&self, key: &LogKey) -> Result<Option<SignedCheckpoint>, Report> {
        let path = self.file(key);
        if fs::symlink_metadata(&path).is_err() {
            return Ok(None);
        }
        let unusable = |why: String| {
            Report::new(
                exit::INTEGRITY,
                format!("what was seen of the log {} cannot be used", key.origin),
            )
            .why(why)
            .next("if the log's keys in the configuration are right, find out who changed them or the file; then `postern-admin log forget`")
        };
        let bytes = files::read_bounded(&path, limits::NOTE as u64)
            .map_err(|error| unusable(error.to_string()))?;
        let note = String::from_utf8(bytes)
            .map_err(|_| unusable(format!("{} is not text", path.display())))?;
        key.verify(&note)
            .map(Some)
            .map_err(|error| unusable(format!("{}: {error}", path.display())))
    }

    /// Remembers a checkpoint, durably, if it covers more than what is remembered.
    ///
    /// # Errors
    /// The file cannot be written; or another root of the same size is remembered.
    pub fn keep(&self, word: &str, key: &LogKey, new: &SignedCheckpoint) -> Result<(), Report> {
        // rule: TLOG-5
        if let Some(old) = self.load(key)? {
            let (before, now) = (old.checkpoint(), new.checkpoint());
            if (&before.shard, before.size) == (&now.shard, now.size) && before.root != now.root {
                let why = format!("{} entries of {} lead to two roots", now.size, now.shard);
                return Err(another(word, &key.origin, why));
            }
            if !later(new, &old) {
                return Ok(());
            }
        }
        let failed = |error: &dyn std::fmt::Display| {
            Report::new(exit::LOCAL, "what was seen of the log cannot be kept")
                .why(error)
                .next("make the directory of the admin set writable")
        };
        files::private_dir(&self.directory).map_err(|error| failed(&error))?;
        files::write_private(&self.file(key), new.note().as_bytes()).map_err(|error| failed(&error))
    }

    /// Forgets a log. Whether anything was known of it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(&self, key: &LogKey) -> Result<bool, Report> {
        match fs::remove_file(self.file(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                Err(Report::new(exit::LOCAL, "what was seen of the log stays").why(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ticket_format::time::Timestamp;
    use ticket_format::tlog::{Checkpoint, LogSecret};

    use super::*;

    fn secret(seed: u8) -> LogSecret {
        let origin = "example/broker/00".parse().unwrap();
        LogSecret::from_seeds(origin, &[seed; 32], &[seed; 32]).unwrap()
    }

    fn signed(shard: u64, size: u64, root: u8) -> SignedCheckpoint {
        let secret = secret(1);
        let checkpoint = Checkpoint {
            shard: secret.key().origin.shard(shard),
            size,
            root: [root; 32],
        };
        secret.sign(&checkpoint, Timestamp::from_seconds(1))
    }

    #[test]
    fn the_largest_checkpoint_is_kept_and_two_roots_of_one_size_are_told() {
        // rule: TLOG-5
        let place = tempfile::tempdir().unwrap();
        let seen = Seen::beside(&place.path().join("admin-set.cose"));
        let key = secret(1).key().clone();
        assert_eq!(seen.load(&key).unwrap(), None);
        for (new, kept) in [
            (signed(1, 10, 1), signed(1, 10, 1)),
            (signed(1, 9, 2), signed(1, 10, 1)),
            (signed(2, 1, 3), signed(2, 1, 3)),
            (signed(1, 20, 4), signed(2, 1, 3)),
        ] {
            seen.keep("broker", &key, &new).unwrap();
            assert_eq!(seen.load(&key).unwrap(), Some(kept));
        }
        let two = seen.keep("broker", &key, &signed(2, 1, 9)).unwrap_err();
        assert_eq!(two.exit, exit::INTEGRITY);
        // The file is not believed under other keys.
        assert_eq!(
            seen.load(secret(2).key()).unwrap_err().exit,
            exit::INTEGRITY
        );
        assert!(seen.forget(&key).unwrap() && !seen.forget(&key).unwrap());
    }
}
