//! What the agent holds: the node's ticket, each job's dataset tickets with session keys of their own, and
//! the DEKs that came by them (`spec/agent.md`, section 2).
//!
//! DEKs that are kept are in locked pages. Everything else that is secret is erased on drop, and in a process
//! that is not dumped (`store::harden`).

mod batch;
mod cache;
mod clock;
mod job;
mod node;
mod status;
mod ticket;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub use cache::Counts;
pub use clock::Clock;
pub use job::{JobHeld, JobSpec};
pub use node::NodeTicket;
pub use status::{DatasetStatus, JobStatus, Status, TicketStatus};

use crate::error::Error;
use crate::lock::Lock;
use crate::logs::Logs;
use crate::state::NodeState;
use crate::wallet::WalletFile;
use cache::Cache;
use node::Node;

/// How long the broker is tried to be told of a wipe.
const TELL: Duration = Duration::from_secs(30);
/// How often DEKs whose age is over are erased.
const SWEEP: Duration = Duration::from_secs(1);
/// More jobs than this are held only while somebody uses them.
const JOBS: usize = 1_024;

/// How the agent holds things.
#[derive(Clone, Debug)]
pub struct HeldOptions {
    /// Where the node ticket is kept between runs: read at the start, and replaced with each renewal.
    pub wallet: Option<WalletFile>,
    /// How long a DEK is kept; zero keeps none.
    pub cache_age: Duration,
    /// How many DEKs are kept.
    pub cache_count: usize,
    /// How long different wraps are gathered for one request.
    pub batch_window: Duration,
    /// How long one exchange with a key server is tried again.
    pub patience: Duration,
    /// What time it is.
    pub clock: Clock,
}

/// The numbers of `spec/agent.md`.
impl Default for HeldOptions {
    fn default() -> Self {
        Self {
            wallet: None,
            cache_age: Duration::from_secs(300),
            cache_count: 10_000,
            batch_window: Duration::from_millis(2),
            patience: Duration::from_secs(10),
            clock: Clock::default(),
        }
    }
}

/// What all jobs share.
#[derive(Debug)]
struct Shared {
    node: Node,
    cache: Cache,
    options: HeldOptions,
    /// Everything that runs beside the requests; none once the agent has ended.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Shared {
    fn clock(&self) -> &Clock {
        self.node.clock()
    }

    /// Runs something to its end, or to the agent's; then there is no answer.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                // One who waits no more has gone.
                let _ = sender.send(work.await);
            });
        }
        async move { receiver.await.ok() }
    }
}

/// What the agent holds.
#[derive(Debug)]
pub struct Held {
    shared: Arc<Shared>,
    jobs: Arc<Jobs>,
    _lock: Lock,
}

type JobKey = (String, u32, Option<String>);

#[derive(Debug, Default)]
struct Jobs(Mutex<HashMap<JobKey, Arc<JobHeld>>>);

impl Jobs {
    fn all(&self) -> Vec<Arc<JobHeld>> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.values().cloned().collect()
    }
}

impl Held {
    /// Takes over a node's state for as long as this lives. To be called in a runtime.
    ///
    /// # Errors
    /// Another process works on the state; there is none, or it cannot be used.
    pub fn start(state_dir: &Path, logs: Logs, options: HeldOptions) -> Result<Arc<Self>, Error> {
        // rule: AGT-4
        let lock = NodeState::lock(state_dir)?;
        let state = NodeState::load(state_dir)?;
        let state = state.ok_or(Error::NoTicket("this node has never logged in"))?;
        let (wallet, clock) = (options.wallet.clone(), options.clock.clone());
        let node = Node::new(state_dir.to_owned(), state, wallet, logs, clock);
        let shared = Arc::new(Shared {
            node,
            cache: Cache::new(options.cache_age, options.cache_count),
            options,
            tasks: Mutex::new(Some(JoinSet::new())),
        });
        let jobs = Arc::new(Jobs::default());
        drop(shared.spawn(keep_node(Arc::clone(&shared), Arc::clone(&jobs))));
        drop(shared.spawn(sweep(Arc::clone(&shared))));
        Ok(Arc::new(Self {
            shared,
            jobs,
            _lock: lock,
        }))
    }

    /// What is held for a job; the same for the same job.
    #[must_use]
    pub fn job(&self, spec: JobSpec) -> Arc<JobHeld> {
        let key = (spec.name.clone(), spec.uid, spec.unit.clone());
        let jobs = &self.jobs.0;
        let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        // rule: AGT-3
        if let Some(job) = jobs.get(&key).filter(|job| *job.spec() == spec) {
            return Arc::clone(job);
        }
        if jobs.len() >= JOBS {
            jobs.retain(|_, job| Arc::strong_count(job) > 1);
        }
        let job = Arc::new(JobHeld::new(spec, &self.shared));
        jobs.insert(key, Arc::clone(&job));
        job
    }

    /// What is held, without secrets.
    #[must_use]
    pub fn status(&self) -> Status {
        status::of(&self.shared, self.jobs.all())
    }

    /// Erases everything; afterwards nobody is given anything.
    pub async fn end(&self) {
        let tasks = &self.shared.tasks;
        let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        let jobs = self.jobs.all();
        let lanes = jobs.iter().flat_map(|job| job.lanes());
        join_all(lanes.map(|lane| lane.end())).await;
        self.shared.node.forget().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let tasks = &self.shared.tasks;
        let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(tasks);
        // Whoever still has a job of it is given nothing more.
        self.shared.node.end();
        self.shared.cache.clear();
        let mut jobs = self.jobs.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.clear();
    }
}

/// Renews the node ticket, and watches it.
async fn keep_node(shared: Arc<Shared>, jobs: Arc<Jobs>) {
    loop {
        let Some(watched) = shared.node.watched().await else {
            shared.node.renewed().await;
            continue;
        };
        let denied = tokio::select! {
            denied = job::heard(&watched, &shared) => denied,
            () = shared.node.renewed() => continue,
        };
        // rule: AGT-6
        let reason = denied.reason.as_deref();
        shared.node.deny(reason);
        let jobs = jobs.all();
        let lanes = jobs.iter().flat_map(|job| job.lanes());
        let (erased, _) = tokio::join!(
            shared.node.erase(),
            join_all(lanes.map(|lane| lane.erase()))
        );
        tracing::warn!(reason, erased, "the node was denied");
        let told = watched.wipe(&denied, erased, shared.clock().now(), TELL);
        match told.await {
            Ok(logged) => tracing::info!(entry = logged.index, "the wipe is recorded"),
            Err(error) => tracing::warn!(%error, "the wipe was not told"),
        }
    }
}

/// Erases DEKs whose age is over.
async fn sweep(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        shared.cache.sweep(tokio::time::Instant::now());
    }
}
