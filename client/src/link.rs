//! A connection to one pinned server, and calls over it.

use std::net::SocketAddr;
use std::time::Duration;

use ticket_format::keys::TlsKey;
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::sign::{Channel, Exporter, Proof};
use transport::{ClientLimits, ConnectError, Connection, ExporterUse};

use crate::error::Error;

/// A server as the client knows it beforehand: from the bootstrap, a dataset record or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `broker` or `key server`: its word in messages.
    pub word: &'static str,
    /// The realm.
    pub realm: String,
    /// `host:port`, tried in order.
    pub addresses: Vec<String>,
    /// The pin (TR-2).
    pub tls_key: TlsKey,
}

/// An open connection to a pinned server.
#[derive(Clone, Debug)]
pub struct Link {
    word: &'static str,
    connection: Connection,
    channel: Channel,
    hpke: Exporter,
}

impl Link {
    /// Connects to the first address that answers with the pinned key.
    ///
    /// # Errors
    /// The last attempt's failure. A wrong key ends the search: it may be an attack.
    pub async fn connect(server: &Server, timeout: Duration) -> Result<Self, Error> {
        let mut failure = Error::Resolve {
            server: server.word,
            address: server.addresses.join(", "),
        };
        for address in resolve(&server.addresses).await {
            match Connection::connect(
                address,
                server.tls_key.to_bytes(),
                ClientLimits::default(),
                timeout,
            )
            .await
            {
                Ok(connection) => return Self::over(server, connection),
                Err(source) => {
                    let final_word = matches!(source, ConnectError::WrongIdentity { .. });
                    failure = Error::Connect {
                        server: server.word,
                        source,
                    };
                    if final_word {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    /// Takes over a connection that is open already.
    ///
    /// # Errors
    /// It has no exporter value.
    pub fn over(server: &Server, connection: Connection) -> Result<Self, Error> {
        let exporter = |usage| {
            let value = connection.exporter(usage);
            value
                .map(Exporter)
                .map_err(|_| Error::answer(server.word, "the connection has no exporter value"))
        };
        // rule: TR-4
        let channel = Channel {
            realm: server.realm.clone(),
            server: server.tls_key,
            exporter: exporter(ExporterUse::Authenticator)?,
        };
        let hpke = exporter(ExporterUse::Hpke)?;
        Ok(Self {
            word: server.word,
            connection,
            channel,
            hpke,
        })
    }

    /// `broker` or `key server`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.word
    }

    /// What proofs on this connection are bound to.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The connection's exporter value for HPKE.
    #[must_use]
    pub fn hpke_exporter(&self) -> Exporter {
        self.hpke
    }

    /// Whether the connection still stands, as far as we know.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// One exchange.
    ///
    /// # Errors
    /// The connection failed, the server refused, or its answer is malformed.
    pub async fn call(
        &self,
        verb: Verb,
        body: &[u8],
        proofs: &[Proof],
    ) -> Result<(Vec<u8>, Option<Proof>), Error> {
        let request = Request::encode_parts(verb, body, proofs);
        let answer = self.connection.exchange(&request).await;
        let answer = answer.map_err(|source| Error::Exchange {
            server: self.word,
            source,
        })?;
        match Answer::parse(&answer).map_err(Error::malformed(self.word))? {
            Answer::Refused(notice) => Err(Error::Refused {
                server: self.word,
                notice,
            }),
            Answer::Done {
                verb: answered,
                body,
                proof,
            } if answered == verb => Ok((body, proof)),
            Answer::Done { .. } => Err(Error::answer(self.word, "it is of another exchange")),
        }
    }

    /// Ends the connection and tells the server.
    pub async fn close(self) {
        self.connection.close();
        self.connection.endpoint().close().await;
    }
}

async fn resolve(addresses: &[String]) -> Vec<SocketAddr> {
    let mut resolved = Vec::new();
    for address in addresses {
        if let Ok(found) = tokio::net::lookup_host(address.as_str()).await {
            resolved.extend(found);
        }
    }
    resolved
}
