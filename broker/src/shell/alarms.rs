//! Alarms and proposals are told to people: a log line, a metric, a hook (EXP-4, PRO-3).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use store::hooks::{Hook, HookCounts, HookError, HookLimits, HooksConfig};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::statement::{Audience, ProposalRow};
use ticket_format::tlog::Checkpoint;

use super::metrics::Metrics;

/// The operator's programs that are told.
#[derive(Clone)]
pub struct Hooks {
    /// Of alarms.
    pub alarm: Hook,
    /// Of proposals that wait for signatures.
    pub proposal: Hook,
}

impl Default for Hooks {
    /// None.
    fn default() -> Self {
        Self {
            alarm: Hook::none(),
            proposal: Hook::none(),
        }
    }
}

impl Hooks {
    /// The hooks of a configuration. Inside a runtime.
    ///
    /// # Errors
    /// [`HookError`].
    pub fn new(config: &HooksConfig) -> Result<Self, HookError> {
        let limits = HookLimits::default();
        Ok(Self {
            alarm: Hook::new(config.alarm.clone(), limits)?,
            proposal: Hook::new(config.proposal.clone(), limits)?,
        })
    }
}

/// How many alarms are remembered: the outbox may hand one over again a moment later.
const REMEMBERED: usize = 1_024;

/// Tells. Never waits: a hook that is slow delays nothing.
pub(crate) struct Alarms {
    realm: String,
    metrics: Metrics,
    hooks: Hooks,
    told: Mutex<VecDeque<ActId>>,
}

impl Alarms {
    pub(crate) fn new(realm: String, metrics: Metrics, hooks: Hooks) -> Self {
        Self {
            realm,
            metrics,
            hooks,
            told: Mutex::default(),
        }
    }

    /// Whether this act was not told of yet.
    fn first(&self, act: ActId) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&act) {
            return false;
        }
        if told.len() == REMEMBERED {
            told.pop_front();
        }
        told.push_back(act);
        true
    }

    /// Tells of an entry that stands in the log now, if it is an alarm.
    pub(crate) fn recorded(&self, index: u64, entry: &Entry) {
        self.tell(Some(index), entry);
    }

    /// Tells of an alarm that cannot be recorded yet: the log itself is what is wrong (TLOG-10).
    pub(crate) fn unrecorded(&self, entry: &Entry) {
        self.tell(None, entry);
    }

    fn tell(&self, index: Option<u64>, entry: &Entry) {
        // rule: EXP-4
        let Some(alarm) = entry.alarm.filter(|_| entry.kind == Kind::Alarm) else {
            return;
        };
        if !self.first(entry.act) {
            return;
        }
        self.metrics.alarm(alarm);
        let subject = entry.subject.as_deref();
        tracing::warn!(act = %entry.act, %alarm, subject, entry = index, "alarm");
        let checkpoint = |checkpoint: &Option<Checkpoint>| {
            checkpoint.as_ref().map(|checkpoint| {
                let root: String = checkpoint.root.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "shard": checkpoint.shard.to_string(), "size": checkpoint.size, "root": root })
            })
        };
        let line = json!({
            "v": 1,
            "event": "alarm",
            "server": "broker",
            "realm": self.realm,
            "alarm": alarm.name(),
            "entry": index,
            "act": entry.act.to_string(),
            "time": entry.time.to_string(),
            "subject": entry.subject,
            "launch": entry.launch.map(|launch| launch.to_string()),
            "dataset": entry.dataset.map(|dataset| dataset.to_string()),
            "ticket": entry.ticket.map(|ticket| ticket.to_string()),
            "follows": entry.follows.map(|act| act.to_string()),
            "source": entry.source,
            "signers": entry.signers,
            "log": checkpoint(&entry.log),
            "seen": checkpoint(&entry.seen),
        });
        self.hooks.alarm.tell(line.to_string());
    }

    /// Tells of a proposal that waits for signatures.
    pub(crate) fn proposed(&self, row: &ProposalRow) {
        // rule: PRO-3
        let audience = match row.audience {
            Audience::Server(key) => key.to_string(),
            Audience::Everyone => "everyone".to_owned(),
        };
        let line = json!({
            "v": 1,
            "event": "proposal",
            "server": "broker",
            "realm": self.realm,
            "id": row.id.to_string(),
            "act": row.act.name(),
            "audience": audience,
            "signers": row.signers,
            "have": row.counting,
            "need": row.needed,
            "until": row.until.to_string(),
        });
        self.hooks.proposal.tell(line.to_string());
    }

    /// What became of the lines, by hook.
    pub(crate) fn counts(&self) -> [(&'static str, HookCounts); 2] {
        [
            ("alarm", self.hooks.alarm.counts()),
            ("proposal", self.hooks.proposal.counts()),
        ]
    }

    /// Ends the programs that still run.
    pub(crate) async fn close(&self) {
        self.hooks.alarm.shutdown().await;
        self.hooks.proposal.shutdown().await;
    }
}
