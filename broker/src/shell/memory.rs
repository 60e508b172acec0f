//! What the broker keeps in memory of the store: denials, policy, datasets. An older value never
//! replaces a newer one, whoever reads last.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use policy::Policy;
use ticket_format::Refusal;
use ticket_format::ids::{DatasetId, PolicyDigest};

use super::directory::Reads;
use super::service::{ATTEMPTS, Broker};
use crate::Refused;
use crate::state::{AliasEntry, DatasetEntry, FeedHead, PolicyHead, keys};

/// How long an exchange waits for a denial that is durable to be applied in memory.
const APPLIED_WITHIN: Duration = Duration::from_secs(1);

/// A value with the store's revision of it, so that an older one never replaces a newer.
pub(crate) struct Versioned<T> {
    pub(super) revision: u64,
    pub(crate) value: Arc<T>,
}

/// The values after a name, at most so many, and whether there are more.
fn page<T>(all: &BTreeMap<String, Versioned<T>>, after: &str, most: usize) -> (Vec<Arc<T>>, bool) {
    let mut rest = all.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
    let some = rest.by_ref().take(most);
    let some = some.map(|(_, one)| Arc::clone(&one.value)).collect();
    (some, rest.next().is_some())
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

    /// An alias by name.
    pub(crate) fn named_alias(&self, name: &str) -> Option<Arc<AliasEntry>> {
        let aliases = self.aliases.read().unwrap_or_else(PoisonError::into_inner);
        aliases.get(name).map(|alias| Arc::clone(&alias.value))
    }

    /// The aliases after a name, at most so many, and whether there are more.
    pub(crate) fn aliases(&self, after: &str, most: usize) -> (Vec<Arc<AliasEntry>>, bool) {
        let aliases = self.aliases.read().unwrap_or_else(PoisonError::into_inner);
        page(&aliases, after, most)
    }

    /// The names besides its own that a dataset goes by.
    pub(crate) fn aliases_of(&self, dataset: Option<DatasetId>) -> BTreeSet<String> {
        let aliases = self.aliases.read().unwrap_or_else(PoisonError::into_inner);
        let of = aliases.values().filter(|alias| {
            let target = alias.value.body.target.as_ref();
            target.is_some_and(|target| Some(target.dataset) == dataset)
        });
        of.map(|alias| alias.value.body.alias.clone()).collect()
    }

    /// Takes an alias as the store holds it, unless a newer record is here already.
    pub(crate) async fn load_alias(&self, name: &str) -> Result<(), Refused> {
        let mut reads = self.directory.reads();
        let Some(entry) = reads.get::<AliasEntry>(&keys::alias(name)).await? else {
            return Ok(());
        };
        let revision = reads.seen().first().and_then(|(_, revision)| *revision);
        let revision = revision.unwrap_or_default();
        let mut aliases = self.aliases.write().unwrap_or_else(PoisonError::into_inner);
        let known = aliases.get(name);
        if known.is_none_or(|known| known.revision <= revision) {
            let value = Arc::new(entry);
            aliases.insert(name.to_owned(), Versioned { revision, value });
        }
        Ok(())
    }

    /// The datasets after a name, at most so many, and whether there are more.
    pub(crate) fn datasets(&self, after: &str, most: usize) -> (Vec<Arc<DatasetEntry>>, bool) {
        let datasets = self.datasets.read().unwrap_or_else(PoisonError::into_inner);
        page(&datasets, after, most)
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
