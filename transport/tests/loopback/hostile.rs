//! Peers that do not even speak: noise, and handshakes that never go on.

use std::net::UdpSocket;
use std::time::Duration;

use transport::{HandshakeResult, ServerLimits};

use crate::raw;
use crate::rig::{PATIENCE, Rig, loopback, until};

/// The first packets of `count` clients that try to connect: complete ClientHellos that the tap
/// catches and nobody answers.
fn first_packets(count: usize) -> Vec<Vec<Vec<u8>>> {
    let tap = UdpSocket::bind(loopback(1)).expect("a socket");
    tap.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let address = tap.local_addr().expect("an address");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let _guard = runtime.enter();
    // A client that is dropped says so to the tap, between the first packets of the next.
    let mut clients = Vec::new();
    (0..count)
        .map(|_| {
            let endpoint = raw::endpoint();
            let connecting = endpoint
                .connect_with(raw::quic(raw::good_tls()), address, "postern.invalid")
                .expect("a try");
            clients.push((endpoint, connecting));
            // A ClientHello with an ML-KEM key takes two packets.
            (0..2)
                .map(|_| {
                    let mut packet = vec![0; 2048];
                    let length = tap.recv(&mut packet).expect("a packet");
                    packet.truncate(length);
                    packet
                })
                .collect()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_handshakes_hold_their_places_for_a_bounded_time_and_are_swept_out() {
    let rig = Rig::start(ServerLimits {
        handshakes: 4,
        retry_above: 4,
        handshake_timeout: Duration::from_millis(300),
        ..ServerLimits::default()
    });
    let hellos = tokio::task::spawn_blocking(|| first_packets(12))
        .await
        .expect("packets");
    for hello in &hellos {
        let stranger = UdpSocket::bind(loopback(1)).expect("a socket");
        for packet in hello {
            stranger.send_to(packet, rig.address).expect("sent");
        }
    }
    // Four hold the places; from then on an address has to prove itself, which these never do.
    until(|| rig.metrics.handshakes_total(HandshakeResult::Retried) >= 8).await;
    until(|| rig.metrics.handshakes_total(HandshakeResult::TimedOut) == 4).await;
    assert_eq!(rig.metrics.connections(), 0);
    rig.assert_serving().await;
}

#[tokio::test]
async fn noise_leaves_the_server_serving() {
    let rig = Rig::start(ServerLimits::default());
    let stranger = UdpSocket::bind(loopback(1)).expect("a socket");
    let mut noise = vec![0; 1400];
    for round in 0..500_usize {
        getrandom::fill(&mut noise).expect("random bytes");
        match round % 4 {
            // A long header of version 1 and type Initial, and rubbish from there on.
            0 => noise[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]),
            // A version that nobody knows.
            1 => noise[..5].copy_from_slice(&[0xc3, 0xba, 0xba, 0xba, 0xba]),
            // A short header.
            2 => noise[0] = 0x40,
            _ => {}
        }
        stranger
            .send_to(&noise[..1 + (round * 37) % 1400], rig.address)
            .expect("sent");
    }
    rig.assert_serving().await;
    assert_eq!(rig.metrics.handshakes_total(HandshakeResult::Completed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_first_packets_leave_the_server_serving() {
    let rig = Rig::start(ServerLimits::default());
    let hellos = tokio::task::spawn_blocking(|| first_packets(1))
        .await
        .expect("packets");
    let stranger = UdpSocket::bind(loopback(1)).expect("a socket");
    for packet in hellos.iter().flatten() {
        for position in (0..packet.len()).step_by(7) {
            let mut mutated = packet.clone();
            mutated[position] ^= 0x55;
            stranger.send_to(&mutated, rig.address).expect("sent");
            stranger
                .send_to(&packet[..position], rig.address)
                .expect("sent");
        }
    }
    rig.assert_serving().await;
    assert_eq!(rig.metrics.handshakes_total(HandshakeResult::Completed), 1);
}
