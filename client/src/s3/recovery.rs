//! Recoveries of data keys in S3: an object beside each object (`spec/object.md`, section 5).

use object_store::GetOptions;
use ticket_format::ids::DekId;
use ticket_format::recovery::Recovery;
use ticket_format::wrapped::Wrapped;

use super::bucket::{Stores, place};
use super::error::StoreError;
use super::location::Location;
use crate::object::metadata::{MetadataError, ObjectMetadata};
use crate::object::recovery;

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
