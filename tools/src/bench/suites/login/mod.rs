//! Suite `login`: nodes that arrive at once, how long each waits, and what a login costs.

mod arrival;

use std::sync::Arc;

use ticket_format::report::Report;

use super::{Rows, Run, Suite};
use crate::realm::Realm;
use crate::rows::{Row, RowInfo};

use arrival::Bench;

/// Nodes that arrive at once, in the order of the rows.
const ARRIVALS: [usize; 3] = [1, 64, 1_000];
/// Rows of each.
const EACH: usize = 3;

const FLOOR: &str = "the same arrivals, each from as many sockets, of the primitives of a login: one QUIC handshake \
                     (X25519MLKEM768, both ends) and one exchange of as many bytes; at the server one RSA-2048 \
                     verification, 4 Ed25519 verifications, 1 signature, one append that waits for an fdatasync \
                     shared by all who wait; at the node 1 Ed25519 and 1 X-Wing key generation, 4 signatures, 1 \
                     verification.";

macro_rules! rows {
    ($($count:literal: $many:literal,)*) => {
        &[
            $(
                RowInfo {
                    name: concat!("login_per_s_of_", $count),
                    unit: "1/s",
                    what: concat!(
                        "First logins of ", $many, ", each from a socket and an address of its own on a new \
                         connection: handshake, identity document checked, durable record, node ticket checked \
                         by the node. The next arrive when all of these are in. Nodes were booted and had written \
                         their keys before."
                    ),
                    floor: FLOOR,
                },
                RowInfo {
                    name: concat!("login_p50_ms_of_", $count),
                    unit: "ms",
                    what: "Of these, what half take at most from their arrival until their ticket is checked.",
                    floor: FLOOR,
                },
                RowInfo {
                    name: concat!("login_p99_ms_of_", $count),
                    unit: "ms",
                    what: "Of these, what 1 in 100 takes longer than.",
                    floor: FLOOR,
                },
            )*
            RowInfo {
                name: "login_cpu_broker_us",
                unit: "us",
                what: "CPU time of the broker's process for one login, user and system, all of it: packets, handshake, \
                       decision, log, store. Of arrivals of 64.",
                floor: "CPU time of the same process for one bare handshake of the same arrivals: connected, and \
                        closed without a request.",
            },
            RowInfo {
                name: "login_cpu_node_us",
                unit: "us",
                what: "CPU time of the nodes' process for one login. Keys and state directory were made before.",
                floor: "CPU time of that process for one bare handshake.",
            },
        ]
    };
}

pub(crate) static SUITE: Suite = Suite {
    name: "login",
    about: "nodes that arrive at once, how long each waits, and what a login costs both ends",
    rows: rows! {
        "1": "one node after the other",
        "64": "64 nodes that arrive at once",
        "1000": "1,000 nodes that arrive at once",
    },
    run,
};

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let realm = Arc::new(Realm::start(&run.binaries).await?);
    let mut bench = Bench::new(&realm).await?;
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    for round in 0..run.rounds {
        run.begins(round);
        for (place, count) in ARRIVALS.into_iter().enumerate() {
            let from = place * EACH;
            if SUITE.rows[from..from + EACH]
                .iter()
                .any(|row| run.wants(row))
                && let [rate, p50, p99] = &mut rows[from..from + EACH]
            {
                bench.measure(count, run.span, [rate, p50, p99]).await?;
            }
        }
        if SUITE.rows[ARRIVALS.len() * EACH..]
            .iter()
            .any(|row| run.wants(row))
            && let [.., broker, node] = rows.as_mut_slice()
        {
            bench.measure_cpu(run.span, broker, node).await?;
        }
    }
    Ok(rows)
}
