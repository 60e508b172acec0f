//! What the server does to KEK versions by itself: rotations (KEK-3) and destructions whose time has come
//! (KEK-4).

use store::{Error, Outcome, Transaction};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::DatasetId;
use ticket_format::limits;
use ticket_format::statement::KekState;
use ticket_format::time::Timestamp;

use super::Service;
use super::keks::{self, due};
use crate::dataset::Dataset;
use crate::records;
use crate::refused::Refused;
use crate::vault::KekRecord;

/// Least time between two rotations that denials lead to, in seconds.
const BETWEEN: u64 = 3_600;

impl Service {
    /// Rotates what is due and destroys what is due. What cannot be done now is due the next time.
    pub(super) async fn do_what_is_due(&self) {
        let now = self.clock.now();
        // rule: TIM-1, TLOG-10 — by a clock that went back, or without a record, nothing is made or destroyed.
        if self.state.latest.see(now).is_err() || self.state.standing.check().is_err() {
            return;
        }
        for record in self.state.vault.due(now) {
            if let Err(error) = self.destroy(&record, now).await {
                tracing::error!(%error, dataset = %record.dataset, kek = %record.kek, "a KEK version could not be destroyed: it is tried again in a minute");
            }
        }
        let mut after = String::new();
        loop {
            let (page, more) = self.state.datasets.page(&after, limits::KEKS);
            for dataset in &page {
                if let Err(error) = self.rotate_if_due(dataset, now).await {
                    tracing::error!(%error, dataset = %dataset.state.name, "its KEK could not be rotated: it is tried again in a minute");
                }
            }
            match page.last() {
                Some(last) if more => after.clone_from(&last.state.name),
                _ => return,
            }
        }
    }

    async fn rotate_if_due(&self, dataset: &Dataset, now: Timestamp) -> Result<(), Refused> {
        let rule = dataset.state.rotation;
        if rule.age.is_none() && rule.wraps.is_none() && !rule.on_denial {
            return Ok(());
        }
        let _turn = self.keks.lock().await;
        let versions = self.state.vault.versions(dataset.id);
        let Some(newest) = versions.first() else {
            return Ok(());
        };
        // rule: KEK-3
        if newest.state != KekState::Enabled || versions.len() >= limits::KEKS {
            return Ok(());
        }
        let old_enough = |age| newest.created.plus(age) <= now;
        let made = |wraps| self.inventory.counts(newest.kek).made >= wraps;
        let why = if rule.age.is_some_and(old_enough) {
            "its age"
        } else if rule.wraps.is_some_and(made) {
            "the wraps made under it"
        } else if rule.on_denial
            && old_enough(BETWEEN)
            && self.denied_since(dataset.id, newest.created).await?
        {
            "a denial"
        } else {
            return Ok(());
        };
        let keks::Rotation {
            transaction,
            new,
            old,
        } = self.next_version(dataset)?;
        let mut entry = Entry::new(self.act(), Kind::Kek, now).dataset(dataset.id);
        entry.kek = Some(new.record().kek);
        let entry = entry.count(new.record().version);
        self.write_key_file(&new).await?;
        if let Err(refused) = self.commit_by_itself(transaction, &entry).await {
            // Where it is not known what became of it, the next start knows.
            if let Refused::Raced = refused {
                self.erase_key_file(new.record()).await?;
            }
            return Err(refused);
        }
        let version = new.record().version;
        self.state.vault.install(new);
        self.state.vault.update(&old);
        tracing::info!(act = %entry.act, dataset = %dataset.state.name, version, why, "rotated the KEK");
        self.drain(&entry).await.map(drop)
    }

    /// Whether a denial was applied since then that can hit a ticket for the dataset.
    async fn denied_since(&self, dataset: DatasetId, then: Timestamp) -> Result<bool, Refused> {
        for key in [records::denied_at(None), records::denied_at(Some(dataset))] {
            if let Some(entry) = self.store.get(key.as_bytes()).await? {
                let at = Timestamp::from_cbor(&entry.value, 16)
                    .map_err(|_| Refused::Internal("a time in the store is damaged"))?;
                if at >= then {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn destroy(&self, record: &KekRecord, now: Timestamp) -> Result<(), Refused> {
        let _turn = self.keks.lock().await;
        // It may have been taken back while this waited for its turn.
        let (record, _) = self.version(record.dataset, record.kek)?;
        if record.state != KekState::PendingDestruction || !due(&record, now) {
            return Ok(());
        }
        let gone = record.destroyed(now);
        let mut entry = Entry::new(self.act(), Kind::Kek, now).dataset(record.dataset);
        entry.keks = Some(vec![record.kek]);
        let entry = entry.count(record.version);
        // rule: KEK-5 — the store first, so that no file is missed that it still names.
        let transaction = Transaction::new().put(gone.path(), gone.to_cbor());
        self.commit_by_itself(transaction, &entry).await?;
        self.state.vault.update(&gone);
        let erased = self.erase_key_file(&record).await;
        tracing::info!(act = %entry.act, dataset = %record.dataset, kek = %record.kek, version = record.version, "destroyed a KEK version");
        self.drain(&entry).await?;
        // What stays is erased with the next one that is destroyed, or at the next start.
        erased
    }

    /// Commits with the record in the outbox. An outcome that is not known is looked up.
    async fn commit_by_itself(
        &self,
        transaction: Transaction,
        entry: &Entry,
    ) -> Result<(), Refused> {
        // rule: AUD-2
        let key = records::outbox(entry.act);
        let transaction = transaction
            .put(key.as_str(), entry.to_cbor())
            .put(records::TIME, self.state.latest.get().to_cbor());
        match self.store.commit(transaction).await {
            Ok(Outcome::Committed(_)) => Ok(()),
            Ok(Outcome::Conflict { .. }) => Err(Refused::Raced),
            Err(error @ (Error::OutcomeUnknown { .. } | Error::MustReopen { .. })) => {
                match self.store.get(key.as_bytes()).await {
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => Err(Refused::Raced),
                    Err(_) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}
