//! Alarms: a record, a metric and a hook (EXP-4); and what a batch that is about to leave raises
//! (EXP-2, EXP-3).

use serde_json::json;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{KekId, NodeId};
use ticket_format::messages::feed::Report;
use ticket_format::statement::Canary;
use ticket_format::tlog::Checkpoint;

use super::Service;
use crate::batch::Decided;
use crate::refused::Refused;

impl Service {
    /// Tells of an entry that was recorded, or should have been, if it is an alarm. Never waits: a hook
    /// that is slow, or fails, delays no answer.
    pub(super) fn raised(&self, index: Option<u64>, entry: &Entry) {
        // rule: EXP-4
        let Some(alarm) = entry.alarm.filter(|_| entry.kind == Kind::Alarm) else {
            return;
        };
        self.metrics.alarm(alarm);
        let subject = entry.subject.as_deref();
        tracing::warn!(act = %entry.act, alarm = alarm.name(), subject, entry = index, "alarm");
        let line = json!({
            "v": 1,
            "event": "alarm",
            "server": "key-server",
            "realm": self.state.realm,
            "key": self.state.tls_key.to_string(),
            "alarm": alarm.name(),
            "entry": index,
            "act": entry.act.to_string(),
            "time": entry.time.to_string(),
            "subject": entry.subject,
            "launch": entry.launch.map(|launch| launch.to_string()),
            "dataset": entry.dataset.map(|dataset| dataset.to_string()),
            "kek": entry.kek.map(|kek| kek.to_string()),
            "ticket": entry.ticket.map(|ticket| ticket.to_string()),
            "follows": entry.follows.map(|act| act.to_string()),
            "count": entry.count,
            "epoch": entry.epoch,
            "source": entry.source,
            "signers": entry.signers,
            "log": entry.log.as_ref().map(checkpoint),
            "seen": entry.seen.as_ref().map(checkpoint),
        });
        self.hook.tell(line.to_string());
    }

    /// Raises what the release of a recorded batch must raise. A canary that denies the node does so
    /// here, before what follows checks the denials for the last time.
    pub(super) async fn raise(&self, decided: &Decided, recorded: &Entry) -> Result<(), Refused> {
        self.raise_canary(decided.canary(), recorded).await?;
        for kek in decided.awaiting() {
            self.raise_kek_use(*kek, recorded).await;
        }
        let released = match recorded.kind {
            Kind::Redeem | Kind::Generate => decided.count() as u64,
            _ => 0,
        };
        self.raise_burst(decided.first_over_budget(), released, recorded)
            .await;
        Ok(())
    }

    async fn raise_canary(&self, canary: Canary, recorded: &Entry) -> Result<(), Refused> {
        // rule: EXP-2
        let deny = match canary {
            Canary::No => return Ok(()),
            Canary::Alarm => false,
            Canary::Deny => true,
        };
        let alarm = self.about(Alarm::Canary, recorded);
        // One that denies is no flood: the node gets no further.
        if !deny && !self.counted.first_alarm(&alarm) {
            return Ok(());
        }
        // The node is denied here before anything is waited for.
        self.report_alarm(&alarm, deny).await;
        self.append(&alarm).await?;
        Ok(())
    }

    /// A version is about to be destroyed, and somebody needs it.
    async fn raise_kek_use(&self, kek: KekId, recorded: &Entry) {
        // rule: KEK-4
        let mut alarm = self.about(Alarm::KekUse, recorded);
        alarm.kek = Some(kek);
        if !self.counted.first_alarm(&alarm) {
            return;
        }
        match self.append(&alarm).await {
            Ok(_) => self.report_alarm(&alarm, false).await,
            Err(error) => tracing::error!(%error, "an alarm could not be recorded"),
        }
    }

    async fn raise_burst(&self, over_budget: bool, released: u64, recorded: &Entry) {
        // rule: EXP-3
        let node = recorded.subject.as_deref().unwrap_or_default();
        let burst = match recorded.dataset {
            Some(dataset) if released > 0 => {
                self.habits.count(node, dataset, released, recorded.time)
            }
            _ => None,
        };
        if !over_budget && burst.is_none() {
            return;
        }
        let mut alarm = self.about(Alarm::Burst, recorded);
        alarm.count = burst;
        if !self.counted.first_alarm(&alarm) {
            return;
        }
        match self.append(&alarm).await {
            Ok(_) => self.report_alarm(&alarm, false).await,
            Err(error) => tracing::error!(%error, "an alarm could not be recorded"),
        }
    }

    /// The broker signed a ticket that the evidence beside it does not bear out, or somebody brings
    /// evidence that is none. The broker is told too: where it lies, that is no news to it.
    pub(super) async fn raise_evidence(&self, refused: &Entry) {
        // rule: EVD-1
        let mut alarm = self.about(Alarm::Evidence, refused);
        // Of the refusal only the first in a minute is listed, so that there may be nothing to follow.
        alarm.follows = None;
        alarm.evidence = refused.evidence;
        if !self.counted.first_alarm(&alarm) {
            return;
        }
        match self.append(&alarm).await {
            Ok(_) => self.report_alarm(&alarm, false).await,
            Err(error) => tracing::error!(%error, "an alarm could not be recorded"),
        }
    }

    /// A ticket that the broker's key signed came without proof that its issue was recorded: that key may
    /// be in other hands.
    pub(super) async fn raise_unlogged(&self, refused: &Entry) {
        // rule: PRE-5
        let mut alarm = self.about(Alarm::UnloggedTicket, refused);
        alarm.follows = None;
        if !self.counted.first_alarm(&alarm) {
            return;
        }
        if let Err(error) = self.append(&alarm).await {
            tracing::error!(%error, "an alarm could not be recorded");
        }
    }

    /// An alarm about what an entry records.
    fn about(&self, alarm: Alarm, recorded: &Entry) -> Entry {
        let mut entry = Entry::alarm(self.act(), alarm, recorded.time).follows(recorded.act);
        entry.subject.clone_from(&recorded.subject);
        entry.source.clone_from(&recorded.source);
        (entry.dataset, entry.ticket, entry.ticket_hash) =
            (recorded.dataset, recorded.ticket, recorded.ticket_hash);
        (entry.launch, entry.epoch) = (recorded.launch, recorded.epoch);
        entry
    }

    /// Tells the broker of an alarm, and denies the node here where that is wanted (DEN-11).
    pub(super) async fn report_alarm(&self, alarm: &Entry, deny: bool) {
        let (Some(kind), Some(node), Some(dataset)) = (alarm.alarm, node_of(alarm), alarm.dataset)
        else {
            return;
        };
        let report = Report {
            act: alarm.act,
            alarm: kind,
            node,
            dataset,
            time: alarm.time,
            deny,
        };
        self.report(report).await;
    }
}

/// A checkpoint for people and programs: shard, size, root in hexadecimal.
fn checkpoint(checkpoint: &Checkpoint) -> serde_json::Value {
    let root = checkpoint.root.iter().map(|byte| format!("{byte:02x}"));
    json!({
        "shard": checkpoint.shard.to_string(),
        "size": checkpoint.size,
        "root": root.collect::<String>(),
    })
}

fn node_of(entry: &Entry) -> Option<NodeId> {
    entry.subject.as_deref()?.parse().ok()
}
