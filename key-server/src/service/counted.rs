//! Refusals before authentication: counted per source and minute, so that strangers cannot fill the
//! disk (AUD-1).

use std::net::IpAddr;

use dashmap::DashMap;
use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::time::Timestamp;

/// Sources that are told apart in one minute; the others share one count.
const SOURCES: usize = 4_096;

/// What one source was refused in this minute.
#[derive(Clone, Copy, Debug)]
struct Count {
    refusals: u64,
    last: Refusal,
}

/// Counts until it is drained.
#[derive(Debug, Default)]
pub(super) struct Counted(DashMap<Option<IpAddr>, Count>);

impl Counted {
    pub(super) fn add(&self, source: Option<IpAddr>, refusal: Refusal) {
        let known = self.0.contains_key(&source) || self.0.len() < SOURCES;
        let source = source.filter(|_| known);
        let mut count = self.0.entry(source).or_insert(Count {
            refusals: 0,
            last: refusal,
        });
        count.refusals = count.refusals.saturating_add(1);
        count.last = refusal;
    }

    /// One entry for each source, and the counts begin anew.
    pub(super) fn drain(&self, now: Timestamp, mut act: impl FnMut() -> ActId) -> Vec<Entry> {
        let sources: Vec<_> = self.0.iter().map(|count| *count.key()).collect();
        let taken = sources
            .into_iter()
            .filter_map(|source| self.0.remove(&source));
        let entry = |(source, count): (Option<IpAddr>, Count)| {
            let entry = Entry::new(act(), Kind::RefusalsCounted, now)
                .refused(count.last)
                .count(count.refusals);
            match source {
                Some(source) => entry.source(source),
                None => entry,
            }
        };
        taken.map(entry).collect()
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
        assert_eq!(counted.0.len(), SOURCES + 1);
    }
}
