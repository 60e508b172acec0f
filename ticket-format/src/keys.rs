//! Ed25519 keys, one type per role (SIG-5): a key is its bytes and its purpose.

use std::fmt;
use std::marker::PhantomData;

use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{ProducerId, Thumbprint};

mod role {
    /// What a key may be used for. Sealed: the list of roles is closed.
    pub trait Role: Send + Sync + 'static {
        /// Its word in messages to people.
        const NAME: &'static str;
    }
}
pub(crate) use role::Role;

macro_rules! roles {
    ($($(#[$doc:meta])* $marker:ident $name:literal $public:ident $secret:ident;)*) => {
        /// The roles' markers; they have no values.
        pub mod roles {$(
            $(#[$doc])*
            pub enum $marker {}
            impl super::Role for $marker {
                const NAME: &'static str = $name;
            }
        )*}
        $(
            $(#[$doc])*
            pub type $public = PublicKey<roles::$marker>;
            $(#[$doc])*
            pub type $secret = SecretKey<roles::$marker>;
        )*
    };
}

roles! {
    /// A server's TLS key: its identity (TR-2).
    Tls "TLS" TlsKey TlsSecret;
    /// The broker's ticket-signing key.
    Ticket "ticket-signing" TicketKey TicketSecret;
    /// The broker's feed key.
    Feed "feed" FeedKey FeedSecret;
    /// A key server's signing key (PRE-2, DEN-3).
    Server "key-server signing" ServerKey ServerSecret;
    /// An admin's key.
    Admin "admin" AdminKey AdminSecret;
    /// A launch's key, derived from the bootstrap secret (BOOT-2).
    Launch "launch" LaunchKey LaunchSecret;
    /// A node's key: continuity across renewals.
    Node "node" NodeKey NodeSecret;
    /// A ticket's proof key (`cnf`).
    Proof "proof" ProofKey ProofSecret;
    /// A producer's key (WRAP-4).
    Producer "producer" ProducerKey ProducerSecret;
}

/// A public key that is a valid curve point and not of small order.
pub struct PublicKey<R>(VerifyingKey, PhantomData<fn() -> R>);

/// Bytes that are no usable Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key")]
pub struct NotAKey;

impl<R: Role> PublicKey<R> {
    /// Checks that `bytes` are a point of the curve, and not of small order.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, NotAKey> {
        // rule: SIG-2
        match VerifyingKey::from_bytes(bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(key, PhantomData)),
            _ => Err(NotAKey),
        }
    }

    /// Its 32 bytes (RFC 8032).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// RFC 9679 thumbprint with SHA-256: the hash of `{1: 1, -1: 6, -2: key}`.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(&self.to_cose_key())
    }

    /// As a COSE_Key with the required members only.
    #[must_use]
    pub fn to_cose_key(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .map(3)
            .int(1)
            .int(1)
            .int(-1)
            .int(6)
            .int(-2)
            .bytes(self.0.as_bytes());
        writer.into_bytes()
    }

    /// Reads the one encoding that [`PublicKey::to_cose_key`] writes.
    ///
    /// # Errors
    /// Another shape, another curve, or no usable key.
    pub fn decode_cose_key(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(3)?;
        let expect = |want: i64| {
            move |r: &mut Reader<'_>| {
                if r.int()? == want {
                    Ok(())
                } else {
                    Err(DecodeError::Expected("an Ed25519 COSE_Key"))
                }
            }
        };
        map.required(1, expect(1))?;
        map.required(-1, expect(6))?;
        let key = map.required(-2, Self::decode)?;
        map.end()?;
        Ok(key)
    }

    pub(crate) fn verifying(&self) -> &VerifyingKey {
        &self.0
    }
}

impl ProducerKey {
    /// How wraps and origins name this producer (WRAP-4).
    #[must_use]
    pub fn id(&self) -> ProducerId {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(self.to_bytes())[..16]);
        ProducerId(id)
    }
}

impl<R> Clone for PublicKey<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for PublicKey<R> {}
impl<R> PartialEq for PublicKey<R> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes() == other.0.as_bytes()
    }
}
impl<R> Eq for PublicKey<R> {}
/// By the key's bytes: the order of sets on the wire.
impl<R> Ord for PublicKey<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}
impl<R> PartialOrd for PublicKey<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<R> std::hash::Hash for PublicKey<R> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl<R: Role> fmt::Debug for PublicKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {self}", R::NAME)
    }
}

/// Lower-case hexadecimal.
impl<R> fmt::Display for PublicKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<R: Role> std::str::FromStr for PublicKey<R> {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes: Thumbprint = text.parse().map_err(|_| NotAKey)?;
        Self::from_bytes(bytes.as_bytes())
    }
}

impl<R> Encode for PublicKey<R> {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(self.0.as_bytes());
    }
}

impl<R: Role> Decode for PublicKey<R> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_bytes(&reader.array_of()?)
            .map_err(|NotAKey| DecodeError::OutOfRange("Ed25519 key"))
    }
}

/// A secret key. It holds its public key, recomputed from the seed, so that nobody can pass a
/// foreign one to the signing function (RUSTSEC-2022-0093). Erased on drop.
pub struct SecretKey<R>(SigningKey, PhantomData<fn() -> R>);

impl<R: Role> SecretKey<R> {
    /// A fresh key.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(SigningKey::generate(rng), PhantomData)
    }

    /// The key of this 32-byte seed (RFC 8032).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed), PhantomData)
    }

    /// The seed, for storing; the copy erases itself.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey<R> {
        PublicKey(self.0.verifying_key(), PhantomData)
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        &self.0
    }
}

impl<R: Role> fmt::Debug for SecretKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secret of {}", R::NAME, self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_key_prints_without_its_seed() {
        let secret = NodeSecret::from_seed(&[0xa5; 32]);
        assert!(!format!("{secret:?}").contains("a5a5"));
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        // rule: SIG-2
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(NodeKey::from_bytes(&identity), Err(NotAKey));
        assert_eq!(NodeKey::from_bytes(&[0; 32]), Err(NotAKey));
    }

    #[test]
    fn a_cose_key_is_read_back_and_no_other_curve_is() {
        let key = TicketSecret::from_seed(&[1; 32]).public();
        let bytes = key.to_cose_key();
        assert_eq!(
            TicketKey::decode_cose_key(&mut Reader::new(&bytes)),
            Ok(key)
        );
        let mut x25519 = bytes.clone();
        x25519[4] = 4;
        assert!(TicketKey::decode_cose_key(&mut Reader::new(&x25519)).is_err());
    }
}
