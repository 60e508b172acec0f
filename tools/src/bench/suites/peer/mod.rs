//! Suite `peer`: Postern beside MIT krb5's KDC. In the column of the floor stands the peer's figure.

mod kdc;

use std::sync::Arc;

use ticket_format::report::Report;

use self::kdc::{Ask, Kdc};
use super::main::{issue, login, redeem};
use super::{Rows, Run, Suite};
use crate::realm::Realm;
use crate::rows::{Row, RowInfo};

const TGS: &str = "no floor but a peer: TGS-REQs to MIT krb5's KDC with 2 workers, 32 callers, each a process with its \
                   own libkrb5. Not comparable: its tickets are symmetric throughout, nothing is post-quantum, no \
                   policy decides, its database is in memory, and its log is written without waiting for the disk.";

pub(crate) static SUITE: Suite = Suite {
    name: "peer",
    about: "beside MIT krb5's KDC, in the same rounds",
    rows: &[
        RowInfo {
            name: "peer_issue_per_s",
            unit: "1/s",
            what: "Dataset tickets, 32 at a time over 8 open connections, as issue_per_s of suite main.",
            floor: TGS,
        },
        RowInfo {
            name: "peer_redeem_deks_per_s_batch_1",
            unit: "DEK/s",
            what: "Redemptions of one local-wrapped DEK each, 32 at a time over 8 open connections.",
            floor: TGS,
        },
        RowInfo {
            name: "peer_kdc_as_per_s",
            unit: "1/s",
            what: "The KDC alone: AS-REQs with an encrypted timestamp, from a keytab, in the two exchanges that libkrb5 makes of it: no public key, so \
                   that no login of Postern stands beside it. The records of the last login and of failures are \
                   switched off; with them the KDC waits for a disk.",
            floor: "",
        },
        RowInfo {
            name: "peer_kdc_tgs_p99_us",
            unit: "us",
            what: "The KDC alone: what 99 in 100 of these TGS-REQs take at most.",
            floor: "",
        },
        RowInfo {
            name: "peer_kdc_tgs_cpu_us",
            unit: "us",
            what: "The KDC alone: CPU time of its processes for a TGS-REQ.",
            floor: "",
        },
    ],
    run,
};

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    // First, so that what is missing is told before anything else is waited for.
    let kdc = tokio::task::block_in_place(Kdc::start)?;
    let realm = Arc::new(Realm::start(&run.binaries).await?);
    let login = login::Bench::new(&realm).await?;
    let issues = issue::Bench::new(&realm, &login).await?;
    let redemptions = redeem::Bench::new(&realm, &issues, 1, 32, 8).await?;
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    let [issue, redeem, logins, p99, cpu] = &mut rows[..] else {
        return Ok(rows);
    };
    for round in 0..run.rounds {
        run.begins(round);
        let ask = |ask| tokio::task::block_in_place(|| kdc.load(ask, run.span));
        let (tgs, tgs_cpu) = ask(Ask::Tgs)?;
        // Only the value of these is wanted: beside it stands the peer.
        let (mut issued, mut redeemed) = (Row::new(&SUITE.rows[0]), Row::new(&SUITE.rows[1]));
        issues.measure(run.span, &mut issued).await?;
        redemptions.measure(run.span, &mut redeemed).await?;
        issue.beside(&issued, tgs.per_s);
        redeem.beside(&redeemed, tgs.per_s);
        logins.add_alone(ask(Ask::As)?.0.per_s);
        p99.add_alone(tgs.p99_us);
        cpu.add_alone(tgs_cpu);
    }
    rows.retain(|row| run.wants(row.info()));
    Ok(rows)
}
