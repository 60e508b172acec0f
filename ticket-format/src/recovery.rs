//! Recovery recipients (RCP-1): a DEK that also another dataset's key opens.
//!
//! A `public` wrap gives the key that follows from its encapsulation, and cannot be made for a DEK that is there
//! already. So a recovery wraps a fresh key of its own to the recipient, and that key seals the DEK:
//!
//! `recovery = [realm: name, wrapped: bstr .size (1..1400), sealed: bstr .size 48]`

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{DatasetId, KekId};
use crate::labels;
use crate::limits;
use crate::messages::shape::{Text, UINT, XWING_KEY, closed_map, item};
use crate::seal::{SealError, SealingKey};
use crate::secret::Dek;
use crate::wrapped::public::Upload;
use crate::wrapped::{Header, Wrapped};

/// Most recipients of one dataset.
pub const RECIPIENTS: usize = 4;
/// A sealed DEK: 32 bytes and the tag.
const SEALED: usize = 48;

closed_map! {
    /// Another dataset to whose key DEKs are wrapped as well: elsewhere, or at a key server that is off until it is
    /// needed.
    ///
    /// `recipient = { 1: name, 2: name, 3: id16, 4: id16, 5: uint, 6: xwing-key }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Recipient {
        /// Its realm.
        1 realm: String = Text(1..=limits::NAME);
        /// Its name, for people.
        2 name: String = Text(1..=limits::NAME);
        /// The dataset.
        3 dataset: DatasetId = item();
        /// Its KEK version, by id.
        4 kek: KekId = item();
        /// The same by number, for people.
        5 kek_version: u64 = UINT;
        /// Its public key.
        6 public_key: SealingKey = XWING_KEY;
    }
}

/// One DEK for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The realm of the object's own dataset: its body is bound to it (OBJ-4).
    pub realm: String,
    /// A `public` wrap of a key of its own, to the recipient.
    pub wrapped: Vec<u8>,
    /// The DEK under that key.
    sealed: [u8; SEALED],
}

/// The sealed DEK does not open: it is of another object, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its recovery does not open: it is another object's, or damaged")]
pub struct NotOpened;

/// Wraps DEKs to one recipient: one encapsulation for as many as there are.
pub struct Recoverer(Upload);

impl Recoverer {
    /// Encapsulates to the recipient's key.
    ///
    /// # Errors
    /// It is no X-Wing key.
    pub fn begin(recipient: &Recipient, rng: &mut impl CryptoRng) -> Result<Self, SealError> {
        let Recipient {
            realm,
            dataset,
            kek,
            kek_version,
            public_key,
            ..
        } = recipient;
        Upload::begin(realm, *dataset, *kek, *kek_version, public_key, rng).map(Self)
    }

    /// Wraps the DEK of an object: `header` is that of its own wrap, `raw_context` its whole context's bytes.
    #[must_use]
    pub fn wrap(
        &self,
        realm: &str,
        header: &Header,
        raw_context: &[u8],
        dek: &[u8; 32],
        rng: &mut impl CryptoRng,
    ) -> Option<Recovery> {
        // rule: RCP-1
        let (key, pending) = self.0.object(raw_context.to_vec(), rng);
        let bound = bound(realm, header, raw_context);
        let payload = Payload {
            msg: dek,
            aad: &bound,
        };
        let sealed = cipher(&key).encrypt(&nonce(), payload).ok()?;
        Some(Recovery {
            realm: realm.to_owned(),
            // Nobody signs it: no body commitment stands in it.
            wrapped: self.0.finish(&pending, [0; 32], None),
            sealed: sealed.try_into().ok()?,
        })
    }
}

impl Recovery {
    /// The dataset that opens it; none where it holds no wrap.
    #[must_use]
    pub fn dataset(&self) -> Option<DatasetId> {
        Some(Wrapped::parse(&self.wrapped).ok()?.header().dataset)
    }

    /// Opens the DEK with the key that the recipient's key server gave for [`Recovery::wrapped`].
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open(&self, header: &Header, raw_context: &[u8], key: &Dek) -> Result<Dek, NotOpened> {
        // rule: RCP-2
        let bound = bound(&self.realm, header, raw_context);
        let payload = Payload {
            msg: &self.sealed,
            aad: &bound,
        };
        let dek = cipher(key).decrypt(&nonce(), payload).map(Zeroizing::new);
        let dek = dek.map_err(|_| NotOpened)?;
        let bytes = <[u8; 32]>::try_from(dek.as_slice()).map_err(|_| NotOpened)?;
        Ok(Dek::from_bytes(bytes))
    }
}

/// Each key seals one DEK.
fn nonce() -> Nonce {
    Nonce::default()
}

fn cipher(key: &Dek) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.expose().into())
}

/// What the sealed DEK is of: the object by the ids that its body is bound to, and its context.
fn bound(realm: &str, header: &Header, raw_context: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(160);
    let object = crate::wrapped::object_context(realm, header, raw_context);
    writer.array(2).text(labels::RECOVERY).bytes(&object);
    writer.into_bytes()
}

impl Encode for Recovery {
    fn encode(&self, writer: &mut Writer) {
        writer.array(3).text(&self.realm).bytes(&self.wrapped);
        writer.bytes(&self.sealed);
    }
}

impl Decode for Recovery {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        Ok(Self {
            realm: reader.text(1..=limits::NAME)?.to_owned(),
            wrapped: reader.bytes(1..=limits::WRAPPED)?.to_vec(),
            sealed: reader.array_of()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DekId;
    use crate::seal::{Kem, SealingSecret};
    use crate::wrapped::public::{open_upload, unwrap};

    fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
        rand_core::UnwrapErr(getrandom::SysRng)
    }

    fn header(dek: u8) -> Header {
        Header {
            dataset: DatasetId([1; 16]),
            kek: KekId([2; 16]),
            kek_version: 1,
            dek: DekId([dek; 16]),
        }
    }

    #[test]
    fn a_dek_is_recovered_with_the_recipients_key_and_for_its_own_object_alone() {
        // rule: RCP-1, RCP-2
        let secret = SealingSecret::generate(Kem::XWing, &mut rng());
        let recipient = Recipient {
            realm: "elsewhere".to_owned(),
            name: "break-glass".to_owned(),
            dataset: DatasetId([7; 16]),
            kek: KekId([8; 16]),
            kek_version: 3,
            public_key: secret.public(),
        };
        let dek = [0x5a; 32];
        let recoverer = Recoverer::begin(&recipient, &mut rng()).unwrap();
        let made = recoverer.wrap("here", &header(9), b"\xa0", &dek, &mut rng());
        let made = made.unwrap();
        assert_eq!(made.dataset(), Some(recipient.dataset));
        let bytes = made.to_cbor();
        assert_eq!(Recovery::from_cbor(&bytes, 2_000).unwrap(), made);
        // The recipient's key server opens it as any public wrap.
        let Ok(Wrapped::Public {
            header: of,
            enc,
            commitment,
            ..
        }) = Wrapped::parse(&made.wrapped)
        else {
            panic!("a public wrap");
        };
        let exports = open_upload(&secret, "elsewhere", &of, enc).unwrap();
        let key = unwrap(&exports, "elsewhere", &of, b"\xa0", &commitment).unwrap();
        assert_eq!(*made.open(&header(9), b"\xa0", &key).unwrap().expose(), dek);
        let other = Dek::from_bytes([1; 32]);
        assert_eq!(made.open(&header(9), b"\xa0", &other), Err(NotOpened));
        assert_eq!(made.open(&header(10), b"\xa0", &key), Err(NotOpened));
        assert_eq!(
            made.open(&header(9), b"\xa1\x61a\x61b", &key),
            Err(NotOpened)
        );
        let mut moved = made.clone();
        moved.realm = "there".to_owned();
        assert_eq!(moved.open(&header(9), b"\xa0", &key), Err(NotOpened));
        // Two of one encapsulation have each a key of their own.
        let next = recoverer.wrap("here", &header(9), b"\xa0", &dek, &mut rng());
        assert_ne!(next.unwrap().sealed, made.sealed);
    }
}
