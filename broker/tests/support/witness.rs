//! A witness of the broker's log, over HTTP; a test says how it behaves.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit_log::witness::{Endpoint, ServeLimits, Witness, router, system_clock};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use ticket_format::statement::witnessing::{WitnessMode, Witnessing};
use ticket_format::tlog::{LogKey, WitnessPolicy, WitnessSecret};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::seed;

/// Down: it answers 503.
const DOWN: u64 = u64::MAX;
/// It does what a witness does.
const HONEST: u64 = 0;

pub struct Cosigner {
    address: SocketAddr,
    vkeys: [String; 2],
    /// [`DOWN`], [`HONEST`], or the size that it claims without proof.
    mode: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Cosigner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cosigner {
    /// A witness that follows a log.
    pub async fn start(state: &Path, log: &LogKey) -> Self {
        let secret = WitnessSecret::from_seeds("witness.example/one", &seed(), &seed());
        let secret = secret.expect("a secret");
        let vkeys = secret.vkeys().each_ref().map(ToString::to_string);
        Witness::create(state).expect("a witness");
        let witness = Witness::open(state, secret, [log.clone()]).expect("a witness");
        let routes = router(Arc::new(witness), system_clock(), &ServeLimits::default());
        let mode = Arc::new(AtomicU64::new(HONEST));
        let told = Arc::clone(&mode);
        let routes = routes.layer(from_fn(move |request: Request, next: Next| {
            let mode = told.load(Ordering::SeqCst);
            async move {
                match mode {
                    HONEST => next.run(request).await,
                    DOWN => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    size if request.method() == "POST" => {
                        let kind = [(header::CONTENT_TYPE, "text/x.tlog.size")];
                        (StatusCode::CONFLICT, kind, format!("{size}\n")).into_response()
                    }
                    _ => StatusCode::NOT_FOUND.into_response(),
                }
            }
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("it serves");
        });
        Self {
            address,
            vkeys,
            mode,
            task,
        }
    }

    pub fn down(&self) {
        self.mode.store(DOWN, Ordering::SeqCst);
    }

    pub fn up(&self) {
        self.mode.store(HONEST, Ordering::SeqCst);
    }

    /// Claims to have cosigned so much, and cannot show it.
    pub fn claim(&self, size: u64) {
        self.mode.store(size, Ordering::SeqCst);
    }

    pub fn endpoint(&self) -> (String, Endpoint) {
        let url = format!("http://{}", self.address);
        let endpoint = Endpoint::new(&url, &self.vkeys).expect("an endpoint");
        ("one".to_owned(), endpoint)
    }

    /// Both of its keys must cosign.
    pub fn witnessing(&self, mode: WitnessMode) -> Witnessing {
        let [first, second] = &self.vkeys;
        let policy = format!("witness a {first}\nwitness b {second}\ngroup g 2 a b\nquorum g\n");
        Witnessing { mode, policy }
    }

    pub fn policy(&self) -> WitnessPolicy {
        let policy = self.witnessing(WitnessMode::Require).policy;
        policy.parse().expect("a policy")
    }
}
