//! A key server as it is reached: open, under its TLS key, or sealed, under its door key (ROOT-4).

use std::time::{Duration, Instant};

use client::Error;
use client::link::{Link, Server};
use ticket_format::cbor::Decode as _;
use ticket_format::ids::StatementId;
use ticket_format::keys::TlsKey;
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::messages::administer::SealedAnswer;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{ActBody, Payload};
use transport::ConnectError;

use crate::admin::config::ServerKeys;
use crate::admin::remote::{Admin, LIFE, Remote};
use crate::admin::{now, rng};

/// Between two looks at a server that is starting.
const LOOK: Duration = Duration::from_millis(100);

/// What answers at a key server's addresses.
#[derive(Debug)]
pub enum Reached<'a> {
    /// It is sealed, and answers under its door key.
    Sealed(Box<Door<'a>>),
    /// It is open, as far as anybody knows who has not asked yet.
    Open(Box<Remote<'a>>),
}

/// A connection to a sealed key server. Its door key is in no wrap and signs nothing: it proves that this
/// is the machine which was set up, no more (ROOT-8).
#[derive(Debug)]
pub struct Door<'a> {
    admin: &'a Admin,
    key: TlsKey,
    link: Link,
}

fn sealed_server(keys: &ServerKeys) -> Result<Server, Report> {
    let tls_key = keys.door_key.ok_or_else(|| {
        Report::new(exit::CONFIG, "the key server's door key is not known here")
            .why("its server-keys.toml has no door-key")
            .next("copy the file anew from the server")
    })?;
    Ok(Server {
        word: "sealed key server",
        realm: keys.realm.clone(),
        addresses: keys.addresses.clone(),
        tls_key,
    })
}

fn other_identity(error: &Error) -> bool {
    matches!(
        error,
        Error::Connect {
            source: ConnectError::WrongIdentity { .. },
            ..
        }
    )
}

/// Connects to a key server, sealed or open.
///
/// # Errors
/// It cannot be reached.
pub async fn reach<'a>(admin: &'a Admin, keys: &ServerKeys) -> Result<Reached<'a>, Report> {
    // rule: ROOT-4
    let server = sealed_server(keys)?;
    match Link::connect(&server, admin.timeout()).await {
        Ok(link) => Ok(Reached::Sealed(Box::new(Door {
            admin,
            key: server.tls_key,
            link,
        }))),
        // Whoever answers must hold the TLS key then: the first statement finds out.
        Err(error) if other_identity(&error) => {
            Ok(Reached::Open(Box::new(admin.at(keys.server()))))
        }
        Err(error) => Err(error.report()),
    }
}

/// Whether the key server answers under its door key.
pub async fn is_sealed(keys: &ServerKeys, timeout: Duration) -> bool {
    let Ok(server) = sealed_server(keys) else {
        return false;
    };
    match Link::connect(&server, timeout).await {
        Ok(link) => {
            link.close().await;
            true
        }
        Err(_) => false,
    }
}

/// Waits until the key server answers under its TLS key.
///
/// # Errors
/// It does not within this time, or somebody else answers.
pub async fn opened(keys: &ServerKeys, timeout: Duration) -> Result<(), Report> {
    let (server, began) = (keys.server().server, Instant::now());
    loop {
        let left = timeout.saturating_sub(began.elapsed());
        match Link::connect(&server, left.max(LOOK)).await {
            Ok(link) => {
                link.close().await;
                return Ok(());
            }
            Err(error) if began.elapsed() >= timeout => {
                return Err(Report::new(
                    exit::RETRY,
                    "the key server has its root key, and does not answer yet",
                )
                .why(error)
                .next("look again with `postern-admin unseal --status`, and into its log"));
            }
            // While it starts the door is still there, or nobody is.
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

impl Door<'_> {
    /// What the share that is given is bound to, beside all else.
    pub fn key(&self) -> &TlsKey {
        &self.key
    }

    /// Asks, or gives a share. A sealed server has no log key: its answers bring no receipt, and are
    /// believed because its door key answered.
    ///
    /// # Errors
    /// It cannot be reached, it refused, or its answer does not hold.
    pub async fn ask<B: ActBody>(&self, body: &B) -> Result<B::Result, Report> {
        let id = StatementId::random(&mut rng());
        let payload = Payload::act(id, self.admin.realm(), self.key, now(), LIFE, body);
        let statement = self.admin.key().sign(&payload)?;
        let answer = self.link.call(Verb::Administer, &statement, &[]).await;
        let (answer, _) = answer.map_err(|error| error.report())?;
        let unbelieved = |_| {
            Report::new(
                exit::INTEGRITY,
                "the sealed key server's answer was not used",
            )
            .why("it is malformed")
            .next("find out who answers at that address, and whether the tool is of its version")
        };
        let answer = SealedAnswer::from_cbor(&answer, limits::MESSAGE).map_err(unbelieved)?;
        B::Result::from_cbor(&answer.result, limits::MESSAGE).map_err(unbelieved)
    }

    /// Tells the server that nothing more comes.
    pub async fn close(self) {
        self.link.close().await;
    }
}

impl Reached<'_> {
    /// As [`Door::ask`] or [`Remote::ask`].
    ///
    /// # Errors
    /// As these.
    pub async fn ask<B: ActBody>(&mut self, body: &B) -> Result<B::Result, Report> {
        match self {
            Self::Sealed(door) => door.ask(body).await,
            Self::Open(remote) => remote.ask(body).await,
        }
    }

    /// Tells the server that nothing more comes.
    pub async fn close(self) {
        match self {
            Self::Sealed(door) => door.close().await,
            Self::Open(remote) => remote.close().await,
        }
    }
}
