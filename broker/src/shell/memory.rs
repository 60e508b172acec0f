//! What the broker keeps in memory of the store: denials, policy, datasets. An older value never
//! replaces a newer one, whoever reads last.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use policy::Policy;
use ticket_format::Refusal;
use ticket_format::ids::PolicyDigest;

use super::directory::Reads;
use super::service::{ATTEMPTS, Broker};
use crate::Refused;
use crate::state::{DatasetEntry, FeedHead, PolicyHead, keys};

/// How long an exchange waits for a denial that is durable to be applied in memory.
const APPLIED_WITHIN: Duration = Duration::from_secs(1);

/// A value with the store's revision of it, so that an older one never replaces a newer.
pub(crate) struct Versioned<T> {
    pub(super) revision: u64,
    pub(crate) value: Arc<T>,
}

impl Broker {
    /// The feed's head as the store has it, once memory knows the denials up to it.
    pub(crate) async fn head(&self, reads: &mut Reads<'_>) -> Result<FeedHead, Refused> {
        let head = reads
            .get::<FeedHead>(keys::FEED_HEAD)
            .await?
            .unwrap_or(FeedHead::START);
        let mut news = self.denials.news();
        let applied = news.wait_for(|epoch| *epoch >= head.epoch);
        if tokio::time::timeout(APPLIED_WITHIN, applied).await.is_err() {
            self.reload_denials().await?;
        }
        Ok(head)
    }

    pub(super) async fn reload_denials(&self) -> Result<(), Refused> {
        self.denials.catch_up(&self.directory).await
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        policy.as_ref().map(|policy| Arc::clone(&policy.value))
    }

    /// Takes the policy that the store holds, unless a newer one is here already.
    pub(crate) async fn load_policy(&self) -> Result<(), Refused> {
        let damaged = |why: String| {
            Refused::stranger(Refusal::Internal, format!("the policy in the store: {why}"))
        };
        for _ in 0..ATTEMPTS {
            let mut reads = self.directory.reads();
            let Some(head) = reads.get::<PolicyHead>(keys::POLICY).await? else {
                return Ok(());
            };
            let text = reads.raw(keys::POLICY_TEXT).await?.unwrap_or_default();
            if PolicyDigest::of(&text) != head.policy {
                // Another policy was set between the two reads.
                continue;
            }
            let text = String::from_utf8(text).map_err(|error| damaged(error.to_string()))?;
            let policy = Policy::parse(&text).map_err(|error| damaged(error.to_string()))?;
            let revision = reads
                .seen()
                .iter()
                .find(|(key, _)| key == keys::POLICY)
                .and_then(|(_, revision)| *revision)
                .unwrap_or_default();
            let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
            if current
                .as_ref()
                .is_none_or(|current| current.revision <= revision)
            {
                *current = Some(Versioned {
                    revision,
                    value: Arc::new(policy),
                });
            }
            return Ok(());
        }
        Err(damaged("its text is not the one that was set".to_owned()))
    }

    /// A dataset by name.
    pub(crate) fn dataset(&self, name: &str) -> Option<Arc<DatasetEntry>> {
        let datasets = self.datasets.read().unwrap_or_else(PoisonError::into_inner);
        datasets.get(name).map(|dataset| Arc::clone(&dataset.value))
    }

    /// The datasets after a name, at most so many, and whether there are more.
    pub(crate) fn datasets(&self, after: &str, most: usize) -> (Vec<Arc<DatasetEntry>>, bool) {
        use std::ops::Bound;
        let datasets = self.datasets.read().unwrap_or_else(PoisonError::into_inner);
        let mut rest = datasets.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let page: Vec<_> = rest
            .by_ref()
            .take(most)
            .map(|(_, dataset)| Arc::clone(&dataset.value))
            .collect();
        (page, rest.next().is_some())
    }

    pub(crate) fn dataset_count(&self) -> usize {
        self.datasets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Takes a dataset as the store holds it, unless a newer record is here already.
    pub(crate) async fn load_dataset(&self, entry: &DatasetEntry) -> Result<(), Refused> {
        let key = keys::dataset(entry.record.dataset);
        let mut reads = self.directory.reads();
        let Some(entry) = reads.get::<DatasetEntry>(&key).await? else {
            return Ok(());
        };
        let revision = reads
            .seen()
            .first()
            .and_then(|(_, revision)| *revision)
            .unwrap_or_default();
        let mut datasets = self
            .datasets
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let newer = datasets
            .get(&entry.record.name)
            .is_some_and(|known| known.revision > revision);
        if !newer {
            let entry = Arc::new(entry);
            let value = Arc::clone(&entry);
            let before = datasets.insert(entry.record.name.clone(), Versioned { revision, value });
            let before = before.as_ref().map(|before| &before.value.record);
            self.subscribers.place(before, &entry.record);
        }
        Ok(())
    }
}
