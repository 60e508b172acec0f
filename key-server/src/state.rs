//! What all exchanges of a server share, in memory; and what they know of the peer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit_log::guard::Standing;
use dashmap::DashMap;
use ticket_format::ids::TicketHash;
use ticket_format::keys::{ServerSecret, TlsKey};
use ticket_format::limits;
use ticket_format::sign::{Channel, Exporter};
use ticket_format::time::Timestamp;
use ticket_format::tlog::LogKey;

use crate::admins::Admins;
use crate::broker_log::BrokerLog;
use crate::budget::Budgets;
use crate::clock::Latest;
use crate::dataset::Datasets;
use crate::evidence::Checker;
use crate::gate::Gate;
use crate::lease::Lease;
use crate::present::Presented;
use crate::refused::Refused;
use crate::ticket_keys::TicketRing;
use crate::vault::Vault;

/// The server's state. Everything in it is read without a lock, or under one that is held for no wait.
#[derive(Debug)]
pub struct State {
    /// The realm.
    pub realm: String,
    /// This server's identity.
    pub tls_key: TlsKey,
    /// The broker's ticket-signing keys.
    pub ticket_keys: TicketRing,
    /// Signs encapsulations and acknowledgements.
    pub signing: ServerSecret,
    /// The admin sets.
    pub admins: Admins,
    /// Datasets.
    pub datasets: Datasets,
    /// The keys of this server's log.
    pub log_key: LogKey,
    /// How this server's log stands to its witnesses.
    pub standing: Standing,
    /// The broker's log.
    pub broker_log: BrokerLog,
    /// Checks evidence, where a dataset wants it.
    pub evidence: Checker,
    /// KEKs.
    pub vault: Vault,
    /// Denials.
    pub gate: Gate,
    /// The lease.
    pub lease: Lease,
    /// Budgets.
    pub budgets: Budgets,
    /// The latest time seen.
    pub latest: Latest,
    /// When the state was put back from a backup: what was used before is not known.
    pub restored: Option<Timestamp>,
}

impl State {
    /// Whether something of this time may have been used before the state was put back from a backup, which
    /// knows nothing of it: a ticket's budget, a statement.
    #[must_use]
    pub fn may_be_spent(&self, then: Timestamp) -> bool {
        // rule: BAK-4
        self.restored.is_some_and(|restored| then < restored)
    }

    /// What is left of the shortest lease of the datasets here (DEN-6).
    #[must_use]
    pub fn lease_left(&self, monotonic: std::time::Duration) -> std::time::Duration {
        self.lease.left(monotonic, self.datasets.shortest_lease())
    }
}

/// The two clocks, read once for one step of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Civil time.
    pub now: Timestamp,
    /// Monotonic time.
    pub monotonic: std::time::Duration,
}

/// One connection: the facts of TLS, and the tickets presented on it.
#[derive(Debug)]
pub struct Connection {
    /// What proofs on it are bound to.
    pub channel: Channel,
    /// What encapsulations on it are bound to (SEAL-1).
    pub hpke: Exporter,
    /// Where the peer connects from.
    pub source: Option<IpAddr>,
    presented: DashMap<u64, Arc<Presented>>,
    places: AtomicU64,
    next: AtomicU64,
}

impl Connection {
    /// A new connection, with nothing presented on it.
    #[must_use]
    pub fn new(
        realm: &str,
        server: TlsKey,
        authenticator: Exporter,
        hpke: Exporter,
        source: Option<IpAddr>,
    ) -> Self {
        let channel = Channel {
            realm: realm.to_owned(),
            server,
            exporter: authenticator,
        };
        let (presented, places, next) = (
            DashMap::with_shard_amount(4),
            AtomicU64::new(0),
            AtomicU64::new(1),
        );
        Self {
            channel,
            hpke,
            source,
            presented,
            places,
            next,
        }
    }

    /// Keeps a presented ticket; its handle means nothing on any other connection.
    ///
    /// # Errors
    /// [`Refused::Presented`].
    pub fn keep(&self, presented: Arc<Presented>, now: Timestamp) -> Result<u64, Refused> {
        const MOST: u64 = limits::PRESENTED as u64;
        let place = || {
            self.places
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                    (n < MOST).then_some(n + 1)
                })
        };
        if place().is_err() {
            self.forget_expired(now);
            place().map_err(|_| Refused::Presented)?;
        }
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.presented.insert(handle, presented);
        Ok(handle)
    }

    /// The ticket presented here under this handle; the request must name it in full (RED-1).
    ///
    /// # Errors
    /// [`Refused::Handle`] or [`Refused::OtherTicket`].
    pub fn presented(&self, handle: u64, ticket: TicketHash) -> Result<Arc<Presented>, Refused> {
        // rule: RED-1
        let presented = self
            .presented
            .get(&handle)
            .map(|found| Arc::clone(&found))
            .ok_or(Refused::Handle)?;
        if presented.ticket.hash() == ticket {
            Ok(presented)
        } else {
            Err(Refused::OtherTicket)
        }
    }

    /// How many tickets are presented on it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.presented.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.presented.is_empty()
    }

    fn forget_expired(&self, now: Timestamp) {
        self.presented.retain(|_, presented| {
            let live = presented.ticket.still_live(now).is_ok();
            if !live {
                self.places.fetch_sub(1, Ordering::AcqRel);
            }
            live
        });
    }
}
