//! Every byte of a wrap counts, and so does every pair of its context.

use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::*;
use crate::Context;
use crate::keys::{ProducerKey, ProducerSecret};
use crate::seal::{Kem, SealingSecret};
use crate::secret::{Dek, Kek, SealingSeed};

const REALM: &str = "example.org";

fn header() -> Header {
    Header {
        dataset: DatasetId([1; 16]),
        kek: KekId([2; 16]),
        kek_version: 0xffff_ffff,
        dek: DekId([3; 16]),
    }
}

fn context(name: &str) -> Vec<u8> {
    Context::named(name).unwrap().to_cbor()
}

fn kek() -> Kek {
    Kek::from_bytes([7; 32])
}

fn unwrap_local(kek: &Kek, realm: &str, wrapped: &[u8], raw_context: &[u8]) -> Option<Dek> {
    let Ok(Wrapped::Local {
        header,
        origin,
        nonce,
        ciphertext,
    }) = Wrapped::parse(wrapped)
    else {
        return None;
    };
    local::unwrap(
        kek,
        realm,
        &header,
        origin,
        raw_context,
        &nonce,
        &ciphertext,
    )
    .ok()
}

fn dataset_secret() -> SealingSecret {
    SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([9; 32]))
}

fn upload() -> public::Upload {
    let header = header();
    public::Upload::begin(
        REALM,
        header.dataset,
        header.kek,
        3,
        &dataset_secret().public(),
        &mut UnwrapErr(SysRng),
    )
    .unwrap()
}

fn unwrap_public(
    wrapped: &[u8],
    raw_context: &[u8],
    producers: &[ProducerKey],
) -> Option<(Dek, Origin)> {
    let parsed = Wrapped::parse(wrapped).ok()?;
    let Wrapped::Public {
        header,
        enc,
        commitment,
        producer,
    } = &parsed
    else {
        return None;
    };
    let exports = public::open_upload(&dataset_secret(), REALM, header, enc).ok()?;
    let dek = public::unwrap(&exports, REALM, header, raw_context, commitment).ok()?;
    if let Some(claim) = producer {
        public::verify_producer(
            producers,
            REALM,
            header,
            enc,
            commitment,
            raw_context,
            claim,
        )
        .ok()?;
    }
    Some((dek, parsed.claimed_origin()))
}

#[test]
fn a_local_wrap_opens_with_its_kek_realm_and_context_only() {
    // rule: WRAP-2
    let dek = Dek::from_bytes([5; 32]);
    for origin in [
        Origin::Generated,
        Origin::PublicUnsigned,
        Origin::PublicSigned(ProducerId([4; 16])),
    ] {
        let wrapped = local::wrap(
            &kek(),
            REALM,
            &header(),
            origin,
            &context("a"),
            &dek,
            &mut UnwrapErr(SysRng),
        );
        assert!(
            wrapped.len() <= crate::limits::LOCAL_WRAP,
            "{} bytes",
            wrapped.len()
        );
        assert_eq!(Wrapped::parse(&wrapped).unwrap().claimed_origin(), origin);
        assert_eq!(
            unwrap_local(&kek(), REALM, &wrapped, &context("a")),
            Some(dek.clone())
        );
        assert_eq!(unwrap_local(&kek(), REALM, &wrapped, &context("b")), None);
        assert_eq!(
            unwrap_local(&kek(), "example.com", &wrapped, &context("a")),
            None
        );
        assert_eq!(
            unwrap_local(&Kek::from_bytes([8; 32]), REALM, &wrapped, &context("a")),
            None
        );
    }
}

#[test]
fn every_flipped_bit_cut_and_extension_of_a_local_wrap_is_refused() {
    // rule: WRAP-1, WRAP-2, ORG-1
    let dek = Dek::from_bytes([5; 32]);
    let wrapped = local::wrap(
        &kek(),
        REALM,
        &header(),
        Origin::Generated,
        &context("a"),
        &dek,
        &mut UnwrapErr(SysRng),
    );
    for at in 0..wrapped.len() {
        for bit in 0..8 {
            let mut flipped = wrapped.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(
                unwrap_local(&kek(), REALM, &flipped, &context("a")),
                None,
                "bit {bit} of byte {at}"
            );
        }
        assert_eq!(
            unwrap_local(&kek(), REALM, &wrapped[..at], &context("a")),
            None
        );
    }
    assert_eq!(
        unwrap_local(&kek(), REALM, &[&wrapped[..], &[0]].concat(), &context("a")),
        None
    );
}

#[test]
fn two_wraps_of_one_dek_share_no_nonce() {
    // rule: WRAP-2
    let dek = Dek::from_bytes([5; 32]);
    let wrap = || {
        local::wrap(
            &kek(),
            REALM,
            &header(),
            Origin::Generated,
            &context("a"),
            &dek,
            &mut UnwrapErr(SysRng),
        )
    };
    assert_ne!(wrap(), wrap());
}

#[test]
fn objects_of_one_upload_share_the_encapsulation_and_no_key() {
    // rule: WRAP-3
    let upload = upload();
    let (first, first_wrap) = upload.object(context("a"), &mut UnwrapErr(SysRng));
    let (second, second_wrap) = upload.object(context("a"), &mut UnwrapErr(SysRng));
    assert_ne!(first, second);
    let first_wrap = upload.finish(&first_wrap, [0; 32], None);
    let second_wrap = upload.finish(&second_wrap, [0; 32], None);
    assert_eq!(
        unwrap_public(&first_wrap, &context("a"), &[]),
        Some((first, Origin::PublicUnsigned))
    );
    assert_eq!(
        unwrap_public(&second_wrap, &context("a"), &[]),
        Some((second, Origin::PublicUnsigned))
    );
    assert_eq!(unwrap_public(&first_wrap, &context("b"), &[]), None);
}

#[test]
fn a_public_wrap_fits_s3_metadata() {
    // rule: WRAP-1
    let upload = upload();
    let producer = ProducerSecret::from_seed(&[6; 32]);
    let (_, pending) = upload.object(context("a"), &mut UnwrapErr(SysRng));
    let wrapped = upload.finish(&pending, [0; 32], Some(&producer));
    assert!(
        wrapped.len() <= crate::limits::PUBLIC_WRAP,
        "{} bytes",
        wrapped.len()
    );
    assert!(wrapped.len().div_ceil(3) * 4 + 128 <= 2_048);
}

#[test]
fn a_producers_signature_covers_dek_context_and_body() {
    // rule: WRAP-4
    let upload = upload();
    let producer = ProducerSecret::from_seed(&[6; 32]);
    let (dek, pending) = upload.object(context("a"), &mut UnwrapErr(SysRng));
    let wrapped = upload.finish(&pending, [0x42; 32], Some(&producer));
    let origin = Origin::PublicSigned(producer.public().id());
    assert_eq!(
        unwrap_public(&wrapped, &context("a"), &[producer.public()]),
        Some((dek, origin))
    );
    assert_eq!(
        unwrap_public(&wrapped, &context("a"), &[]),
        None,
        "an unregistered producer"
    );
    let other = ProducerSecret::from_seed(&[66; 32]).public();
    assert_eq!(unwrap_public(&wrapped, &context("a"), &[other]), None);
    let mut other_body = wrapped.clone();
    let at = other_body
        .windows(32)
        .position(|window| window == [0x42; 32])
        .unwrap();
    other_body[at] ^= 1;
    assert_eq!(
        unwrap_public(&other_body, &context("a"), &[producer.public()]),
        None
    );
}

#[test]
fn every_flipped_byte_of_a_public_wrap_is_refused() {
    // rule: WRAP-1, WRAP-3, WRAP-4
    let upload = upload();
    let producer = ProducerSecret::from_seed(&[6; 32]);
    let (_, pending) = upload.object(context("a"), &mut UnwrapErr(SysRng));
    let wrapped = upload.finish(&pending, [1; 32], Some(&producer));
    for at in 0..wrapped.len() {
        // A decapsulation each: inside the encapsulation every sixteenth byte will do.
        if (64..1_184).contains(&at) && at % 16 != 0 {
            continue;
        }
        let mut flipped = wrapped.clone();
        flipped[at] ^= 1 << (at % 8);
        assert_eq!(
            unwrap_public(&flipped, &context("a"), &[producer.public()]),
            None,
            "byte {at}"
        );
    }
    for cut in 0..wrapped.len() {
        assert!(Wrapped::parse(&wrapped[..cut]).is_err());
    }
}

#[test]
fn an_x25519_key_takes_no_public_wrap() {
    // rule: WRAP-3
    let key = SealingSecret::generate(Kem::X25519, &mut UnwrapErr(SysRng)).public();
    let header = header();
    assert!(
        public::Upload::begin(
            REALM,
            header.dataset,
            header.kek,
            1,
            &key,
            &mut UnwrapErr(SysRng)
        )
        .is_err()
    );
}

#[test]
fn an_objects_context_follows_dataset_dek_and_pairs_but_not_the_kek() {
    let base = object_context(REALM, &header(), &context("a"));
    let rewrapped = Header {
        kek: KekId([99; 16]),
        kek_version: 4,
        ..header()
    };
    assert_eq!(object_context(REALM, &rewrapped, &context("a")), base);
    assert_ne!(
        object_context(
            REALM,
            &Header {
                dek: DekId([99; 16]),
                ..header()
            },
            &context("a")
        ),
        base
    );
    assert_ne!(
        object_context(
            REALM,
            &Header {
                dataset: DatasetId([99; 16]),
                ..header()
            },
            &context("a")
        ),
        base
    );
    assert_ne!(object_context(REALM, &header(), &context("b")), base);
    assert_ne!(
        object_context("example.com", &header(), &context("a")),
        base
    );
}
