//! Other metadata for an object whose body stays where it is: S3 copies it onto itself.
//!
//! The S3 client has no such call, but takes a connector, signs, and gives its credentials: so this
//! is one request by hand, on the same settings.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures::StreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ClientOptions, HeaderMap, HeaderValue};
use reqwest::header::{CONTENT_LENGTH, HeaderName, IF_MATCH};
use reqwest::{Method, StatusCode};

use super::bucket::{Head, Stores, place};
use super::error::StoreError;
use super::location::object_path;
use crate::object::metadata::is_ours;

/// S3 copies no larger object in one request.
const LARGEST: u64 = 5 << 30;
/// Longest answer that is read.
const ANSWER: usize = 64 * 1024;
/// What an object keeps beside user metadata. Its tags S3 copies by itself; a lock is the bucket's.
const KEPT: [&str; 11] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
];
const USER: &str = "x-amz-meta-";
/// There is metadata that no header can say.
const MISSING: &str = "x-amz-missing-meta";
/// A key that the customer sends with each request.
const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-algorithm";

/// Connects as the S3 client does by itself, and keeps the headers of each answer to a HEAD.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Keeping(client)))
    }
}

#[derive(Debug)]
struct Keeping(HttpClient);

/// The headers of an answer, among its extensions.
#[derive(Clone, Debug)]
pub(super) struct Headers(pub(super) HeaderMap);

type Called<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Keeping {
    fn call<'service, 'call>(&'service self, request: HttpRequest) -> Called<'call>
    where
        'service: 'call,
        Self: 'call,
    {
        Box::pin(async move {
            let head = *request.method() == Method::HEAD;
            let mut answer = self.0.execute(request).await?;
            if head {
                let headers = Headers(answer.headers().clone());
                answer.extensions_mut().insert(headers);
            }
            Ok(answer)
        })
    }
}

/// How one attempt went.
enum Attempt {
    Done,
    /// The store has no such request.
    Unknown,
    /// Another attempt may go better.
    Again(String),
    Failed(StoreError),
}

impl Stores {
    /// Gives the version of an object that `head` described other metadata of ours, and reads that
    /// back; its body, its other metadata and what else S3 keeps of it stay. False where it cannot be
    /// done by one copy: then the body has to be written again.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if it is another version by now, body or metadata;
    /// [`StoreError::Answer`] if the store did something else; those of [`Stores::head`].
    // rule: OBJ-16
    pub(super) async fn relabel(
        &self,
        bucket: &str,
        key: &str,
        head: &Head,
        metadata: &[(&'static str, String)],
    ) -> Result<bool, StoreError> {
        let wanted: BTreeMap<String, String> = metadata
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        // Other metadata alone leaves the ETag as it is, so both are compared.
        let now = self.head(bucket, key).await?;
        if now.etag != head.etag || ours(&now) != ours(head) {
            return Err(StoreError::Changed(place(bucket, key)));
        }
        let copied = self.copy_onto_itself(bucket, key, &now, metadata).await;
        match &copied {
            Ok(false) => return Ok(false),
            Ok(true) | Err(StoreError::Changed(_) | StoreError::Unreachable { .. }) => {}
            Err(_) => return copied,
        }
        let after = self.head(bucket, key).await?;
        if ours(&after) == wanted && after.size == head.size {
            // Also where the answer was lost and a second attempt met what the first had done.
            return Ok(true);
        }
        copied?;
        if ours(&after) == ours(head) && after.etag == head.etag {
            return Err(StoreError::Answer {
                place: place(bucket, key),
                why: "it says that the metadata was replaced, and it was not",
            });
        }
        Err(StoreError::Changed(place(bucket, key)))
    }

    async fn copy_onto_itself(
        &self,
        bucket: &str,
        key: &str,
        head: &Head,
        metadata: &[(&'static str, String)],
    ) -> Result<bool, StoreError> {
        let set = |key| self.builder.get_config_value(&key);
        let is_set = |key| set(key).as_deref() == Some("true");
        if head.size > LARGEST
            || head.kept.contains_key(CUSTOMER_KEY)
            || is_set(AmazonS3ConfigKey::SkipSignature)
            || is_set(AmazonS3ConfigKey::S3Express)
        {
            return Ok(false);
        }
        let store = self.bucket(bucket)?;
        let region = set(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let copy = Copy {
            stores: self,
            place: place(bucket, key),
            path: object_path(key)?,
            headers: headers(bucket, key, head, metadata)?,
            region,
            payer: is_set(AmazonS3ConfigKey::RequestPayer),
        };
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(5)
            .with_jitter()
            .build();
        loop {
            let why = match copy.attempt(&store).await? {
                Attempt::Done => return Ok(true),
                Attempt::Unknown => return Ok(false),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again(why) => why,
            };
            let Some(delay) = delays.next() else {
                let place = copy.place;
                return Err(StoreError::Unreachable { place, why });
            };
            tracing::info!(place = %copy.place, why, "copying again");
            tokio::time::sleep(delay).await;
        }
    }
}

struct Copy<'a> {
    stores: &'a Stores,
    place: String,
    path: Path,
    headers: HeaderMap,
    region: String,
    payer: bool,
}

impl Copy<'_> {
    async fn attempt(&self, store: &AmazonS3) -> Result<Attempt, StoreError> {
        let failed = |error| StoreError::s3(&self.place, error);
        // Only for the address, which depends on how buckets are addressed.
        let url = store.signed_url(Method::PUT, &self.path, Duration::from_secs(60));
        let mut url = url.await.map_err(failed)?;
        url.set_query(None);
        let mut request = HttpRequest::new(HttpRequestBody::from(Bytes::new()));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|_| StoreError::Configuration(format!("{} has no address", self.place)))?;
        *request.headers_mut() = self.headers.clone();
        let credential = store.credentials().get_credential().await.map_err(failed)?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_request_payer(self.payer)
            .try_authorize(&mut request, None)
            .map_err(failed)?;
        let answer = match self.stores.http.execute(request).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Attempt::Again(error.to_string())),
        };
        let status = answer.status();
        match text(answer.into_body()).await {
            Ok(text) => Ok(judge(&self.place, status, &text)),
            Err(error) => Ok(Attempt::Again(error.to_string())),
        }
    }
}

/// S3 says 200 before it begins, and may say in the body that it failed.
fn judge(place: &str, status: StatusCode, text: &str) -> Attempt {
    let code = element(text, "Code").unwrap_or_default();
    let busy = ["InternalError", "ServiceUnavailable", "SlowDown"];
    if status.is_success() && !text.contains("<Error") {
        return Attempt::Done;
    }
    let why = match code {
        "" => status.to_string(),
        code => format!("{status}: {code}"),
    };
    let place = place.to_owned();
    match status {
        StatusCode::NOT_IMPLEMENTED => Attempt::Unknown,
        StatusCode::PRECONDITION_FAILED => Attempt::Failed(StoreError::Changed(place)),
        StatusCode::NOT_FOUND => Attempt::Failed(StoreError::NotFound(place)),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Attempt::Again(why),
        status if status.is_server_error() || busy.contains(&code) => Attempt::Again(why),
        _ if code == "PreconditionFailed" => Attempt::Failed(StoreError::Changed(place)),
        // Somebody else is writing it.
        StatusCode::CONFLICT => Attempt::Again(why),
        _ => Attempt::Failed(StoreError::Refused { place, why }),
    }
}

/// What stands in the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value)
}

async fn text(body: HttpResponseBody) -> Result<String, HttpError> {
    let mut text = Vec::new();
    let mut pieces = body.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let room = ANSWER.saturating_sub(text.len());
        text.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The headers of the request but those of its signature.
fn headers(
    bucket: &str,
    key: &str,
    head: &Head,
    metadata: &[(&'static str, String)],
) -> Result<HeaderMap, StoreError> {
    let refused = |why: &str| StoreError::Refused {
        place: place(bucket, key),
        why: why.to_owned(),
    };
    if head.kept.contains_key(MISSING) {
        return Err(refused(
            "it has metadata that cannot be read, and so not be kept",
        ));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &head.kept {
        let user = name.as_str().strip_prefix(USER);
        if KEPT.contains(&name.as_str()) || user.is_some_and(|user| !is_ours(user)) {
            // What is signed must be text.
            if std::str::from_utf8(value.as_bytes()).is_err() {
                return Err(refused("it has metadata that is no text"));
            }
            headers.append(name.clone(), value.clone());
        }
    }
    let mut set = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        match (name, HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => {
                headers.insert(name, value);
                Ok(())
            }
            _ => Err(refused("its metadata cannot be sent")),
        }
    };
    for (name, value) in metadata {
        set(&format!("{USER}{name}"), value)?;
    }
    set("x-amz-copy-source", &source(bucket, key))?;
    set("x-amz-metadata-directive", "REPLACE")?;
    // Of the version that is copied, and of the one whose place it takes.
    set("x-amz-copy-source-if-match", &head.etag)?;
    set(IF_MATCH.as_str(), &head.etag)?;
    set(CONTENT_LENGTH.as_str(), "0")?;
    Ok(headers)
}

/// `/bucket/key`, percent-encoded.
fn source(bucket: &str, key: &str) -> String {
    let mut source = format!("/{bucket}/");
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                source.push(char::from(byte));
            }
            _ => source += &format!("%{byte:02X}"),
        }
    }
    source
}

fn ours(head: &Head) -> BTreeMap<String, String> {
    head.metadata
        .iter()
        .filter(|(name, _)| is_ours(name))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kept: &[(&'static str, &'static str)]) -> Head {
        let mut headers = HeaderMap::new();
        for (name, value) in kept {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        Head {
            size: 1,
            etag: "\"e\"".to_owned(),
            metadata: Vec::new(),
            others: object_store::Attributes::new(),
            kept: headers,
        }
    }

    #[test]
    fn what_an_object_has_beside_its_wrap_is_sent_again() {
        // rule: OBJ-16
        let head = head(&[
            ("content-type", "text/plain"),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-meta-team", "vision"),
            ("x-amz-meta-postern-dek", "old"),
            ("x-amz-request-id", "1"),
        ]);
        let metadata = [("postern-dek", "new".to_owned())];
        let headers = headers("bucket", "a b/\u{e4}", &head, &metadata).unwrap();
        let sent: BTreeMap<&str, &str> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let expected = BTreeMap::from([
            ("content-length", "0"),
            ("content-type", "text/plain"),
            ("if-match", "\"e\""),
            ("x-amz-copy-source", "/bucket/a%20b/%C3%A4"),
            ("x-amz-copy-source-if-match", "\"e\""),
            ("x-amz-meta-postern-dek", "new"),
            ("x-amz-meta-team", "vision"),
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-storage-class", "STANDARD_IA"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn an_object_whose_metadata_cannot_be_read_is_left_as_it_is() {
        let refused = headers("bucket", "a", &head(&[(MISSING, "1")]), &[]);
        assert!(matches!(refused, Err(StoreError::Refused { .. })));
    }

    #[test]
    fn a_200_that_says_in_its_body_that_it_failed_is_a_failure() {
        let judged = |status, text: &str| judge("s3://bucket/a", status, text);
        let error = |code: &str| format!("<Error><Code>{code}</Code></Error>");
        let done = judged(StatusCode::OK, "<CopyObjectResult/>");
        assert!(matches!(done, Attempt::Done));
        for (status, code) in [
            (StatusCode::OK, "InternalError"),
            (StatusCode::OK, "SlowDown"),
            (StatusCode::SERVICE_UNAVAILABLE, ""),
            (StatusCode::CONFLICT, "OperationAborted"),
        ] {
            let again = judged(status, &error(code));
            assert!(matches!(again, Attempt::Again(_)), "{status} {code}");
        }
        for (status, code) in [
            (StatusCode::PRECONDITION_FAILED, ""),
            (StatusCode::OK, "PreconditionFailed"),
        ] {
            let changed = judged(status, &error(code));
            assert!(matches!(changed, Attempt::Failed(StoreError::Changed(_))));
        }
        let denied = judged(StatusCode::FORBIDDEN, &error("AccessDenied"));
        assert!(matches!(
            denied,
            Attempt::Failed(StoreError::Refused { .. })
        ));
        let unknown = judged(StatusCode::NOT_IMPLEMENTED, "");
        assert!(matches!(unknown, Attempt::Unknown));
    }
}
