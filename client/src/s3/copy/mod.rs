//! Encrypting to and decrypting from places, many objects at a time.
//!
//! One exchange with the key server serves up to [`BATCH`](crate::object::keys::BATCH) objects;
//! the bodies of [`Options::parallel`] objects move at one time, each in constant memory.

mod download;
mod error;
pub mod prefix;
mod range;
mod rewrite;
mod s3ec;
mod upload;
mod wrap;

pub use download::download_many;
pub use error::CopyError;
pub use range::{ByteRange, cat_range, cat_range_as};
pub use rewrite::{Known, Look, Skipped, Wanted, look, reencrypt_many, rewrap_many};
pub use s3ec::{HELD, Reading};
pub use upload::upload_many;

use std::sync::Arc;

use crate::object::BodyError;
use crate::object::metadata::Context;

use super::StoreError;
use super::location::Location;

/// Bytes of plaintext and of body that one object holds in memory at a time, about.
const PIECE_LEN: usize = 256 << 10;

/// One object to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Where it is read.
    pub from: Location,
    /// Where it is written.
    pub to: Location,
    /// Its canonical logical name, where it is not that of the place of the encrypted object.
    pub name: Option<String>,
    /// Further pairs of its encryption context; only for encryption.
    pub context: Context,
}

/// How to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Objects whose bodies move at one time. Each upload holds up to 5 MiB and shares 15 MiB
    /// with the others; each download holds under 2 MiB.
    pub parallel: usize,
    /// Objects per exchange with the key server, at most 1,000.
    pub batch: usize,
    /// The format that is written.
    pub format: Format,
    /// What is accepted where objects of the S3 Encryption Client are read.
    pub reading: Reading,
}

/// A format of encrypted objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Our own (`spec/object.md`).
    #[default]
    Postern,
    /// The Amazon S3 Encryption Client's (`spec/s3ec.md`).
    S3ec,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parallel: 4,
            batch: crate::object::keys::BATCH,
            format: Format::default(),
            reading: Reading::default(),
        }
    }
}

impl Options {
    fn parallel(self) -> usize {
        self.parallel.max(1)
    }

    fn batch(self) -> usize {
        self.batch.clamp(1, crate::object::keys::BATCH)
    }
}

/// Is told how copying goes on. Called from several tasks.
pub trait Progress: Send + Sync {
    /// An object begins; its plaintext has `len` bytes if that is known.
    fn begin(&self, job: &Job, len: Option<u64>) {
        let _ = (job, len);
    }
    /// This many more bytes of plaintext have been read or written.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }
    /// An object is complete at its place, or has failed.
    fn end(&self, job: &Job, failure: Option<&dyn std::error::Error>) {
        let _ = (job, failure);
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {}

/// How a copy of many objects went.
#[derive(Debug)]
pub struct Summary<E> {
    /// Objects that are complete at their places.
    pub done: u64,
    /// Bytes of their plaintext.
    pub bytes: u64,
    /// Objects that failed, and why.
    pub failed: Vec<(Job, CopyError<E>)>,
    /// Why the copy ended before all jobs were tried: the key server could not be asked.
    pub aborted: Option<E>,
}

impl<E> Summary<E> {
    fn new() -> Self {
        Self {
            done: 0,
            bytes: 0,
            failed: Vec::new(),
            aborted: None,
        }
    }

    fn add(&mut self, job: Job, outcome: Result<u64, CopyError<E>>, progress: &dyn Progress)
    where
        E: std::error::Error + 'static,
    {
        match outcome {
            Ok(bytes) => {
                progress.end(&job, None);
                self.done += 1;
                self.bytes += bytes;
            }
            Err(error) => {
                progress.end(&job, Some(&error));
                self.failed.push((job, error));
            }
        }
    }
}

/// The name that the encrypted object at `place` has or is asked for by.
fn name_at<E>(place: &Location, name: Option<&str>) -> Result<String, CopyError<E>> {
    name.map(str::to_owned)
        .or_else(|| place.name())
        .ok_or_else(|| CopyError::NoName(place.to_string()))
}

/// A failure that does not know yet of which object.
enum Failed {
    Store(StoreError),
    Body(BodyError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<BodyError> for Failed {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

/// Runs bodies in tasks of their own, a bounded number at a time.
struct Crew<E> {
    tasks: tokio::task::JoinSet<(Job, Result<u64, CopyError<E>>)>,
    limit: usize,
    progress: Arc<dyn Progress>,
}

impl<E: std::error::Error + Send + Sync + 'static> Crew<E> {
    fn new(limit: usize, progress: &Arc<dyn Progress>) -> Self {
        Self {
            tasks: tokio::task::JoinSet::new(),
            limit,
            progress: Arc::clone(progress),
        }
    }

    async fn run(
        &mut self,
        summary: &mut Summary<E>,
        job: Job,
        work: impl Future<Output = Result<u64, CopyError<E>>> + Send + 'static,
    ) {
        while self.tasks.len() >= self.limit {
            self.collect_one(summary).await;
        }
        self.tasks.spawn(async move { (job, work.await) });
    }

    async fn collect_all(&mut self, summary: &mut Summary<E>) {
        while !self.tasks.is_empty() {
            self.collect_one(summary).await;
        }
    }

    async fn collect_one(&mut self, summary: &mut Summary<E>) {
        match self.tasks.join_next().await {
            Some(Ok((job, outcome))) => summary.add(job, outcome, &*self.progress),
            // A task is cancelled only together with this crew; a panic is a bug to be seen.
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) | None => {}
        }
    }
}
