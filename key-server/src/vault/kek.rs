//! One KEK version and its key material. Nothing here is visible beyond the vault.

use rand_core::CryptoRng;
use store::locked::{Locked, Scratch, erasing_stack};
use store::sealed::RootKey;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{DatasetId, KekId};
use ticket_format::seal::{Kem, SealingKey, SealingSecret};
use ticket_format::secret::{self, SealingSeed};
use ticket_format::statement::{KekOrigin, KekState, Provenance};
use ticket_format::time::Timestamp;
use ticket_format::transfer::{ExportPlace, Half, derive};
use zeroize::Zeroizing;

use super::{LoadError, VaultError, import};
use crate::kek_record::{KekRecord, file_digest};

/// A symmetric key for local wraps and the seed of an X-Wing key for public ones, in locked pages: they
/// erase themselves on drop (MEM-1).
struct Material {
    symmetric: Locked<32>,
    seed: Locked<32>,
}

/// One KEK version.
pub(super) struct Kek {
    pub(super) record: KekRecord,
    /// None once it is destroyed. Shared by what is in use with what replaces it.
    material: Option<std::sync::Arc<Material>>,
}

impl Kek {
    /// A new version, enabled, and its key material sealed for its file.
    pub(super) fn generate(
        dataset: DatasetId,
        version: u64,
        now: Timestamp,
        root: &RootKey,
        rng: &mut impl CryptoRng,
    ) -> (Self, Vec<u8>) {
        // rule: MEM-1
        let material = Material {
            symmetric: Locked::fill(|key| rng.fill_bytes(key)),
            seed: Locked::fill(|seed| rng.fill_bytes(seed)),
        };
        let came = (KekOrigin::Generated, None, None);
        Self::sealed(material, (dataset, version), now, came, root, rng)
    }

    /// A new version, enabled, whose key material is derived of what was brought, and sealed for its file
    /// (IMP-2).
    pub(super) fn import(
        realm: &str,
        (dataset, version): (DatasetId, u64),
        now: Timestamp,
        brought: &import::Material,
        came: (Provenance, Option<Timestamp>),
        root: &RootKey,
        rng: &mut impl CryptoRng,
    ) -> (Self, Vec<u8>) {
        // rule: IMP-2, MEM-1
        let derived = |half| {
            erasing_stack::<CIPHER_STACK, _>(|| {
                Locked::fill(|key| derive(&brought.0, realm, dataset, half, key))
            })
        };
        let material = Material {
            symmetric: derived(Half::Symmetric),
            seed: derived(Half::Seed),
        };
        let came = (KekOrigin::Imported, Some(came.0), came.1);
        Self::sealed(material, (dataset, version), now, came, root, rng)
    }

    fn sealed(
        material: Material,
        (dataset, version): (DatasetId, u64),
        now: Timestamp,
        (origin, provenance, expiry): (KekOrigin, Option<Provenance>, Option<Timestamp>),
        root: &RootKey,
        rng: &mut impl CryptoRng,
    ) -> (Self, Vec<u8>) {
        let mut record = KekRecord {
            dataset,
            kek: KekId::random(rng),
            version,
            state: KekState::Enabled,
            origin,
            created: now,
            destroyed: None,
            public: Some(public(&material.seed)),
            file: None,
            provenance,
            expiry,
            lapsed: false,
        };
        let sealed = material.seal(&record, root, rng);
        record.file = Some(file_digest(&sealed));
        let kek = Self {
            record,
            material: Some(std::sync::Arc::new(material)),
        };
        (kek, sealed)
    }

    /// The version of a record, with what its file holds.
    pub(super) fn open(
        root: &RootKey,
        record: KekRecord,
        sealed: Option<&[u8]>,
    ) -> Result<Self, LoadError> {
        let material = match (sealed, record.file) {
            (None, None) => None,
            // rule: KEK-5
            (Some(sealed), Some(digest)) if file_digest(sealed) == digest => {
                let material = Material::open(&record, root, sealed)?;
                let public = public(&material.seed);
                if record.public.as_ref() != Some(&public) {
                    return Err(LoadError::Place);
                }
                Some(std::sync::Arc::new(material))
            }
            _ => return Err(LoadError::File(record.path())),
        };
        Ok(Self { record, material })
    }

    /// The same key material under another record.
    pub(super) fn with(&self, record: KekRecord) -> Self {
        let material = self.material.clone().filter(|_| record.file.is_some());
        Self { record, material }
    }

    fn material(&self) -> Result<&Material, VaultError> {
        self.material.as_deref().ok_or(VaultError::State)
    }

    /// Uses the symmetric key: the copy is on a stack that is erased behind the request.
    pub(super) fn with_symmetric<T>(
        &self,
        _: &Scratch,
        work: impl FnOnce(&secret::Kek) -> T,
    ) -> Result<T, VaultError> {
        // rule: MEM-1
        let key = &self.material()?.symmetric;
        Ok(work(&secret::Kek::from_bytes(**key)))
    }

    /// Uses the X-Wing key: the copy is on the stack, and erased behind the use.
    pub(super) fn with_decapsulation<T>(
        &self,
        work: impl FnOnce(&SealingSecret) -> T,
    ) -> Result<T, VaultError> {
        // rule: MEM-1
        let seed = &self.material()?.seed;
        Ok(erasing_stack::<KEM_STACK, _>(|| {
            work(&sealing_secret(seed))
        }))
    }

    /// The key material, sealed under the secret of an export.
    pub(super) fn export(
        &self,
        place: &ExportPlace<'_>,
        secret: &Locked<32>,
    ) -> Result<Vec<u8>, VaultError> {
        // rule: IMP-4, MEM-1
        let material = self.material()?;
        let sealed = erasing_stack::<CIPHER_STACK, _>(|| {
            place.seal(secret, &material.symmetric, &material.seed)
        });
        sealed.map_err(|_| VaultError::State)
    }

    pub(super) fn may_wrap(&self) -> Result<(), VaultError> {
        // rule: KEK-1
        match self.record.state {
            KekState::Enabled => Ok(()),
            KekState::PendingDestruction => Err(VaultError::Pending),
            KekState::DecryptOnly | KekState::Disabled | KekState::Destroyed => {
                Err(VaultError::State)
            }
        }
    }

    pub(super) fn may_open(&self) -> Result<(), VaultError> {
        // rule: KEK-1
        match self.record.state {
            KekState::Enabled | KekState::DecryptOnly => Ok(()),
            KekState::PendingDestruction => Err(VaultError::Pending),
            KekState::Disabled | KekState::Destroyed => Err(VaultError::State),
        }
    }
}

impl Material {
    /// `[2, dataset, kek id, symmetric key, seed]`, sealed for the version's path.
    fn seal(&self, record: &KekRecord, root: &RootKey, rng: &mut impl CryptoRng) -> Vec<u8> {
        // Room for all of it: a buffer that grows leaves a copy behind that nobody erases.
        let mut writer = Writer::with_capacity(256);
        writer.array(5).uint(2);
        record.dataset.encode(&mut writer);
        record.kek.encode(&mut writer);
        writer
            .bytes(self.symmetric.expose())
            .bytes(self.seed.expose());
        let plain = Zeroizing::new(writer.into_bytes());
        // rule: REST-1
        root.seal(&record.path(), &plain, rng)
    }

    fn open(record: &KekRecord, root: &RootKey, sealed: &[u8]) -> Result<Self, LoadError> {
        // rule: REST-1
        let plain = root.open(&record.path(), sealed)?;
        let mut reader = Reader::new(&plain);
        reader.array(5..=5)?;
        if reader.uint()? != 2 {
            return Err(DecodeError::OutOfRange("version of key material").into());
        }
        let named = (DatasetId::decode(&mut reader)?, KekId::decode(&mut reader)?);
        // rule: MEM-1
        let mut locked = || {
            erasing_stack::<CIPHER_STACK, _>(|| {
                let bytes = Zeroizing::new(reader.array_of()?);
                Ok::<_, DecodeError>(Locked::copied(&bytes))
            })
        };
        let (symmetric, seed) = (locked()?, locked()?);
        reader.finish()?;
        if named != (record.dataset, record.kek) {
            return Err(LoadError::Place);
        }
        Ok(Self { symmetric, seed })
    }
}

/// Stack that an AEAD uses, in bytes.
pub(super) const CIPHER_STACK: usize = 16 * 1024;
/// Stack that an X-Wing key uses, in bytes.
pub(super) const KEM_STACK: usize = 192 * 1024;

pub(super) fn public(seed: &Locked<32>) -> SealingKey {
    // rule: MEM-1
    erasing_stack::<KEM_STACK, _>(|| sealing_secret(seed).public())
}

pub(super) fn sealing_secret(seed: &[u8; 32]) -> SealingSecret {
    SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes(*seed))
}

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KekRecord {
            kek,
            version,
            state,
            ..
        } = &self.record;
        write!(f, "Kek({kek}, version {version}, {state:?})")
    }
}
