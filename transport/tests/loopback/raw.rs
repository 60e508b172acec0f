//! Peers made of the bare QUIC and TLS libraries, which need not behave.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::rig::loopback;

pub(crate) type Groups = Vec<&'static dyn SupportedKxGroup>;

pub(crate) fn hybrid() -> Groups {
    vec![kx_group::X25519MLKEM768]
}

pub(crate) fn classical() -> Groups {
    vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1]
}

fn provider(kx_groups: Groups) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups,
        ..default_provider()
    })
}

/// TLS of a client that accepts any server.
pub(crate) fn client_tls(groups: Groups, protocols: &[&[u8]]) -> rustls::ClientConfig {
    let mut config = rustls::ClientConfig::builder_with_provider(provider(groups))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config
}

/// TLS that our server accepts.
pub(crate) fn good_tls() -> rustls::ClientConfig {
    client_tls(hybrid(), &[transport::ALPN])
}

pub(crate) fn quic(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    let crypto = QuicClientConfig::try_from(tls).expect("QUIC");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    // Small windows: what the peer sends stays with it until it is read.
    transport.stream_receive_window(VarInt::from_u32(16 * 1024));
    config.transport_config(Arc::new(transport));
    config
}

pub(crate) fn endpoint() -> Endpoint {
    Endpoint::client(loopback(1)).expect("an endpoint")
}

pub(crate) async fn connect(
    server: SocketAddr,
    config: quinn::ClientConfig,
) -> Result<quinn::Connection, ConnectionError> {
    endpoint()
        .connect_with(config, server, "postern.invalid")
        .expect("a try")
        .await
}

/// A server that is not ours.
pub(crate) fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    groups: Groups,
    protocols: &[&[u8]],
) -> Endpoint {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider(groups))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(chain, key)));
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let crypto = QuicServerConfig::try_from(tls).expect("QUIC");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, loopback(1)).expect("an endpoint");
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            if let Ok(connection) = incoming.await {
                connection.closed().await;
            }
        }
    });
    endpoint
}

/// Presents the chain whether or not the key belongs to it.
#[derive(Debug)]
struct Resolver(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl rustls::server::ResolvesServerCert for Resolver {
    fn resolve(
        &self,
        _hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&self.1).ok()?;
        Some(Arc::new(rustls::sign::CertifiedKey::new(
            self.0.clone(),
            key,
        )))
    }
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ]
    }
}
