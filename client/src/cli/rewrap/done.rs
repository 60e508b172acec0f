//! The list of what is done of a plan: one JSON line for each object, on the disk before the next is
//! told, so that a run that was cut off goes on where it was.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use serde_json::json;
use ticket_format::ids::ItemDigest;
use ticket_format::report::{Report, exit};

use super::plan::Mark;
use crate::cli::app::now;
use crate::s3::copy::{Job, Progress};

/// Largest list, in bytes: a million lines of ordinary length.
const LIMIT: u64 = 1024 * 1024 * 1024;

#[derive(Deserialize)]
struct Line {
    mark: String,
}

/// The list, held by one process at a time.
#[derive(Debug)]
pub struct Done {
    path: PathBuf,
    file: File,
    marks: HashSet<Mark>,
}

impl Done {
    /// Opens the list beside a plan, `FILE.done`. A torn last line, of a run that was cut off, is cut
    /// away: its object is looked at again, and found to be under another data key.
    ///
    /// # Errors
    /// Another process has it, or the file system refused.
    pub fn open(plan: &Path) -> Result<Self, Report> {
        let mut name = plan.as_os_str().to_owned();
        name.push(".done");
        let path = PathBuf::from(name);
        let failed = |code, why: String| {
            Report::new(code, format!("{} cannot be used", path.display())).why(why)
        };
        let io = |error: std::io::Error| failed(exit::LOCAL, error.to_string());
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let why = "another process is working on this plan".to_owned();
                return Err(failed(exit::CONFLICT, why).next("wait for it to end"));
            }
            Err(error) => return Err(io(error.into())),
        }
        let mut text = Vec::new();
        let mut limited = (&mut file).take(LIMIT + 1);
        limited.read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > LIMIT {
            return Err(failed(exit::LOCAL, "it is too large".to_owned()));
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(io)?;
            file.seek(SeekFrom::End(0)).map_err(io)?;
        }
        let mut marks = HashSet::new();
        for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let mark = serde_json::from_slice::<Line>(line).ok();
            let mark = mark.and_then(|line| line.mark.parse::<ItemDigest>().ok());
            let mark = mark.ok_or_else(|| {
                failed(
                    exit::CONFIG,
                    format!("line {} is not of such a list", number + 1),
                )
                .next("move it away; objects that are done are found to be")
            })?;
            marks.insert(mark.0);
        }
        Ok(Self { path, file, marks })
    }

    /// Whether it is done.
    #[must_use]
    pub fn has(&self, mark: &Mark) -> bool {
        self.marks.contains(mark)
    }

    fn add(&mut self, mark: Mark, object: &str) -> std::io::Result<()> {
        let line = json!({
            "v": 1, "mark": ItemDigest(mark).to_string(), "object": object, "at": now().to_string(),
        });
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()?;
        self.marks.insert(mark);
        Ok(())
    }
}

/// Notes each object that is done, and passes everything on.
pub struct Noting {
    inner: Arc<dyn Progress>,
    marks: HashMap<String, Mark>,
    done: Arc<Mutex<Done>>,
    failed: Mutex<Option<Report>>,
}

impl Noting {
    /// Notes the objects of these marks, by place.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Progress>,
        marks: HashMap<String, Mark>,
        done: Arc<Mutex<Done>>,
    ) -> Self {
        Self {
            inner,
            marks,
            done,
            failed: Mutex::new(None),
        }
    }

    /// Why a line could not be written, if one could not.
    #[must_use]
    pub fn failure(&self) -> Option<Report> {
        let failed = self.failed.lock();
        failed.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Progress for Noting {
    fn begin(&self, job: &Job, len: Option<u64>) {
        self.inner.begin(job, len);
    }

    fn advance(&self, bytes: u64) {
        self.inner.advance(bytes);
    }

    fn end(&self, job: &Job, failure: Option<&dyn std::error::Error>) {
        let place = job.to.to_string();
        if let (None, Some(mark)) = (failure, self.marks.get(&place)) {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = done.add(*mark, &place) {
                let what = format!("{} cannot be written", done.path.display());
                let report = Report::new(exit::LOCAL, what)
                    .why(error)
                    .next("free disk space; what was done stays done");
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            }
        }
        self.inner.end(job, failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_to_the_next_run_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan");
        let mut done = Done::open(&plan).unwrap();
        done.add([1; 32], "s3://bucket/a").unwrap();
        done.add([2; 32], "s3://bucket/b").unwrap();
        assert!(
            Done::open(&plan).is_err_and(|report| report.exit == exit::CONFLICT),
            "one process at a time"
        );
        drop(done);
        let path = dir.path().join("plan.done");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let mut done = Done::open(&plan).unwrap();
        assert!(done.has(&[1; 32]) && !done.has(&[2; 32]));
        done.add([3; 32], "s3://bucket/c").unwrap();
        drop(done);
        let done = Done::open(&plan).unwrap();
        assert!(done.has(&[1; 32]) && done.has(&[3; 32]));
        std::fs::write(dir.path().join("other.done"), "nothing\n").unwrap();
        let refused = Done::open(&dir.path().join("other"));
        assert_eq!(refused.unwrap_err().exit, exit::CONFIG);
    }
}
