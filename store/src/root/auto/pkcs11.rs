//! A root key under AES-GCM with a key that never leaves a PKCS#11 token (ROOT-2; PKCS #11 v2.40,
//! 2.12.3).

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::file::{GCM_NONCE, GCM_SEALED};
use super::{Pkcs11Means, Wrapped};
use crate::pkcs11::{Pkcs11Error, refused, stays, with_session};
use crate::root::RootError;
use crate::sealed::{RootKey, associated};

/// Bits of the tag.
const TAG: u64 = 128;
/// Bytes of the key in the token.
const KEY: u64 = 32;

/// Wraps a root key, and makes the token's key where there is none of its label.
pub(super) fn wrap(
    means: &Pkcs11Means,
    place: &str,
    root: &RootKey,
    rng: &mut impl CryptoRng,
) -> Result<Wrapped, RootError> {
    // rule: ROOT-2
    let done = with_session(means, |session| {
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
    });
    Ok(done?)
}

/// Opens a wrap; nothing, where the token's key is another or the wrap is damaged.
pub(super) fn open(
    means: &Pkcs11Means,
    place: &str,
    nonce: &[u8; GCM_NONCE],
    sealed: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, RootError> {
    // rule: ROOT-2
    let done = with_session(means, |session| {
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
    });
    Ok(done?)
}

fn keys(means: &Pkcs11Means, count: usize) -> Pkcs11Error {
    Pkcs11Error::Key {
        kind: "AES",
        token: means.token.clone(),
        key: means.key.clone(),
        count,
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
