//! `redeem_p99_during_rotation_over_idle`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ticket_format::Context;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::Verifier;

use crate::drive::{Times, rate};
use crate::rows::Row;
use crate::suites::audit::door::{How, KeyServer};
use crate::suites::audit::job::{Item, Job, Ticket};

/// DEKs of one redemption.
const BATCH: usize = 100;
/// Redemptions at a time, each over a connection of its own.
const TASKS: usize = 8;
/// Between two rotations.
const BETWEEN: Duration = Duration::from_millis(100);
/// Rotations in one measurement, at most: a dataset has so many versions and no more.
const ROTATIONS: u32 = 20;

/// Jobs that redeem.
pub(crate) struct Bench<'a> {
    key_server: &'a KeyServer,
    jobs: Arc<Vec<Job>>,
    items: Arc<Vec<Item>>,
    log: Arc<Verifier>,
}

impl<'a> Bench<'a> {
    pub(crate) async fn new(key_server: &'a KeyServer) -> Result<Self, Report> {
        key_server.answers(How::Logged);
        let mut jobs = Vec::new();
        for _ in 0..TASKS {
            let ticket = Ticket::issue(key_server).await?;
            jobs.push(ticket.present(key_server.connect().await?).await?);
        }
        let name = |number| Context::named(&format!("s3://bench/rotated-{number:06}"));
        let contexts: Result<Vec<Context>, _> = (0..BATCH).map(name).collect();
        let contexts =
            contexts.map_err(|error| Report::new(exit::LOCAL, "no context").why(error))?;
        let items = match jobs.first() {
            Some(job) => job.generate(contexts).await?,
            None => Vec::new(),
        };
        Ok(Self {
            key_server,
            jobs: Arc::new(jobs),
            items: Arc::new(items),
            log: Arc::new(Verifier::new(key_server.dataset.log_key.clone(), None)),
        })
    }

    pub(crate) async fn measure(&self, span: Duration, row: &mut Row) -> Result<(), Report> {
        let span = span / 3;
        let idle = self.p99(span).await?;
        let (rotated, redeemed) = tokio::join!(self.rotate(span), self.p99(span));
        rotated?;
        let again = self.p99(span).await?;
        row.add(redeemed? / idle, again / idle);
        Ok(())
    }

    async fn rotate(&self, span: Duration) -> Result<(), Report> {
        let (begun, mut ticks) = (Instant::now(), tokio::time::interval(BETWEEN));
        for _ in 0..ROTATIONS {
            ticks.tick().await;
            if begun.elapsed() >= span {
                break;
            }
            self.key_server.rotate().await?;
        }
        Ok(())
    }

    async fn p99(&self, span: Duration) -> Result<f64, Report> {
        self.key_server.answers(How::Logged);
        let (jobs, items) = (Arc::clone(&self.jobs), Arc::clone(&self.items));
        let (log, times) = (Arc::clone(&self.log), Times::default());
        let kept = times.clone();
        let operation = move |task: usize| {
            let (jobs, items, log) = (Arc::clone(&jobs), Arc::clone(&items), Arc::clone(&log));
            let times = times.clone();
            async move {
                let begun = Instant::now();
                let done = jobs[task % TASKS].redeem(&items, Some(&log)).await?;
                times.add(begun);
                Ok(Some(done))
            }
        };
        rate(TASKS, span, operation).await?;
        Ok(kept.p99())
    }
}
