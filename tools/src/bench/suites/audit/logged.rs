//! `redeem_logged_over_unlogged_batch_100`, and the same of callers that share nothing.

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
    /// As all jobs of one process share it.
    shared: Arc<Verifier>,
    items: Arc<Vec<Item>>,
}

/// Who checks the receipts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Callers {
    /// Jobs of one process: of receipts with one checkpoint the first is checked in full.
    Together,
    /// As if each were on a machine of its own.
    Alone,
    /// Nobody: there is none.
    Unchecked,
}

impl<'a> Bench<'a> {
    /// Presents tickets and has the DEKs made.
    pub(crate) async fn new(key_server: &'a KeyServer) -> Result<Self, Report> {
        key_server.answers(How::Logged);
        let mut jobs = Vec::new();
        for _ in 0..CONNECTIONS {
            let ticket = Ticket::issue(key_server).await?;
            let job = ticket.present(key_server.connect().await?).await?;
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
            shared: Arc::new(Verifier::new(key_server.dataset.log_key.clone(), None)),
            items: Arc::new(items),
        })
    }

    /// One round: all kinds in turn, so that what changes on the machine meets each of them.
    pub(crate) async fn measure(
        &self,
        span: Duration,
        together: &mut Row,
        alone: &mut Row,
    ) -> Result<(), Report> {
        let kinds = [
            (How::Logged, Callers::Together),
            (How::Logged, Callers::Alone),
            (How::Unlogged, Callers::Unchecked),
            (How::Bare, Callers::Unchecked),
        ];
        let mut sums = [0.0; 4];
        for _ in 0..TURNS {
            for (sum, (how, callers)) in sums.iter_mut().zip(kinds) {
                *sum += self.redeemed(how, callers, span / TURNS).await?;
            }
        }
        let [shared, own, unlogged, bare] = sums;
        together.add(shared / unlogged, bare / unlogged);
        alone.add(own / unlogged, bare / unlogged);
        Ok(())
    }

    async fn redeemed(&self, how: How, callers: Callers, span: Duration) -> Result<f64, Report> {
        self.key_server.answers(how);
        let (jobs, items) = (Arc::clone(&self.jobs), Arc::clone(&self.items));
        let shared = Arc::clone(&self.shared);
        let next = Arc::new(AtomicUsize::new(0));
        let operation = move |task: usize| {
            let (jobs, items) = (Arc::clone(&jobs), Arc::clone(&items));
            let shared = Arc::clone(&shared);
            let from = next.fetch_add(BATCH, Ordering::Relaxed) % (DEKS - BATCH + 1);
            async move {
                let (job, own) = &jobs[task % CONNECTIONS];
                let log = match callers {
                    Callers::Together => Some(&*shared),
                    Callers::Alone => Some(own),
                    Callers::Unchecked => None,
                };
                job.redeem(&items[from..from + BATCH], log).await.map(Some)
            }
        };
        rate(TASKS, span, operation).await
    }
}
