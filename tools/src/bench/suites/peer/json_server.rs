//! The HTTP service: axum over TLS, one AES-256-GCM opening for each key, and nothing else. It knows no callers and no
//! policy: it is what such a service costs at least, and lives for one run on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use serde::{Deserialize, Serialize};
use ticket_format::report::{Report, exit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::json::{Answer, DECRYPT, DECRYPT_DURABLY, Data, KEY, Kek, MOST_ITEMS, Outcome, Request};
use crate::floor::{GroupCommit, record_bytes};

/// What the process says of itself on its standard output, in one line of JSON.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Ready {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its certificate's DER, in base64.
    pub(super) certificate: String,
}

/// Serves until standard input ends, whose first bytes are the key: the life of `--serve-json`.
pub(crate) fn serve(runtime: &tokio::runtime::Runtime, dir: &Path) -> Result<(), Report> {
    let mut key = Zeroizing::new([0; KEY]);
    let mut stdin = std::io::stdin();
    stdin.read_exact(&mut *key).map_err(failed)?;
    let log = GroupCommit::create(&dir.join("json-audit")).map_err(failed)?;
    let kek = Kek::new(&key).ok_or_else(|| failed("the key is none"))?;
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Who started this is gone, or wants it gone, when it closes its end.
        let _ = stdin.read_to_end(&mut Vec::new());
        drop(stop);
    });
    runtime.block_on(async {
        let (ready, serving) = listen(kek, log).await?;
        let line = serde_json::to_string(&ready).map_err(failed)?;
        writeln!(std::io::stdout().lock(), "{line}").map_err(failed)?;
        tokio::select! {
            () = serving => {}
            _ = stopped => {}
        }
        Ok(())
    })
}

/// Listens on any port of loopback with a certificate of its own; serves while the second part is polled.
pub(super) async fn listen(
    kek: Kek,
    log: GroupCommit,
) -> Result<(Ready, impl Future<Output = ()>), Report> {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let identity = identity.map_err(failed)?;
    let certificate = identity.cert.der().clone();
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).map_err(failed)?;
    let acceptor = acceptor(certificate.clone(), key).map_err(failed)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(failed)?;
    let ready = Ready {
        address: listener.local_addr().map_err(failed)?,
        certificate: STANDARD.encode(&certificate),
    };
    let routes = Router::new()
        .route(DECRYPT, post(decrypt))
        .route(DECRYPT_DURABLY, post(decrypt_durably))
        .with_state(Arc::new(Service { kek, log }));
    let serving = async move {
        // An error to accept ends the service, and its callers see that.
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, acceptor.clone(), routes.clone()));
        }
    };
    Ok((ready, serving))
}

fn acceptor(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, rustls::Error> {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, routes: Router) {
    let _ = stream.set_nodelay(true);
    // What fails here fails at the caller too, who tells of it.
    if let Ok(stream) = acceptor.accept(stream).await {
        let service = TowerToHyperService::new(routes);
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}

struct Service {
    kek: Kek,
    log: GroupCommit,
}

async fn decrypt(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    service.unwrap(&body).map_or_else(refused, answered)
}

/// The same, and the answer waits for a record as long as a redemption's, which is synced together with all that
/// wait: what a key server owes its log, without proofs or signatures.
async fn decrypt_durably(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let Some(outcomes) = service.unwrap(&body) else {
        return refused();
    };
    let record = vec![0xa5; record_bytes(outcomes.len())];
    match service.log.append(record).await {
        Ok(()) => answered(outcomes),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Service {
    /// What became of each item; none where there is no request in this.
    fn unwrap(&self, body: &[u8]) -> Option<Vec<Outcome>> {
        let request: Request<'_> = serde_json::from_slice(body).ok()?;
        let few = request.batch_input.len() <= MOST_ITEMS;
        few.then(|| {
            let outcome = |input| self.kek.unwrap(input);
            request.batch_input.iter().map(outcome).collect()
        })
    }
}

fn answered(batch_results: Vec<Outcome>) -> Response {
    let failed = batch_results
        .iter()
        .any(|outcome| matches!(outcome, Outcome::Error(_)));
    let status = if failed {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    let data = Data { batch_results };
    (status, axum::Json(Answer { data })).into_response()
}

fn refused() -> Response {
    StatusCode::BAD_REQUEST.into_response()
}

fn failed(why: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, "the HTTP service cannot serve").why(why)
}
