//! S3 through one client per bucket.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector as _};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Attribute, Attributes, ClientOptions, GetOptions, GetRange, GetResult, HeaderMap, ObjectStore,
    ObjectStoreExt, RetryConfig,
};

use super::error::StoreError;
use super::in_place::{Connector, Headers};
use super::location::{Location, object_path};
use super::source::BodyStream;
use super::upload::{PartPool, Upload};
use crate::object::metadata::is_ours;

/// Reaches every bucket with one set of credentials and one endpoint.
#[derive(Clone)]
pub struct Stores {
    pub(super) builder: AmazonS3Builder,
    /// For the requests that the S3 client does not have.
    pub(super) http: HttpClient,
    buckets: Arc<Mutex<HashMap<String, Arc<AmazonS3>>>>,
    /// Bounds the parts in flight over all uploads, and so their memory.
    parts: Arc<PartPool>,
}

/// What the store says about an object before its body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the body.
    pub size: u64,
    /// The version's tag; every later read is bound to it.
    pub etag: String,
    /// User metadata: names without their prefix, and values.
    pub metadata: Vec<(String, String)>,
    /// What else the store keeps of it: content type and the like.
    pub(super) others: Attributes,
    /// All that the store said of it.
    pub(super) kept: HeaderMap,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Bytes as stored.
    pub size: u64,
    /// Seconds since the Unix epoch of its last change.
    pub modified: i64,
}

impl Stores {
    /// Takes region, credentials and endpoint from the environment (`AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, ...), on EC2 and in
    /// containers credentials from the metadata service. `endpoint` (`--s3`) goes before all.
    ///
    /// # Errors
    /// [`StoreError::Configuration`] if the endpoint is not an `http` or `https` URL.
    pub fn from_env(endpoint: Option<&str>) -> Result<Self, StoreError> {
        Self::with_builder(AmazonS3Builder::from_env(), endpoint)
    }

    /// Takes everything but the bucket from `builder`.
    ///
    /// # Errors
    /// As [`Stores::from_env`].
    pub fn with_builder(
        mut builder: AmazonS3Builder,
        endpoint: Option<&str>,
    ) -> Result<Self, StoreError> {
        if let Some(endpoint) = endpoint {
            builder = builder
                .with_config(AmazonS3ConfigKey::Endpoint, endpoint)
                .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        let endpoint = builder
            .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
            .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
        let plain_http = match &endpoint {
            Some(endpoint) => is_plain_http(endpoint)?,
            None => false,
        };
        // No bound on a whole request: a body may take hours. A silent connection is given up.
        let client = ClientOptions::new()
            .with_allow_http(plain_http)
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_secs(5))
            .with_read_timeout(Duration::from_secs(30));
        let http = Connector
            .connect(&client)
            .map_err(|error| StoreError::Configuration(error.to_string()))?;
        let retry = RetryConfig {
            max_retries: 5,
            retry_timeout: Duration::from_secs(30),
            ..RetryConfig::default()
        };
        Ok(Self {
            builder: builder
                .with_client_options(client)
                .with_retry(retry)
                .with_http_connector(Connector),
            http,
            buckets: Arc::default(),
            parts: Arc::default(),
        })
    }

    pub(super) fn bucket(&self, bucket: &str) -> Result<Arc<AmazonS3>, StoreError> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = buckets.get(bucket) {
            return Ok(Arc::clone(store));
        }
        let store = self
            .builder
            .clone()
            .with_bucket_name(bucket)
            .build()
            .map_err(|error| StoreError::Configuration(format!("S3 is set up wrongly: {error}")))?;
        let store = Arc::new(store);
        buckets.insert(bucket.to_owned(), Arc::clone(&store));
        Ok(store)
    }

    /// Size, version and user metadata of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Refused`], [`StoreError::Unreachable`], and
    /// [`StoreError::Answer`] from a store that gives no ETag.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Head, StoreError> {
        let options = GetOptions::new().with_head(true);
        let mut answer = self.get_opts(bucket, key, options).await?;
        let kept = answer.extensions.remove::<Headers>();
        let etag = answer.meta.e_tag.ok_or_else(|| StoreError::Answer {
            place: place(bucket, key),
            why: "it has no ETag, so metadata and body cannot be held together",
        })?;
        let metadata = answer
            .attributes
            .iter()
            .filter_map(|(name, value)| match name {
                Attribute::Metadata(name) => Some((name.to_string(), value.to_string())),
                _ => None,
            })
            .collect();
        let others = answer.attributes.iter();
        let others = others
            .filter(|(name, _)| !matches!(name, Attribute::Metadata(_)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Ok(Head {
            size: answer.meta.size,
            etag,
            metadata,
            others,
            kept: kept.map(|Headers(kept)| kept).unwrap_or_default(),
        })
    }

    /// The bytes `range` of that version of an object which `head` described.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if it is another version by now, and those of [`Stores::head`].
    // rule: OBJ-13
    pub async fn get(
        &self,
        bucket: &str,
        key: &str,
        head: &Head,
        range: Range<u64>,
    ) -> Result<BodyStream, StoreError> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let options = GetOptions::new()
            .with_if_match(Some(head.etag.clone()))
            .with_range(Some(GetRange::Bounded(range.clone())));
        let answer = self.get_opts(bucket, key, options).await?;
        let place = place(bucket, key);
        // A store that ignores If-Match is caught here.
        if answer.meta.e_tag.as_ref() != Some(&head.etag) || answer.meta.size != head.size {
            return Err(StoreError::Changed(place));
        }
        if answer.range != range {
            return Err(StoreError::Answer {
                place,
                why: "it sent another range",
            });
        }
        let stream = answer.into_stream();
        Ok(stream
            .map_err(move |error| StoreError::s3(&place, error))
            .boxed())
    }

    pub(super) async fn get_opts(
        &self,
        bucket: &str,
        key: &str,
        options: GetOptions,
    ) -> Result<GetResult, StoreError> {
        let path = object_path(key)?;
        let store = self.bucket(bucket)?;
        let answer = store.get_opts(&path, options).await;
        answer.map_err(|error| StoreError::s3(&place(bucket, key), error))
    }

    /// Starts an upload; nothing is visible under the key before it is finished.
    ///
    /// # Errors
    /// [`StoreError::Location`], [`StoreError::Configuration`].
    pub fn upload(
        &self,
        bucket: &str,
        key: &str,
        metadata: Vec<(&'static str, String)>,
    ) -> Result<Upload, StoreError> {
        let attributes: Attributes = metadata
            .into_iter()
            .map(|(name, value)| (Attribute::Metadata(name.into()), value))
            .chain([(
                Attribute::ContentType,
                "application/octet-stream".to_owned(),
            )])
            .collect();
        self.start(bucket, key, attributes)
    }

    /// Starts an upload that takes the place of the version that `head` described, and of no other.
    /// What is not ours of its metadata is kept.
    ///
    /// # Errors
    /// As [`Stores::upload`].
    // rule: OBJ-16
    pub(super) fn replacement(
        &self,
        bucket: &str,
        key: &str,
        head: &Head,
        metadata: Vec<(&'static str, String)>,
    ) -> Result<Upload, StoreError> {
        let mut attributes = head.others.clone();
        for (name, value) in &head.metadata {
            if !is_ours(name) {
                attributes.insert(
                    Attribute::Metadata(name.clone().into()),
                    value.clone().into(),
                );
            }
        }
        for (name, value) in metadata {
            attributes.insert(Attribute::Metadata(name.into()), value.into());
        }
        // The S3 client says it when it writes, and does not when it reads.
        let class = head.kept.get("x-amz-storage-class");
        if let Some(class) = class.and_then(|class| class.to_str().ok()) {
            attributes.insert(Attribute::StorageClass, class.to_owned().into());
        }
        let upload = self.start(bucket, key, attributes)?;
        Ok(upload.over(head.etag.clone()))
    }

    fn start(&self, bucket: &str, key: &str, attributes: Attributes) -> Result<Upload, StoreError> {
        let store = self.bucket(bucket)?;
        let path = object_path(key)?;
        let parts = Arc::clone(&self.parts);
        Ok(Upload::new(
            store,
            path,
            attributes,
            parts,
            place(bucket, key),
        ))
    }

    /// Every object whose key begins with `prefix`, page by page.
    ///
    /// # Errors
    /// In the stream: [`StoreError::NotFound`] for a bucket that is not there,
    /// [`StoreError::Refused`], [`StoreError::Unreachable`].
    pub fn list(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> BoxStream<'static, Result<Listed, StoreError>> {
        self.list_after(bucket, prefix, None)
    }

    /// As [`Stores::list`], of the keys that come after one.
    ///
    /// # Errors
    /// As [`Stores::list`].
    pub fn list_after(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
    ) -> BoxStream<'static, Result<Listed, StoreError>> {
        let store = match self.bucket(bucket) {
            Ok(store) => store,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let place = place(bucket, prefix);
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        stream::try_unfold(Some(None), move |page: Option<Option<String>>| {
            let (store, place, prefix) = (Arc::clone(&store), place.clone(), prefix.clone());
            let offset = after.clone();
            async move {
                let Some(page_token) = page else {
                    return Ok::<_, StoreError>(None);
                };
                let options = PaginatedListOptions {
                    offset,
                    page_token,
                    ..PaginatedListOptions::default()
                };
                let prefix = (!prefix.is_empty()).then_some(prefix.as_str());
                let answer = store.list_paginated(prefix, options).await;
                let answer = answer.map_err(|error| StoreError::s3(&place, error))?;
                let objects = answer.result.objects.into_iter().map(|object| {
                    Ok(Listed {
                        key: object.location.to_string(),
                        size: object.size,
                        modified: object.last_modified.timestamp(),
                    })
                });
                Ok(Some((stream::iter(objects), answer.page_token.map(Some))))
            }
        })
        .try_flatten()
        .boxed()
    }

    /// Makes a bucket, for a server that begins empty. One that is ours already will do.
    ///
    /// # Errors
    /// [`StoreError::Refused`], also if the bucket is somebody else's;
    /// [`StoreError::Unreachable`].
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), StoreError> {
        let place = place(bucket, "");
        let unreachable = |why: String| StoreError::Unreachable {
            place: place.clone(),
            why,
        };
        let store = self.bucket(bucket)?;
        // The S3 client has no call for this, but signs one.
        let url = store
            .signed_url(reqwest::Method::PUT, &Path::ROOT, Duration::from_secs(60))
            .await
            .map_err(|error| StoreError::s3(&place, error))?;
        let region = self.builder.get_config_value(&AmazonS3ConfigKey::Region);
        // The first region takes no constraint, every other one demands its own.
        let body = match region.as_deref() {
            None | Some("us-east-1") => String::new(),
            Some(region) => format!(
                "<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint>\
                 </CreateBucketConfiguration>"
            ),
        };
        let answer = reqwest::Client::new()
            .put(url)
            .timeout(Duration::from_secs(30))
            // Left out for an empty body otherwise, which servers refuse.
            .header(reqwest::header::CONTENT_LENGTH, body.len())
            .body(body)
            .send()
            .await
            // The address holds a signature.
            .map_err(|error| unreachable(error.without_url().to_string()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            reqwest::StatusCode::CONFLICT => {
                let why = answer.text().await.unwrap_or_default();
                if why.contains("BucketAlreadyOwnedByYou") {
                    return Ok(());
                }
                Err(StoreError::Refused {
                    place,
                    why: "the bucket exists already".to_owned(),
                })
            }
            status if status.is_client_error() => Err(StoreError::Refused {
                place,
                why: status.to_string(),
            }),
            status => Err(unreachable(status.to_string())),
        }
    }

    /// Copies an object inside one bucket, as it is, metadata included. Under its new key it must
    /// be asked for by its old name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Refused`], [`StoreError::Unreachable`].
    pub async fn copy(&self, bucket: &str, from: &str, to: &str) -> Result<(), StoreError> {
        let store = self.bucket(bucket)?;
        let (from_path, to_path) = (object_path(from)?, object_path(to)?);
        let copied = store.copy(&from_path, &to_path).await;
        copied.map_err(|error| StoreError::s3(&place(bucket, from), error))
    }
}

pub(super) fn place(bucket: &str, key: &str) -> String {
    Location::S3 {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
    }
    .to_string()
}

/// Bodies are encrypted and authenticated already, so plain HTTP is let through where the
/// operator wrote it; it shows object names and the requests to whoever listens.
fn is_plain_http(endpoint: &str) -> Result<bool, StoreError> {
    let wrong = || {
        StoreError::Configuration(format!(
            "the S3 endpoint {endpoint:?} is not a URL: write http://host:port or https://host"
        ))
    };
    let url = url::Url::parse(endpoint).map_err(|_| wrong())?;
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => Ok(false),
        ("http", Some(host)) => {
            let loopback = match host {
                url::Host::Domain(name) => name == "localhost",
                url::Host::Ipv4(address) => address.is_loopback(),
                url::Host::Ipv6(address) => address.is_loopback(),
            };
            if !loopback {
                tracing::warn!(endpoint, "S3 is spoken over plain HTTP");
            }
            Ok(true)
        }
        _ => Err(wrong()),
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The builder holds credentials.
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_must_be_a_url_and_its_scheme_decides() {
        assert!(is_plain_http("http://127.0.0.1:9000").unwrap());
        assert!(is_plain_http("http://[::1]:9000").unwrap());
        assert!(!is_plain_http("https://s3.example.org").unwrap());
        for wrong in [
            "",
            "localhost:9000",
            "s3.example.org",
            "ftp://h",
            "http://",
            "http:",
        ] {
            let error = is_plain_http(wrong).unwrap_err();
            assert_eq!(error.fault(), super::super::Fault::Configuration, "{wrong}");
        }
    }
}
