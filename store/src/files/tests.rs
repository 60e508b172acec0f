//! Private files as the system gives them, and as it refuses them.

pub(crate) mod faults;

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn a_private_file_is_replaced_whole_and_stays_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    write_private(&path, b"one").unwrap();
    write_private(&path, b"two").unwrap();
    assert_eq!(read_private(&path, 10).unwrap(), b"two");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(matches!(
        create_private(&path, b"three"),
        Err(FileError::Exists(_))
    ));
}

#[test]
fn a_file_that_others_may_read_is_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    write_private(&path, b"x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        read_private(&path, 10),
        Err(FileError::NotPrivate(_))
    ));
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(
        read_private(&link, 10),
        Err(FileError::NotPrivate(_))
    ));
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next_write_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let file = |name: &str| dir.path().join(name);
    let others = [
        "key.tmp",
        "key.1x.tmp",
        "key2.7.tmp",
        "key.7",
        "other.7.tmp",
    ];
    for name in ["key.4194305.tmp", "key.7.tmp"].iter().chain(&others) {
        fs::write(file(name), b"half a secr").unwrap();
    }
    // Another process is at it.
    let busy = File::create(file("key.8.tmp")).unwrap();
    flock(&busy, FlockOperation::NonBlockingLockExclusive).unwrap();
    write_private(&path, b"whole").unwrap();
    assert!(!file("key.4194305.tmp").exists() && !file("key.7.tmp").exists());
    assert!(others.iter().all(|name| file(name).exists()));
    assert!(file("key.8.tmp").exists());
    drop(busy);
    write_private(&path, b"again").unwrap();
    assert!(!file("key.8.tmp").exists());
    assert_eq!(read_private(&path, 10).unwrap(), b"again");
}

#[test]
fn a_file_is_locked_while_it_is_written_beside_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let file = create_beside(&beside(&path)).unwrap();
    sweep(&path);
    assert_eq!(file.metadata().unwrap().nlink(), 1, "nobody swept it");
    drop(file);
    sweep(&path);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_secret_is_read_into_room_for_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    for length in [0, 32, 100, 5_000] {
        write_private(&path, &vec![7; length]).unwrap();
        let read = read_private(&path, 10_000).unwrap();
        assert_eq!((read.len(), read.capacity()), (length, length + 1));
    }
}

#[test]
fn a_directory_is_told_what_a_directory_must_be() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = private_dir(dir.path()).unwrap_err();
    assert!(matches!(error, FileError::NotPrivateDirectory(_)));
    let said = error.to_string();
    assert!(
        said.contains("must be a directory") && !said.contains("regular file"),
        "{said}"
    );
}

#[test]
fn a_file_past_its_bound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big");
    write_private(&path, &[0; 11]).unwrap();
    assert!(matches!(
        read_bounded(&path, 10),
        Err(FileError::TooLarge { limit: 10, .. })
    ));
    assert!(matches!(
        read_bounded(&dir.path().join("none"), 10),
        Err(FileError::Missing(_))
    ));
}
