//! A loopback stand-in for the EC2 metadata service, version 2 only.
//!
//! It replays a real signed identity document and serves the items that our client, botocore and
//! cloud-init read, with the statuses of the real service: 400 for a token request without a good
//! TTL, 401 without a token, 403 for a forwarded token request or a dated token path, 404 for what
//! is not there. It listens on loopback only, since user-data carries a secret.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// Dated aliases of the tree that are listed; any date is served.
const VERSIONS: [&str; 4] = ["2016-09-02", "2018-09-24", "2021-03-23", "latest"];
const MAC: &str = "02:00:00:00:00:01";
/// Most tokens that are kept; the oldest answer for a test that asks for more is a 503.
const MAX_TOKENS: usize = 10_000;

/// What the stub serves.
#[derive(Clone, Debug)]
pub struct StubConfig {
    /// Where to listen: loopback, port 0 for any.
    pub listen: SocketAddr,
    /// The identity document, JSON as AWS signed it. Metadata items are derived from it.
    pub document: Vec<u8>,
    /// The `rsa2048` proof, base64 text; absent: 404.
    pub rsa2048: Option<Vec<u8>>,
    /// The `pkcs7` proof; absent: 404.
    pub pkcs7: Option<Vec<u8>>,
    /// The `signature` value; absent: 404.
    pub signature: Option<Vec<u8>>,
    /// User-data, raw; absent: 404, as on an instance without.
    pub user_data: Option<Vec<u8>>,
}

impl StubConfig {
    /// A document and its `rsa2048` proof on any loopback port, nothing else.
    pub fn new(document: impl Into<Vec<u8>>, rsa2048: impl Into<Vec<u8>>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            document: document.into(),
            rsa2048: Some(rsa2048.into()),
            pkcs7: None,
            signature: None,
            user_data: None,
        }
    }
}

/// A running stub; it stops when this is dropped.
#[derive(Debug)]
pub struct StubHandle {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl StubHandle {
    /// Stops after the requests at hand.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let _ = (&mut self.task).await;
    }

    /// Makes every token handed out so far a false one.
    pub fn forget_tokens(&self) {
        lock(&self.shared.tokens).clear();
    }

    /// The requests so far, as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }
}

#[derive(Debug)]
struct Shared {
    /// Path below the version, without a leading slash, to content.
    files: BTreeMap<String, Vec<u8>>,
    /// Token to the end of its life.
    tokens: Mutex<HashMap<String, Instant>>,
    requests: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a stub and returns its address.
///
/// # Errors
/// When the document is not a JSON object with the members of an identity document, the address is
/// not loopback, or it cannot be listened on.
pub async fn serve(config: StubConfig) -> io::Result<(SocketAddr, StubHandle)> {
    if !config.listen.ip().is_loopback() {
        return Err(io::Error::other(
            "the stub listens on a loopback address only: user-data carries a secret",
        ));
    }
    let shared = Arc::new(Shared {
        files: files(&config)?,
        tokens: Mutex::default(),
        requests: Mutex::default(),
    });
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Router::new().fallback(answer).with_state(shared.clone());
    let task = tokio::spawn(async move {
        // Both a message and the sender's end mean: stop.
        let stopped = async { drop(stopped.await) };
        let _ = axum::serve(listener, router)
            .with_graceful_shutdown(stopped)
            .await;
    });
    let handle = StubHandle {
        shared,
        stop: Some(stop),
        task,
    };
    Ok((address, handle))
}

/// The tree below `/latest/`, made from the document.
fn files(config: &StubConfig) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let document: serde_json::Value = serde_json::from_slice(&config.document)
        .map_err(|error| io::Error::other(format!("the document is not JSON: {error}")))?;
    let member = |name: &str| -> io::Result<String> {
        document[name]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other(format!("the document has no text member {name}")))
    };
    let (region, zone) = (member("region")?, member("availabilityZone")?);
    let address = document["privateIp"].as_str().unwrap_or("127.0.0.1");
    let host = format!(
        "ip-{}.{region}.compute.internal",
        address.replace(['.', ':'], "-")
    );
    let interface = format!("network/interfaces/macs/{MAC}");
    let mut files: BTreeMap<String, Vec<u8>> = [
        ("ami-id", member("imageId")?),
        ("ami-launch-index", "0".into()),
        ("ami-manifest-path", "(unknown)".into()),
        ("block-device-mapping/ami", "/dev/xvda".into()),
        ("block-device-mapping/root", "/dev/xvda".into()),
        ("hostname", host.clone()),
        ("instance-action", "none".into()),
        ("instance-id", member("instanceId")?),
        ("instance-life-cycle", "on-demand".into()),
        ("instance-type", member("instanceType")?),
        ("local-hostname", host.clone()),
        ("local-ipv4", address.into()),
        ("mac", MAC.into()),
        (&format!("{interface}/device-number"), "0".into()),
        (&format!("{interface}/local-hostname"), host),
        (&format!("{interface}/local-ipv4s"), address.into()),
        (&format!("{interface}/mac"), MAC.into()),
        (&format!("{interface}/owner-id"), member("accountId")?),
        (
            &format!("{interface}/subnet-ipv4-cidr-block"),
            format!("{address}/20"),
        ),
        ("placement/availability-zone", zone),
        ("placement/region", region),
        ("profile", "default-hvm".into()),
        ("reservation-id", "r-00000000000000000".into()),
        ("security-groups", "default".into()),
        ("services/domain", "amazonaws.com".into()),
        ("services/partition", "aws".into()),
    ]
    .into_iter()
    .map(|(name, value)| (format!("meta-data/{name}"), value.into_bytes()))
    .collect();
    // No role: a directory with nothing in it.
    files.insert("meta-data/iam/security-credentials/".into(), Vec::new());
    let identity = [
        ("document", Some(&config.document)),
        ("rsa2048", config.rsa2048.as_ref()),
        ("pkcs7", config.pkcs7.as_ref()),
        ("signature", config.signature.as_ref()),
    ];
    for (name, content) in identity {
        if let Some(content) = content {
            // The real service sends no newline at the end.
            let content = content.trim_ascii_end().to_vec();
            files.insert(format!("dynamic/instance-identity/{name}"), content);
        }
    }
    if let Some(user_data) = &config.user_data {
        files.insert("user-data".into(), user_data.clone());
    }
    Ok(files)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    lock(&shared.requests).push(format!("{method} {}", uri.path()));
    let path = uri.path().trim_start_matches('/');
    match split(path) {
        Some((version, "api/token")) if method == Method::PUT => token(&shared, version, &headers),
        Some((_, "api/token")) => status(StatusCode::METHOD_NOT_ALLOWED),
        _ if method != Method::GET && method != Method::HEAD => {
            status(StatusCode::METHOD_NOT_ALLOWED)
        }
        _ if !has_token(&shared, &headers) => status(StatusCode::UNAUTHORIZED),
        _ if path.is_empty() => text(VERSIONS.join("\n").into_bytes()),
        Some((_, below)) => item(&shared, below),
        None => status(StatusCode::NOT_FOUND),
    }
}

/// `latest/x/y` to (`latest`, `x/y`); nothing for a first part that is no version.
fn split(path: &str) -> Option<(&str, &str)> {
    let (version, below) = path.split_once('/').unwrap_or((path, ""));
    let is_date = version.len() == 10
        && version.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    (is_date || version == "latest").then_some((version, below))
}

fn token(shared: &Shared, version: &str, headers: &HeaderMap) -> Response {
    if headers.contains_key("x-forwarded-for") || version != "latest" {
        return status(StatusCode::FORBIDDEN);
    }
    let seconds = headers
        .get(TTL)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok())
        .filter(|seconds| (1..=21_600).contains(seconds));
    let Some(seconds) = seconds else {
        return status(StatusCode::BAD_REQUEST);
    };
    let mut random = [0; 42];
    if getrandom::fill(&mut random).is_err() {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let token = URL_SAFE.encode(random);
    let mut tokens = lock(&shared.tokens);
    tokens.retain(|_, end| Instant::now() < *end);
    if tokens.len() >= MAX_TOKENS {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    }
    tokens.insert(token.clone(), Instant::now() + Duration::from_secs(seconds));
    drop(tokens);
    (
        [(TTL, HeaderValue::from(seconds))],
        text(token.into_bytes()),
    )
        .into_response()
}

fn has_token(shared: &Shared, headers: &HeaderMap) -> bool {
    headers
        .get(TOKEN)
        .and_then(|value| value.to_str().ok())
        .and_then(|token| lock(&shared.tokens).get(token).copied())
        .is_some_and(|end| Instant::now() < end)
}

/// A file's content, or the listing of a directory, with or without a slash at the end.
fn item(shared: &Shared, path: &str) -> Response {
    let plain = path.trim_end_matches('/');
    if let Some(content) = shared.files.get(plain) {
        return if plain == "user-data" {
            typed("application/octet-stream", content.clone())
        } else {
            text(content.clone())
        };
    }
    let prefix = if plain.is_empty() {
        String::new()
    } else {
        format!("{plain}/")
    };
    let below: Vec<&str> = shared
        .files
        .keys()
        .filter_map(|file| file.strip_prefix(&prefix))
        .collect();
    if below.is_empty() {
        return status(StatusCode::NOT_FOUND);
    }
    let names: BTreeSet<&str> = below
        .into_iter()
        .map(|rest| rest.split_inclusive('/').next().unwrap_or_default())
        .collect();
    text(Vec::from_iter(names).join("\n").into_bytes())
}

fn text(content: Vec<u8>) -> Response {
    typed("text/plain", content)
}

fn typed(kind: &'static str, content: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, kind)], content).into_response()
}

/// A status with a short page, as the real service sends.
fn status(code: StatusCode) -> Response {
    (code, code.to_string()).into_response()
}
