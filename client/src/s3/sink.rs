//! Where bytes go: an upload, a file, or a stream.

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::bucket::Stores;
use super::error::StoreError;
use super::file::FileSink;
use super::location::Location;
use super::upload::Upload;
use crate::object::container;
use crate::object::metadata::ObjectMetadata;

/// A place being written. Dropped before [`Sink::finish`] it leaves an upload or a file as if
/// nothing had been; what went to a stream has gone.
pub enum Sink {
    /// An S3 upload.
    Upload(Upload),
    /// A file.
    File(FileSink),
    /// Standard output, or whatever stands for it.
    Stream(Box<dyn AsyncWrite + Send + Unpin>),
}

impl Sink {
    // rule: OBJ-15
    /// Opens a place for the plain object.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for S3, where plaintext is never written.
    pub fn plain(to: &Location) -> Result<Self, StoreError> {
        match to {
            Location::S3 { .. } => Err(StoreError::Unsupported(
                "decrypted objects are not written to S3",
            )),
            Location::File(path) => FileSink::create(path).map(Self::File),
            Location::Stdio => Ok(Self::Stream(Box::new(tokio::io::stdout()))),
        }
    }

    /// Opens a place for an encrypted object and writes what stands before its body.
    ///
    /// # Errors
    /// Metadata over a bound, and those of the place.
    pub async fn encrypted(
        stores: &Stores,
        to: &Location,
        metadata: &ObjectMetadata,
    ) -> Result<Self, StoreError> {
        let place = || to.to_string();
        if let Location::S3 { bucket, key } = to {
            let encoded = metadata.encode().map_err(|source| StoreError::Metadata {
                place: place(),
                source,
            })?;
            stores.keep_recoveries(to, metadata).await?;
            return stores.upload(bucket, key, encoded).map(Self::Upload);
        }
        let header = container::encode(metadata).map_err(|source| StoreError::Container {
            place: place(),
            source,
        })?;
        let mut sink = Self::plain(to)?;
        sink.write(&header).await?;
        Ok(sink)
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Those of the place.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Upload(upload) => upload.write(bytes).await,
            Self::File(file) => file.write(bytes),
            Self::Stream(stream) => stream.write_all(bytes).await.map_err(stream_failed),
        }
    }

    /// Completes the object at its place.
    ///
    /// # Errors
    /// Those of the place.
    pub async fn finish(self) -> Result<(), StoreError> {
        match self {
            Self::Upload(upload) => upload.finish().await,
            Self::File(file) => tokio::task::spawn_blocking(move || file.finish())
                .await
                .map_err(|error| stream_failed(std::io::Error::other(error)))?,
            Self::Stream(mut stream) => stream.flush().await.map_err(stream_failed),
        }
    }

    /// Gives the object up.
    pub async fn abort(self) {
        if let Self::Upload(upload) = self {
            upload.abort().await;
        }
    }
}

fn stream_failed(source: std::io::Error) -> StoreError {
    StoreError::Io {
        path: "standard output".into(),
        source,
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Upload(_) => "Sink::Upload",
            Self::File(_) => "Sink::File",
            Self::Stream(_) => "Sink::Stream",
        })
    }
}
