//! Sealing to a ticket's session key: HPKE base mode (RFC 9180; `spec/ticket.md`, section 3).
//!
//! One encapsulation per presented ticket and connection. The HPKE context itself seals nothing:
//! it exports a MAC key for requests and a fresh key for each answer.

use std::sync::OnceLock;

use hpke::Kem as _;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::aead::Cipher;
use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{RequestHash, SealingKeyHash, TicketHash};
use crate::keys::TlsKey;
use crate::labels;
use crate::messages::Verb;
use crate::secret::SealingSeed;
use crate::sign::{Exporter, MacKey};

type Kdf = hpke::kdf::HkdfSha256;
type Suite = hpke::aead::ChaCha20Poly1305;

/// Length of an X-Wing encapsulation.
pub const XWING_ENC: usize = 1_120;
/// Length of an X-Wing public key.
pub const XWING_KEY: usize = 1_216;

/// The key encapsulation mechanism, by its HPKE id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kem {
    /// DHKEM(X25519, HKDF-SHA256), 0x0020. Only where a dataset allows it (SEAL-5).
    X25519,
    /// X-Wing = X25519 + ML-KEM-768, 0x647a. The default.
    XWing,
}

impl Kem {
    /// Its HPKE id (RFC 9180, 7.1; X-Wing: the HPKE registry).
    #[must_use]
    pub fn id(self) -> u16 {
        match self {
            Self::X25519 => X25519HkdfSha256::KEM_ID,
            Self::XWing => XWing::KEM_ID,
        }
    }

    /// Length of its encapsulation, in bytes.
    #[must_use]
    pub fn enc_len(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::XWing => XWING_ENC,
        }
    }

    /// Length of its public key, in bytes.
    #[must_use]
    pub fn key_len(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::XWing => XWING_KEY,
        }
    }
}

impl Encode for Kem {
    fn encode(&self, writer: &mut Writer) {
        writer.uint(u64::from(self.id()));
    }
}

impl Decode for Kem {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = reader.uint()?;
        [Self::X25519, Self::XWing]
            .into_iter()
            .find(|kem| u64::from(kem.id()) == id)
            .ok_or(DecodeError::OutOfRange("KEM"))
    }
}

/// A sealing public key, checked to be one of its KEM.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey {
    kem: Kem,
    bytes: Vec<u8>,
}

/// Bytes that are no public key of the KEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a public key of this KEM")]
pub struct NotASealingKey;

impl SealingKey {
    /// Checks length; for ML-KEM the encoding's range (FIPS 203, 7.2), for X25519 that the share is
    /// not of low order (SEAL-5).
    ///
    /// # Errors
    /// [`NotASealingKey`].
    pub fn from_bytes(kem: Kem, bytes: &[u8]) -> Result<Self, NotASealingKey> {
        let usable = match kem {
            Kem::X25519 => <[u8; 32]>::try_from(bytes).is_ok_and(contributes),
            Kem::XWing => <XWing as hpke::Kem>::PublicKey::from_bytes(bytes).is_ok(),
        };
        if usable {
            Ok(Self {
                kem,
                bytes: bytes.to_vec(),
            })
        } else {
            Err(NotASealingKey)
        }
    }

    /// Which KEM it is of.
    #[must_use]
    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of its bytes.
    #[must_use]
    pub fn hash(&self) -> SealingKeyHash {
        SealingKeyHash::of(&self.bytes)
    }

    /// Reads a key of a KEM known from elsewhere.
    ///
    /// # Errors
    /// Another length, or no key of this KEM.
    pub fn decode_as(kem: Kem, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = reader.bytes(kem.key_len()..=kem.key_len())?;
        Self::from_bytes(kem, bytes)
            .map_err(|NotASealingKey| DecodeError::OutOfRange("sealing key"))
    }
}

impl Encode for SealingKey {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(&self.bytes);
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} sealing key {}", self.kem, self.hash())
    }
}

/// Whether an X25519 share adds anything to a shared secret: one of low order gives zeros whatever
/// the other side's secret is (RFC 7748, 6.1; RFC 9180, 7.1.4).
fn contributes(share: [u8; 32]) -> bool {
    // rule: SEAL-5
    let any = x25519_dalek::StaticSecret::from([1; 32]);
    any.diffie_hellman(&x25519_dalek::PublicKey::from(share))
        .was_contributory()
}

/// A sealing secret: the seed of a decapsulation key. Erased on drop.
pub struct SealingSecret {
    kem: Kem,
    seed: SealingSeed,
    /// Its public half, once somebody asked: to make it takes as long as two signatures.
    public: OnceLock<SealingKey>,
}

impl SealingSecret {
    /// A fresh one.
    #[must_use]
    pub fn generate(kem: Kem, rng: &mut impl CryptoRng) -> Self {
        Self::from_seed(kem, SealingSeed::random(rng))
    }

    /// The secret of this seed: for X-Wing its 32-byte decapsulation key, for X25519 the scalar.
    #[must_use]
    pub fn from_seed(kem: Kem, seed: SealingSeed) -> Self {
        Self {
            kem,
            seed,
            public: OnceLock::new(),
        }
    }

    /// Which KEM it is of.
    #[must_use]
    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// The seed, for storing.
    #[must_use]
    pub fn seed(&self) -> &SealingSeed {
        &self.seed
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> SealingKey {
        self.public.get_or_init(|| self.make_public()).clone()
    }

    fn make_public(&self) -> SealingKey {
        fn of<K: hpke::Kem>(seed: &[u8]) -> Vec<u8> {
            // Any 32 bytes are a private key of either KEM, so the empty answer never happens; it
            // would be refused by whoever reads it.
            K::PrivateKey::from_bytes(seed)
                .map(|sk| K::sk_to_pk(&sk).to_bytes().to_vec())
                .unwrap_or_default()
        }
        let bytes = match self.kem {
            Kem::X25519 => of::<X25519HkdfSha256>(self.seed.expose()),
            Kem::XWing => of::<XWing>(self.seed.expose()),
        };
        SealingKey {
            kem: self.kem,
            bytes,
        }
    }

    /// Opens an encapsulation.
    ///
    /// # Errors
    /// Wrong length, or a share of low order (SEAL-5).
    pub fn decapsulate(&self, enc: &[u8], info: &[u8]) -> Result<Exports, SealError> {
        fn open<K: hpke::Kem>(
            seed: &[u8],
            enc: &[u8],
            info: &[u8],
        ) -> Result<hpke::aead::AeadCtxR<Suite, Kdf, K>, hpke::HpkeError> {
            let secret = K::PrivateKey::from_bytes(seed)?;
            let enc = K::EncappedKey::from_bytes(enc)?;
            hpke::setup_receiver(&OpModeR::Base, &secret, &enc, info)
        }
        // rule: SEAL-5
        let context = match self.kem {
            Kem::X25519 => ContextOf::X25519Receiver(Box::new(
                open(self.seed.expose(), enc, info).map_err(|_| SealError::Encapsulation)?,
            )),
            Kem::XWing => ContextOf::XWingReceiver(Box::new(
                open(self.seed.expose(), enc, info).map_err(|_| SealError::Encapsulation)?,
            )),
        };
        Ok(Exports(context))
    }
}

impl std::fmt::Debug for SealingSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} sealing secret", self.kem)
    }
}

/// Why sealing or opening failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The encapsulation has another length, or its share is of low order.
    #[error("the encapsulation is not one of this KEM")]
    Encapsulation,
    /// The sealed part does not open: another key, another clear part, or damage.
    #[error("the sealed answer does not open")]
    Answer,
}

/// Encapsulates to a public key. The caller of HPKE names no sender: whoever receives `enc` needs a
/// signature over it before he believes it (PRE-2, PRE-4).
///
/// # Errors
/// The key's share is of low order.
pub fn encapsulate(
    key: &SealingKey,
    info: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Exports), SealError> {
    type Sender<K> = hpke::aead::AeadCtxS<Suite, Kdf, K>;
    fn seal<K: hpke::Kem>(
        key: &[u8],
        info: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, Sender<K>), hpke::HpkeError> {
        let key = K::PublicKey::from_bytes(key)?;
        let (enc, context) =
            hpke::setup_sender_with_rng::<Suite, Kdf, K>(&OpModeS::Base, &key, info, rng)?;
        Ok((enc.to_bytes().to_vec(), context))
    }
    let wrong = |_| SealError::Encapsulation;
    Ok(match key.kem {
        Kem::X25519 => {
            let (enc, context) = seal(&key.bytes, info, rng).map_err(wrong)?;
            (enc, Exports(ContextOf::X25519Sender(Box::new(context))))
        }
        Kem::XWing => {
            let (enc, context) = seal(&key.bytes, info, rng).map_err(wrong)?;
            (enc, Exports(ContextOf::XWingSender(Box::new(context))))
        }
    })
}

enum ContextOf {
    X25519Sender(Box<hpke::aead::AeadCtxS<Suite, Kdf, X25519HkdfSha256>>),
    X25519Receiver(Box<hpke::aead::AeadCtxR<Suite, Kdf, X25519HkdfSha256>>),
    XWingSender(Box<hpke::aead::AeadCtxS<Suite, Kdf, XWing>>),
    XWingReceiver(Box<hpke::aead::AeadCtxR<Suite, Kdf, XWing>>),
}

/// An HPKE context used for its exporter only (RFC 9180, 5.3; SEAL-2).
pub struct Exports(ContextOf);

impl Exports {
    /// `N` secret bytes for this exporter context.
    #[must_use]
    pub fn export<const N: usize>(&self, context: &[u8]) -> Zeroizing<[u8; N]> {
        let mut out = Zeroizing::new([0; N]);
        let result = match &self.0 {
            ContextOf::X25519Sender(c) => c.export(context, out.as_mut()),
            ContextOf::X25519Receiver(c) => c.export(context, out.as_mut()),
            ContextOf::XWingSender(c) => c.export(context, out.as_mut()),
            ContextOf::XWingReceiver(c) => c.export(context, out.as_mut()),
        };
        // HKDF gives up to 255 * 32 bytes; the largest use here is 64.
        assert!(
            result.is_ok() && N <= 64,
            "an export of this length always succeeds"
        );
        out
    }
}

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exports(..)")
    }
}

/// `["postern/1 hpke", [kem, 1, 3], realm, key server's TLS key, ticket hash, exporter]` (SEAL-1).
#[must_use]
pub fn session_info(
    kem: Kem,
    realm: &str,
    server: &TlsKey,
    ticket: TicketHash,
    exporter: Exporter,
) -> Vec<u8> {
    // rule: SEAL-1
    let mut writer = Writer::with_capacity(256);
    writer.array(6).text(labels::HPKE);
    suite(&mut writer, kem);
    writer
        .text(realm)
        .bytes(&server.to_bytes())
        .bytes(&ticket.0)
        .bytes(&exporter.0);
    writer.into_bytes()
}

/// The suite as it stands in every `info`: KEM, KDF HKDF-SHA256, AEAD ChaCha20-Poly1305.
pub(crate) fn suite(writer: &mut Writer, kem: Kem) {
    writer.array(3).uint(u64::from(kem.id())).uint(1).uint(3);
}

/// One presented ticket on one connection, seen from either end (SEAL-2): makes and checks request
/// MACs, seals and opens answers.
#[derive(Debug)]
pub struct Session {
    exports: Exports,
    ticket: TicketHash,
    mac: MacKey,
}

/// Names one answer: what its key is derived from (SEAL-4).
#[derive(Clone, Copy, Debug)]
pub struct AnswerId {
    /// redeem, generate or rewrap.
    pub verb: Verb,
    /// SHA-256 of the request's body.
    pub request: RequestHash,
    /// 32 fresh bytes of the server's.
    pub salt: [u8; 32],
}

impl Session {
    /// Takes over the exports of the encapsulation made for this ticket.
    #[must_use]
    pub fn new(exports: Exports, ticket: TicketHash) -> Self {
        // rule: SEAL-3
        let mut writer = Writer::with_capacity(64);
        writer.array(2).text(labels::REQUEST_MAC).bytes(&ticket.0);
        let mac = MacKey::new(exports.export(&writer.into_bytes()));
        Self {
            exports,
            ticket,
            mac,
        }
    }

    /// The ticket's hash.
    #[must_use]
    pub fn ticket(&self) -> TicketHash {
        self.ticket
    }

    /// Key of the request MAC.
    #[must_use]
    pub fn mac(&self) -> &MacKey {
        &self.mac
    }

    fn answer_cipher(&self, id: &AnswerId) -> Result<Cipher, SealError> {
        // rule: SEAL-4
        let mut writer = Writer::with_capacity(160);
        writer
            .array(5)
            .text(labels::ANSWER_KEY)
            .uint(id.verb.number());
        writer
            .bytes(&self.ticket.0)
            .bytes(&id.request.0)
            .bytes(&id.salt);
        let key: Zeroizing<[u8; 32]> = self.exports.export(&writer.into_bytes());
        Cipher::new(&key).map_err(|_| SealError::Answer)
    }

    /// Seals DEKs, 32 bytes each one after another, to the session key. The salt must be fresh: the
    /// key is used for this one answer, under the nonce zero.
    ///
    /// # Errors
    /// More than an AEAD takes; a batch never is.
    pub fn seal(&self, id: &AnswerId, clear: &[u8], deks: &[u8]) -> Result<Vec<u8>, SealError> {
        let sealed = self.answer_cipher(id)?.seal([0; 12], clear, deks);
        sealed.map_err(|_| SealError::Answer)
    }

    /// Opens what [`Session::seal`] made for the same answer and the same clear part.
    ///
    /// # Errors
    /// [`SealError::Answer`].
    pub fn open(
        &self,
        id: &AnswerId,
        clear: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let opened = self.answer_cipher(id)?.open([0; 12], clear, sealed);
        opened.map_err(|_| SealError::Answer)
    }
}

#[cfg(test)]
mod tests;
