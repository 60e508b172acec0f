//! Denials as they reach this server: persisted, applied, waited out, acknowledged (DEN-5).

use std::time::Duration;

use store::{Error, Outcome, Transaction};
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Denial, DenialSet};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::limits;
use ticket_format::messages::feed::DENIAL;
use ticket_format::time::Timestamp;

use super::Service;
use crate::feed::{Asked, FeedFault, News};
use crate::records::{self, FeedHead};
use crate::refused::Refused;

/// Writes in one transaction, with room for the head and the outbox.
const WRITES: usize = 100;

/// Why news could not be applied. What was applied before stays in force, and the lease runs out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store.
    #[error("denials could not be persisted: {0}")]
    Store(#[from] Error),
    /// More than can be held.
    #[error(transparent)]
    TooMany(#[from] ticket_format::denial::TooMany),
    /// The record.
    #[error("the denials are in force, but could not be recorded: {0}")]
    Record(Refused),
}

impl Service {
    /// What the next feed request acknowledges.
    #[must_use]
    pub fn ask(&self) -> Asked {
        let mut nonce = [0; 32];
        rand_core::Rng::fill_bytes(&mut super::rng(), &mut nonce);
        let permit = self.state.gate.permit();
        Asked {
            nonce,
            epoch: permit.epoch().number(),
            chain: permit.epoch().chain(),
        }
    }

    /// Applies a good answer to the request sent at `sent` (monotonic). Returns when no answer decided
    /// under an older epoch can still leave, so that the next request may acknowledge this one.
    ///
    /// # Errors
    /// [`ApplyError`]: nothing must be acknowledged.
    pub async fn apply(&self, news: News, sent: Duration) -> Result<(), ApplyError> {
        let applied = self.state.gate.permit().epoch().number();
        if news.epoch == applied && news.denials.is_empty() && !news.snapshot {
            self.state.lease.extend(sent);
            return Ok(());
        }
        let now = self.clock.now();
        let mut set = if news.snapshot {
            DenialSet::new()
        } else {
            self.state.gate.permit().epoch().denials().clone()
        };
        for received in &news.denials {
            set.insert(&received.denial, received.epoch)?;
        }
        set.prune(now);
        let entry = Entry::new(self.act(), Kind::Denial, now)
            .epoch(news.epoch)
            .count(news.denials.len() as u64);
        // rule: DEN-5 — persist, then apply, then wait for what was decided before.
        self.persist(&news, &entry).await?;
        self.state.gate.apply(set, news.epoch, news.chain).await;
        // rule: DEN-6 — a full answer is not all the news: the lease waits for the rest.
        if news.denials.len() < limits::DENIALS {
            self.state.lease.extend(sent);
        }
        tracing::info!(act = %entry.act, exchange = "feed", epoch = news.epoch, denials = news.denials.len(), "denials applied");
        self.drain(entry.act, entry.to_cbor())
            .await
            .map_err(ApplyError::Record)?;
        Ok(())
    }

    /// Denials first, the head last: after a crash between them more is denied than the head says, and
    /// the broker sends it again. What a snapshot no longer holds goes when the head stands.
    async fn persist(&self, news: &News, entry: &Entry) -> Result<(), Error> {
        for chunk in news.denials.chunks(WRITES) {
            let put = |transaction: Transaction, received: &crate::feed::Received| {
                transaction.put(records::denial(received.epoch), received.bytes.as_slice())
            };
            self.store
                .commit(chunk.iter().fold(Transaction::new(), put))
                .await?;
        }
        let head = FeedHead {
            epoch: news.epoch,
            chain: news.chain,
        };
        let commit = Transaction::new()
            .put(records::FEED_HEAD, head.to_cbor())
            .put(records::TIME, self.state.latest.get().to_cbor())
            .put(records::outbox(entry.act), entry.to_cbor());
        self.store.commit(commit).await?;
        if news.snapshot {
            let kept = |epoch| {
                news.denials
                    .binary_search_by_key(&epoch, |received| received.epoch)
                    .is_ok()
            };
            let all = records::all(&*self.store, records::DENIALS).await?;
            let gone = all
                .into_iter()
                .map(|(key, _)| key)
                .filter(|key| !records::epoch_of(key).is_some_and(kept));
            self.delete(gone.collect()).await?;
        }
        Ok(())
    }

    /// Records that the broker offered a state that contradicts what was seen.
    pub async fn alarm(&self, fault: &FeedFault) {
        tracing::error!(alarm = Alarm::FeedRollback.name(), %fault, "somebody should look");
        let entry = Entry::alarm(self.act(), Alarm::FeedRollback, self.clock.now())
            .refused(Refusal::Rollback);
        let entry = entry.epoch(self.state.gate.permit().epoch().number());
        if let Err(error) = self.append(&entry).await {
            tracing::error!(%error, "an alarm could not be recorded");
        }
    }

    /// Forgets denials that can hit nothing any more, and the ids of statements that would be refused as
    /// expired.
    pub(super) async fn forget(&self, now: Timestamp) -> Result<(), Error> {
        // rule: DEN-7
        let over = |value: &[u8]| {
            Denial::from_cbor(value, DENIAL).is_ok_and(|denial| denial.forget <= now)
        };
        let denials = records::all(&*self.store, records::DENIALS).await?;
        self.delete(
            denials
                .into_iter()
                .filter(|(_, entry)| over(&entry.value))
                .map(|(key, _)| key)
                .collect(),
        )
        .await?;
        let over = |value: &[u8]| {
            Timestamp::from_cbor(value, 16).is_ok_and(|expires| expires.plus(limits::SKEW) <= now)
        };
        let statements = records::all(&*self.store, records::STATEMENTS).await?;
        self.delete(
            statements
                .into_iter()
                .filter(|(_, entry)| over(&entry.value))
                .map(|(key, _)| key)
                .collect(),
        )
        .await
    }

    async fn delete(&self, keys: Vec<Vec<u8>>) -> Result<(), Error> {
        for chunk in keys.chunks(WRITES) {
            let transaction = chunk.iter().fold(Transaction::new(), |transaction, key| {
                transaction.delete(key.as_slice())
            });
            match self.store.commit(transaction).await? {
                Outcome::Committed(_) | Outcome::Conflict { .. } => {}
            }
        }
        Ok(())
    }
}
