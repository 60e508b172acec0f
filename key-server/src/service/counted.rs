//! Refusals that are counted and not listed, so that nobody can fill the disk with them (AUD-1): those
//! before authentication, by source; and of a known caller the same one again, by name. One entry per
//! minute says how many.

use std::net::IpAddr;

use dashmap::{DashMap, DashSet};
use ticket_format::Refusal;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, DatasetId, KekId, StatementId};
use ticket_format::time::Timestamp;

/// Sources, and known callers, that are told apart in one minute; the others share one count.
const SOURCES: usize = 4_096;

/// Statements whose replay raises an alarm of its own in one minute; the others are counted only.
const REPLAYS: usize = 1_024;

/// Alarms told apart in one minute; the others are not raised.
const ALARMS: usize = 4_096;

/// What one source was refused in this minute.
#[derive(Clone, Copy, Debug)]
struct Count {
    refusals: u64,
    last: Refusal,
}

/// Who was refused what, by name, and in which kind of act.
type Known = (Option<String>, Kind, Refusal);

/// What an alarm is about: its kind, subject, dataset and KEK version.
type About = (
    Option<Alarm>,
    Option<String>,
    Option<DatasetId>,
    Option<KekId>,
);

/// Counts until it is drained.
#[derive(Debug, Default)]
pub(super) struct Counted {
    strangers: DashMap<Option<IpAddr>, Count>,
    /// How often beyond the first time, which left an entry of its own.
    known: DashMap<Known, u64>,
    replayed: DashSet<StatementId>,
    alarmed: DashSet<About>,
}

impl Counted {
    pub(super) fn add(&self, source: Option<IpAddr>, refusal: Refusal) {
        let known = self.strangers.contains_key(&source) || self.strangers.len() < SOURCES;
        let source = source.filter(|_| known);
        let mut count = self.strangers.entry(source).or_insert(Count {
            refusals: 0,
            last: refusal,
        });
        count.refusals = count.refusals.saturating_add(1);
        count.last = refusal;
    }

    /// Whether the caller that the entry names was refused this in this minute already, or too many
    /// callers were: then it is counted, and leaves no entry of its own.
    pub(super) fn again(&self, entry: &Entry, refusal: Refusal) -> bool {
        let full = self.known.len() >= SOURCES;
        let mut key = (entry.subject.clone(), entry.kind, refusal);
        if full && !self.known.contains_key(&key) {
            key.0 = None;
            let mut count = self.known.entry(key).or_insert(0);
            *count = count.saturating_add(1);
            return true;
        }
        let mut again = true;
        self.known
            .entry(key)
            .and_modify(|count| *count = count.saturating_add(1))
            .or_insert_with(|| {
                again = false;
                0
            });
        again
    }

    /// Whether this replay is the statement's first in this minute.
    pub(super) fn first_replay(&self, statement: StatementId) -> bool {
        self.replayed.len() < REPLAYS && self.replayed.insert(statement)
    }

    /// Whether this alarm is the first in this minute about its subject, dataset and KEK version: a node that goes on
    /// must not fill the log.
    pub(super) fn first_alarm(&self, alarm: &Entry) -> bool {
        // rule: EXP-2, EXP-3
        let key = (alarm.alarm, alarm.subject.clone(), alarm.dataset, alarm.kek);
        self.alarmed.len() < ALARMS && self.alarmed.insert(key)
    }

    /// One entry for each source and each caller, and the counts begin anew.
    pub(super) fn drain(&self, now: Timestamp, mut act: impl FnMut() -> ActId) -> Vec<Entry> {
        self.replayed.clear();
        self.alarmed.clear();
        let mut entries = Vec::new();
        let mut entry = |count, last| {
            let entry = Entry::new(act(), Kind::RefusalsCounted, now);
            entry.refused(last).count(count)
        };
        let sources: Vec<_> = self.strangers.iter().map(|count| *count.key()).collect();
        for source in sources {
            if let Some((source, count)) = self.strangers.remove(&source) {
                let entry = entry(count.refusals, count.last);
                entries.push(match source {
                    Some(source) => entry.source(source),
                    None => entry,
                });
            }
        }
        let callers: Vec<_> = self.known.iter().map(|count| count.key().clone()).collect();
        for caller in callers {
            if let Some(((subject, _, refusal), count @ 1..)) = self.known.remove(&caller) {
                let mut entry = entry(count, refusal);
                entry.subject = subject;
                entries.push(entry);
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_refusals_of_one_stranger_leave_one_entry() {
        // rule: AUD-1
        let counted = Counted::default();
        let source = Some(IpAddr::from([10, 0, 0, 1]));
        (0..1_000).for_each(|_| counted.add(source, Refusal::Possession));
        counted.add(None, Refusal::Malformed);
        let entries = counted.drain(Timestamp::from_seconds(60), || ActId([0; 16]));
        assert_eq!(entries.len(), 2);
        assert!(
            entries
                .iter()
                .any(|entry| entry.count == Some(1_000)
                    && entry.source.as_deref() == Some("10.0.0.1"))
        );
        assert!(
            counted
                .drain(Timestamp::from_seconds(120), || ActId([0; 16]))
                .is_empty()
        );
    }

    #[test]
    fn sources_beyond_the_bound_share_one_count() {
        let counted = Counted::default();
        (0..10_000_u32)
            .for_each(|n| counted.add(Some(IpAddr::from(n.to_be_bytes())), Refusal::Malformed));
        assert_eq!(counted.strangers.len(), SOURCES + 1);
    }

    #[test]
    fn known_callers_beyond_the_bound_are_counted_together() {
        // rule: AUD-1
        let counted = Counted::default();
        let entry =
            |n: usize| Entry::new(ActId([0; 16]), Kind::Present, Timestamp::default()).subject(n);
        let listed = (0..10_000)
            .filter(|n| !counted.again(&entry(*n), Refusal::Denied))
            .count();
        assert_eq!((listed, counted.known.len()), (SOURCES, SOURCES + 1));
        let entries = counted.drain(Timestamp::from_seconds(60), || ActId([0; 16]));
        let [rest] = entries.as_slice() else {
            panic!("{} entries", entries.len())
        };
        assert_eq!(rest.count, Some(10_000 - SOURCES as u64));
        assert_eq!((&rest.subject, &rest.source), (&None, &None));
        let replays = (0..10_000_u32).filter(|n| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            counted.first_replay(StatementId(id))
        });
        assert_eq!(replays.count(), REPLAYS);
    }
}
