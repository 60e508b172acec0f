//! A root key under AES-GCM with a key that never leaves a PKCS#11 token (ROOT-2; PKCS #11 v2.40,
//! 2.12.3). The token's library is loaded for one wrap or opening, and let go.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::{AuthPin, Ulong};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::file::{GCM_NONCE, GCM_SEALED};
use super::{Pkcs11Means, Wrapped, line, secret_file};
use crate::root::RootError;
use crate::sealed::{RootKey, associated};

/// Bits of the tag.
const TAG: u64 = 128;
/// Bytes of the key in the token.
const KEY: u64 = 32;

/// A library is initialised once in a process (PKCS #11, 5.4): one use at a time.
static IN_USE: Mutex<()> = Mutex::new(());

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
    /// No key, or several, with this label.
    #[error("{count} AES keys are called {key:?} in the PKCS#11 token {token:?}; it must be one")]
    Key {
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
}

/// Wraps a root key, and makes the token's key where there is none of its label.
pub(super) fn wrap(
    means: &Pkcs11Means,
    place: &str,
    root: &RootKey,
    rng: &mut impl CryptoRng,
) -> Result<Wrapped, RootError> {
    // rule: ROOT-2
    with_session(means, |session| {
        let key = match find(means, session)?.as_slice() {
            [] => generate(means, session)?,
            [key] => *key,
            several => return Err(keys(means, several.len())),
        };
        stays(means, session, key)?;
        let mut nonce = [0; GCM_NONCE];
        rng.fill_bytes(&mut nonce);
        let aad = associated(place);
        let refused = |error| refused(means, "encrypt by AES-GCM", error);
        let params = GcmParams::new(&mut nonce, &aad, Ulong::from(TAG)).map_err(refused)?;
        let mechanism = Mechanism::AesGcm(params);
        let sealed = session.encrypt(&mechanism, key, root.expose());
        let sealed = sealed.map_err(refused)?;
        if sealed.len() != GCM_SEALED {
            return Err(refused(Error::InvalidValue));
        }
        // A token that makes its own nonce has written it there.
        Ok(Wrapped::Pkcs11 { nonce, sealed })
    })
}

/// Opens a wrap; nothing, where the token's key is another or the wrap is damaged.
pub(super) fn open(
    means: &Pkcs11Means,
    place: &str,
    nonce: &[u8; GCM_NONCE],
    sealed: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, RootError> {
    // rule: ROOT-2
    with_session(means, |session| {
        let key = match find(means, session)?.as_slice() {
            [key] => *key,
            others => return Err(keys(means, others.len())),
        };
        stays(means, session, key)?;
        let (mut nonce, aad) = (*nonce, associated(place));
        let refused = |error| refused(means, "decrypt by AES-GCM", error);
        let params = GcmParams::new(&mut nonce, &aad, Ulong::from(TAG)).map_err(refused)?;
        match session.decrypt(&Mechanism::AesGcm(params), key, sealed) {
            Ok(opened) => Ok(Some(Zeroizing::new(opened))),
            // What a token says of a tag that does not fit is not the same with all of them.
            Err(Error::Pkcs11(
                RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::GeneralError
                | RvError::FunctionFailed,
                _,
            )) => Ok(None),
            Err(error) => Err(refused(error)),
        }
    })
}

fn refused(means: &Pkcs11Means, what: &'static str, error: Error) -> Pkcs11Error {
    Pkcs11Error::Refused {
        token: means.token.clone(),
        what,
        error,
    }
}

fn keys(means: &Pkcs11Means, count: usize) -> Pkcs11Error {
    Pkcs11Error::Key {
        token: means.token.clone(),
        key: means.key.clone(),
        count,
    }
}

/// Loads the library, logs in, does it, logs out and lets the library go.
fn with_session<T>(
    means: &Pkcs11Means,
    run: impl FnOnce(&Session) -> Result<T, Pkcs11Error>,
) -> Result<T, RootError> {
    let pin = secret_file(&means.pin_file)?;
    let pin = std::str::from_utf8(line(&pin))
        .map_err(|_| Pkcs11Error::PinFile(means.pin_file.clone()))?;
    let pin: AuthPin = pin.to_owned().into();
    let module = |error| Pkcs11Error::Module {
        path: means.module.clone(),
        error,
    };
    // Nothing under the lock panics half-way in a way that the next use would see: each begins anew.
    let _one = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let library = Pkcs11::new(&means.module).map_err(module)?;
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    library.initialize(arguments).map_err(module)?;
    let done = session(means, &library, &pin).and_then(|session| {
        let done = run(&session);
        // The session ends with the library at the latest.
        let _ = session.logout();
        done
    });
    let ended = library.finalize();
    if let Err(error) = ended {
        tracing::warn!(%error, "a PKCS#11 library did not end as asked");
    }
    Ok(done?)
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
        Ok(()) => Ok(session),
        Err(error) => Err(Pkcs11Error::Pin {
            token: means.token.clone(),
            pin_file: means.pin_file.clone(),
            error,
        }),
    }
}

fn find(means: &Pkcs11Means, session: &Session) -> Result<Vec<ObjectHandle>, Pkcs11Error> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Label(means.key.as_bytes().to_vec()),
    ];
    session
        .find_objects(&template)
        .map_err(|error| refused(means, "look for its keys", error))
}

fn generate(means: &Pkcs11Means, session: &Session) -> Result<ObjectHandle, Pkcs11Error> {
    let template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(Ulong::from(KEY)),
        Attribute::Label(means.key.as_bytes().to_vec()),
    ];
    session
        .generate_key(&Mechanism::AesKeyGen, &template)
        .map_err(|error| refused(means, "make an AES key", error))
}

/// Refuses a key that can be read out of the token, or could be before.
fn stays(means: &Pkcs11Means, session: &Session, key: ObjectHandle) -> Result<(), Pkcs11Error> {
    // rule: ROOT-2
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
