//! `/metrics` and `/healthz` over loopback HTTP.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::service::Broker;

#[derive(Clone)]
struct Page {
    broker: Arc<Broker>,
    transport: Arc<transport::Metrics>,
}

async fn metrics(State(page): State<Page>) -> Response {
    page.broker.metrics().transport(&page.transport);
    page.broker.show_state();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, kind)],
        page.broker.metrics().render(),
    )
        .into_response()
}

async fn health(State(page): State<Page>) -> Response {
    match page.broker.healthy().await {
        Ok(()) => "ok\n".into_response(),
        Err(refused) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", refused.refusal),
        )
            .into_response(),
    }
}

/// Serves until `shutdown` completes.
///
/// # Errors
/// The socket failed.
pub async fn serve(
    listener: TcpListener,
    broker: Arc<Broker>,
    transport: Arc<transport::Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(Page { broker, transport });
    axum::serve(listener, pages)
        .with_graceful_shutdown(shutdown)
        .await
}
