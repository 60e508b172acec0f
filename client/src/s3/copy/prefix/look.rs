//! What stands under a prefix, looked at in windows.

use futures::stream::{self, StreamExt as _};
use ticket_format::cbor::Encode as _;
use ticket_format::ids::ItemDigest;
use ticket_format::limits;
use ticket_format::messages::batch::item_digest;
use ticket_format::wrapped::{Header, Wrapped};

use super::Prefix;
use crate::object::keys::WrapItem;
use crate::object::metadata::{Context, MetadataError, NAME};
use crate::object::s3ec::S3ecError;
use crate::s3::copy::{CopyError, Job};
use crate::s3::{Listed, Location, ObjectSource, StoreError, Stores};

/// Objects that are looked at together, and at most wrapped in one exchange.
pub(super) const WINDOW: usize = limits::REWRAPS;
/// Metadata of this many objects is read at one time.
const LOOKS: usize = 32;

/// An object of the dataset, looked at.
pub(super) struct Found {
    pub(super) key: String,
    pub(super) job: Job,
    pub(super) source: ObjectSource,
    pub(super) item: WrapItem,
    pub(super) digest: ItemDigest,
    pub(super) header: Header,
    pub(super) public: bool,
}

pub(super) enum Looked<E> {
    Ours(Box<Found>),
    Plain,
    Recoveries,
    Other,
    Gone,
    Failed(String, Box<(Job, CopyError<E>)>),
}

pub(super) type Window<E> = (Vec<Looked<E>>, Option<String>);

/// The listed objects, looked at; with each window its last key.
pub(super) fn windows<'a, E: std::error::Error + Send + Sync + 'static>(
    stores: &'a Stores,
    prefix: &'a Prefix,
    after: Option<&str>,
) -> impl stream::Stream<Item = Result<Window<E>, StoreError>> + use<'a, E> {
    let listed = stores.list_after(&prefix.bucket, &prefix.prefix, after);
    // Keys that came before an error are looked at with the next run.
    listed.chunks(WINDOW).then(move |window| async move {
        let window: Vec<Listed> = window.into_iter().collect::<Result<_, _>>()?;
        let keys: Vec<String> = window.into_iter().map(|listed| listed.key).collect();
        let ascending = keys.is_sorted();
        let last = keys.last().cloned().filter(|_| ascending);
        Ok((look_at_all(stores, prefix, keys).await, last))
    })
}

pub(super) async fn look_at_all<E>(
    stores: &Stores,
    prefix: &Prefix,
    keys: Vec<String>,
) -> Vec<Looked<E>> {
    stream::iter(keys)
        .map(|key| look_at(stores, prefix, key))
        .buffered(LOOKS)
        .collect()
        .await
}

async fn look_at<E>(stores: &Stores, prefix: &Prefix, key: String) -> Looked<E> {
    let place = Location::S3 {
        bucket: prefix.bucket.clone(),
        key: key.clone(),
    };
    let job = Job {
        from: place.clone(),
        to: place.clone(),
        name: None,
        context: Context::new(),
    };
    let failed = |key, job, error| Looked::Failed(key, Box::new((job, error)));
    let source = match ObjectSource::open(stores, &place).await {
        Ok(source) => source,
        Err(StoreError::NotFound(_)) => return Looked::Gone,
        Err(StoreError::Metadata {
            source: MetadataError::NotEncrypted,
            ..
        }) => return Looked::Plain,
        Err(StoreError::Metadata {
            source: MetadataError::S3ec(S3ecError::NotOurs),
            ..
        }) => return Looked::Plain,
        // rule: AMZ-11
        Err(StoreError::S3ec { dataset, .. }) if dataset != prefix.dataset => return Looked::Other,
        // rule: RCP-3
        Err(StoreError::Recoveries { .. }) => return Looked::Recoveries,
        Err(error) => return failed(key, job, error.into()),
    };
    let wrapped = source.metadata.wrapped.clone();
    let (header, public) = match Wrapped::parse(&wrapped) {
        Ok(wrap) => (*wrap.header(), matches!(wrap, Wrapped::Public { .. })),
        Err(error) => {
            let error = CopyError::Wrap {
                place: place.to_string(),
                source: error,
            };
            return failed(key, job, error);
        }
    };
    if header.dataset != prefix.dataset {
        return Looked::Other;
    }
    // The wrap stays bound to the name that it has, whether or not it is that of the place: who reads
    // the object is the one to compare it (OBJ-11).
    let mut context = source.metadata.stored_context.clone();
    if let Some(name) = place.name() {
        context.entry(NAME.to_owned()).or_insert(name);
    }
    let digest = match ticket_format::Context::new(context.clone()) {
        Ok(pairs) => item_digest(&wrapped, &pairs.to_cbor()),
        Err(_) => {
            let error = CopyError::Context {
                place: place.to_string(),
                source: MetadataError::ContextLimit,
            };
            return failed(key, job, error);
        }
    };
    Looked::Ours(Box::new(Found {
        key,
        job,
        source,
        item: WrapItem {
            wrapped,
            context,
            recoveries: Vec::new(),
        },
        digest,
        header,
        public,
    }))
}
