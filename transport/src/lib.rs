//! QUIC endpoints: pinned identities, exporter, one stream per exchange.
//!
//! One exchange is one bidirectional stream (ARCHITECTURE, "The exchanges"): the caller writes one
//! message and finishes; the server reads it to the end under a limit, answers once and finishes.
//! There is no framing, and this crate never looks inside a message (TR-3).
//!
//! What every connection has, and cannot be configured away (TR-1, TR-2, TR-4):
//! - TLS 1.3 only, key exchange X25519MLKEM768 only, ALPN `postern/1` required on both sides;
//! - no session tickets, no resumption, no 0-RTT: each connection runs the full handshake and so
//!   passes the pin;
//! - the server is the holder of one pinned Ed25519 key, see [`ServerIdentity`];
//! - an exporter for the proofs of possession, see [`ExporterUse`].
//!
//! What a stranger can cost is bounded by [`ServerLimits`] (TR-5); how either side says no is the closed
//! list [`Code`].
//!
//! ```no_run
//! # async fn demo(key: ed25519_dalek::SigningKey) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use transport::{Bytes, Connection, ClientLimits, Handler, Peer, Server, ServerIdentity, ServerLimits};
//!
//! struct Echo;
//! impl Handler for Echo {
//!     type Connection = Peer;
//!     fn connected(&self, peer: Peer) -> Peer {
//!         peer
//!     }
//!     async fn exchange(&self, _peer: &Peer, message: Bytes) -> Bytes {
//!         message
//!     }
//! }
//!
//! let identity = ServerIdentity::new(&key)?;
//! let server = Server::bind("[::1]:0".parse()?, &identity, ServerLimits::default())?;
//! let (addr, pin) = (server.local_addr(), identity.public_key());
//! tokio::spawn(server.run(Arc::new(Echo), std::future::pending()));
//!
//! let timeout = std::time::Duration::from_secs(5);
//! let connection = Connection::connect(addr, pin, ClientLimits::default(), timeout).await?;
//! let answer = connection.exchange(b"hello").await?;
//! # Ok(()) }
//! ```

mod admission;
mod budget;
mod client;
mod code;
mod error;
mod exchange;
mod exporter;
mod identity;
mod limits;
mod message;
mod metrics;
mod peer;
mod server;
mod session;
mod socket;
mod source;
mod standing;
mod tls;

pub use bytes::Bytes;
pub use client::{ClientEndpoint, Connection};
pub use code::Code;
pub use error::{
    BindError, ConnectError, ExchangeError, ExporterError, IdentityError, LimitsError, Outcome,
    RunError,
};
pub use exporter::ExporterUse;
pub use identity::ServerIdentity;
pub use limits::{ClientLimits, ServerLimits, StrangerLimits};
pub use metrics::{HandshakeResult, Limit, Metrics};
pub use peer::Peer;
pub use server::{Handler, Server, Stopped};
pub use standing::Standing;
pub use tls::ALPN;
