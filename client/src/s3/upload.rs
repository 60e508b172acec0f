//! Uploads of unknown length in bounded memory.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    Attributes, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, UpdateVersion,
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
const PARTS_IN_FLIGHT: usize = 3;
/// Below this the buffer of a part grows by itself, so that small objects stay small.
const SMALL: usize = 512 << 10;
/// Most buffers kept for reuse.
const BUFFERS_KEPT: usize = 8;

/// What all uploads of one [`super::Stores`] share: the right to send a part, and the buffers of
/// parts sent. Left to the allocator, buffers of this size pile up in one arena per thread.
#[derive(Debug)]
pub(super) struct PartPool {
    permits: Arc<Semaphore>,
    free: Mutex<Vec<BytesMut>>,
}

impl Default for PartPool {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(PARTS_IN_FLIGHT)),
            free: Mutex::default(),
        }
    }
}

impl PartPool {
    /// An empty buffer with room for `len` bytes.
    fn take(&self, len: usize) -> BytesMut {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match free {
            Some(buffer) if buffer.capacity() >= len => buffer,
            _ => BytesMut::with_capacity(len),
        }
    }

    fn give_back(&self, part: Bytes) {
        // Only if the client has let go of it.
        let Ok(mut buffer) = part.try_into_mut() else {
            return;
        };
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < BUFFERS_KEPT && buffer.capacity() >= PART_LEN {
            free.push(buffer);
        }
    }
}

/// One upload. Nothing is visible in the store before [`Upload::finish`]; dropped earlier, it is
/// taken back as far as the store can be reached.
pub struct Upload {
    store: Arc<AmazonS3>,
    path: Path,
    attributes: Attributes,
    pool: Arc<PartPool>,
    place: String,
    filling: BytesMut,
    multipart: Option<Box<dyn MultipartUpload>>,
    started: usize,
    /// The version that the object must still have when this takes its place.
    over: Option<String>,
    parts: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub(super) fn new(
        store: Arc<AmazonS3>,
        path: Path,
        attributes: Attributes,
        pool: Arc<PartPool>,
        place: String,
    ) -> Self {
        Self {
            store,
            path,
            attributes,
            pool,
            place,
            filling: BytesMut::new(),
            multipart: None,
            started: 0,
            over: None,
            parts: JoinSet::new(),
        }
    }

    /// Takes the place of this version of an object alone; [`finish`](Self::finish) fails when it is
    /// another one by then.
    pub(super) fn over(mut self, etag: String) -> Self {
        self.over = Some(etag);
        self
    }

    /// Takes the next bytes of the object; waits while too many parts are on their way.
    ///
    /// # Errors
    /// Those of the store, also of an earlier part; [`StoreError::TooLong`].
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let part_len = part_len(self.started);
            let missing = part_len - self.filling.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            let needed = self.filling.len() + head.len();
            if needed > SMALL && self.filling.capacity() < part_len {
                let mut buffer = self.pool.take(part_len);
                buffer.extend_from_slice(&self.filling);
                self.filling = buffer;
            }
            self.filling.extend_from_slice(head);
            bytes = rest;
            if head.len() == missing {
                let part = std::mem::take(&mut self.filling);
                self.start_part(part.freeze()).await?;
            }
        }
        Ok(())
    }

    async fn start_part(&mut self, part: Bytes) -> Result<(), StoreError> {
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
        let permit = Arc::clone(&self.pool.permits).acquire_owned().await;
        if let Some(upload) = &mut self.multipart {
            let sending = upload.put_part(PutPayload::from(part.clone()));
            self.started += 1;
            let pool = Arc::clone(&self.pool);
            self.parts.spawn(async move {
                let sent = sending.await;
                pool.give_back(part);
                drop(permit);
                sent
            });
        }
        Ok(())
    }

    /// Completes the object; only now it is visible.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Changed`].
    pub async fn finish(mut self) -> Result<(), StoreError> {
        let last = std::mem::take(&mut self.filling);
        if self.multipart.is_none() {
            self.check_version().await?;
            let mut options = PutOptions::from(std::mem::take(&mut self.attributes));
            if let Some(etag) = self.over.take() {
                // rule: OBJ-16
                options.mode = PutMode::Update(UpdateVersion {
                    e_tag: Some(etag),
                    version: None,
                });
            }
            let payload = PutPayload::from(last.freeze());
            let put = self.store.put_opts(&self.path, payload, options).await;
            return put.map(drop).map_err(|error| self.failed(error));
        }
        if !last.is_empty() {
            self.start_part(last.freeze()).await?;
        }
        while let Some(done) = self.parts.join_next().await {
            self.part_done(done)?;
        }
        self.check_version().await?;
        if let Some(upload) = &mut self.multipart {
            let completed = upload.complete().await;
            completed.map_err(|error| StoreError::s3(&self.place, error))?;
        }
        self.multipart = None;
        Ok(())
    }

    /// A store may not know conditional requests, and completes no multipart upload under a
    /// condition: so the version is looked at once more, just before.
    async fn check_version(&mut self) -> Result<(), StoreError> {
        // rule: OBJ-16
        let Some(etag) = &self.over else {
            return Ok(());
        };
        match self.store.head(&self.path).await {
            Ok(now) if now.e_tag.as_ref() == Some(etag) => Ok(()),
            Ok(_) => Err(StoreError::Changed(self.place.clone())),
            Err(error) => Err(self.failed(error)),
        }
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
