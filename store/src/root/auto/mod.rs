//! The automatic wrap: one of four kinds (ROOT-2).

mod file;
#[cfg(feature = "pkcs11")]
mod pkcs11;
#[cfg(feature = "tpm2")]
mod tpm2;
#[cfg(feature = "tpm2")]
mod tpm2_tools;

use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use serde::Deserialize;
use ticket_format::ids::RootId;
use ticket_format::statement::AutoKind;
use zeroize::Zeroizing;

use super::RootError;
use crate::files;
use crate::sealed::{RootKey, SALT_BYTES};

pub(super) use file::Wrapped;
pub(super) use file::{AutoWrap, LIMIT as AUTO_LIMIT};
#[cfg(feature = "tpm2")]
pub use tpm2::Tpm2Error;

/// Most bytes of a credential, passphrase or PIN file.
const SECRET_FILE: u64 = 4_096;

/// The automatic way as the configuration names it. What it names is read afresh each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// A private file of 32 bytes or 64 hexadecimal digits.
    Credential(PathBuf),
    /// A private file with one line of 8 to 1,024 bytes.
    Passphrase(PathBuf),
    /// A key in a PKCS#11 token.
    Pkcs11(Pkcs11Means),
    /// A TPM 2.0.
    Tpm2(Tpm2Means),
}

/// A key in a PKCS#11 token. A new wrap of a root key makes the key if the token has none of this label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pkcs11Means {
    /// The token's library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label.
    pub key: String,
    /// A private file with the user PIN in one line.
    pub pin_file: PathBuf,
}

/// A TPM 2.0, by tpm2-tools. Its owner hierarchy must have no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tpm2Means {
    /// Where it is, in the words of tpm2-tools (`device:/dev/tpmrm0`); theirs where none.
    pub tcti: Option<String>,
    /// The registers that must be as they were, in the words of tpm2-tools (`sha256:0,2,4,7`), for new
    /// wraps; an old one has its own.
    pub pcrs: String,
}

impl Means {
    /// Which kind.
    #[must_use]
    pub fn kind(&self) -> AutoKind {
        match self {
            Self::Credential(_) => AutoKind::Credential,
            Self::Passphrase(_) => AutoKind::Passphrase,
            Self::Pkcs11(_) => AutoKind::Pkcs11,
            Self::Tpm2(_) => AutoKind::Tpm2,
        }
    }
}

/// What the wrap is sealed for: its kind and the root key's id, as a path of REST-1.
fn place(kind: AutoKind, root: RootId) -> String {
    // rule: ROOT-2
    format!("root/{root}/{kind}")
}

/// Wraps a root key. `work` is a directory for what tools leave while they work.
pub(super) fn wrap(
    means: &Means,
    root: RootId,
    key: &RootKey,
    work: &Path,
    rng: &mut impl CryptoRng,
) -> Result<AutoWrap, RootError> {
    // rule: ROOT-2
    let place = place(means.kind(), root);
    let wrapped = match means {
        Means::Credential(path) => {
            let sealed = credential(path)?.seal(&place, key.expose(), rng);
            Wrapped::Credential { sealed }
        }
        Means::Passphrase(path) => {
            let mut salt = [0; SALT_BYTES];
            rng.fill_bytes(&mut salt);
            let sealed = passphrase(path, &salt)?.seal(&place, key.expose(), rng);
            Wrapped::Passphrase { salt, sealed }
        }
        #[cfg(feature = "pkcs11")]
        Means::Pkcs11(means) => pkcs11::wrap(means, &place, key, rng)?,
        #[cfg(feature = "tpm2")]
        Means::Tpm2(means) => tpm2::wrap(means, &place, key, work, rng)?,
        #[cfg(not(all(feature = "pkcs11", feature = "tpm2")))]
        other => return Err(RootError::NotBuilt(other.kind())),
    };
    let _ = work;
    Ok(AutoWrap { root, wrapped })
}

/// Opens a wrap.
pub(super) fn open(means: &Means, wrap: &AutoWrap, work: &Path) -> Result<RootKey, RootError> {
    // rule: ROOT-2
    let place = place(means.kind(), wrap.root);
    let kind = wrap.kind();
    let by = |opener: RootKey, sealed: &[u8]| opened(kind, opener.open(&place, sealed).ok());
    match (means, &wrap.wrapped) {
        (Means::Credential(path), Wrapped::Credential { sealed }) => by(credential(path)?, sealed),
        (Means::Passphrase(path), Wrapped::Passphrase { salt, sealed }) => {
            by(passphrase(path, salt)?, sealed)
        }
        #[cfg(feature = "pkcs11")]
        (Means::Pkcs11(means), Wrapped::Pkcs11 { nonce, sealed }) => {
            opened(kind, pkcs11::open(means, &place, nonce, sealed)?)
        }
        #[cfg(feature = "tpm2")]
        (Means::Tpm2(means), Wrapped::Tpm2 { object, sealed }) => {
            by(tpm2::open(means, object, work)?, sealed)
        }
        #[cfg(not(all(feature = "pkcs11", feature = "tpm2")))]
        _ if kind == means.kind() => Err(RootError::NotBuilt(kind)),
        _ => {
            let _ = work;
            Err(RootError::Kind {
                wrap: kind,
                means: means.kind(),
            })
        }
    }
}

fn opened(kind: AutoKind, bytes: Option<Zeroizing<Vec<u8>>>) -> Result<RootKey, RootError> {
    let bytes = bytes.ok_or(RootError::NotThis(kind))?;
    let key: &[u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| RootError::NotThis(kind))?;
    Ok(RootKey::copied(key))
}

fn secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, RootError> {
    Ok(Zeroizing::new(files::read_private(path, SECRET_FILE)?))
}

/// The first line of a private file, without its end.
fn line(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").unwrap_or(bytes)
}

fn credential(path: &Path) -> Result<RootKey, RootError> {
    RootKey::from_credential(&secret_file(path)?).map_err(|error| RootError::Secret {
        path: path.to_owned(),
        error,
    })
}

fn passphrase(path: &Path, salt: &[u8; SALT_BYTES]) -> Result<RootKey, RootError> {
    let bytes = secret_file(path)?;
    RootKey::from_passphrase(line(&bytes), salt).map_err(|error| RootError::Secret {
        path: path.to_owned(),
        error,
    })
}
