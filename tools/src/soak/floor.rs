//! Connections from addresses of one's own, as the realm wants them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ticket_format::report::{Report, exit};
use transport::{ClientEndpoint, ClientLimits, Connection};

/// A connection to a server. When it has no place now, that is safe to retry.
pub(crate) async fn connect(
    from: &ClientEndpoint,
    address: SocketAddr,
    pin: [u8; 32],
) -> Result<Connection, Report> {
    let connected = from.connect(address, pin, Duration::from_secs(10)).await;
    connected.map_err(|error| {
        let code = match &error {
            transport::ConnectError::Busy { .. } | transport::ConnectError::Unreachable { .. } => {
                exit::RETRY
            }
            _ => exit::LOCAL,
        };
        Report::new(code, "a connection failed").why(error)
    })
}

/// A socket on a loopback address of its own, as if on another machine.
pub(crate) fn socket(last: u8) -> Result<ClientEndpoint, Report> {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 77, last), 0));
    ClientEndpoint::bind(address, ClientLimits::default())
        .map_err(|error| Report::new(exit::LOCAL, "cannot open a socket").why(error))
}
