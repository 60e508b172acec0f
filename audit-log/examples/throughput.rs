//! Prints how many entries a second the log makes durable, by number of writers, without and with the
//! texts of their proofs.
//!
//! `cargo run --release -p postern-audit-log --example throughput [DIRECTORY]`
#![allow(clippy::print_stdout, reason = "its purpose")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use audit_log::{AuditLog, Options};
use ticket_format::tlog::LogSecret;

const ENTRY_BYTES: usize = 300;
const TIME: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::TempDir::new_in(parent)?;
    for proofs in [false, true] {
        for writers in [1, 16, 256] {
            let path = directory.path().join(format!("log-{writers}-{proofs}"));
            let origin = "example/broker/0123456789abcdef".parse()?;
            let secret = LogSecret::from_seeds(origin, &[1; 32], &[2; 32])?;
            let (log, _) = AuditLog::open(path, secret, &Options::default())?;
            let start = Instant::now();
            let tasks: Vec<_> = (0..writers)
                .map(|_| {
                    let log = log.clone();
                    tokio::spawn(async move {
                        while start.elapsed() < TIME {
                            let appended = log.append(vec![7; ENTRY_BYTES]).await?;
                            if proofs {
                                std::hint::black_box(appended.proof());
                            }
                        }
                        Ok::<_, audit_log::AppendError>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await??;
            }
            let rate = log.head().entries as f64 / start.elapsed().as_secs_f64();
            let with = if proofs { ", with proofs" } else { "" };
            println!("{writers:4} writers: {rate:9.0} entries/s of {ENTRY_BYTES} bytes{with}");
            log.close().await;
        }
    }
    Ok(())
}
