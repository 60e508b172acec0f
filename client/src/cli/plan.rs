//! From two places on the command line to the objects that are copied.

use std::path::{Component, Path, PathBuf};

use futures::TryStreamExt as _;
use ticket_format::report::{Report, exit};

use crate::object::metadata::Context;
use crate::object::recovery;
use crate::s3::copy::Job;
use crate::s3::{Fault, Location, SUFFIX, StoreError, Stores};

/// Most files of a directory tree that one command copies; beyond it the list itself is too large.
const FILES: usize = 1_000_000;

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Plain to encrypted.
    Encrypt,
    /// Encrypted to plain.
    Decrypt,
}

/// What the places say by themselves: the side at `s3://` or `*.postern` is the encrypted one.
///
/// # Errors
/// Both sides are, or none is.
pub fn direction(from: &Location, to: &Location) -> Result<Direction, Report> {
    let usage = |why| {
        Report::new(exit::USAGE, "nothing was copied")
            .why(why)
            .next("say `postern encrypt` or `postern decrypt`")
    };
    match (looks_encrypted(from), looks_encrypted(to)) {
        (false, true) => Ok(Direction::Encrypt),
        (true, false) => Ok(Direction::Decrypt),
        (true, true) => Err(usage("both places look encrypted (s3:// or *.postern)")),
        (false, false) => Err(usage("neither place looks encrypted (s3:// or *.postern)")),
    }
}

fn looks_encrypted(place: &Location) -> bool {
    match place {
        Location::S3 { .. } => true,
        Location::File(path) => path.to_string_lossy().ends_with(SUFFIX),
        Location::Stdio => false,
    }
}

/// How a place's error ends a command.
#[must_use]
pub fn exit_of(fault: Fault) -> u8 {
    match fault {
        Fault::Local => exit::LOCAL,
        Fault::Usage => exit::USAGE,
        Fault::Refused => exit::REFUSED,
        Fault::NotFound => exit::NOT_FOUND,
        Fault::Conflict => exit::CONFLICT,
        Fault::Unreachable => exit::RETRY,
        Fault::Integrity => exit::INTEGRITY,
        Fault::Configuration => exit::CONFIG,
    }
}

/// A place's error as a person reads it.
#[must_use]
pub fn store_report(what: &str, error: &StoreError) -> Report {
    Report::new(exit_of(error.fault()), what).why(error)
}

/// The objects to copy.
///
/// # Errors
/// A place cannot be listed, or the two do not go together.
pub async fn jobs(
    stores: &Stores,
    from: &Location,
    to: &Location,
    direction: Direction,
    name: Option<&str>,
    context: &Context,
) -> Result<Vec<Job>, Report> {
    let usage = |why: &str| Report::new(exit::USAGE, "nothing was copied").why(why);
    let job = |from: Location, to: Location| Job {
        from,
        to,
        name: name.map(str::to_owned),
        context: context.clone(),
    };
    if !is_prefix(from) {
        let to = if is_prefix(to) {
            let base = base_name(from)
                .ok_or_else(|| usage("standard input has no name to use under a prefix"))?;
            under(to, &renamed(&base, to, direction))?
        } else {
            to.clone()
        };
        return Ok(vec![job(from.clone(), to)]);
    }
    if !is_prefix(to) {
        return Err(usage("many objects need a destination that ends in /"));
    }
    if name.is_some() {
        return Err(usage("--name is for one object"));
    }
    let mut jobs = Vec::new();
    for relative in members(stores, from, direction).await? {
        let source = under(from, &relative)?;
        jobs.push(job(source, under(to, &renamed(&relative, to, direction))?));
    }
    if jobs.is_empty() {
        return Err(Report::new(exit::NOT_FOUND, "nothing was copied")
            .why(format!("nothing lies under {from}")));
    }
    Ok(jobs)
}

/// Whether a place is to hold many objects.
fn is_prefix(place: &Location) -> bool {
    match place {
        Location::S3 { key, .. } => key.is_empty() || key.ends_with('/'),
        Location::File(path) => path.to_string_lossy().ends_with('/') || path.is_dir(),
        Location::Stdio => false,
    }
}

fn base_name(place: &Location) -> Option<String> {
    match place {
        Location::S3 { key, .. } => key.rsplit('/').next().map(str::to_owned),
        Location::File(path) => Some(path.file_name()?.to_str()?.to_owned()),
        Location::Stdio => None,
    }
}

/// Encrypted files end in `.postern`; objects in S3 keep their names.
fn renamed(name: &str, to: &Location, direction: Direction) -> String {
    match (direction, to) {
        (Direction::Encrypt, Location::File(_)) => format!("{name}{SUFFIX}"),
        (Direction::Encrypt, _) => name.to_owned(),
        (Direction::Decrypt, _) => {
            let plain = name.strip_suffix(SUFFIX);
            plain
                .filter(|plain| !plain.is_empty() && !plain.ends_with('/'))
                .unwrap_or(name)
                .to_owned()
        }
    }
}

/// A place below a prefix. A name from a bucket must not lead out of the directory.
fn under(prefix: &Location, relative: &str) -> Result<Location, Report> {
    match prefix {
        Location::S3 { bucket, key } => Ok(Location::S3 {
            bucket: bucket.clone(),
            key: format!("{key}{relative}"),
        }),
        Location::File(dir) => {
            let relative = Path::new(relative);
            let plain = relative
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            if plain && relative.file_name().is_some() {
                Ok(Location::File(dir.join(relative)))
            } else {
                let what = format!("the name {:?} cannot be a file here", relative.display());
                Err(Report::new(exit::INTEGRITY, what).why("it would lead out of the directory"))
            }
        }
        Location::Stdio => Err(Report::new(exit::USAGE, "standard output holds one object")),
    }
}

/// Names relative to a prefix, ascending.
async fn members(
    stores: &Stores,
    from: &Location,
    direction: Direction,
) -> Result<Vec<String>, Report> {
    match from {
        Location::S3 { bucket, key } => {
            let listed = stores.list(bucket, key).try_collect::<Vec<_>>().await;
            let listed = listed.map_err(|error| store_report("nothing was copied", &error))?;
            // rule: RCP-3 — recoveries are read with the object that they are of.
            let relative = listed.into_iter().filter_map(|object| {
                let relative = object.key.strip_prefix(key.as_str())?;
                let object = !relative.is_empty()
                    && !relative.ends_with('/')
                    && recovery::of(relative).is_none();
                object.then(|| relative.to_owned())
            });
            Ok(relative.collect())
        }
        Location::File(dir) => {
            let mut files = Vec::new();
            walk(dir, PathBuf::new(), &mut files).map_err(|error| {
                Report::new(exit::LOCAL, "nothing was copied")
                    .why(format!("{}: {error}", dir.display()))
            })?;
            let names = files
                .into_iter()
                .filter_map(|file| file.to_str().map(str::to_owned));
            let mut names: Vec<String> = names
                .filter(|name| direction == Direction::Encrypt || name.ends_with(SUFFIX))
                .collect();
            names.sort();
            Ok(names)
        }
        Location::Stdio => Ok(Vec::new()),
    }
}

/// Regular files below a directory; symbolic links are not followed.
fn walk(root: &Path, relative: PathBuf, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(&relative))? {
        let entry = entry?;
        let path = relative.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, path, files)?;
        } else if kind.is_file() {
            if files.len() == FILES {
                return Err(std::io::Error::other(
                    "more than 1,000,000 files: copy parts of the tree",
                ));
            }
            files.push(path);
        }
    }
    Ok(())
}

/// Makes the directories that files will be written to.
///
/// # Errors
/// The file system refused.
pub fn make_directories(jobs: &[Job]) -> Result<(), Report> {
    let mut made: Option<&Path> = None;
    for job in jobs {
        if let Location::File(path) = &job.to
            && let Some(dir) = path.parent()
            && made != Some(dir)
        {
            std::fs::create_dir_all(dir).map_err(|error| {
                Report::new(exit::LOCAL, "nothing was copied")
                    .why(format!("{}: {error}", dir.display()))
            })?;
            made = Some(dir);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Location {
        text.parse().unwrap()
    }

    #[test]
    fn the_side_in_s3_or_with_the_suffix_is_the_encrypted_one() {
        let of = |from, to| direction(&place(from), &place(to));
        assert_eq!(of("a", "s3://bucket/a"), Ok(Direction::Encrypt));
        assert_eq!(of("a", "a.postern"), Ok(Direction::Encrypt));
        assert_eq!(of("s3://bucket/a", "a"), Ok(Direction::Decrypt));
        assert_eq!(of("a.postern", "-"), Ok(Direction::Decrypt));
        assert_eq!(of("a", "b").unwrap_err().exit, exit::USAGE);
        assert_eq!(
            of("s3://bucket/a", "s3://bucket/b").unwrap_err().exit,
            exit::USAGE
        );
    }

    #[tokio::test]
    async fn a_tree_becomes_one_job_for_each_file_and_links_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("b"), "b").unwrap();
        std::fs::write(dir.path().join("sub/a"), "a").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let from = place(&format!("{}/", dir.path().display()));
        let stores = Stores::from_env(Some("http://127.0.0.1:9")).unwrap();
        let context = Context::new();
        let to = place("s3://bucket/in/");
        let jobs = jobs(&stores, &from, &to, Direction::Encrypt, None, &context)
            .await
            .unwrap();
        let targets: Vec<String> = jobs.iter().map(|job| job.to.to_string()).collect();
        assert_eq!(targets, ["s3://bucket/in/b", "s3://bucket/in/sub/a"]);
    }

    #[tokio::test]
    async fn one_file_keeps_its_name_under_a_prefix_and_takes_or_loses_the_suffix() {
        let stores = Stores::from_env(Some("http://127.0.0.1:9")).unwrap();
        let target = async |from: &str, to: &str, direction| {
            let context = Context::new();
            let jobs = jobs(&stores, &place(from), &place(to), direction, None, &context)
                .await
                .unwrap();
            jobs[0].to.to_string()
        };
        assert_eq!(
            target("x/a", "out/", Direction::Encrypt).await,
            "out/a.postern"
        );
        assert_eq!(
            target("a", "s3://bucket/in/", Direction::Encrypt).await,
            "s3://bucket/in/a"
        );
        assert_eq!(
            target("x/a.postern", "out/", Direction::Decrypt).await,
            "out/a"
        );
        assert_eq!(
            target("s3://bucket/in/a", "out/", Direction::Decrypt).await,
            "out/a"
        );
        assert_eq!(target("a", "b", Direction::Encrypt).await, "b");
    }

    #[test]
    fn a_name_from_a_bucket_cannot_leave_the_directory() {
        for name in ["../a", "a/../../b", "/etc/passwd", "..", ""] {
            assert!(under(&place("out/"), name).is_err(), "{name:?}");
        }
        assert!(under(&place("out/"), "a/b").is_ok());
    }
}
