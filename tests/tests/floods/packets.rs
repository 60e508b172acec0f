//! Datagrams of peers that never finish a handshake.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use tests::house::House;
use tools::floods::{Flood, Force};

use crate::honest::Honest;
use crate::{Bound, DESCRIPTORS, TURN, target, withstand};

/// Handshakes in progress are at most 256, of at most 64 KiB each with both ends' buffers.
const HANDSHAKES: Bound = Bound {
    memory: 24 * 1_024,
    descriptors: DESCRIPTORS,
};

const MANY: Force = Force {
    span: Duration::ZERO,
    peers: 8,
    sources: 8,
    per_second: 500,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2002_2443_an_error_is_never_answered_with_an_error_nor_an_initial_with_more_than_thrice()
 {
    // rule: TR-5, TR-6
    let _turn = TURN.lock().await;
    let house = House::start();
    let mut honest = Honest::new(&house, 0).await;
    let floods = [Flood::Initials, Flood::Initials];
    let tallies = withstand(
        &house,
        &mut honest,
        (&floods, MANY),
        HANDSHAKES,
        async |_| {},
    )
    .await;
    for tally in tallies {
        assert!(tally.acts > 100, "{tally:?}");
        assert!(tally.received <= 3 * tally.sent, "{tally:?}");
    }
    // What ends or refuses something is not answered: a packet that closes, a Retry, a choice of versions,
    // a reset, rubbish that looks like any of them.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    for server in [house.broker_server(), house.key_server_server()] {
        let address = target(&server).address();
        for first in [0xf0, 0xe0, 0xd0, 0x40] {
            let mut packet = vec![0x5a; 1_200];
            packet[..6].copy_from_slice(&[first, 0, 0, 0, 1, 8]);
            socket.send_to(&packet, address).expect("sent");
        }
        let mut versions = vec![0x80, 0, 0, 0, 0, 8];
        versions.resize(60, 0x0a);
        socket.send_to(&versions, address).expect("sent");
    }
    let (mut answers, mut longest) = (0, 0);
    let mut buffer = [0; 2_048];
    while let Ok(length) = socket.recv(&mut buffer) {
        assert_eq!(buffer[0] & 0x80, 0, "an error of a handshake");
        (answers, longest) = (answers + 1, longest.max(length));
    }
    // A stateless reset (RFC 9000, 10.3) answers what may belong to a connection that is forgotten; it is
    // always shorter than what it answers, so that two servers fall silent.
    assert!(
        answers <= 8 && longest < 1_200,
        "{answers} of up to {longest} bytes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_stop_half_way_keep_nobody_out() {
    // rule: TR-5, TR-8
    let _turn = TURN.lock().await;
    let house = House::start();
    let mut honest = Honest::new(&house, 0).await;
    let floods = [Flood::HalfOpen, Flood::HalfOpen];
    let force = Force {
        per_second: 100,
        peers: 16,
        ..MANY
    };
    withstand(
        &house,
        &mut honest,
        (&floods, force),
        HANDSHAKES,
        async |_| {},
    )
    .await;
}
