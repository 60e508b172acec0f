//! Keys in a PKCS#11 token: the token's library, sessions, and what is asked of every key in it.

mod signing;
#[cfg(test)]
pub(crate) mod softhsm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, TryLockError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::root::Pkcs11Means;

pub use signing::SigningToken;

/// Largest PIN file, in bytes.
const PIN_FILE: u64 = 4_096;

/// The libraries that are loaded to stay. One is initialised once in a process and ended for all its users
/// at once, while nobody is in it (PKCS #11, 5.4): who is holds the lock shared, who loads or ends one
/// holds it alone.
static LOADED: RwLock<BTreeMap<PathBuf, Pkcs11>> = RwLock::new(BTreeMap::new());

/// Why a PKCS#11 token does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// The library cannot be loaded, or is none.
    #[error("{path} cannot be used as a PKCS#11 library: {error}")]
    Module {
        /// Which.
        path: PathBuf,
        /// What the loader or the library said.
        error: Error,
    },
    /// No token, or several, with this label.
    #[error("{count} PKCS#11 tokens are called {token:?}; it must be one")]
    Token {
        /// The label.
        token: String,
        /// How many have it.
        count: usize,
    },
    /// The PIN file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The PIN file is no text.
    #[error("{0} must hold the PIN in one line of text")]
    PinFile(PathBuf),
    /// The token does not take the PIN.
    #[error("the PKCS#11 token {token:?} does not take the PIN of {pin_file}: {error}")]
    Pin {
        /// The token's label.
        token: String,
        /// Where the PIN is from.
        pin_file: PathBuf,
        /// What the token said.
        error: Error,
    },
    /// The token refused the PIN before, after it had taken it.
    #[error(
        "the PKCS#11 token {token:?} does not take the PIN any more; nothing is tried again before a restart, so that it is not locked"
    )]
    Barred {
        /// The token's label.
        token: String,
    },
    /// No key, or several, with this label.
    #[error(
        "{count} {kind} keys are called {key:?} in the PKCS#11 token {token:?}; it must be one"
    )]
    Key {
        /// What kind of key is looked for.
        kind: &'static str,
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
        /// How many have it.
        count: usize,
    },
    /// The key can be read out of the token, or could be.
    #[error(
        "the key {key:?} can leave the PKCS#11 token: it must be sensitive and never extractable"
    )]
    Leaves {
        /// The key's label.
        key: String,
    },
    /// The token refuses something else.
    #[error("the PKCS#11 token {token:?} cannot {what}: {error}")]
    Refused {
        /// The token's label.
        token: String,
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        error: Error,
    },
    /// A private key has no one public key, or one that is no Ed25519 key.
    #[error(
        "a key {key:?} in the PKCS#11 token {token:?} has no public Ed25519 key of its id beside it"
    )]
    Half {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
    },
    /// The key that is asked for is not in the token.
    #[error("the key {public} is not in the PKCS#11 token {token:?} under the label {key:?}")]
    Gone {
        /// The public key, hexadecimal.
        public: String,
        /// The token's label.
        token: String,
        /// The label.
        key: String,
    },
}

pub(crate) fn refused(means: &Pkcs11Means, what: &'static str, error: Error) -> Pkcs11Error {
    Pkcs11Error::Refused {
        token: means.token.clone(),
        what,
        error,
    }
}

fn pin(means: &Pkcs11Means) -> Result<AuthPin, Pkcs11Error> {
    let pin = Zeroizing::new(files::read_private(&means.pin_file, PIN_FILE)?);
    let line = pin.strip_suffix(b"\n").unwrap_or(&pin);
    let text =
        std::str::from_utf8(line).map_err(|_| Pkcs11Error::PinFile(means.pin_file.clone()))?;
    Ok(text.to_owned().into())
}

fn load(means: &Pkcs11Means) -> Result<Pkcs11, Pkcs11Error> {
    let module = |error| Pkcs11Error::Module {
        path: means.module.clone(),
        error,
    };
    let library = Pkcs11::new(&means.module).map_err(module)?;
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    library.initialize(arguments).map_err(module)?;
    Ok(library)
}

/// Works with a library that stays loaded.
fn using<T>(
    means: &Pkcs11Means,
    work: impl FnOnce(&Pkcs11) -> Result<T, Pkcs11Error>,
) -> Result<T, Pkcs11Error> {
    loop {
        let loaded = LOADED.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = loaded.get(&means.module) {
            return work(library);
        }
        drop(loaded);
        let mut loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
        if !loaded.contains_key(&means.module) {
            loaded.insert(means.module.clone(), load(means)?);
        }
    }
}

/// Ends a library and loads it again, once who calls has let go of all sessions: some find a token that
/// went away only so. Says whether it did: not while anybody is in a library, who may never come back and
/// whom others would wait for behind this.
fn reload(means: &Pkcs11Means, let_go: impl FnOnce()) -> Result<bool, Pkcs11Error> {
    let mut loaded = match LOADED.try_write() {
        Ok(loaded) => loaded,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Ok(false),
    };
    let_go();
    if let Some(library) = loaded.remove(&means.module) {
        ended(library);
    }
    loaded.insert(means.module.clone(), load(means)?);
    Ok(true)
}

fn ended(library: Pkcs11) {
    if let Err(error) = library.finalize() {
        tracing::warn!(%error, "a PKCS#11 library did not end as asked");
    }
}

/// Logs in, does it, and lets the library go where it is not loaded to stay.
pub(crate) fn with_session<T>(
    means: &Pkcs11Means,
    run: impl FnOnce(&Session) -> Result<T, Pkcs11Error>,
) -> Result<T, Pkcs11Error> {
    let pin = pin(means)?;
    // Nothing under the lock panics half-way in a way that the next use would see: each begins anew.
    let loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = loaded.get(&means.module) {
        return run(&session(means, library, &pin)?);
    }
    let library = load(means)?;
    // A session that is let go of is closed, and the last one's end is a log-out.
    let done = session(means, &library, &pin).and_then(|session| run(&session));
    ended(library);
    done
}

fn session(means: &Pkcs11Means, library: &Pkcs11, pin: &AuthPin) -> Result<Session, Pkcs11Error> {
    let refused = |what| move |error| refused(means, what, error);
    let slots = library.get_slots_with_initialized_token();
    let mut found = Vec::new();
    for slot in slots.map_err(refused("be looked for"))? {
        let info = library.get_token_info(slot);
        // A slot that cannot be asked is not the one.
        if info.is_ok_and(|info| info.label().trim_end() == means.token) {
            found.push(slot);
        }
    }
    let [slot] = *found else {
        return Err(Pkcs11Error::Token {
            token: means.token.clone(),
            count: found.len(),
        });
    };
    let session = library.open_rw_session(slot);
    let session = session.map_err(refused("open a session"))?;
    match session.login(UserType::User, Some(pin)) {
        // All sessions of a process are logged in with the first of them.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(
            error @ Error::Pkcs11(
                RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked,
                _,
            ),
        ) => Err(Pkcs11Error::Pin {
            token: means.token.clone(),
            pin_file: means.pin_file.clone(),
            error,
        }),
        Err(error) => Err(refused("log in")(error)),
    }
}

/// Refuses a key that can be read out of the token, or could be before.
pub(crate) fn stays(
    means: &Pkcs11Means,
    session: &Session,
    key: ObjectHandle,
) -> Result<(), Pkcs11Error> {
    // rule: ROOT-2, KEY-4
    let wanted = [
        AttributeType::Extractable,
        AttributeType::NeverExtractable,
        AttributeType::AlwaysSensitive,
    ];
    let found = session.get_attributes(key, &wanted);
    let found = found.map_err(|error| refused(means, "describe its key", error))?;
    let needed = [
        Attribute::Extractable(false),
        Attribute::NeverExtractable(true),
        Attribute::AlwaysSensitive(true),
    ];
    if needed.iter().all(|attribute| found.contains(attribute)) {
        Ok(())
    } else {
        Err(Pkcs11Error::Leaves {
            key: means.key.clone(),
        })
    }
}
