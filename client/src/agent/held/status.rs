//! What is held, as `postern status` shows it: no secrets.

use std::sync::Arc;

use ticket_format::ids::{DatasetId, NodeId, TicketId};
use ticket_format::time::Timestamp;

use super::cache::Counts;
use super::job::{JobHeld, Lane};
use super::{NodeTicket, Shared};

/// What the agent holds.
#[derive(Clone, Debug)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// Its ticket.
    pub ticket: NodeTicket,
    /// What the cache of all jobs has seen.
    pub cache: Counts,
    /// The jobs, by name and user.
    pub jobs: Vec<JobStatus>,
}

/// What is held of one job.
#[derive(Clone, Debug)]
pub struct JobStatus {
    /// The table's name.
    pub name: String,
    /// The user.
    pub uid: u32,
    /// The unit, where the table names one.
    pub unit: Option<String>,
    /// The datasets of its table, in its order.
    pub datasets: Vec<DatasetStatus>,
}

/// A job's ticket to one dataset.
#[derive(Clone, Debug)]
pub struct DatasetStatus {
    /// As the table has it.
    pub name: String,
    /// The ticket, where there is a live one.
    pub ticket: Option<TicketStatus>,
}

/// A live ticket.
#[derive(Clone, Debug)]
pub struct TicketStatus {
    /// Which.
    pub id: TicketId,
    /// The dataset.
    pub dataset: DatasetId,
    /// From when on.
    pub issued: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// Most distinct DEKs.
    pub budget: u64,
    /// How many data keys came by it so far, those that came again counted again.
    pub released: u64,
}

pub(super) fn of(shared: &Shared, jobs: Vec<Arc<JobHeld>>) -> Status {
    let mut jobs: Vec<JobStatus> = jobs.iter().map(|job| job_status(job)).collect();
    jobs.sort_by(|a, b| (&a.name, a.uid, &a.unit).cmp(&(&b.name, b.uid, &b.unit)));
    Status {
        node: shared.node.id().clone(),
        ticket: shared.node.ticket(),
        cache: shared.cache.counts(),
        jobs,
    }
}

fn job_status(job: &JobHeld) -> JobStatus {
    let spec = job.spec();
    JobStatus {
        name: spec.name.clone(),
        uid: spec.uid,
        unit: spec.unit.clone(),
        datasets: job.lanes().iter().map(|lane| dataset(lane)).collect(),
    }
}

fn dataset(lane: &Lane) -> DatasetStatus {
    let ticket = lane.live().map(|ticket| {
        let claims = &ticket.opened().claims;
        TicketStatus {
            id: claims.common.id,
            dataset: claims.dataset,
            issued: ticket.issued(),
            expires: ticket.expires(),
            budget: claims.budget,
            released: ticket.released(),
        }
    });
    DatasetStatus {
        name: lane.name().to_owned(),
        ticket,
    }
}
