//! The socket of a sealed key server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use transport::{Handler, Peer, RunError, Server};

use super::Sealed;
use crate::clock::Clock;

/// How often shares are looked at that have waited for too long.
const LOOK: Duration = Duration::from_secs(60);

struct Door {
    sealed: Arc<Sealed>,
    clock: Arc<dyn Clock>,
    open: Notify,
}

impl Handler for Door {
    type Connection = ();

    fn connected(&self, _peer: Peer) {}

    async fn exchange(&self, (): &(), message: Bytes) -> Bytes {
        let rng = &mut UnwrapErr(SysRng);
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let answer = self.sealed.exchange(&message, now, monotonic, rng);
        if self.sealed.is_open() {
            self.open.notify_one();
        }
        Bytes::from(answer)
    }
}

/// Serves until shares open the root key, or the server is asked to stop.
///
/// # Errors
/// [`RunError`].
pub async fn serve(
    server: Server,
    sealed: &Arc<Sealed>,
    clock: Arc<dyn Clock>,
    metrics: Option<TcpListener>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let mut tasks = JoinSet::new();
    let (watched, time) = (Arc::clone(sealed), Arc::clone(&clock));
    tasks.spawn(async move {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            watched.expire(time.monotonic(), &mut UnwrapErr(SysRng));
        }
    });
    if let Some(listener) = metrics {
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router()).await {
                tracing::error!(%error, "metrics are not served any more");
            }
        });
    }
    let door = Arc::new(Door {
        sealed: Arc::clone(sealed),
        clock,
        open: Notify::new(),
    });
    let over = async {
        tokio::select! {
            () = door.open.notified() => {}
            () = stop => {}
        }
    };
    let stopped = server.run(Arc::clone(&door), over).await;
    tasks.shutdown().await;
    stopped.map(drop)
}

/// Listens again where another server of this process listened a moment ago.
///
/// # Errors
/// It cannot be bound.
pub async fn bind(
    address: SocketAddr,
    identity: &transport::ServerIdentity,
    limits: &transport::ServerLimits,
) -> Result<Server, transport::BindError> {
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match Server::bind(address, identity, limits.clone()) {
            // Peers that have not heard of its end keep the old socket for a moment.
            Err(transport::BindError::Socket { source, .. })
                if source.kind() == std::io::ErrorKind::AddrInUse
                    && address.port() != 0
                    && tokio::time::Instant::now() < patience =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bound => return bound,
        }
    }
}

fn router() -> Router {
    let metrics = || async {
        let text = "# HELP postern_key_server_sealed 1 while the key server has no root key and serves nothing.\n\
                    # TYPE postern_key_server_sealed gauge\npostern_key_server_sealed 1.0\n# EOF\n";
        (
            [(
                CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
    };
    let health = || async {
        let health = Json(serde_json::json!({ "v": 1, "sealed": true }));
        (StatusCode::SERVICE_UNAVAILABLE, health)
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
}
