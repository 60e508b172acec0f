//! Ed25519 keys that are made in a PKCS#11 token and sign in it (KEY-4; PKCS #11 v3.0, 2.3.5, 2.3.10 and
//! 2.3.14).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::context::Pkcs11;
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::AuthPin;
use rand_core::CryptoRng;

use super::{Pkcs11Error, pin, refused, reload, session, stays, using};
use crate::root::Pkcs11Means;

/// The curve by its name (PKCS #11 v3.0, 2.3.10), and by the number of RFC 8410 as older tokens want it;
/// both in DER.
const ED25519: [&[u8]; 2] = [b"\x13\x0cedwards25519", b"\x06\x03\x2b\x65\x70"];
/// Tag and length of a point that stands in an OCTET STRING.
const OCTETS: [u8; 2] = [4, 32];
/// Bytes of the id that makes two objects a pair.
const ID: usize = 16;
/// Most sessions that wait for work.
const IDLE: usize = 16;
/// Least time between two loads of the library.
const RELOAD: Duration = Duration::from_secs(1);

/// The keys of one label in a token, logged in to for as long as it lives. Shared: each signature that is
/// under way has a session of its own.
pub struct SigningToken {
    means: Pkcs11Means,
    pin: AuthPin,
    /// The PIN was taken once and is not any more: another try could lock the token.
    barred: AtomicBool,
    idle: Mutex<Vec<Live>>,
    /// Who logs in.
    login: Mutex<()>,
    /// When the library was last loaded because nothing else helped.
    reloaded: Mutex<Option<Instant>>,
}

impl fmt::Debug for SigningToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningToken").field(&self.means).finish()
    }
}

struct Live {
    session: Session,
    /// The private keys that were found in this session, by public key.
    keys: BTreeMap<[u8; 32], ObjectHandle>,
}

/// A private key and its public one.
struct Pair {
    private: ObjectHandle,
    public: ObjectHandle,
    point: [u8; 32],
}

impl SigningToken {
    /// Loads the library and logs in.
    ///
    /// # Errors
    /// [`Pkcs11Error`].
    pub fn open(means: &Pkcs11Means) -> Result<Self, Pkcs11Error> {
        let token = Self {
            means: means.clone(),
            pin: pin(means)?,
            barred: AtomicBool::new(false),
            idle: Mutex::new(Vec::new()),
            login: Mutex::default(),
            reloaded: Mutex::new(None),
        };
        token.fresh(|_| Ok(()))?;
        Ok(token)
    }

    /// The public keys of its label (RFC 8032), in order.
    ///
    /// # Errors
    /// [`Pkcs11Error`]: also of a key that could leave the token, or that is no pair.
    pub fn keys(&self) -> Result<Vec<[u8; 32]>, Pkcs11Error> {
        let pairs = self.fresh(|live| self.pairs(&live.session, &[]))?;
        let mut keys: Vec<_> = pairs.iter().map(|pair| pair.point).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// Makes a key in the token, and finds it there again.
    ///
    /// # Errors
    /// [`Pkcs11Error`]; what was made is taken away again as far as the token lets itself be asked.
    pub fn make(&self, rng: &mut impl CryptoRng) -> Result<[u8; 32], Pkcs11Error> {
        // rule: KEY-4
        let mut id = [0; ID];
        rng.fill_bytes(&mut id);
        self.fresh(|live| {
            let (public, private) = self.generate(&live.session, &id)?;
            let error = match self.pairs(&live.session, &id) {
                Ok(pairs) => match *pairs {
                    [ref pair] if (pair.public, pair.private) == (public, private) => {
                        return Ok(pair.point);
                    }
                    _ => self.half(),
                },
                Err(error) => error,
            };
            for object in [private, public] {
                if let Err(error) = live.session.destroy_object(object) {
                    tracing::warn!(%error, "a key that a PKCS#11 token made and that is of no use stays in it");
                }
            }
            Err(error)
        })
    }

    /// Signs with Ed25519 (RFC 8032). What comes back is whatever the token says: the caller verifies it.
    /// A session that has ended is replaced; where that does not help, and no sooner than a second after
    /// the last time, the library is loaded again.
    ///
    /// # Errors
    /// [`Pkcs11Error`].
    pub fn sign(&self, key: &[u8; 32], input: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        // rule: KEY-4
        let last = |error: &Pkcs11Error| {
            matches!(error, Pkcs11Error::Pin { .. } | Pkcs11Error::Barred { .. })
        };
        let signed = self.lent(|live| self.signed(live, key, input));
        let Err(error) = signed else { return signed };
        tracing::warn!(%error, "a session of a PKCS#11 token failed; another takes its place");
        // The others are of the same age, and a token that went away knows no log-in before all its
        // sessions have ended.
        let signed = self.anew(|live| self.signed(live, key, input));
        if signed.is_ok() || signed.as_ref().is_err_and(last) || !self.may_reload() {
            return signed;
        }
        if !reload(&self.means, || self.let_go())? {
            return signed;
        }
        self.fresh(|live| self.signed(live, key, input))
    }

    /// Takes a key out of the world, and says whether it was there.
    ///
    /// # Errors
    /// [`Pkcs11Error`]: it may be there still.
    pub fn destroy(&self, key: &[u8; 32]) -> Result<bool, Pkcs11Error> {
        // rule: KEY-2, KEY-4
        // No other session keeps a handle of it.
        self.anew(|live| {
            let mut found = false;
            for pair in self.pairs(&live.session, &[])? {
                if pair.point == *key {
                    found = true;
                    for object in [pair.private, pair.public] {
                        let gone = live.session.destroy_object(object);
                        gone.map_err(|error| refused(&self.means, "destroy a key", error))?;
                    }
                }
            }
            Ok(found)
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Live>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_go(&self) {
        let old = std::mem::take(&mut *self.waiting());
        // Outside the lock: each is closed.
        drop(old);
    }

    fn may_reload(&self) -> bool {
        let mut last = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= RELOAD);
        if may {
            *last = Some(Instant::now());
        }
        may
    }

    /// Works in a session that waits, or in a new one.
    fn lent<T>(
        &self,
        work: impl FnOnce(&mut Live) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        using(&self.means, |library| {
            let idle = self.waiting().pop();
            let live = idle.map_or_else(|| self.live(library), Ok)?;
            self.done(live, work)
        })
    }

    /// Works in a new session, with no other one open that waits.
    fn anew<T>(
        &self,
        work: impl FnOnce(&mut Live) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        using(&self.means, |library| {
            self.let_go();
            self.done(self.live(library)?, work)
        })
    }

    /// Works in a new session.
    fn fresh<T>(
        &self,
        work: impl FnOnce(&mut Live) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        using(&self.means, |library| self.done(self.live(library)?, work))
    }

    /// Keeps the session for the next one, where all went well.
    fn done<T>(
        &self,
        mut live: Live,
        work: impl FnOnce(&mut Live) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        let done = work(&mut live)?;
        let mut idle = self.waiting();
        if idle.len() < IDLE {
            idle.push(live);
        }
        Ok(done)
    }

    fn live(&self, library: &Pkcs11) -> Result<Live, Pkcs11Error> {
        // One after the other: two at a time would be two tries with a PIN that was changed.
        let _turn = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if self.barred.load(Ordering::Relaxed) {
            return Err(Pkcs11Error::Barred {
                token: self.means.token.clone(),
            });
        }
        let opened = session(&self.means, library, &self.pin);
        if matches!(opened, Err(Pkcs11Error::Pin { .. })) {
            self.barred.store(true, Ordering::Relaxed);
        }
        Ok(Live {
            session: opened?,
            keys: BTreeMap::new(),
        })
    }

    fn signed(
        &self,
        live: &mut Live,
        key: &[u8; 32],
        input: &[u8],
    ) -> Result<Vec<u8>, Pkcs11Error> {
        if !live.keys.contains_key(key) {
            let pairs = self.pairs(&live.session, &[])?;
            let pairs = pairs.into_iter().map(|pair| (pair.point, pair.private));
            live.keys = pairs.collect();
        }
        let private = live.keys.get(key).ok_or_else(|| self.gone(key))?;
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signature = live.session.sign(&mechanism, *private, input);
        signature.map_err(|error| refused(&self.means, "sign by EdDSA", error))
    }

    fn gone(&self, key: &[u8; 32]) -> Pkcs11Error {
        let digits = key.iter().map(|byte| format!("{byte:02x}"));
        Pkcs11Error::Gone {
            public: digits.collect(),
            token: self.means.token.clone(),
            key: self.means.key.clone(),
        }
    }

    fn half(&self) -> Pkcs11Error {
        Pkcs11Error::Half {
            token: self.means.token.clone(),
            key: self.means.key.clone(),
        }
    }

    fn template(&self, class: ObjectClass, id: &[u8]) -> Vec<Attribute> {
        let mut template = vec![
            Attribute::Class(class),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::Label(self.means.key.as_bytes().to_vec()),
        ];
        if !id.is_empty() {
            template.push(Attribute::Id(id.to_vec()));
        }
        template
    }

    /// The pairs of its label, or of one id among them.
    fn pairs(&self, session: &Session, id: &[u8]) -> Result<Vec<Pair>, Pkcs11Error> {
        let find = |class, id: &[u8]| {
            let found = session.find_objects(&self.template(class, id));
            found.map_err(|error| refused(&self.means, "look for its keys", error))
        };
        let mut pairs = Vec::new();
        for private in find(ObjectClass::PRIVATE_KEY, id)? {
            // rule: KEY-4
            stays(&self.means, session, private)?;
            let id = self.attribute(session, private, AttributeType::Id)?;
            let [public] = *find(ObjectClass::PUBLIC_KEY, &id)? else {
                return Err(self.half());
            };
            let point = self.attribute(session, public, AttributeType::EcPoint)?;
            // Some tokens give the point bare.
            let point = match point.strip_prefix(&OCTETS) {
                Some(point) if point.len() == 32 => point,
                _ => &point,
            };
            let point = point.try_into().map_err(|_| self.half())?;
            pairs.push(Pair {
                private,
                public,
                point,
            });
        }
        Ok(pairs)
    }

    /// A value of an object, that is not empty.
    fn attribute(
        &self,
        session: &Session,
        object: ObjectHandle,
        kind: AttributeType,
    ) -> Result<Vec<u8>, Pkcs11Error> {
        let found = session.get_attributes(object, &[kind]);
        let found = found.map_err(|error| refused(&self.means, "describe its key", error))?;
        match found.into_iter().next() {
            Some(Attribute::Id(value) | Attribute::EcPoint(value)) if !value.is_empty() => {
                Ok(value)
            }
            _ => Err(self.half()),
        }
    }

    fn generate(
        &self,
        session: &Session,
        id: &[u8; ID],
    ) -> Result<(ObjectHandle, ObjectHandle), Pkcs11Error> {
        let named = |rest: &[Attribute]| {
            let mut template = rest.to_vec();
            template.push(Attribute::Token(true));
            template.push(Attribute::Label(self.means.key.as_bytes().to_vec()));
            template.push(Attribute::Id(id.to_vec()));
            template
        };
        let private = named(&[
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ]);
        let mut last = Error::NotSupported;
        for curve in ED25519 {
            let curve = Attribute::EcParams(curve.to_vec());
            let public = named(&[Attribute::Private(false), Attribute::Verify(true), curve]);
            let made =
                session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private);
            match made {
                Ok(pair) => return Ok(pair),
                Err(error) => last = error,
            }
        }
        Err(refused(&self.means, "make an Ed25519 key", last))
    }
}

#[cfg(test)]
mod tests;
