//! Writing objects anew at their place: under a fresh data key where somebody may have the old one,
//! or with a new wrap of the same data key.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use ticket_format::cbor::Encode as _;
use ticket_format::ids::{DekId, ItemDigest};
use ticket_format::messages::batch::item_digest;
use ticket_format::wrapped::Wrapped;
use zeroize::Zeroizing;

use super::download::{HEADS_IN_FLIGHT, open};
use super::wrap::put_wrap;
use super::{CopyError, Crew, Failed, Job, Options, PIECE_LEN, Progress, Summary};
use crate::object::keys::{KeySource, NewItem, NewKey, OpenedKey, WrapItem, WrapSource};
use crate::object::metadata::{Context, MetadataError, ObjectMetadata};
use crate::object::{BodyHeader, Decryptor, Encryptor, HEADER_LEN, plaintext_len};
use crate::s3::{ObjectSource, StoreError, Stores};

/// How a data key is known that an object may be under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// By its id, which all its wraps share.
    Dek(DekId),
    /// By the digest of one wrap and its context.
    Item(ItemDigest),
}

/// An object to write anew, if it is still under one of these data keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The object: both sides are its place.
    pub job: Job,
    /// The data keys.
    pub known: Vec<Known>,
}

/// Why an object is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// There is none.
    #[error("it is not there any more")]
    Gone,
    /// It is no encrypted object.
    #[error("it is not encrypted by postern any more")]
    Plain,
    /// Its data key is another one.
    #[error("it is under another data key by now")]
    Changed,
}

/// What an object is found to be.
#[derive(Debug)]
pub enum Look {
    /// It is under one of the data keys.
    Found(Box<ObjectSource>, WrapItem),
    /// It is not.
    Skipped(Skipped),
}

/// Reads an object's metadata and compares its data key.
///
/// # Errors
/// Those of the place; metadata that is refused.
pub async fn look<E>(stores: &Stores, wanted: &Wanted) -> Result<Look, CopyError<E>> {
    let (source, item) = match open(stores, &wanted.job).await {
        Ok(opened) => opened,
        Err(CopyError::Store(StoreError::NotFound(_))) => return Ok(Look::Skipped(Skipped::Gone)),
        Err(CopyError::Store(
            StoreError::Recoveries { .. }
            | StoreError::Metadata {
                source: MetadataError::NotEncrypted,
                ..
            },
        )) => return Ok(Look::Skipped(Skipped::Plain)),
        Err(error) => return Err(error),
    };
    let dek = Wrapped::parse(&item.wrapped).map(|wrapped| wrapped.header().dek);
    let digest = ticket_format::Context::new(item.context.clone())
        .map(|context| item_digest(&item.wrapped, &context.to_cbor()));
    let under = |known: &Known| match known {
        Known::Dek(id) => dek.as_ref() == Ok(id),
        Known::Item(item) => digest.as_ref() == Ok(item),
    };
    if wanted.known.iter().any(under) {
        Ok(Look::Found(Box::new(source), item))
    } else {
        Ok(Look::Skipped(Skipped::Changed))
    }
}

/// Objects of one batch that are to be written anew, and what to ask for each.
struct Batch {
    found: Vec<(Job, ObjectSource)>,
    items: Vec<WrapItem>,
}

/// Looks at the next objects; what is skipped or fails is told at once.
async fn batch<E: std::error::Error + 'static>(
    stores: &Stores,
    wanted: Vec<Wanted>,
    summary: &mut Summary<E>,
    skipped: &mut Vec<(Job, Skipped)>,
    progress: &dyn Progress,
) -> Batch {
    let mut batch = Batch {
        found: Vec::new(),
        items: Vec::new(),
    };
    let mut looks = stream::iter(wanted)
        .map(|wanted| async move {
            let looked = look(stores, &wanted).await;
            (wanted.job, looked)
        })
        .buffered(HEADS_IN_FLIGHT);
    while let Some((job, looked)) = looks.next().await {
        match looked {
            Ok(Look::Found(source, item)) => {
                batch.found.push((job, *source));
                batch.items.push(item);
            }
            Ok(Look::Skipped(why)) => skipped.push((job, why)),
            Err(error) => summary.add(job, Err(error), progress),
        }
    }
    batch
}

/// Re-encrypts objects at their place, each under a fresh data key and a fresh salt. The old body is
/// authenticated to its end before the new one is to be seen; an object that changes meanwhile is
/// left as it is, and counts as failed. One refused object does not stop the others.
// rule: OBJ-16
pub async fn reencrypt_many<R: KeySource, W: KeySource<Error = R::Error>>(
    stores: &Stores,
    (reader, writer): (&R, &W),
    wanted: Vec<Wanted>,
    options: Options,
    progress: &Arc<dyn Progress>,
) -> (Summary<R::Error>, Vec<(Job, Skipped)>) {
    let (mut summary, mut skipped) = (Summary::new(), Vec::new());
    let mut crew = Crew::new(options.parallel(), progress);
    let mut wanted = wanted.into_iter().peekable();
    while wanted.peek().is_some() {
        let some = wanted.by_ref().take(options.batch()).collect();
        let Batch { found, items } =
            batch(stores, some, &mut summary, &mut skipped, &**progress).await;
        if items.is_empty() {
            continue;
        }
        let mut fresh = Vec::with_capacity(items.len());
        for item in &items {
            let mut salt = [0; 24];
            if let Err(error) = getrandom::fill(&mut salt) {
                // Without random bytes there is nothing to go on with.
                for (job, _) in found {
                    summary.add(job, Err(CopyError::Random(error)), &**progress);
                }
                return (summary, skipped);
            }
            let context = item.context.clone();
            fresh.push(NewItem { context, salt });
        }
        let salts: Vec<[u8; 24]> = fresh.iter().map(|item| item.salt).collect();
        let asked = async {
            let old = reader.unwrap(items).await?;
            let new = writer.generate(fresh).await?;
            Ok((old, new))
        };
        let (old, new) = match asked.await {
            Ok(answers) => answers,
            Err(error) => {
                summary.aborted = Some(error);
                break;
            }
        };
        let complete = old.len() == found.len() && new.len() == found.len();
        let mut answers = old.into_iter().zip(new).zip(salts);
        for (job, source) in found {
            let place = job.to.to_string();
            let failed = match answers.next().filter(|_| complete) {
                Some(((Ok(old), Ok(new)), salt)) => {
                    let keys = Keys { old, new, salt };
                    let work = reencrypt(
                        stores.clone(),
                        job.clone(),
                        source,
                        keys,
                        Arc::clone(progress),
                    );
                    crew.run(&mut summary, job, work).await;
                    continue;
                }
                Some(((Err(source), _) | (_, Err(source)), _)) => CopyError::Key { place, source },
                None => CopyError::Answers(place),
            };
            summary.add(job, Err(failed), &**progress);
        }
    }
    crew.collect_all(&mut summary).await;
    (summary, skipped)
}

struct Keys {
    old: OpenedKey,
    new: NewKey,
    salt: [u8; 24],
}

async fn reencrypt<E>(
    stores: Stores,
    job: Job,
    source: ObjectSource,
    keys: Keys,
    progress: Arc<dyn Progress>,
) -> Result<u64, CopyError<E>> {
    let place = job.to.to_string();
    let refused = |source| CopyError::Body {
        place: place.clone(),
        source,
    };
    let len = source.body_len().map(plaintext_len).transpose();
    progress.begin(&job, len.map_err(refused)?);
    let metadata = ObjectMetadata {
        wrapped: keys.new.wrapped.clone(),
        kek_version: keys.new.kek_version,
        stored_context: source.metadata.stored_context.clone(),
        recoveries: keys.new.recoveries.clone(),
    };
    stores.keep_recoveries(&job.to, &metadata).await?;
    let mut sink = source.replacement(&stores, &metadata)?;
    let written = async {
        let mut out = Vec::with_capacity(PIECE_LEN + PIECE_LEN / 512);
        let mut plain = Zeroizing::new(Vec::with_capacity(PIECE_LEN));
        let mut decryptor = Decryptor::new(&keys.old.dek, &keys.old.context);
        let mut encryptor =
            Encryptor::start(&keys.new.dek, &keys.new.context, keys.salt, &mut out)?;
        let mut header = Vec::with_capacity(HEADER_LEN);
        let mut body = source.into_body(&stores).await?;
        while let Some(piece) = body.next().await {
            let piece = piece?;
            if header.len() < HEADER_LEN {
                let missing = (HEADER_LEN - header.len()).min(piece.len());
                header.extend_from_slice(&piece[..missing]);
                if header.len() == HEADER_LEN {
                    keys.old.check_signed(&BodyHeader::from_bytes(&header)?)?;
                }
            }
            for piece in piece.chunks(PIECE_LEN) {
                decryptor.update(piece, &mut plain)?;
                encryptor.update(&plain, &mut out)?;
                progress.advance(plain.len() as u64);
                plain.clear();
                if out.len() >= PIECE_LEN {
                    sink.write(&out).await?;
                    out.clear();
                }
            }
        }
        let len = decryptor.finish(&mut plain)?;
        progress.advance(plain.len() as u64);
        encryptor.update(&plain, &mut out)?;
        encryptor.finish(&mut out)?;
        sink.write(&out).await?;
        Ok(len)
    };
    let written = written.await;
    finish(sink, written, &job).await
}

/// Gives objects a new wrap of the same data key; their bodies stay.
// rule: OBJ-16
pub async fn rewrap_many<K: WrapSource>(
    stores: &Stores,
    keys: &K,
    wanted: Vec<Wanted>,
    options: Options,
    progress: &Arc<dyn Progress>,
) -> (Summary<K::Error>, Vec<(Job, Skipped)>) {
    let (mut summary, mut skipped) = (Summary::new(), Vec::new());
    let mut crew = Crew::new(options.parallel(), progress);
    let mut placed = Vec::new();
    let mut wanted = wanted.into_iter().peekable();
    while wanted.peek().is_some() {
        let some = wanted.by_ref().take(options.batch()).collect();
        let Batch { found, items } =
            batch(stores, some, &mut summary, &mut skipped, &**progress).await;
        if items.is_empty() {
            continue;
        }
        let contexts: Vec<_> = items.iter().map(|item| item.context.clone()).collect();
        let answers = match keys.wrap_anew(items).await {
            Ok(answers) => answers,
            Err(error) => {
                summary.aborted = Some(error);
                break;
            }
        };
        let complete = answers.len() == found.len();
        let mut answers = answers.into_iter();
        for ((job, source), context) in found.into_iter().zip(contexts) {
            let place = job.to.to_string();
            let failed = match answers.next().filter(|_| complete) {
                Some(Ok(wrap)) => {
                    placed.extend(named(&wrap.wrapped, context).map(|name| (job.to.clone(), name)));
                    let work = put_wrap(
                        stores.clone(),
                        job.clone(),
                        source,
                        wrap,
                        Arc::clone(progress),
                    );
                    crew.run(&mut summary, job, work).await;
                    continue;
                }
                Some(Err(source)) => CopyError::Key { place, source },
                None => CopyError::Answers(place),
            };
            summary.add(job, Err(failed), &**progress);
        }
    }
    crew.collect_all(&mut summary).await;
    // rule: REW-2
    let failed: HashSet<_> = summary.failed.iter().map(|(job, _)| &job.to).collect();
    placed.retain(|(place, _)| !failed.contains(place));
    if let Err(error) = keys
        .confirm(placed.into_iter().map(|(_, name)| name).collect())
        .await
    {
        summary.aborted.get_or_insert(error);
    }
    (summary, skipped)
}

/// How a wrap and its context are named; none where they are past a bound.
pub(super) fn named(wrapped: &[u8], context: Context) -> Option<ItemDigest> {
    let context = ticket_format::Context::new(context).ok()?;
    Some(item_digest(wrapped, &context.to_cbor()))
}

pub(super) async fn finish<E>(
    sink: crate::s3::Sink,
    written: Result<u64, Failed>,
    job: &Job,
) -> Result<u64, CopyError<E>> {
    match written {
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
