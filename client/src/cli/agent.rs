//! `agent`: the node's agent, until it is terminated.

use std::io;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use ticket_format::report::{Report, exit};
use tokio::signal::unix::{SignalKind, signal};

use super::app::{App, Ended, talk};
use super::args::Agent;
use super::settings::Setting;
use crate::agent::held::{Held, HeldOptions, JobHeld, JobSpec, JobStatus};
use crate::agent::rules::Rules;
use crate::agent::socket::{Doors, Jobs, Limits, Server, Socket};
use crate::door::{Door, Doorway, JobKeys, Places};

/// The system's list of users.
const USERS: &str = "/etc/passwd";

/// `postern agent`.
pub async fn agent(app: &App, args: &Agent) -> Ended {
    // rule: AGT-4
    store::harden::process();
    raise_descriptors();
    let rules = Rules::read(&args.rules, USERS.as_ref()).map_err(|error| error.report())?;
    let cannot = |error| Report::new(exit::LOCAL, "cannot watch for signals").why(error);
    let mut terminated = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(cannot)?;
    let options = rules.bounded(HeldOptions {
        wallet: Some(app.wallet_file()?),
        ..HeldOptions::default()
    });
    let held = Held::start(&app.state_dir()?, app.logs()?.clone(), options)?;
    let path = app.settings.effective(Setting::Agent);
    let missing = || Report::new(exit::CONFIG, "no place for the socket is known");
    let path = path
        .ok_or_else(|| missing().next("say --agent PATH"))?
        .value;
    let failed = |error| {
        Report::new(exit::LOCAL, format!("cannot listen at {path}"))
            .why(error)
            .next("see whether another agent runs, and whether its directory can be written")
    };
    let socket = Socket::bind(path.as_ref()).await.map_err(failed)?;
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    talk(format!("the agent listens at {path}"));
    let server = Server::new(
        rules,
        Node(Arc::clone(&held)),
        Kms::default(),
        Limits::default(),
    );
    let ended = tokio::select! {
        served = server.serve(&socket) => served.map(|()| exit::DONE).map_err(failed),
        _ = terminated.recv() => Ok(exit::DONE),
        _ = interrupted.recv() => Ok(exit::DONE),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    drop(socket);
    held.end().await;
    ended
}

/// Every caller and every connection to a door takes a descriptor: as many are had as may be.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// What the node holds.
struct Node(Arc<Held>);

impl Jobs for Node {
    type Keys = JobHeld;

    fn job(&self, spec: JobSpec) -> Arc<JobHeld> {
        self.0.job(spec)
    }

    fn status(&self, of: Option<&JobSpec>) -> String {
        let held = self.0.status();
        let is = |job: &&JobStatus| {
            of.is_none_or(|of| (&of.name, of.uid, &of.unit) == (&job.name, job.uid, &job.unit))
        };
        let jobs: Vec<Value> = held.jobs.iter().filter(is).map(job).collect();
        let mut object = json!({ "node": held.node.to_string(), "jobs": jobs });
        // rule: AGT-10
        if of.is_none() {
            object["node_ticket"] = json!({
                "expires": held.ticket.expires.to_string(),
                "denied": held.ticket.denied,
            });
            object["cache"] = json!({
                "kept": held.cache.kept,
                "hits": held.cache.hits,
                "misses": held.cache.misses,
                "evictions": held.cache.evictions,
                "refreshes": held.cache.refreshes,
                "requests": held.cache.requests,
            });
        }
        object.to_string()
    }
}

fn job(job: &JobStatus) -> Value {
    let datasets = job.datasets.iter().map(|dataset| {
        let ticket = dataset.ticket.as_ref().map(|ticket| {
            json!({
                "id": ticket.id.to_string(),
                "dataset": ticket.dataset.to_string(),
                "expires": ticket.expires.to_string(),
                "budget": ticket.budget,
                "released": ticket.released,
            })
        });
        json!({ "name": dataset.name, "ticket": ticket })
    });
    json!({
        "name": job.name,
        "uid": job.uid,
        "unit": job.unit,
        "datasets": datasets.collect::<Vec<_>>(),
    })
}

/// Doors that speak AWS KMS.
#[derive(Default)]
struct Kms(Places);

impl Doors for Kms {
    type Door = Door;

    fn open<K: JobKeys>(&self, doorway: Doorway, keys: Arc<K>, uid: u32) -> io::Result<Door> {
        Door::open(doorway, keys, uid, &self.0)
    }
}
