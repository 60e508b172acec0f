//! A witness over HTTP: `POST /add-checkpoint` of C2SP tlog-witness.
//!
//! Beside it `GET /checkpoint/<SHA-256, in hex, of a shard's origin>` gives the checkpoint of it that was
//! cosigned last, as its log signed it; with a log's origin it is that of its newest shard. The protocol leaves such reading open; a log that is told of a larger size than its own can
//! demand to see its own signature on it, which nobody else can make.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ticket_format::time::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::judge::{Answer, Witness};
use super::request::MAX_BODY;
use crate::Clock;

/// Bounds of the service.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Connections at a time; more wait in the system's queue.
    pub connections: usize,
    /// Requests that are judged at a time; each may wait for the disk.
    pub judged: usize,
    /// For the head of a request, and between two requests of a connection.
    pub head: Duration,
    /// For the body of a request, from its head on.
    pub body: Duration,
    /// For a connection as a whole, however busy.
    pub connection: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            judged: 32,
            head: Duration::from_secs(15),
            body: Duration::from_secs(5),
            connection: Duration::from_secs(3_600),
        }
    }
}

/// Longest that a request waits for its turn to be judged.
const TURN: Duration = Duration::from_secs(2);
/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 8 * 1024;
/// Most header lines of a request.
const HEADERS: usize = 32;
/// How long requests under way may take to end once the service stops.
const DRAIN: Duration = Duration::from_secs(5);

/// The system's clock; before 1970 it reads as 1970.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp::from_seconds(since.map_or(0, |since| since.as_secs()))
    })
}

#[derive(Clone)]
struct Door {
    witness: Arc<Witness>,
    clock: Clock,
    turns: Arc<Semaphore>,
    body: Duration,
}

/// The witness's routes, to be served by [`serve`] or beneath another prefix.
pub fn router(witness: Arc<Witness>, clock: Clock, limits: &ServeLimits) -> Router {
    let door = Door {
        witness,
        clock,
        turns: Arc::new(Semaphore::new(limits.judged)),
        body: limits.body,
    };
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/checkpoint/{digest}", get(checkpoint))
        .with_state(door)
}

fn answer(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = [(header::CONTENT_TYPE, answer.content_type())];
    (status, kind, answer.body()).into_response()
}

/// Whether the head already says that the body is beyond the bound.
fn too_long(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > MAX_BODY as u64)
}

async fn add_checkpoint(State(door): State<Door>, request: Request) -> Response {
    if too_long(request.headers()) {
        return answer(&Answer::TooLong);
    }
    let read = axum::body::to_bytes(request.into_body(), MAX_BODY);
    let body = match tokio::time::timeout(door.body, read).await {
        Ok(Ok(body)) => body,
        // Beyond the bound, or the connection broke and nobody reads this.
        Ok(Err(_)) => return answer(&Answer::TooLong),
        Err(_) => {
            return (StatusCode::REQUEST_TIMEOUT, "the body did not come\n").into_response();
        }
    };
    let turn = tokio::time::timeout(TURN, Arc::clone(&door.turns).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return (StatusCode::SERVICE_UNAVAILABLE, "busy, try again\n").into_response();
    };
    let judged = tokio::task::spawn_blocking(move || {
        let answer = door.witness.add_checkpoint(&body, (door.clock)());
        drop(turn);
        answer
    });
    match judged.await {
        Ok(judged) => answer(&judged),
        Err(_) => answer(&Answer::NotKept("the request's task ended".to_owned())),
    }
}

async fn checkpoint(State(door): State<Door>, Path(wanted): Path<String>) -> Response {
    match door.witness.head_by_digest(&wanted) {
        Some(head) => head.note.into_response(),
        None => answer(&Answer::UnknownLog),
    }
}

/// Serves a witness until `shutdown` completes; requests under way then get a few seconds to end.
///
/// # Errors
/// The socket failed.
pub async fn serve(
    listener: TcpListener,
    witness: Arc<Witness>,
    clock: Clock,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let routes = router(witness, clock, &limits);
    let places = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, _))) => {
                let routes = routes.clone();
                connections.spawn(connection(stream, routes, limits, place, stopped.clone()));
            }
            (_, Err(error)) if passing(&error) => {
                // Out of descriptors, say: those in use come back.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (_, Err(error)) => return Err(error),
            (Err(_), _) => break,
        }
    }
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    // What has not ended by then is cut.
    let _ = tokio::time::timeout(DRAIN, drained).await;
    Ok(())
}

/// Whether accepting may be tried again after an error.
fn passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    let full = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let gone = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    gone || full.iter().any(|errno| code == Some(errno.raw_os_error()))
}

async fn connection(
    stream: TcpStream,
    routes: Router,
    limits: ServeLimits,
    place: OwnedSemaphorePermit,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are one small write each.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(routes);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ending = async {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = tokio::time::sleep(limits.connection) => {}
        }
    };
    let done = tokio::select! {
        // What went wrong is the client's matter.
        _ = &mut served => true,
        () = ending => false,
    };
    if !done {
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(DRAIN, served).await;
    }
    drop(place);
}
