//! The broker's own numbers, beside those of the protocol and the transport.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{DatasetId, NodeId, StatementId};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Refused;

/// Bounds that an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Logins under way at a time, from all sources. 256: about a tenth of a second of work, which is
    /// what a denial or an issue then waits for them at most. The next one is told to come again.
    pub logins_at_once: NonZeroU32,
    /// Logins per second of one source in the long run (IPv4 address or IPv6 /64), as many renewals,
    /// and as many checkpoints that it presents. 50.
    pub logins_per_second: NonZeroU32,
    /// Logins at once of one source. 1,024: a fleet that starts together behind one address.
    pub login_burst: NonZeroU32,
    /// Statements per second of one source in the long run. 200.
    pub statements_per_second: NonZeroU32,
    /// Statements at once of one source. 10,000: some seconds of verifying, and a program that registers
    /// the launches of a fleet stays far below.
    pub statement_burst: NonZeroU32,
    /// Dataset tickets per second that one node may ask for in the long run. 200.
    pub issues_per_second: NonZeroU32,
    /// Dataset tickets at once that one node may ask for. 1,000: every job of a large node.
    pub issue_burst: NonZeroU32,
    /// Tickets per second for one dataset in the long run, from all nodes. 10,000: about what two cores
    /// do. Less keeps a share of them for the others.
    pub dataset_issues_per_second: NonZeroU32,
    /// Tickets at once for one dataset. 100,000: one for each node of a large fleet that starts together.
    pub dataset_issue_burst: NonZeroU32,
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
        const ISSUES: NonZeroU32 = NonZeroU32::new(200).unwrap();
        const ISSUE_BURST: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
        const AT_ONCE: NonZeroU32 = NonZeroU32::new(256).unwrap();
        const DATASET: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
        const DATASET_BURST: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
        const STATEMENTS: NonZeroU32 = NonZeroU32::new(200).unwrap();
        const STATEMENT_BURST: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
        Self {
            statements_per_second: STATEMENTS,
            statement_burst: STATEMENT_BURST,
            issues_per_second: ISSUES,
            issue_burst: ISSUE_BURST,
            logins_at_once: AT_ONCE,
            dataset_issues_per_second: DATASET,
            dataset_issue_burst: DATASET_BURST,
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

/// Most parties that one table remembers. Sources are proven by their handshakes and nodes by their
/// tickets, so that filling it takes as many real ones within a minute.
const PARTIES: usize = 65_536;
/// How often a full table is swept. Not more often: a sweep looks at every entry.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How often each of many parties did one thing.
struct Counted<K: Hash + Eq + Clone> {
    rates: DefaultKeyedRateLimiter<K>,
    most: usize,
    swept: Mutex<Instant>,
}

impl<K: Hash + Eq + Clone> Counted<K> {
    fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self {
            rates: RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)),
            most: PARTIES,
            swept: Mutex::new(Instant::now()),
        }
    }

    /// Counts one; whether it is within what the party may.
    fn one(&self, party: &K) -> bool {
        // rule: TR-9
        (self.rates.len() < self.most || self.swept()) && self.rates.check_key(party).is_ok()
    }

    /// Whether there is room again after a sweep that is due.
    fn swept(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.elapsed() < SWEEP_EVERY {
            return false;
        }
        *swept = Instant::now();
        self.prune();
        self.rates.len() < self.most
    }

    /// Forgets those whose burst is whole again.
    fn prune(&self) {
        self.rates.retain_recent();
    }
}

/// How often one source may log in, renew and administer, and one node ask for tickets.
pub(crate) struct Rates {
    logins: Counted<Source>,
    under_way: Semaphore,
    /// Apart from the logins: who is in already goes before who is new.
    renewals: Counted<Source>,
    /// Apart from both: a fleet that starts must not keep the admin out.
    statements: Counted<Source>,
    /// As many as logins, and apart from them: each comes on a connection of its own.
    consistencies: Counted<Source>,
    issues: Counted<NodeId>,
    datasets: Counted<DatasetId>,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        let logins = || Counted::new(limits.logins_per_second, limits.login_burst);
        let at_once = usize::try_from(limits.logins_at_once.get()).unwrap_or(usize::MAX);
        Self {
            logins: logins(),
            under_way: Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)),
            renewals: logins(),
            statements: Counted::new(limits.statements_per_second, limits.statement_burst),
            consistencies: logins(),
            issues: Counted::new(limits.issues_per_second, limits.issue_burst),
            datasets: Counted::new(limits.dataset_issues_per_second, limits.dataset_issue_burst),
        }
    }

    /// Counts one login, which is under way until what comes is dropped.
    pub(crate) fn login(&self, source: IpAddr) -> Result<SemaphorePermit<'_>, Refused> {
        // rule: TR-9
        let busy = |why| Refused::stranger(Refusal::Busy, why);
        if !self.logins.one(&source.into()) {
            return Err(busy("too many logins from this source"));
        }
        let place = self.under_way.try_acquire();
        place.map_err(|_| busy("too many logins are under way"))
    }

    /// Counts one renewal.
    pub(crate) fn renewal(&self, source: IpAddr) -> Result<(), Refused> {
        let within = self.renewals.one(&source.into());
        within_or(within, "too many renewals from this source")
    }

    /// Counts one statement.
    pub(crate) fn statement(&self, source: IpAddr) -> Result<(), Refused> {
        let within = self.statements.one(&source.into());
        within_or(within, "too many statements from this source")
    }

    /// Counts one caller that presents a checkpoint.
    pub(crate) fn consistency(&self, source: IpAddr) -> Result<(), Refused> {
        let within = self.consistencies.one(&source.into());
        within_or(within, "too many checkpoints from this source")
    }

    /// Counts one request of a node that has proven who it is.
    pub(crate) fn issue(&self, node: &NodeId) -> Result<(), Refused> {
        let why = "this node asks for more dataset tickets than the broker allows it";
        let busy = || Refused::proven(Refusal::Busy, why).of(node);
        self.issues.one(node).then_some(()).ok_or_else(busy)
    }

    /// Counts one ticket that a node is going to get for a dataset.
    pub(crate) fn dataset(&self, dataset: DatasetId, node: &NodeId) -> Result<(), Refused> {
        let why = "more tickets for this dataset are asked for than the broker allows";
        let busy = || Refused::proven(Refusal::Busy, why).of(node);
        self.datasets.one(&dataset).then_some(()).ok_or_else(busy)
    }

    /// Forgets those whose burst is whole again.
    pub(crate) fn prune(&self) {
        let Self {
            logins,
            under_way: _,
            renewals,
            statements,
            consistencies,
            issues,
            datasets,
        } = self;
        for sources in [logins, renewals, statements, consistencies] {
            sources.prune();
        }
        issues.prune();
        datasets.prune();
    }
}

fn within_or(within: bool, why: &'static str) -> Result<(), Refused> {
    let busy = || Refused::stranger(Refusal::Busy, why);
    within.then_some(()).ok_or_else(busy)
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

/// Most refusals that are told apart in one minute; the others count together.
const REFUSALS: usize = 10_000;

/// Whose refusal, of what: a kind of act, its subject, the number.
type Told = (Kind, Option<String>, Refusal);

/// Refusals of known callers. The first of a kind in a minute is listed, its repetitions are counted:
/// one caller alone must not fill the log (AUD-1).
#[derive(Default)]
pub(crate) struct Repetitions {
    counts: DashMap<Told, u64>,
}

impl Repetitions {
    /// Whether this refusal is to be listed; otherwise it is counted now.
    pub(crate) fn first(&self, entry: &Entry, refusal: Refusal) -> bool {
        // rule: AUD-1
        let mut told = (entry.kind, entry.subject.clone(), refusal);
        if !self.counts.contains_key(&told) {
            if self.counts.len() < REFUSALS {
                let mut first = false;
                let mut count = self.counts.entry(told).or_insert_with(|| {
                    first = true;
                    0
                });
                *count += u64::from(!first);
                return first;
            }
            told.1 = None;
        }
        *self.counts.entry(told).or_default() += 1;
        false
    }

    /// Takes what was counted: subject, refusal, and how many beside the first.
    pub(crate) fn take(&self) -> Vec<(Option<String>, Refusal, u64)> {
        let all: Vec<Told> = self
            .counts
            .iter()
            .map(|entry| entry.key().clone())
            .collect();
        all.into_iter()
            .filter_map(|told| self.counts.remove(&told))
            .filter(|(_, count)| *count > 0)
            .map(|((_, subject, refusal), count)| (subject, refusal, count))
            .collect()
    }
}

/// Most statements whose replay raises an alarm in one minute.
const REPLAYS: usize = 100;

/// Statements whose replay was listed in this minute: many people hold the bytes of a public record.
#[derive(Default)]
pub(crate) struct Replays(Mutex<HashSet<StatementId>>);

impl Replays {
    /// Whether this replay is to be listed.
    pub(crate) fn first(&self, id: StatementId) -> bool {
        // rule: ADM-2
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listed.len() < REPLAYS && listed.insert(id)
    }

    /// Begins the next minute.
    pub(crate) fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_parties_is_bounded_and_takes_newcomers_when_others_are_forgotten() {
        // rule: TR-9
        let one = NonZeroU32::MIN;
        let mut counted = Counted::new(one, one);
        counted.most = 3;
        let parties: Vec<bool> = (0..10).map(|party: u8| counted.one(&party)).collect();
        assert_eq!(parties.iter().filter(|within| **within).count(), 3);
        assert_eq!(counted.rates.len(), 3);
        // As if the last sweep were long ago, and so were those whose burst is whole again.
        counted.rates = RateLimiter::keyed(Quota::per_second(NonZeroU32::MAX));
        for party in 0..3 {
            assert!(counted.one(&party));
        }
        *counted.swept.lock().unwrap() -= SWEEP_EVERY;
        std::thread::sleep(Duration::from_millis(1));
        assert!(counted.one(&3));
    }

    #[test]
    fn logins_under_way_are_bounded_over_all_sources_and_renewals_are_not_among_them() {
        // rule: TR-9
        let rates = Rates::new(&Limits {
            logins_at_once: NonZeroU32::MIN,
            ..Limits::default()
        });
        let source = |last| IpAddr::from([192, 0, 2, last]);
        let place = rates.login(source(1)).unwrap();
        assert_eq!(rates.login(source(2)).err().unwrap().refusal, Refusal::Busy);
        rates.renewal(source(2)).unwrap();
        drop(place);
        drop(rates.login(source(2)).unwrap());
    }
}
