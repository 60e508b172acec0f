//! A job's keys for some of its datasets: what a door is opened with (`spec/agent.md`, AGT-10).

use std::sync::Arc;

use ticket_format::ids::{DatasetId, NodeId};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::secret::Dek;
use ticket_format::{Context, Refusal};

use crate::door::{JobDataset, JobKeys, Named};
use crate::keys::KeyError;
use crate::redeem::Generated;

/// A job's keys for the datasets of these names.
#[derive(Debug)]
pub struct Narrow<K> {
    keys: Arc<K>,
    names: Vec<String>,
}

impl<K: JobKeys> Narrow<K> {
    /// Only these names count.
    pub fn new(keys: Arc<K>, names: Vec<String>) -> Self {
        Self { keys, names }
    }

    /// The dataset is one of these.
    async fn check(&self, dataset: DatasetId) -> Result<(), KeyError> {
        // rule: AGT-10
        match self.dataset(&Named::Id(dataset)).await? {
            Some(_) => Ok(()),
            None => Err(KeyError::Refused(Refusal::DatasetUnknown)),
        }
    }
}

impl<K: JobKeys> JobKeys for Narrow<K> {
    fn node(&self) -> &NodeId {
        self.keys.node()
    }

    async fn datasets(&self) -> Result<Vec<JobDataset>, KeyError> {
        let mut datasets = self.keys.datasets().await?;
        datasets.retain(|dataset| self.names.contains(&dataset.name));
        Ok(datasets)
    }

    async fn dataset(&self, named: &Named) -> Result<Option<JobDataset>, KeyError> {
        // rule: AGT-10
        if let Named::Name(name) = named
            && !self.names.contains(name)
        {
            return Ok(None);
        }
        let found = self.keys.dataset(named).await?;
        Ok(found.filter(|found| self.names.contains(&found.name)))
    }

    async fn generate(
        &self,
        dataset: DatasetId,
        context: &Context,
        with_dek: bool,
        pair: Option<KeyPairKind>,
    ) -> Result<Generated, KeyError> {
        self.check(dataset).await?;
        self.keys.generate(dataset, context, with_dek, pair).await
    }

    async fn open(
        &self,
        dataset: DatasetId,
        wrapped: &[u8],
        context: &Context,
    ) -> Result<Arc<Dek>, KeyError> {
        self.check(dataset).await?;
        self.keys.open(dataset, wrapped, context).await
    }

    async fn rewrap(
        &self,
        dataset: DatasetId,
        wrapped: &[u8],
        context: &Context,
        new: &Context,
    ) -> Result<Vec<u8>, KeyError> {
        self.check(dataset).await?;
        self.keys.rewrap(dataset, wrapped, context, new).await
    }

    fn holds(&self, ticket: &[u8]) -> bool {
        self.keys.holds(ticket)
    }
}
