//! The broker's secret keys: sealed under the root key in `data-dir/keys` (REST-1).

use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use serde::Deserialize;
use store::files::{self, FileError};
use store::sealed::{RootKey, SALT_BYTES, SealedError};
use ticket_format::keys::{FeedSecret, TicketSecret, TlsSecret};
use zeroize::Zeroizing;

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
}

/// The broker's secret keys, one for each purpose (SIG-5).
#[derive(Debug)]
pub struct Secrets {
    /// Its identity.
    pub tls: TlsSecret,
    /// Signs tickets.
    pub ticket: TicketSecret,
    /// Signs feed answers.
    pub feed: FeedSecret,
}

fn salt_path(data: &Path) -> PathBuf {
    data.join("root-salt")
}

fn key_path(data: &Path, name: &str) -> PathBuf {
    data.join("keys").join(format!("{name}.sealed"))
}

/// Associated data: the place in the data directory, so that one key cannot stand in for another.
fn place(name: &str) -> String {
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
    /// Makes fresh keys and seals them; refuses to replace any.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn create(
        data: &Path,
        root: &RootKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, SecretsError> {
        let secrets = Self {
            tls: TlsSecret::generate(rng),
            ticket: TicketSecret::generate(rng),
            feed: FeedSecret::generate(rng),
        };
        // rule: REST-1
        for (name, seed) in [
            ("tls", secrets.tls.seed()),
            ("ticket", secrets.ticket.seed()),
            ("feed", secrets.feed.seed()),
        ] {
            files::create_private(
                &key_path(data, name),
                &root.seal(&place(name), &seed[..], rng),
            )?;
        }
        Ok(secrets)
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
        // rule: REST-1
        let seed = |name: &str| {
            let path = key_path(data, name);
            let sealed = files::read_private(&path, SEALED_FILE)?;
            let opened =
                root.open(&place(name), &sealed)
                    .map_err(|source| SecretsError::Sealed {
                        path: path.clone(),
                        source,
                    })?;
            let seed = Zeroizing::new(
                <[u8; 32]>::try_from(opened.as_slice()).map_err(|_| SecretsError::Length(path))?,
            );
            Ok::<_, SecretsError>(seed)
        };
        Ok(Self {
            tls: TlsSecret::from_seed(&*seed("tls")?),
            ticket: TicketSecret::from_seed(&*seed("ticket")?),
            feed: FeedSecret::from_seed(&*seed("feed")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    #[test]
    fn a_copied_data_directory_opens_nothing_without_the_root_key() {
        // rule: REST-1
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let rng = &mut UnwrapErr(SysRng);
        prepare(&data, rng).unwrap();
        let root = RootKey::from_credential(&[7; 32]).unwrap();
        let made = Secrets::create(&data, &root, rng).unwrap();
        assert_eq!(
            Secrets::open(&data, &root).unwrap().ticket.public(),
            made.ticket.public()
        );
        let other = RootKey::from_credential(&[8; 32]).unwrap();
        assert!(matches!(
            Secrets::open(&data, &other),
            Err(SecretsError::Sealed { .. })
        ));
        assert!(matches!(
            Secrets::create(&data, &root, rng),
            Err(SecretsError::File(FileError::Exists(_)))
        ));
        std::fs::rename(key_path(&data, "tls"), key_path(&data, "ticket")).unwrap();
        assert!(Secrets::open(&data, &root).is_err());
        for entry in std::fs::read_dir(data.join("keys")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for seed in [made.tls.seed(), made.ticket.seed(), made.feed.seed()] {
                assert!(!bytes.windows(32).any(|window| window == &seed[..]));
            }
        }
    }
}
