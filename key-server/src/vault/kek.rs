//! One KEK version, and its record at rest. Nothing here is visible beyond the vault.

use rand_core::CryptoRng;
use store::locked::Locked;
use store::sealed::RootKey;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{DatasetId, KekId};
use ticket_format::seal::{Kem, SealingKey, SealingSecret};
use ticket_format::secret::{self, SealingSeed};
use zeroize::Zeroizing;

use super::{KekInfo, LoadError, VaultError};

/// What a KEK version may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KekState {
    /// Wraps and opens.
    Active,
    /// Opens only: a newer version wraps.
    OpensOnly,
    /// Neither, until an admin says otherwise.
    Disabled,
}

impl KekState {
    fn number(self) -> u64 {
        match self {
            Self::Active => 1,
            Self::OpensOnly => 2,
            Self::Disabled => 3,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        [Self::Active, Self::OpensOnly, Self::Disabled]
            .into_iter()
            .find(|state| state.number() == number)
    }
}

/// Where a KEK's record stands in the store; also its associated data.
#[must_use]
pub fn path(dataset: DatasetId, kek: KekId) -> String {
    format!("kek/{dataset}/{kek}")
}

/// One KEK version: a symmetric key for local wraps and an X-Wing key for public ones. Its secrets
/// are in locked pages and erase themselves on drop (MEM-1).
pub(super) struct Kek {
    pub(super) dataset: DatasetId,
    pub(super) id: KekId,
    pub(super) version: u64,
    pub(super) state: KekState,
    symmetric: Locked<32>,
    seed: Locked<32>,
    public: SealingKey,
}

impl Kek {
    pub(super) fn generate(dataset: DatasetId, version: u64, rng: &mut impl CryptoRng) -> Self {
        // rule: MEM-1
        let symmetric = Locked::fill(|key| rng.fill_bytes(key));
        let seed = Locked::fill(|seed| rng.fill_bytes(seed));
        Self {
            dataset,
            id: KekId::random(rng),
            version,
            state: KekState::Active,
            symmetric,
            public: sealing_secret(&seed).public(),
            seed,
        }
    }

    pub(super) fn info(&self) -> KekInfo {
        KekInfo {
            dataset: self.dataset,
            id: self.id,
            version: self.version,
            state: self.state,
            public: self.public.clone(),
        }
    }

    /// The symmetric key, for one use: the copy is on the user's stack, and erased behind it.
    pub(super) fn symmetric(&self) -> secret::Kek {
        secret::Kek::from_bytes(*self.symmetric)
    }

    /// The X-Wing key, for one use, as [`Kek::symmetric`].
    pub(super) fn decapsulation(&self) -> SealingSecret {
        sealing_secret(&self.seed)
    }

    pub(super) fn may_wrap(&self) -> Result<(), VaultError> {
        if self.state == KekState::Active {
            Ok(())
        } else {
            Err(VaultError::State)
        }
    }

    pub(super) fn may_open(&self) -> Result<(), VaultError> {
        if self.state == KekState::Disabled {
            Err(VaultError::State)
        } else {
            Ok(())
        }
    }

    /// `[1, dataset, kek id, version, state, symmetric key, seed]`, sealed for `path`.
    pub(super) fn seal(&self, root: &RootKey, path: &str, rng: &mut impl CryptoRng) -> Vec<u8> {
        // Room for all of it: a buffer that grows leaves a copy behind that nobody erases.
        let mut writer = Writer::with_capacity(256);
        writer.array(7).uint(1);
        self.dataset.encode(&mut writer);
        self.id.encode(&mut writer);
        writer.uint(self.version).uint(self.state.number());
        writer
            .bytes(self.symmetric.expose())
            .bytes(self.seed.expose());
        let plain = Zeroizing::new(writer.into_bytes());
        root.seal(path, &plain, rng)
    }

    pub(super) fn unseal(root: &RootKey, at: &str, record: &[u8]) -> Result<Self, LoadError> {
        let plain = root.open(at, record)?;
        let mut reader = Reader::new(&plain);
        reader.array(7..=7)?;
        if reader.uint()? != 1 {
            return Err(DecodeError::OutOfRange("version of a KEK record").into());
        }
        let (dataset, id) = (DatasetId::decode(&mut reader)?, KekId::decode(&mut reader)?);
        let version = reader.uint()?;
        let state =
            KekState::from_number(reader.uint()?).ok_or(DecodeError::OutOfRange("KEK state"))?;
        // rule: MEM-1
        let symmetric = Locked::copied(&Zeroizing::new(reader.array_of()?));
        let seed = Locked::copied(&Zeroizing::new(reader.array_of()?));
        reader.finish()?;
        if at != path(dataset, id) {
            return Err(LoadError::Place);
        }
        Ok(Self {
            dataset,
            id,
            version,
            state,
            symmetric,
            public: sealing_secret(&seed).public(),
            seed,
        })
    }
}

fn sealing_secret(seed: &[u8; 32]) -> SealingSecret {
    SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes(*seed))
}

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Kek({}, version {}, {:?})",
            self.id, self.version, self.state
        )
    }
}

#[cfg(test)]
impl Kek {
    pub(super) fn in_state(mut self, state: KekState) -> Self {
        self.state = state;
        self
    }
}
