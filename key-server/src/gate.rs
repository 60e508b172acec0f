//! The epoch gate: under which denials a request is decided and released, and when it is certain that
//! none decided under older ones can still leave (DEN-5).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ticket_format::denial::{CHAIN_START, DenialSet, Hit, TicketFacts};
use ticket_format::ids::{ChainDigest, NodeId};
use tokio::sync::{oneshot, watch};

/// The epoch that a hit has when this server denies the node by itself (DEN-11): the broker's begin with 1.
pub const HERE: u64 = 0;

/// The denials of one epoch, applied.
#[derive(Debug)]
pub struct Epoch {
    denials: DenialSet,
    here: Arc<BTreeSet<NodeId>>,
    number: u64,
    chain: ChainDigest,
    /// Dropped with the last permit, which tells the one who waits at `gone`.
    _alive: oneshot::Sender<Infallible>,
    gone: Mutex<Option<oneshot::Receiver<Infallible>>>,
}

impl Epoch {
    fn new(
        denials: DenialSet,
        here: Arc<BTreeSet<NodeId>>,
        number: u64,
        chain: ChainDigest,
    ) -> Arc<Self> {
        let (alive, gone) = oneshot::channel();
        Arc::new(Self {
            denials,
            here,
            number,
            chain,
            _alive: alive,
            gone: Mutex::new(Some(gone)),
        })
    }

    /// The same epoch, with other nodes denied by this server itself.
    fn with(&self, here: BTreeSet<NodeId>) -> Arc<Self> {
        Self::new(
            self.denials.clone(),
            Arc::new(here),
            self.number,
            self.chain,
        )
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The chain digest at it.
    #[must_use]
    pub fn chain(&self) -> ChainDigest {
        self.chain
    }

    /// The broker's denials in force.
    #[must_use]
    pub fn denials(&self) -> &DenialSet {
        &self.denials
    }

    /// The nodes that this server denies by itself.
    #[must_use]
    pub fn here(&self) -> &BTreeSet<NodeId> {
        &self.here
    }
}

/// The right to decide, or to release, under the current denials. Held over no wait: whoever swaps
/// the denials waits for all permits of before.
#[derive(Debug)]
pub struct Permit(Arc<Epoch>);

impl Permit {
    /// The denial that these facts meet, if any; of epoch [`HERE`] where this server denies the node by
    /// itself.
    #[must_use]
    pub fn check(&self, facts: &TicketFacts<'_>) -> Option<Hit> {
        // rule: DEN-11
        let here = || self.0.here.contains(facts.node);
        let hit = self.0.denials.check(facts);
        hit.or_else(|| here().then_some(Hit { epoch: HERE }))
    }

    /// The epoch decided under.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.0
    }
}

type Gone = oneshot::Receiver<Infallible>;

/// Holds the denials in force.
#[derive(Debug)]
pub struct Gate {
    epoch: ArcSwap<Epoch>,
    /// Tells of the permits of each set that was replaced and may still be in use. Locked for a swap.
    leaving: Mutex<Vec<Gone>>,
    /// Counts what was applied, for those who wait for a denial (WIP-1).
    applied: watch::Sender<u64>,
}

/// The permits of before, as one wait. What is left of it when the wait is given up is waited for by the
/// next one.
struct Leaving<'a> {
    gate: &'a Gate,
    gone: Vec<Gone>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.gone.is_empty() {
            self.gate.leaving().append(&mut self.gone);
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(DenialSet::new(), BTreeSet::new(), 0, CHAIN_START)
    }
}

impl Gate {
    /// Begins with the denials that were persisted: the broker's, and this server's own.
    #[must_use]
    pub fn new(
        denials: DenialSet,
        here: BTreeSet<NodeId>,
        number: u64,
        chain: ChainDigest,
    ) -> Self {
        let epoch = Epoch::new(denials, Arc::new(here), number, chain);
        Self {
            epoch: ArcSwap::new(epoch),
            leaving: Mutex::default(),
            applied: watch::Sender::new(0),
        }
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Gone>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit under the denials in force now.
    #[must_use]
    pub fn permit(&self) -> Permit {
        Permit(self.epoch.load_full())
    }

    /// Tells whenever other denials were put in force.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Puts in force what is made of the epoch in force; none changes nothing.
    fn swap(&self, make: impl FnOnce(&Epoch) -> Option<Arc<Epoch>>) -> bool {
        let mut leaving = self.leaving();
        let old = self.epoch.load_full();
        let Some(new) = make(&old) else {
            return false;
        };
        self.epoch.store(new);
        let gone = old
            .gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        leaving.extend(gone);
        drop(leaving);
        // rule: WIP-1
        self.applied.send_modify(|applied| *applied += 1);
        true
    }

    /// Puts other denials in force at once, then waits until the last permit of before is gone: from
    /// then on nothing decided under the older ones can leave.
    pub async fn apply(&self, denials: DenialSet, number: u64, chain: ChainDigest) {
        // rule: DEN-5
        self.swap(|old| Some(Epoch::new(denials, Arc::clone(&old.here), number, chain)));
        let gone = std::mem::take(&mut *self.leaving());
        let mut leaving = Leaving { gate: self, gone };
        while let Some(gone) = leaving.gone.last_mut() {
            // Nothing is ever sent: the error says that the sender, and so the epoch, was dropped.
            let _ = gone.await;
            leaving.gone.pop();
        }
    }

    /// Denies a node at once, by this server itself; whether it was not denied so before.
    pub fn deny(&self, node: &NodeId) -> bool {
        // rule: DEN-11
        self.swap(|old| {
            let mut here = BTreeSet::clone(&old.here);
            here.insert(node.clone()).then(|| old.with(here))
        })
    }

    /// Denies these nodes by this server itself no more: the broker's denial has come.
    pub fn leave_to_broker(&self, nodes: &[NodeId]) {
        self.swap(|old| {
            let mut here = BTreeSet::clone(&old.here);
            here.retain(|node| !nodes.contains(node));
            (here.len() < old.here.len()).then(|| old.with(here))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use ticket_format::ids::LaunchId;
    use ticket_format::time::Timestamp;

    fn poll(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_epoch_is_applied_at_once_and_done_when_no_older_permit_is_left() {
        // rule: DEN-5
        let gate = Gate::default();
        let (one, two) = (gate.permit(), gate.permit());
        let mut applying = pin!(gate.apply(DenialSet::new(), 1, ChainDigest([1; 32])));
        assert_eq!(poll(applying.as_mut()), Poll::Pending);
        // New requests are decided under the new epoch already, and need not be waited for.
        let new = gate.permit();
        assert_eq!(new.epoch().number(), 1);
        drop(one);
        assert_eq!(poll(applying.as_mut()), Poll::Pending);
        drop(two);
        assert_eq!(poll(applying.as_mut()), Poll::Ready(()));
    }

    #[test]
    fn a_permit_from_before_this_servers_own_denial_is_waited_for_too() {
        // rule: DEN-5, DEN-11
        let gate = Gate::default();
        let node: NodeId = "ec2/123456789012/eu-west-1/i-0123456789abcdef0"
            .parse()
            .unwrap();
        let before = gate.permit();
        assert!(gate.deny(&node) && !gate.deny(&node));
        let mut applying = pin!(gate.apply(DenialSet::new(), 1, ChainDigest([1; 32])));
        assert_eq!(poll(applying.as_mut()), Poll::Pending);
        drop(before);
        assert_eq!(poll(applying.as_mut()), Poll::Ready(()));
        let facts = TicketFacts {
            ticket: None,
            parent: None,
            node: &node,
            launch: LaunchId([1; 16]),
            image: "ami-1",
            dataset: None,
            issued: Timestamp::from_seconds(1),
        };
        // An epoch without it takes nothing back.
        assert_eq!(gate.permit().check(&facts), Some(Hit { epoch: HERE }));
        gate.leave_to_broker(std::slice::from_ref(&node));
        assert_eq!(gate.permit().check(&facts), None);
        assert_eq!(gate.permit().epoch().number(), 1);
    }

    #[test]
    fn a_wait_that_is_given_up_is_taken_over_by_the_next() {
        // rule: DEN-5
        let gate = Gate::default();
        let before = gate.permit();
        {
            let mut given_up = pin!(gate.apply(DenialSet::new(), 1, ChainDigest([1; 32])));
            assert_eq!(poll(given_up.as_mut()), Poll::Pending);
        }
        let mut applying = pin!(gate.apply(DenialSet::new(), 2, ChainDigest([2; 32])));
        assert_eq!(poll(applying.as_mut()), Poll::Pending);
        drop(before);
        assert_eq!(poll(applying.as_mut()), Poll::Ready(()));
    }
}
