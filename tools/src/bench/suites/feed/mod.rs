//! Suite `feed`: a denial on its way to a thousand key servers, and a million denials in one.

mod denials;
mod spread;
mod subscriber;

use ticket_format::report::Report;

use super::{Rows, Run, Suite};
use crate::realm::Realm;
use crate::rows::{Row, RowInfo};

pub(crate) static SUITE: Suite = Suite {
    name: "feed",
    about: "a denial until all of 1,000 subscribers have applied it, and a million denials in one key server",
    rows: &[
        RowInfo {
            name: "deny_to_applied_p50",
            unit: "ms",
            what: "From the moment that an admin sends a deny statement until an admin who then asks \
                   feed-show has the answer that shows every subscriber's signature over the new epoch: \
                   statement, broker's commit, 1,000 signed answers, 1,000 signed acknowledgements, and \
                   the view itself (some 400 kB) are all in it. One broker process; three subscribers are \
                   key-server processes, which also persist the denial and wait for answers decided before; \
                   997 are tasks of this process, each on a connection of its own, which verify \
                   signature, nonce and chain of every answer and sign every request, with leases of 5 s. \
                   All of them and the broker share this machine's cores. The views' signatures are \
                   verified between the denials. 200 denials over all rounds, one after another; the value \
                   of a round is the median of its denials.",
            floor: "1,000 Ed25519 signatures and 1,000 verifications of the broker and as many of the \
                    subscribers, spread over all cores.",
        },
        RowInfo {
            name: "deny_to_applied_p99",
            unit: "ms",
            what: "The same, of all 200 denials the one that 1 in 100 is slower than.",
            floor: "as above; the slowest of the rounds.",
        },
        RowInfo {
            name: "denials_load_s",
            unit: "s",
            what: "1,000,000 denials of twelve kinds of selectors, from an open store's file in the system's \
                   cache to the set that is asked, as a key server does it when it starts.",
            floor: "the same records read from the same file in pages by the store, and looked at no further.",
        },
        RowInfo {
            name: "denials_start_s",
            unit: "s",
            what: "Start of a key-server process on that file until it serves, less the same with the store \
                   before they were written: the load, and the store's check of the whole file when it opens.",
            floor: "as above.",
        },
        RowInfo {
            name: "denials_memory_mb",
            unit: "MB",
            what: "Resident memory of that process when it serves, less the same without denials: what loading \
                   them left behind is in it.",
            floor: "a million keys of 16 bytes and as many epochs in a hash map of the standard library, \
                    measured alike in this process.",
        },
        RowInfo {
            name: "denial_check_ns",
            unit: "ns",
            what: "One question whether a dataset ticket that is not denied is, in a set of those \
                   1,000,000 denials, over 4,096 different tickets in turn, on one core.",
            floor: "one look-up of an absent key of 16 bytes among a million in a hash map of the standard \
                    library.",
        },
    ],
    run,
};

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let realm = Realm::start(&run.binaries).await?;
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    let [p50, p99, load, start, memory, check] = rows.as_mut_slice() else {
        return Ok(rows);
    };
    let mut spread = spread::Bench::new(&realm).await?;
    for round in 0..run.rounds {
        run.begins(round);
        spread.measure(round, run.rounds, p50).await?;
    }
    spread.finish(p99);
    let mut denials = denials::Bench::new(&realm).await?;
    for round in 0..run.rounds {
        run.begins(round);
        denials.load(load, start, memory).await?;
        denials.check(check);
    }
    Ok(rows)
}
