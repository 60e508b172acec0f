//! Where the private ticket keys are: sealed under the root key in `data-dir/keys`, or in a PKCS#11 token
//! (KEY-1, KEY-4).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use getrandom::SysRng;
use rand_core::{CryptoRng, Rng, UnwrapErr};
use store::files::{self, FileError};
use store::pkcs11::SigningToken;
use store::root::Pkcs11Means;
use store::sealed::RootKey;
use ticket_format::keys::{TicketKey, TicketSecret};
use ticket_format::ticket::{self, TicketSigner};
use zeroize::Zeroizing;

use super::secrets::{SecretsError, key_path, open_seed, seal_new};
use crate::tickets::{KeyKeeper, TicketRing};

/// What the first key that signs tickets is called; the later ones' names begin so.
pub(super) const TICKET: &str = "ticket";

/// What the public key of a first one that is in the token is called. Sealed as the others are: which key
/// of the token is the first is for who has the root key to say.
const FIRST: &str = "first-ticket";

/// The ticket keys that a data directory has, and a place for the next ones.
#[derive(Debug)]
pub struct TicketStore {
    first: First,
    later: Vec<TicketSecret>,
    files: TicketFiles,
    /// A token that was open when the first key was made in it.
    token: Option<Arc<SigningToken>>,
}

/// The first key.
#[derive(Debug)]
enum First {
    File(Box<TicketSecret>),
    Token(TicketKey),
    /// Another has taken its place and it was erased (KEY-2); the records say so, and the broker does not
    /// start where they do not.
    Erased,
}

impl TicketStore {
    /// Makes the first key; refuses to replace one.
    pub(super) fn create(
        data: &Path,
        root: &RootKey,
        token: Option<Arc<SigningToken>>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, SecretsError> {
        let first = if let Some(token) = &token {
            // rule: KEY-4
            if !token.keys()?.is_empty() {
                return Err(SecretsError::TokenInUse);
            }
            let key = made(token, rng)?.key;
            seal_new(data, root, FIRST, &key.to_bytes(), rng)?;
            First::Token(key)
        } else {
            let mut seed = Zeroizing::new([0; 32]);
            rng.fill_bytes(seed.as_mut());
            seal_new(data, root, TICKET, &seed[..], rng)?;
            First::File(Box::new(TicketSecret::from_seed(&seed)))
        };
        Ok(Self {
            first,
            later: Vec::new(),
            files: TicketFiles::new(data, root),
            token,
        })
    }

    /// Opens what the data directory has.
    pub(super) fn open(data: &Path, root: &RootKey) -> Result<Self, SecretsError> {
        // rule: KEY-2 — what a crash left half erased.
        for name in later_names(data)?
            .iter()
            .map(String::as_str)
            .chain([TICKET, FIRST])
        {
            if mark(data, name).exists() {
                files::erase(&key_path(data, name))?;
            }
        }
        let mut later = Vec::new();
        for name in later_names(data)? {
            let seed = open_seed(data, root, &name)?;
            later.push(TicketSecret::from_seed(&seed));
        }
        let there = |name| match open_seed(data, root, name) {
            Err(SecretsError::File(FileError::Missing(_))) => Ok(None),
            other => Ok::<_, SecretsError>(Some(other?)),
        };
        let first = match there(TICKET)? {
            Some(seed) => First::File(Box::new(TicketSecret::from_seed(&seed))),
            None => there(FIRST)?.map_or(Ok(First::Erased), |key| {
                let key = TicketKey::from_bytes(&key);
                key.map(First::Token)
                    .map_err(|_| SecretsError::Unusable(FIRST))
            })?,
        };
        Ok(Self {
            first,
            later,
            files: TicketFiles::new(data, root),
            token: None,
        })
    }

    /// Whether one of the keys in files is made of this seed.
    pub(super) fn holds(&self, seed: &[u8; 32]) -> bool {
        let first = match &self.first {
            First::File(secret) => Some(&**secret),
            First::Token(_) | First::Erased => None,
        };
        first
            .into_iter()
            .chain(&self.later)
            .any(|secret| *secret.seed() == *seed)
    }

    /// The first key, where it is not erased.
    #[must_use]
    pub fn first(&self) -> Option<TicketKey> {
        match &self.first {
            First::File(secret) => Some(secret.public()),
            First::Token(key) => Some(*key),
            First::Erased => None,
        }
    }

    /// All keys that are there. The next ones are made in the token, where one is named.
    ///
    /// # Errors
    /// [`SecretsError`]: no key at all, or one in the token that could leave it or is none.
    pub fn ring(self, token: Option<&Pkcs11Means>) -> Result<TicketRing, SecretsError> {
        let token = match (self.token, token) {
            (None, Some(means)) => Some(Arc::new(SigningToken::open(means)?)),
            (open, _) => open,
        };
        let mut others: Vec<Arc<dyn TicketSigner>> = Vec::new();
        for secret in self.later {
            others.push(Arc::new(secret));
        }
        let mut first: Option<Arc<dyn TicketSigner>> = None;
        let named = match self.first {
            First::File(secret) => {
                first = Some(Arc::from(secret as Box<dyn TicketSigner>));
                None
            }
            First::Token(key) => Some(key),
            First::Erased => None,
        };
        if let Some(token) = &token {
            for point in token.keys()? {
                let key = TicketKey::from_bytes(&point);
                let key = key.map_err(|_| SecretsError::Unusable(TICKET))?;
                let signer = TokenKey {
                    key,
                    token: Arc::clone(token),
                };
                // rule: KEY-4 — not first when it is its turn.
                ticket::prove(&signer)?;
                let signer: Arc<dyn TicketSigner> = Arc::new(signer);
                if named == Some(key) {
                    first = Some(signer);
                } else {
                    others.push(signer);
                }
            }
        }
        let keeper = Keeper {
            files: self.files,
            token,
        };
        TicketRing::new(first, others, Arc::new(keeper)).map_err(|_| SecretsError::NoTicketKey)
    }
}

/// What the later ticket keys in the data directory are called.
fn later_names(data: &Path) -> Result<Vec<String>, SecretsError> {
    let dir = data.join("keys");
    let unread = |source| {
        SecretsError::File(FileError::Io {
            path: dir.clone(),
            source,
        })
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(unread)? {
        let name = entry.map_err(unread)?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".sealed"));
        let later = |name: &&str| {
            name.strip_prefix(TICKET)
                .is_some_and(|rest| rest.starts_with('-'))
        };
        names.extend(name.filter(later).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Makes a key in a token, and lets it sign once.
fn made(token: &Arc<SigningToken>, rng: &mut impl CryptoRng) -> Result<TokenKey, SecretsError> {
    // rule: KEY-4
    let point = token.make(rng)?;
    let key = TicketKey::from_bytes(&point).map_err(|_| SecretsError::Unusable(TICKET));
    let proven = key.and_then(|key| {
        let token = Arc::clone(token);
        let key = TokenKey { key, token };
        ticket::prove(&key)?;
        Ok(key)
    });
    if proven.is_err()
        && let Err(error) = token.destroy(&point)
    {
        tracing::warn!(%error, "a key that is of no use stays in the PKCS#11 token");
    }
    proven
}

/// A key in a token.
struct TokenKey {
    key: TicketKey,
    token: Arc<SigningToken>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenKey").field(&self.key).finish()
    }
}

impl TicketSigner for TokenKey {
    fn public(&self) -> TicketKey {
        self.key
    }

    fn sign(&self, input: &[u8]) -> Result<Vec<u8>, String> {
        use tokio::runtime::{Handle, RuntimeFlavor};
        let sign = || self.token.sign(&self.key.to_bytes(), input);
        // A token answers when it does: whatever else this worker has to do goes on elsewhere.
        let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
        let signed = match flavor {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(sign),
            _ => sign(),
        };
        signed.map_err(|error| error.to_string())
    }
}

/// Makes keys in the token, where one is named, else in the data directory; erases them wherever they are.
#[derive(Debug)]
struct Keeper {
    files: TicketFiles,
    token: Option<Arc<SigningToken>>,
}

impl KeyKeeper for Keeper {
    fn make(&self) -> Result<Arc<dyn TicketSigner>, String> {
        match &self.token {
            Some(token) => made(token, &mut UnwrapErr(SysRng)).map(|key| Arc::new(key) as _),
            None => self.files.keep().map(|secret| Arc::new(secret) as _),
        }
        .map_err(|error| error.to_string())
    }

    fn erase(&self, key: &TicketKey, first: bool) -> Result<(), String> {
        // rule: KEY-2, KEY-4
        let of_token = match &self.token {
            Some(token) => {
                let keys = token.keys().map_err(|error| error.to_string())?;
                keys.contains(&key.to_bytes())
            }
            None => false,
        };
        let names = TicketFiles::names(key, first);
        let begun = self.files.begun(&names, of_token);
        // Else it would be called erased where it is not looked for.
        if !begun.map_err(|error| error.to_string())? {
            return Err(format!(
                "{key} is neither in the data directory nor in the token that is configured: name the token that has it by [ticket-key.pkcs11]"
            ));
        }
        if let Some(token) = &self.token {
            let gone = token.destroy(&key.to_bytes());
            gone.map_err(|error| error.to_string())?;
        }
        let gone = self.files.remove(&names);
        gone.map_err(|error| error.to_string())
    }
}

/// Keeps ticket keys in the data directory, each sealed under the root key in a file of its own.
#[derive(Debug)]
struct TicketFiles {
    data: PathBuf,
    root: RootKey,
}

impl TicketFiles {
    /// Of a data directory. The root key stays in locked pages (MEM-1): its source is out of reach once the
    /// broker has confined itself (MEM-2).
    fn new(data: &Path, root: &RootKey) -> Self {
        Self {
            data: data.to_owned(),
            root: root.copy(),
        }
    }

    fn keep(&self) -> Result<TicketSecret, SecretsError> {
        let rng = &mut UnwrapErr(SysRng);
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        let secret = TicketSecret::from_seed(&seed);
        let name = later_name(&secret.public());
        // rule: KEY-1
        seal_new(&self.data, &self.root, &name, &seed[..], rng)?;
        let kept = open_seed(&self.data, &self.root, &name)?;
        if TicketSecret::from_seed(&kept).public() == secret.public() {
            Ok(secret)
        } else {
            Err(SecretsError::Unusable(TICKET))
        }
    }

    /// What may be there of a key.
    fn names(key: &TicketKey, first: bool) -> Vec<String> {
        match first {
            true => vec![TICKET.to_owned(), FIRST.to_owned()],
            false => vec![later_name(key)],
        }
    }

    /// Marks a key as being erased, where it is here or in the token; whether it is, or was marked before.
    /// The mark stays: that the key was erased is known by it.
    fn begun(&self, names: &[String], of_token: bool) -> Result<bool, FileError> {
        // rule: KEY-2
        let marked = |name: &String| mark(&self.data, name).exists();
        if names.iter().any(marked) {
            return Ok(true);
        }
        if !of_token && !names.iter().any(|name| key_path(&self.data, name).exists()) {
            return Ok(false);
        }
        for name in names {
            files::create_private(&mark(&self.data, name), &[])?;
        }
        files::sync_dir(&self.data.join("keys"))?;
        Ok(true)
    }

    fn remove(&self, names: &[String]) -> Result<(), FileError> {
        for name in names {
            files::erase(&key_path(&self.data, name))?;
        }
        files::sync_dir(&self.data.join("keys"))
    }
}

/// The mark of a key that is erased, or is about to be.
fn mark(data: &Path, name: &str) -> PathBuf {
    key_path(data, name).with_extension("erased")
}

fn later_name(key: &TicketKey) -> String {
    format!("{TICKET}-{}", key.thumbprint())
}
