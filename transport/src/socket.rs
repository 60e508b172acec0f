//! The UDP socket under an endpoint.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{EndpointConfig, TokioRuntime};

use crate::limits::DATAGRAM_BYTES;

/// Kernel buffer to ask for, each way, in bytes. 4 MiB holds a burst of a few thousand packets; the
/// kernel grants less when `net.core.rmem_max` says so, which costs speed and nothing else.
const KERNEL_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// QUIC version 1 (RFC 9000) alone: no drafts.
const QUIC_V1: u32 = 1;

/// Opens the QUIC endpoint on `socket`; a server when `server` is given.
pub(crate) fn endpoint(
    socket: UdpSocket,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    // Best effort: see above.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, KERNEL_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, KERNEL_BUFFER_BYTES);
    let mut config = EndpointConfig::default();
    config.supported_versions(vec![QUIC_V1]);
    config
        .max_udp_payload_size(DATAGRAM_BYTES)
        .map_err(io::Error::other)?;
    quinn::Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
}

/// A socket on `address`.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address)
}
