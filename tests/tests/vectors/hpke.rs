//! HPKE base mode (RFC 9180, appendix A) in the suite of `ticket_format::seal`: through the library,
//! and through our own encapsulation and its exports.

use std::convert::Infallible;

use hpke::aead::{AeadCtxR, AeadCtxS, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable};
use rand_core::{TryCryptoRng, TryRng};
use serde::Deserialize;
use ticket_format::seal::{Exports, Kem, SealingKey, SealingSecret, encapsulate};
use ticket_format::secret::SealingSeed;

use crate::support::{Hex, read};

const OURS: &str = "hpke/rfc9180-x25519-hkdfsha256-chacha20poly1305.json";
const OTHER_AEAD: &str = "hpke/rfc9180-x25519-hkdfsha256-aes128gcm-base.json";

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[allow(non_snake_case)] // the names of RFC 9180
struct Vector {
    mode: u8,
    kem_id: u16,
    kdf_id: u16,
    aead_id: u16,
    info: Hex,
    ikmE: Hex,
    ikmR: Hex,
    pkRm: Hex,
    skRm: Hex,
    enc: Hex,
    encryptions: Vec<Encryption>,
    exports: Vec<Export>,
}

#[derive(Deserialize)]
struct Encryption {
    #[serde(rename = "sequence number")]
    sequence: u32,
    pt: Hex,
    aad: Hex,
    ct: Hex,
}

#[derive(Deserialize)]
struct Export {
    exporter_context: Hex,
    #[serde(rename = "L")]
    length: usize,
    exported_value: Hex,
}

impl Vector {
    /// The one vector of this mode in a file.
    fn of(file: &str, mode: u8, aead: u16) -> Self {
        let mut vectors = read::<File>(file).vectors;
        vectors.retain(|vector| vector.mode == mode);
        let vector = vectors.pop().expect("a vector of the mode");
        assert!(vectors.is_empty());
        let suite = (vector.kem_id, vector.kdf_id, vector.aead_id);
        assert_eq!(suite, (Kem::X25519.id(), 1, aead));
        vector
    }

    fn secret(&self) -> SealingSecret {
        let seed = SealingSeed::from_bytes(self.skRm.array().expect("32 bytes"));
        SealingSecret::from_seed(Kem::X25519, seed)
    }

    fn receiver(&self) -> Exports {
        self.secret()
            .decapsulate(&self.enc, &self.info)
            .expect("a good share")
    }

    /// How many of the exported values these are; all or none.
    fn agrees_with(&self, exports: &Exports) -> usize {
        let same = self.exports.iter().filter(|export| {
            assert_eq!(export.length, 32);
            *exports.export::<32>(&export.exporter_context) == *export.exported_value
        });
        same.count()
    }
}

/// Gives out the ephemeral key material of a vector, once.
struct Replay<'a>(&'a [u8]);

impl TryRng for Replay<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        let (given, rest) = self.0.split_at(to.len());
        to.copy_from_slice(given);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Replay<'_> {}

/// A private key as X25519 reads it (RFC 7748, 5). The library writes it down so; RFC 9180 does not.
fn clamped(private: &[u8]) -> [u8; 32] {
    let mut scalar: [u8; 32] = private.try_into().expect("32 bytes");
    scalar[0] &= 0xf8;
    scalar[31] = (scalar[31] & 0x7f) | 0x40;
    scalar
}

#[test]
fn the_library_derives_encapsulates_seals_and_opens_as_rfc_9180_does() {
    type Sender = AeadCtxS<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;
    type Receiver = AeadCtxR<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;
    let vector = Vector::of(OURS, 0, 3);

    let (secret, public) = X25519HkdfSha256::derive_keypair(&vector.ikmR);
    assert_eq!(secret.to_bytes().as_slice(), clamped(&vector.skRm));
    assert_eq!(public.to_bytes().as_slice(), &*vector.pkRm);

    let mut ephemeral = Replay(&vector.ikmE);
    let (enc, mut sender): (_, Sender) =
        hpke::setup_sender_with_rng(&OpModeS::Base, &public, &vector.info, &mut ephemeral)
            .expect("a good key");
    assert_eq!(enc.to_bytes().as_slice(), &*vector.enc);
    let enc =
        <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&vector.enc).expect("a share");
    let mut receiver: Receiver =
        hpke::setup_receiver(&OpModeR::Base, &secret, &enc, &vector.info).expect("a good share");

    let mut given = vector.encryptions.iter().peekable();
    let mut checked = Vec::new();
    for sequence in 0..=255 {
        match given.next_if(|encryption| encryption.sequence == sequence) {
            Some(encryption) => {
                let sealed = sender.seal(&encryption.pt, &encryption.aad);
                assert_eq!(sealed.as_deref(), Ok(&*encryption.ct), "{sequence}");
                let opened = receiver.open(&encryption.ct, &encryption.aad);
                assert_eq!(opened.as_deref(), Ok(&*encryption.pt), "{sequence}");
                checked.push(sequence);
            }
            // The file does not have this one: both sides count it.
            None => {
                let sealed = sender.seal(b"between", b"").expect("short enough");
                receiver.open(&sealed, b"").expect("the next in order");
            }
        }
    }
    assert_eq!(checked, [0, 1, 2, 255]);
    assert!(given.next().is_none());

    let mut exported = 0;
    for export in &vector.exports {
        let mut value = vec![0; export.length];
        sender
            .export(&export.exporter_context, &mut value)
            .expect("short enough");
        assert_eq!(value, *export.exported_value);
        receiver
            .export(&export.exporter_context, &mut value)
            .expect("short enough");
        assert_eq!(value, *export.exported_value);
        exported += 1;
    }
    assert_eq!(exported, 2);
}

#[test]
fn our_receiver_exports_what_rfc_9180_exports() {
    // rule: SEAL-2
    let vector = Vector::of(OURS, 0, 3);
    assert_eq!(vector.secret().public().as_bytes(), &*vector.pkRm);
    assert_eq!(vector.agrees_with(&vector.receiver()), 2);
}

#[test]
fn our_sender_encapsulates_and_exports_what_rfc_9180_does() {
    // rule: SEAL-2
    let vector = Vector::of(OURS, 0, 3);
    let key = SealingKey::from_bytes(Kem::X25519, &vector.pkRm).expect("a key");
    let mut ephemeral = Replay(&vector.ikmE);
    let (enc, exports) = encapsulate(&key, &vector.info, &mut ephemeral).expect("a good key");
    assert_eq!(enc, *vector.enc);
    assert_eq!(vector.agrees_with(&exports), 2);
}

#[test]
fn another_aead_in_the_suite_gives_other_exports_of_the_same_shared_secret() {
    // rule: SEAL-1
    let vector = Vector::of(OTHER_AEAD, 0, 1);
    assert_eq!(vector.secret().public().as_bytes(), &*vector.pkRm);
    assert_eq!(vector.exports.len(), 3);
    assert_eq!(vector.agrees_with(&vector.receiver()), 0);
}

#[test]
fn another_info_or_mode_gives_other_exports() {
    // rule: SEAL-1
    let vector = Vector::of(OURS, 0, 3);
    for info in [&vector.info[1..], b""] {
        let exports = vector
            .secret()
            .decapsulate(&vector.enc, info)
            .expect("a good share");
        assert_eq!(vector.agrees_with(&exports), 0);
    }
    let authenticated = Vector::of(OURS, 2, 3);
    assert_eq!(authenticated.exports.len(), 3);
    assert_eq!(authenticated.agrees_with(&authenticated.receiver()), 0);
}
