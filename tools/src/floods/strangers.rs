//! Peers that speak QUIC well and mean no good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::time::{sleep, timeout};

use super::{Flood, Part};

/// Streams that a connection may have.
const STREAMS: usize = 64;
/// A message that no server takes of a stranger.
const LONG: usize = 2 * 1024 * 1024;
/// Patience with a handshake or an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between the bytes of a slow writer.
const DRIP: Duration = Duration::from_millis(100);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 * 1024;

/// TLS of a client that takes any server, and is taken by ours.
pub(super) fn tls() -> rustls::ClientConfig {
    let provider = CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768],
        ..default_provider()
    };
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = match builder.with_protocol_versions(&[&TLS13]) {
        Ok(builder) => builder,
        // The provider has suites of TLS 1.3: it is the library's own.
        Err(_) => rustls::ClientConfig::builder_with_protocol_versions(&[&TLS13]),
    };
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    config.alpn_protocols = vec![transport::ALPN.to_vec()];
    config
}

fn quic(window: u32) -> Option<quinn::ClientConfig> {
    let crypto = QuicClientConfig::try_from(tls()).ok()?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(window));
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    config.transport_config(Arc::new(transport));
    Some(config)
}

/// One peer of a flood, until it is over.
pub(super) async fn flood(flood: &Flood, part: &Part) {
    let local = SocketAddr::from((part.from, 0));
    let window = if matches!(flood, Flood::SlowReaders) {
        1
    } else {
        1 << 20
    };
    let (Ok(endpoint), Some(config)) = (Endpoint::client(local), quic(window)) else {
        return;
    };
    let mut due = Instant::now();
    let mut held = Vec::new();
    while part.next(&mut due).await {
        let connecting = endpoint.connect_with(config.clone(), part.target, "postern.invalid");
        let Ok(connecting) = connecting else { return };
        let connected = timeout(PATIENCE.min(part.left()), connecting).await;
        let Ok(Ok(connection)) = connected else {
            part.counts.served(false);
            continue;
        };
        match flood {
            Flood::Silent => {
                part.counts.served(true);
                held.push((connection, Vec::new()));
            }
            Flood::SlowWriters | Flood::SlowReaders => {
                let streams = open(&connection, flood).await;
                part.counts.served(!streams.is_empty());
                held.push((connection, streams));
            }
            Flood::Streams => streams(&connection, part, &mut due).await,
            Flood::Messages => messages(&connection, part, &mut due).await,
            Flood::Storm { request, each } => storm(&connection, request, *each, part).await,
            Flood::Initials | Flood::HalfOpen | Flood::Gaps => {}
        }
        if matches!(flood, Flood::SlowWriters) {
            drip(&mut held).await;
        }
    }
    while matches!(flood, Flood::SlowWriters) && !part.over() {
        drip(&mut held).await;
        sleep(DRIP.min(part.left())).await;
    }
    // Held to the end of the span.
    sleep(part.left()).await;
}

type Stream = (SendStream, RecvStream);

/// All the streams that a connection may have, each with the beginning of a request or with a whole one
/// whose answer will not be read.
async fn open(connection: &Connection, flood: &Flood) -> Vec<Stream> {
    let mut streams = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let opened = timeout(PATIENCE, connection.open_bi()).await;
        let Ok(Ok((mut send, recv))) = opened else {
            break;
        };
        let sent = send.write_all(&[0x83, 0x01]).await.is_ok();
        if !sent || (matches!(flood, Flood::SlowReaders) && send.finish().is_err()) {
            break;
        }
        streams.push((send, recv));
    }
    streams
}

/// One more byte on each stream.
async fn drip(held: &mut [(Connection, Vec<Stream>)]) {
    for (send, _) in held.iter_mut().flat_map(|(_, streams)| streams) {
        // Fails when the server had enough of it.
        let _ = timeout(DRIP, send.write_all(&[0x40])).await;
    }
}

/// Streams opened and left or reset at once.
async fn streams(connection: &Connection, part: &Part, due: &mut Instant) {
    let mut number = 0_usize;
    while part.next(due).await {
        let opened = timeout(PATIENCE.min(part.left()), connection.open_bi()).await;
        let Ok(Ok((mut send, mut recv))) = opened else {
            part.counts.served(false);
            return;
        };
        number += 1;
        let _ = send.write_all(&[0xff]).await;
        if number.is_multiple_of(2) {
            let _ = (
                send.reset(VarInt::from_u32(7)),
                recv.stop(VarInt::from_u32(7)),
            );
        } else {
            let _ = send.finish();
        }
        part.counts.served(true);
    }
}

/// The longest messages, of nested arrays from end to end.
async fn messages(connection: &Connection, part: &Part, due: &mut Instant) {
    let long = vec![0x81; LONG];
    while part.next(due).await {
        let exchange = async {
            let (mut send, mut recv) = connection.open_bi().await.ok()?;
            send.write_all(&long).await.ok()?;
            send.finish().ok()?;
            recv.read_to_end(ANSWER).await.ok()
        };
        let answer = timeout(PATIENCE.min(part.left()), exchange).await;
        part.counts.served(matches!(answer, Ok(Some(_))));
        if connection.close_reason().is_some() {
            return;
        }
    }
}

/// The same request again and again, each an act beside its connection.
async fn storm(connection: &Connection, request: &[u8], each: u32, part: &Part) {
    for _ in 0..each {
        let exchange = async {
            let (mut send, mut recv) = connection.open_bi().await.ok()?;
            send.write_all(request).await.ok()?;
            send.finish().ok()?;
            recv.read_to_end(ANSWER).await.ok()
        };
        if part.over() {
            return;
        }
        part.act();
        let answer = timeout(PATIENCE.min(part.left()), exchange).await;
        part.counts.served(matches!(answer, Ok(Some(_))));
    }
    connection.close(VarInt::from_u32(0), b"");
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
        vec![SignatureScheme::ED25519]
    }
}
