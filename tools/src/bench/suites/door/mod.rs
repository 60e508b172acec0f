//! Suite `door`: the node's KMS-shaped door, by a stock SDK beside another KMS, and at a cold start.

mod cold;
mod job;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use ticket_format::report::{Report, exit};
use tokio::process::Command;

use super::objects::moto;
use super::{Rows, Run, Suite};
use crate::realm::{DATASET, Realm};
use crate::rows::{Row, RowInfo};
use job::Node;

pub(crate) static SUITE: Suite = Suite {
    name: "door",
    about: "the node's KMS-shaped door: stock boto3 beside another KMS, and a cold start",
    rows: &[
        RowInfo {
            name: "boto3_decrypt_per_s_over_moto",
            unit: "1/s",
            what: "Ciphertexts that one thread of stock boto3 decrypts at the door, one after the other: 200 \
                   different ones round and round, whose data keys the agent holds after the first round.",
            floor: "no floor but another's work: the same loop, by turns, at moto's KMS on loopback.",
        },
        RowInfo {
            name: "cold_start_3000_requests",
            unit: "requests",
            what: "Redeem requests to the key server for 3,000 ciphertexts with data keys of their own, decrypted at \
                   the door over 200 connections at a time, by an agent that has just begun and holds none.",
            floor: "",
        },
        RowInfo {
            name: "cold_start_3000_s",
            unit: "s",
            what: "How long that takes, with the start of the agent, the issue of the job's ticket and its \
                   presentation.",
            floor: "the same once more, with all 3,000 data keys held: HTTP alone.",
        },
    ],
    run,
};

/// Longest time of one run of boto3 beyond what it measures.
const PATIENCE: Duration = Duration::from_secs(120);

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    let [rate, requests, seconds] = rows.as_mut_slice() else {
        return Ok(rows);
    };
    let rate_wanted = run.wants(&SUITE.rows[0]);
    let cold_wanted = run.wants(&SUITE.rows[1]) || run.wants(&SUITE.rows[2]);
    let realm = Arc::new(Realm::start(&run.binaries).await?);
    let node = Node::new(&realm).await?;
    let moto = match rate_wanted {
        true => Some(moto().await?),
        false => None,
    };
    let blobs = match cold_wanted {
        true => cold::blobs(&node).await?,
        false => Vec::new(),
    };
    for round in 0..run.rounds {
        run.begins(round);
        if let Some((_server, url)) = &moto {
            let rates = boto3(&node, url, run.span).await?;
            rate.add(rates.door, rates.other);
        }
        if cold_wanted {
            let cold = cold::measure(&node, &blobs).await?;
            requests.add_alone(cold.requests);
            seconds.add(cold.seconds, cold.again);
        }
    }
    Ok(rows)
}

/// What one run of boto3 said.
#[derive(Debug, Deserialize)]
struct Rates {
    door: f64,
    other: f64,
}

async fn boto3(node: &Node, other: &str, span: Duration) -> Result<Rates, Report> {
    let job = node.start().await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/foreign/run");
    let mut command = Command::new(script);
    command.args(["kms_rate.py", job.url(), &format!("alias/{DATASET}"), other]);
    command.arg((2 * span).as_secs().max(1).to_string());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(2 * span + PATIENCE, output).await;
    let output = output.map_err(failed)?.map_err(failed)?;
    job.end().await;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it said nothing");
        return Err(failed(last).next("run tests/foreign/setup s3"));
    }
    serde_json::from_slice(&output.stdout).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, "the door cannot be measured").why(error)
}
