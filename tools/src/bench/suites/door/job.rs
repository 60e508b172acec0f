//! One node with its agent, and the door of one job.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::agent::held::{Held, HeldOptions, JobHeld, JobSpec};
use client::door::{Door, Doorway, JobKeys as _, Places};
use client::logs::Logs;
use client::state::NodeState;
use client::wallet::{Wallet, WalletFile};
use ticket_format::Context;
use ticket_format::report::Report;
use ticket_format::ticket::{Action, Actions};
use zeroize::Zeroizing;

use super::failed;
use crate::realm::{DATASET, Realm, rng};

/// As long as the key server may take to hear of a dataset that the broker was just told of.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node that has logged in; no agent runs.
pub(super) struct Node {
    dir: PathBuf,
    wallet: WalletFile,
    _realm: Arc<Realm>,
}

/// An agent, and a job with an open door.
pub(super) struct Job {
    held: Arc<Held>,
    door: Door,
    url: Zeroizing<String>,
}

impl Node {
    pub(super) async fn new(realm: &Arc<Realm>) -> Result<Self, Report> {
        let bootstrap = realm.launch().await?;
        let mut booted = realm.boot(&bootstrap, 1).await?;
        let newcomer = booted.pop().ok_or_else(|| failed("no node was booted"))?;
        let dir = newcomer.dir.clone();
        let link = realm.admin_link(&realm.servers.broker).await?;
        let node = newcomer.login(&link).await?;
        link.close().await;
        let state = NodeState::load(&dir).map_err(|error| error.report())?;
        let state = state.ok_or_else(|| failed("the node has no state"))?;
        let wallet = WalletFile::from_spec(&dir.join("wallet").display().to_string());
        let wallet = wallet.map_err(failed)?;
        let kept = Wallet {
            node: Some(node.session),
            datasets: Vec::new(),
        };
        let saved = wallet
            .lock()
            .and_then(|lock| wallet.save(&lock, &kept, &state.wallet_key, &mut rng()));
        saved.map_err(|error| error.report())?;
        Ok(Self {
            dir,
            wallet,
            _realm: Arc::clone(realm),
        })
    }

    /// An agent that holds nothing but the node's ticket, with a door for this process.
    pub(super) async fn start(&self) -> Result<Job, Report> {
        let options = HeldOptions {
            wallet: Some(self.wallet.clone()),
            ..HeldOptions::default()
        };
        let held = Held::start(&self.dir, Logs::of_state(&self.dir), options);
        let held = held.map_err(|error| error.report())?;
        let job = held.job(spec()?);
        ready(&job).await?;
        let uid = rustix::process::geteuid().as_raw();
        let doorway = Doorway::make().map_err(failed)?;
        let url = doorway.url();
        let door = Door::open(doorway, job, uid, &Places::default()).map_err(failed)?;
        Ok(Job { held, door, url })
    }
}

/// Has the job's ticket issued.
async fn ready(job: &JobHeld) -> Result<(), Report> {
    let begun = Instant::now();
    loop {
        match job.datasets().await {
            Ok(datasets) if !datasets.is_empty() => return Ok(()),
            Ok(_) if begun.elapsed() > PATIENCE => return Err(failed("there is no ticket")),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.report()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

impl Job {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Redeem requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.held.status().cache.requests
    }

    pub(super) async fn end(self) {
        drop(self.door);
        self.held.end().await;
    }
}

fn spec() -> Result<JobSpec, Report> {
    let actions = Actions::new(&[Action::Decrypt, Action::Encrypt]);
    Ok(JobSpec {
        name: "bench".to_owned(),
        uid: rustix::process::geteuid().as_raw(),
        unit: None,
        datasets: vec![DATASET.to_owned()],
        actions: actions.ok_or_else(|| failed("no action"))?,
        require: Context::default(),
        budget: 100_000,
        life: 3_600,
    })
}
