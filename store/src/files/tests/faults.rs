//! A disk that refuses one call, or every call from one on: whatever the answer says of the file is true.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::super::calls::Call;
use super::*;

/// What the disk of this thread does.
struct Plan {
    /// Calls that still succeed.
    left: usize,
    /// What the call after those is answered with, and whether all after it are too.
    errno: Errno,
    for_good: bool,
    refused: Option<Call>,
}

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// Whether a call is refused.
pub(crate) fn may_fail(call: Call) -> io::Result<()> {
    PLAN.with_borrow_mut(|plan| {
        let Some(plan) = plan else { return Ok(()) };
        if plan.left > 0 {
            plan.left -= 1;
            return Ok(());
        }
        if plan.refused.is_some() && !plan.for_good {
            return Ok(());
        }
        plan.refused.get_or_insert(call);
        Err(plan.errno.into())
    })
}

/// Does something while the call after the first `left` ones is refused; says which one that was.
pub(crate) fn refusing<T>(
    left: usize,
    errno: Errno,
    for_good: bool,
    run: impl FnOnce() -> T,
) -> (T, Option<Call>) {
    let plan = Plan {
        left,
        errno,
        for_good,
        refused: None,
    };
    PLAN.set(Some(plan));
    let result = run();
    (result, PLAN.take().and_then(|plan| plan.refused))
}

/// Tries every call of something in turn, each with each error, alone and with all after it, each time after
/// `lay`, and shows what came of each trial. Returns the calls that were refused.
fn each_call<T>(
    mut lay: impl FnMut(),
    mut run: impl FnMut() -> Result<T, FileError>,
    mut look: impl FnMut(Call, bool, Result<T, FileError>),
) -> BTreeSet<Call> {
    let mut calls = BTreeSet::new();
    for errno in [Errno::NOSPC, Errno::IO] {
        for for_good in [false, true] {
            for left in 0.. {
                lay();
                let (result, refused) = refusing(left, errno, for_good, &mut run);
                let Some(call) = refused else {
                    assert!(result.is_ok());
                    break;
                };
                if let Err(error) = &result {
                    let why = io::Error::from(errno).to_string();
                    assert!(error.to_string().ends_with(&why), "{call:?}: {error}");
                }
                calls.insert(call);
                look(call, for_good, result);
            }
        }
    }
    calls
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_disk_that_fails_while_a_file_is_replaced_leaves_the_old_or_the_new_one_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let calls = each_call(
        || write_private(&path, b"the old one").unwrap(),
        || write_private(&path, b"the new one"),
        |call, for_good, result| {
            assert!(result.is_err(), "{call:?} was refused, and nobody was told");
            assert!(result.unwrap_err().to_string().contains("/key: "));
            let kept = read_private(&path, 100).unwrap();
            let new = call == Call::SyncDirectory;
            assert_eq!(kept == b"the new one", new, "{call:?}");
            assert_eq!(kept == b"the old one", !new, "{call:?}");
            // Half of a secret stays nowhere, or until the next write where nothing can be removed.
            let beside = names(dir.path()).len() - 1;
            let may = for_good && matches!(call, Call::Write | Call::Sync | Call::Rename);
            assert_eq!(beside, usize::from(may), "{call:?}");
            write_private(&path, b"the old one").unwrap();
            assert_eq!(names(dir.path()), ["key"], "{call:?}");
        },
    );
    let all = [
        Call::Create,
        Call::Write,
        Call::Sync,
        Call::Rename,
        Call::SyncDirectory,
    ];
    assert_eq!(calls, BTreeSet::from(all));
}

#[test]
fn a_disk_that_fails_while_a_file_is_made_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let calls = each_call(
        || erase(&path).unwrap(),
        || create_private(&path, b"a secret"),
        |call, for_good, result| {
            assert!(result.is_err(), "{call:?} was refused, and nobody was told");
            let there = path.exists();
            assert_eq!(there, for_good && call != Call::Create, "{call:?}");
            if there {
                // It is not taken for a good one by who makes it again.
                let again = create_private(&path, b"a secret");
                assert!(matches!(again, Err(FileError::Exists(_))), "{again:?}");
            }
        },
    );
    let all = [Call::Create, Call::Write, Call::Sync, Call::SyncDirectory];
    assert_eq!(calls, BTreeSet::from(all));
}

#[test]
fn a_file_is_called_erased_only_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, path) = (dir.path().join("all"), dir.path().join("all/below/key"));
    let lay = || {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"a secret").unwrap();
    };
    let calls = each_call(
        lay,
        || erase(&path),
        |call, _, result| {
            assert!(result.is_err(), "{call:?}");
            assert!(path.exists(), "{call:?}");
        },
    );
    assert_eq!(
        calls,
        BTreeSet::from([Call::Write, Call::Sync, Call::Remove])
    );
    let calls = each_call(
        lay,
        || erase_dir(&whole),
        |call, _, result| {
            assert!(result.is_err(), "{call:?}");
            // Whatever is there still, the next time erases it.
            erase_dir(&whole).unwrap();
            assert!(!whole.exists());
        },
    );
    assert!(calls.contains(&Call::SyncDirectory));
}

#[test]
fn what_cannot_be_read_is_not_taken_for_missing_or_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    write_private(&path, b"a secret").unwrap();
    for read in [read_private, read_bounded] {
        let calls = each_call(
            || (),
            || read(&path, 100),
            |_, _, result| assert!(matches!(result, Err(FileError::Io { .. })), "{result:?}"),
        );
        assert_eq!(calls, BTreeSet::from([Call::Read]));
    }
}

#[test]
fn names_that_are_not_durable_are_not_called_so() {
    let dir = tempfile::tempdir().unwrap();
    let calls = each_call(
        || (),
        || sync_dir(dir.path()),
        |_, _, result| assert!(result.is_err()),
    );
    assert_eq!(calls, BTreeSet::from([Call::SyncDirectory]));
}
