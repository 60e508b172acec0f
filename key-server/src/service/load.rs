//! The denials in force, read from the store when the server starts.

use store::{Entry, Error, KeyRange, MAX_PAGE_ENTRIES, Store};
use ticket_format::denial::{DenialSet, LoadError, Loader, TooMany};

use crate::records;

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

/// Reads all denials of a store into a set with this seed. While one page is decoded, on a thread of its
/// own, the next is fetched; no more than two are held.
///
/// # Errors
/// [`LoadDenialsError`]: without all of them nothing may be served.
pub async fn denials(store: &dyn Store, seed: &[u8; 16]) -> Result<DenialSet, LoadDenialsError> {
    let mut loader = Loader::new(seed);
    let mut range = KeyRange::prefix(records::DENIALS);
    let mut page = store.range(range.clone(), MAX_PAGE_ENTRIES).await?;
    loop {
        let next = match page.entries.last() {
            Some((last, _)) if page.more => Some(range.after(last)),
            _ => None,
        };
        let decoding = tokio::task::spawn_blocking(move || decode(loader, page.entries));
        let Some(rest) = next else {
            loader = decoding.await??;
            break;
        };
        // An error here leaves that thread with one page, of which nothing comes.
        page = store.range(rest.clone(), MAX_PAGE_ENTRIES).await?;
        range = rest;
        loader = decoding.await??;
    }
    Ok(tokio::task::spawn_blocking(|| loader.finish()).await?)
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
