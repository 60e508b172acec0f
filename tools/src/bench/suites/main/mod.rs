//! Suite `main`: the main job from login to plaintext.

pub(super) mod issue;
pub(super) mod login;
mod object;
pub(super) mod redeem;

use std::net::Ipv4Addr;

use ticket_format::report::Report;

use super::{Rows, Run, Suite};
use crate::realm::Realm;
use crate::rows::{Row, RowInfo};

/// Tasks that log in, get tickets or redeem single DEKs at a time.
pub(super) const TASKS: usize = 32;
/// Connections that they share, where a connection stays.
const CONNECTIONS: usize = 8;

pub(crate) static SUITE: Suite = Suite {
    name: "main",
    about: "logins, tickets, redemptions and decryption, each in its steady state",
    rows: &[
        RowInfo {
            name: "login_per_s",
            unit: "1/s",
            what: "First logins of different nodes, 32 at a time, each on a new connection: handshake, \
                   login with an RSA-signed identity document made for the run, node ticket checked. \
                   All nodes use group launches, so the broker counts uses of a few launch records.",
            floor: "the same number at a time over the same transport of: one QUIC handshake \
                    (X25519MLKEM768, both ends) and one exchange of as many bytes; at the server one RSA-2048 \
                    verification, 4 Ed25519 verifications, 1 signature, and one append that waits for \
                    an fdatasync shared by all who wait; at the node 1 Ed25519 and 1 X-Wing key \
                    generation, 4 signatures, 1 verification.",
        },
        RowInfo {
            name: "issue_per_s",
            unit: "1/s",
            what: "Dataset tickets for jobs of 32 nodes, 32 at a time over 8 open connections, each with \
                   fresh X-Wing and proof keys; ticket and dataset record checked by the job.",
            floor: "the same number at a time over open connections of: one exchange of as many bytes; at the \
                    server 4 Ed25519 verifications, 1 signature, and one append as above; at the job 1 \
                    Ed25519 and 1 X-Wing key generation, 3 signatures, 2 verifications.",
        },
        RowInfo {
            name: "redeem_deks_per_s_batch_1",
            unit: "DEK/s",
            what: "Redemptions of one local-wrapped DEK each, 32 at a time over 8 open connections with a \
                   presented ticket, from a set of 1,000 DEKs; every one has its durable audit entry.",
            floor: "the same number at a time over open connections of: one exchange of as many bytes; at both \
                    ends SHA-256 of the request and HMAC, SHA-256 of the item; at the server one \
                    XChaCha20-Poly1305 opening, one ChaCha20-Poly1305 sealing of the answer, SHA-256 over \
                    the entry, one append as above; at the job one ChaCha20-Poly1305 opening.",
        },
        RowInfo {
            name: "redeem_deks_per_s_batch_1000",
            unit: "DEK/s",
            what: "Redemptions of 1,000 local-wrapped DEKs each, 4 at a time over 4 open connections with \
                   a presented ticket.",
            floor: "as for a batch of one, with 1,000 openings and 2,000 item hashes for each exchange.",
        },
        RowInfo {
            name: "object_decrypt_mb_per_s",
            unit: "MB/s",
            what: "An object body of 64 MiB decrypted in memory by the client's streaming reader, fed in \
                   pieces of 1 MiB, on one core. MB are 10^6 bytes of plaintext.",
            floor: "AES-256-GCM opening of chunks of 16 KiB by aws-lc-rs, on one core.",
        },
    ],
    run,
};

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let realm = std::sync::Arc::new(Realm::start(&run.binaries).await?);
    let login = login::Bench::new(&realm).await?;
    let issue = issue::Bench::new(&realm, &login).await?;
    let single = redeem::Bench::new(&realm, &issue, 1, TASKS, CONNECTIONS).await?;
    let batches = redeem::Bench::new(&realm, &issue, 1_000, 4, 4).await?;
    let mut object = object::Bench::new()?;
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    for round in 0..run.rounds {
        run.begins(round);
        login.measure(round, run.span, &mut rows[0]).await?;
        issue.measure(run.span, &mut rows[1]).await?;
        single.measure(run.span, &mut rows[2]).await?;
        batches.measure(run.span, &mut rows[3]).await?;
        object.measure(run.span, &mut rows[4])?;
    }
    Ok(rows)
}

/// A loopback address for one task of one round: as if each came from a machine of its own.
pub(super) fn address(round: u32, task: usize) -> Ipv4Addr {
    let [_, _, high, low] = (round + 1).to_be_bytes();
    Ipv4Addr::new(
        127,
        1_u8.saturating_add(high),
        low,
        u8::try_from(task + 1).unwrap_or(255),
    )
}
