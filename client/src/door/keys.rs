//! What the door asks of the agent, for one job.

use std::sync::Arc;

use ticket_format::Context;
use ticket_format::ids::{DatasetId, NodeId};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::secret::Dek;
use ticket_format::ticket::Actions;
use ticket_format::time::Timestamp;

use crate::keys::KeyError;
use crate::redeem::Generated;

/// A dataset that a job may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDataset {
    /// The dataset.
    pub id: DatasetId,
    /// Its name, as the job's table has it.
    pub name: String,
    /// The realm of its tickets.
    pub realm: String,
    /// Whether its data keys are made for recovery recipients too.
    pub recipients: bool,
    /// From when on its record holds.
    pub created: Timestamp,
    /// What for.
    pub actions: Actions,
}

/// A dataset, as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its id.
    Id(DatasetId),
    /// By its name in the job's table.
    Name(String),
}

/// The keys of one job.
pub trait JobKeys: Send + Sync + 'static {
    /// The node, whose account and region are those of every ARN.
    fn node(&self) -> &NodeId;

    /// The datasets of the job's table; those that cannot be had now are left out.
    ///
    /// # Errors
    /// None could be had.
    fn datasets(&self) -> impl Future<Output = Result<Vec<JobDataset>, KeyError>> + Send;

    /// One dataset of the job's table, whatever becomes of the others; none where the table has none of that name.
    ///
    /// # Errors
    /// It is one of the table's, or may be, and cannot be had now.
    fn dataset(
        &self,
        named: &Named,
    ) -> impl Future<Output = Result<Option<JobDataset>, KeyError>> + Send;

    /// Has a data key made, or a key pair of a kind, which the context names.
    ///
    /// # Errors
    /// It was refused, or the exchange failed.
    fn generate(
        &self,
        dataset: DatasetId,
        context: &Context,
        with_dek: bool,
        pair: Option<KeyPairKind>,
    ) -> impl Future<Output = Result<Generated, KeyError>> + Send;

    /// Opens a wrapped data key.
    ///
    /// # Errors
    /// It was refused, or the exchange failed.
    fn open(
        &self,
        dataset: DatasetId,
        wrapped: &[u8],
        context: &Context,
    ) -> impl Future<Output = Result<Arc<Dek>, KeyError>> + Send;

    /// Has a wrapped data key wrapped anew, with another context (REW-1).
    ///
    /// # Errors
    /// It was refused, or the exchange failed.
    fn rewrap(
        &self,
        dataset: DatasetId,
        wrapped: &[u8],
        context: &Context,
        new: &Context,
    ) -> impl Future<Output = Result<Vec<u8>, KeyError>> + Send;

    /// Whether this dataset ticket, byte for byte, is held for this very job.
    fn holds(&self, ticket: &[u8]) -> bool;
}
