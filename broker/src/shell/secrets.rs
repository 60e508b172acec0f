//! The broker's secret keys: sealed under the root key in `data-dir/keys` (REST-1).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand_core::CryptoRng;
use serde::Deserialize;
use store::files::{self, FileError};
use store::pkcs11::{Pkcs11Error, SigningToken};
use store::sealed::{RootKey, SALT_BYTES, SealedError};
use ticket_format::keys::{FeedSecret, TlsSecret};
use ticket_format::secret::PairsKey;
use ticket_format::statement::Role;
use ticket_format::ticket::NotSigned;
use ticket_format::tlog::{LogSecret, Origin, WitnessSecret};
use zeroize::Zeroizing;

use super::ticket_store::{TICKET, TicketStore};

/// Largest credential or passphrase file, in bytes.
const SECRET_FILE: u64 = 4_096;
/// Largest sealed key, in bytes.
const SEALED_FILE: u64 = 1_024;

/// Where the root key comes from. Exactly one member is given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RootKeyConfig {
    /// A file of 32 bytes or 64 hexadecimal digits, for example a systemd credential.
    pub credential: Option<PathBuf>,
    /// A file with a passphrase of 8 to 1,024 bytes; the key is derived by Argon2id.
    pub passphrase_file: Option<PathBuf>,
}

/// Why the secrets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A root key or sealed value.
    #[error("{path}: {source}")]
    Sealed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: SealedError,
    },
    /// Both or neither source of the root key.
    #[error("[root-key] needs exactly one of credential and passphrase-file")]
    RootKeySource,
    /// A salt or key file of another length.
    #[error("{0} is damaged: it has the wrong length")]
    Length(PathBuf),
    /// One key in two places (SIG-5).
    #[error("the keys {0} and {1} are the same: each has one purpose; restore what `init` made")]
    Same(&'static str, &'static str),
    /// A seed of which no key can be made.
    #[error("the key {0} cannot be used")]
    Unusable(&'static str),
    /// The token of the ticket keys.
    #[error(transparent)]
    Token(#[from] Pkcs11Error),
    /// The token has keys of this label.
    #[error(
        "the PKCS#11 token has a key of this label, which exists already: name another label for a new broker"
    )]
    TokenInUse,
    /// A key that does not sign.
    #[error(transparent)]
    NotSigned(#[from] NotSigned),
    /// Neither a file nor the token has a ticket key.
    #[error(
        "there is no ticket key: restore data-dir/keys as it was, or name the token by [ticket-key.pkcs11]"
    )]
    NoTicketKey,
}

/// The seeds of an Ed25519 and an ML-DSA-44 key that sign together.
pub struct Seeds {
    ed25519: Zeroizing<[u8; 32]>,
    ml_dsa: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seeds(..)")
    }
}

/// The broker's secret keys, one for each purpose (SIG-5).
#[derive(Debug)]
pub struct Secrets {
    /// Its identity.
    pub tls: TlsSecret,
    /// Those that sign tickets, and what keeps the ones to come.
    pub tickets: TicketStore,
    /// Signs feed answers.
    pub feed: FeedSecret,
    /// Sign the log's checkpoints.
    pub log: Seeds,
    /// Keys the digests of required pairs in the log's entries.
    pub pairs: PairsKey,
    /// Sign the checkpoints of other logs.
    pub witness: Seeds,
}

/// What each key is called, in the data directory and in messages.
const NAMES: [&str; 7] = [
    "tls",
    "feed",
    "log-ed25519",
    "log-ml-dsa",
    "pairs",
    "witness-ed25519",
    "witness-ml-dsa",
];

fn salt_path(data: &Path) -> PathBuf {
    data.join("root-salt")
}

pub(super) fn key_path(data: &Path, name: &str) -> PathBuf {
    data.join("keys").join(format!("{name}.sealed"))
}

/// Associated data: the place in the data directory, so that one key cannot stand in for another.
pub(super) fn place(name: &str) -> String {
    format!("broker/keys/{name}")
}

impl RootKeyConfig {
    /// Says whether the file is there, this user's alone, and of a length that a root key can come from.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn check(&self) -> Result<(), SecretsError> {
        let (path, short) = match (&self.credential, &self.passphrase_file) {
            (Some(path), None) => (path, SealedError::Credential),
            (None, Some(path)) => (path, SealedError::Passphrase),
            _ => return Err(SecretsError::RootKeySource),
        };
        let secret = Zeroizing::new(files::read_private(path, SECRET_FILE)?);
        let enough = match short {
            SealedError::Credential => RootKey::from_credential(&secret).is_ok(),
            _ => secret.strip_suffix(b"\n").unwrap_or(&secret).len() >= 8,
        };
        let path = path.clone();
        if enough {
            Ok(())
        } else {
            Err(SecretsError::Sealed {
                path,
                source: short,
            })
        }
    }

    /// Reads the root key.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn open(&self, data: &Path) -> Result<RootKey, SecretsError> {
        let sealed = |path: &Path| {
            let path = path.to_owned();
            move |source| SecretsError::Sealed { path, source }
        };
        match (&self.credential, &self.passphrase_file) {
            (Some(path), None) => {
                let credential = Zeroizing::new(files::read_private(path, SECRET_FILE)?);
                RootKey::from_credential(&credential).map_err(sealed(path))
            }
            (None, Some(path)) => {
                let text = Zeroizing::new(files::read_private(path, SECRET_FILE)?);
                let salt = files::read_bounded(&salt_path(data), SALT_BYTES as u64)?;
                let salt = <[u8; SALT_BYTES]>::try_from(salt)
                    .map_err(|_| SecretsError::Length(salt_path(data)))?;
                let passphrase = text.strip_suffix(b"\n").unwrap_or(&text);
                RootKey::from_passphrase(passphrase, &salt).map_err(sealed(path))
            }
            _ => Err(SecretsError::RootKeySource),
        }
    }
}

/// Makes the directory of a new broker's keys, and its salt.
///
/// # Errors
/// [`SecretsError`]; something exists already.
pub fn prepare(data: &Path, rng: &mut impl CryptoRng) -> Result<(), SecretsError> {
    files::private_dir(data)?;
    files::private_dir(&data.join("keys"))?;
    let mut salt = [0; SALT_BYTES];
    rng.fill_bytes(&mut salt);
    Ok(files::create_private(&salt_path(data), &salt)?)
}

impl Secrets {
    /// Makes fresh keys and seals them; refuses to replace any. The first ticket key is made in the token,
    /// where one is named.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn create(
        data: &Path,
        root: &RootKey,
        token: Option<Arc<SigningToken>>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, SecretsError> {
        let mut seeds = [const { [0; 32] }; NAMES.len()].map(Zeroizing::new);
        // rule: REST-1
        for (name, seed) in NAMES.iter().zip(&mut seeds) {
            rng.fill_bytes(seed.as_mut());
            seal_new(data, root, name, &seed[..], rng)?;
        }
        let tickets = TicketStore::create(data, root, token, rng)?;
        Self::of(seeds, tickets)
    }

    /// In the order of [`NAMES`].
    fn of(
        seeds: [Zeroizing<[u8; 32]>; NAMES.len()],
        tickets: TicketStore,
    ) -> Result<Self, SecretsError> {
        // rule: SIG-5
        if let Some(other) = seeds.iter().position(|seed| tickets.holds(seed)) {
            return Err(SecretsError::Same(NAMES[other], TICKET));
        }
        for (at, seed) in seeds.iter().enumerate() {
            if let Some(other) = seeds[..at].iter().position(|other| other == seed) {
                return Err(SecretsError::Same(NAMES[other], NAMES[at]));
            }
        }
        let [
            tls,
            feed,
            log_ed25519,
            log_ml_dsa,
            pairs,
            witness_ed25519,
            witness_ml_dsa,
        ] = seeds;
        Ok(Self {
            tls: TlsSecret::from_seed(&tls),
            tickets,
            feed: FeedSecret::from_seed(&feed),
            log: Seeds {
                ed25519: log_ed25519,
                ml_dsa: log_ml_dsa,
            },
            pairs: PairsKey::from_bytes(*pairs),
            witness: Seeds {
                ed25519: witness_ed25519,
                ml_dsa: witness_ml_dsa,
            },
        })
    }

    /// The name of the broker's log.
    #[must_use]
    pub fn origin(&self, realm: &str) -> Origin {
        Origin::new(realm, Role::Broker, &self.tls.public())
    }

    /// The log's keys.
    ///
    /// # Errors
    /// [`SecretsError::Unusable`].
    pub fn log(&self, realm: &str) -> Result<LogSecret, SecretsError> {
        LogSecret::from_seeds(self.origin(realm), &self.log.ed25519, &self.log.ml_dsa)
            .map_err(|_| SecretsError::Unusable("log-ml-dsa"))
    }

    /// The keys by which the broker witnesses other logs; their name is its log's and `/witness`.
    ///
    /// # Errors
    /// [`SecretsError::Unusable`].
    pub fn witness(&self, realm: &str) -> Result<WitnessSecret, SecretsError> {
        let name = format!("{}/witness", self.origin(realm));
        WitnessSecret::from_seeds(&name, &self.witness.ed25519, &self.witness.ml_dsa)
            .map_err(|_| SecretsError::Unusable("witness-ml-dsa"))
    }

    /// Opens them.
    ///
    /// # Errors
    /// [`SecretsError`]; without the right root key nothing opens.
    pub fn open(data: &Path, root: &RootKey) -> Result<Self, SecretsError> {
        // Whoever may write here could put an older store in place.
        if data.exists() {
            files::private_dir(data)?;
        }
        let mut seeds = [const { [0; 32] }; NAMES.len()].map(Zeroizing::new);
        for (name, place) in NAMES.iter().zip(&mut seeds) {
            *place = open_seed(data, root, name)?;
        }
        Self::of(seeds, TicketStore::open(data, root)?)
    }
}

/// Seals a value in a new file.
pub(super) fn seal_new(
    data: &Path,
    root: &RootKey,
    name: &str,
    value: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(), SecretsError> {
    // rule: REST-1
    let sealed = root.seal(&place(name), value, rng);
    Ok(files::create_private(&key_path(data, name), &sealed)?)
}

pub(super) fn open_seed(
    data: &Path,
    root: &RootKey,
    name: &str,
) -> Result<Zeroizing<[u8; 32]>, SecretsError> {
    // rule: REST-1
    let path = key_path(data, name);
    let sealed = files::read_private(&path, SEALED_FILE)?;
    let opened = root
        .open(&place(name), &sealed)
        .map_err(|source| SecretsError::Sealed {
            path: path.clone(),
            source,
        })?;
    let seed = <[u8; 32]>::try_from(opened.as_slice()).map_err(|_| SecretsError::Length(path))?;
    Ok(Zeroizing::new(seed))
}

#[cfg(test)]
mod tests {
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    use super::*;

    #[test]
    fn a_copied_data_directory_opens_nothing_without_the_root_key() {
        // rule: REST-1
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let rng = &mut UnwrapErr(SysRng);
        prepare(&data, rng).unwrap();
        let root = RootKey::from_credential(&[7; 32]).unwrap();
        let made = Secrets::create(&data, &root, None, rng).unwrap();
        let first = |secrets: &Secrets| secrets.tickets.first().unwrap();
        let opened = Secrets::open(&data, &root).unwrap();
        assert_eq!(first(&opened), first(&made));
        let ticket = open_seed(&data, &root, TICKET).unwrap();
        let other = RootKey::from_credential(&[8; 32]).unwrap();
        assert!(matches!(
            Secrets::open(&data, &other),
            Err(SecretsError::Sealed { .. })
        ));
        assert!(matches!(
            Secrets::create(&data, &root, None, rng),
            Err(SecretsError::File(FileError::Exists(_)))
        ));
        std::fs::rename(key_path(&data, "tls"), key_path(&data, "ticket")).unwrap();
        assert!(Secrets::open(&data, &root).is_err());
        let seeds = [made.tls.seed(), ticket, made.feed.seed()];
        let others = [&made.log, &made.witness];
        let others = others.map(|seeds| [seeds.ed25519.clone(), seeds.ml_dsa.clone()]);
        let pairs = Zeroizing::new(*made.pairs.expose());
        let seeds = seeds.into_iter().chain(others.into_iter().flatten());
        let seeds: Vec<_> = seeds.chain([pairs]).collect();
        assert_eq!(seeds.len(), NAMES.len() + 1);
        for entry in std::fs::read_dir(data.join("keys")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for seed in &seeds {
                assert!(!bytes.windows(32).any(|window| window == &seed[..]));
            }
        }
    }

    #[test]
    fn two_keys_of_a_broker_are_never_the_same() {
        // rule: SIG-5
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let rng = &mut UnwrapErr(SysRng);
        prepare(&data, rng).unwrap();
        let root = RootKey::from_credential(&[7; 32]).unwrap();
        let made = Secrets::create(&data, &root, None, rng).unwrap();
        for (name, other) in [("log-ed25519", "tls"), ("witness-ml-dsa", "log-ml-dsa")] {
            let path = key_path(&data, name);
            let before = std::fs::read(&path).unwrap();
            let seed = match other {
                "tls" => made.tls.seed(),
                _ => made.log.ml_dsa.clone(),
            };
            std::fs::remove_file(&path).unwrap();
            files::create_private(&path, &root.seal(&place(name), &seed[..], rng)).unwrap();
            let refused = Secrets::open(&data, &root).unwrap_err();
            assert!(
                matches!(refused, SecretsError::Same(one, two) if (one, two) == (other, name)),
                "{refused}"
            );
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, before).unwrap();
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Secrets::open(&data, &root).unwrap();
    }
}
