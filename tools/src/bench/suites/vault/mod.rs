//! Suite `vault`: what KEK versions, their inventory and shares of the root key cost.

mod inventory;
mod rewrapped;
mod rotated;
mod unsealed;

use ticket_format::report::{Report, exit};

use super::audit::door::KeyServer;
use super::{Rows, Run, Suite};
use crate::rows::{Row, RowInfo};

pub(crate) static SUITE: Suite = Suite {
    name: "vault",
    about: "KEK versions: opening them by shares, rotating and rewrapping them, counting their wraps",
    rows: &[
        RowInfo {
            name: "unseal_ms",
            unit: "ms",
            what: "From the second of two shares that open the root key (2 of 3) to 255 KEK versions open: both \
                   shares are unsealed (X-Wing), combined, the root key unwrapped, and each version's key material \
                   unsealed and its public key made anew and compared. In memory, one core: without the start of \
                   the server around it.",
            floor: "255 X-Wing public keys made from their seeds.",
        },
        RowInfo {
            name: "redeem_p99_during_rotation_over_idle",
            unit: "",
            what: "Of redemptions of 100 local-wrapped DEKs, 8 at a time over as many connections of a key server \
                   in this process, how long 1 in 100 takes longer than while the dataset's KEK is rotated ten \
                   times a second (an act of two admins each, with a new key file, two commits and a record); by \
                   the same while nothing else happens.",
            floor: "the second of two such measurements without rotation, by the first: what the machine's noise \
                    alone makes of it.",
        },
        RowInfo {
            name: "rewrap_deks_per_s",
            unit: "1/s",
            what: "DEKs wrapped anew in requests of 500, 4 at a time over as many connections of that key server: \
                   opened, wrapped under the newest version, recorded with both digests, counted in the inventory.",
            floor: "as many opened and wrapped by the same functions of the library in 4 tasks, and nothing else.",
        },
        RowInfo {
            name: "inventory_bytes_per_wrap",
            unit: "B",
            what: "Size of the inventory's file by the number of wraps in it: 200,000 under two versions, half of \
                   them made by rewraps that are confirmed.",
            floor: "a row: version 16 bytes, digest 32, time 4.",
        },
    ],
    run,
};

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let dir = tempfile::Builder::new().prefix("postern-bench.").tempdir();
    let dir = dir.map_err(|error| Report::new(exit::LOCAL, "no temporary directory").why(error))?;
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    let [unseal, rotated, rewrap, bytes] = rows.as_mut_slice() else {
        return Ok(rows);
    };
    let key_server = KeyServer::start(dir.path()).await?;
    let shares = unsealed::Bench::new(&dir.path().join("shares"))?;
    let redeemed = rotated::Bench::new(&key_server).await?;
    let rewrapped = rewrapped::Bench::new(&key_server).await?;
    for round in 0..run.rounds {
        run.begins(round);
        shares.measure(unseal)?;
        redeemed.measure(run.span, rotated).await?;
        rewrapped.measure(run.span, rewrap).await?;
    }
    inventory::measure(&dir.path().join("inventory"), bytes).await?;
    Ok(rows)
}
