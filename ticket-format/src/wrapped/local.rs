//! `local` wraps: XChaCha20-Poly1305 under a symmetric KEK version (WRAP-2). Its 192-bit nonce may
//! be random for as many wraps as a key server can ever make.

use rand_core::CryptoRng;

use super::{Header, LOCAL, Origin, VERSION, WrapError};
use crate::aead;
use crate::cbor::{Encode, Writer};
use crate::labels;
use crate::secret::{Dek, Kek};

fn associated(realm: &str, header: &Header, origin: Origin, raw_context: &[u8]) -> Vec<u8> {
    // rule: WRAP-2
    let mut writer = Writer::with_capacity(160 + raw_context.len());
    writer.array(9).text(labels::WRAP).text(realm).uint(LOCAL);
    header.encode(&mut writer);
    origin.encode(&mut writer);
    writer.raw(raw_context);
    writer.into_bytes()
}

/// Wraps a DEK. `raw_context` is the encoded context map.
#[must_use]
pub fn wrap(
    kek: &Kek,
    realm: &str,
    header: &Header,
    origin: Origin,
    raw_context: &[u8],
    dek: &Dek,
    rng: &mut impl CryptoRng,
) -> Vec<u8> {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let aad = associated(realm, header, origin, raw_context);
    // An AEAD refuses only messages of 256 GiB and more.
    let ciphertext = aead::seal_extended(kek.expose(), &nonce, &aad, dek.expose());
    let ciphertext = ciphertext.unwrap_or_default();
    let mut writer = Writer::with_capacity(160);
    writer.array(9).uint(VERSION).uint(LOCAL);
    header.encode(&mut writer);
    origin.encode(&mut writer);
    writer.bytes(&nonce).bytes(&ciphertext);
    writer.into_bytes()
}

/// Opens a wrap made by [`wrap`] with the same realm, header, origin and context.
///
/// # Errors
/// [`WrapError::Authentication`].
pub fn unwrap(
    kek: &Kek,
    realm: &str,
    header: &Header,
    origin: Origin,
    raw_context: &[u8],
    nonce: &[u8; 24],
    ciphertext: &[u8; 48],
) -> Result<Dek, WrapError> {
    let aad = associated(realm, header, origin, raw_context);
    let opened = aead::open_extended(kek.expose(), nonce, &aad, ciphertext);
    let opened = opened.map_err(|_| WrapError::Authentication)?;
    Ok(Dek::from_bytes(*opened))
}
