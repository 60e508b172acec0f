//! What the server does to KEK versions by itself: rotations (KEK-3) and destructions whose time has come
//! (KEK-4).

use std::sync::atomic::Ordering;

use store::{Error, Outcome, Transaction};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::DatasetId;
use ticket_format::limits;
use ticket_format::statement::{KekOrigin, KekState};
use ticket_format::time::Timestamp;

use super::Service;
use super::keks::{self, due};
use crate::dataset::Dataset;
use crate::records;
use crate::refused::Refused;
use crate::vault::KekRecord;

/// Least time between two rotations by wraps or denials, in seconds: a day, so that no flood of them uses up
/// a dataset's versions before somebody looks.
const BETWEEN: u64 = 86_400;
/// So many versions a dataset may have for the server to make another by itself: the rest is for people.
const BY_ITSELF: usize = 200;

impl Service {
    /// Rotates what is due and destroys what is due. What cannot be done now is due the next time.
    pub(super) async fn do_what_is_due(&self) {
        let now = self.clock.now();
        // rule: TIM-1, TLOG-10 — by a clock that went back, or without a record, nothing is made or destroyed.
        if self.state.latest.see(now).is_err() || self.state.standing.check().is_err() {
            return;
        }
        // rule: KEK-5
        if self.erase_again.load(Ordering::Acquire) {
            self.erase_destroyed().await;
        }
        for record in self.state.vault.due(now) {
            if let Err(error) = self.destroy(&record, now).await {
                tracing::error!(%error, dataset = %record.dataset, kek = %record.kek, "a KEK version could not be destroyed: it is tried again in a minute");
            }
        }
        for record in self.state.vault.expired(now) {
            if let Err(error) = self.expire(&record, now).await {
                tracing::error!(%error, dataset = %record.dataset, kek = %record.kek, "a KEK version that has expired could not be disabled: it is tried again in a minute");
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
        if newest.state != KekState::Enabled {
            return Ok(());
        }
        // rule: IMP-3 — its owners want data under no key that they do not have.
        if newest.origin == KekOrigin::Imported {
            return Ok(());
        }
        let old_enough = |age| newest.created.plus(age) <= now;
        let made = |wraps| self.inventory.counts(newest.kek).made >= wraps;
        let why = if rule.age.is_some_and(old_enough) {
            "its age"
        } else if !old_enough(BETWEEN) {
            return Ok(());
        } else if rule.wraps.is_some_and(made) {
            "the wraps made under it"
        } else if rule.on_denial && self.denied_since(dataset.id, newest.created).await? {
            "a denial"
        } else {
            return Ok(());
        };
        // rule: KEK-3
        if versions.len() >= BY_ITSELF {
            tracing::error!(dataset = %dataset.state.name, why, "its KEK is not rotated by itself any more: the versions that are left are for people to use");
            return Ok(());
        }
        let keks::Rotation {
            transaction,
            new,
            old,
        } = self.next_version(dataset, self.generated())?;
        let mut entry = Entry::new(self.act(), Kind::Kek, now).dataset(dataset.id);
        entry.kek = Some(new.record().kek);
        let entry = entry.count(new.record().version);
        self.write_key_file(&new).await?;
        let committed = self.commit_by_itself(transaction, &entry, new.record());
        if let Err(refused) = committed.await {
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

    async fn expire(&self, record: &KekRecord, now: Timestamp) -> Result<(), Refused> {
        let _turn = self.keks.lock().await;
        // It may have been renewed while this waited for its turn.
        let (record, _) = self.version(record.dataset, record.kek)?;
        if !record.in_use() || !record.expired(now) {
            return Ok(());
        }
        // rule: IMP-3
        let disabled = record.lapsed();
        let mut entry = Entry::new(self.act(), Kind::Kek, now).dataset(record.dataset);
        entry.kek = Some(record.kek);
        let entry = entry.count(record.version);
        let alarm = Entry::alarm(self.act(), Alarm::KekExpired, now).dataset(record.dataset);
        let mut alarm = alarm.follows(entry.act).count(record.version);
        alarm.kek = Some(record.kek);
        let transaction = Transaction::new()
            .put(disabled.path(), disabled.to_cbor())
            .put(records::outbox(alarm.act), alarm.to_cbor());
        let committed = self.commit_by_itself(transaction, &entry, &disabled);
        committed.await?;
        self.state.vault.update(&disabled);
        tracing::info!(act = %entry.act, dataset = %record.dataset, kek = %record.kek, version = record.version, "a KEK version has expired and is disabled");
        self.drain(&entry).await?;
        self.drain(&alarm).await.map(drop)
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
        self.commit_by_itself(transaction, &entry, &gone).await?;
        self.state.vault.update(&gone);
        let erased = self.erase_key_file(&record).await;
        if erased.is_err() {
            self.erase_again.store(true, Ordering::Release);
        }
        tracing::info!(act = %entry.act, dataset = %record.dataset, kek = %record.kek, version = record.version, "destroyed a KEK version");
        self.drain(&entry).await?;
        erased
    }

    /// Erases what is left of versions that are destroyed, after an erasure failed.
    async fn erase_destroyed(&self) {
        let _turn = self.keks.lock().await;
        let records = self.state.vault.records().into_iter();
        for record in records.filter(|record| record.state == KekState::Destroyed) {
            if let Err(error) = self.erase_key_file(&record).await {
                tracing::error!(%error, kek = %record.kek, "the key material of a destroyed KEK version is there still: it is tried again in a minute");
                return;
            }
        }
        self.erase_again.store(false, Ordering::Release);
    }

    /// Commits with the record in the outbox. An outcome that is not known is looked up by the version's
    /// record that comes with it: the outbox may have been drained meanwhile.
    async fn commit_by_itself(
        &self,
        transaction: Transaction,
        entry: &Entry,
        version: &KekRecord,
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
                match self.store.get(version.path().as_bytes()).await {
                    Ok(Some(found)) if found.value == version.to_cbor() => Ok(()),
                    Ok(_) => Err(Refused::Raced),
                    Err(_) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}
