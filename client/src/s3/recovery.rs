//! Recoveries of data keys in S3: an object beside each object (`spec/object.md`, section 5).

use object_store::GetOptions;
use ticket_format::ids::DekId;
use ticket_format::recovery::Recovery;
use ticket_format::wrapped::Wrapped;

use super::bucket::{Head, Stores, place};
use super::error::StoreError;
use super::location::Location;
use crate::object::metadata::{MetadataError, ObjectMetadata};
use crate::object::recovery;
use crate::object::s3ec::S3ecMetadata;

impl Location {
    /// Whether a place has a name that recoveries have. Only those are written under such a name: whoever
    /// reads a prefix passes over them.
    // rule: RCP-3
    pub(crate) fn is_of_recoveries(&self) -> bool {
        matches!(self, Self::S3 { key, .. } if recovery::of(key).is_some())
    }
}

/// What stands at a place in S3, by its metadata and name.
#[derive(Debug)]
pub(crate) enum Standing {
    /// An encrypted object, with its metadata.
    Encrypted(ObjectMetadata),
    /// An object of the S3 Encryption Client, with its metadata.
    S3ec(S3ecMetadata),
    /// The recoveries of the object of this key.
    Recoveries(String),
    /// Its metadata is refused; one that is not encrypted among them.
    Refused(MetadataError),
}

impl Standing {
    /// Of an object, by its head. It is not proven what it says of itself.
    // rule: RCP-3
    pub(crate) fn of(key: &str, head: &Head) -> Self {
        let pairs = || head.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        // rule: AMZ-11
        match S3ecMetadata::parse(pairs()) {
            Ok(None) => {}
            Ok(Some(metadata)) => return Self::S3ec(metadata),
            Err(error) => return Self::Refused(error.into()),
        }
        match (ObjectMetadata::parse(pairs()), recovery::of(key)) {
            (Ok(metadata), _) => Self::Encrypted(metadata),
            (Err(MetadataError::NotEncrypted), Some((of, _))) => Self::Recoveries(of.to_owned()),
            (Err(error), _) => Self::Refused(error),
        }
    }
}

impl Stores {
    /// Puts an object's recoveries beside it, where it stands in S3 and has some. They are named by its data
    /// key, so nothing is written over; they come first, so that no object is ever without them.
    ///
    /// # Errors
    /// Those of the place.
    // rule: RCP-3
    pub(super) async fn keep_recoveries(
        &self,
        of: &Location,
        metadata: &ObjectMetadata,
    ) -> Result<(), StoreError> {
        let Location::S3 { bucket, key } = of else {
            return Ok(());
        };
        if metadata.recoveries.is_empty() {
            return Ok(());
        }
        let wrapped = Wrapped::parse(&metadata.wrapped).map_err(|_| StoreError::Metadata {
            place: of.to_string(),
            source: MetadataError::WrappedLength(metadata.wrapped.len()),
        })?;
        let key = recovery::key(key, wrapped.header().dek);
        let mut upload = self.upload(bucket, &key, Vec::new())?;
        upload
            .write(&recovery::to_bytes(&metadata.recoveries))
            .await?;
        upload.finish().await
    }

    /// The recoveries of an object in S3, by its data key; none where there are none.
    ///
    /// # Errors
    /// What stands there is none, and those of the place.
    // rule: RCP-2
    pub(super) async fn recoveries(
        &self,
        of: &Location,
        dek: DekId,
    ) -> Result<Vec<Recovery>, StoreError> {
        let Location::S3 { bucket, key } = of else {
            return Ok(Vec::new());
        };
        let key = recovery::key(key, dek);
        let answer = match self.get_opts(bucket, &key, GetOptions::new()).await {
            Err(StoreError::NotFound(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let damaged = || StoreError::Answer {
            place: place(bucket, &key),
            why: "it holds no recoveries",
        };
        if answer.meta.size > recovery::MAX_LEN as u64 {
            return Err(damaged());
        }
        let bytes = answer.bytes().await;
        let bytes = bytes.map_err(|error| StoreError::s3(&place(bucket, &key), error))?;
        recovery::from_bytes(&bytes).map_err(|_| damaged())
    }
}
