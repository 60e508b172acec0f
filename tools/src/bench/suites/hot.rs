//! Suite `hot`: redemptions of `local` wraps by batch and number of callers.

use std::sync::Arc;

use ticket_format::report::Report;

use super::main::{issue, login, redeem};
use super::{Rows, Run, Suite};
use crate::realm::Realm;
use crate::rows::{Row, RowInfo};

/// Of each row: items of a request, callers at a time, connections.
const LOADS: [(usize, usize, usize); 7] = [
    (1, 1, 1),
    (1, 64, 1),
    (1, 64, 8),
    (1, 64, 64),
    (10, 32, 8),
    (100, 16, 4),
    (1_000, 8, 4),
];

const FLOOR: &str = "the same number at a time over open connections of: one exchange of as many bytes; at both ends \
                     SHA-256 of the request and HMAC, SHA-256 of each item; at the server one XChaCha20-Poly1305 \
                     opening of each item, one ChaCha20-Poly1305 sealing of the answer, SHA-256 over the entry, one \
                     append that waits for an fdatasync shared by all who wait; at the job one ChaCha20-Poly1305 \
                     opening.";

pub(crate) static SUITE: Suite = Suite {
    name: "hot",
    about: "redemptions, by batch and number of callers",
    rows: &[
        RowInfo {
            name: "redeem_lone_p50_us",
            unit: "us",
            what: "How long half of the redemptions take at most of one caller alone, one local-wrapped DEK after \
                   the other over one open connection; every one has its durable audit entry and its receipt is \
                   verified.",
            floor: FLOOR,
        },
        RowInfo {
            name: "redeem_deks_per_s_batch_1_of_64_over_1",
            unit: "DEK/s",
            what: "Redemptions of one local-wrapped DEK each, 64 at a time over one open connection.",
            floor: FLOOR,
        },
        RowInfo {
            name: "redeem_deks_per_s_batch_1_of_64",
            unit: "DEK/s",
            what: "Redemptions of one local-wrapped DEK each, 64 at a time over 8 open connections.",
            floor: FLOOR,
        },
        RowInfo {
            name: "redeem_deks_per_s_batch_1_of_64_over_64",
            unit: "DEK/s",
            what: "Redemptions of one local-wrapped DEK each, 64 at a time over as many open connections.",
            floor: FLOOR,
        },
        RowInfo {
            name: "redeem_deks_per_s_batch_10_of_32",
            unit: "DEK/s",
            what: "Redemptions of 10 local-wrapped DEKs each, 32 at a time over 8 open connections.",
            floor: FLOOR,
        },
        RowInfo {
            name: "redeem_deks_per_s_batch_100_of_16",
            unit: "DEK/s",
            what: "Redemptions of 100 local-wrapped DEKs each, 16 at a time over 4 open connections.",
            floor: FLOOR,
        },
        RowInfo {
            name: "redeem_deks_per_s_batch_1000_of_8",
            unit: "DEK/s",
            what: "Redemptions of 1,000 local-wrapped DEKs each, 8 at a time over 4 open connections.",
            floor: FLOOR,
        },
    ],
    run,
};

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let realm = Arc::new(Realm::start(&run.binaries).await?);
    let login = login::Bench::new(&realm).await?;
    let issue = issue::Bench::new(&realm, &login).await?;
    let mut loads = Vec::new();
    for (info, (batch, tasks, connections)) in SUITE.rows.iter().zip(LOADS) {
        if run.wants(info) {
            let bench = redeem::Bench::new(&realm, &issue, batch, tasks, connections).await?;
            loads.push((Row::new(info), bench));
        }
    }
    for round in 0..run.rounds {
        run.begins(round);
        for (row, bench) in &mut loads {
            if row.is_a_time() {
                bench.measure_times(run.span, row).await?;
            } else {
                bench.measure(run.span, row).await?;
            }
        }
    }
    Ok(loads.into_iter().map(|(row, _)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_says_what_is_measured_for_it() {
        assert_eq!(SUITE.rows.len(), LOADS.len());
        for (row, (batch, tasks, _)) in SUITE.rows.iter().zip(LOADS) {
            let named = format!("batch_{batch}_of_{tasks}");
            let lone = row.name.contains("lone") && (batch, tasks) == (1, 1);
            assert!(lone || row.name.contains(&named), "{}", row.name);
        }
    }
}
