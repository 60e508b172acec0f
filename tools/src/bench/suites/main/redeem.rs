//! `redeem_deks_per_s_batch_1` and `redeem_deks_per_s_batch_1000`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::redeem::Presented;
use ticket_format::Context;
use ticket_format::report::{Report, exit};
use transport::Connection;

use super::{address, issue};
use crate::drive::{Times, rate};
use crate::floor::{self, Act, Batch, Floor};
use crate::realm::{Realm, rng};
use crate::rows::Row;

/// DEKs that there are.
const DEKS: usize = 1_000;
/// The round number whose addresses these connections have.
const ADDRESSES: u32 = 61_000;

/// A wrapped DEK and its context.
type Item = (Vec<u8>, Context);

/// Jobs that redeem.
pub(crate) struct Bench {
    batch: usize,
    tasks: usize,
    items: Arc<Vec<Item>>,
    presented: Arc<Vec<Presented>>,
    floor: Arc<Floor>,
    floor_connections: Arc<Vec<Connection>>,
}

impl Bench {
    /// Presents tickets and has the DEKs made.
    pub(crate) async fn new(
        realm: &Arc<Realm>,
        issue: &issue::Bench,
        batch: usize,
        tasks: usize,
        connections: usize,
    ) -> Result<Self, Report> {
        let (one, other) = (Batch::new(batch)?, Batch::new(batch)?);
        let (request, answer, record) = one.sizes();
        let act = Act {
            request,
            answer,
            record,
            server: Box::new(move || one.serve()),
            caller: Box::new(move || other.call()),
        };
        let name = format!("floor-redeem-{batch}-{tasks}-{connections}");
        let floor = Floor::start(realm.servers.dir(), &name, act)?;
        let (mut presented, mut floor_connections) = (Vec::new(), Vec::new());
        for number in 0..connections {
            let socket = floor::socket(address(ADDRESSES, number))?;
            let (node, session) = issue.ticket(number, 100_000).await?;
            let link = realm.key_server(&socket).await?;
            presented.push(node.present(&session, &link).await?);
            floor_connections.push(floor.connect(&socket).await?);
        }
        let items = match presented.first() {
            Some(presented) => generate(presented).await?,
            None => Vec::new(),
        };
        Ok(Self {
            batch,
            tasks,
            items: Arc::new(items),
            presented: Arc::new(presented),
            floor,
            floor_connections: Arc::new(floor_connections),
        })
    }

    /// One round: the floor, then the redemptions, in DEKs in a second.
    pub(crate) async fn measure(&self, span: Duration, row: &mut Row) -> Result<(), Report> {
        let (floor, _) = self.floors(span).await?;
        let (value, _) = self.redemptions(span).await?;
        row.add(value, floor);
        Ok(())
    }

    /// One round: the floor, then the redemptions, in microseconds that half of them take at most.
    pub(crate) async fn measure_times(&self, span: Duration, row: &mut Row) -> Result<(), Report> {
        let (_, floor) = self.floors(span).await?;
        let (_, value) = self.redemptions(span).await?;
        row.add(1e3 * value.quantile(50), 1e3 * floor.quantile(50));
        Ok(())
    }

    /// One redemption by one of the callers.
    pub(crate) async fn one(&self, caller: usize) -> Result<(), Report> {
        let presented = &self.presented[caller % self.presented.len()];
        redeem(presented, &self.items[..self.batch]).await.map(drop)
    }

    async fn floors(&self, span: Duration) -> Result<(f64, Times), Report> {
        let batch = self.batch;
        let (floor, connections) = (Arc::clone(&self.floor), Arc::clone(&self.floor_connections));
        let times = Times::default();
        let told = times.clone();
        let operation = move |task: usize| {
            let (floor, connections) = (Arc::clone(&floor), Arc::clone(&connections));
            let told = told.clone();
            async move {
                let begun = Instant::now();
                floor.act(&connections[task % connections.len()]).await?;
                told.add(begun);
                Ok(Some(batch as u64))
            }
        };
        Ok((rate(self.tasks, span, operation).await?, times))
    }

    async fn redemptions(&self, span: Duration) -> Result<(f64, Times), Report> {
        let batch = self.batch;
        let (presented, items) = (Arc::clone(&self.presented), Arc::clone(&self.items));
        let next = Arc::new(AtomicUsize::new(0));
        let times = Times::default();
        let told = times.clone();
        let operation = move |task: usize| {
            let (presented, items) = (Arc::clone(&presented), Arc::clone(&items));
            let told = told.clone();
            let from = next.fetch_add(batch, Ordering::Relaxed) % (DEKS - batch + 1);
            async move {
                let presented = &presented[task % presented.len()];
                let begun = Instant::now();
                let done = redeem(presented, &items[from..from + batch]).await?;
                told.add(begun);
                Ok(Some(done))
            }
        };
        Ok((rate(self.tasks, span, operation).await?, times))
    }
}

/// Has the DEKs made, each for an object of its own.
async fn generate(presented: &Presented) -> Result<Vec<Item>, Report> {
    let name = |number| Context::named(&format!("s3://bench/object-{number:06}"));
    let contexts: Result<Vec<Context>, _> = (0..DEKS).map(name).collect();
    let contexts = contexts.map_err(|error| Report::new(exit::LOCAL, "no context").why(error))?;
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

/// Redeems these, and sees that every one was released.
async fn redeem(presented: &Presented, items: &[Item]) -> Result<u64, Report> {
    let asked: Vec<(&[u8], &Context)> = items
        .iter()
        .map(|(wrapped, context)| (wrapped.as_slice(), context))
        .collect();
    let verdicts = presented
        .redeem(&asked, &mut rng())
        .await
        .map_err(|error| error.report())?;
    let refused = verdicts.iter().find_map(|verdict| verdict.as_ref().err());
    match refused {
        None => Ok(verdicts.len() as u64),
        Some(refusal) => Err(Report::refused("key server", *refusal, None)),
    }
}
