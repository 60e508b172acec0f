//! The smallest client of QUIC that can leave gaps in its streams: a handshake by hand, and then frames
//! as no honest client sends them. It acknowledges nothing and repeats nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustls::quic::{ClientConnection, KeyChange, Keys};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::packets::{self, Hello, connection_id, long_packet, protect, take, take_varint, varint};
use super::{Part, packets::retry};

/// Bytes of one datagram's frames.
const FRAMES: usize = 1_150;
/// Streams of a connection.
const STREAMS: u64 = 16;
/// Gaps on one stream, and bytes from one to the next: together a share of the connection's window of
/// 512 KiB that is the same for all streams.
const GAPS: u64 = 900;
const APART: u64 = 36;
/// Datagrams that a handshake may take.
const DATAGRAMS: usize = 64;
/// Between datagrams.
const PACE: Duration = Duration::from_millis(10);

/// A connection that is up.
struct Open {
    socket: UdpSocket,
    to: Vec<u8>,
    keys: Keys,
    number: u32,
}

/// A handshake under way.
struct Shaking {
    hello: Hello,
    tls: ClientConnection,
    to: Vec<u8>,
    initial: Keys,
    handshake: Option<Keys>,
    crypto: [Pieces; 2],
}

/// Pieces of one level's CRYPTO stream that came early.
#[derive(Default)]
struct Pieces {
    next: u64,
    early: BTreeMap<u64, Vec<u8>>,
}

impl Pieces {
    /// Adds a piece, and takes what is complete now.
    fn add(&mut self, at: u64, bytes: &[u8]) -> Vec<u8> {
        self.early.insert(at, bytes.to_vec());
        let mut complete = Vec::new();
        while let Some((at, piece)) = self.early.pop_first() {
            if at > self.next {
                self.early.insert(at, piece);
                break;
            }
            let known = usize::try_from(self.next - at).unwrap_or(usize::MAX);
            if let Some(new) = piece.get(known..) {
                complete.extend_from_slice(new);
                self.next += new.len() as u64;
            }
        }
        complete
    }
}

/// Connections whose streams are gaps, until the flood is over.
pub(super) async fn gaps(part: &Part) {
    let mut due = Instant::now();
    let mut held = Vec::new();
    while part.next(&mut due).await {
        let Some(socket) = packets::socket(part).await else {
            return;
        };
        let shaken = timeout(part.left(), connect(socket)).await;
        let Ok(Some(mut open)) = shaken else {
            part.counts.served(false);
            continue;
        };
        part.counts.served(true);
        let _ = timeout(part.left(), open.fill()).await;
        held.push(open);
    }
    tokio::time::sleep(part.left()).await;
}

async fn connect(socket: UdpSocket) -> Option<Open> {
    let (hello, tls) = Hello::make()?;
    let to = connection_id().to_vec();
    for datagram in hello.datagrams(&to, &[], 0)? {
        socket.send(&datagram).await.ok()?;
    }
    let mut shaking = Shaking {
        initial: hello.keys(&to),
        hello,
        tls,
        to,
        handshake: None,
        crypto: Default::default(),
    };
    let mut buffer = vec![0; 4_096];
    for _ in 0..DATAGRAMS {
        let length = socket.recv(&mut buffer).await.ok()?;
        let datagram = &mut buffer[..length];
        if let Some((to, token)) = retry(datagram) {
            for datagram in shaking.hello.datagrams(&to, &token, 2)? {
                socket.send(&datagram).await.ok()?;
            }
            shaking.initial = shaking.hello.keys(&to);
            shaking.to = to;
            continue;
        }
        shaking.read(datagram)?;
        if let Some((finished, keys)) = shaking.go_on() {
            let mut frames = vec![0x06, 0];
            varint(&mut frames, finished.len() as u64);
            frames.extend_from_slice(&finished);
            let ids = (shaking.to.as_slice(), shaking.hello.from());
            let handshake = &shaking.handshake.as_ref()?.local;
            let packet = long_packet(0xe0, ids, None, 0, &frames, handshake)?;
            socket.send(&packet).await.ok()?;
            return Some(Open {
                socket,
                to: shaking.to,
                keys,
                number: 0,
            });
        }
    }
    None
}

impl Shaking {
    /// Reads the long-header packets of a datagram; what is for later keys is left to be sent again.
    fn read(&mut self, mut datagram: &mut [u8]) -> Option<()> {
        while datagram.first().is_some_and(|first| first & 0x80 != 0) {
            let mut rest: &[u8] = &*datagram;
            let all = rest.len();
            let first = *take(&mut rest, 1)?.first()?;
            take(&mut rest, 4)?;
            let to = usize::from(*take(&mut rest, 1)?.first()?);
            take(&mut rest, to)?;
            let from = usize::from(*take(&mut rest, 1)?.first()?);
            let server = take(&mut rest, from)?.to_vec();
            let level = match (first >> 4) & 3 {
                0 => {
                    let token = usize::try_from(take_varint(&mut rest)?).ok()?;
                    take(&mut rest, token)?;
                    0
                }
                2 => 1,
                _ => return None,
            };
            let length = usize::try_from(take_varint(&mut rest)?).ok()?;
            let at = all - rest.len();
            let (packet, next) = datagram.split_at_mut_checked(at + length)?;
            datagram = next;
            let keys = match level {
                0 => Some(&self.initial),
                _ => self.handshake.as_ref(),
            };
            let Some(frames) = keys.and_then(|keys| unprotect(packet, at, keys)) else {
                continue;
            };
            self.to = server;
            self.frames(level, &frames)?;
            // Its answer may bring the keys of the next packet.
            self.advance();
        }
        Some(())
    }

    fn frames(&mut self, level: usize, mut frames: &[u8]) -> Option<()> {
        while let Some(kind) = take(&mut frames, 1) {
            match kind[0] {
                0x00 | 0x01 => {}
                0x02 | 0x03 => {
                    take_varint(&mut frames)?;
                    take_varint(&mut frames)?;
                    let ranges = take_varint(&mut frames)?;
                    for _ in 0..=2 * ranges {
                        take_varint(&mut frames)?;
                    }
                    for _ in 0..3 * u8::from(kind[0] == 0x03) {
                        take_varint(&mut frames)?;
                    }
                }
                0x06 => {
                    let at = take_varint(&mut frames)?;
                    let length = usize::try_from(take_varint(&mut frames)?).ok()?;
                    let bytes = take(&mut frames, length)?;
                    let complete = self.crypto.get_mut(level)?.add(at, bytes);
                    if !complete.is_empty() {
                        self.tls.read_hs(&complete).ok()?;
                    }
                }
                // The server closes, or says what only a later level may.
                _ => return None,
            }
        }
        Some(())
    }

    /// Takes the keys of the handshake when TLS has them.
    fn advance(&mut self) {
        if self.handshake.is_none() {
            let mut nothing = Vec::new();
            if let Some(KeyChange::Handshake { keys }) = self.tls.write_hs(&mut nothing) {
                self.handshake = Some(keys);
            }
        }
    }

    /// What TLS says last, and the keys of what follows.
    fn go_on(&mut self) -> Option<(Vec<u8>, Keys)> {
        self.handshake.as_ref()?;
        let mut finished = Vec::new();
        match self.tls.write_hs(&mut finished) {
            Some(KeyChange::OneRtt { keys, .. }) => Some((finished, keys)),
            _ => None,
        }
    }
}

/// The frames of a packet whose number begins at `at`; packets of a handshake are few, so that their
/// numbers are as they are sent.
fn unprotect(packet: &mut [u8], at: usize, keys: &Keys) -> Option<Vec<u8>> {
    let keys = &keys.remote;
    let sample = packet
        .get(at + 4..at + 4 + keys.header.sample_len())?
        .to_vec();
    let (head, rest) = packet.split_at_mut_checked(at)?;
    let first = head.first_mut()?;
    keys.header
        .decrypt_in_place(&sample, first, rest.get_mut(..4)?)
        .ok()?;
    let long = usize::from(*first & 3) + 1;
    let number = rest[..long]
        .iter()
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (header, body) = packet.split_at_mut_checked(at + long)?;
    let frames = keys.packet.decrypt_in_place(number, header, body).ok()?;
    Some(frames.to_vec())
}

impl Open {
    /// Single bytes with gaps between them, on as many streams as there may be: on each as many as the
    /// library at the other end takes before it closes the connection, or as the window holds.
    async fn fill(&mut self) -> Option<()> {
        let mut frames = Vec::with_capacity(FRAMES + 16);
        for stream in 0..STREAMS {
            // From the far end, so that nothing can ever be put together. The first byte is left out.
            for gap in (1..=GAPS).rev() {
                // STREAM with offset and length, on a client's bidirectional stream.
                frames.push(0x0e);
                varint(&mut frames, 4 * stream);
                varint(&mut frames, gap * APART);
                frames.extend_from_slice(&[1, 0x81]);
                if frames.len() >= FRAMES {
                    self.send(&frames).await?;
                    frames.clear();
                }
            }
        }
        self.send(&frames).await
    }

    async fn send(&mut self, frames: &[u8]) -> Option<()> {
        let mut packet = vec![0x43];
        packet.extend_from_slice(&self.to);
        let packet = protect(packet, self.number, frames, &self.keys.local)?;
        self.number += 1;
        self.socket.send(&packet).await.ok()?;
        // Loopback drops what the server has no time to take.
        tokio::time::sleep(PACE).await;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_make_the_stream() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.add(3, b"de"), b"");
        assert_eq!(pieces.add(0, b"abc"), b"abcde");
        assert_eq!(pieces.add(4, b"ef"), b"f");
    }
}
