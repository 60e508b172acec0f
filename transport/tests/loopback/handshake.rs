//! Who gets a connection, and what every connection has (TR-1, TR-2, TR-4).

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ed25519_dalek::pkcs8::EncodePrivateKey;
use quinn::{ConnectionError, TransportErrorCode};
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use transport::{
    ClientLimits, ConnectError, Connection, ExporterUse, HandshakeResult, ServerLimits,
};

use crate::raw;
use crate::rig::{EXPORT, PATIENCE, Rig, key, loopback};

/// The error that a TLS alert of the server becomes at a raw client.
fn alert(result: Result<quinn::Connection, ConnectionError>) -> TransportErrorCode {
    match result.expect_err("refused") {
        ConnectionError::ConnectionClosed(close) => close.error_code,
        other => panic!("another error: {other}"),
    }
}

#[tokio::test]
async fn a_classical_only_client_is_refused() {
    let rig = Rig::start(ServerLimits::default());
    let tls = raw::client_tls(raw::classical(), &[transport::ALPN]);
    let code = alert(raw::connect(rig.address, raw::quic(tls)).await);
    assert_eq!(code, TransportErrorCode::crypto(40), "handshake_failure");
    assert_eq!(rig.metrics.handshakes_total(HandshakeResult::Failed), 1);
    rig.assert_serving().await;
}

#[tokio::test]
async fn another_protocol_or_none_is_refused() {
    let rig = Rig::start(ServerLimits::default());
    for protocols in [&[b"h3".as_slice()][..], &[b"postern/2"], &[]] {
        let tls = raw::client_tls(raw::hybrid(), protocols);
        let code = alert(raw::connect(rig.address, raw::quic(tls)).await);
        assert_eq!(
            code,
            TransportErrorCode::crypto(120),
            "no_application_protocol"
        );
    }
    rig.assert_serving().await;
}

#[tokio::test]
async fn a_draft_of_quic_is_refused() {
    let rig = Rig::start(ServerLimits::default());
    let mut config = raw::quic(raw::good_tls());
    config.version(0xff00_001d);
    let error = raw::connect(rig.address, config)
        .await
        .expect_err("refused");
    assert!(matches!(error, ConnectionError::VersionMismatch), "{error}");
    rig.assert_serving().await;
}

#[tokio::test]
async fn a_server_with_another_key_is_refused() {
    let rig = Rig::start(ServerLimits::default());
    let pin = key(2).verifying_key().to_bytes();
    let error = Connection::connect(rig.address, pin, ClientLimits::default(), PATIENCE)
        .await
        .expect_err("refused");
    assert!(
        matches!(error, ConnectError::WrongIdentity { .. }),
        "{error}"
    );
    assert!(!error.worth_retrying());
    rig.assert_serving().await;
}

/// The certificate that the rig's server shows, as anybody can fetch it.
async fn stolen_certificate(rig: &Rig) -> Vec<CertificateDer<'static>> {
    let connection = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let identity = connection.peer_identity().expect("an identity");
    *identity
        .downcast::<Vec<CertificateDer<'static>>>()
        .expect("certificates")
}

fn private(seed: u8) -> PrivateKeyDer<'static> {
    let document = key(seed).to_pkcs8_der().expect("a document");
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_bytes().to_vec()))
}

#[tokio::test]
async fn a_server_that_shows_the_right_certificate_without_its_key_is_refused() {
    let rig = Rig::start(ServerLimits::default());
    let chain = stolen_certificate(&rig).await;
    let ecdsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let ecdsa = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(ecdsa.serialize_der()));
    for key in [private(2), ecdsa] {
        let ed25519 =
            matches!(&key, PrivateKeyDer::Pkcs8(der) if der.secret_pkcs8_der().len() < 90);
        let thief = raw::server(chain.clone(), key, raw::hybrid(), &[transport::ALPN]);
        let address = thief.local_addr().expect("an address");
        let error = Connection::connect(address, rig.pin, ClientLimits::default(), PATIENCE)
            .await
            .expect_err("refused");
        match error {
            ConnectError::WrongIdentity { .. } => {}
            // We offer Ed25519 alone, so the other key has no signature to make.
            ConnectError::Handshake { .. } if !ed25519 => {}
            other => panic!("{other}"),
        }
    }
    // The same server with the right key is accepted: it was the key that was missing.
    let own = raw::server(chain, private(1), raw::hybrid(), &[transport::ALPN]);
    let address = own.local_addr().expect("an address");
    Connection::connect(address, rig.pin, ClientLimits::default(), PATIENCE)
        .await
        .expect("up");
}

#[tokio::test]
async fn our_client_refuses_classical_servers_and_other_protocols() {
    let rig = Rig::start(ServerLimits::default());
    let chain = stolen_certificate(&rig).await;
    let limits = ClientLimits::default;
    let old = raw::server(
        chain.clone(),
        private(1),
        raw::classical(),
        &[transport::ALPN],
    );
    let address = old.local_addr().expect("an address");
    let error = Connection::connect(address, rig.pin, limits(), PATIENCE)
        .await
        .expect_err("no");
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error}");
    for protocols in [&[b"h3".as_slice()][..], &[]] {
        let other = raw::server(chain.clone(), private(1), raw::hybrid(), protocols);
        let address = other.local_addr().expect("an address");
        let error = Connection::connect(address, rig.pin, limits(), PATIENCE)
            .await
            .expect_err("no");
        assert!(matches!(error, ConnectError::Alpn { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_pin_that_is_no_key_is_refused_before_anything_is_sent() {
    let error = Connection::connect(loopback(1), [0; 32], ClientLimits::default(), PATIENCE)
        .await
        .expect_err("refused");
    assert!(matches!(error, ConnectError::BadPin), "{error}");
}

#[tokio::test]
async fn silence_is_told_apart_and_ends_in_time() {
    let silent = UdpSocket::bind(loopback(1)).expect("a socket");
    let address = silent.local_addr().expect("an address");
    let pin = key(1).verifying_key().to_bytes();
    let timeout = Duration::from_millis(100);
    let error = Connection::connect(address, pin, ClientLimits::default(), timeout)
        .await
        .expect_err("nobody there");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.worth_retrying());
}

/// A session store that counts the tickets it is given.
#[derive(Debug)]
struct CountingStore {
    inner: ClientSessionMemoryCache,
    tickets: AtomicUsize,
}

impl ClientSessionStore for CountingStore {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.inner.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.inner.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.inner.set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.inner.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.inner.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tickets.fetch_add(1, Ordering::SeqCst);
        self.inner.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.inner.take_tls13_ticket(name)
    }
}

#[tokio::test]
async fn nothing_can_be_resumed_and_no_early_data_can_be_sent() {
    let rig = Rig::start(ServerLimits::default());
    let store = Arc::new(CountingStore {
        inner: ClientSessionMemoryCache::new(32),
        tickets: AtomicUsize::new(0),
    });
    let mut tls = raw::good_tls();
    tls.resumption = Resumption::store(Arc::clone(&store) as Arc<dyn ClientSessionStore>);
    tls.enable_early_data = true;
    let config = raw::quic(tls);
    let endpoint = raw::endpoint();
    for _ in 0..2 {
        let connecting = endpoint
            .connect_with(config.clone(), rig.address, "postern.invalid")
            .expect("a try");
        let connecting = connecting.into_0rtt().map(|_| ()).expect_err("no 0-RTT");
        let connection = connecting.await.expect("a full handshake");
        // An exchange later, any ticket would have come.
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        send.write_all(b"e").await.expect("sent");
        send.finish().expect("finished");
        recv.read_to_end(10).await.expect("an answer");
    }
    assert_eq!(store.tickets.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_exporter_is_the_same_on_both_ends_and_differs_by_use_and_connection() {
    let rig = Rig::start(ServerLimits::default());
    let mut seen = Vec::new();
    for _ in 0..2 {
        let connection = rig.connect().await;
        let answer = connection.exchange(&[EXPORT]).await.expect("an answer");
        let (authenticator, hpke) = answer.split_at(32);
        for (theirs, usage) in [
            (authenticator, ExporterUse::Authenticator),
            (hpke, ExporterUse::Hpke),
        ] {
            assert_eq!(connection.exporter(usage).expect("a value"), theirs);
            seen.push(theirs.to_vec());
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn the_exporter_is_that_of_rfc_8446_under_our_label_with_an_empty_context() {
    let rig = Rig::start(ServerLimits::default());
    let raw = raw::connect(rig.address, raw::quic(raw::good_tls()))
        .await
        .expect("a connection");
    let (mut send, mut recv) = raw.open_bi().await.expect("a stream");
    send.write_all(&[EXPORT]).await.expect("sent");
    send.finish().expect("finished");
    let answer = recv.read_to_end(64).await.expect("an answer");
    let mut expected = [0; 64];
    let (authenticator, hpke) = expected.split_at_mut(32);
    for (value, label) in [
        (authenticator, "EXPORTER-postern-1-authenticator"),
        (hpke, "EXPORTER-postern-1-hpke"),
    ] {
        raw.export_keying_material(value, label.as_bytes(), b"")
            .expect("a value");
    }
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn an_unproven_address_is_made_to_prove_itself_and_then_served() {
    let rig = Rig::start(ServerLimits {
        retry_above: 0,
        ..ServerLimits::default()
    });
    rig.assert_serving().await;
    assert!(rig.metrics.handshakes_total(HandshakeResult::Retried) >= 1);
    assert_eq!(rig.metrics.handshakes_total(HandshakeResult::Completed), 1);
}

#[tokio::test]
async fn a_connection_cannot_move_to_another_address() {
    // rule: TR-7
    let rig = Rig::start(ServerLimits::default());
    let endpoint = raw::endpoint();
    let connecting =
        endpoint.connect_with(raw::quic(raw::good_tls()), rig.address, "postern.invalid");
    let raw = connecting.expect("a try").await.expect("a connection");
    let exchange = async || {
        let (mut send, mut recv) = raw.open_bi().await.ok()?;
        send.write_all(b"hello").await.ok()?;
        send.finish().ok()?;
        recv.read_to_end(64).await.ok()
    };
    assert_eq!(exchange().await.as_deref(), Some(&b"hello"[..]));
    let socket = std::net::UdpSocket::bind(crate::rig::loopback(1)).expect("a socket");
    endpoint.rebind(socket).expect("another address");
    // Were migration on, the answer would come at once; its absence can only be waited for.
    let moved = tokio::time::timeout(std::time::Duration::from_secs(1), exchange()).await;
    assert!(!matches!(moved, Ok(Some(_))), "the server followed");
    rig.assert_serving().await;
}
