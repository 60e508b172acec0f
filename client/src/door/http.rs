//! The door's HTTP: who may come in, and how an answer looks (DOOR-1 to DOOR-4).

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use zeroize::{Zeroize as _, Zeroizing};

use super::accept::Taken;
use super::doorway::Doorway;
use super::fault::Fault;
use super::keys::JobKeys;
use super::{operations, peer};

/// Largest body of a request (DOOR-4).
const BODY: usize = 128 * 1_024;
/// Connections of all doors of one user (DOOR-2).
pub(super) const PLACES: usize = 1_024;
/// Largest head, and most header lines: an SDK's signature takes some.
const HEAD_BYTES: usize = 16 * 1_024;
const HEADERS: usize = 64;
/// For a head, and between two requests of a connection.
const HEAD: Duration = Duration::from_secs(30);
/// The same where places run short: clients keep connections that they do not need.
const HEAD_CROWDED: Duration = Duration::from_secs(3);
/// For a body.
const BODY_TIME: Duration = Duration::from_secs(15);
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// What a request is held against.
pub(super) struct Threshold<K> {
    pub(super) keys: Arc<K>,
    pub(super) uid: u32,
    /// In base64url.
    token: Zeroizing<String>,
    address: SocketAddrV4,
}

/// One connection's.
struct Visit<K> {
    threshold: Arc<Threshold<K>>,
    /// Whether the job's user is at its other end.
    from_user: bool,
    /// Half of the places were taken when it came.
    crowded: bool,
}

impl<K> Clone for Visit<K> {
    fn clone(&self) -> Self {
        Self {
            threshold: Arc::clone(&self.threshold),
            from_user: self.from_user,
            crowded: self.crowded,
        }
    }
}

impl<K> Threshold<K> {
    /// That of a doorway.
    pub(super) fn new(keys: Arc<K>, uid: u32, doorway: &Doorway) -> Self {
        Self {
            keys,
            uid,
            token: doorway.token().text(),
            address: doorway.address(),
        }
    }
}

/// Serves until it is dropped; what is under way ends with it.
pub(super) async fn serve<K: JobKeys>(
    mut taken: mpsc::Receiver<Taken>,
    threshold: Threshold<K>,
    places: Arc<Semaphore>,
) {
    let threshold = Arc::new(threshold);
    let mut connections = JoinSet::new();
    while let Some((stream, theirs)) = taken.recv().await {
        while connections.try_join_next().is_some() {}
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to a door cannot be served");
                continue;
            }
        };
        // rule: DOOR-2
        let user = peer::user(theirs, threshold.address).unwrap_or_else(|error| {
            tracing::warn!(%error, "whose a connection is cannot be told");
            None
        });
        let visit = Visit {
            threshold: Arc::clone(&threshold),
            from_user: user == Some(threshold.uid),
            crowded: places.available_permits() <= PLACES / 2,
        };
        if visit.crowded && !visit.from_user {
            continue;
        }
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        connections.spawn(connection(visit, stream, place));
    }
    // The socket listens no more; who is there is served to the end.
    while connections.join_next().await.is_some() {}
}

async fn connection<K: JobKeys>(visit: Visit<K>, stream: TcpStream, _place: OwnedSemaphorePermit) {
    let crowded = visit.crowded;
    let router = Router::new().fallback(answer::<K>).with_state(visit);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if crowded { HEAD_CROWDED } else { HEAD })
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to a door ended");
    }
}

async fn answer<K: JobKeys>(State(visit): State<Visit<K>>, request: Request) -> Response {
    let threshold = &visit.threshold;
    let entered = match has_token(threshold, &request) {
        true => enter(&visit, &request),
        false => Err(Fault::no_entry()),
    };
    let answered = match entered {
        Ok(()) => perform(threshold, request).await,
        Err(fault) => Err(fault),
    };
    let (status, body) = match answered {
        Ok(value) => {
            let body = written(&value);
            erase(value);
            (StatusCode::OK, body)
        }
        Err(Fault {
            kind,
            status,
            message,
        }) => {
            tracing::info!(kind, message, "a door refuses");
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let error = serde_json::json!({ "__type": kind, "message": message });
            (status, written(&error))
        }
    };
    let kind = [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    // Erased when it has been sent: it may hold a key.
    let mut response = (status, kind, Body::from(Bytes::from_owner(body))).into_response();
    // rule: DOOR-2
    if visit.crowded {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// In a buffer that is erased, and never moved while it is written.
fn written(value: &Value) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(16 * 1_024));
    // Writing a value to memory does not fail.
    let _ = serde_json::to_writer(&mut *body, value);
    body
}

/// Erases the texts of an answer: one of them may be a key.
fn erase(value: Value) {
    match value {
        Value::String(mut text) => text.zeroize(),
        Value::Array(values) => values.into_iter().for_each(erase),
        Value::Object(members) => members.into_iter().for_each(|(_, value)| erase(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether the path is the door's.
fn has_token<K>(threshold: &Threshold<K>, request: &Request) -> bool {
    // rule: DOOR-1
    let path = request.uri().path();
    let token = path.strip_prefix('/').unwrap_or_default();
    let token = token.strip_suffix('/').unwrap_or(token);
    token.as_bytes().ct_eq(threshold.token.as_bytes()).into()
}

/// Who, of those with the token, may come in.
fn enter<K>(visit: &Visit<K>, request: &Request) -> Result<(), Fault> {
    // rule: DOOR-2
    if !visit.from_user {
        return Err(Fault::no_entry());
    }
    // rule: DOOR-3
    let port = visit.threshold.address.port();
    let host = only(request.headers(), header::HOST.as_str());
    let ours = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    if !host.is_some_and(|host| ours.iter().any(|ours| ours == host)) {
        return Err(Fault::no_entry());
    }
    let browser =
        |name: &str| ["origin", "referer"].contains(&name) || name.starts_with("sec-fetch-");
    if request.headers().keys().any(|name| browser(name.as_str()))
        || request.method() != Method::POST
    {
        return Err(Fault::no_entry());
    }
    Ok(())
}

/// A header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

async fn perform<K: JobKeys>(threshold: &Threshold<K>, request: Request) -> Result<Value, Fault> {
    // rule: DOOR-4
    let target = only(request.headers(), "x-amz-target").unwrap_or_default();
    let operation = target.strip_prefix("TrentService.");
    let operation = operation.ok_or_else(|| Fault::unsupported("services other than AWS KMS"))?;
    if operation.len() > 64 || !operation.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Fault::unsupported("an operation of such a name"));
    }
    let operation = operation.to_owned();
    let read = axum::body::to_bytes(request.into_body(), BODY);
    let body = match tokio::time::timeout(BODY_TIME, read).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return Err(Fault::malformed(
                "the body has more than 128 KiB, or broke off",
            ));
        }
        Err(_) => return Err(Fault::malformed("the body did not come")),
    };
    operations::perform(&operation, &*threshold.keys, &body).await
}
