//! KEK versions as they are known outside the vault: what there are, and why one cannot be used. No key
//! material is in reach here.

use store::sealed::SealedError;
use ticket_format::Refusal;
use ticket_format::cbor::DecodeError;
use ticket_format::ids::{DatasetId, KekId};
use ticket_format::seal::SealingKey;
use ticket_format::statement::KekState;
use ticket_format::time::Timestamp;
use ticket_format::wrapped::WrapError;

use crate::vault::{KekRecord, Vault};

/// The newest KEK version of a dataset, as records and producers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekInfo {
    /// The dataset.
    pub dataset: DatasetId,
    /// The version's id.
    pub id: KekId,
    /// The version's number, for people.
    pub version: u64,
    /// What it may be used for.
    pub state: KekState,
    /// To this key producers wrap.
    pub public: SealingKey,
}

/// Why the vault does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// No such KEK in this dataset.
    #[error("the key server has no such KEK")]
    Unknown,
    /// The KEK's state does not allow it (KEK-1).
    #[error("the KEK may not be used so")]
    State,
    /// The KEK waits for its destruction (KEK-4).
    #[error("the KEK waits for its destruction and may not be used")]
    Pending,
    /// The wrap is of another dataset.
    #[error("the wrap is of another dataset")]
    Dataset,
    /// The wrap does not open.
    #[error(transparent)]
    Wrap(#[from] WrapError),
}

impl From<VaultError> for Refusal {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Unknown => Self::KekUnknown,
            VaultError::State | VaultError::Pending => Self::KekState,
            VaultError::Dataset => Self::WrapDataset,
            VaultError::Wrap(error) => error.into(),
        }
    }
}

/// Why a record from the store is no KEK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Another root key, another place, or damage.
    #[error("a KEK record does not open: wrong root key, or the store is damaged")]
    Sealed(#[from] SealedError),
    /// It opens and is no KEK.
    #[error("a KEK record opens but is no KEK: {0}")]
    Shape(#[from] DecodeError),
    /// Its place in the store does not fit what it says.
    #[error("a KEK record stands in another's place")]
    Place,
    /// The file with its key material is missing, or another than the record names (KEK-5).
    #[error(
        "the key material of {0} is missing or is not what the store names: put its file back from a backup"
    )]
    File(String),
}

/// Material that no version is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMaterial {
    /// It is another than the statement names.
    #[error("the material is another than the statement commits to: the SHA-256 of its 32 bytes")]
    Commitment,
    /// It is one byte, 32 times.
    #[error("the material is one byte, 32 times: take 32 random bytes")]
    Guessable,
}

impl Vault {
    /// The records of all versions.
    #[must_use]
    pub fn records(&self) -> Vec<KekRecord> {
        self.pick(|record| Some(record.clone()))
    }

    /// All versions of a dataset, the newest first.
    #[must_use]
    pub fn versions(&self, dataset: DatasetId) -> Vec<KekRecord> {
        let mut records = self.those(|record| record.dataset == dataset);
        records.sort_by_key(|record| std::cmp::Reverse(record.version));
        records
    }

    /// How many versions of all datasets are in a state.
    #[must_use]
    pub fn count(&self, state: KekState) -> usize {
        self.pick(|record| (record.state == state).then_some(()))
            .len()
    }

    /// The versions whose destruction is due.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<KekRecord> {
        // rule: KEK-4
        self.those(|record| {
            record.state == KekState::PendingDestruction
                && record.destroyed.is_some_and(|then| then <= now)
        })
    }

    /// The versions that are in use though their expiry has come.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Vec<KekRecord> {
        // rule: IMP-3
        self.those(|record| record.in_use() && record.expired(now))
    }

    fn those(&self, wanted: impl Fn(&KekRecord) -> bool) -> Vec<KekRecord> {
        self.pick(|record| wanted(record).then(|| record.clone()))
    }
}
