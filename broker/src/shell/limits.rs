//! The broker's own numbers, beside those of the protocol and the transport.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use dashmap::DashMap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ticket_format::Refusal;

use crate::Refused;

/// Bounds that an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Logins per second of one source in the long run (IPv4 address or IPv6 /64). 50.
    pub logins_per_second: NonZeroU32,
    /// Logins at once of one source. 1,024: a fleet that starts together behind one address.
    pub login_burst: NonZeroU32,
    /// The window over which a node's budget for one dataset is summed, in seconds. 24 hours.
    pub budget_window: u64,
    /// How many tickets of the dataset record's full budget one node may get in that window. 24: one
    /// for each hour at the default life.
    pub budget_tickets: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
        const BURST: NonZeroU32 = NonZeroU32::new(1_024).unwrap();
        Self {
            logins_per_second: PER_SECOND,
            login_burst: BURST,
            budget_window: 24 * 3_600,
            budget_tickets: 24,
        }
    }
}

/// Whom limits count against: an IPv4 address, or the IPv6 /64 that one host is usually given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(
                v6.to_bits() & !u128::from(u64::MAX),
            ))),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// How often one source may log in.
pub(crate) struct Rates {
    logins: DefaultKeyedRateLimiter<Source>,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        let quota = Quota::per_second(limits.logins_per_second).allow_burst(limits.login_burst);
        Self {
            logins: RateLimiter::keyed(quota),
        }
    }

    /// Counts one login.
    pub(crate) fn login(&self, source: IpAddr) -> Result<(), Refused> {
        let within = self.logins.check_key(&source.into());
        within.map_err(|_| Refused::stranger(Refusal::Busy, "too many logins from this source"))
    }

    /// Forgets sources whose burst is whole again.
    pub(crate) fn prune(&self) {
        self.logins.retain_recent();
    }
}

/// Most sources that are told apart in one minute; the others count together.
const SOURCES: usize = 1_000;

/// Refusals before authentication, counted by source until the minute is over (AUD-1).
#[derive(Default)]
pub(crate) struct Strangers {
    counts: DashMap<Option<Source>, HashMap<Refusal, u64>>,
}

impl Strangers {
    pub(crate) fn count(&self, source: IpAddr, refusal: Refusal) {
        // rule: AUD-1
        let source = Source::from(source);
        let told_apart = self.counts.contains_key(&Some(source)) || self.counts.len() < SOURCES;
        *self
            .counts
            .entry(told_apart.then_some(source))
            .or_default()
            .entry(refusal)
            .or_default() += 1;
    }

    /// Takes what was counted: source, its most frequent refusal, and how many in all.
    pub(crate) fn take(&self) -> Vec<(Option<Source>, Refusal, u64)> {
        let mut taken = Vec::new();
        let sources: Vec<_> = self.counts.iter().map(|entry| *entry.key()).collect();
        for source in sources {
            if let Some((_, counts)) = self.counts.remove(&source) {
                let total = counts.values().sum();
                if let Some((refusal, _)) = counts.into_iter().max_by_key(|(_, count)| *count) {
                    taken.push((source, refusal, total));
                }
            }
        }
        taken
    }
}
