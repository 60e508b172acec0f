//! Where connections come from, as far as limits are concerned.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::admission::semaphore;

/// A party that limits are counted against: one IPv4 address, or one IPv6 /64, since that is the
/// least that a single host is usually given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source(IpAddr::V4(v4)),
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & !u128::from(u64::MAX);
                Source(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
        }
    }
}

/// The sources that have connections now. It can never hold more entries than there are
/// connections, and those are counted elsewhere.
pub(crate) struct Sources {
    table: Mutex<HashMap<Source, Entry>>,
    shares: Shares,
}

/// What one source may have at a time, over all its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
    pub(crate) exchanges: usize,
    pub(crate) buffered_bytes: usize,
}

struct Entry {
    connections: usize,
    handshakes: Arc<Semaphore>,
    exchanges: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Sources {
    pub(crate) fn new(shares: Shares) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(HashMap::new()),
            shares,
        })
    }

    /// Takes a place for one more connection of `source`; `None` when it has all it may have.
    pub(crate) fn enter(self: &Arc<Self>, source: Source) -> Option<SourcePlace> {
        let mut table = self.lock();
        let entry = table.entry(source).or_insert_with(|| Entry {
            connections: 0,
            handshakes: semaphore(self.shares.handshakes),
            exchanges: semaphore(self.shares.exchanges),
            bytes: semaphore(self.shares.buffered_bytes),
        });
        if entry.connections >= self.shares.connections {
            return None;
        }
        entry.connections += 1;
        let handshakes = Arc::clone(&entry.handshakes);
        let (exchanges, bytes) = (Arc::clone(&entry.exchanges), Arc::clone(&entry.bytes));
        Some(SourcePlace {
            sources: Arc::clone(self),
            source,
            handshakes,
            exchanges,
            bytes,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place among those of its source; given back on drop.
pub(crate) struct SourcePlace {
    sources: Arc<Sources>,
    source: Source,
    handshakes: Arc<Semaphore>,
    exchanges: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl SourcePlace {
    /// Whose place it is.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// The handshakes that this source may have in progress, once its address is proven.
    pub(crate) fn handshakes(&self) -> &Arc<Semaphore> {
        &self.handshakes
    }

    /// The exchanges that all connections of this source may have in progress together.
    pub(crate) fn exchanges(&self) -> &Arc<Semaphore> {
        &self.exchanges
    }

    /// The request bytes that all connections of this source may hold together.
    pub(crate) fn bytes(&self) -> &Arc<Semaphore> {
        &self.bytes
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut table = self.sources.lock();
        if let Some(entry) = table.get_mut(&self.source) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.connections == 0 {
                table.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_ipv4_address_is_itself() {
        assert_eq!(
            source("2001:db8:0:1::1"),
            source("2001:db8:0:1:ffff:ffff:ffff:ffff")
        );
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("::ffff:192.0.2.1"), source("::ffff:192.0.2.2"));
    }

    #[test]
    fn a_source_gets_its_places_and_no_more_and_leaves_nothing_behind() {
        let sources = Sources::new(Shares {
            connections: 2,
            handshakes: 1,
            exchanges: 3,
            buffered_bytes: 100,
        });
        let (one, two) = (source("192.0.2.1"), source("192.0.2.2"));
        let first = sources.enter(one).expect("a place");
        let _second = sources.enter(one).expect("a place");
        assert!(sources.enter(one).is_none());
        let other = sources.enter(two).expect("a place of another source");
        drop(first);
        let third = sources.enter(one).expect("a place again");
        drop((third, other, _second));
        assert!(sources.lock().is_empty());
    }
}
