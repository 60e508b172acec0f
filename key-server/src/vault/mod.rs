//! The vault: the only room that can reach a KEK.
//!
//! Its door is this file. What goes in is wraps and contexts; what comes out is DEKs, wraps and public
//! keys. A KEK leaves it sealed under the root key, or sealed to the recipients of an export (IMP-4), and in
//! no other form; one comes from outside only as material that an import's own keys open (IMP-1).

pub mod import;
mod kek;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rand_core::CryptoRng;
use store::locked::{Locked, Scratch};
use store::root::{Holders, deal_for};
use store::sealed::RootKey;
use ticket_format::ids::{DatasetId, DekId, KekId};
use ticket_format::keys::{ProducerKey, TlsKey};
use ticket_format::secret::Dek;
use ticket_format::statement::{Provenance, ShareRow};
use ticket_format::time::Timestamp;
use ticket_format::transfer::ExportPlace;
use ticket_format::wrapped::{Header, Origin, Wrapped, local, public};

pub use crate::kek_record::{KekRecord, path};
pub use crate::versions::{BadMaterial, KekInfo, LoadError, VaultError};
use kek::Kek;
pub use upload::Uploads;

/// A KEK version that was made but is not in use: its file and its record must be durable first.
#[derive(Debug)]
pub struct Pending {
    kek: Arc<Kek>,
    /// Its key material, sealed, for its file (KEK-5).
    pub sealed: Vec<u8>,
}

impl Pending {
    /// What may be known of it outside.
    #[must_use]
    pub fn record(&self) -> &KekRecord {
        &self.kek.record
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
            .entry(kek.record.dataset)
            .or_insert_with(|| Arc::clone(&kek));
        if kek.record.version >= current.record.version {
            *current = Arc::clone(&kek);
        }
        self.by_id.insert(kek.record.kek, kek);
    }

    fn find(&self, dataset: DatasetId, id: KekId) -> Result<&Kek, VaultError> {
        // A KEK of another dataset is as unknown as none: nothing of it may be learnt here.
        self.by_id
            .get(&id)
            .filter(|kek| kek.record.dataset == dataset)
            .map(|kek| &**kek)
            .ok_or(VaultError::Unknown)
    }
}

/// All KEKs of this server, open, and the root key that seals them at rest. Erased on drop.
pub struct Vault {
    realm: String,
    root: ArcSwap<RootKey>,
    keks: ArcSwap<Keks>,
}

impl Vault {
    /// Opens the versions of the store, each with what the file of its key material holds; none of one
    /// that was destroyed.
    ///
    /// # Errors
    /// [`LoadError`], at the first that does not open: a server that misses a KEK must not start as if
    /// there were none.
    pub fn open(
        realm: &str,
        root: RootKey,
        versions: impl IntoIterator<Item = (KekRecord, Option<Vec<u8>>)>,
    ) -> Result<Self, LoadError> {
        let mut keks = Keks::default();
        for (record, sealed) in versions {
            let kek = Kek::open(&root, record, sealed.as_deref())?;
            keks.insert(Arc::new(kek));
        }
        Ok(Self {
            realm: realm.to_owned(),
            root: ArcSwap::from_pointee(root),
            keks: ArcSwap::from_pointee(keks),
        })
    }

    /// Makes a KEK version for a dataset, its key material sealed for its file. It is not in use before
    /// [`Vault::install`].
    #[must_use]
    pub fn create_kek(
        &self,
        dataset: DatasetId,
        version: u64,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Pending {
        let (kek, sealed) = Kek::generate(dataset, version, now, &self.root.load(), rng);
        Pending {
            kek: Arc::new(kek),
            sealed,
        }
    }

    /// Makes a KEK version of material that was brought, as [`Vault::create_kek`].
    #[must_use]
    pub fn import_kek(
        &self,
        (dataset, version): (DatasetId, u64),
        now: Timestamp,
        brought: &import::Material,
        came: (Provenance, Option<Timestamp>),
        rng: &mut impl CryptoRng,
    ) -> Pending {
        let root = self.root.load();
        let place = (dataset, version);
        let (kek, sealed) = Kek::import(&self.realm, place, now, brought, came, &root, rng);
        Pending {
            kek: Arc::new(kek),
            sealed,
        }
    }

    /// Seals a version's key material to these holders: as many of them as they say open it together
    /// (IMP-4).
    ///
    /// # Errors
    /// [`VaultError::Unknown`] or [`VaultError::State`].
    pub fn export(
        &self,
        record: &KekRecord,
        server: TlsKey,
        holders: &Holders,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, Vec<ShareRow>), VaultError> {
        // rule: IMP-4, MEM-1
        let keks = self.keks.load();
        let kek = keks.find(record.dataset, record.kek)?;
        let place = ExportPlace {
            realm: &self.realm,
            server,
            dataset: record.dataset,
            kek: record.kek,
        };
        let secret = Locked::fill(|secret| rng.fill_bytes(secret));
        let sealed = kek.export(&place, &secret)?;
        let shares = deal_for(&secret, holders, |number| place.info(number), rng);
        Ok((sealed, shares.map_err(|_| VaultError::State)?))
    }

    /// Takes a KEK version into use whose file and record are durable.
    pub fn install(&self, pending: Pending) {
        self.keks.rcu(|keks| {
            let mut keks = Keks::clone(keks);
            keks.insert(Arc::clone(&pending.kek));
            keks
        });
    }

    /// Takes over a version's record that is durable. Of one that is destroyed the key material is
    /// dropped: it is erased when what uses it now has ended.
    pub fn update(&self, record: &KekRecord) {
        // rule: KEK-1
        self.keks.rcu(|keks| {
            let mut keks = Keks::clone(keks);
            if let Ok(known) = keks.find(record.dataset, record.kek) {
                let kek = Arc::new(known.with(record.clone()));
                keks.insert(kek);
            }
            keks
        });
    }

    /// The root key, which seals all that the server has at rest, for what seals it anew (ROOT-7).
    #[must_use]
    #[cfg(feature = "net")]
    pub(crate) fn root(&self) -> Arc<RootKey> {
        self.root.load_full()
    }

    /// Takes over the root key that everything is sealed under by now. The one before is erased when what
    /// uses it now has ended.
    #[cfg(feature = "net")]
    pub(crate) fn rekeyed(&self, root: RootKey) {
        // rule: ROOT-7
        self.root.store(Arc::new(root));
    }

    /// What is asked for of the records of all versions, in no order.
    pub(crate) fn pick<T>(&self, pick: impl Fn(&KekRecord) -> Option<T>) -> Vec<T> {
        let keks = self.keks.load();
        let of = keks.by_id.values();
        of.filter_map(|kek| pick(&kek.record)).collect()
    }

    /// The newest KEK version of a dataset.
    ///
    /// # Errors
    /// [`VaultError::Unknown`].
    pub fn current(&self, dataset: DatasetId) -> Result<KekInfo, VaultError> {
        let keks = self.keks.load();
        let KekRecord {
            kek,
            version,
            state,
            public,
            ..
        } = &keks
            .current
            .get(&dataset)
            .ok_or(VaultError::Unknown)?
            .record;
        Ok(KekInfo {
            dataset,
            id: *kek,
            version: *version,
            state: *state,
            // The newest is never destroyed (KEK-4).
            public: public.clone().ok_or(VaultError::State)?,
        })
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

    /// The dataset's current KEK version, to wrap with: the same for all of a request, whatever is rotated
    /// meanwhile.
    ///
    /// # Errors
    /// [`VaultError::Unknown`], or its state does not allow it.
    pub fn wrapping(&self, dataset: DatasetId) -> Result<Wrapping, VaultError> {
        let keks = self.keks.load();
        let kek = keks.current.get(&dataset).ok_or(VaultError::Unknown)?;
        kek.may_wrap()?;
        Ok(Wrapping {
            realm: self.realm.clone(),
            kek: Arc::clone(kek),
        })
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
        scratch: &Scratch,
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
                let dek = kek.with_symmetric(scratch, |key| {
                    local::unwrap(key, realm, header, *origin, raw_context, nonce, ciphertext)
                })?;
                Ok((dek?, *origin))
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

/// A KEK version to wrap with.
pub struct Wrapping {
    realm: String,
    kek: Arc<Kek>,
}

impl Wrapping {
    /// Which version.
    #[must_use]
    pub fn kek(&self) -> KekId {
        self.kek.record.kek
    }

    /// Wraps a DEK.
    ///
    /// # Errors
    /// [`VaultError::State`]: its key material is gone.
    pub fn wrap(
        &self,
        scratch: &Scratch,
        dek_id: DekId,
        origin: Origin,
        raw_context: &[u8],
        dek: &Dek,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, VaultError> {
        let header = Header {
            dataset: self.kek.record.dataset,
            kek: self.kek.record.kek,
            kek_version: self.kek.record.version,
            dek: dek_id,
        };
        self.kek.with_symmetric(scratch, |key| {
            local::wrap(key, &self.realm, &header, origin, raw_context, dek, rng)
        })
    }
}

impl std::fmt::Debug for Wrapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wrapping({:?})", self.kek)
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
