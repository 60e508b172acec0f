//! Suite `peer`: Postern beside MIT krb5's KDC and beside a bare key service over HTTP and JSON, in the same rounds. In
//! the column of the floor stands the peer's figure.

mod bench;
mod json;
mod json_callers;
mod json_server;
mod kdc;
mod kdc_files;

use std::path::Path;

use ticket_format::report::Report;

use self::bench::Bench;
use self::kdc::Kdc;
use super::{Rows, Run, Suite};
use crate::realm::Realm;
use crate::rows::{Row, RowInfo};

pub(crate) use json_server::serve;

/// Callers of single keys at a time, and the connections that Postern's share.
const SINGLE: (usize, usize) = (64, 8);
/// Requests of 100 keys at a time, and the connections that Postern's share.
const BATCHES: (usize, usize) = (16, 4);
/// Keys of a request, single and in batches, and their shapes.
const LOADS: [(usize, (usize, usize)); 2] = [(1, SINGLE), (100, BATCHES)];
/// The block of addresses that the redeeming connections have.
const ADDRESSES: u32 = 64_000;

const PKINIT: &str = "no floor but a peer's rate: AS-REQs with PKINIT to MIT krb5's KDC with 2 workers, 32 callers, each \
                      a process with its own libkrb5, in the two exchanges that libkrb5 makes of it. RSA-2048 \
                      certificates, a Diffie-Hellman exchange of 2,048 bits, nothing post-quantum; no identity document \
                      is checked, the database is in memory and the log does not wait for a disk.";
const TGS: &str = "no floor but a peer's rate: TGS-REQs to that KDC by as many callers: symmetric cryptography \
                   throughout, no policy, no new key of the caller, and a log that does not wait for a disk.";
const AS: &str = "no floor but a peer's rate: AS-REQs with an encrypted timestamp to that KDC, from a keytab, in the two \
                  exchanges that libkrb5 makes of it; symmetric as its TGS-REQs. The records of the last login and of \
                  failures are switched off: with them the KDC waits for a disk.";
const JSON: &str = "no floor but a peer's rate: as many keys in a request and as many callers of a service over HTTP/1.1 \
                    and TLS 1.3 (axum, hyper, rustls), each with an open connection: JSON in the shape of HashiCorp \
                    Vault's transit/decrypt, one AES-256-GCM opening for each key, and nothing else: no caller is \
                    known, no policy decides, no budget is counted, nothing is recorded, the answer is sealed by TLS \
                    alone.";
const DURABLE: &str = "the same service, each answer waiting for an append of as many bytes as a redemption's entry, \
                       with an fdatasync shared by all who wait; no proof, no signature.";

pub(crate) static SUITE: Suite = Suite {
    name: "peer",
    about: "beside MIT krb5's KDC and a bare key service over HTTP and JSON, in the same rounds",
    rows: &[
        RowInfo {
            name: "peer_login_per_s_beside_pkinit",
            unit: "1/s",
            what: "First logins of different nodes, 32 at a time, each on a new connection, as login_per_s of suite main.",
            floor: PKINIT,
        },
        RowInfo {
            name: "peer_login_cpu_us_beside_pkinit",
            unit: "us",
            what: "CPU time of the broker's process for one of these logins.",
            floor: "of the KDC's processes for one AS-REQ with PKINIT.",
        },
        RowInfo {
            name: "peer_issue_per_s_beside_tgs",
            unit: "1/s",
            what: "Dataset tickets, 32 at a time over 8 open connections, as issue_per_s of suite main.",
            floor: TGS,
        },
        RowInfo {
            name: "peer_issue_per_s_beside_as",
            unit: "1/s",
            what: "The same figure.",
            floor: AS,
        },
        RowInfo {
            name: "peer_issue_cpu_us_beside_tgs",
            unit: "us",
            what: "CPU time of the broker's process for one of these tickets.",
            floor: "of the KDC's processes for one TGS-REQ.",
        },
        RowInfo {
            name: "peer_redeem_deks_per_s_batch_1_beside_tgs",
            unit: "DEK/s",
            what: "Redemptions of one local-wrapped DEK each, 64 at a time over 8 open connections; every one has its \
                   durable audit entry and its receipt is verified.",
            floor: TGS,
        },
        RowInfo {
            name: "peer_redeem_deks_per_s_batch_1_beside_json",
            unit: "DEK/s",
            what: "The same figure.",
            floor: JSON,
        },
        RowInfo {
            name: "peer_redeem_deks_per_s_batch_1_beside_durable_json",
            unit: "DEK/s",
            what: "The same figure.",
            floor: DURABLE,
        },
        RowInfo {
            name: "peer_redeem_cpu_us_batch_1_beside_json",
            unit: "us",
            what: "CPU time of the key server's process for one DEK of these redemptions.",
            floor: "of the process of the service that records nothing.",
        },
        RowInfo {
            name: "peer_redeem_deks_per_s_batch_100_beside_json",
            unit: "DEK/s",
            what: "Redemptions of 100 local-wrapped DEKs each, 16 at a time over 4 open connections.",
            floor: JSON,
        },
        RowInfo {
            name: "peer_redeem_deks_per_s_batch_100_beside_durable_json",
            unit: "DEK/s",
            what: "The same figure.",
            floor: DURABLE,
        },
        RowInfo {
            name: "peer_redeem_cpu_us_batch_100_beside_json",
            unit: "us",
            what: "CPU time of the key server's process for one DEK of these redemptions.",
            floor: "of the process of the service that records nothing.",
        },
    ],
    run,
};

/// The versions of what is measured beside Postern.
pub(crate) fn versions() -> Vec<String> {
    let mut told = vec![kdc::version().unwrap_or_else(|| "MIT krb5 unknown".to_owned())];
    let locked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let locked: toml::Table = std::fs::read_to_string(locked)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let packages = locked.get("package").and_then(toml::Value::as_array);
    for wanted in ["axum", "hyper", "rustls", "serde_json"] {
        let of = |package: &&toml::Value| {
            package.get("name").and_then(|name| name.as_str()) == Some(wanted)
        };
        let found = packages.and_then(|packages| packages.iter().find(of));
        let version = found.and_then(|package| package.get("version")?.as_str());
        told.push(format!("{wanted} {}", version.unwrap_or("unknown")));
    }
    told
}

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    // First, so that what is missing is told before anything else is waited for.
    let kdc = tokio::task::block_in_place(Kdc::start)?;
    let bench = Bench::new(Realm::start(&run.binaries).await?, kdc, run.span).await?;
    let wanted = SUITE.rows.iter().filter(|row| run.wants(row));
    let mut rows: Vec<Row> = wanted.map(Row::new).collect();
    for round in 0..run.rounds {
        run.begins(round);
        if wants(&rows, "peer_login_") {
            bench.logins(round, &mut rows).await?;
        }
        if wants(&rows, "peer_issue_") {
            bench.tickets(&mut rows).await?;
        }
        for (batch, shape) in LOADS {
            if wants(&rows, &format!("_batch_{batch}_")) {
                bench.redemptions(batch, shape, &mut rows).await?;
            }
        }
    }
    Ok(rows)
}

fn wants(rows: &[Row], part: &str) -> bool {
    rows.iter().any(|row| row.name().contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_the_peers_are_those_that_are_locked() {
        let told = versions();
        assert_eq!(told.len(), 5);
        for (told, name) in told[1..]
            .iter()
            .zip(["axum ", "hyper ", "rustls ", "serde_json "])
        {
            let version = told.strip_prefix(name).unwrap();
            assert!(semver::Version::parse(version).is_ok(), "{told}");
        }
    }
}
