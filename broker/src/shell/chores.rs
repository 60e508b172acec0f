//! What a broker does between requests.

use ticket_format::cbor::Decode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::time::Timestamp;

use super::service::Broker;
use crate::Refused;
use crate::feed::Chain;
use crate::state::{UsedStatement, keys};

impl Broker {
    /// Removes from the outbox what stands in the log. To be called every second or so.
    pub async fn sweep(&self) {
        if let Err(error) = self.audit.sweep(&self.directory).await {
            tracing::warn!(why = %error.why, "the outbox could not be swept");
        }
        self.look_at_witnesses().await;
        if !self.oversight.is_good() {
            return;
        }
        if let Err(error) = self.turn_ticket_keys().await {
            tracing::error!(why = %error.why, "the ticket keys could not be turned");
        }
        if let Err(error) = self.notice_silence().await {
            tracing::error!(why = %error.why, "an alarm could not be recorded");
        }
    }

    /// What is to be done once a minute: persist the time, list counted refusals, forget what is over.
    ///
    /// # Errors
    /// The first thing that could not be done; the next minute tries again.
    pub async fn tick(&self) -> Result<(), Refused> {
        let now = self.time.now()?;
        // rule: TIM-1
        self.directory.keep_time(self.time.latest()).await?;
        if !self.oversight.is_good() {
            // rule: TLOG-10 — what was counted is listed when the log goes on.
            return Ok(());
        }
        for (source, refusal, count) in self.strangers.take() {
            // rule: AUD-1
            let entry = Entry::new(ActId::random(&mut self.rng()), Kind::RefusalsCounted, now)
                .refused(refusal)
                .count(count);
            let source = source.map_or_else(|| "others".to_owned(), |source| source.to_string());
            self.audit.append(&entry.source(source)).await?;
        }
        for (subject, refusal, count) in self.repetitions.take() {
            // rule: AUD-1
            let entry = Entry::new(ActId::random(&mut self.rng()), Kind::RefusalsCounted, now)
                .refused(refusal)
                .count(count)
                .subject(subject.as_deref().unwrap_or("others"));
            self.audit.append(&entry).await?;
        }
        self.replays.forget();
        self.audit.sweep(&self.directory).await?;
        self.audit.drain_all(&self.directory).await?;
        self.forget_denials(now).await?;
        self.tidy_proposals(now).await?;
        self.forget_statements(now).await?;
        self.budgets.prune(now);
        self.rates.prune();
        self.show_state();
        Ok(())
    }

    /// Forgets used statement ids whose statements have expired (ADM-2), also for a clock that is set back
    /// within the skew (TIM-1).
    async fn forget_statements(&self, now: Timestamp) -> Result<(), Refused> {
        let (mut after, mut more) = (None::<String>, true);
        while more {
            let (rows, next) = self
                .directory
                .page(keys::STATEMENTS, after.as_deref(), 1_000)
                .await?;
            let over = |value: &[u8]| {
                UsedStatement::from_cbor(value, 256)
                    .is_ok_and(|used| used.expires.plus(limits::SKEW) <= now)
            };
            let gone: Vec<String> = rows
                .iter()
                .filter(|(_, value)| over(value))
                .map(|(key, _)| key.clone())
                .collect();
            self.directory.remove(&gone).await?;
            after = rows
                .last()
                .map(|(key, _)| key.trim_start_matches(keys::STATEMENTS).to_owned());
            more = next && after.is_some();
        }
        Ok(())
    }

    pub(crate) fn show_state(&self) {
        self.metrics
            .admin_set(self.realm.admins.current().version());
        self.metrics
            .told(self.audit.alarms().counts(), self.audit.side().lost());
        self.metrics
            .state(self.denials.count(), self.denials.head().epoch);
        self.show_log();
    }
}
