//! The primitives, straight from the libraries that the product uses.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, ML_DSA_44, ML_DSA_44_SIGNING, ParsedPublicKey, PqdsaKeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, XChaCha20Poly1305};
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
    kek: XChaCha20Poly1305,
    answer: ChaCha20Poly1305,
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

impl Batch {
    /// Of so many items.
    pub(crate) fn new(items: usize) -> Result<Self, Report> {
        let failed = |_| Report::new(exit::LOCAL, "cannot seal a batch");
        let kek = XChaCha20Poly1305::new(&[1; 32].into());
        let answer = ChaCha20Poly1305::new(&[2; 32].into());
        let associated = vec![0xa5; ASSOCIATED];
        let payload = Payload {
            msg: &[7; 32],
            aad: &associated,
        };
        let wrap = kek.encrypt(&[0; 24].into(), payload).map_err(failed)?;
        let clear = vec![0xa5; CLEAR + ENTRY + items * (RECORDED + VERDICT)];
        let payload = Payload {
            msg: &vec![7; 32 * items],
            aad: &clear,
        };
        let sealed = answer.encrypt(&[0; 12].into(), payload).map_err(failed)?;
        Ok(Self {
            kek,
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
        let record = ENTRY + self.items * RECORDED;
        let answer = self.clear.len() + self.sealed.len();
        (self.body.len() + HEAD, answer, record)
    }

    /// The server's: the request's MAC; each wrap opened and its item hashed; the entry chained; one
    /// AEAD over the whole answer.
    pub(crate) fn serve(&self) {
        self.authenticate();
        for _ in 0..self.items {
            let payload = Payload {
                msg: black_box(&self.wrap),
                aad: &self.associated,
            };
            let opened = self.kek.decrypt(&[0; 24].into(), payload);
            assert!(black_box(opened).is_ok(), "a good wrap opens");
        }
        self.hash_items();
        black_box(Sha256::digest(black_box(&self.clear)));
        let payload = Payload {
            msg: &self.sealed[..32 * self.items],
            aad: &self.clear,
        };
        black_box(self.answer.encrypt(&[0; 12].into(), payload).is_ok());
    }

    /// The caller's: the request's MAC, the items' digests for the receipt, the answer opened.
    pub(crate) fn call(&self) {
        self.authenticate();
        self.hash_items();
        let payload = Payload {
            msg: black_box(&self.sealed),
            aad: &self.clear,
        };
        let opened = self.answer.decrypt(&[0; 12].into(), payload);
        assert!(black_box(opened).is_ok(), "a good answer opens");
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
            .seal_in_place_separate_tag(Self::nonce(), Aad::empty(), &mut sealed)
            .map_err(failed)?;
        Ok(Self {
            key,
            sealed,
            tag: tag.as_ref().to_vec(),
            out: vec![0; Self::LEN],
        })
    }

    fn nonce() -> Nonce {
        Nonce::assume_unique_for_key([0; 12])
    }

    /// Opens chunks of so many bytes in all.
    pub(crate) fn open(&mut self, bytes: usize) {
        for _ in 0..bytes / Self::LEN {
            let opened = self.key.open_separate_gather(
                Self::nonce(),
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
