//! Objects of the S3 Encryption Client: encrypting to them and decrypting from them (`spec/s3ec.md`).

use std::sync::Arc;

use futures::stream::StreamExt;
use ticket_format::wrapped::Wrapped;
use zeroize::Zeroizing;

use super::{CopyError, Failed, Job, PIECE_LEN, Progress};
use crate::object::BodyError;
use crate::object::keys::{NewItem, NewKey, OpenedKey, WrapItem};
use crate::object::metadata::{Context, MetadataError, ObjectMetadata};
use crate::object::s3ec::{
    Decryptor, Encryptor, MAX_LEN, MESSAGE_ID_LEN, NotThisOne, S3ecError, S3ecMetadata, Version,
    new_context, plaintext_len,
};
use crate::s3::{BodyStream, Location, PlainSource, S3ecSource, Sink, StoreError, Stores};

/// The most that is held in memory until it is verified, for a place that takes nothing back.
pub const HELD: u64 = 64 << 20;

/// What a reader accepts of objects of the S3 Encryption Client. By default neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Version 2, which is not committed to its data key (`AMZ-3`).
    pub accept_uncommitted: bool,
    /// Standard output gets plaintext before it is verified (`AMZ-8`).
    pub release_unverified: bool,
}

/// What the key server is to be asked for of an object that is read, provided that it will be read.
///
/// # Errors
/// The object is refused whatever its data key.
pub(super) fn item<E>(
    source: &S3ecSource,
    job: &Job,
    reading: Reading,
) -> Result<WrapItem, CopyError<E>> {
    let place = || job.from.to_string();
    let refused = |error: S3ecError| {
        CopyError::Store(StoreError::Metadata {
            place: place(),
            source: error.into(),
        })
    };
    let metadata = &source.metadata;
    // rule: AMZ-3
    if matches!(metadata.version, Version::V2 { .. }) && !reading.accept_uncommitted {
        return Err(refused(S3ecError::Uncommitted));
    }
    // rule: AMZ-7
    let named = metadata.context_for(job.from.name().as_deref(), job.name.as_deref());
    let context = named.map_err(|error| match error {
        NotThisOne::Refused(error) => refused(error),
        NotThisOne::Name(source) => CopyError::Name {
            place: place(),
            source,
        },
    })?;
    let body = |source| CopyError::Body {
        place: place(),
        source,
    };
    let len = plaintext_len(source.body_len()).map_err(body)?;
    // rule: AMZ-1
    if len > MAX_LEN {
        return Err(body(BodyError::WholeTooLong));
    }
    // rule: AMZ-8
    if job.to == Location::Stdio && !reading.release_unverified && len > HELD {
        return Err(CopyError::Store(StoreError::Unverified(place())));
    }
    Ok(WrapItem {
        wrapped: metadata.wrapped.clone(),
        context,
        recoveries: Vec::new(),
    })
}

/// One object being decrypted: what may go on is in `ready`.
pub(super) struct Opening {
    decryptor: Decryptor,
    body: BodyStream,
    /// Plaintext that has not gone on yet.
    pub(super) ready: Zeroizing<Vec<u8>>,
    /// Whether it may go on before all of it is verified.
    early: bool,
    place: String,
    expected: u64,
    read: u64,
}

impl Opening {
    /// Checks the commitment and begins to read the body. `early` where what goes on can be taken back, or the user
    /// says so.
    pub(super) async fn begin(
        stores: &Stores,
        source: S3ecSource,
        key: &OpenedKey,
        place: String,
        early: bool,
    ) -> Result<Self, Failed> {
        let decryptor = Decryptor::new(&key.dek, &source.metadata.version)?;
        let expected = source.body_len();
        // As much as it will be: a buffer that grows leaves copies behind.
        let room = if early {
            2 * PIECE_LEN as u64
        } else {
            expected.min(HELD) + PIECE_LEN as u64
        };
        let body = source.into_body(stores).await?;
        let room = Zeroizing::new(Vec::with_capacity(room as usize));
        Ok(Self::of(decryptor, body, room, early, place, expected))
    }

    fn of(
        decryptor: Decryptor,
        body: BodyStream,
        ready: Zeroizing<Vec<u8>>,
        early: bool,
        place: String,
        expected: u64,
    ) -> Self {
        Self {
            decryptor,
            body,
            ready,
            early,
            place,
            expected,
            read: 0,
        }
    }

    /// Reads on, until some of `ready` may go on: then true. False at the end, after the tag has been verified.
    // rule: AMZ-8
    pub(super) async fn next(&mut self) -> Result<bool, Failed> {
        while let Some(piece) = self.body.next().await {
            let piece = piece?;
            self.read += piece.len() as u64;
            // Before it is held: how much that is was decided by what the store had said.
            if self.read > self.expected {
                return Err(self.other_length());
            }
            self.decryptor.update_unverified(&piece, &mut self.ready)?;
            if self.early && self.ready.len() >= PIECE_LEN / 2 {
                return Ok(true);
            }
        }
        if self.read != self.expected {
            return Err(self.other_length());
        }
        self.decryptor.verify()?;
        Ok(false)
    }

    fn other_length(&self) -> Failed {
        let why = "it sent another number of bytes than it had said";
        let place = self.place.clone();
        StoreError::Answer { place, why }.into()
    }
}

/// Decrypts to a file, which appears when the tag has been verified, or to standard output.
pub(super) async fn decrypt<E>(
    stores: Stores,
    job: Job,
    source: S3ecSource,
    key: OpenedKey,
    reading: Reading,
    progress: Arc<dyn Progress>,
) -> Result<u64, CopyError<E>> {
    let place = job.from.to_string();
    progress.begin(&job, plaintext_len(source.body_len()).ok());
    let work = async {
        let early = job.to != Location::Stdio || reading.release_unverified;
        let mut opening = Opening::begin(&stores, source, &key, place.clone(), early).await?;
        let mut sink = Sink::plain(&job.to)?;
        let mut total = 0;
        loop {
            let more = opening.next().await?;
            sink.write(&opening.ready).await?;
            progress.advance(opening.ready.len() as u64);
            total += opening.ready.len() as u64;
            opening.ready.clear();
            if !more {
                break;
            }
        }
        sink.finish().await?;
        Ok(total)
    };
    work.await.map_err(|failed| at(failed, place.clone()))
}

/// What to ask the key server for, and the context to store beside the body.
pub(super) fn new_item<E>(job: &Job) -> Result<(NewItem, Context), CopyError<E>> {
    // rule: AMZ-11
    if !matches!(job.to, Location::S3 { .. }) {
        return Err(StoreError::Unsupported(
            "only S3 holds objects of the S3 Encryption Client: files have no metadata",
        )
        .into());
    }
    // rule: RCP-3
    if job.to.is_of_recoveries() {
        return Err(StoreError::RecoveryName(job.to.to_string()).into());
    }
    let context = new_context(job.context.clone(), job.name.clone());
    let (stored, context) = context.map_err(|error| CopyError::Context {
        place: job.to.to_string(),
        source: error.into(),
    })?;
    // The salt is for a producer's signature, which these objects have not.
    let salt = [0; 24];
    Ok((NewItem { context, salt }, stored))
}

/// Encrypts a file or standard input.
pub(super) async fn encrypt<E>(
    stores: Stores,
    job: Job,
    key: NewKey,
    stored: Context,
    progress: Arc<dyn Progress>,
) -> Result<u64, CopyError<E>> {
    let place = job.to.to_string();
    let mut message_id = [0; MESSAGE_ID_LEN];
    getrandom::fill(&mut message_id).map_err(CopyError::Random)?;
    let body = |source| CopyError::Body {
        place: place.clone(),
        source,
    };
    let source = PlainSource::open(&job.from).await?;
    progress.begin(&job, source.size());
    // rule: AMZ-1
    if source.size().is_some_and(|len| len > MAX_LEN) {
        return Err(body(BodyError::WholeTooLong));
    }
    let (encryptor, commitment) = Encryptor::start(&key.dek, &message_id).map_err(body)?;
    let version = Version::V3 {
        message_id,
        commitment,
    };
    let mut sink = begin(&stores, &job, key, version, stored).await?;
    match pump(source, encryptor, &mut sink, &*progress).await {
        Ok(len) => {
            sink.finish().await?;
            Ok(len)
        }
        Err(failed) => {
            sink.abort().await;
            Err(at(failed, place.clone()))
        }
    }
}

/// Starts the upload, after the recoveries.
async fn begin<E>(
    stores: &Stores,
    job: &Job,
    key: NewKey,
    version: Version,
    stored: Context,
) -> Result<Sink, CopyError<E>> {
    let Location::S3 {
        bucket,
        key: object,
    } = &job.to
    else {
        return Err(CopyError::NoName(job.to.to_string()));
    };
    let place = || job.to.to_string();
    let dataset = match Wrapped::parse(&key.wrapped) {
        // rule: AMZ-10
        Ok(Wrapped::Public { .. }) => {
            let why = "objects of the S3 Encryption Client have data keys that the key server made: name the dataset";
            return Err(StoreError::Unsupported(why).into());
        }
        Ok(wrapped) => wrapped.header().dataset,
        Err(source) => {
            let place = place();
            return Err(CopyError::Wrap { place, source });
        }
    };
    let metadata = S3ecMetadata {
        version,
        dataset,
        wrapped: key.wrapped.clone(),
        stored,
    };
    let encoded = metadata.encode().map_err(|error| StoreError::Metadata {
        place: place(),
        source: MetadataError::from(error),
    })?;
    let recoveries = ObjectMetadata {
        wrapped: key.wrapped,
        kek_version: key.kek_version,
        stored_context: Context::new(),
        recoveries: key.recoveries,
    };
    stores.keep_recoveries(&job.to, &recoveries).await?;
    Ok(stores.upload(bucket, object, encoded).map(Sink::Upload)?)
}

async fn pump(
    source: PlainSource,
    mut encryptor: Encryptor,
    sink: &mut Sink,
    progress: &dyn Progress,
) -> Result<u64, Failed> {
    let mut bytes = source.into_bytes();
    let mut out = Vec::with_capacity(2 * PIECE_LEN);
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
    encryptor.finish(&mut out);
    sink.write(&out).await?;
    Ok(len)
}

/// Names the place in a failure.
pub(super) fn at<E>(failed: Failed, place: String) -> CopyError<E> {
    match failed {
        Failed::Store(error) => error.into(),
        Failed::Body(source) => CopyError::Body { place, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream;

    /// An object of 100 bytes, as a store sends it that had said `expected` bytes.
    fn sent(expected: u64, pieces: Vec<usize>, early: bool) -> Opening {
        let (mut encryptor, commitment) = Encryptor::start(&[1; 32], &[2; MESSAGE_ID_LEN]).unwrap();
        let mut body = Vec::new();
        encryptor.update(&[7; 100], &mut body).unwrap();
        encryptor.finish(&mut body);
        let version = Version::V3 {
            message_id: [2; MESSAGE_ID_LEN],
            commitment,
        };
        let decryptor = Decryptor::new(&[1; 32], &version).unwrap();
        let mut rest = Bytes::from(body.repeat(2));
        let pieces: Vec<_> = pieces
            .into_iter()
            .map(|len| Ok(rest.split_to(len)))
            .collect();
        let body = stream::iter(pieces).boxed();
        Opening::of(
            decryptor,
            body,
            Zeroizing::default(),
            early,
            "place".to_owned(),
            expected,
        )
    }

    /// rule: AMZ-8
    #[tokio::test]
    async fn a_store_that_sends_more_or_less_than_it_said_is_stopped() {
        let mut whole = sent(116, vec![50, 66], false);
        assert!(matches!(whole.next().await, Ok(false)));
        assert_eq!(&whole.ready[..], [7; 100]);
        for (expected, pieces) in [(116, vec![116, 1]), (50, vec![40, 76]), (117, vec![116])] {
            let mut opening = sent(expected, pieces, false);
            let failed = opening.next().await;
            assert!(
                matches!(failed, Err(Failed::Store(StoreError::Answer { .. }))),
                "{expected}"
            );
            assert!(opening.ready.len() as u64 <= expected);
        }
    }
}
