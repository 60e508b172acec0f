//! Messages of the COSE working group that are authenticated or encrypted under a symmetric key. Postern
//! sends none; they check HMAC, HKDF, X25519 and the AEADs on somebody else's framing.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use coset::cbor::Value;
use coset::iana::Algorithm as Name;
use coset::{Algorithm, CoseEncrypt, CoseMac0, Label, TaggedCborSerializable};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::cose_example::Example;
use crate::support::{Hex, read};

#[test]
fn authenticated_web_tokens_verify_and_their_cut_tags_do_not_pass_for_whole_ones() {
    let mut run = 0;
    for file in ["CWT/A_4", "CWT/A_7"] {
        let example: Example = read(&format!("cose/{file}.json"));
        let message = CoseMac0::from_tagged_slice(&example.output.cbor).expect("a COSE_Mac0");
        let algorithm = Some(Algorithm::Assigned(Name::HMAC_256_64));
        assert_eq!(message.protected.header.alg, algorithm);
        let key = example.input.recipient().symmetric();
        assert_eq!(key, *example.intermediates.content_key);
        let verified = message.verify_payload_tag(
            &[],
            || panic!("there is a payload"),
            |tag, input| {
                assert_eq!(input, &*example.intermediates.to_be_authenticated);
                let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
                mac.update(input);
                assert!(mac.clone().verify_slice(tag).is_err(), "64 of 256 bits");
                mac.verify_truncated_left(tag)
            },
        );
        assert!(verified.is_ok(), "{file}");
        assert_eq!(message.payload, Some(example.input.plaintext()), "{file}");
        run += 1;
    }
    assert_eq!(run, 2);
}

fn encrypted(file: &str) -> (Example, CoseEncrypt) {
    let example: Example = read(&format!("cose/{file}.json"));
    let message = CoseEncrypt::from_tagged_slice(&example.output.cbor).expect("a COSE_Encrypt");
    assert_eq!(message.recipients.len(), 1);
    (example, message)
}

#[test]
fn a_chacha20_poly1305_message_opens_to_its_content() {
    let (example, message) = encrypted("chacha-poly-examples/chacha-poly-01");
    let algorithm = Some(Algorithm::Assigned(Name::ChaCha20Poly1305));
    assert_eq!(message.protected.header.alg, algorithm);
    let key = example.input.recipient().symmetric();
    assert_eq!(key, *example.intermediates.content_key);
    let nonce = message
        .unprotected
        .iv
        .as_slice()
        .try_into()
        .expect("96 bits");
    let opened = message.decrypt_ciphertext(
        &[],
        || panic!("there is a ciphertext"),
        |msg, aad| {
            ChaCha20Poly1305::new_from_slice(&key)
                .expect("256 bits")
                .decrypt(nonce, Payload { msg, aad })
        },
    );
    assert_eq!(opened, Ok(example.input.plaintext()));
}

/// The sender's X25519 key: the COSE_Key (-2: x) in the header "ephemeral key" (-1).
fn ephemeral_key(message: &CoseEncrypt) -> Option<[u8; 32]> {
    let rest = &message.recipients[0].unprotected.rest;
    let (_, key) = rest.iter().find(|(label, _)| *label == Label::Int(-1))?;
    let (_, x) = key
        .as_map()?
        .iter()
        .find(|(label, _)| *label == Value::from(-2))?;
    x.as_bytes()?.as_slice().try_into().ok()
}

#[test]
fn an_x25519_message_opens_after_the_agreement_and_derivation_it_describes() {
    let (example, message) = encrypted("X25519-tests/x25519-hkdf-256-direct");
    let agreement = &example.intermediates.recipients[0];
    let private = example.input.recipient().d_hex.as_ref();
    let private = private.and_then(Hex::array).expect("32 bytes");
    let public = ephemeral_key(&message).expect("a key");
    let secret = x25519_dalek::x25519(private, public);
    assert_eq!(secret, *agreement.secret);

    let mut key = [0; 16];
    Hkdf::<Sha256>::new(None, &secret)
        .expand(&agreement.context, &mut key)
        .expect("short enough");
    assert_eq!(key, *example.intermediates.content_key);

    let nonce = message.unprotected.iv.as_slice();
    let opened = message.decrypt_ciphertext(
        &[],
        || panic!("there is a ciphertext"),
        |sealed, aad| {
            let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
            let nonce = Nonce::try_assume_unique_for_key(nonce)?;
            let mut buffer = sealed.to_vec();
            key.open_in_place(nonce, Aad::from(aad), &mut buffer)
                .map(|clear| clear.to_vec())
        },
    );
    assert_eq!(opened, Ok(example.input.plaintext()));
}
