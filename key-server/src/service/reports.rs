//! Alarms that the broker is told of, and the nodes that this server denies by itself meanwhile (DEN-11).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use store::{Error, Transaction};
use ticket_format::cbor::Encode;
use ticket_format::ids::{ActId, NodeId};
use ticket_format::limits;
use ticket_format::messages::feed::Report;
use tokio::sync::Notify;

use super::Service;
use crate::records;

/// Most reports that wait for the broker; one that denies a node is kept beyond.
const WAITING: usize = 1_024;

/// Reports that the broker has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Reports {
    waiting: Mutex<BTreeMap<ActId, Report>>,
    news: Notify,
}

impl Reports {
    /// Those that were persisted.
    pub(super) fn new(waiting: impl IntoIterator<Item = Report>) -> Self {
        let waiting = waiting.into_iter().map(|report| (report.act, report));
        Self {
            waiting: Mutex::new(waiting.collect()),
            news: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ActId, Report>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As many as one request takes; first those that are to deny a node.
    pub(super) fn waiting(&self) -> Vec<Report> {
        let waiting = self.lock();
        let (deny, others): (Vec<_>, Vec<_>) = waiting.values().partition(|report| report.deny);
        let first = deny.into_iter().chain(others).take(limits::REPORTS);
        first.cloned().collect()
    }

    /// Whether it waits now; not when there are too many.
    fn add(&self, report: &Report) -> bool {
        let mut waiting = self.lock();
        if !report.deny && waiting.len() >= WAITING {
            return false;
        }
        waiting.insert(report.act, report.clone());
        drop(waiting);
        self.news.notify_one();
        true
    }
}

impl Service {
    /// Denies a node here at once, before this waits for anything, until the broker's own denial has come.
    ///
    /// # Errors
    /// The store's: the node is denied all the same, but a restart would forget it.
    pub async fn deny_here(&self, node: &NodeId) -> Result<(), Error> {
        // rule: DEN-11
        if self.state.gate.deny(node) {
            tracing::warn!(%node, "the node is denied here until the broker denies it");
        }
        let commit = Transaction::new().put(records::denied_here(node), self.clock.now().to_cbor());
        self.store.commit(commit).await.map(drop)
    }

    /// Tells the broker of an alarm, as soon as it can be heard, and again until it has taken it, also
    /// after a restart. A report that denies its node denies it here too, as [`Service::deny_here`] does.
    pub async fn report(&self, report: Report) {
        // rule: DEN-11
        if report.deny {
            self.state.gate.deny(&report.node);
        }
        if !self.reports.add(&report) {
            tracing::error!(act = %report.act, "too many alarms wait for the broker: this one stands in the log here only");
            return;
        }
        let mut commit = Transaction::new().put(records::report(report.act), report.to_cbor());
        if report.deny {
            commit = commit.put(records::denied_here(&report.node), report.time.to_cbor());
        }
        if let Err(error) = self.store.commit(commit).await {
            tracing::error!(act = %report.act, %error, "the broker is told of an alarm, but a restart would forget to");
        }
    }

    /// The version of the admin set in force here.
    #[must_use]
    pub fn admin_set(&self) -> u64 {
        self.state.admins.current().version()
    }

    /// Completes when there is something new to tell the broker.
    pub async fn something_to_tell(&self) {
        self.reports.news.notified().await;
    }

    /// The broker has taken these reports.
    ///
    /// # Errors
    /// The store's: it is told of them again after a restart, and takes them once only.
    pub async fn told(&self, taken: &[Report]) -> Result<(), Error> {
        if taken.is_empty() {
            return Ok(());
        }
        let commit = taken.iter().fold(Transaction::new(), |all, report| {
            all.delete(records::report(report.act))
        });
        self.store.commit(commit).await?;
        let mut waiting = self.reports.lock();
        for report in taken {
            waiting.remove(&report.act);
        }
        let more = !waiting.is_empty();
        drop(waiting);
        if more {
            self.reports.news.notify_one();
        }
        Ok(())
    }
}
