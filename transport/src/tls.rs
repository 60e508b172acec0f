//! The TLS configuration of both sides (TR-1). Nothing in it is a choice of the caller.

use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;

use crate::identity::{PinVerifier, ServerIdentity};

/// The application protocol (RFC 7301) that both sides demand.
pub const ALPN: &[u8] = b"postern/1";

/// The one key exchange group is X25519MLKEM768: a recording made today stays closed to a future
/// quantum computer (promise 6), and a peer that cannot do it is refused, never downgraded to.
///
/// Suites with 256-bit keys come first; TLS_AES_128_GCM_SHA256 stays because RFC 8446 section 9.1
/// has every implementation carry it and QUIC's Initial packets are sealed with it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768],
        ..default_provider()
    })
}

/// TLS of a server: tickets, session storage and early data all off, so that there is nothing to
/// resume even for a client that tries.
pub(crate) fn server(identity: &ServerIdentity) -> Result<rustls::ServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// TLS of a client that accepts the holder of the pin alone. No certificate of its own: a client
/// proves its keys inside its messages (SIG-1).
pub(crate) fn client(pin: Arc<PinVerifier>) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pin)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // The name means nothing (see `identity`), so it is not sent either.
    config.enable_sni = false;
    Ok(config)
}

/// The server's TLS, for QUIC. The only failure is a TLS library built without what we need.
pub(crate) fn quic_server(identity: &ServerIdentity) -> Result<QuicServerConfig, String> {
    let config = server(identity).map_err(|error| error.to_string())?;
    QuicServerConfig::try_from(config).map_err(|error| error.to_string())
}

/// The client's TLS, for QUIC. The only failure is a TLS library built without what we need.
pub(crate) fn quic_client(pin: Arc<PinVerifier>) -> Result<QuicClientConfig, String> {
    let config = client(pin).map_err(|error| error.to_string())?;
    QuicClientConfig::try_from(config).map_err(|error| error.to_string())
}

/// Whether the finished handshake agreed on our protocol. TLS refuses earlier when it does not;
/// this is the belt to that brace, and what makes the demand visible here.
pub(crate) fn speaks_postern(connection: &quinn::Connection) -> bool {
    connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .is_some_and(|data| data.protocol.as_deref() == Some(ALPN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use rustls::pki_types::ServerName;
    use rustls::quic::{ClientConnection, ServerConnection, Version};
    use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

    /// Runs a handshake in memory; returns both ends.
    fn handshake(
        client: rustls::ClientConfig,
        server: rustls::ServerConfig,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let name = ServerName::try_from("postern.invalid").expect("a valid name");
        let mut client = ClientConnection::new(Arc::new(client), Version::V1, name, Vec::new())?;
        let mut server = ServerConnection::new(Arc::new(server), Version::V1, Vec::new())?;
        for _ in 0..8 {
            // One flight per set of keys, as QUIC delivers them.
            loop {
                let mut flight = Vec::new();
                let keys = client.write_hs(&mut flight);
                server.read_hs(&flight)?;
                if keys.is_none() && flight.is_empty() {
                    break;
                }
            }
            loop {
                let mut flight = Vec::new();
                let keys = server.write_hs(&mut flight);
                client.read_hs(&flight)?;
                if keys.is_none() && flight.is_empty() {
                    break;
                }
            }
        }
        Ok((client, server))
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    fn pinned() -> Arc<PinVerifier> {
        Arc::new(PinVerifier::new(key().verifying_key().as_bytes()).expect("a sound pin"))
    }

    fn identity() -> ServerIdentity {
        ServerIdentity::new(&key()).expect("an identity")
    }

    #[test]
    fn the_negotiated_group_is_x25519mlkem768_under_tls_1_3_and_our_protocol() {
        let (client, server) = handshake(
            client(pinned()).expect("client"),
            server(&identity()).expect("server"),
        )
        .expect("a handshake");
        for group in [
            client.negotiated_key_exchange_group(),
            server.negotiated_key_exchange_group(),
        ] {
            assert_eq!(group.expect("a group").name(), NamedGroup::X25519MLKEM768);
        }
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(client.alpn_protocol(), Some(ALPN));
        assert_eq!(server.alpn_protocol(), Some(ALPN));
        assert!(!client.is_handshaking() && !server.is_handshaking());
    }

    #[test]
    fn a_client_that_would_rather_go_classical_is_brought_to_the_hybrid_group() {
        let mut config = client(pinned()).expect("client");
        let mixed = CryptoProvider {
            kx_groups: vec![kx_group::X25519, kx_group::X25519MLKEM768],
            ..(**config.crypto_provider()).clone()
        };
        config = rustls::ClientConfig::builder_with_provider(Arc::new(mixed))
            .with_protocol_versions(&[&TLS13])
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(pinned())
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let (client, _) =
            handshake(config, server(&identity()).expect("server")).expect("a handshake");
        let group = client.negotiated_key_exchange_group().expect("a group");
        assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
        assert_eq!(
            client.handshake_kind(),
            Some(HandshakeKind::FullWithHelloRetryRequest)
        );
    }

    #[test]
    fn only_tls_1_3_suites_and_one_group_are_offered() {
        let provider = provider();
        assert!(
            provider
                .cipher_suites
                .iter()
                .all(|suite| suite.tls13().is_some())
        );
        let groups: Vec<_> = provider
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        assert_eq!(groups, [NamedGroup::X25519MLKEM768]);
    }

    #[test]
    fn a_server_offers_nothing_to_resume() {
        let config = server(&identity()).expect("server");
        assert_eq!(config.send_tls13_tickets, 0);
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.ticketer.enabled());
        assert!(!config.session_storage.can_cache());
    }

    #[test]
    fn a_client_hello_that_ends_at_tls_1_2_is_refused() {
        let mut body = vec![3, 3];
        body.extend([7; 32]); // random
        body.push(0); // no session id
        body.extend([0, 2, 0xc0, 0x2b]); // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        body.extend([1, 0]); // no compression
        let extensions = [
            &[0, 10, 0, 4, 0, 2, 0, 29][..], // supported_groups: x25519
            &[0, 13, 0, 4, 0, 2, 8, 7],      // signature_algorithms: ed25519
        ]
        .concat();
        body.extend([0, extensions.len() as u8]);
        body.extend(extensions);
        let mut record = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
        record.extend(body);
        let config = Arc::new(server(&identity()).expect("server"));
        let mut connection = rustls::ServerConnection::new(config).expect("a connection");
        connection.read_tls(&mut record.as_slice()).expect("read");
        let error = connection.process_new_packets().expect_err("refused");
        let rustls::Error::PeerIncompatible(reason) = error else {
            panic!("{error}")
        };
        assert_eq!(
            reason,
            rustls::PeerIncompatible::SupportedVersionsExtensionRequired
        );
    }
}
