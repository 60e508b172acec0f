//! The client: one pinned server per connection, one stream per exchange.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{
    ConnectionError, NoneTokenStore, ReadError, SendStream, StoppedError, TransportErrorCode,
    VarInt, WriteError,
};
use tokio::time::{Instant, timeout_at};

use crate::code::Code;
use crate::error::{BindError, ConnectError, ExchangeError, ExporterError};
use crate::exporter::{self, ExporterUse};
use crate::identity::PinVerifier;
use crate::limits::ClientLimits;
use crate::message::{self, ReadFailure};
use crate::{socket, tls};

/// The TLS name of every server. It means nothing and is not sent; the pin says who the server is.
const NO_NAME: &str = "postern.invalid";

/// TLS alert `no_application_protocol` (RFC 7301 section 3.2).
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

/// One UDP socket for many connections.
#[derive(Clone, Debug)]
pub struct ClientEndpoint {
    endpoint: quinn::Endpoint,
    limits: ClientLimits,
}

impl ClientEndpoint {
    /// Opens a socket on `local`, usually an unspecified address of the servers' family with port
    /// 0. Must be called within a tokio runtime.
    pub fn bind(local: SocketAddr, limits: ClientLimits) -> Result<Self, BindError> {
        limits.transport()?;
        let socket = socket::bind(local).map_err(|source| BindError::Socket {
            address: local,
            source,
        })?;
        let endpoint = socket::endpoint(socket, None).map_err(BindError::Unusable)?;
        Ok(Self { endpoint, limits })
    }

    /// Connects to the holder of the Ed25519 key `pin` at `address`, or fails within `timeout`.
    pub async fn connect(
        &self,
        address: SocketAddr,
        pin: [u8; 32],
        timeout: Duration,
    ) -> Result<Connection, ConnectError> {
        let verifier = Arc::new(PinVerifier::new(&pin).ok_or(ConnectError::BadPin)?);
        let crypto = tls::quic_client(Arc::clone(&verifier)).map_err(BindError::Tls)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config
            .transport_config(self.limits.transport().map_err(BindError::Limits)?)
            // Tokens from earlier connections would link them to each other.
            .token_store(Arc::new(NoneTokenStore));
        let connecting = self
            .endpoint
            .connect_with(config, address, NO_NAME)
            .map_err(|error| refused_locally(error, address))?;
        let started = Instant::now();
        match timeout_at(started + timeout, connecting).await {
            Ok(Ok(inner)) if tls::speaks_postern(&inner) => Ok(Connection {
                inner,
                endpoint: self.clone(),
            }),
            Ok(Ok(_)) => Err(ConnectError::Alpn { address }),
            Ok(Err(_)) if verifier.presented_another() => {
                Err(ConnectError::WrongIdentity { address })
            }
            Ok(Err(error)) => Err(failed_handshake(error, address, started.elapsed())),
            Err(_) => Err(ConnectError::Unreachable {
                address,
                waited: timeout,
            }),
        }
    }

    /// Closes every connection of this socket and waits until the servers have been told.
    pub async fn close(&self) {
        self.endpoint.close(Code::Done.varint(), b"");
        self.endpoint.wait_idle().await;
    }

    /// The limits of every connection of this endpoint.
    pub fn limits(&self) -> &ClientLimits {
        &self.limits
    }
}

/// A connection to one server. Clones share it; it closes when the last one is dropped.
#[derive(Clone)]
pub struct Connection {
    inner: quinn::Connection,
    endpoint: ClientEndpoint,
}

impl Connection {
    /// Connects from a socket of its own. For many connections use [`ClientEndpoint`].
    pub async fn connect(
        address: SocketAddr,
        pin: [u8; 32],
        limits: ClientLimits,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let local = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        ClientEndpoint::bind(local, limits)?
            .connect(address, pin, timeout)
            .await
    }

    /// Sends one message and waits for the answer, at most [`ClientLimits::exchange_timeout`].
    ///
    /// Exchanges of one connection may run at the same time and are answered in any order. One more
    /// than the server allows at a time waits for its turn. Dropping the future abandons the
    /// exchange, which then may or may not take effect.
    pub async fn exchange(&self, message: &[u8]) -> Result<Bytes, ExchangeError> {
        self.exchange_within(message, self.endpoint.limits.exchange_timeout)
            .await
    }

    /// As [`exchange`](Self::exchange), with another time limit.
    pub async fn exchange_within(
        &self,
        message: &[u8],
        timeout: Duration,
    ) -> Result<Bytes, ExchangeError> {
        let limits = &self.endpoint.limits;
        if message.len() > limits.message_bytes {
            let (length, limit) = (message.len(), limits.message_bytes);
            return Err(ExchangeError::RequestTooLarge { length, limit });
        }
        let deadline = Instant::now() + timeout;
        let timed_out = |sent| ExchangeError::TimedOut {
            waited: timeout,
            sent,
        };
        let (send, mut recv) = timeout_at(deadline, self.inner.open_bi())
            .await
            .map_err(|_| timed_out(false))?
            .map_err(closed_before)?;
        let mut request = Request {
            stream: send,
            whole: false,
        };
        timeout_at(deadline, request.send(message))
            .await
            .map_err(|_| timed_out(false))??;
        let answer = message::read(&mut recv, limits.answer_bytes, deadline, None).await;
        let failure = match answer {
            Ok(answer) if answer.is_empty() => return Err(ExchangeError::Empty),
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        Err(match failure {
            ReadFailure::TooLarge => {
                // Fails only when the server is done with the stream already.
                let _ = recv.stop(Code::TooLarge.varint());
                ExchangeError::AnswerTooLarge {
                    limit: limits.answer_bytes,
                }
            }
            ReadFailure::TooSlow | ReadFailure::NoMemory => {
                // As above.
                let _ = recv.stop(Code::Abandoned.varint());
                timed_out(true)
            }
            ReadFailure::Broken(error) => unread(error),
        })
    }

    /// The connection's exporter value for one use, 32 bytes (TR-4). The server computes
    /// the same; on any other connection it differs.
    pub fn exporter(&self, usage: ExporterUse) -> Result<[u8; 32], ExporterError> {
        exporter::export(&self.inner, usage)
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Bytes in the datagrams of this connection until now, both ways, without the headers of UDP and IP.
    pub fn carried(&self) -> u64 {
        let stats = self.inner.stats();
        stats.udp_tx.bytes + stats.udp_rx.bytes
    }

    /// Whether the connection still stands, as far as we know.
    pub fn is_open(&self) -> bool {
        self.inner.close_reason().is_none()
    }

    /// Returns when the connection has ended, with the code of the side that ended it, or `None`
    /// when it was lost.
    pub async fn closed(&self) -> Option<Code> {
        match self.inner.closed().await {
            ConnectionError::ApplicationClosed(close) => Code::from_varint(close.error_code),
            ConnectionError::LocallyClosed => Some(Code::Done),
            _ => None,
        }
    }

    /// Ends the connection; exchanges in progress fail. Await [`ClientEndpoint::close`] through
    /// [`endpoint`](Self::endpoint) before the process ends, so that the server hears of it.
    pub fn close(&self) {
        self.inner.close(Code::Done.varint(), b"");
    }

    /// The endpoint under this connection.
    pub fn endpoint(&self) -> &ClientEndpoint {
        &self.endpoint
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// The asking half of a stream. Dropped before the message is whole it takes the message back,
/// instead of finishing a cut-off one as QUIC would.
struct Request {
    stream: SendStream,
    whole: bool,
}

impl Request {
    /// Sends the message whole.
    ///
    /// Watches for a refusal at the same time: while the connection's window is used up, QUIC's
    /// write does not tell of one, and what the refused stream holds of the window comes back only
    /// when it is reset.
    async fn send(&mut self, message: &[u8]) -> Result<(), ExchangeError> {
        let refused = self.stream.stopped();
        tokio::select! {
            biased;
            written = self.stream.write_all(message) => written.map_err(unwritten)?,
            ended = refused => match ended {
                Ok(Some(number)) => return Err(stopped(number)),
                Err(StoppedError::ConnectionLost(error)) => return Err(closed_before(error)),
                // Neither finished nor early data: what is left cannot happen.
                Ok(None) | Err(StoppedError::ZeroRttRejected) => {
                    return Err(ExchangeError::Closed { reason: "stream ended".to_owned() });
                }
            },
        }
        // Fails only when the server stopped the stream; reading the answer then tells why.
        let _ = self.stream.finish();
        self.whole = true;
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.whole {
            // Fails only when the stream has ended already.
            let _ = self.stream.reset(Code::Abandoned.varint());
        }
    }
}

fn refused_locally(error: quinn::ConnectError, address: SocketAddr) -> ConnectError {
    match error {
        quinn::ConnectError::EndpointStopping => ConnectError::Closed,
        other => ConnectError::BadAddress {
            address,
            reason: other.to_string(),
        },
    }
}

fn failed_handshake(error: ConnectionError, address: SocketAddr, waited: Duration) -> ConnectError {
    let no_protocol = TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL);
    match error {
        ConnectionError::TimedOut | ConnectionError::Reset => {
            ConnectError::Unreachable { address, waited }
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            ConnectError::Busy { address }
        }
        ConnectionError::ConnectionClosed(close) if close.error_code == no_protocol => {
            ConnectError::Alpn { address }
        }
        ConnectionError::TransportError(error) if error.code == no_protocol => {
            ConnectError::Alpn { address }
        }
        // Before the handshake is confirmed QUIC hides the application's code (RFC 9000, 10.2.3).
        ConnectionError::ApplicationClosed(_) => ConnectError::Busy { address },
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::APPLICATION_ERROR =>
        {
            ConnectError::Busy { address }
        }
        ConnectionError::LocallyClosed => ConnectError::Closed,
        other => ConnectError::Handshake {
            address,
            reason: other.to_string(),
        },
    }
}

/// The connection had ended before a stream could be opened.
fn closed_before(error: ConnectionError) -> ExchangeError {
    match said(&error) {
        Some(code) => ExchangeError::Closed {
            reason: code.name().to_owned(),
        },
        None => ExchangeError::Closed {
            reason: error.to_string(),
        },
    }
}

/// The message could not be sent whole, so the server has not acted on it.
fn unwritten(error: WriteError) -> ExchangeError {
    match error {
        WriteError::Stopped(number) => stopped(number),
        WriteError::ConnectionLost(error) => closed_before(error),
        other => ExchangeError::Closed {
            reason: other.to_string(),
        },
    }
}

/// The answer could not be read.
fn unread(error: ReadError) -> ExchangeError {
    match error {
        ReadError::Reset(number) => stopped(number),
        ReadError::ConnectionLost(error) => match said(&error) {
            // The server took no exchange of a connection that it closed for being too many.
            Some(Code::Busy) => ExchangeError::Refused { code: Code::Busy },
            Some(code) => ExchangeError::Lost {
                reason: code.name().to_owned(),
            },
            None => ExchangeError::Lost {
                reason: error.to_string(),
            },
        },
        other => ExchangeError::Lost {
            reason: other.to_string(),
        },
    }
}

fn stopped(number: VarInt) -> ExchangeError {
    match Code::from_varint(number) {
        Some(code) => ExchangeError::Refused { code },
        None => ExchangeError::UnknownCode {
            number: number.into_inner(),
        },
    }
}

fn said(error: &ConnectionError) -> Option<Code> {
    match error {
        ConnectionError::ApplicationClosed(close) => Code::from_varint(close.error_code),
        _ => None,
    }
}
