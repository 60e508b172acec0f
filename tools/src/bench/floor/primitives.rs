//! The primitives, straight from the libraries that the product uses.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, ML_DSA_44, ML_DSA_44_SIGNING, ParsedPublicKey, PqdsaKeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use chacha20::R20;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, Mac as _};
use sha2::{Digest, Sha256};
use ticket_format::report::{Report, exit};
use ticket_format::seal::{Kem, SealingSecret};

use crate::realm::rng;

/// Bytes of what is signed: about as many as SIG-1's array has.
const SIGNED: usize = 200;

/// An Ed25519 key, a message and its signature.
pub(crate) struct Signature {
    key: SigningKey,
    message: Vec<u8>,
    signature: ed25519_dalek::Signature,
}

impl Signature {
    /// A fresh one.
    pub(crate) fn new() -> Self {
        let (key, message) = (SigningKey::generate(&mut rng()), vec![0xa5; SIGNED]);
        let signature = key.sign(&message);
        Self {
            key,
            message,
            signature,
        }
    }

    /// Makes a key pair.
    pub(crate) fn make_key() {
        black_box(SigningKey::generate(&mut rng()).verifying_key());
    }

    /// Signs so often.
    pub(crate) fn sign(&self, times: usize) {
        for _ in 0..times {
            black_box(self.key.sign(black_box(&self.message)));
        }
    }

    /// Verifies so often, strictly.
    pub(crate) fn verify(&self, times: usize) {
        let key = self.key.verifying_key();
        for _ in 0..times {
            let verified = key.verify_strict(black_box(&self.message), &self.signature);
            assert!(black_box(verified).is_ok(), "a good signature verifies");
        }
    }
}

/// An ML-DSA-44 key, a message and its signature.
pub(crate) struct MlDsa {
    key: PqdsaKeyPair,
    signature: Vec<u8>,
}

impl MlDsa {
    /// A fresh one.
    pub(crate) fn new() -> Result<Self, Report> {
        let failed = |_| Report::new(exit::LOCAL, "cannot make an ML-DSA-44 key");
        let key = PqdsaKeyPair::generate(&ML_DSA_44_SIGNING).map_err(failed)?;
        let mut signature = vec![0; ML_DSA_44_SIGNING.signature_len()];
        key.sign(&[0xa5; SIGNED], &mut signature).map_err(failed)?;
        Ok(Self { key, signature })
    }

    /// Signs once.
    pub(crate) fn sign(&self) {
        let mut signature = vec![0; self.signature.len()];
        let signed = self.key.sign(black_box(&[0xa5; SIGNED]), &mut signature);
        assert!(black_box(signed).is_ok(), "any message is signed");
    }

    /// Verifies once.
    pub(crate) fn verify(&self) {
        let key = UnparsedPublicKey::new(&ML_DSA_44, self.key.public_key());
        let verified = key.verify(black_box(&[0xa5; SIGNED]), &self.signature);
        assert!(black_box(verified).is_ok(), "a good signature verifies");
    }
}

/// An RSA-2048 key, a message and its signature, as of an identity document.
pub(crate) struct Rsa {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Rsa {
    /// A fresh one.
    pub(crate) fn new() -> Result<Self, Report> {
        let failed = || Report::new(exit::LOCAL, "cannot make an RSA key");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| failed())?;
        let (message, mut signature) = (vec![0xa5; SIGNED], vec![0; pair.public_modulus_len()]);
        let random = SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, &message, &mut signature)
            .map_err(|_| failed())?;
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        Ok(Self {
            key: key.map_err(|_| failed())?,
            message,
            signature,
        })
    }

    /// Verifies once.
    pub(crate) fn verify(&self) {
        let verified = self
            .key
            .verify_sig(black_box(&self.message), &self.signature);
        assert!(black_box(verified).is_ok(), "a good signature verifies");
    }
}

/// Makes an X-Wing key pair.
pub(crate) fn make_sealing_key() {
    black_box(SealingSecret::generate(Kem::XWing, &mut rng()).public());
}

/// A batch of local wraps: what either side computes over each item and over the whole.
pub(crate) struct Batch {
    answer: LessSafeKey,
    wrap: Vec<u8>,
    associated: Vec<u8>,
    items: usize,
    /// Bytes of the request's body.
    body: Vec<u8>,
    sealed: Vec<u8>,
    /// The answer's clear part, which holds the entry.
    clear: Vec<u8>,
}

/// Bytes of one item: its wrap and its context.
const ITEM: usize = 170;
/// Bytes of a wrap's associated data.
const ASSOCIATED: usize = 150;
/// Bytes of what a request carries beside its items.
const HEAD: usize = 100;
/// Bytes of the audit entry beside its items.
const ENTRY: usize = 330;
/// Bytes in the audit entry for each item: its digest and verdict.
const RECORDED: usize = 36;
/// Bytes of an answer's clear part beside verdicts and entry.
const CLEAR: usize = 160;
/// Bytes of a verdict in the clear part.
const VERDICT: usize = 3;

/// Bytes of the audit entry of a redemption of so many items.
pub(crate) const fn record_bytes(items: usize) -> usize {
    ENTRY + items * RECORDED
}

/// The key that wraps are under.
const KEK: [u8; 32] = [1; 32];

fn short(key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new)
}

/// Everything here is sealed once, or to be thrown away.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn seal(key: &LessSafeKey, clear: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let mut sealed = Vec::with_capacity(plain.len() + 16);
    sealed.extend_from_slice(plain);
    key.seal_in_place_append_tag(nonce(), Aad::from(clear), &mut sealed)?;
    Ok(sealed)
}

impl Batch {
    /// Of so many items.
    pub(crate) fn new(items: usize) -> Result<Self, Report> {
        let failed = || Report::new(exit::LOCAL, "cannot seal a batch");
        let associated = vec![0xa5; ASSOCIATED];
        let payload = Payload {
            msg: &[7; 32],
            aad: &associated,
        };
        // By another library than opens it below: a floor that opened nothing would be none.
        let kek = XChaCha20Poly1305::new((&KEK).into());
        let wrap = kek
            .encrypt(&[0; 24].into(), payload)
            .map_err(|_| failed())?;
        let answer = short(&[2; 32]).map_err(|_| failed())?;
        let clear = vec![0xa5; CLEAR + ENTRY + items * (RECORDED + VERDICT)];
        let sealed = seal(&answer, &clear, &vec![7; 32 * items]).map_err(|_| failed())?;
        Ok(Self {
            answer,
            wrap,
            associated,
            items,
            body: vec![0xa5; HEAD + items * ITEM],
            sealed,
            clear,
        })
    }

    /// Bytes of the request, answer and audit entry.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let record = record_bytes(self.items);
        let answer = self.clear.len() + self.sealed.len();
        (self.body.len() + HEAD, answer, record)
    }

    /// The server's: the request's MAC; each wrap opened and its item hashed; the entry chained; one
    /// AEAD over the whole answer.
    pub(crate) fn serve(&self) {
        self.authenticate();
        for _ in 0..self.items {
            assert!(self.unwrap().is_ok(), "a good wrap opens");
        }
        self.hash_items();
        black_box(Sha256::digest(black_box(&self.clear)));
        let deks = &self.sealed[..32 * self.items];
        black_box(seal(&self.answer, &self.clear, deks).is_ok());
    }

    /// XChaCha20-Poly1305 of one wrap.
    fn unwrap(&self) -> Result<[u8; 32], Unspecified> {
        let first = black_box([0; 16]).into();
        let key = short(&chacha20::hchacha::<R20>((&KEK).into(), &first).into())?;
        let (sealed, tag) = self.wrap.split_at(32);
        let (aad, mut dek) = (Aad::from(&self.associated), [0; 32]);
        key.open_separate_gather(nonce(), aad, black_box(sealed), tag, &mut dek)?;
        Ok(black_box(dek))
    }

    /// The caller's: the request's MAC, the items' digests for the receipt, the answer opened.
    pub(crate) fn call(&self) {
        self.authenticate();
        self.hash_items();
        let mut deks = vec![0; 32 * self.items];
        let (sealed, tag) = self.sealed.split_at(deks.len());
        let aad = Aad::from(&self.clear);
        let opened =
            self.answer
                .open_separate_gather(nonce(), aad, black_box(sealed), tag, &mut deks);
        assert!(opened.is_ok(), "a good answer opens");
        black_box(deks);
    }

    fn authenticate(&self) {
        let digest = Sha256::digest(black_box(&self.body));
        let mut mac = Hmac::<Sha256>::new(&[3; 64].into());
        mac.update(&[0xa5; SIGNED - 32]);
        mac.update(&digest);
        black_box(mac.finalize());
    }

    fn hash_items(&self) {
        for item in self.body[HEAD..].chunks(ITEM) {
            black_box(Sha256::digest(black_box(item)));
        }
    }
}

/// AES-256-GCM over chunks of 16 KiB, as object bodies are made of, by the library alone.
pub(crate) struct Chunks {
    key: LessSafeKey,
    sealed: Vec<u8>,
    tag: Vec<u8>,
    out: Vec<u8>,
}

impl Chunks {
    /// Bytes of one chunk.
    const LEN: usize = 16 * 1024;

    /// A sealed chunk.
    pub(crate) fn new() -> Result<Self, Report> {
        let failed = |_| Report::new(exit::LOCAL, "cannot seal a chunk");
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(failed)?;
        let key = LessSafeKey::new(key);
        let mut sealed = vec![0x5a; Self::LEN];
        let tag = key
            .seal_in_place_separate_tag(nonce(), Aad::empty(), &mut sealed)
            .map_err(failed)?;
        Ok(Self {
            key,
            sealed,
            tag: tag.as_ref().to_vec(),
            out: vec![0; Self::LEN],
        })
    }

    /// Opens chunks of so many bytes in all.
    pub(crate) fn open(&mut self, bytes: usize) {
        for _ in 0..bytes / Self::LEN {
            let opened = self.key.open_separate_gather(
                nonce(),
                Aad::empty(),
                black_box(&self.sealed),
                &self.tag,
                &mut self.out,
            );
            assert!(opened.is_ok(), "a good chunk opens");
        }
        black_box(&self.out);
    }
}
