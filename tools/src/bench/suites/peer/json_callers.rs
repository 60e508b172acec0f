//! The HTTP service's process, and the callers that load it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rand_core::Rng as _;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use ticket_format::report::{Report, exit};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::json::{self, Answer, Input, KEY, Kek};
use super::json_server::Ready;
use crate::cpu;
use crate::drive::{Tally, tally};
use crate::realm::rng;

/// Wrapped keys that there are.
const DEKS: usize = 1_000;
/// How long the process may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most bytes of an answer.
const ANSWER: usize = 1 << 20;

/// The service's process; it ends when this is dropped.
pub(super) struct Process {
    child: Child,
    _stdin: ChildStdin,
}

/// A wrapped key, its context in base64, and what is in it.
struct Item {
    ciphertext: String,
    context: String,
    dek: [u8; KEY],
}

/// Callers with a connection each, as HTTP/1.1 has it.
pub(super) struct Callers {
    connections: Vec<Mutex<SendRequest<Body>>>,
    items: Vec<Item>,
}

impl Process {
    /// Starts this program again as the service, its log in this directory, and connects so many callers.
    pub(super) async fn start(dir: &Path, callers: usize) -> Result<(Self, Arc<Callers>), Report> {
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("--serve-json").arg(dir).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("its process has no pipes"));
        };
        let mut key = Zeroizing::new([0; KEY]);
        rng().fill_bytes(&mut *key);
        stdin.write_all(&*key).await.map_err(failed)?;
        stdin.flush().await.map_err(failed)?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await;
        let line = line.map_err(|_| failed("its process does not come up"))?;
        let line = line.map_err(failed)?.unwrap_or_default();
        let ready: Ready = serde_json::from_str(&line).map_err(failed)?;
        let kek = Kek::new(&key).ok_or_else(|| failed("the key is none"))?;
        let callers = Callers::connect(&ready, &kek, callers).await?;
        let process = Self {
            child,
            _stdin: stdin,
        };
        Ok((process, Arc::new(callers)))
    }

    /// CPU time until now.
    fn cpu(&self) -> Result<Duration, Report> {
        let pid = self
            .child
            .id()
            .ok_or_else(|| failed("its process has ended"))?;
        Ok(cpu::usage(pid)?.cpu)
    }

    /// Loads it for a span by so many callers, with so many keys in a request; the second figure is its own CPU time
    /// for each key, in microseconds.
    pub(super) async fn load(
        &self,
        callers: &Arc<Callers>,
        path: &'static str,
        batch: usize,
        tasks: usize,
        span: Duration,
    ) -> Result<(Tally, f64), Report> {
        let before = self.cpu()?;
        let (callers, next) = (Arc::clone(callers), Arc::new(AtomicUsize::new(0)));
        let operation = move |task: usize| {
            let callers = Arc::clone(&callers);
            let from = next.fetch_add(batch, Ordering::Relaxed) % (DEKS - batch + 1);
            async move { callers.one(task, path, from, batch).await.map(Some) }
        };
        let tally = tally(tasks, span, operation).await?;
        let spent = self.cpu()?.saturating_sub(before);
        Ok((tally, cpu::per(spent, tally.count)))
    }
}

impl Callers {
    /// Wraps keys and connects.
    pub(super) async fn connect(ready: &Ready, kek: &Kek, callers: usize) -> Result<Self, Report> {
        let certificate = STANDARD.decode(&ready.certificate).map_err(failed)?;
        let connector = connector(certificate.into()).map_err(failed)?;
        let mut connections = Vec::with_capacity(callers);
        for _ in 0..callers {
            let connected = connect(ready.address, &connector);
            let connected = timeout(PATIENCE, connected).await;
            connections.push(Mutex::new(
                connected.map_err(|_| failed("it does not answer"))??,
            ));
        }
        let items: Option<Vec<Item>> = (0..DEKS).map(|number| item(kek, number)).collect();
        let items = items.ok_or_else(|| failed("a key cannot be wrapped"))?;
        Ok(Self { connections, items })
    }

    /// One request, over the connection of one caller; sees that every key came back.
    pub(super) async fn one(
        &self,
        caller: usize,
        path: &str,
        from: usize,
        batch: usize,
    ) -> Result<u64, Report> {
        let items = &self.items[from..from + batch];
        let batch_input = items.iter().map(|item| Input {
            ciphertext: Cow::Borrowed(&item.ciphertext),
            context: Cow::Borrowed(&item.context),
        });
        let batch_input = batch_input.collect();
        let body = serde_json::to_vec(&json::Request { batch_input }).map_err(failed)?;
        let request = Request::post(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(failed)?;
        let mut connection = self.connections[caller % self.connections.len()]
            .lock()
            .await;
        connection.ready().await.map_err(failed)?;
        let response = connection.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), ANSWER).await;
        drop(connection);
        if status != StatusCode::OK {
            return Err(failed(format!("it answers {status}")));
        }
        let answer: Answer = serde_json::from_slice(&body.map_err(failed)?).map_err(failed)?;
        let outcomes = &answer.data.batch_results;
        let back = |(item, outcome)| {
            let item: &Item = item;
            json::plaintext(outcome) == Some(item.dek)
        };
        if outcomes.len() == batch && items.iter().zip(outcomes).all(back) {
            Ok(batch as u64)
        } else {
            Err(failed("a key did not come back"))
        }
    }
}

fn item(kek: &Kek, number: usize) -> Option<Item> {
    let context = format!("s3://bench/object-{number:06}");
    let mut dek = [0; KEY];
    rng().fill_bytes(&mut dek);
    Some(Item {
        ciphertext: kek.wrap(&dek, context.as_bytes())?,
        context: STANDARD.encode(context),
        dek,
    })
}

fn connector(certificate: CertificateDer<'static>) -> Result<TlsConnector, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(
    address: SocketAddr,
    connector: &TlsConnector,
) -> Result<SendRequest<Body>, Report> {
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let name = ServerName::try_from("localhost").map_err(failed)?;
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends with its sender; an error shows at the request that meets it.
    tokio::spawn(connection);
    Ok(sender)
}

fn failed(why: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, "the HTTP service cannot be measured").why(why)
}

#[cfg(test)]
mod tests {
    use super::super::json::{DECRYPT, DECRYPT_DURABLY};
    use super::super::json_server::listen;
    use super::*;
    use crate::floor::GroupCommit;

    async fn service(dir: &Path, key: u8) -> (Ready, tokio::task::JoinHandle<()>) {
        let log = GroupCommit::create(&dir.join("log")).unwrap();
        let (ready, serving) = listen(Kek::new(&[key; KEY]).unwrap(), log).await.unwrap();
        (ready, tokio::spawn(serving))
    }

    #[tokio::test]
    async fn keys_come_back_in_their_order_from_both_doors() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, _serving) = service(dir.path(), 1).await;
        let kek = Kek::new(&[1; KEY]).unwrap();
        let callers = Callers::connect(&ready, &kek, 2).await.unwrap();
        for (path, logged) in [
            (DECRYPT, 0),
            (DECRYPT_DURABLY, crate::floor::record_bytes(100)),
        ] {
            assert_eq!(callers.one(0, path, 3, 100).await.unwrap(), 100);
            let log = dir.path().join("log").metadata().unwrap().len();
            assert_eq!(log, logged as u64, "{path}");
        }
    }

    #[tokio::test]
    async fn a_key_that_is_not_the_one_wrapped_fails_the_load() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, _serving) = service(dir.path(), 1).await;
        let kek = Kek::new(&[1; KEY]).unwrap();
        let mut callers = Callers::connect(&ready, &kek, 1).await.unwrap();
        callers.items[2].dek[0] ^= 1;
        let load = async |from| callers.one(0, DECRYPT, from, 2).await;
        assert_eq!(load(0).await.unwrap(), 2);
        for from in [1, 2] {
            let error = load(from).await.unwrap_err();
            assert!(error.to_string().contains("did not come back"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_request_has_at_most_a_thousand_items() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, _serving) = service(dir.path(), 1).await;
        let kek = Kek::new(&[1; KEY]).unwrap();
        let mut callers = Callers::connect(&ready, &kek, 1).await.unwrap();
        assert_eq!(callers.one(0, DECRYPT, 0, DEKS).await.unwrap(), 1_000);
        callers.items.extend(item(&kek, DEKS));
        let error = callers.one(0, DECRYPT, 0, DEKS + 1).await.unwrap_err();
        assert!(error.to_string().contains("400"), "{error}");
    }

    #[tokio::test]
    async fn a_load_fails_when_a_key_cannot_be_unwrapped() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, _serving) = service(dir.path(), 1).await;
        let other = Kek::new(&[2; KEY]).unwrap();
        let callers = Callers::connect(&ready, &other, 1).await.unwrap();
        let error = callers.one(0, DECRYPT, 0, 1).await.unwrap_err();
        assert!(error.to_string().contains("400"), "{error}");
    }
}
