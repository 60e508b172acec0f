//! Receipts under checkpoints that witnesses cosigned.

use std::time::Duration;

use ticket_format::tlog::WitnessPolicy;

use super::hub::Unwitnessed;
use super::source;
use crate::AuditLog;

impl AuditLog {
    /// Waits until a checkpoint that covers the entry carries cosignatures that satisfy the policy, and
    /// gives the entry's proof (C2SP tlog-proof) under it. While anybody waits here the log's
    /// [`Submitter`](super::Submitter) submits every 150 ms.
    ///
    /// # Errors
    /// [`Unwitnessed`]: it did not come to that in time, or never can.
    // rule: TLOG-8
    pub async fn witnessed(
        &self,
        index: u64,
        policy: &WitnessPolicy,
        timeout: Duration,
    ) -> Result<String, Unwitnessed> {
        let unproven = |reason: String| Unwitnessed::Unproven { index, reason };
        let Some(place) = source::place(self, index) else {
            return Err(unproven("it is not in the log".to_owned()));
        };
        let newest = self.checkpoint_of(place.shard);
        let note = match newest.filter(|_| policy.needs_none()) {
            Some(newest) => newest,
            None => source::hub(self).satisfied(place, policy, timeout).await?,
        };
        let log = self.clone();
        let proved = tokio::task::spawn_blocking(move || {
            log.prove_under(index, &note)
                .map_err(|error| error.to_string())
        });
        let proved = proved.await.unwrap_or_else(|error| Err(error.to_string()));
        proved.map_err(unproven)
    }
}
