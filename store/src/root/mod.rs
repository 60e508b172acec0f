//! A key server's root key and the two ways to it (`spec/vault.md`, section 3).
//!
//! The root key is random and stored nowhere. An automatic wrap ([`Means`]) opens it without people,
//! shares ([`Holders`], [`Share`], [`Collection`]) open it with them. Both wraps, and every file that is
//! sealed under the key, stand in one directory, a generation; `rekey` builds the next one beside it,
//! and one file says which is in force ([`RootDir`], [`Ways`]).

mod auto;
mod collection;
mod generation;
mod kept;
mod rekey;
mod shares;
mod shares_file;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use ticket_format::statement::AutoKind;

use crate::files::FileError;
use crate::sealed::SealedError;

#[cfg(feature = "tpm2")]
pub use auto::Tpm2Error;
pub use auto::{Means, Pkcs11Means, Tpm2Means};
pub use collection::{Collection, Progress};
pub use generation::{RootDir, Ways};
pub use kept::{Kept, WRAP};
pub use rekey::Prepared;
pub use shares::{Given, Holders, HoldersError, Place, Share, ShareError, deal_for, join};

/// Why a root key cannot be made, opened or replaced. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not what this version writes.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is a root key already.
    #[error("{0} exists already: a root key is replaced by `rekey` only")]
    Exists(PathBuf),
    /// The automatic wrap is of another kind than the configuration says.
    #[error("the automatic wrap is of kind {wrap}, and the configuration says {means}")]
    Kind {
        /// The wrap's.
        wrap: AutoKind,
        /// The configuration's.
        means: AutoKind,
    },
    /// This program was built without it.
    #[error("this program was built without {0}")]
    NotBuilt(AutoKind),
    /// The credential or passphrase has no usable form.
    #[error("{path}: {error}")]
    Secret {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: SealedError,
    },
    /// What was given is no way to this root key.
    #[error("the {0} is not the one that this root key was wrapped for, or the wrap is damaged")]
    NotThis(AutoKind),
    /// Enough shares are there, but of no one secret, or of another root key's.
    #[error("the shares do not open this root key: one of them is of another, or is damaged")]
    SharesNotThis,
    /// Too few shares, or one that cannot be sealed.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A sealed file does not open under the root key.
    #[error("{path}: {error}")]
    Sealed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: SealedError,
    },
    /// It is not known which root key is in force: the next start finds out.
    #[error("which root key is in force is known only after a restart: {0}")]
    Unclear(FileError),
    /// The PKCS#11 token.
    #[cfg(feature = "pkcs11")]
    #[error(transparent)]
    Pkcs11(#[from] crate::pkcs11::Pkcs11Error),
    /// The TPM.
    #[cfg(feature = "tpm2")]
    #[error(transparent)]
    Tpm2(#[from] Tpm2Error),
}

/// Most bytes of what is said of the automatic way over the wire.
const BRIEF: usize = 256;

impl RootError {
    /// What it says, cut to the 256 bytes that an answer has for it.
    #[must_use]
    pub fn brief(&self) -> String {
        let mut said = self.to_string();
        said.truncate(said.floor_char_boundary(BRIEF));
        said
    }
}
