//! The other end of a server's connection, as its handler sees it.

use std::fmt;
use std::net::SocketAddr;

use crate::code::Code;
use crate::error::ExporterError;
use crate::exporter::{self, ExporterUse};
use crate::standing::{Shown, Standing};

/// The caller at the other end of one connection. It is a stranger until its messages prove more:
/// TLS authenticates the server only.
#[derive(Clone)]
pub struct Peer {
    connection: quinn::Connection,
    address: SocketAddr,
    shown: Shown,
}

impl Peer {
    pub(crate) fn new(connection: quinn::Connection, shown: Shown) -> Self {
        let remote = connection.remote_address();
        let address = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        Self {
            connection,
            address,
            shown,
        }
    }

    /// The address that the peer connected from; an IPv4 peer on a dual-stack socket shows its
    /// IPv4 address. It stays the same for the whole connection: migration is off.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connection's exporter value for one use, 32 bytes (TR-4). The caller computes
    /// the same; on any other connection it differs.
    pub fn exporter(&self, usage: ExporterUse) -> Result<[u8; 32], ExporterError> {
        exporter::export(&self.connection, usage)
    }

    /// Says what the peer has proven. A standing only rises, and ends with the connection. Strangers
    /// are held to [`ServerLimits::strangers`](crate::ServerLimits::strangers), and give way first when
    /// places run short.
    pub fn stands(&self, standing: Standing) {
        self.shown.rise(standing);
    }

    /// Whether the peer has proven nothing yet.
    pub fn is_stranger(&self) -> bool {
        self.shown.stranger()
    }

    /// A number that no other connection open now has; for logs and tables, not a secret.
    pub fn id(&self) -> u64 {
        self.connection.stable_id() as u64
    }

    /// Ends the connection at once with [`Code::Misuse`], for a peer with which nothing sensible
    /// can follow. Exchanges in progress get no answer; their handlers still run to the end.
    pub fn close(&self) {
        self.connection.close(Code::Misuse.varint(), b"");
    }

    /// Returns when the connection has ended, so that a handler that waits can stop waiting.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
