//! Jobs that redeem wraps of any kind, and count what they do.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::redeem::{Presented, raw_context};
use ticket_format::Context;
use ticket_format::cbor::Encode as _;
use ticket_format::report::{Report, exit};
use ticket_format::wrapped::public::Upload;
use tokio::time::sleep_until;
use transport::Connection;

use crate::drive::{Tally, Times, tally};
use crate::floor;
use crate::realm::{Realm, rng};
use crate::servers::REALM;
use crate::suites::main::{address, issue};

/// DEKs of each kind that there are, and the most of one request.
pub(crate) const DEKS: usize = 1_000;
/// What one ticket may redeem.
const BUDGET: u64 = 9_000_000;

/// Wrapped DEKs and their contexts.
pub(crate) type Items = Arc<Vec<(Vec<u8>, Context)>>;

/// Jobs with a presented ticket each, on connections of their own.
#[derive(Clone)]
pub(crate) struct Load {
    presented: Arc<Vec<Presented>>,
    connections: Arc<Vec<Connection>>,
    released: Arc<AtomicU64>,
}

impl Load {
    /// So many connections, from addresses of this block.
    pub(crate) async fn new(
        realm: &Arc<Realm>,
        issue: &issue::Bench,
        connections: usize,
        block: u32,
    ) -> Result<Self, Report> {
        let (mut presented, mut kept) = (Vec::new(), Vec::new());
        for number in 0..connections {
            let socket = floor::socket(address(block, number))?;
            let (node, session) = issue.ticket(number, BUDGET).await?;
            let (link, connection) = realm.key_server_and_connection(&socket).await?;
            let job = node.present(&session, &link).await?;
            presented.push(job.accept_unsigned(true));
            kept.push(connection);
        }
        Ok(Self {
            presented: Arc::new(presented),
            connections: Arc::new(kept),
            released: Arc::default(),
        })
    }

    /// Bytes in datagrams of all connections, both ways, until now.
    pub(crate) fn carried(&self) -> u64 {
        self.connections.iter().map(Connection::carried).sum()
    }

    /// DEKs that were released until now.
    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }

    /// Has [`DEKS`] local wraps made.
    pub(crate) async fn generate(&self, name: &str) -> Result<Items, Report> {
        self.generate_some(0, name, 0..DEKS).await.map(Arc::new)
    }

    /// Has local wraps made by one of the jobs, at most [`DEKS`].
    pub(crate) async fn generate_some(
        &self,
        job: usize,
        name: &str,
        numbers: Range<usize>,
    ) -> Result<Vec<(Vec<u8>, Context)>, Report> {
        let presented = &self.presented[job % self.presented.len()];
        let contexts = contexts(name, numbers)?;
        let asked: Vec<&Context> = contexts.iter().collect();
        let made = presented.generate(&asked, false, None, &mut rng()).await;
        let made = made.map_err(|error| error.report())?;
        made.into_iter()
            .zip(contexts)
            .map(|(made, context)| match made {
                Ok(made) => Ok((made.wrapped, context)),
                Err(refusal) => Err(Report::refused("key server", refusal, None)),
            })
            .collect()
    }

    /// Makes [`DEKS`] public wraps, as a producer does who does not sign: of so many uploads.
    pub(crate) fn uploads(&self, uploads: usize) -> Result<Items, Report> {
        let failed = |error: &dyn std::fmt::Display| {
            Report::new(exit::LOCAL, "cannot make public wraps").why(error)
        };
        let record = match self.presented.first() {
            Some(presented) => &presented.opened().record,
            None => return Err(failed(&"there is no job")),
        };
        let mut items = Vec::with_capacity(DEKS);
        let contexts = contexts("public", 0..DEKS)?;
        for part in contexts.chunks(DEKS / uploads) {
            let (kek, public) = (record.kek, &record.public_key);
            let version = record.kek_version;
            let upload = Upload::begin(REALM, record.dataset, kek, version, public, &mut rng());
            let upload = upload.map_err(|error| failed(&error))?;
            for context in part {
                let (_, pending) = upload.object(raw_context(context), &mut rng());
                items.push((upload.finish(&pending, [0; 32], None), context.clone()));
            }
        }
        Ok(Arc::new(items))
    }

    /// Redeems without pauses; DEKs in a second. `shape` is callers at a time and connections.
    pub(crate) async fn redeem(
        &self,
        items: &Items,
        batch: usize,
        (callers, connections): (usize, usize),
        span: Duration,
    ) -> Result<f64, Report> {
        let done = self.redemptions(items, batch, (callers, connections), span);
        done.await.map(Tally::per_s)
    }

    /// The same, and gives how many they were.
    pub(crate) async fn redemptions(
        &self,
        items: &Items,
        batch: usize,
        (callers, connections): (usize, usize),
        span: Duration,
    ) -> Result<Tally, Report> {
        let (load, items) = (self.clone(), Arc::clone(items));
        let next = Arc::new(AtomicUsize::new(0));
        let operation = move |task: usize| {
            let (load, items) = (load.clone(), Arc::clone(&items));
            let from = next.fetch_add(batch, Ordering::Relaxed) % (items.len() - batch + 1);
            async move {
                let done = load.one(task % connections, &items[from..from + batch]);
                done.await.map(Some)
            }
        };
        tally(callers, span, operation).await
    }

    /// Redeems single DEKs at a steady pace, so many in a second in all; how long each took since it was due.
    pub(crate) async fn paced(
        &self,
        items: &Items,
        callers: usize,
        per_second: f64,
        span: Duration,
    ) -> Result<Times, Report> {
        #[allow(clippy::cast_precision_loss)] // some
        let every = Duration::from_secs_f64(callers as f64 / per_second.max(1.0));
        let (times, begun) = (Times::default(), Instant::now());
        let mut running = tokio::task::JoinSet::new();
        for caller in 0..callers {
            let (load, items, times) = (self.clone(), Arc::clone(items), times.clone());
            running.spawn(async move {
                #[allow(clippy::cast_possible_truncation)] // some
                let mut due = begun + every * caller as u32 / callers as u32;
                while due < begun + span {
                    // Who is late catches up, and the wait counts: a timer's coarseness, up to 1 ms, is in it.
                    sleep_until(due.into()).await;
                    let item = caller % items.len();
                    load.one(caller, &items[item..=item]).await?;
                    times.add(due);
                    due += every;
                }
                Ok::<(), Report>(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|error| Report::new(exit::LOCAL, "a caller ended").why(error))??;
        }
        Ok(times)
    }

    /// Redeems these by one of the jobs, and sees that every one was released.
    async fn one(&self, job: usize, items: &[(Vec<u8>, Context)]) -> Result<u64, Report> {
        let presented = &self.presented[job % self.presented.len()];
        let asked: Vec<(&[u8], &Context)> = items
            .iter()
            .map(|(wrapped, context)| (wrapped.as_slice(), context))
            .collect();
        let verdicts = presented.redeem(&asked, &mut rng()).await;
        let verdicts = verdicts.map_err(|error| error.report())?;
        if let Some(refusal) = verdicts.iter().find_map(|verdict| verdict.as_ref().err()) {
            return Err(Report::refused("key server", *refusal, None));
        }
        let done = verdicts.len() as u64;
        self.released.fetch_add(done, Ordering::Relaxed);
        Ok(done)
    }
}

/// Bytes that must cross for one of these on average: wrap, context, DEK.
#[allow(clippy::cast_precision_loss)] // far below 2^52
pub(crate) fn least_bytes(items: &Items) -> f64 {
    let bytes: usize = items
        .iter()
        .map(|(wrapped, context)| wrapped.len() + context.to_cbor().len() + 32)
        .sum();
    bytes as f64 / items.len().max(1) as f64
}

fn contexts(name: &str, numbers: Range<usize>) -> Result<Vec<Context>, Report> {
    let contexts: Result<Vec<Context>, _> = numbers
        .map(|number| Context::named(&format!("s3://bench/{name}-{number:07}")))
        .collect();
    contexts.map_err(|error| Report::new(exit::LOCAL, "no context").why(error))
}
