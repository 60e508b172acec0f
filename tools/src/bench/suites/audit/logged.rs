//! `redeem_logged_over_unlogged_batch_100`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ticket_format::Context;
use ticket_format::report::{Report, exit};
use ticket_format::tlog::Verifier;

use super::door::{How, KeyServer};
use super::job::{Item, Job, Ticket};
use crate::drive::rate;
use crate::rows::Row;

/// DEKs that there are.
const DEKS: usize = 1_000;
/// DEKs of one redemption.
const BATCH: usize = 100;
/// Redemptions at a time.
const TASKS: usize = 16;
/// Connections that they share.
const CONNECTIONS: usize = 8;
/// How often each kind has its turn in a round.
const TURNS: u32 = 5;

/// Jobs that redeem.
pub(crate) struct Bench<'a> {
    key_server: &'a KeyServer,
    jobs: Arc<Vec<(Job, Verifier)>>,
    items: Arc<Vec<Item>>,
}

impl<'a> Bench<'a> {
    /// Presents tickets and has the DEKs made.
    pub(crate) async fn new(key_server: &'a KeyServer) -> Result<Self, Report> {
        key_server.answers(How::Logged);
        let mut jobs = Vec::new();
        for _ in 0..CONNECTIONS {
            let ticket = Ticket::issue(key_server).await?;
            let job = ticket.present(key_server.connect().await?).await?;
            // Each job verifies for itself, as if on a machine of its own.
            jobs.push((job, Verifier::new(key_server.dataset.log_key.clone(), None)));
        }
        let name = |number| Context::named(&format!("s3://bench/object-{number:06}"));
        let contexts: Result<Vec<Context>, _> = (0..DEKS).map(name).collect();
        let contexts =
            contexts.map_err(|error| Report::new(exit::LOCAL, "no context").why(error))?;
        let items = match jobs.first() {
            Some((job, _)) => job.generate(contexts).await?,
            None => Vec::new(),
        };
        Ok(Self {
            key_server,
            jobs: Arc::new(jobs),
            items: Arc::new(items),
        })
    }

    /// One round: logged, unlogged and bare in turn, so that what changes on the machine meets all three.
    pub(crate) async fn measure(&self, span: Duration, row: &mut Row) -> Result<(), Report> {
        let mut sums = [0.0; 3];
        for _ in 0..TURNS {
            for (sum, how) in sums.iter_mut().zip([How::Logged, How::Unlogged, How::Bare]) {
                *sum += self.redeemed(how, span / TURNS).await?;
            }
        }
        let [logged, unlogged, bare] = sums;
        row.add(logged / unlogged, bare / unlogged);
        Ok(())
    }

    async fn redeemed(&self, how: How, span: Duration) -> Result<f64, Report> {
        self.key_server.answers(how);
        let (jobs, items) = (Arc::clone(&self.jobs), Arc::clone(&self.items));
        let next = Arc::new(AtomicUsize::new(0));
        let operation = move |task: usize| {
            let (jobs, items) = (Arc::clone(&jobs), Arc::clone(&items));
            let from = next.fetch_add(BATCH, Ordering::Relaxed) % (DEKS - BATCH + 1);
            async move {
                let (job, log) = &jobs[task % CONNECTIONS];
                let log = (how == How::Logged).then_some(log);
                job.redeem(&items[from..from + BATCH], log).await.map(Some)
            }
        };
        rate(TASKS, span, operation).await
    }
}
