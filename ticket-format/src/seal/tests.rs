//! Sealing opens for the session key, on its connection, for one request and answer.

use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::*;
use crate::keys::{TlsKey, TlsSecret};
use crate::sign::{ALG_EDDSA, Channel};

fn server() -> TlsKey {
    TlsSecret::from_seed(&[1; 32]).public()
}

const TICKET: TicketHash = TicketHash([2; 32]);

fn info(kem: Kem, exporter: u8) -> Vec<u8> {
    session_info(
        kem,
        "example.org",
        &server(),
        TICKET,
        Exporter([exporter; 32]),
    )
}

fn pair(kem: Kem) -> (Session, Session) {
    let secret = SealingSecret::generate(kem, &mut UnwrapErr(SysRng));
    let (enc, sender) =
        encapsulate(&secret.public(), &info(kem, 3), &mut UnwrapErr(SysRng)).unwrap();
    assert_eq!(enc.len(), kem.enc_len());
    assert_eq!(secret.public().as_bytes().len(), kem.key_len());
    let receiver = secret.decapsulate(&enc, &info(kem, 3)).unwrap();
    (Session::new(sender, TICKET), Session::new(receiver, TICKET))
}

fn id(verb: Verb, request: u8, salt: u8) -> AnswerId {
    AnswerId {
        verb,
        request: RequestHash([request; 32]),
        salt: [salt; 32],
    }
}

#[test]
fn an_answer_opens_for_its_request_and_salt_only() {
    // rule: SEAL-4
    for kem in [Kem::XWing, Kem::X25519] {
        let (server, client) = pair(kem);
        let sealed = server
            .seal(&id(Verb::Redeem, 1, 1), b"clear", &[9; 64])
            .unwrap();
        assert_eq!(
            *client
                .open(&id(Verb::Redeem, 1, 1), b"clear", &sealed)
                .unwrap(),
            [9; 64]
        );
        assert!(
            client
                .open(&id(Verb::Generate, 1, 1), b"clear", &sealed)
                .is_err()
        );
        assert!(
            client
                .open(&id(Verb::Redeem, 2, 1), b"clear", &sealed)
                .is_err()
        );
        assert!(
            client
                .open(&id(Verb::Redeem, 1, 2), b"clear", &sealed)
                .is_err()
        );
        assert!(
            client
                .open(&id(Verb::Redeem, 1, 1), b"other", &sealed)
                .is_err()
        );
    }
}

#[test]
fn every_flipped_byte_and_cut_of_a_sealed_answer_is_refused() {
    let (server, client) = pair(Kem::X25519);
    let sealed = server
        .seal(&id(Verb::Redeem, 1, 1), b"clear", &[9; 64])
        .unwrap();
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        assert!(
            client
                .open(&id(Verb::Redeem, 1, 1), b"clear", &flipped)
                .is_err()
        );
        assert!(
            client
                .open(&id(Verb::Redeem, 1, 1), b"clear", &sealed[..at])
                .is_err()
        );
    }
}

#[test]
fn an_encapsulation_of_another_connection_ticket_or_server_gives_other_keys() {
    // rule: SEAL-1
    let secret = SealingSecret::generate(Kem::XWing, &mut UnwrapErr(SysRng));
    let (enc, sender) = encapsulate(
        &secret.public(),
        &info(Kem::XWing, 3),
        &mut UnwrapErr(SysRng),
    )
    .unwrap();
    let sealed = Session::new(sender, TICKET)
        .seal(&id(Verb::Redeem, 1, 1), b"", &[9; 32])
        .unwrap();
    let other_server = TlsSecret::from_seed(&[77; 32]).public();
    for other in [
        info(Kem::XWing, 4),
        info(Kem::X25519, 3),
        session_info(
            Kem::XWing,
            "example.com",
            &server(),
            TICKET,
            Exporter([3; 32]),
        ),
        session_info(
            Kem::XWing,
            "example.org",
            &other_server,
            TICKET,
            Exporter([3; 32]),
        ),
        session_info(
            Kem::XWing,
            "example.org",
            &server(),
            TicketHash([0; 32]),
            Exporter([3; 32]),
        ),
    ] {
        let session = Session::new(secret.decapsulate(&enc, &other).unwrap(), TICKET);
        assert!(session.open(&id(Verb::Redeem, 1, 1), b"", &sealed).is_err());
    }
}

#[test]
fn a_request_mac_holds_for_its_body_label_and_connection_only() {
    // rule: SEAL-3, RED-1
    let (server_side, client) = pair(Kem::XWing);
    let channel = |exporter| Channel {
        realm: "example.org".into(),
        server: server(),
        exporter: Exporter([exporter; 32]),
    };
    let mac = client
        .mac()
        .authenticate(&channel(1), labels::REDEEM_REQUEST, TICKET, b"body");
    let check = |channel: &Channel, label, body: &[u8], proof: &crate::sign::Proof| {
        server_side
            .mac()
            .verify(channel, label, TICKET, body, proof)
    };
    assert!(check(&channel(1), labels::REDEEM_REQUEST, b"body", &mac).is_ok());
    assert!(check(&channel(2), labels::REDEEM_REQUEST, b"body", &mac).is_err());
    assert!(check(&channel(1), labels::REWRAP_REQUEST, b"body", &mac).is_err());
    assert!(check(&channel(1), labels::REDEEM_REQUEST, b"ydob", &mac).is_err());
    let mut other_alg = mac.clone();
    other_alg.alg = ALG_EDDSA;
    assert!(check(&channel(1), labels::REDEEM_REQUEST, b"body", &other_alg).is_err());
    let mut short = mac;
    short.value.pop();
    assert!(check(&channel(1), labels::REDEEM_REQUEST, b"body", &short).is_err());
}

/// Every u-coordinate of small order on the curve and its twist, and those that reduce to one: Wycheproof's
/// `x25519_test.json` has the same under "LowOrderPublic". The high bit is ignored by X25519.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    least(1),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    near_modulus(0xec),
    near_modulus(0xed),
    near_modulus(0xee),
];

const fn least(first: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = first;
    bytes
}

/// 2^255 - 19 has 0xed for its first byte.
const fn near_modulus(first: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = first;
    bytes[31] = 0x7f;
    bytes
}

#[test]
fn rustsec_2026_0072_every_low_order_public_key_is_refused_on_seal_and_on_open() {
    // rule: SEAL-5
    let secret = SealingSecret::generate(Kem::X25519, &mut UnwrapErr(SysRng));
    for low in LOW_ORDER {
        for high_bit in [0, 0x80] {
            let mut low = low;
            low[31] |= high_bit;
            let sealed = SealingKey::from_bytes(Kem::X25519, &low);
            assert!(sealed.is_err(), "seal to {low:02x?}");
            assert!(
                secret.decapsulate(&low, &info(Kem::X25519, 1)).is_err(),
                "open from {low:02x?}"
            );
        }
    }
}

#[test]
fn a_key_of_another_length_is_none_of_this_kem() {
    assert!(SealingKey::from_bytes(Kem::XWing, &[0; 32]).is_err());
    assert!(SealingKey::from_bytes(Kem::X25519, &[9; 31]).is_err());
    assert!(
        SealingKey::from_bytes(Kem::XWing, &[0xff; XWING_KEY]).is_err(),
        "coefficients past the modulus"
    );
}
