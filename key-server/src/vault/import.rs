//! Material that comes from elsewhere: the keys that it is wrapped to, and how it is opened (IMP-1).

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use rand_core::CryptoRng;
use store::locked::{Locked, erasing_stack};
use ticket_format::ids::{DatasetId, ImportId};
use ticket_format::keys::TlsKey;
use ticket_format::seal::SealingKey;
use ticket_format::statement::{ImportBegun, ImportHow};
use ticket_format::time::Timestamp;
use ticket_format::transfer::{self, ImportPlace, MATERIAL, RSA_WRAPPED};
use zeroize::Zeroizing;

use super::BadMaterial;
use super::kek::{KEM_STACK, public, sealing_secret};

/// For so long material can be brought, in seconds.
pub const IMPORT_LIFE: u64 = 86_400;

/// The keys of one import. Gone with the process.
pub struct ImportKeys {
    id: ImportId,
    dataset: DatasetId,
    expires: Timestamp,
    seed: Locked<32>,
    /// In ordinary memory, as the library has it.
    rsa: OaepPrivateDecryptingKey,
    rsa_public: Vec<u8>,
}

/// The library made no RSA key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no RSA key could be made")]
pub struct NoRsaKey;

impl ImportKeys {
    /// Makes them. It takes up to seconds: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`NoRsaKey`].
    pub fn generate(
        dataset: DatasetId,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, NoRsaKey> {
        // rule: IMP-1
        let rsa = PrivateDecryptingKey::generate(KeySize::Rsa4096).map_err(|_| NoRsaKey)?;
        let der: PublicKeyX509Der<'_> = rsa.public_key().as_der().map_err(|_| NoRsaKey)?;
        let rsa_public = der.as_ref().to_vec();
        Ok(Self {
            id: ImportId::random(rng),
            dataset,
            expires: now.plus(IMPORT_LIFE),
            // rule: MEM-1
            seed: Locked::fill(|seed| rng.fill_bytes(seed)),
            rsa: OaepPrivateDecryptingKey::new(rsa).map_err(|_| NoRsaKey)?,
            rsa_public,
        })
    }

    /// What may be known of them.
    #[must_use]
    pub fn begun(&self) -> ImportBegun {
        ImportBegun {
            import: self.id,
            key: self.public(),
            rsa: self.rsa_public.clone(),
            expires: self.expires,
            dataset: self.dataset,
        }
    }

    /// Which import.
    #[must_use]
    pub fn id(&self) -> ImportId {
        self.id
    }

    /// For which dataset.
    #[must_use]
    pub fn dataset(&self) -> DatasetId {
        self.dataset
    }

    /// Whether it is over.
    #[must_use]
    pub fn over(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    fn public(&self) -> SealingKey {
        public(&self.seed)
    }

    /// Opens what was wrapped to one of them, for this place.
    #[must_use]
    pub fn open(
        &self,
        realm: &str,
        server: TlsKey,
        how: ImportHow,
        wrapped: &[u8],
    ) -> Option<Material> {
        // rule: IMP-1
        match how {
            ImportHow::Hpke => {
                let place = ImportPlace {
                    realm,
                    server,
                    dataset: self.dataset,
                    import: self.id,
                };
                // rule: MEM-1
                erasing_stack::<KEM_STACK, _>(|| {
                    let opened = place.open(&sealing_secret(&self.seed), wrapped)?;
                    Some(Material(Locked::copied(&opened)))
                })
            }
            ImportHow::RsaOaep => {
                if wrapped.len() != RSA_WRAPPED {
                    return None;
                }
                let mut room = Zeroizing::new([0; RSA_WRAPPED]);
                let opened = self
                    .rsa
                    .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, room.as_mut_slice(), None)
                    .ok()?;
                // rule: IMP-2
                let opened: &[u8; MATERIAL] = (&*opened).try_into().ok()?;
                Some(Material(Locked::copied(opened)))
            }
        }
    }
}

/// Material that was brought, before keys are derived of it. Erased on drop.
pub struct Material(pub(super) Locked<MATERIAL>);

impl Material {
    /// Checks it by what its signers agreed on.
    ///
    /// # Errors
    /// [`BadMaterial`].
    pub fn check(&self, commitment: &[u8; 32]) -> Result<(), BadMaterial> {
        // rule: IMP-2
        if transfer::commitment(&self.0) != *commitment {
            return Err(BadMaterial::Commitment);
        }
        if transfer::guessable(&self.0) {
            return Err(BadMaterial::Guessable);
        }
        Ok(())
    }
}

impl std::fmt::Debug for ImportKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImportKeys({} of {})", self.id, self.dataset)
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Material(..)")
    }
}

#[cfg(test)]
mod tests;
