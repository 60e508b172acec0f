//! A client at servers whose logs it remembers: what it believes, and what it notices.

#[path = "../../../tests/cli_support/log.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
mod log;

mod going_on;
mod memory;
mod receipts;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use ticket_format::Refusal;
use ticket_format::entry::Kind;
use ticket_format::keys::TlsSecret;
use ticket_format::messages::{Answer, Receipt, RefusalNotice, RequestView, Verb};
use ticket_format::report::exit;
use ticket_format::statement::Role;
use ticket_format::tlog::{Verifier, WitnessPolicy};
use transport::{Handler, Peer, ServerIdentity, ServerLimits};

use super::*;
use crate::link::Server;
use log::{TestLog, entry, policy, shown};

const REALM: &str = "example.org";
const TLS: [u8; 32] = [9; 32];
const WAIT: Duration = Duration::from_secs(20);

/// A server that answers about its log and nothing else.
struct Shows {
    address: SocketAddr,
    /// What is shown; scripted answers go first.
    log: Mutex<TestLog>,
    script: Mutex<VecDeque<Answer>>,
    /// What it was asked about: shard and size.
    asked: Mutex<Vec<(u64, u64)>>,
    /// Grows by so many entries before each answer.
    busy: Mutex<VecDeque<u8>>,
}

impl Handler for Shows {
    type Connection = ();

    fn connected(&self, _peer: Peer) {}

    async fn exchange(&self, _connection: &(), message: Bytes) -> Bytes {
        let request = RequestView::parse(&message).unwrap();
        assert_eq!(request.verb, Verb::Consistency);
        let about = shown(request.body);
        self.asked
            .lock()
            .unwrap()
            .push((about.shard.number, about.size));
        if let Some(answer) = self.script.lock().unwrap().pop_front() {
            return answer.to_bytes().into();
        }
        let mut log = self.log.lock().unwrap();
        let more = self.busy.lock().unwrap().pop_front();
        log.grow(more.unwrap_or(0));
        log.answer(request.body).to_bytes().into()
    }
}

fn test_log() -> TestLog {
    TestLog::new(
        REALM,
        Role::KeyServer,
        &TlsSecret::from_seed(&TLS).public(),
        1,
    )
}

impl Shows {
    fn start(log: TestLog) -> Arc<Self> {
        let identity = ServerIdentity::new(&SigningKey::from_bytes(&TLS)).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = transport::Server::bind(any, &identity, ServerLimits::default()).unwrap();
        let shows = Arc::new(Self {
            address: server.local_addr(),
            log: Mutex::new(log),
            script: Mutex::default(),
            asked: Mutex::default(),
            busy: Mutex::default(),
        });
        tokio::spawn(server.run(Arc::clone(&shows), std::future::pending()));
        shows
    }

    /// A new connection of a process that remembers in this directory.
    async fn link(&self, dir: &Path) -> LoggedLink {
        self.link_of(&paced(dir)).await
    }

    async fn link_of(&self, logs: &Logs) -> LoggedLink {
        let server = Server {
            word: "key server",
            realm: REALM.to_owned(),
            addresses: vec![self.address.to_string()],
            tls_key: TlsSecret::from_seed(&TLS).public(),
        };
        let key = self.log.lock().unwrap().key();
        LoggedLink::connect(&server, &key, logs, WAIT)
            .await
            .unwrap()
    }

    fn append(&self, number: u8) -> Receipt {
        let entry = entry(number, Kind::Redeem);
        self.log.lock().unwrap().append(&entry)
    }

    /// One act over a connection of its own.
    async fn visit(&self, dir: &Path, number: u8) -> Result<(), Error> {
        let link = self.link(dir).await;
        let believed = link.believe(&self.append(number), None).await;
        let closed = link.close().await;
        believed.map(drop).and(closed)
    }

    fn asked(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// Nothing happens because of the time.
fn paced(dir: &Path) -> Logs {
    Logs::paced(dir, Duration::from_secs(86_400))
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/checkpoints");
    (dir, path)
}

/// Shard and size of what is remembered, newest first named.
fn remembered(dir: &Path) -> Option<(u64, u64)> {
    let list = Logs::at(dir).list().unwrap();
    assert!(list.len() <= 1);
    let newest = list.into_iter().next()?.newest?;
    Some((newest.shard.number, newest.size))
}

fn link_origin(shows: &Shows) -> Origin {
    shows.log.lock().unwrap().key().origin
}

fn failure(error: Error) -> LogFailure {
    assert_eq!(error.report().exit, exit::INTEGRITY);
    assert!(!error.worth_retrying());
    match error {
        Error::Log(failure) => *failure,
        other => panic!("{other:?}"),
    }
}
