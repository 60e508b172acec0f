//! `acts_per_s`, `append_p99_ms`, `verify_entries_per_s`, `receipt_bytes`: the log by itself.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit_log::{AuditLog, Entries, Folder, Opened};
use sha2::{Digest as _, Sha256};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{
    ActId, DatasetId, ItemDigest, PolicyDigest, RequestHash, TicketHash, TicketId,
};
use ticket_format::keys::TlsSecret;
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::report::{Report, exit};
use ticket_format::statement::Role;

use super::door::open_log;
use crate::drive::{Times, rate};
use crate::floor::{GroupCommit, MlDsa, Signature};
use crate::realm::{now, rng};
use crate::rows::Row;

/// Appends at a time.
const TASKS: usize = 64;
/// Entries of the log that is verified.
const ENTRIES: usize = 20_000;
/// Hashes of a proof in it.
const PATH: usize = 15;

/// The entry of a redemption of one DEK.
fn entry() -> Vec<u8> {
    Entry::new(ActId::random(&mut rng()), Kind::Redeem, now())
        .subject("ec2/123456789012/eu-central-1/i-0123456789abcdef0")
        .source("192.0.2.1:4433")
        .ticket_hash(TicketHash([1; 32]))
        .request(RequestHash([2; 32]))
        .policy(PolicyDigest([3; 32]))
        .policies(["bench".to_owned()])
        .epoch(7)
        .dataset(DatasetId([4; 16]))
        .items(vec![(ItemDigest([5; 32]), Ok(()))])
        .ticket(TicketId([6; 16]))
        .expires(now().plus(3_600))
        .to_cbor()
}

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Report {
    move |error| Report::new(exit::LOCAL, what).why(error)
}

/// One round of appends: bare ones, then the log's.
pub(crate) async fn appends(
    dir: &Path,
    round: u32,
    span: Duration,
    acts: &mut Row,
    p99: &mut Row,
) -> Result<(), Report> {
    let (signature, ml_dsa) = (Signature::new(), MlDsa::new()?);
    let signing = Box::new(move || {
        signature.sign(1);
        ml_dsa.sign();
    });
    let bare = GroupCommit::with(&dir.join(format!("bare-{round}")), signing);
    let bare = Arc::new(bare.map_err(|error| failed("cannot make a file")(&error))?);
    let (floor_times, times) = (Times::default(), Times::default());
    let kept = floor_times.clone();
    let operation = move |_| {
        let (bare, times) = (Arc::clone(&bare), kept.clone());
        async move {
            let begun = Instant::now();
            let entry = entry();
            black_box(Sha256::digest(&entry));
            let appended = bare.append(entry).await;
            appended.map_err(|_| Report::new(exit::LOCAL, "a bare append failed"))?;
            times.add(begun);
            Ok(Some(1))
        }
    };
    let floor = rate(TASKS, span, operation).await?;
    let server = TlsSecret::generate(&mut rng());
    let log = open_log(&dir.join(format!("acts-{round}")), Role::KeyServer, &server)?;
    let (appending, kept) = (log.clone(), times.clone());
    let operation = move |_| {
        let (log, times) = (appending.clone(), kept.clone());
        async move {
            let begun = Instant::now();
            append(&log).await?;
            times.add(begun);
            Ok(Some(1))
        }
    };
    acts.add(rate(TASKS, span, operation).await?, floor);
    p99.add(times.p99(), floor_times.p99());
    log.close().await;
    Ok(())
}

async fn append(log: &AuditLog) -> Result<(), Report> {
    let appended = log.append(entry()).await;
    let appended = appended.map_err(|error| failed("an append failed")(&error))?;
    black_box(appended.proof());
    Ok(())
}

/// A log that stays as it is.
pub(crate) struct Kept {
    path: PathBuf,
    log: AuditLog,
}

impl Kept {
    /// Fills it.
    pub(crate) async fn new(dir: &Path) -> Result<Self, Report> {
        let (path, server) = (dir.join("kept"), TlsSecret::generate(&mut rng()));
        let log = open_log(&path, Role::KeyServer, &server)?;
        let mut left = ENTRIES;
        while left > 0 {
            let some = left.min(1_000);
            let mut appending = tokio::task::JoinSet::new();
            for _ in 0..some {
                let log = log.clone();
                appending.spawn(async move { append(&log).await });
            }
            while let Some(appended) = appending.join_next().await {
                appended.map_err(|error| failed("an append ended")(&error))??;
            }
            left -= some;
        }
        let published = log.publish_now().await;
        published.map_err(|error| failed("tiles cannot be written")(&error))?;
        Ok(Self { path, log })
    }

    /// Verifies it.
    pub(crate) fn verify(&self, row: &mut Row) -> Result<(), Report> {
        let mut decoded = Decoded::default();
        let begun = Instant::now();
        let summary = audit_log::verify(&Folder::new(&self.path), self.log.key(), &mut decoded);
        let took = begun.elapsed();
        let summary = summary.map_err(|error| failed("a log cannot be read")(&error))?;
        if !summary.is_whole() || decoded.entries.len() != ENTRIES {
            return Err(Report::new(exit::INTEGRITY, "a good log does not verify"));
        }
        let begun = Instant::now();
        for entry in &decoded.entries {
            let leaf = Sha256::digest(black_box(entry));
            black_box(
                Sha256::new()
                    .chain_update(leaf)
                    .chain_update(leaf)
                    .finalize(),
            );
        }
        #[allow(clippy::cast_precision_loss)] // 20,000
        let rate = |took: Duration| ENTRIES as f64 / took.as_secs_f64();
        row.add(rate(took), rate(begun.elapsed()));
        Ok(())
    }

    /// Measures a receipt of it.
    pub(crate) fn receipt(&self, row: &mut Row) -> Result<(), Report> {
        let receipt = self.log.receipt(ENTRIES as u64 / 2);
        let (entry, proof) = receipt.map_err(|error| failed("a log cannot be read")(&error))?;
        let least = entry.len() + 32 * PATH + 64 + 8 + 2_420;
        let bytes = Receipt { entry, proof }.to_cbor().len();
        #[allow(clippy::cast_precision_loss)] // some thousands
        row.add(bytes as f64, least as f64);
        Ok(())
    }
}

/// Decodes every entry, and keeps its bytes for the floor.
#[derive(Default)]
struct Decoded {
    entries: Vec<Vec<u8>>,
}

impl Entries for Decoded {
    fn opened(&mut self, _: &[u8]) -> Option<Opened> {
        None
    }

    fn is_closed(&mut self, _: &[u8]) -> bool {
        false
    }

    fn entry(&mut self, _: u64, entry: &[u8]) {
        if Entry::from_cbor(entry, limits::ENTRY).is_ok() {
            self.entries.push(entry.to_vec());
        }
    }
}
