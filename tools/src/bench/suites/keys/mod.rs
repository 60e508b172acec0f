//! Suite `keys`: wraps that producers made, new keys, and what a key costs in CPU time and bytes.

pub(crate) mod load;
mod primitives;

use std::sync::Arc;
use std::time::Duration;

use ticket_format::report::Report;

use super::main::{issue, login};
use super::{Rows, Run, Suite};
use crate::cpu;
use crate::drive::rate;
use crate::floor::Batch;
use crate::realm::Realm;
use crate::rows::{Row, RowInfo};

use load::{Items, Load};

/// Requests of 1,000 keys at a time, and their connections.
const LARGE: (usize, usize) = (8, 4);
/// Callers of single keys, and their connections.
const SMALL: (usize, usize) = (64, 8);
/// Keys of a request, where bytes and CPU time are counted, in the order of the rows.
const BATCHES: [usize; 4] = [1, 10, 100, 1_000];

macro_rules! rows {
    ($($batch:literal,)*) => {
        &[
            RowInfo {
                name: "redeem_public_one_upload",
                unit: "DEK/s",
                what: "Redemptions of 1,000 public wraps of one upload, which share an encapsulation, unsigned, 8 at a \
                       time over 4 open connections.",
                floor: "the same with 1,000 local wraps.",
            },
            RowInfo {
                name: "redeem_public_all_different",
                unit: "DEK/s",
                what: "Redemptions of 1,000 public wraps, each with an encapsulation of its own, 8 at a time over 4 \
                       open connections.",
                floor: "X-Wing decapsulation (HPKE) of as many, on all cores.",
            },
            RowInfo {
                name: "generate_deks_per_s",
                unit: "DEK/s",
                what: "DEKs made and wrapped at the key server, 1,000 in a request, not sent in the clear, 4 at a time \
                       over 4 open connections.",
                floor: "32 random bytes wrapped as a local wrap for each, on all cores.",
            },
            RowInfo {
                name: "redeem_half_load_p99_ms",
                unit: "ms",
                what: "Redemptions of one local wrap by 64 callers over 8 open connections, paced to half of what they \
                       get without pauses (measured right before): what 1 in 100 takes longer than, from the moment \
                       it was due.",
                floor: "what half of them take at most.",
            },
            $(
                RowInfo {
                    name: concat!("redeem_cpu_us_per_dek_batch_", $batch),
                    unit: "us",
                    what: concat!(
                        "CPU time of the key server's process, user and system, for one DEK of a redemption of ",
                        $batch, " local wraps, under full load."
                    ),
                    floor: "the server's primitives alone, on one core: HMAC and SHA-256 of the request, opening each \
                            wrap, SHA-256 of each item and of the entry, sealing the answer.",
                },
                RowInfo {
                    name: concat!("redeem_bytes_per_dek_batch_", $batch),
                    unit: "B",
                    what: concat!(
                        "Bytes in UDP datagrams, both ways, for one DEK of a redemption of ", $batch,
                        " local wraps: request, answer with receipt, acknowledgements."
                    ),
                    floor: "the wrap, its context and the DEK of 32 bytes.",
                },
            )*
        ]
    };
}

pub(crate) static SUITE: Suite = Suite {
    name: "keys",
    about: "public wraps, new keys, and what a key costs in CPU time and bytes",
    rows: rows!["1", "10", "100", "1000",],
    run,
};

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let realm = Arc::new(Realm::start(&run.binaries).await?);
    let login = login::Bench::new(&realm).await?;
    let issue = issue::Bench::new(&realm, &login).await?;
    let load = Load::new(&realm, &issue, SMALL.1, 63_000).await?;
    let local = load.generate("local").await?;
    let one_upload = load.uploads(1)?;
    let different = load.uploads(load::DEKS)?;
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    let wanted: Vec<bool> = SUITE.rows.iter().map(|row| run.wants(row)).collect();
    for round in 0..run.rounds {
        run.begins(round);
        if wanted[0] {
            let floor = load.redeem(&local, load::DEKS, LARGE, run.span).await?;
            let value = load
                .redeem(&one_upload, load::DEKS, LARGE, run.span)
                .await?;
            rows[0].add(value, floor);
        }
        if wanted[1] {
            let floor = primitives::decapsulations(run.span).await?;
            let value = load.redeem(&different, load::DEKS, LARGE, run.span).await?;
            rows[1].add(value, floor);
        }
        if wanted[2] {
            let floor = primitives::wraps(run.span).await?;
            let load = load.clone();
            let operation = move |task: usize| {
                let load = load.clone();
                async move {
                    let made = load.generate_some(task, "new", 0..load::DEKS).await?;
                    Ok(Some(made.len() as u64))
                }
            };
            rows[2].add(rate(LARGE.1, run.span, operation).await?, floor);
        }
        if wanted[3] {
            let full = load.redeem(&local, 1, SMALL, run.span).await?;
            let times = load.paced(&local, SMALL.0, full / 2.0, run.span).await?;
            rows[3].add(times.p99(), times.quantile(50));
        }
        for (number, batch) in BATCHES.into_iter().enumerate() {
            let first = 4 + 2 * number;
            if (wanted[first] || wanted[first + 1])
                && let [time, bytes] = &mut rows[first..first + 2]
            {
                costs(&realm, &load, &local, batch, run.span, time, bytes).await?;
            }
        }
    }
    Ok(rows)
}

/// One round of CPU time and bytes for each DEK.
#[allow(clippy::cast_precision_loss)] // counts far below 2^52
async fn costs(
    realm: &Realm,
    load: &Load,
    items: &Items,
    batch: usize,
    span: Duration,
    time: &mut Row,
    bytes: &mut Row,
) -> Result<(), Report> {
    let [_, pid] = realm.servers.pids();
    let (before, carried, released) = (cpu::usage(pid)?.cpu, load.carried(), load.released());
    let shape = if batch == 1 { SMALL } else { LARGE };
    load.redeem(items, batch, shape, span).await?;
    let released = load.released() - released;
    let spent = cpu::usage(pid)?.cpu.saturating_sub(before);
    let carried = load.carried() - carried;
    time.add(
        cpu::per(spent, released),
        primitives::serve(&Batch::new(batch)?, batch, span / 4),
    );
    bytes.add(
        carried as f64 / released.max(1) as f64,
        load::least_bytes(items),
    );
    Ok(())
}
