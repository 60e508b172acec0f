//! All floods in turn, at a low rate, against both servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ticket_format::messages::{Request, Verb};
use ticket_format::report::{Report, exit};
use tools::floods::{Flood, Force, Target};

use crate::load::Shared;

/// How long each goes on.
const TURN: Duration = Duration::from_secs(2);

/// Floods until the time is over.
pub(crate) async fn cycle(shared: Arc<Shared>) -> Result<(), Report> {
    let servers = &shared.realm.servers;
    let mut targets = Vec::new();
    for server in [&servers.broker, &servers.key_server] {
        let address = server
            .addresses
            .first()
            .and_then(|address| address.parse().ok());
        let target = address.and_then(Target::new);
        targets
            .push(target.ok_or_else(|| Report::new(exit::LOCAL, "a server is not on loopback"))?);
    }
    let storm = |verb, length: usize| Flood::Storm {
        request: Arc::from(Request::encode_parts(verb, &vec![0xa0; length], &[])),
        each: 8,
    };
    let storms = [
        storm(Verb::Login, 4_000),
        storm(Verb::Present, 90_000),
        storm(Verb::Redeem, 100_000),
    ];
    let floods: Vec<&Flood> = Flood::KINDS.iter().chain(&storms).collect();
    let force = Force {
        span: TURN,
        peers: 4,
        sources: 4,
        per_second: 20,
    };
    while Instant::now() < shared.until {
        for flood in &floods {
            if Instant::now() >= shared.until {
                break;
            }
            let (broker, key_server) =
                tokio::join!(flood.run(targets[0], force), flood.run(targets[1], force));
            shared.tallies.hostile(flood.name().to_owned(), broker);
            shared.tallies.hostile(flood.name().to_owned(), key_server);
        }
    }
    Ok(())
}
