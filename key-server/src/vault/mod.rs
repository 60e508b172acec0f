//! The vault: the only room that can reach a KEK.
//!
//! Its door is this file. What goes in is wraps and contexts; what comes out is DEKs, wraps and public
//! keys. No function gives a KEK away, in whatever form but sealed under the root key, and none takes
//! one from outside.

mod kek;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rand_core::CryptoRng;
use store::sealed::{RootKey, SealedError};
use ticket_format::Refusal;
use ticket_format::cbor::DecodeError;
use ticket_format::ids::{DatasetId, DekId, KekId};
use ticket_format::keys::ProducerKey;
use ticket_format::seal::SealingKey;
use ticket_format::secret::Dek;
use ticket_format::wrapped::{Header, Origin, WrapError, Wrapped, local, public};

use kek::Kek;
pub use kek::{KekState, path};
pub use upload::Uploads;

/// What may be known of a KEK version outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekInfo {
    /// The dataset.
    pub dataset: DatasetId,
    /// The version's id, random and never reused (WRAP-1).
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
    /// The KEK's state does not allow it.
    #[error("the KEK may not be used so")]
    State,
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
            VaultError::State => Self::KekState,
            VaultError::Dataset => Self::WrapDataset,
            VaultError::Wrap(error) => error.into(),
        }
    }
}

/// Why a record from the store is no KEK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
}

/// A KEK version that was made but is not in use: its record must be durable first.
#[derive(Debug)]
pub struct Pending {
    kek: Arc<Kek>,
    /// Where the record belongs in the store.
    pub path: String,
    /// The record, sealed under the root key.
    pub record: Vec<u8>,
}

impl Pending {
    /// What may be known of it outside.
    #[must_use]
    pub fn info(&self) -> KekInfo {
        self.kek.info()
    }
}

#[derive(Clone, Default)]
struct Keks {
    by_id: HashMap<KekId, Arc<Kek>>,
    /// The highest version of each dataset.
    current: HashMap<DatasetId, Arc<Kek>>,
}

impl Keks {
    fn insert(&mut self, kek: Arc<Kek>) {
        let current = self
            .current
            .entry(kek.dataset)
            .or_insert_with(|| Arc::clone(&kek));
        if kek.version >= current.version {
            *current = Arc::clone(&kek);
        }
        self.by_id.insert(kek.id, kek);
    }

    fn find(&self, dataset: DatasetId, id: KekId) -> Result<&Kek, VaultError> {
        // A KEK of another dataset is as unknown as none: nothing of it may be learnt here.
        self.by_id
            .get(&id)
            .filter(|kek| kek.dataset == dataset)
            .map(|kek| &**kek)
            .ok_or(VaultError::Unknown)
    }
}

/// All KEKs of this server, open, and the root key that seals them at rest. Erased on drop.
pub struct Vault {
    realm: String,
    root: RootKey,
    keks: ArcSwap<Keks>,
}

impl Vault {
    /// Opens the records of the store; each stands at its [`path`].
    ///
    /// # Errors
    /// [`LoadError`], at the first record that does not open: a server that misses a KEK must not
    /// start as if there were none.
    pub fn open<'a>(
        realm: &str,
        root: RootKey,
        records: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, LoadError> {
        let mut keks = Keks::default();
        for (at, record) in records {
            // rule: REST-1
            let kek = Kek::unseal(&root, at, record)?;
            keks.insert(Arc::new(kek));
        }
        Ok(Self {
            realm: realm.to_owned(),
            root,
            keks: ArcSwap::from_pointee(keks),
        })
    }

    /// Makes a KEK version for a dataset, sealed for the store. It is not in use before
    /// [`Vault::install`].
    #[must_use]
    pub fn create_kek(
        &self,
        dataset: DatasetId,
        version: u64,
        rng: &mut impl CryptoRng,
    ) -> Pending {
        let kek = Kek::generate(dataset, version, rng);
        let path = path(dataset, kek.id);
        // rule: REST-1
        let record = kek.seal(&self.root, &path, rng);
        Pending {
            kek: Arc::new(kek),
            path,
            record,
        }
    }

    /// Takes a KEK version into use whose record is durable.
    pub fn install(&self, pending: Pending) {
        self.keks.rcu(|keks| {
            let mut keks = Keks::clone(keks);
            keks.insert(Arc::clone(&pending.kek));
            keks
        });
    }

    /// The current KEK version of a dataset.
    ///
    /// # Errors
    /// [`VaultError::Unknown`].
    pub fn current(&self, dataset: DatasetId) -> Result<KekInfo, VaultError> {
        self.keks
            .load()
            .current
            .get(&dataset)
            .map(|kek| kek.info())
            .ok_or(VaultError::Unknown)
    }

    /// Whether new wraps can be made for the dataset.
    ///
    /// # Errors
    /// [`VaultError::Unknown`] or [`VaultError::State`].
    pub fn may_wrap(&self, dataset: DatasetId) -> Result<(), VaultError> {
        let keks = self.keks.load();
        keks.current
            .get(&dataset)
            .ok_or(VaultError::Unknown)?
            .may_wrap()
    }

    /// Whether a KEK may still open wraps: asked again before release (RED-2).
    ///
    /// # Errors
    /// [`VaultError::Unknown`] or [`VaultError::State`].
    pub fn may_open(&self, dataset: DatasetId, id: KekId) -> Result<(), VaultError> {
        self.keks.load().find(dataset, id)?.may_open()
    }

    /// Wraps a DEK under the dataset's current KEK version.
    ///
    /// # Errors
    /// [`VaultError::Unknown`] or [`VaultError::State`].
    pub fn wrap(
        &self,
        dataset: DatasetId,
        dek_id: DekId,
        origin: Origin,
        raw_context: &[u8],
        dek: &Dek,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, VaultError> {
        let keks = self.keks.load();
        let kek = keks.current.get(&dataset).ok_or(VaultError::Unknown)?;
        kek.may_wrap()?;
        let header = Header {
            dataset,
            kek: kek.id,
            kek_version: kek.version,
            dek: dek_id,
        };
        Ok(local::wrap(
            &kek.symmetric(),
            &self.realm,
            &header,
            origin,
            raw_context,
            dek,
            rng,
        ))
    }

    /// Opens a wrap: it must be of this dataset and a known KEK, open with exactly this context, match
    /// its commitment, and verify under a registered producer where it names one (RED-3).
    ///
    /// `uploads` keeps what one request's public wraps share.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn unwrap(
        &self,
        dataset: DatasetId,
        wrapped: &Wrapped<'_>,
        raw_context: &[u8],
        producers: &[ProducerKey],
        uploads: &mut Uploads,
    ) -> Result<(Dek, Origin), VaultError> {
        // rule: RED-3
        let header = wrapped.header();
        if header.dataset != dataset {
            return Err(VaultError::Dataset);
        }
        let keks = self.keks.load();
        let kek = keks.find(dataset, header.kek)?;
        kek.may_open()?;
        let realm = &self.realm;
        match wrapped {
            Wrapped::Local {
                origin,
                nonce,
                ciphertext,
                ..
            } => {
                let dek = local::unwrap(
                    &kek.symmetric(),
                    realm,
                    header,
                    *origin,
                    raw_context,
                    nonce,
                    ciphertext,
                )?;
                Ok((dek, *origin))
            }
            Wrapped::Public {
                enc,
                commitment,
                producer,
                ..
            } => {
                // The producer first: a registered one's signature costs less than a decapsulation.
                if let Some(claim) = producer {
                    public::verify_producer(
                        producers,
                        realm,
                        header,
                        enc,
                        commitment,
                        raw_context,
                        claim,
                    )?;
                }
                let exports = uploads.exports(kek, realm, header, enc)?;
                let dek = public::unwrap(exports, realm, header, raw_context, commitment)?;
                // rule: ORG-1
                Ok((dek, wrapped.claimed_origin()))
            }
        }
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("keks", &self.keks.load().by_id.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
