//! Suite `audit`: what the Merkle log, its receipts and their checks cost.

pub(super) mod door;
pub(super) mod job;
mod log;
mod logged;
mod ticket;

use ticket_format::report::{Report, exit};

use super::{Rows, Run, Suite};
use crate::rows::{Row, RowInfo};

pub(crate) static SUITE: Suite = Suite {
    name: "audit",
    about: "the Merkle log: what it costs redemptions, appends, verification, and a ticket's check",
    rows: &[
        RowInfo {
            name: "redeem_logged_over_unlogged_batch_100",
            unit: "",
            what: "Redemptions of 100 local-wrapped DEKs each in a second, 16 at a time over 8 open connections, \
                   of a key server whose service runs in this process behind its real transport, by those of \
                   the same service where one thing is left out: the append, with what comes of it (checkpoint, \
                   inclusion proof, receipt in the answer, the callers' check of both signatures). Without it \
                   the bench calls the same functions of the library in the same order (possession, decision, \
                   entry, side file, second check, seal) and puts two bytes in the receipt's place; no program \
                   has a switch for that. Habits and canaries, which the service looks at after the append, are \
                   left out with it. Callers and key server share the cores; the callers are of one process, as \
                   jobs of one machine are, and check a checkpoint that several receipts name once.",
            floor: "the same with a bare append in place of the log: the entry written to a file by one thread, \
                    one fdatasync for all that wait, no hash, signature, proof or receipt.",
        },
        RowInfo {
            name: "redeem_logged_over_unlogged_lone_callers",
            unit: "",
            what: "The same, where each of the 8 connections is a caller that shares nothing and checks every \
                   checkpoint for itself: so many machines' checks on the key server's own cores.",
            floor: "as above.",
        },
        RowInfo {
            name: "acts_per_s",
            unit: "1/s",
            what: "Entries of one-DEK redemptions (450 bytes) appended to a log by 64 tasks at a time, each \
                   waiting until its entry is durable and covered by a signed checkpoint, and making its \
                   inclusion proof. Tiles are published meanwhile.",
            floor: "as many bytes appended by as many tasks, written and synced together by one thread, with \
                    one Ed25519 and one ML-DSA-44 signature for each sync, and in each task SHA-256 of the entry.",
        },
        RowInfo {
            name: "append_p99_ms",
            unit: "ms",
            what: "Of those appends, how long 1 in 100 takes longer than.",
            floor: "the same of the bare appends.",
        },
        RowInfo {
            name: "verify_entries_per_s",
            unit: "1/s",
            what: "A log of 20,000 such entries verified from its files: checkpoint, tiles, entry bundles and \
                   journal, every root computed anew, every entry decoded; files in the system's cache.",
            floor: "SHA-256 of every entry and of one pair of hashes for each.",
        },
        RowInfo {
            name: "receipt_bytes",
            unit: "B",
            what: "A receipt of that log, entry included, as it stands in an answer.",
            floor: "the entry, 15 hashes of 32 bytes, a signature of 64, one of 2,420 bytes with its time.",
        },
        RowInfo {
            name: "ticket_check_with_receipt_over_without",
            unit: "",
            what: "Time of what a key server checks of a presented ticket before it believes it: the ticket's \
                   signature and claims, possession of its proof key, and the receipt of its issue; by the time \
                   of the same without the receipt. Each receipt has a checkpoint of its own that was not \
                   verified before: where tickets were issued together, all but one cost less. One core.",
            floor: "2 verifications of Ed25519, one more and one of ML-DSA-44; by 2 verifications of Ed25519.",
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
    let [redeem, lone, acts, p99, verify, receipt, check] = rows.as_mut_slice() else {
        return Ok(rows);
    };
    let key_server = door::KeyServer::start(dir.path()).await?;
    let redeemed = logged::Bench::new(&key_server).await?;
    let tickets = ticket::Bench::new(&key_server).await?;
    let kept = log::Kept::new(dir.path()).await?;
    for round in 0..run.rounds {
        run.begins(round);
        redeemed.measure(run.span, redeem, lone).await?;
        log::appends(dir.path(), round, run.span, acts, p99).await?;
        kept.verify(verify)?;
        kept.receipt(receipt)?;
        tickets.measure(check)?;
    }
    Ok(rows)
}
