//! The broker's own numbers, beside those of the protocol and the transport.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use dashmap::DashMap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{NodeId, StatementId};

use crate::Refused;

/// Bounds that an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Logins per second of one source in the long run (IPv4 address or IPv6 /64), and as many
    /// checkpoints that it presents. 50.
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
        const STATEMENTS: NonZeroU32 = NonZeroU32::new(200).unwrap();
        const STATEMENT_BURST: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
        Self {
            statements_per_second: STATEMENTS,
            statement_burst: STATEMENT_BURST,
            issues_per_second: ISSUES,
            issue_burst: ISSUE_BURST,
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

/// How often one source may log in and administer, and one node ask for tickets.
pub(crate) struct Rates {
    logins: DefaultKeyedRateLimiter<Source>,
    /// Apart from the logins: a fleet that starts must not keep the admin out.
    statements: DefaultKeyedRateLimiter<Source>,
    /// As many as logins, and apart from them: each comes on a connection of its own.
    consistencies: DefaultKeyedRateLimiter<Source>,
    issues: DefaultKeyedRateLimiter<NodeId>,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        let quota = Quota::per_second(limits.logins_per_second).allow_burst(limits.login_burst);
        let statements =
            Quota::per_second(limits.statements_per_second).allow_burst(limits.statement_burst);
        let issues = Quota::per_second(limits.issues_per_second).allow_burst(limits.issue_burst);
        Self {
            logins: RateLimiter::keyed(quota),
            statements: RateLimiter::keyed(statements),
            consistencies: RateLimiter::keyed(quota),
            issues: RateLimiter::keyed(issues),
        }
    }

    /// Counts one login.
    pub(crate) fn login(&self, source: IpAddr) -> Result<(), Refused> {
        let within = self.logins.check_key(&source.into());
        within.map_err(|_| Refused::stranger(Refusal::Busy, "too many logins from this source"))
    }

    /// Counts one statement.
    pub(crate) fn statement(&self, source: IpAddr) -> Result<(), Refused> {
        let within = self.statements.check_key(&source.into());
        within.map_err(|_| Refused::stranger(Refusal::Busy, "too many statements from this source"))
    }

    /// Counts one caller that presents a checkpoint.
    pub(crate) fn consistency(&self, source: IpAddr) -> Result<(), Refused> {
        let within = self.consistencies.check_key(&source.into());
        let why = "too many checkpoints from this source";
        within.map_err(|_| Refused::stranger(Refusal::Busy, why))
    }

    /// Counts one request of a node that has proven who it is.
    pub(crate) fn issue(&self, node: &NodeId) -> Result<(), Refused> {
        let within = self.issues.check_key(node);
        let why = "this node asks for more dataset tickets than the broker allows it";
        within.map_err(|_| Refused::proven(Refusal::Busy, why).of(node))
    }

    /// Forgets sources and nodes whose burst is whole again.
    pub(crate) fn prune(&self) {
        self.logins.retain_recent();
        self.statements.retain_recent();
        self.consistencies.retain_recent();
        self.issues.retain_recent();
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
