//! Encrypting many files.

use std::sync::Arc;

use futures::stream::StreamExt;

use super::{
    CopyError, Crew, Failed, Format, Job, Options, PIECE_LEN, Progress, Summary, name_at, s3ec,
};
use crate::object::Encryptor;
use crate::object::keys::{KeySource, NewItem, NewKey};
use crate::object::metadata::{Context, NAME, ObjectMetadata, check_context};
use crate::s3::{PlainSource, Sink, StoreError, Stores};

/// Encrypts each job's `from`, a file or standard input, to its `to`. One refused object does not
/// stop the others.
pub async fn upload_many<K: KeySource>(
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
        for job in jobs.by_ref().take(options.batch()) {
            let new = match options.format {
                Format::Postern => new_item(&job),
                Format::S3ec => s3ec::new_item(&job),
            };
            match new {
                Ok((item, stored)) => {
                    batch.push((job, item.salt, stored));
                    items.push(item);
                }
                Err(error) => summary.add(job, Err(error), &**progress),
            }
        }
        if items.is_empty() {
            continue;
        }
        let answers = match keys.generate(items).await {
            Ok(answers) => answers,
            Err(error) => {
                summary.aborted = Some(error);
                break;
            }
        };
        let complete = answers.len() == batch.len();
        let mut answers = answers.into_iter();
        for (job, salt, stored) in batch {
            let place = job.to.to_string();
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
            match options.format {
                Format::Postern => {
                    let work = encrypt(stores, job.clone(), key, salt, stored, progress);
                    crew.run(&mut summary, job, work).await;
                }
                Format::S3ec => {
                    let work = s3ec::encrypt(stores, job.clone(), key, stored, progress);
                    crew.run(&mut summary, job, work).await;
                }
            }
        }
    }
    crew.collect_all(&mut summary).await;
    summary
}

/// What to ask the key server for, and the part of the context to store beside the body.
// rule: OBJ-11
fn new_item<E>(job: &Job) -> Result<(NewItem, Context), CopyError<E>> {
    // rule: RCP-3
    if job.to.is_of_recoveries() {
        return Err(StoreError::RecoveryName(job.to.to_string()).into());
    }
    let name = name_at(&job.to, job.name.as_deref())?;
    let mut context = job.context.clone();
    context.insert(NAME.to_owned(), name.clone());
    let place = || job.to.to_string();
    check_context(&context).map_err(|source| CopyError::Context {
        place: place(),
        source,
    })?;
    let mut stored = job.context.clone();
    stored.remove(NAME);
    if job.to.stores_name() || job.to.name().as_ref() != Some(&name) {
        stored.insert(NAME.to_owned(), name);
    }
    let mut salt = [0; 24];
    getrandom::fill(&mut salt).map_err(CopyError::Random)?;
    Ok((NewItem { context, salt }, stored))
}

async fn encrypt<E>(
    stores: Stores,
    job: Job,
    key: NewKey,
    salt: [u8; 24],
    stored_context: Context,
    progress: Arc<dyn Progress>,
) -> Result<u64, CopyError<E>> {
    let source = PlainSource::open(&job.from).await?;
    progress.begin(&job, source.size());
    let NewKey {
        dek,
        wrapped,
        kek_version,
        context,
        recoveries,
    } = key;
    let metadata = ObjectMetadata {
        wrapped,
        kek_version,
        stored_context,
        recoveries,
    };
    let mut sink = Sink::encrypted(&stores, &job.to, &metadata).await?;
    let mut out = Vec::with_capacity(PIECE_LEN + PIECE_LEN / 512);
    let sealed = match Encryptor::start(&dek, &context, salt, &mut out) {
        Ok(encryptor) => pump(source, encryptor, out, &mut sink, &*progress).await,
        Err(error) => Err(Failed::Body(error)),
    };
    match sealed {
        Ok(len) => {
            sink.finish().await?;
            Ok(len)
        }
        Err(failed) => {
            sink.abort().await;
            Err(match failed {
                Failed::Store(error) => error.into(),
                Failed::Body(source) => CopyError::Body {
                    place: job.to.to_string(),
                    source,
                },
            })
        }
    }
}

async fn pump(
    source: PlainSource,
    mut encryptor: Encryptor,
    mut out: Vec<u8>,
    sink: &mut Sink,
    progress: &dyn Progress,
) -> Result<u64, Failed> {
    let mut bytes = source.into_bytes();
    let mut len = 0;
    while let Some(piece) = bytes.next().await {
        let piece = piece?;
        encryptor.update(&piece, &mut out)?;
        len += piece.len() as u64;
        progress.advance(piece.len() as u64);
        if out.len() >= PIECE_LEN {
            sink.write(&out).await?;
            out.clear();
        }
    }
    encryptor.finish(&mut out)?;
    sink.write(&out).await?;
    Ok(len)
}
