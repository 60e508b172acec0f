//! What if: a draft policy tried on decisions that were made (ISS-7).
//!
//! An entry of an issue names node, launch, dataset, actions and the hash of the pairs; the node's
//! attributes stand in its record, the pairs in the side file. Together they are the question that was
//! decided, to be decided again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy::Policy;
use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{DatasetId, LaunchId, NodeId, PairsHash};
use ticket_format::limits;
use ticket_format::statement::what_if::CHANGED;
use ticket_format::statement::{Changed, DatasetRecord, WhatIfPage};
use ticket_format::ticket::{Action, Actions, Attributes};
use ticket_format::time::Timestamp;

use crate::question::question;

/// Entries that one page looks at, at most: it must not hold the broker.
pub const ENTRIES: usize = 50_000;
/// Decisions that one page decides anew, at most.
pub const DECISIONS: usize = 5_000;
/// Policies that are named of one row.
const POLICIES: usize = 64;

/// A decision as its entry tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Who asked.
    pub node: NodeId,
    /// The launch by which it came in.
    pub launch: LaunchId,
    /// For which dataset.
    pub dataset: DatasetId,
    /// What for.
    pub actions: Actions,
    /// Hash of the pairs.
    pub pairs: PairsHash,
    /// From where, where that is known.
    pub source: Option<IpAddr>,
    /// When.
    pub at: Timestamp,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Which policies decided.
    pub policies: Vec<String>,
}

impl Decided {
    /// The decision that an entry tells of; none where it tells of another act, or of a refusal that was
    /// not the policy's.
    #[must_use]
    pub fn from_entry(entry: Entry) -> Option<Self> {
        // rule: ISS-7
        let allowed = match entry.outcome {
            Ok(()) => true,
            Err(Refusal::Policy) => false,
            Err(_) => return None,
        };
        if entry.kind != Kind::Issue {
            return None;
        }
        Some(Self {
            node: entry.subject?.parse().ok()?,
            launch: entry.launch?,
            dataset: entry.dataset?,
            actions: entry.actions?,
            pairs: entry.pairs?,
            source: entry.source.and_then(|source| source.parse().ok()),
            at: entry.time,
            allowed,
            policies: entry.policies.unwrap_or_default(),
        })
    }
}

/// What is summed up in one row: node, dataset, action, whether it gains.
type Row = (NodeId, String, Action, bool);

#[derive(Debug, Default)]
struct Sum {
    times: u64,
    recorded: BTreeSet<String>,
    drafted: BTreeSet<String>,
}

/// What would change.
#[derive(Debug)]
pub struct Tally {
    draft: Policy,
    /// Whether the draft is the broker's own policy. A dataset's is decided after it, so that it can
    /// take, and gives nothing to whom the broker refused.
    of_broker: bool,
    decisions: u64,
    rows: BTreeMap<Row, Sum>,
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new(draft: Policy, of_broker: bool) -> Self {
        Self {
            draft,
            of_broker,
            decisions: 0,
            rows: BTreeMap::new(),
        }
    }

    /// Whether one more decision might not fit.
    #[must_use]
    pub fn full(&self) -> bool {
        self.rows.len() + Action::ALL.len() > CHANGED || self.decisions >= DECISIONS as u64
    }

    /// Decides a request anew. It was allowed if each of its actions was, and so it is now.
    pub fn weigh(
        &mut self,
        decided: &Decided,
        node: &Attributes,
        record: &DatasetRecord,
        pairs: &BTreeMap<String, String>,
    ) {
        if !decided.allowed && !self.of_broker {
            return;
        }
        self.decisions += 1;
        let drafted: Vec<_> = decided
            .actions
            .iter()
            .map(|action| {
                let (launch, source, at) = (decided.launch, decided.source, decided.at);
                let request = question(node, launch, record, action, source, at, pairs);
                (action, self.draft.decide(&request))
            })
            .collect();
        let allowed = drafted.iter().all(|(_, decision)| decision.allowed);
        if allowed == decided.allowed {
            return;
        }
        for (action, decision) in drafted {
            if decision.allowed != allowed {
                continue;
            }
            let row = (decided.node.clone(), record.name.clone(), action, allowed);
            let sum = self.rows.entry(row).or_default();
            sum.times += 1;
            sum.recorded.extend(decided.policies.iter().cloned());
            sum.drafted.extend(decision.deciding);
        }
    }

    /// The page.
    #[must_use]
    pub fn page(self, next: Option<u64>) -> WhatIfPage {
        let names = |names: BTreeSet<String>| {
            let short = names.into_iter().filter(|name| name.len() <= limits::NAME);
            short.take(POLICIES).collect()
        };
        let rows = self.rows.into_iter();
        let changed = rows.map(|((node, dataset, action, gains), sum)| Changed {
            node,
            dataset,
            action,
            gains,
            times: sum.times,
            recorded: names(sum.recorded),
            drafted: names(sum.drafted),
        });
        WhatIfPage {
            decisions: self.decisions,
            changed: changed.collect(),
            next,
        }
    }
}
