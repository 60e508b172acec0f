//! Where bytes come from: an encrypted object with its metadata, or a plain file.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::bucket::{Head, Stores, place};
use super::error::StoreError;
use super::location::Location;
use super::recovery::Standing;
use super::sink::Sink;
use crate::object::container;
use crate::object::metadata::ObjectMetadata;
use crate::object::s3ec::S3ecMetadata;

/// Bytes of a body, in pieces of any size.
pub type BodyStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// Bytes read from a file at a time.
const READ_LEN: usize = 256 * 1024;

/// An encrypted object, its metadata read and its body not yet.
#[derive(Debug)]
pub struct ObjectSource {
    /// Where it lies.
    pub location: Location,
    /// Its metadata: not authentic before the key server has opened the wrap.
    pub metadata: ObjectMetadata,
    body: Body,
}

/// An object of the S3 Encryption Client, its metadata read and its body not yet.
#[derive(Debug)]
pub struct S3ecSource {
    /// Its metadata: not authentic before the key server has opened the wrap.
    pub metadata: S3ecMetadata,
    bucket: String,
    key: String,
    head: Head,
}

/// An encrypted object of either format.
#[derive(Debug)]
pub enum AnySource {
    /// Our own.
    Postern(ObjectSource),
    /// The S3 Encryption Client's.
    S3ec(S3ecSource),
}

enum Body {
    S3 {
        bucket: String,
        key: String,
        head: Head,
    },
    File {
        file: Arc<std::fs::File>,
        path: PathBuf,
        offset: u64,
        len: u64,
    },
    Stream(Box<dyn AsyncRead + Send + Unpin>),
}

impl ObjectSource {
    /// Reads the metadata of the encrypted object at `location`.
    ///
    /// # Errors
    /// Those of the place, and metadata or a container that is refused; [`StoreError::S3ec`].
    pub async fn open(stores: &Stores, location: &Location) -> Result<Self, StoreError> {
        match AnySource::open(stores, location).await? {
            AnySource::Postern(source) => Ok(source),
            AnySource::S3ec(source) => Err(StoreError::S3ec {
                place: location.to_string(),
                dataset: source.metadata.dataset,
            }),
        }
    }

    /// Reads the header of a container from a stream.
    ///
    /// # Errors
    /// As [`ObjectSource::open`].
    pub async fn from_stream(
        mut stream: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<Self, StoreError> {
        let location = Location::Stdio;
        let (metadata, _) = read_container(&mut stream, &location).await?;
        Ok(Self {
            location,
            metadata,
            body: Body::Stream(stream),
        })
    }

    /// Bytes of the body, unless it comes from a stream. The store's word, not proven.
    #[must_use]
    pub fn body_len(&self) -> Option<u64> {
        match &self.body {
            Body::S3 { head, .. } => Some(head.size),
            Body::File { len, .. } => Some(*len),
            Body::Stream(_) => None,
        }
    }

    /// The whole body, from its first byte.
    ///
    /// # Errors
    /// Those of the place.
    pub async fn into_body(self, stores: &Stores) -> Result<BodyStream, StoreError> {
        match self.body {
            Body::S3 { bucket, key, head } => stores.get(&bucket, &key, &head, 0..head.size).await,
            Body::File {
                file,
                path,
                offset,
                len,
            } => Ok(part(file, path, offset, len)),
            Body::Stream(stream) => Ok(pieces(stream, "standard input".into())),
        }
    }

    /// Begins to write the object anew at its place, under other metadata: nothing is to be seen of
    /// it before it is whole, and then only if the object is still this version.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] where that cannot be, metadata over a bound, and those of the place.
    // rule: OBJ-16
    pub fn replacement(
        &self,
        stores: &Stores,
        metadata: &ObjectMetadata,
    ) -> Result<Sink, StoreError> {
        let Body::S3 { bucket, key, head } = &self.body else {
            return Err(StoreError::Unsupported(
                "only objects in S3 are written anew at their place",
            ));
        };
        let encoded = metadata.encode().map_err(|source| StoreError::Metadata {
            place: self.location.to_string(),
            source,
        })?;
        let upload = stores.replacement(bucket, key, head, encoded)?;
        Ok(Sink::Upload(upload))
    }

    /// Gives the object other metadata at its place, if it is still this version, without reading its
    /// body. False where that cannot be: then [`replacement`](Self::replacement) writes it again.
    ///
    /// # Errors
    /// Metadata over a bound, [`StoreError::Changed`], and those of the place.
    // rule: OBJ-16
    pub fn relabel<'a>(
        &self,
        stores: &'a Stores,
        metadata: &ObjectMetadata,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + use<'a> {
        let encoded = metadata.encode().map_err(|source| StoreError::Metadata {
            place: self.location.to_string(),
            source,
        });
        let in_s3 = match &self.body {
            Body::S3 { bucket, key, head } => Some((bucket.clone(), key.clone(), head.clone())),
            Body::File { .. } | Body::Stream(_) => None,
        };
        async move {
            match in_s3 {
                Some((bucket, key, head)) => stores.relabel(&bucket, &key, &head, &encoded?).await,
                None => Ok(false),
            }
        }
    }

    /// Some bytes of the body, counted from its first.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for a stream, [`StoreError::Changed`] for an object that has
    /// been replaced, and those of the place.
    pub async fn range(
        &self,
        stores: &Stores,
        range: Range<u64>,
    ) -> Result<BodyStream, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        match &self.body {
            Body::S3 { bucket, key, head } => stores.get(bucket, key, head, range).await,
            Body::File {
                file, path, offset, ..
            } => {
                let start = offset.saturating_add(range.start);
                Ok(part(Arc::clone(file), path.clone(), start, wanted))
            }
            Body::Stream(_) => Err(StoreError::Unsupported(
                "a part of standard input cannot be read: give a file or an s3:// place",
            )),
        }
    }
}

impl AnySource {
    /// Reads the metadata of the encrypted object at `location`.
    ///
    /// # Errors
    /// Those of the place, and metadata or a container that is refused.
    // rule: AMZ-11
    pub async fn open(stores: &Stores, location: &Location) -> Result<Self, StoreError> {
        let (metadata, body) = match location {
            Location::S3 { bucket, key } => {
                let head = stores.head(bucket, key).await?;
                let metadata = match Standing::of(key, &head) {
                    Standing::Encrypted(metadata) => metadata,
                    Standing::S3ec(metadata) => {
                        return Ok(Self::S3ec(S3ecSource {
                            metadata,
                            bucket: bucket.clone(),
                            key: key.clone(),
                            head,
                        }));
                    }
                    Standing::Recoveries(of) => {
                        return Err(StoreError::Recoveries {
                            place: location.to_string(),
                            of: place(bucket, &of),
                        });
                    }
                    Standing::Refused(source) => {
                        return Err(StoreError::Metadata {
                            place: location.to_string(),
                            source,
                        });
                    }
                };
                (
                    metadata,
                    Body::S3 {
                        bucket: bucket.clone(),
                        key: key.clone(),
                        head,
                    },
                )
            }
            Location::File(path) => {
                let mut file = open_file(path).await?;
                let size = file.metadata().await.map_err(StoreError::io(path))?.len();
                let (metadata, offset) = read_container(&mut file, location).await?;
                let len = size.saturating_sub(offset);
                let file = Arc::new(file.into_std().await);
                (
                    metadata,
                    Body::File {
                        file,
                        path: path.clone(),
                        offset,
                        len,
                    },
                )
            }
            Location::Stdio => {
                let stream = Box::new(tokio::io::stdin());
                return ObjectSource::from_stream(stream).await.map(Self::Postern);
            }
        };
        Ok(Self::Postern(ObjectSource {
            location: location.clone(),
            metadata,
            body,
        }))
    }
}

impl S3ecSource {
    /// Bytes of the body. The store's word, not proven.
    #[must_use]
    pub fn body_len(&self) -> u64 {
        self.head.size
    }

    /// The whole body, from its first byte.
    ///
    /// # Errors
    /// Those of the place.
    pub async fn into_body(self, stores: &Stores) -> Result<BodyStream, StoreError> {
        let whole = 0..self.head.size;
        stores.get(&self.bucket, &self.key, &self.head, whole).await
    }
}

/// Something to encrypt.
pub struct PlainSource {
    len: Option<u64>,
    bytes: BodyStream,
}

impl PlainSource {
    /// Opens a file or standard input.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Unsupported`] for S3.
    pub async fn open(from: &Location) -> Result<Self, StoreError> {
        match from {
            Location::File(path) => {
                let file = open_file(path).await?;
                let len = file.metadata().await.map_err(StoreError::io(path))?.len();
                Ok(Self {
                    len: Some(len),
                    bytes: pieces(file, path.clone()),
                })
            }
            Location::Stdio => Ok(Self {
                len: None,
                bytes: pieces(tokio::io::stdin(), "standard input".into()),
            }),
            Location::S3 { .. } => Err(StoreError::Unsupported(
                "only files and standard input are encrypted, not what lies in S3 already",
            )),
        }
    }

    /// Bytes to come, if known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.len
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> BodyStream {
        self.bytes
    }
}

async fn open_file(path: &std::path::Path) -> Result<File, StoreError> {
    let file = File::open(path).await.map_err(StoreError::io(path))?;
    if file
        .metadata()
        .await
        .map_err(StoreError::io(path))?
        .is_dir()
    {
        let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
        return Err(StoreError::Io {
            path: path.to_owned(),
            source,
        });
    }
    Ok(file)
}

/// Reads what stands before a body; returns it and its length.
async fn read_container(
    reader: &mut (impl AsyncRead + Unpin),
    location: &Location,
) -> Result<(ObjectMetadata, u64), StoreError> {
    let refuse = |source| StoreError::Container {
        place: location.to_string(),
        source,
    };
    let place = PathBuf::from(location.to_string());
    let mut header = Vec::new();
    let mut take = async |header: &mut Vec<u8>, len: usize| {
        let mut limited = (&mut *reader).take(len as u64);
        limited
            .read_to_end(header)
            .await
            .map_err(StoreError::io(&place))
    };
    take(&mut header, container::PREFIX_LEN).await?;
    let map_len = container::map_len(&header).map_err(refuse)?;
    let end = container::PREFIX_LEN + map_len;
    take(&mut header, map_len).await?;
    let map = header
        .get(container::PREFIX_LEN..end)
        .ok_or_else(|| refuse(container::ContainerError::Truncated(end)))?;
    Ok((container::parse(map).map_err(refuse)?, end as u64))
}

/// `len` bytes of a file from `start` on, or fewer where it ends. Reads by position, so that any
/// number of parts can be read at once.
fn part(file: Arc<std::fs::File>, path: PathBuf, start: u64, len: u64) -> BodyStream {
    let end = start.saturating_add(len);
    stream::try_unfold((file, path, start), move |(file, path, at)| async move {
        let wanted = end.saturating_sub(at).min(READ_LEN as u64) as usize;
        if wanted == 0 {
            return Ok(None);
        }
        let reading = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; wanted];
            let read = reading.read_at(&mut buffer, at)?;
            buffer.truncate(read);
            Ok(buffer)
        });
        let buffer = match read
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        {
            Ok(buffer) => buffer,
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let next = at + buffer.len() as u64;
        Ok((!buffer.is_empty()).then(|| (Bytes::from(buffer), (file, path, next))))
    })
    .boxed()
}

fn pieces(reader: impl AsyncRead + Send + Unpin + 'static, path: PathBuf) -> BodyStream {
    stream::try_unfold((reader, path), |(mut reader, path)| async move {
        let mut buffer = bytes::BytesMut::with_capacity(READ_LEN);
        // A pipe gives little at a time; fill up, for chunks are sealed whole.
        while buffer.len() < READ_LEN {
            match reader.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(source) => return Err(StoreError::Io { path, source }),
            }
        }
        Ok((!buffer.is_empty()).then(|| (buffer.freeze(), (reader, path))))
    })
    .boxed()
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::S3 { .. } => "Body::S3",
            Self::File { .. } => "Body::File",
            Self::Stream(_) => "Body::Stream",
        })
    }
}

impl std::fmt::Debug for PlainSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainSource")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
