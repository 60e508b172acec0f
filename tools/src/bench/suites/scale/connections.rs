//! `connection_kib`.

use ticket_format::report::{Report, exit};
use transport::Connection;

use crate::floor;
use crate::realm::Realm;
use crate::suites::main::address;

/// Connections that are open at last.
const CONNECTIONS: usize = 10_000;
/// Sockets that share them: fewer than 1,024 connections may come at once from an address, and 512 are
/// the most that one has by default.
const SOCKETS: usize = 40;
/// Connections that are made at a time.
const AT_A_TIME: usize = 16;
/// The round number whose addresses these connections have.
const ADDRESSES: u32 = 63_600;

/// KiB for each.
pub(super) async fn measure(realm: &Realm, round: u32) -> Result<f64, Report> {
    let failed = |why: String| Report::new(exit::LOCAL, "connections do not stay open").why(why);
    let mut key_server = realm
        .servers
        .another(&format!("key-server-idle-{round}"), false)?;
    // Nobody here proves anything: where places run short, such as these would give way (TR-8).
    key_server.allow_connections(2 * CONNECTIONS)?;
    let (_, server) = key_server.start().await?;
    let place = server.addresses.first().and_then(|text| text.parse().ok());
    let place = place.ok_or_else(|| failed("no address".to_owned()))?;
    let pin = server.tls_key.to_bytes();
    let memory = || key_server.memory().unwrap_or_default();
    let before = memory();
    let mut sockets = Vec::with_capacity(SOCKETS);
    for number in 0..SOCKETS {
        sockets.push(floor::socket(address(ADDRESSES, number))?);
    }
    let mut open: Vec<Connection> = Vec::with_capacity(CONNECTIONS);
    while open.len() < CONNECTIONS {
        let from = open.len();
        let many = (from..CONNECTIONS.min(from + AT_A_TIME)).map(|number| {
            let socket = &sockets[number % SOCKETS];
            async move {
                let connection = floor::connect(socket, place, pin).await?;
                // Who asks nothing is soon sent away. This is no request, and is told so.
                let answer = connection.exchange(&[0]).await;
                answer.map_err(|error| failed(error.to_string()))?;
                Ok::<Connection, Report>(connection)
            }
        });
        open.extend(futures::future::try_join_all(many).await?);
    }
    let after = memory();
    let closed = open.iter().filter(|connection| !connection.is_open());
    match closed.count() {
        0 => {}
        closed => return Err(failed(format!("{closed} of {CONNECTIONS} were closed"))),
    }
    for socket in &sockets {
        socket.close().await;
    }
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    Ok(after.saturating_sub(before) as f64 / 1_024.0 / CONNECTIONS as f64)
}
