//! The denials in force, read from the store when the server starts.

use store::{Entry, Error, KeyRange, MAX_PAGE_ENTRIES, Store};
use ticket_format::cbor::Decode as _;
use ticket_format::denial::{DenialSet, LoadError, Loader, TooMany};

use crate::records::{self, FeedHead};

/// Why the denials cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadDenialsError {
    /// The store.
    #[error("the denials cannot be read: {0}")]
    Store(#[from] Error),
    /// A record.
    #[error("the record {0} in the store is damaged")]
    Record(String),
    /// More than can be held.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The thread that reads them ended.
    #[error("reading the denials was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Reads all denials of a store into a set with this seed: the older half and the newer at the same
/// time, each as [`part`] does.
///
/// # Errors
/// [`LoadDenialsError`]: without all of them nothing may be served.
pub async fn denials(store: &dyn Store, seed: &[u8; 16]) -> Result<DenialSet, LoadDenialsError> {
    let head = store.get(records::FEED_HEAD.as_bytes()).await?;
    let head = head.and_then(|entry| FeedHead::from_cbor(&entry.value, 64).ok());
    let middle = records::denial(head.map_or(0, |head| head.epoch / 2));
    let all = KeyRange::prefix(records::DENIALS);
    let end = all.end().unwrap_or_default();
    let (older, newer) = tokio::try_join!(
        part(store, KeyRange::between(all.start(), middle.as_str()), seed),
        part(store, KeyRange::between(middle.as_str(), end), seed),
    )?;
    let whole = move || {
        let mut loader = older;
        loader.join(newer);
        loader.finish()
    };
    Ok(tokio::task::spawn_blocking(whole).await?)
}

/// Reads the denials of a range. While one page is decoded, on a thread of its own, the next is fetched;
/// no more than two are held.
async fn part(
    store: &dyn Store,
    mut range: KeyRange,
    seed: &[u8; 16],
) -> Result<Loader, LoadDenialsError> {
    let mut loader = Loader::new(seed);
    let mut page = store.range(range.clone(), MAX_PAGE_ENTRIES).await?;
    loop {
        let next = match page.entries.last() {
            Some((last, _)) if page.more => Some(range.after(last)),
            _ => None,
        };
        let decoding = tokio::task::spawn_blocking(move || decode(loader, page.entries));
        let Some(rest) = next else {
            loader = decoding.await??;
            let sorting = tokio::task::spawn_blocking(move || {
                loader.sort();
                loader
            });
            return Ok(sorting.await?);
        };
        // An error here leaves that thread with one page, of which nothing comes.
        page = store.range(rest.clone(), MAX_PAGE_ENTRIES).await?;
        range = rest;
        loader = decoding.await??;
    }
}

fn decode(mut loader: Loader, page: Vec<(Vec<u8>, Entry)>) -> Result<Loader, LoadDenialsError> {
    for (key, entry) in page {
        let damaged = || LoadDenialsError::Record(String::from_utf8_lossy(&key).into_owned());
        let epoch = records::epoch_of(&key).ok_or_else(damaged)?;
        loader
            .read(&entry.value, epoch)
            .map_err(|error| match error {
                LoadError::Malformed(_) => damaged(),
                LoadError::TooMany(error) => error.into(),
            })?;
    }
    Ok(loader)
}
