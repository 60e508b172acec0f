//! Decrypting many objects.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use ticket_format::wrapped::Wrapped;
use zeroize::{Zeroize, Zeroizing};

use super::{CopyError, Crew, Job, Options, PIECE_LEN, Progress, Reading, Summary, name_at, s3ec};
use crate::object::keys::{KeySource, OpenedKey, WrapItem};
use crate::object::{BodyHeader, Decryptor, HEADER_LEN, plaintext_len};
use crate::s3::{AnySource, Location, ObjectSource, Sink, StoreError, Stores};

/// Metadata of this many objects is read at one time.
pub(super) const HEADS_IN_FLIGHT: usize = 16;

/// Decrypts each job's `from` to its `to`, a file or standard output. A file appears only when its
/// object has been authenticated to the end. One refused object does not stop the others.
pub async fn download_many<K: KeySource>(
    stores: &Stores,
    keys: &K,
    jobs: impl IntoIterator<Item = Job>,
    options: Options,
    progress: &Arc<dyn Progress>,
) -> Summary<K::Error> {
    let mut summary = Summary::new();
    let mut crew = Crew::new(options.parallel(), progress);
    let mut jobs = jobs.into_iter().peekable();
    while jobs.peek().is_some() {
        let mut batch = Vec::new();
        let mut items = Vec::new();
        let some: Vec<Job> = jobs.by_ref().take(options.batch()).collect();
        let mut heads = stream::iter(some)
            .map(|job| async move {
                let opened = open_by(stores, keys, &job, options.reading).await;
                (job, opened)
            })
            .buffered(HEADS_IN_FLIGHT);
        while let Some((job, opened)) = heads.next().await {
            match opened {
                Ok((source, item)) => {
                    batch.push((job, source));
                    items.push(item);
                }
                Err(error) => summary.add(job, Err(error), &**progress),
            }
        }
        drop(heads);
        if items.is_empty() {
            continue;
        }
        let answers = match keys.unwrap(items).await {
            Ok(answers) => answers,
            Err(error) => {
                summary.aborted = Some(error);
                break;
            }
        };
        let complete = answers.len() == batch.len();
        let mut answers = answers.into_iter();
        for (job, source) in batch {
            let place = job.from.to_string();
            let key = match answers.next().filter(|_| complete) {
                Some(Ok(key)) => key,
                Some(Err(source)) => {
                    summary.add(job, Err(CopyError::Key { place, source }), &**progress);
                    continue;
                }
                None => {
                    summary.add(job, Err(CopyError::Answers(place)), &**progress);
                    continue;
                }
            };
            let (stores, progress) = (stores.clone(), Arc::clone(progress));
            match source {
                AnySource::Postern(source) => {
                    let work = decrypt(stores, job.clone(), source, key, progress);
                    crew.run(&mut summary, job, work).await;
                }
                AnySource::S3ec(source) => {
                    let reading = options.reading;
                    let work = s3ec::decrypt(stores, job.clone(), source, key, reading, progress);
                    crew.run(&mut summary, job, work).await;
                }
            }
        }
    }
    crew.collect_all(&mut summary).await;
    summary
}

/// Reads the metadata of an object of our own format and compares the name with the one asked for.
pub(super) async fn open<E>(
    stores: &Stores,
    job: &Job,
) -> Result<(ObjectSource, WrapItem), CopyError<E>> {
    let source = ObjectSource::open(stores, &job.from).await?;
    let item = item(&source, job)?;
    Ok((source, item))
}

// rule: OBJ-11
fn item<E>(source: &ObjectSource, job: &Job) -> Result<WrapItem, CopyError<E>> {
    let asked = name_at(&job.from, job.name.as_deref())?;
    let context = source
        .metadata
        .context_for(&asked)
        .map_err(|source| CopyError::Name {
            place: job.from.to_string(),
            source,
        })?;
    Ok(WrapItem {
        wrapped: source.metadata.wrapped.clone(),
        context,
        recoveries: source.metadata.recoveries.clone(),
    })
}

/// As [`open`] for objects of either format, with the recoveries of one whose own dataset these keys do not open.
pub(super) async fn open_by<K: KeySource>(
    stores: &Stores,
    keys: &K,
    job: &Job,
    reading: Reading,
) -> Result<(AnySource, WrapItem), CopyError<K::Error>> {
    // What has no name is not read at all.
    if job.from == Location::Stdio {
        name_at(&job.from, job.name.as_deref())?;
    }
    let source = AnySource::open(stores, &job.from).await?;
    let mut item = match &source {
        AnySource::Postern(source) => item(source, job)?,
        AnySource::S3ec(source) => s3ec::item(source, job, reading)?,
    };
    // rule: RCP-2
    let own = Wrapped::parse(&item.wrapped).map(|wrapped| *wrapped.header());
    if let Ok(own) = own
        && !keys.opens(own.dataset)
        && item.recoveries.is_empty()
    {
        item.recoveries = stores.recoveries(&job.from, own.dek).await?;
    }
    Ok((source, item))
}

async fn decrypt<E>(
    stores: Stores,
    job: Job,
    source: ObjectSource,
    key: OpenedKey,
    progress: Arc<dyn Progress>,
) -> Result<u64, CopyError<E>> {
    let place = job.from.to_string();
    let refused = |source| CopyError::Body {
        place: place.clone(),
        source,
    };
    let len = source
        .body_len()
        .map(plaintext_len)
        .transpose()
        .map_err(refused)?;
    let expected = source.body_len();
    progress.begin(&job, len);
    let mut sink = Sink::plain(&job.to)?;
    let mut body = source.into_body(&stores).await?;

    let mut decryptor = Decryptor::new(&key.dek, &key.context);
    let mut header = Vec::with_capacity(HEADER_LEN);
    let mut out = Zeroizing::new(Vec::with_capacity(PIECE_LEN));
    let mut read = 0_u64;
    while let Some(piece) = body.next().await {
        let piece = piece?;
        read += piece.len() as u64;
        if header.len() < HEADER_LEN {
            let missing = (HEADER_LEN - header.len()).min(piece.len());
            header.extend_from_slice(&piece[..missing]);
            if header.len() == HEADER_LEN {
                let header = BodyHeader::from_bytes(&header).map_err(refused)?;
                key.check_signed(&header).map_err(refused)?;
            }
        }
        for piece in piece.chunks(PIECE_LEN) {
            decryptor.update(piece, &mut out).map_err(refused)?;
            if out.len() >= PIECE_LEN / 2 {
                progress.advance(out.len() as u64);
                sink.write(&out).await?;
                out.clear();
            }
        }
    }
    let total = decryptor.finish(&mut out).map_err(refused)?;
    if expected.is_some_and(|expected| expected != read) {
        let why = "it sent another number of bytes than it had said";
        return Err(StoreError::Answer { place, why }.into());
    }
    progress.advance(out.len() as u64);
    sink.write(&out).await?;
    out.zeroize();
    sink.finish().await?;
    Ok(total)
}
