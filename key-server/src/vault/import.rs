//! Material that comes from elsewhere: the keys that it is wrapped to, and how it is opened (IMP-1).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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

use super::kek::{KEM_STACK, public, sealing_secret};

/// For so long material can be brought, in seconds.
pub const IMPORT_LIFE: u64 = 86_400;
/// Most imports that are open at one time.
pub const IMPORTS: usize = 16;
/// After so many wraps that do not open an import is over: nobody learns of its keys by trying.
pub const FAILURES: u8 = 3;

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

struct Open {
    keys: Arc<ImportKeys>,
    failures: u8,
}

/// The imports that are open, one of a dataset.
#[derive(Default)]
pub struct Imports(Mutex<HashMap<DatasetId, Open>>);

impl Imports {
    /// Whether there is room for one of this dataset; those that are over are forgotten.
    #[must_use]
    pub fn have_room(&self, dataset: DatasetId, now: Timestamp) -> bool {
        // rule: IMP-1
        let mut open = self.lock();
        open.retain(|_, open| open.keys.expires > now);
        open.contains_key(&dataset) || open.len() < IMPORTS
    }

    /// Takes these in place of those that the dataset had.
    pub fn put(&self, keys: Arc<ImportKeys>) {
        // rule: IMP-1
        let fresh = Open {
            failures: 0,
            keys: Arc::clone(&keys),
        };
        self.lock().insert(keys.dataset, fresh);
    }

    /// The keys of this import of this dataset, if it is open.
    #[must_use]
    pub fn find(
        &self,
        dataset: DatasetId,
        import: ImportId,
        now: Timestamp,
    ) -> Option<Arc<ImportKeys>> {
        // rule: IMP-1
        let open = self.lock();
        let keys = &open.get(&dataset)?.keys;
        (keys.id == import && keys.expires > now).then(|| Arc::clone(keys))
    }

    /// A wrap did not open: too many of these end the import.
    pub fn failed(&self, keys: &ImportKeys) {
        // rule: IMP-1
        let mut all = self.lock();
        if let Some(open) = all
            .get_mut(&keys.dataset)
            .filter(|open| open.keys.id == keys.id)
        {
            open.failures += 1;
            if open.failures >= FAILURES {
                all.remove(&keys.dataset);
            }
        }
    }

    /// A wrap opened: the import is used.
    pub fn spent(&self, keys: &ImportKeys) {
        // rule: IMP-1
        let mut all = self.lock();
        if all
            .get(&keys.dataset)
            .is_some_and(|open| open.keys.id == keys.id)
        {
            all.remove(&keys.dataset);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DatasetId, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

impl std::fmt::Debug for Imports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Imports({})", self.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use ticket_format::keys::TlsSecret;

    const MAPS: DatasetId = DatasetId([1; 16]);

    fn server() -> TlsKey {
        TlsSecret::from_seed(&[1; 32]).public()
    }

    #[test]
    fn material_is_opened_by_the_key_that_it_was_wrapped_to_and_checked() {
        // rule: IMP-1, IMP-2
        let rng = &mut UnwrapErr(SysRng);
        let keys = ImportKeys::generate(MAPS, Timestamp::default(), rng).unwrap();
        let begun = keys.begun();
        assert_eq!(begun.expires, Timestamp::default().plus(86_400));
        let mut material = [3; 32];
        material[0] = 4;
        let place = ImportPlace {
            realm: "test",
            server: server(),
            dataset: MAPS,
            import: begun.import,
        };
        let hpke = place.wrap(&begun.key, &material, rng).unwrap();
        let rsa = transfer::rsa_wrap(&begun.rsa, &material).unwrap();
        let open = |how, wrapped: &[u8]| keys.open("test", server(), how, wrapped);
        for (how, wrapped) in [(ImportHow::Hpke, &hpke), (ImportHow::RsaOaep, &rsa)] {
            let opened = open(how, wrapped).unwrap();
            assert_eq!(opened.check(&transfer::commitment(&material)), Ok(()));
            assert_eq!(opened.check(&[0; 32]), Err(BadMaterial::Commitment));
            let mut damaged = wrapped.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(open(how, &damaged).is_none());
            damaged.pop();
            assert!(open(how, &damaged).is_none());
        }
        assert!(open(ImportHow::RsaOaep, &hpke).is_none());
        assert!(open(ImportHow::Hpke, &rsa).is_none());
        assert!(
            keys.open("other", server(), ImportHow::Hpke, &hpke)
                .is_none()
        );
        let weak = transfer::rsa_wrap(&begun.rsa, &[7; 32]).unwrap();
        let weak = open(ImportHow::RsaOaep, &weak).unwrap();
        assert_eq!(
            weak.check(&transfer::commitment(&[7; 32])),
            Err(BadMaterial::Guessable)
        );
        assert_eq!(format!("{weak:?}"), "Material(..)");
    }

    #[test]
    fn an_import_is_found_until_it_is_used_replaced_tried_too_often_or_over() {
        // rule: IMP-1
        let rng = &mut UnwrapErr(SysRng);
        let now = Timestamp::default();
        let keys = || Arc::new(ImportKeys::generate(MAPS, now, &mut UnwrapErr(SysRng)).unwrap());
        let imports = Imports::default();
        let (first, second) = (keys(), keys());
        let found = |keys: &ImportKeys, at| imports.find(MAPS, keys.id, at).is_some();
        imports.put(Arc::clone(&first));
        assert!(found(&first, now.plus(IMPORT_LIFE - 1)) && !found(&first, now.plus(IMPORT_LIFE)));
        assert!(imports.find(DatasetId([2; 16]), first.id, now).is_none());
        imports.put(Arc::clone(&second));
        assert!(!found(&first, now) && found(&second, now));
        imports.spent(&first);
        imports.failed(&first);
        for _ in 1..FAILURES {
            imports.failed(&second);
            assert!(found(&second, now));
        }
        imports.failed(&second);
        assert!(!found(&second, now));
        imports.put(Arc::clone(&first));
        imports.spent(&first);
        assert!(!found(&first, now));
        // Room for so many datasets, and for another of one that has one.
        let one = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        for dataset in 0..IMPORTS {
            let dataset = DatasetId([u8::try_from(dataset).unwrap(); 16]);
            assert!(imports.have_room(dataset, now));
            imports.put(Arc::new(ImportKeys {
                id: ImportId::random(rng),
                dataset,
                expires: now.plus(9),
                seed: Locked::zeroed(),
                rsa: OaepPrivateDecryptingKey::new(one.clone()).unwrap(),
                rsa_public: Vec::new(),
            }));
        }
        let another = DatasetId([99; 16]);
        assert!(!imports.have_room(another, now) && imports.have_room(MAPS, now));
        assert!(imports.have_room(another, now.plus(9)));
    }
}
