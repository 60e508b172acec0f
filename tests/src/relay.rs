//! A network between a client and a server that a test can cut: a UDP relay in this process.
//!
//! Each client address gets a socket of its own towards the server, so that QUIC sees one path for
//! each connection. While the relay is cut, datagrams are dropped in both directions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};

/// Larger than any datagram that loopback carries.
const DATAGRAM: usize = 65_536;

/// What the network does with datagrams now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// They arrive.
    Fair,
    /// They arrive this much later.
    Slow(Duration),
    /// They are lost, both ways.
    Cut,
    /// Only what goes to the server is lost.
    Deaf,
}

#[derive(Debug)]
struct Sky {
    weather: Weather,
    /// Since when nothing has reached the client from the server, if nothing does.
    cut: Option<Instant>,
}

/// The relay; it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    sky: Arc<Mutex<Sky>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Relays to `server`. Its own address is [`Relay::address`].
    ///
    /// # Panics
    /// When no socket can be bound.
    pub async fn to(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a socket");
        let address = socket.local_addr().expect("an address");
        let sky = Arc::new(Mutex::new(Sky {
            weather: Weather::Fair,
            cut: None,
        }));
        let task = tokio::spawn(relay(Arc::new(socket), server, Arc::clone(&sky)));
        Self { address, sky, task }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather. What was forwarded before is under way.
    pub fn set(&self, weather: Weather) {
        let mut sky = self.sky.lock().unwrap_or_else(PoisonError::into_inner);
        sky.weather = weather;
        sky.cut = match weather {
            Weather::Cut => sky.cut.or_else(|| Some(Instant::now())),
            _ => None,
        };
    }

    /// The weather.
    #[must_use]
    pub fn weather(&self) -> Weather {
        self.sky
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .weather
    }

    /// Since when nothing passes, if nothing does.
    #[must_use]
    pub fn cut_since(&self) -> Option<Instant> {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner).cut
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn weather(sky: &Mutex<Sky>) -> Weather {
    sky.lock().unwrap_or_else(PoisonError::into_inner).weather
}

async fn relay(front: Arc<UdpSocket>, server: SocketAddr, sky: Arc<Mutex<Sky>>) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    // They end with this task.
    let mut answers = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        // An error here is that of an earlier send, told late: a port that is closed for now.
        let Ok((length, client)) = front.recv_from(&mut datagram).await else {
            continue;
        };
        let back = match backs.entry(client) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let back = Arc::clone(new.insert(Arc::new(socket.expect("a socket"))));
                answers.spawn(answer(
                    Arc::clone(&back),
                    Arc::clone(&front),
                    client,
                    Arc::clone(&sky),
                ));
                back
            }
        };
        let now = weather(&sky);
        if !matches!(now, Weather::Cut | Weather::Deaf) {
            forward(&back, server, &datagram[..length], now, &sky).await;
        }
    }
}

async fn answer(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: SocketAddr,
    sky: Arc<Mutex<Sky>>,
) {
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let Ok((length, _)) = back.recv_from(&mut datagram).await else {
            continue;
        };
        let now = weather(&sky);
        if now != Weather::Cut {
            forward(&front, client, &datagram[..length], now, &sky).await;
        }
    }
}

async fn forward(
    socket: &Arc<UdpSocket>,
    to: SocketAddr,
    datagram: &[u8],
    now: Weather,
    sky: &Arc<Mutex<Sky>>,
) {
    let Weather::Slow(delay) = now else {
        // Lost on the way is what a network does.
        let _ = socket.send_to(datagram, to).await;
        return;
    };
    let (socket, datagram, sky) = (Arc::clone(socket), datagram.to_vec(), Arc::clone(sky));
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        // Cut meanwhile: what was still under way is lost with the rest.
        if weather(&sky) != Weather::Cut {
            let _ = socket.send_to(&datagram, to).await;
        }
    });
}
