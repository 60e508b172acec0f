//! `postern-witness status`: what was cosigned last.

use std::path::Path;

use audit_log::witness;
use serde_json::json;
use ticket_format::report::Report;

use super::args::Format;
use super::keys::{Keys, STATE};
use super::run::state_report;
use super::say;

/// Prints a line for each shard: its origin, size, time and root.
///
/// # Errors
/// Keys or state cannot be read.
pub fn run(data_dir: &Path, format: Format) -> Result<(), Report> {
    let keys = Keys::open(data_dir)?;
    let records = witness::records(&data_dir.join(STATE)).map_err(|error| state_report(&error))?;
    match format {
        Format::Text => {
            say(&format!("witness {}", keys.name()));
            for record in &records {
                say(&format!(
                    "{}\t{}\t{}\t{}",
                    record.shard,
                    record.size,
                    when(record.time.seconds()),
                    record.root
                ));
            }
            if records.is_empty() {
                say("nothing was cosigned yet");
            }
        }
        Format::Json => {
            let shards: Vec<_> = records
                .iter()
                .map(|record| {
                    json!({
                        "origin": record.shard.to_string(),
                        "size": record.size,
                        "root": record.root,
                        "time": when(record.time.seconds()),
                    })
                })
                .collect();
            let page = json!({ "v": 1, "witness": keys.name(), "cosigned": shards });
            say(&page.to_string());
        }
    }
    Ok(())
}

fn when(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}
