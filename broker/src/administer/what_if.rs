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
use ticket_format::ids::{DatasetId, LaunchId, NodeId, PairsDigest};
use ticket_format::limits;
use ticket_format::statement::what_if::CHANGED;
use ticket_format::statement::{Changed, WhatIfPage};
use ticket_format::ticket::{Action, Actions, Attributes};
use ticket_format::time::Timestamp;

use crate::question::{Resource, question};

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
    pub pairs: PairsDigest,
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
        resource: Resource<'_>,
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
                let request = question(node, launch, resource, action, source, at, pairs);
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
            let row = (
                decided.node.clone(),
                resource.record.name.clone(),
                action,
                allowed,
            );
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

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::ids::{ActId, KekId};
    use ticket_format::keys::{ServerKey, TlsKey};
    use ticket_format::seal::{Kem, SealingSecret};
    use ticket_format::statement::DatasetRecord;
    use ticket_format::statement::witnessing::Witnessing;
    use ticket_format::tlog::LogSecret;

    const NOTHING: &str = r#"@id("none") forbid (principal, action, resource);"#;

    fn decided(number: usize, allowed: bool) -> Decided {
        Decided {
            node: NodeId::new("123456789012", "eu-west-1", &format!("i-{number:017x}")).unwrap(),
            launch: LaunchId([1; 16]),
            dataset: DatasetId([2; 16]),
            actions: Actions::new(&Action::ALL).unwrap(),
            pairs: PairsDigest([3; 32]),
            source: None,
            at: Timestamp::from_seconds(1_000),
            allowed,
            policies: vec!["all".to_owned()],
        }
    }

    fn attributes(node: &NodeId) -> Attributes {
        Attributes {
            node: node.clone(),
            availability_zone: "eu-west-1a".to_owned(),
            image: "ami-0".to_owned(),
            instance_type: "m7i.large".to_owned(),
            launched_at: Timestamp::from_seconds(900),
        }
    }

    fn record() -> DatasetRecord {
        let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
        let key = ticket_format::keys::TlsSecret::generate(rng).public();
        DatasetRecord {
            recipients: Default::default(),
            dataset: DatasetId([2; 16]),
            name: "faces".to_owned(),
            tags: BTreeMap::new(),
            tls_key: TlsKey::from_bytes(&key.to_bytes()).unwrap(),
            server_key: ServerKey::from_bytes(&key.to_bytes()).unwrap(),
            addresses: vec!["127.0.0.1:1".to_owned()],
            kek: KekId([4; 16]),
            kek_version: 1,
            public_key: SealingSecret::generate(Kem::XWing, rng).public(),
            producers: Vec::new(),
            kems: vec![Kem::XWing],
            max_budget: 1,
            max_life: 1,
            owners: Vec::new(),
            lease: 5,
            evidence: false,
            follows: DatasetRecord::FIRST,
            log_key: LogSecret::from_seeds(
                "test/key-server/0123456789abcdef".parse().unwrap(),
                &[1; 32],
                &[2; 32],
            )
            .unwrap()
            .key()
            .clone(),
            witnessing: Witnessing::none(),
            class: Default::default(),
        }
    }

    #[test]
    fn a_page_is_full_before_a_row_could_be_lost() {
        // rule: ISS-7
        let mut tally = Tally::new(Policy::parse(NOTHING).unwrap(), true);
        let (record, pairs) = (record(), BTreeMap::new());
        let mut looked = 0;
        while !tally.full() {
            let decided = decided(looked, true);
            tally.weigh(
                &decided,
                &attributes(&decided.node),
                Resource {
                    record: &record,
                    aliases: &BTreeSet::new(),
                },
                &pairs,
            );
            looked += 1;
        }
        let page = tally.page(Some(7));
        assert_eq!(looked as u64, page.decisions);
        assert_eq!(page.changed.len(), looked * Action::ALL.len());
        assert!(page.changed.len() <= CHANGED && page.changed.len() + Action::ALL.len() > CHANGED);
        assert_eq!(page.next, Some(7));
        assert!(page.changed.iter().all(|row| !row.gains && row.times == 1));
    }

    #[test]
    fn what_is_decided_as_before_changes_nothing() {
        // rule: ISS-7
        let (record, pairs) = (record(), BTreeMap::new());
        let mut tally = Tally::new(Policy::parse(NOTHING).unwrap(), true);
        let refused = decided(1, false);
        tally.weigh(
            &refused,
            &attributes(&refused.node),
            Resource {
                record: &record,
                aliases: &BTreeSet::new(),
            },
            &pairs,
        );
        let page = tally.page(None);
        assert_eq!((page.decisions, page.changed), (1, Vec::new()));
    }

    #[test]
    fn only_what_the_policy_decided_is_a_decision() {
        // rule: ISS-7
        let entry = |kind| {
            Entry::new(ActId([1; 16]), kind, Timestamp::from_seconds(1_000))
                .subject("ec2/123456789012/eu-west-1/i-00000000000000001")
                .launch(LaunchId([1; 16]))
                .dataset(DatasetId([2; 16]))
                .actions(Actions::new(&Action::ALL).unwrap())
                .pairs(PairsDigest([3; 32]))
                .source("192.0.2.7")
                .policies(["all".to_owned()])
        };
        let expected = Decided {
            source: Some("192.0.2.7".parse().unwrap()),
            ..decided(1, true)
        };
        assert_eq!(Decided::from_entry(entry(Kind::Issue)), Some(expected));
        let refused = Decided::from_entry(entry(Kind::Issue).refused(Refusal::Policy));
        assert!(!refused.unwrap().allowed);
        let over = entry(Kind::Issue).refused(Refusal::Budget);
        assert_eq!(Decided::from_entry(over), None);
        assert_eq!(Decided::from_entry(entry(Kind::Present)), None);
    }
}
