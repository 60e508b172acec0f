//! Uploads of unknown length in bounded memory.

use std::sync::Arc;

use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::StoreError;

/// The least that S3 takes for any part but the last. Shorter objects go in one request.
const PART_LEN: usize = 5 << 20;
/// Parts of each length; then it doubles, so that 10,000 parts hold 1.6 TB.
const PARTS_PER_LEN: usize = 1250;
const MAX_PARTS: usize = 10_000;
/// Most parts on their way at one time over all uploads of one [`super::Stores`]: 15 MiB while
/// objects are under 6 GB.
pub(super) const PARTS_IN_FLIGHT: usize = 3;

/// One upload. Nothing is visible in the store before [`Upload::finish`]; dropped earlier, it is
/// taken back as far as the store can be reached.
pub struct Upload {
    store: Arc<AmazonS3>,
    path: Path,
    attributes: Attributes,
    permits: Arc<Semaphore>,
    place: String,
    filling: Vec<u8>,
    multipart: Option<Box<dyn MultipartUpload>>,
    started: usize,
    parts: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub(super) fn new(
        store: Arc<AmazonS3>,
        path: Path,
        attributes: Attributes,
        permits: Arc<Semaphore>,
        place: String,
    ) -> Self {
        Self {
            store,
            path,
            attributes,
            permits,
            place,
            filling: Vec::new(),
            multipart: None,
            started: 0,
            parts: JoinSet::new(),
        }
    }

    /// Takes the next bytes of the object; waits while too many parts are on their way.
    ///
    /// # Errors
    /// Those of the store, also of an earlier part; [`StoreError::TooLong`].
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let missing = part_len(self.started) - self.filling.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            if self.multipart.is_some() && self.filling.capacity() == 0 {
                self.filling.reserve_exact(part_len(self.started));
            }
            self.filling.extend_from_slice(head);
            bytes = rest;
            if head.len() == missing {
                let part = std::mem::take(&mut self.filling);
                self.start_part(part).await?;
            }
        }
        Ok(())
    }

    async fn start_part(&mut self, part: Vec<u8>) -> Result<(), StoreError> {
        if self.started >= MAX_PARTS {
            return Err(StoreError::TooLong(self.place.clone()));
        }
        if self.multipart.is_none() {
            let options = PutMultipartOptions::from(self.attributes.clone());
            let upload = self.store.put_multipart_opts(&self.path, options).await;
            self.multipart = Some(upload.map_err(|error| self.failed(error))?);
        }
        while let Some(done) = self.parts.try_join_next() {
            self.part_done(done)?;
        }
        // Parts of any upload give their permit back by themselves, so this cannot deadlock.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        if let Some(upload) = &mut self.multipart {
            let sending = upload.put_part(PutPayload::from(part));
            self.started += 1;
            self.parts.spawn(async move {
                let _permit = permit;
                sending.await
            });
        }
        Ok(())
    }

    /// Completes the object; only now it is visible.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        let last = std::mem::take(&mut self.filling);
        if self.multipart.is_none() {
            let options = PutOptions::from(std::mem::take(&mut self.attributes));
            let put = self
                .store
                .put_opts(&self.path, PutPayload::from(last), options)
                .await;
            return put.map(drop).map_err(|error| self.failed(error));
        }
        if !last.is_empty() {
            self.start_part(last).await?;
        }
        while let Some(done) = self.parts.join_next().await {
            self.part_done(done)?;
        }
        if let Some(upload) = &mut self.multipart {
            let completed = upload.complete().await;
            completed.map_err(|error| StoreError::s3(&self.place, error))?;
        }
        self.multipart = None;
        Ok(())
    }

    /// Gives the upload up and waits until the store has forgotten it.
    pub async fn abort(mut self) {
        self.parts.shutdown().await;
        if let Some(mut upload) = self.multipart.take() {
            // The object never became visible; a leftover part costs storage only.
            let _ = upload.abort().await;
        }
    }

    fn part_done(
        &self,
        done: Result<object_store::Result<()>, tokio::task::JoinError>,
    ) -> Result<(), StoreError> {
        done.map_err(object_store::Error::from)
            .and_then(|sent| sent)
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: object_store::Error) -> StoreError {
        StoreError::s3(&self.place, error)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let upload = self.multipart.take();
        if let (Some(mut upload), Ok(runtime)) = (upload, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { upload.abort().await });
        }
    }
}

fn part_len(index: usize) -> usize {
    PART_LEN << (index / PARTS_PER_LEN).min(8)
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
