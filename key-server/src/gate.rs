//! The epoch gate: under which denials a request is decided and released, and when it is certain that
//! none decided under older ones can still leave (DEN-5).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ticket_format::denial::{CHAIN_START, DenialSet, Hit, TicketFacts};
use ticket_format::ids::ChainDigest;
use tokio::sync::{oneshot, watch};

/// The denials of one epoch, applied.
#[derive(Debug)]
pub struct Epoch {
    denials: DenialSet,
    number: u64,
    chain: ChainDigest,
    /// Dropped with the last permit, which tells the one who waits at `gone`.
    _alive: oneshot::Sender<Infallible>,
    gone: Mutex<Option<oneshot::Receiver<Infallible>>>,
}

impl Epoch {
    fn new(denials: DenialSet, number: u64, chain: ChainDigest) -> Arc<Self> {
        let (alive, gone) = oneshot::channel();
        Arc::new(Self {
            denials,
            number,
            chain,
            _alive: alive,
            gone: Mutex::new(Some(gone)),
        })
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

    /// The denials in force.
    #[must_use]
    pub fn denials(&self) -> &DenialSet {
        &self.denials
    }
}

/// The right to decide, or to release, under the current denials. Held over no wait: whoever swaps
/// the denials waits for all permits of before.
#[derive(Debug)]
pub struct Permit(Arc<Epoch>);

impl Permit {
    /// The denial that these facts meet, if any.
    #[must_use]
    pub fn check(&self, facts: &TicketFacts<'_>) -> Option<Hit> {
        self.0.denials.check(facts)
    }

    /// The epoch decided under.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.0
    }
}

/// Holds the denials in force.
#[derive(Debug)]
pub struct Gate {
    epoch: ArcSwap<Epoch>,
    /// Counts what was applied, for those who wait for a denial (WIP-1).
    applied: watch::Sender<u64>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(DenialSet::new(), 0, CHAIN_START)
    }
}

impl Gate {
    /// Begins with the denials that were persisted.
    #[must_use]
    pub fn new(denials: DenialSet, number: u64, chain: ChainDigest) -> Self {
        Self {
            epoch: ArcSwap::new(Epoch::new(denials, number, chain)),
            applied: watch::Sender::new(0),
        }
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

    /// Puts other denials in force at once, then waits until the last permit of before is gone: from
    /// then on nothing decided under the older ones can leave.
    pub async fn apply(&self, denials: DenialSet, number: u64, chain: ChainDigest) {
        // rule: DEN-5
        let old = self.epoch.swap(Epoch::new(denials, number, chain));
        // rule: WIP-1
        self.applied.send_modify(|applied| *applied += 1);
        let gone = old
            .gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(old);
        if let Some(gone) = gone {
            // Nothing is ever sent: the error says that the sender, and so the epoch, was dropped.
            let _ = gone.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn an_epoch_is_applied_at_once_and_done_when_no_older_permit_is_left() {
        // rule: DEN-5
        let gate = Gate::default();
        let (one, two) = (gate.permit(), gate.permit());
        let mut applying = pin!(gate.apply(DenialSet::new(), 1, ChainDigest([1; 32])));
        let mut poll = || {
            applying
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        };
        assert_eq!(poll(), Poll::Pending);
        // New requests are decided under the new epoch already, and need not be waited for.
        let new = gate.permit();
        assert_eq!(new.epoch().number(), 1);
        drop(one);
        assert_eq!(poll(), Poll::Pending);
        drop(two);
        assert_eq!(poll(), Poll::Ready(()));
    }
}
