//! Peers that do not even speak: noise, and handshakes that never go on.

use std::net::UdpSocket;
use std::time::Duration;

use transport::{HandshakeResult, Limit, ServerLimits};

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

/// A handshake of a peer that proves its address and then says no more: its first packets again, with
/// the token of the Retry.
async fn half_open_from(rig: &Rig, last: u8) -> quinn::Endpoint {
    // A handshake needs two more packets of the client than one that only connects and is not driven.
    let endpoint = quinn::Endpoint::client(loopback(last)).expect("an endpoint");
    let relay = tokio::net::UdpSocket::bind(loopback(last))
        .await
        .expect("a socket");
    let address = relay.local_addr().expect("an address");
    let connecting = endpoint
        .connect_with(raw::quic(raw::good_tls()), address, "postern.invalid")
        .expect("a try");
    drop_when_done(connecting);
    // First packets on to the server; its Retry back; first packets with the token on; then silence.
    let mut packet = vec![0; 2048];
    let mut client = None;
    let mut forwarded = 0;
    while forwarded < 4 {
        let (length, from) = tokio::time::timeout(PATIENCE, relay.recv_from(&mut packet))
            .await
            .expect("in time")
            .expect("a packet");
        if from == rig.address {
            if let Some(client) = client {
                relay
                    .send_to(&packet[..length], client)
                    .await
                    .expect("sent");
            }
        } else {
            client = Some(from);
            relay
                .send_to(&packet[..length], rig.address)
                .await
                .expect("sent");
            forwarded += 1;
        }
    }
    endpoint
}

/// Keeps an attempt alive until the runtime ends.
fn drop_when_done(connecting: quinn::Connecting) {
    tokio::spawn(async move {
        let _ = connecting.await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_source_that_proves_its_address_cannot_hold_all_handshakes() {
    let rig = Rig::start(ServerLimits {
        handshakes: 8,
        retry_above: 0,
        ..ServerLimits::default()
    });
    let mut half_open = Vec::new();
    for _ in 0..8 {
        half_open.push(half_open_from(&rig, 1).await);
    }
    until(|| rig.metrics.limited_total(Limit::HandshakesPerSource) >= 1).await;
    assert_eq!(rig.metrics.limited_total(Limit::Handshakes), 0);
    let other = rig.connect_from(2).await.expect("another source");
    other
        .exchange(&[crate::rig::ECHO])
        .await
        .expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_of_many_sources_give_way_to_whoever_comes() {
    let rig = Rig::start(ServerLimits {
        handshakes: 8,
        retry_above: 0,
        handshake_timeout: PATIENCE * 3,
        ..ServerLimits::default()
    });
    let mut half_open = Vec::new();
    for last in [1, 1, 2, 2, 3, 3, 4, 4] {
        half_open.push(half_open_from(&rig, last).await);
    }
    let newcomer = async {
        // Busy until those who came first have had their second.
        while rig.connect_from(5).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, newcomer).await;
    came.expect("a place");
    assert!(rig.metrics.limited_total(Limit::GaveWay) >= 1);
}
