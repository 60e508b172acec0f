//! QUIC Initials by hand: long headers of RFC 9000 section 17.2 around the ClientHello of a real TLS
//! library, protected as RFC 9001 section 5 says. Nothing is kept of a handshake that is not gone on with.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::quic::{ClientConnection, Keys, Suite, Version};
use rustls::{CipherSuite, Side};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Counts, Part, strangers};

/// The smallest datagram that a client may open with (RFC 9000 section 14.1).
const FIRST: usize = 1_200;
/// Bytes of the ClientHello in the first of two datagrams.
const HALF: usize = 900;
/// QUIC version 1.
const V1: [u8; 4] = [0, 0, 0, 1];
/// Connection ids of ours are this long.
pub(super) const CID: usize = 8;
/// Bytes of a packet number; always four.
const NUMBER: usize = 4;
/// Bytes of a packet's authentication tag.
const TAG: usize = 16;

/// Appends a variable-length integer (RFC 9000 section 16).
pub(super) fn varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend_from_slice(&(0x4000 | value as u16).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend_from_slice(&(0x8000_0000 | value as u32).to_be_bytes()),
        _ => out.extend_from_slice(&((3 << 62) | value).to_be_bytes()),
    }
}

/// Takes a variable-length integer off the front.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let length = 1_usize << (first >> 6);
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let value = head[1..]
        .iter()
        .fold(u64::from(first & 0x3f), |value, byte| {
            value << 8 | u64::from(*byte)
        });
    Some(value)
}

/// Takes so many bytes off the front.
pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

/// A random connection id.
pub(super) fn connection_id() -> [u8; CID] {
    let mut id = [0; CID];
    // Predictable ids would make a weaker flood, and no wrong result.
    let _ = getrandom::fill(&mut id);
    id
}

/// A protected long-header packet: `first` is the type's byte, `token` that of an Initial.
pub(super) fn long_packet(
    first: u8,
    (to, from): (&[u8], &[u8]),
    token: Option<&[u8]>,
    number: u32,
    frames: &[u8],
    keys: &rustls::quic::DirectionalKeys,
) -> Option<Vec<u8>> {
    let mut packet = vec![first | (NUMBER as u8 - 1)];
    packet.extend_from_slice(&V1);
    for id in [to, from] {
        packet.push(u8::try_from(id.len()).ok()?);
        packet.extend_from_slice(id);
    }
    if let Some(token) = token {
        varint(&mut packet, token.len() as u64);
        packet.extend_from_slice(token);
    }
    let length = u16::try_from(NUMBER + frames.len() + TAG).ok()?;
    packet.extend_from_slice(&(0x4000 | length).to_be_bytes());
    protect(packet, number, frames, keys)
}

/// Numbers, encrypts and masks a packet whose header is complete but for its number.
pub(super) fn protect(
    mut packet: Vec<u8>,
    number: u32,
    frames: &[u8],
    keys: &rustls::quic::DirectionalKeys,
) -> Option<Vec<u8>> {
    let at = packet.len();
    packet.extend_from_slice(&number.to_be_bytes());
    let mut payload = frames.to_vec();
    let tag = keys
        .packet
        .encrypt_in_place(u64::from(number), &packet, &mut payload)
        .ok()?;
    packet.extend_from_slice(&payload);
    packet.extend_from_slice(tag.as_ref());
    let (header, body) = packet.split_at_mut(at + NUMBER);
    let sample = body.get(..keys.header.sample_len())?;
    let (first, rest) = header.split_first_mut()?;
    let number = rest.get_mut(at - 1..)?;
    keys.header.encrypt_in_place(sample, first, number).ok()?;
    Some(packet)
}

/// A ClientHello that any server of ours would go along with.
pub(super) struct Hello {
    bytes: Vec<u8>,
    from: [u8; CID],
    suite: Suite,
}

impl Hello {
    /// A fresh one, and the TLS connection that it belongs to.
    pub(super) fn make() -> Option<(Self, ClientConnection)> {
        let config = strangers::tls();
        // Initials are protected by this suite whatever is agreed on later.
        let suite = config
            .crypto_provider()
            .cipher_suites
            .iter()
            .filter(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256)
            .find_map(|suite| suite.tls13().and_then(|suite| suite.quic_suite()))?;
        let from = connection_id();
        let mut parameters = Vec::new();
        // Initial source connection id; max data; max stream data, bidirectional and our own.
        parameters.extend_from_slice(&[0x0f, CID as u8]);
        parameters.extend_from_slice(&from);
        for id in [0x04, 0x05] {
            parameters.extend_from_slice(&[id, 4]);
            varint(&mut parameters, 1 << 20);
        }
        let name = "postern.invalid".try_into().ok()?;
        let config = std::sync::Arc::new(config);
        let mut tls = ClientConnection::new(config, Version::V1, name, parameters).ok()?;
        let mut bytes = Vec::new();
        tls.write_hs(&mut bytes);
        (bytes.len() > HALF).then_some((Self { bytes, from, suite }, tls))
    }

    /// The keys of Initials to a connection id.
    pub(super) fn keys(&self, to: &[u8]) -> Keys {
        self.suite.keys(to, Side::Client, Version::V1)
    }

    /// Our connection id.
    pub(super) fn from(&self) -> &[u8] {
        &self.from
    }

    /// The two datagrams that open a connection to this id, numbered from `number`.
    pub(super) fn datagrams(&self, to: &[u8], token: &[u8], number: u32) -> Option<[Vec<u8>; 2]> {
        let keys = self.keys(to);
        let half = |part: u32, from: usize, until: usize| {
            let mut frames = vec![0x06];
            varint(&mut frames, from as u64);
            varint(&mut frames, (until - from) as u64);
            frames.extend_from_slice(&self.bytes[from..until]);
            let header = 1 + 4 + 2 + to.len() + CID + 8 + token.len();
            frames.resize(FIRST.saturating_sub(header).max(frames.len()), 0);
            long_packet(
                0xc0,
                (to, &self.from),
                Some(token),
                number + part,
                &frames,
                &keys.local,
            )
        };
        Some([half(0, 0, HALF)?, half(1, HALF, self.bytes.len())?])
    }
}

/// What a Retry says: the connection id to go on with, and the token.
pub(super) fn retry(datagram: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut bytes = datagram;
    let first = *take(&mut bytes, 1)?.first()?;
    if first & 0xf0 != 0xf0 || take(&mut bytes, 4)? != V1 {
        return None;
    }
    let to = usize::from(*take(&mut bytes, 1)?.first()?);
    take(&mut bytes, to)?;
    let from = usize::from(*take(&mut bytes, 1)?.first()?);
    let id = take(&mut bytes, from)?.to_vec();
    let token = bytes.get(..bytes.len().checked_sub(TAG)?)?;
    Some((id, token.to_vec()))
}

/// A socket of this flood's peer.
pub(super) async fn socket(part: &Part) -> Option<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::from((part.from, 0)))
        .await
        .ok()?;
    socket.connect(part.target).await.ok()?;
    Some(socket)
}

/// How long a peer that counts answers waits for the last.
const LAST: Duration = Duration::from_millis(100);

/// Initials whose answers are counted and not answered.
pub(super) async fn initials(part: &Part) {
    let (Some((hello, _)), Some(socket)) = (Hello::make(), socket(part).await) else {
        return;
    };
    let counts = &part.counts;
    let mut buffer = vec![0; 2_048];
    let mut due = Instant::now();
    while part.next(&mut due).await {
        let Some(datagrams) = hello.datagrams(&connection_id(), &[], 0) else {
            return;
        };
        for datagram in datagrams {
            if socket.send(&datagram).await.is_ok() {
                Counts::add(&counts.sent, datagram.len());
            }
        }
        while let Ok(length) = socket.try_recv(&mut buffer) {
            Counts::add(&counts.received, length);
        }
    }
    while let Ok(Ok(length)) = timeout(LAST, socket.recv(&mut buffer)).await {
        Counts::add(&counts.received, length);
    }
}

/// Handshakes that stop after the address is proven, each from a port of its own.
pub(super) async fn half_open(part: &Part) {
    let mut buffer = vec![0; 2_048];
    let mut due = Instant::now();
    while part.next(&mut due).await {
        let (Some((hello, _)), Some(socket)) = (Hello::make(), socket(part).await) else {
            return;
        };
        let Some(datagrams) = hello.datagrams(&connection_id(), &[], 0) else {
            return;
        };
        for datagram in &datagrams {
            let _ = socket.send(datagram).await;
        }
        let Ok(Ok(length)) = timeout(LAST, socket.recv(&mut buffer)).await else {
            continue;
        };
        let Some((to, token)) = retry(&buffer[..length]) else {
            // The server went on without asking for proof, or said no.
            part.counts.served(buffer[0] & 0x80 != 0);
            continue;
        };
        if let Some(datagrams) = hello.datagrams(&to, &token, 2) {
            for datagram in &datagrams {
                let _ = socket.send(datagram).await;
            }
        }
        part.counts.served(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_come_back() {
        for value in [
            0,
            63,
            64,
            16_383,
            16_384,
            (1 << 30) - 1,
            1 << 30,
            (1 << 62) - 1,
        ] {
            let mut bytes = Vec::new();
            varint(&mut bytes, value);
            let mut rest = bytes.as_slice();
            assert_eq!(take_varint(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn first_datagrams_are_as_long_as_a_server_asks() {
        let (hello, _) = Hello::make().unwrap();
        for datagram in hello.datagrams(&connection_id(), &[], 0).unwrap() {
            assert!(
                (FIRST..1_500).contains(&datagram.len()),
                "{}",
                datagram.len()
            );
        }
    }
}
